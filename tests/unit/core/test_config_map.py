"""Knobs in a mounted ConfigMap: found, refused where a change would not reach the running pods alone, rendered and judged."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gitops_mk.adapters.resources import built_in, wording
from gitops_mk.core.checks import registry
from gitops_mk.core.checks.facts import Facts, built_knobs, planned_places
from gitops_mk.core.checks.steps import build as build_step
from gitops_mk.core.checks.steps import dry_run, live, render, rights, scope
from gitops_mk.core.config_map import CONFIG_MAP, absent, carrier_of, may_deliver
from gitops_mk.core.envelope.registry import decide, judge
from gitops_mk.core.inventory import Home, find
from gitops_mk.core.live import foreign_owner, live_knobs
from gitops_mk.core.mounts import Use, nested, uses
from gitops_mk.core.places import DATA
from gitops_mk.core.planner import Options, judge_action
from gitops_mk.core.policy import load_policy
from gitops_mk.core.render.component import config_map_yaml
from gitops_mk.core.render.component import render as render_plan
from gitops_mk.core.render.describe import commit_message
from gitops_mk.core.source import SyncObjects
from gitops_mk.core.target import find_target, overridden
from gitops_mk.core.yamldocs import documents, parse_document
from gitops_mk.errors import InputError
from gitops_mk.model.cluster import ApplyAnswer, ClusterWord, Trial
from gitops_mk.model.git import CommitInfo, PathChange
from gitops_mk.model.knob import decimal, knobs_from_data
from gitops_mk.model.passport import Actuators
from gitops_mk.model.plan import PatchTarget, Plan, PlanItem, PolicyDigests, data_patch, plan_item
from gitops_mk.model.settings import CONFIG_PATH, Discovery, RepoSettings, WorkloadSettings
from gitops_mk.model.signal import SignalName
from gitops_mk.model.verdict import Reason
from gitops_mk.model.workload import KnobMap, WorkloadKind, WorkloadRef
from tests.support import make, objects

CARRIER = KnobMap(namespace="ml", name="knobs")
LISTED = WorkloadSettings(namespace="ml", name="trainer", overlay="o", delivery="configmap", config_map="knobs")
SETTINGS = RepoSettings(version="v1", workloads=(LISTED,), discovery=Discovery(namespaces=("ml",)))
TARGET = PatchTarget(api_version="v1", kind="ConfigMap", name="base-knobs", config_map="knobs")


def config_map(name: str = "knobs", data: Any = None, **more: Any) -> dict[str, Any]:
    held = {knob: str(value) for knob, value in make.KNOBS.items()} if data is None else data
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "ml"},
        "data": held,
        **more,
    }


def pod(*names: str, mount: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    """A pod spec that mounts these ConfigMaps whole; `mount` goes into each mount, `container` into its container."""
    mounts = [{"name": name, "mountPath": f"/etc/{name}", **(mount or {})} for name in names]
    volumes = [{"name": name, "configMap": {"name": name}} for name in names]
    return {"containers": [{"name": "c", "volumeMounts": mounts, **container}], "volumes": volumes}


def workload(spec: dict[str, Any], *, kind: str = "Deployment", name: str = "trainer", **meta: Any) -> dict[str, Any]:
    api = {"Deployment": "apps/v1", "StatefulSet": "apps/v1"}[kind]
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": "ml", **meta},
        "spec": {"template": {"spec": spec}},
    }


def built(*documents: dict[str, Any]) -> str:
    return "\n---\n".join(json.dumps(document) for document in documents)


GOOD = built(config_map(), workload(pod("knobs")))


class TestCarrier:
    def test_named_by_the_configuration(self) -> None:
        assert carrier_of(SETTINGS, LISTED, GOOD) == CARRIER
        assert (str(CARRIER), CARRIER.key, CARRIER.kind) == ("ConfigMap ml/knobs", "ml/configmap-knobs", "ConfigMap")

    def test_annotations_are_the_default(self) -> None:
        plain = LISTED.model_copy(update={"delivery": "annotation", "config_map": None})
        annotated = built(config_map(), workload(pod("knobs"), annotations={CONFIG_MAP: "knobs"}))
        listed = SETTINGS.model_copy(update={"workloads": (plain,)})
        assert carrier_of(listed, plain, annotated) == plain.ref
        assert not may_deliver(listed, plain, "knobs")
        assert carrier_of(SETTINGS, LISTED, None) == LISTED.ref
        assert carrier_of(SETTINGS, LISTED, built(config_map())) == LISTED.ref

    def test_an_annotation_names_it_for_those_that_are_not_listed(self) -> None:
        none = RepoSettings(version="v1", discovery=Discovery(namespaces=("ml",)))
        found = WorkloadSettings(namespace="ml", name="trainer", overlay="o")
        annotated = built(config_map(), workload(pod("knobs"), annotations={CONFIG_MAP: "knobs"}))
        assert carrier_of(none, found, annotated) == CARRIER
        assert carrier_of(none, found, GOOD) == found.ref
        assert may_deliver(none, found, "knobs")
        assert not may_deliver(none, found, None)
        wrong = built(config_map(), workload(pod("knobs"), annotations={CONFIG_MAP: "No Name"}))
        with pytest.raises(InputError, match="its ConfigMap: name"):
            carrier_of(none, found, wrong)

    def test_the_only_mounted_one_with_a_knob(self) -> None:
        unnamed = LISTED.model_copy(update={"config_map": None})
        other = config_map("other", {"a": "1"})
        spec = pod("knobs", "other", "elsewhere")
        by_path = built(config_map(), workload(pod("knobs", mount={"subPath": "a"})))
        with pytest.raises(InputError, match="by subPath"):
            carrier_of(SETTINGS, unnamed, by_path)
        assert may_deliver(SETTINGS, unnamed, None)
        assert carrier_of(SETTINGS, unnamed, built(config_map(), other, workload(spec))) == CARRIER
        named = built(config_map(), config_map("two"), workload(pod("knobs", "two"), annotations={CONFIG_MAP: "two"}))
        assert carrier_of(SETTINGS, unnamed, named).name == "two"
        two = built(config_map(), config_map("two"), workload(pod("knobs", "two")))
        for build, found in (
            (two, r"2 mounted .*\(knobs, two\)"),
            (built(other, workload(spec)), r"0 mounted .*\(none\)"),
        ):
            with pytest.raises(InputError, match=found):
                carrier_of(SETTINGS, unnamed, build)

    @pytest.mark.parametrize(
        ("build", "said"),
        [
            (built(workload(pod("knobs"))), "builds no ConfigMap ml/knobs; it builds no ConfigMap at all"),
            (built(config_map("a-knobs"), workload(pod("knobs"))), "it builds a-knobs"),
            (built(config_map("knobs-422867c9t8"), workload(pod("knobs"))), "appends a hash of its contents"),
            (built(config_map(immutable=True), workload(pod("knobs"))), "is immutable"),
            (built(config_map(), workload(pod("other"))), "does not mount ConfigMap ml/knobs"),
            (built(config_map(), workload({"volumes": pod("knobs")["volumes"]})), "does not mount"),
            (built(config_map(), workload(pod("knobs", mount={"subPath": "a"}))), "by subPath"),
            (built(config_map(), workload(pod("knobs", mount={"subPathExpr": "$(A)"}))), "by subPath"),
            (built(config_map(), workload(pod("knobs", envFrom=[{"configMapRef": {"name": "knobs"}}]))), "by envFrom"),
            (
                built(
                    config_map(),
                    workload(pod("knobs", env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "knobs"}}}])),
                ),
                "by env",
            ),
            (
                built(config_map(), workload({**pod("knobs"), "initContainers": pod("knobs")["containers"], "containers": [{}]})),
                "in init containers alone",
            ),
            (
                built(
                    config_map(),
                    workload(
                        {**pod("knobs"), "volumes": [{"name": "knobs", "configMap": {"name": "knobs", "items": [{"key": "a"}]}}]}
                    ),
                ),
                "by chosen items",
            ),
        ],
    )  # fmt: skip
    def test_no_way_to_the_running_pods(self, build: str, said: str) -> None:
        with pytest.raises(InputError, match=said):
            carrier_of(SETTINGS, LISTED, build)

    def test_a_container_that_prepares_the_pod_reads_it_too(self) -> None:
        """What has ended sees no change, and needs none; a sidecar goes on."""
        reads = [{"envFrom": [{"configMapRef": {"name": "knobs"}}]}]
        build = built(config_map(), workload({**pod("knobs"), "initContainers": reads}))
        assert carrier_of(SETTINGS, LISTED, build) == CARRIER
        sidecar = {**pod("knobs"), "containers": [{}]}
        sidecar["initContainers"] = [{**pod("knobs")["containers"][0], "restartPolicy": "Always"}]
        assert carrier_of(SETTINGS, LISTED, built(config_map(), workload(sidecar))) == CARRIER

    def test_one_that_another_workload_uses(self) -> None:
        label = {"modekeeper.dev/enabled": "true"}
        enrolled = workload(pod("knobs"), name="other", labels=label)
        with pytest.raises(InputError, match="Deployment ml/other uses ConfigMap ml/knobs, too"):
            carrier_of(SETTINGS, LISTED, built(config_map(), workload(pod("knobs")), enrolled))
        with pytest.raises(InputError, match="Deployment ml/plain uses ConfigMap ml/knobs, too"):
            carrier_of(
                SETTINGS, LISTED, built(config_map(), workload(pod("knobs")), workload(pod("knobs"), name="plain"))
            )
        harmless = (
            workload(pod("else"), name="else", labels=label),
            {**enrolled, "metadata": {**enrolled["metadata"], "namespace": "elsewhere"}},
            {**enrolled, "apiVersion": "apps/v2"},
            workload(pod("knobs"), kind="StatefulSet", name="Not-A-Name", labels=label),
            {**enrolled, "metadata": {"name": "No_Name", "labels": label}},
        )
        assert carrier_of(SETTINGS, LISTED, built(config_map(), workload(pod("knobs")), *harmless)) == CARRIER

    def test_a_projected_volume_is_renewed_too(self) -> None:
        sources = [{"secret": {"name": "s"}}, {"configMap": {"name": "knobs"}}]
        spec = {**pod("knobs"), "volumes": [{"name": "knobs", "projected": {"sources": sources}}]}
        assert carrier_of(SETTINGS, LISTED, built(config_map(), workload(spec))) == CARRIER

    def test_two_that_are_listed_claim_one(self) -> None:
        other = {"namespace": "ml", "name": "b", "overlay": "b", "delivery": "configmap", "config_map": "knobs"}
        with pytest.raises(ValidationError, match="claim one ConfigMap, 'knobs'"):
            RepoSettings(version="v1", workloads=(LISTED, WorkloadSettings.parse(other, what="b")))
        elsewhere = WorkloadSettings.parse({**other, "namespace": "x"}, what="b")
        assert RepoSettings(version="v1", workloads=(LISTED, elsewhere)).workloads[1] == elsewhere
        with pytest.raises(ValidationError, match="is for `delivery: configmap`"):
            WorkloadSettings(namespace="ml", name="b", overlay="b", config_map="knobs")


class TestMounts:
    @pytest.mark.parametrize(
        ("kind", "api", "spec"),
        [
            ("Job", "batch/v1", {"template": {"spec": pod("k")}}),
            (
                "JobSet",
                "jobset.x-k8s.io/v1alpha2",
                {"replicatedJobs": [{"template": {"spec": {"template": {"spec": pod("k")}}}}, {}]},
            ),
            ("PyTorchJob", "kubeflow.org/v1", {"pytorchReplicaSpecs": {"Master": {"template": {"spec": pod("k")}}}}),
            ("TrainJob", "trainer.kubeflow.org/v1alpha1", {"podTemplateOverrides": [{"spec": pod("k")}]}),
            (
                "TrainJob",
                "trainer.kubeflow.org/v1alpha1",
                {
                    "runtimePatches": [
                        {
                            "trainingRuntimeSpec": {
                                "template": {
                                    "spec": {
                                        "replicatedJobs": [{"template": {"spec": {"template": {"spec": pod("k")}}}}]
                                    }
                                }
                            }
                        }
                    ]
                },
            ),
            ("RayJob", "ray.io/v1", {"rayClusterSpec": {"headGroupSpec": {"template": {"spec": pod("k")}}}}),
            (
                "RayJob",
                "ray.io/v1",
                {"rayClusterSpec": {"workerGroupSpecs": [{"template": {"spec": pod("k")}}]}},
            ),
        ],
    )
    def test_where_the_pods_of_each_kind_stand(self, kind: str, api: str, spec: dict[str, Any]) -> None:
        [doc] = documents(built({"apiVersion": api, "kind": kind, "metadata": {"name": "t"}, "spec": spec}))
        assert [(use.config_map, use.how) for use in uses(doc, "")] == [("k", None)]

    def test_a_train_job_has_those_of_its_runtime(self) -> None:
        def job(reference: object) -> dict[str, Any]:
            return {
                "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": "t"},
                "spec": {"runtimeRef": reference},
            }  # fmt: skip

        def runtime(kind: str, name: str, mounted: str, api: str = "trainer.kubeflow.org/v1alpha1") -> dict[str, Any]:
            jobs = [{"template": {"spec": {"template": {"spec": pod(mounted)}}}}]
            spec = {"template": {"spec": {"replicatedJobs": jobs}}}
            return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}

        others = (
            runtime("ClusterTrainingRuntime", "torch", "a"),
            runtime("TrainingRuntime", "torch", "b"),
            runtime("ClusterTrainingRuntime", "jax", "c"),
            runtime("ClusterTrainingRuntime", "torch", "d", "v2"),
        )
        found = []
        for reference in (
            {"name": "torch"},
            {"name": "torch", "kind": "TrainingRuntime"},
            {"name": "torch", "kind": "X"},
            "?",
        ):
            build = built(job(reference), *others)
            [doc] = documents(build, kind="TrainJob")
            found.append([use.config_map for use in uses(doc, build)])
        assert found == [["a"], ["b"], [], []]

    def test_a_train_job_has_an_environment_of_its_own(self) -> None:
        env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "k", "key": "a"}}}]
        body = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": "t"}}
        [doc] = documents(built({**body, "spec": {"trainer": {"env": env}}}))
        assert uses(doc, "") == (Use("k", "by env"),)

    def test_other_kinds_have_none(self) -> None:
        [doc] = documents(built({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "t"}, "spec": pod("k")}))
        assert uses(doc, "") == ()

    @given(
        st.recursive(
            st.text("abcxyz", max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text("abc01", min_size=1, max_size=3), inner, max_size=3)
            ),
        )
    )
    def test_leaves_go_back_to_what_they_were(self, value: object) -> None:
        doc = parse_document(json.dumps({"apiVersion": "v1", "kind": "K", "x": value}))
        assert doc is not None
        assert nested(doc)["x"] == value


class TestValues:
    def test_bare_names_of_decimal_integers(self) -> None:
        data = {
            "grad_accum_steps": "2",
            "modekeeper/knob.x": "3",
            "Upper": "4",
            "lr": "0.1",
            "a": "01",
            "b": "2\n",
            "on": "7",
        }
        assert knobs_from_data(data) == {"grad_accum_steps": 2, "on": 7}
        assert decimal("9" * 11) is None
        assert live_knobs({"kind": "ConfigMap", "data": {**data, "n": 5}}) == {"grad_accum_steps": 2, "on": 7}

    def test_of_a_build(self) -> None:
        build = built(config_map(data={"grad_accum_steps": "2", "own": "5", "text": "a", "nested": {"a": "1"}}))
        assert built_knobs(build, CARRIER) == {"grad_accum_steps": 2, "own": 5}
        assert built_knobs(build, KnobMap(namespace="ml", name="other")) == {}

    @pytest.mark.parametrize("value", ["fast", "02", "", " 2", 2, None, "2\n"])
    def test_a_built_in_knob_that_is_no_number(self, value: object) -> None:
        with pytest.raises(InputError, match=r"data\.grad_accum_steps is .*, expected a decimal integer in quotes"):
            built_knobs(built(config_map(data={"grad_accum_steps": value})), CARRIER)

    @given(
        st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True), st.integers(0, 2**31 - 1), min_size=1)
    )
    def test_what_is_rendered_is_read_back(self, knobs: dict[str, int]) -> None:
        for name, namespace in (("knobs", None), ("123", "on")):
            target = PatchTarget(api_version="v1", kind="ConfigMap", name=name, namespace=namespace, config_map=name)
            doc = parse_document(config_map_yaml(target, knobs))
            assert doc is not None
            assert (doc.id.name, doc.id.namespace) == (name, namespace or "")
            data = {str(path[-1]): leaf for path, leaf in doc.leaves.items() if path[:1] == DATA}
            assert {leaf.type for leaf in data.values()} == {"str"}
            assert knobs_from_data({key: leaf.text for key, leaf in data.items()}) == dict(sorted(knobs.items()))

    def test_an_item_goes_there_and_back(self) -> None:
        item = plan_item(make.action(), "why", CARRIER)
        assert item.plain()["patch"] == {"data": {"dataloader_num_workers": "4"}}
        assert (item.apiVersion, item.kind, item.ref(), item.knobs()) == (
            "v1",
            "ConfigMap",
            CARRIER,
            {"dataloader_num_workers": 4},
        )
        assert data_patch({"b": 2, "a": 1}) == {"data": {"a": "1", "b": "2"}}

    @pytest.mark.parametrize(
        "over",
        [
            {"patch": {"data": {}}},
            {"patch": {"data": []}},
            {"patch": {"data": {"a": "1"}, "immutable": True}},
            {"patch": {"data": {"a": 1}}},
            {"patch": {"data": {"A": "1"}}},
            {"patch": {"data": {"a": str(2**31)}}},
            {"patch": {"metadata": {"annotations": {"modekeeper/knob.a": "1"}}}},
            {"apiVersion": "apps/v1"},
            {"name": "$(x)"},
        ],
    )
    def test_bad_items(self, over: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="item: "):
            PlanItem.parse({**plan_item(make.action(), "why", CARRIER).plain(), **over}, what="item")

    @pytest.mark.parametrize(
        "fields",
        [
            {"api_version": "v1", "kind": "ConfigMap", "name": "a"},
            {"api_version": "v2", "kind": "ConfigMap", "name": "a", "config_map": "a"},
            {"api_version": "apps/v1", "kind": "Deployment", "name": "a", "config_map": "a"},
            {"api_version": "v1", "kind": "ConfigMap", "name": "a", "config_map": "a", "places": ("/data",)},
        ],
    )
    def test_bad_targets(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            PatchTarget.model_validate(fields)

    def test_what_does_not_use_it_is_what_it_was(self) -> None:
        """Records, and the digests over them, that were made before there was another way stay valid."""
        target = PatchTarget(api_version="apps/v1", kind="Deployment", name="trainer")
        assert sorted(target.plain()) == ["api_version", "kind", "name", "namespace", "places"]
        assert "config_map" not in make.plan().to_text()
        plain = WorkloadSettings(namespace="ml", name="t", overlay="o").plain()
        assert not {"delivery", "config_map"} & set(plain)
        assert LISTED.plain() | {"delivery": "configmap", "config_map": "knobs"} == LISTED.plain()
        assert PatchTarget.parse(TARGET.plain(), what="target") == TARGET
        assert TARGET.delivery == "configmap"


class TestInventory:
    def test_its_knobs_are_those_of_the_config_map_that_was_asked_for(self) -> None:
        home = Home(urls=(), branch="main", settings=SETTINGS)
        found = find(objects.deployment({"concurrency": 3}), SyncObjects(), home)
        assert found is not None
        assert (found.delivery, found.not_now, found.knobs) == ("configmap", None, {})
        live = {"kind": "ConfigMap", "data": {"concurrency": "8"}}
        carried = found.carried_by(CARRIER, live)
        assert (carried.not_now, carried.knobs) == (None, {"concurrency": 8})
        managed = {"manager": "tuner", "fieldsV1": {"f:data": {"f:concurrency": {}}}}
        owned = {**live, "metadata": {"managedFields": [managed]}}
        for one, reason in (
            (found.carried_by(CARRIER, None), Reason.DEPLOYMENT_MISSING),
            (found.carried_by(CARRIER, {"kind": "ConfigMap"}), Reason.UNKNOWN_KNOB),
            (found.carried_by(CARRIER, owned), Reason.FOREIGN_OWNER),
        ):
            assert one.not_now is not None
            assert one.not_now.reason is reason
        assert found.carried_by(CARRIER, owned, ("tuner",)).not_now is None

    def test_one_that_does_not_rest_waits(self) -> None:
        home = Home(urls=(), branch="main", settings=SETTINGS)
        found = find(objects.deployment(status={"updatedReplicas": 0}), SyncObjects(), home)
        assert found is not None
        assert found.not_now is not None
        assert found.not_now.reason is Reason.ROLLOUT_IN_PROGRESS


class Builds:
    """A builder that gives what it was told, one after the other."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def build(self, files: object, overlay: str) -> str:
        return self.texts.pop(0)


