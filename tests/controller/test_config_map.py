"""A workload whose knobs a ConfigMap carries, looked at by the controller: what runs, what waits, and when a merge counts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.controller.examine import examine_cluster
from gitops_mk.controller.inventory import confirmed, take_inventory
from gitops_mk.controller.reconcile import Memory, Result, reconcile
from gitops_mk.controller.state import state_on_base
from gitops_mk.core.ledger import PROJECTED
from gitops_mk.core.source import SyncObjects
from gitops_mk.errors import ClusterError, InputError
from gitops_mk.model.change import ROLLOUT_CHECK
from gitops_mk.model.times import parse_time
from gitops_mk.model.verdict import Reason
from tests.support.cluster import SimCluster
from tests.support.desk import Post, home, seen
from tests.support.make import KNOBS, NOW
from tests.support.objects import FLUX_LABELS, deployment
from tests.support.world import CONFIG, World, builder

Json = dict[str, Any]
BASE = "base/deployment.yaml"
TEXTS = {knob: str(value) for knob, value in KNOBS.items()}
MANIFEST = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: knobs
data:
{data}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: trainer
  annotations: {annotations}
spec:
  template:
    spec:
      containers:
        - name: trainer
          image: example.invalid/demo-trainer:1.0
          volumeMounts: [{{name: knobs, mountPath: /etc/knobs}}]
      volumes: [{{name: knobs, configMap: {{name: knobs}}}}]
"""


def manifest(annotations: str = "{}") -> bytes:
    data = "\n".join(f'  {knob}: "{value}"' for knob, value in KNOBS.items())
    return MANIFEST.format(data=data, annotations=annotations).encode()


def live_map(values: Mapping[str, str] | None = None, **meta: Any) -> Json:
    data = {**TEXTS, **(values or {})}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "knobs", "namespace": "ml", **meta},
        "data": data,
    }


def trainer(**fields: Any) -> Json:
    """At rest, and with no knob on its pod template."""
    return deployment({}, labels={**FLUX_LABELS, **fields.pop("labels", {})}, **fields)


@pytest.fixture
def cluster(world: World) -> SimCluster:
    made = SimCluster()
    made.put(live_map())
    world.cluster = made
    return made


@pytest.fixture
def post(world: World, cluster: SimCluster, tmp_path: Path) -> Post:
    listed = world.file(CONFIG) + b"    delivery: configmap\n"
    world.commit({CONFIG: listed, BASE: manifest()})
    return Post(world, tmp_path / "out", world.forge())


def look(post: Post, live: Json | None = None, known: SyncObjects | None = None) -> Result:
    return reconcile(seen(post, live or trainer(), known), post.snapshot(), Memory(), post.desk)


def values(post: Post) -> dict[str, str]:
    """What the base branch builds."""
    snapshot = post.snapshot()
    workload = snapshot.policy.settings.workloads[0]
    knobs = state_on_base(post.forge, snapshot.files, snapshot.policy, workload, builder()).knobs
    return {knob: str(value) for knob, value in knobs.items()}


def test_it_is_planned_from_the_config_map(post: Post) -> None:
    assert look(post).state == "pull request #1 open"
    (pr,) = post.forge.list_prs()
    assert pr.changes == {"dataloader_num_workers": (2, 6)}


def test_a_merge_counts_once_the_config_map_holds_the_values(post: Post, cluster: SimCluster) -> None:
    post.merge = True
    assert look(post).state == "pull request #1 merged"
    waiting = look(post)
    assert (waiting.state, waiting.reason) == ("waiting", Reason.OUT_OF_SYNC)
    assert "dataloader_num_workers runs at 2" in waiting.message
    cluster.put(live_map(values(post)))
    # Nothing rolls: the very pods of before run the new values.
    assert look(post).state == "rolled out"
    post.forge.refresh()
    (pr,) = post.forge.list_prs()
    (check,) = [check for check in pr.checks if check.name == ROLLOUT_CHECK]
    assert parse_time(check.at) == NOW
    assert post.ears.events[-1][0] == "ChordRolledOut"
    post.opened.clear()
    post.world.clock.advance(3600)
    look(post)
    # What the kubelets have not brought to every pod yet is telemetry of the values before.
    assert post.opened == [("ml/deployment-trainer", NOW + PROJECTED)]
    assert timedelta(seconds=60) < PROJECTED < timedelta(minutes=2)


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"concurrency": "9"}, Reason.OUT_OF_SYNC, "concurrency runs at 9"),
        (None, Reason.DEPLOYMENT_MISSING, "ConfigMap ml/knobs is not in the cluster"),
        (dict.fromkeys(KNOBS, "none"), Reason.UNKNOWN_KNOB, "holds no knob by its bare name"),
    ],
)
def test_what_is_not_as_git_has_it_is_left_alone(
    post: Post, cluster: SimCluster, change: dict[str, str] | None, reason: Reason, said: str
) -> None:
    if change is None:
        cluster.delete("ConfigMap", "knobs", "ml")
    else:
        cluster.put(live_map(change))
    done = look(post)
    assert (done.state, done.reason) == ("left alone", reason)
    assert said in done.message
    assert post.opened == []