FILES = {"o/kustomization.yaml": b"resources: [a.yaml]\n"}


class TestTarget:
    def test_found_by_its_mark(self) -> None:
        marked = config_map()
        marked["metadata"]["annotations"] = {"modekeeper/probe": "0"}
        found = find_target(
            Builds(built(config_map()), built(config_map()), built(config_map("base-knobs")), built(marked)),
            FILES,
            "o",
            CARRIER,
        )
        assert found == TARGET.model_copy(update={"namespace": "ml"})

    def test_a_name_that_is_made_of_contents(self) -> None:
        hashed = KnobMap(namespace="ml", name="knobs-422867c9t8")
        for builds, carrier in (
            (Builds(*[built(config_map("knobs-422867c9t8"))] * 2), CARRIER),
            (Builds(built(config_map(hashed.name)), built(config_map("knobs-hhktkffhmf"))), hashed),
        ):
            with pytest.raises(InputError, match="appends a hash of its contents"):
                find_target(builds, FILES, "o", carrier)
        assert "builds no ConfigMap ml/knobs" in absent(CARRIER, built(config_map("knobs-of-mine"))).message

    def test_a_key_that_is_set_again_later(self) -> None:
        later = built(config_map(data={"a": "7", "b": "modekeeper/probe"}))
        assert overridden(Builds(later), FILES, "o", CARRIER, TARGET, ("a", "b")) == ("a",)


CONFIG = (
    b"version: v1\nworkloads:\n  - {namespace: ml, name: trainer, overlay: overlays/demo, passport: perf, delivery: configmap, "
    b"config_map: knobs}\n"
)
BASE = {CONFIG_PATH: CONFIG, "overlays/demo/kustomization.yaml": b"resources:\n  - ../../base\n"}
POLICY = load_policy(BASE.get, built_in())
DIGESTS = PolicyDigests(
    catalog_sha256=POLICY.catalog.sha256,
    passport_id="perf",
    passport_sha256=POLICY.passport(POLICY.settings.workloads[0]).sha256,
    config_sha256=POLICY.settings.sha256,
)
MOVES = (make.change("dataloader_num_workers", 2, 4),)
PINNED = {"dataloader_num_workers": 4}
STATE = make.state(target=TARGET, passport=make.passport("perf"))


def planned() -> Plan:
    from gitops_mk.core.invariants import invariant_states

    entry = POLICY.catalog.get("INPUT-STRAGGLER")
    assert entry is not None
    after = {**make.KNOBS, **PINNED}
    invariants = invariant_states(
        entry.invariants,
        before=make.KNOBS,
        after=after,
        world_size=1,
        passport=POLICY.passport(POLICY.settings.workloads[0]),
    )
    return make.plan(policy=DIGESTS, invariants=invariants, changes=MOVES, knobs=PINNED, target=TARGET)