def test_a_key_that_somebody_else_owns(post: Post, cluster: SimCluster) -> None:
    fields = [{"manager": "tuner", "fieldsV1": {"f:data": {"f:concurrency": {}}}}]
    cluster.put(live_map(managedFields=fields))
    assert look(post).reason is Reason.FOREIGN_OWNER


def test_a_workload_that_is_not_at_rest(post: Post) -> None:
    assert look(post, trainer(status={"updatedReplicas": 1})).reason is Reason.ROLLOUT_IN_PROGRESS


def test_what_may_not_be_read_or_built_is_no_decision(post: Post, cluster: SimCluster) -> None:
    cluster.denied.add(("get", "ConfigMap"))
    with pytest.raises(ClusterError, match="may not get ConfigMap"):
        look(post)
    post.world.commit({BASE: manifest().replace(b"mountPath", b"subPath: a, mountPath")})
    with pytest.raises(InputError, match="by subPath"):
        look(post)


def test_without_a_cluster_to_ask_it_is_left_alone(post: Post) -> None:
    post.world.cluster = None
    assert look(post).reason is Reason.DEPLOYMENT_MISSING


# -- found by its label ------------------------------------------------------------------------------------------------

NOTED = {"modekeeper.dev/config-map": "knobs"}


@pytest.fixture
def discovering(post: Post) -> Post:
    text = post.world.file(CONFIG).decode()
    config = text[: text.index("workloads:")] + "discovery: {namespaces: [ml]}\n"
    overlay = "overlays/demo/kustomization.yaml"
    labelled = post.world.file(overlay).replace(b"team: research", b'team: research, modekeeper.dev/enabled: "true"')
    noted = manifest("{modekeeper.dev/config-map: knobs}")
    post.world.commit({CONFIG: config.encode(), overlay: labelled, BASE: noted})
    return post


def test_the_annotation_names_the_config_map(discovering: Post) -> None:
    labels = {"modekeeper.dev/enabled": "true"}
    done = look(discovering, trainer(labels=labels, annotations=NOTED))
    assert done.state == "pull request #1 open"
    assert "verify: ok" in done.message


def test_an_annotation_on_the_live_object_alone_says_nothing(discovering: Post) -> None:
    discovering.world.commit({BASE: manifest()})
    found = trainer(labels={"modekeeper.dev/enabled": "true"}, annotations=NOTED)
    assert "stable" not in look(discovering, found).state
    assert discovering.forge.list_prs() == ()


# -- `mk doctor` -------------------------------------------------------------------------------------------------------


def test_doctor_asks_for_the_right_to_try_the_config_map(post: Post, cluster: SimCluster) -> None:
    listed = post.world.file(CONFIG).replace(b"consult: never", b"consult: auto")
    post.world.commit({CONFIG: listed})
    cluster.put(deployment({}))

    def told() -> bool:
        (finding,) = [one for one in examine_cluster(cluster, home(post)) if one.name.endswith(", live")]
        return finding.ok

    cluster.denied.add(("patch", "Deployment"))
    assert told()
    cluster.denied.add(("patch", "ConfigMap"))
    assert not told()


# -- `mk workloads` ----------------------------------------------------------------------------------------------------


def test_the_inventory_shows_what_the_config_map_holds(post: Post, cluster: SimCluster) -> None:
    cluster.put(deployment({}))
    snapshot = post.snapshot()

    def told() -> Any:
        inventory = take_inventory(cluster, home(post))
        settings = snapshot.policy.settings
        (found,) = confirmed(inventory, snapshot.files, settings, builder(), cluster).found
        return found

    assert told().not_now is None
    assert (told().delivery, told().knobs) == ("configmap", KNOBS)
    cluster.denied.add(("get", "ConfigMap"))
    assert told().not_now.reason is Reason.CLUSTER_UNREACHABLE


def test_what_else_looks_like_a_knob_is_nobodys_business(post: Post, cluster: SimCluster) -> None:
    """A trainer's own counters may stand beside the knobs, and be somebody else's."""
    with_epoch = manifest().replace(b"data:\n", b'data:\n  epoch: "1"\n')
    post.world.commit({BASE: with_epoch})
    owner = {"manager": "curriculum", "operation": "Update", "fieldsV1": {"f:data": {"f:epoch": {}}}}
    cluster.put(live_map({"epoch": "3"}, managedFields=[owner]))
    assert look(post).state == "pull request #1 open"


def test_values_in_a_config_map_of_another_name_are_moved_by_hand(post: Post, cluster: SimCluster) -> None:
    post.merge = True
    assert look(post).state == "pull request #1 merged"
    post.merge = False
    cluster.put(live_map(values(post)))
    assert look(post).state == "rolled out"
    other = manifest().replace(b"name: knobs}", b"name: others}").replace(b"  name: knobs\n", b"  name: others\n")
    post.world.commit({BASE: manifest().split(b"---")[0] + b"---\n" + other})
    cluster.put({**live_map(), "metadata": {"name": "others", "namespace": "ml"}})
    with pytest.raises(InputError, match="in ConfigMap knobs, the configuration means others"):
        look(post)