PLAN = planned()
TEXTS = {knob: str(value) for knob, value in make.KNOBS.items()}
MERGED = {**TEXTS, **{knob: str(value) for knob, value in PINNED.items()}}


def stored(data: dict[str, str], **over: Any) -> ApplyAnswer:
    return ApplyAnswer(200, {**config_map(data=data), **over})


def word(**over: Any) -> ClusterWord:
    fields: dict[str, Any] = {
        "context": "prod", "namespace_exists": True, "live": config_map(), "can_get": True, "can_patch": True,
        "base": Trial(plain=stored(TEXTS)), "head": Trial(plain=stored(MERGED)),
    }  # fmt: skip
    return ClusterWord(**{**fields, **over})


def facts(one: Plan = PLAN, **over: Any) -> Facts:
    files = render_plan(one, BASE)
    message = commit_message(one, wording())
    commit = CommitInfo(
        sha=make.SHA_B, tree=make.TREE, parents=(make.SHA_A,), author=make.IDENTITY, time=1, message=message
    )
    values: dict[str, Any] = {
        "base": make.SHA_A,
        "head": make.SHA_B,
        "tree": make.TREE,
        "now": make.NOW,
        "changes": tuple(PathChange(path, "100644" if path in BASE else "000000", "100644") for path in sorted(files)),
        "commits": (commit,),
        "base_files": BASE,
        "head_files": {**BASE, **files},
        "policy": POLICY,
        "base_build": GOOD,
        "head_build": built(config_map(data=MERGED), workload(pod("knobs"))),
        "target": TARGET,
        "cluster": word(),
    }
    return Facts(**{**values, **over})


class TestVerify:
    def test_the_good_change_passes_every_step(self) -> None:
        outcome = registry.verify(facts())
        assert [s.message for s in outcome.steps if not s.allowed] == []
        assert len(outcome.steps) == 12
        assert planned_places(PLAN) == (DATA,)

    def test_a_config_map_that_delivers_nothing(self) -> None:
        said = scope.check(facts(base_build=built(config_map(immutable=True), workload(pod("knobs")))))
        assert said.reason is Reason.SCOPE_VIOLATION
        assert "is immutable" in said.message

    def test_without_a_workload_there_is_none(self) -> None:
        assert facts(changes=()).carrier is None
        assert facts(policy=None).carrier_or_error is None

    def test_a_patch_of_something_else(self) -> None:
        for target in (
            PatchTarget(api_version="apps/v1", kind="Deployment", name="trainer"),
            TARGET.model_copy(update={"config_map": "other"}),
        ):
            given = facts()
            given.__dict__["plan_or_error"] = PLAN.model_copy(update={"target": target})
            said = render.check(given)
            assert said.reason is Reason.RENDER_MISMATCH
            assert "the base has the knobs in ConfigMap ml/knobs" in said.message
        given = facts(target=TARGET.model_copy(update={"name": "other"}))
        assert "the base has" in render.check(given).message
        assert "can't be told: torn" in render.check(facts(target=None, target_error="torn")).message

    @pytest.mark.parametrize(
        "head",
        [
            built(config_map(data={**MERGED, "seed": "1"}), workload(pod("knobs"))),
            built(config_map(data={**MERGED, "dataloader_num_workers": "5"}), workload(pod("knobs"))),
            built(config_map(data={**MERGED, "concurrency": "9"}), workload(pod("knobs"))),
            built(config_map(data={**MERGED, "dataloader_num_workers": 4}), workload(pod("knobs"))),
            built(config_map(data={**MERGED, "dataloader_num_workers": "2"}), workload(pod("knobs"))),
            built(config_map(data=MERGED, immutable=True), workload(pod("knobs"))),
            built(config_map(data=MERGED), workload(pod("knobs", image="x"))),
            built(config_map(data=MERGED), config_map("b"), workload(pod("knobs"))),
        ],
    )
    def test_anything_else_that_changes(self, head: str) -> None:
        assert build_step.check(facts(head_build=head)).reason is Reason.UNPLANNED_CHANGE

    def test_live_values(self) -> None:
        assert live.check(facts()).allowed
        other = live.check(facts(cluster=word(live=config_map(data={**TEXTS, "dataloader_num_workers": "3"}))))
        assert (other.reason, "runs at 3" in other.message) == (Reason.VERIFY_STALE, True)
        gone = live.check(facts(cluster=word(live=None)))
        assert (gone.reason, "no ConfigMap ml/knobs in prod" in gone.message) == (Reason.DEPLOYMENT_MISSING, True)
        managed = {"manager": "tuner", "fieldsV1": {"f:data": {"f:dataloader_num_workers": {}}}}
        owned = {**config_map(), "metadata": {"name": "knobs", "managedFields": [managed]}}
        assert live.check(facts(cluster=word(live=owned))).reason is Reason.FOREIGN_OWNER
        assert foreign_owner(owned, ["dataloader_num_workers"], ("tuner",)) is None

    def test_rights(self) -> None:
        said = rights.check(facts(cluster=word(can_patch=False)))
        assert (said.reason, "may not patch ConfigMap ml/knobs" in said.message) == (Reason.RBAC_DENIED, True)

    def test_the_dry_run(self) -> None:
        assert dry_run.check(facts()).allowed
        stray = dry_run.check(facts(cluster=word(head=Trial(plain=stored({**MERGED, "seed": "1"})))))
        assert stray.reason is Reason.UNPLANNED_CHANGE
        stays = dry_run.check(facts(cluster=word(head=Trial(plain=stored({**MERGED, "dataloader_num_workers": "2"})))))
        assert stays.reason is Reason.UNPLANNED_CHANGE


class TestEnvelope:
    def verdict(self, kind: WorkloadKind = "Deployment", **over: Any) -> Any:
        ref = WorkloadRef(namespace="ml", kind=kind, name="trainer")
        action = make.action("INPUT-STRAGGLER", *MOVES, workload=ref)
        state = replace(STATE, ref=ref, **over)
        return judge_action(state, action, make.observation(SignalName.STRAGGLER), Options(), make.NOW).verdict

    @pytest.mark.parametrize("kind", ["Deployment", "Job", "JobSet", "PyTorchJob", "TrainJob", "RayJob"])
    def test_hot_knobs_of_every_kind(self, kind: WorkloadKind) -> None:
        assert self.verdict(kind).allowed
        assert replace(STATE, ref=WorkloadRef(namespace="ml", kind=kind, name="trainer")).carrier == CARRIER

    @pytest.mark.parametrize(("cold", "said"), [(("dataloader_num_workers",), "is cold"), ((), "is not among the hot")])
    def test_cold_ones_are_blocked(self, cold: tuple[str, ...], said: str) -> None:
        strict = make.passport("perf", actuators=Actuators(hot=("dataloader_prefetch_factor",), cold=cold))
        verdict = self.verdict(passport=strict)
        assert verdict.reason is Reason.KNOB_NOT_ALLOWED
        assert said in verdict.message
        annotated = PatchTarget(api_version="apps/v1", kind="Deployment", name="trainer")
        assert self.verdict(passport=strict, target=annotated).allowed

    def test_what_was_done_may_be_undone_where_a_running_job_takes_it_up(self) -> None:
        hot = make.passport("perf", actuators=Actuators(hot=("dataloader_num_workers",)), allowed_knobs=())
        undo = make.context(passport=hot, delivery="configmap", rollback=make.applied())
        assert decide(judge(undo)).allowed
        cold = make.passport("perf", actuators=Actuators())
        half = decide(judge(make.context(passport=cold, delivery="configmap", rollback=make.applied())))
        assert half.reason is Reason.KNOB_NOT_ALLOWED
        assert decide(judge(make.context(passport=cold, rollback=make.applied()))).allowed
