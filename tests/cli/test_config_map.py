"""Knobs delivered by a mounted ConfigMap: every kind is planned, proposed, verified and merged, and nothing restarts."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gitops_mk.adapters.git import GitRepo, init_bare
from gitops_mk.adapters.kustomize import Kustomize
from gitops_mk.controller.setup import config_yaml, find_workloads
from gitops_mk.core.documents import parse_yaml
from gitops_mk.model.change import Person
from gitops_mk.model.settings import RepoSettings
from tests.cli.conftest import Mk

ALICE = Person(name="A", email="a@example.com")
KNOBS = {
    "grad_accum_steps": "4", "microbatch_size": "32", "dataloader_num_workers": "2", "dataloader_prefetch_factor": "2",
}  # fmt: skip
CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "knobs", "namespace": "ml"},
    "data": {**KNOBS, "train.yaml": "lr: 0.1\n"},
}


def pod(config_map: str) -> dict[str, Any]:
    mounts = [{"name": "knobs", "mountPath": "/etc/modekeeper/knobs"}]
    return {
        "spec": {
            "containers": [{"name": "trainer", "image": "example.invalid/trainer:1", "volumeMounts": mounts}],
            "volumes": [{"name": "knobs", "configMap": {"name": config_map}}],
        }
    }


def objects(kind: str, config_map: str) -> list[dict[str, Any]]:
    """A workload of that kind whose pods mount the ConfigMap; kustomize renames references in kinds that it knows only."""
    mounted = pod(config_map)
    plain: dict[str, Any] = {"spec": {"containers": [{"name": "driver", "image": "example.invalid/driver:1"}]}}
    by_kind: dict[str, list[dict[str, Any]]] = {
        "Deployment": [{"apiVersion": "apps/v1", "spec": {"template": mounted}}],
        "Job": [{"apiVersion": "batch/v1", "spec": {"template": mounted}}],
        "JobSet": [
            {
                "apiVersion": "jobset.x-k8s.io/v1alpha2",
                "spec": {
                    "replicatedJobs": [
                        {"name": "driver", "template": {"spec": {"template": plain}}},
                        {"name": "workers", "template": {"spec": {"template": mounted}}},
                    ]
                },
            }
        ],
        "PyTorchJob": [
            {
                "apiVersion": "kubeflow.org/v1",
                "spec": {
                    "pytorchReplicaSpecs": {"Master": {"template": mounted}, "Worker": {"replicas": 3, "template": mounted}}
                },
            }
        ],
        "TrainJob": [
            {"apiVersion": "trainer.kubeflow.org/v1alpha1", "spec": {"runtimeRef": {"name": "torch", "kind": "TrainingRuntime"}}},
            {
                "apiVersion": "trainer.kubeflow.org/v1alpha1",
                "kind": "TrainingRuntime",
                "metadata": {"name": "torch", "namespace": "ml"},
                "spec": {
                    "template": {"spec": {"replicatedJobs": [{"name": "node", "template": {"spec": {"template": mounted}}}]}}
                },
            },
        ],
        "RayJob": [
            {
                "apiVersion": "ray.io/v1",
                "spec": {
                    "entrypoint": "python train.py",
                    "rayClusterSpec": {
                        "headGroupSpec": {"template": plain},
                        "workerGroupSpecs": [{"groupName": "small", "template": mounted}],
                    },
                },
            }
        ],
    }  # fmt: skip
    first, *others = by_kind[kind]
    return [{"kind": kind, "metadata": {"name": "train", "namespace": "ml"}, **first}, *others]


RENAMED = {"Deployment", "Job"}


def repository(folder: Path, kind: str, **over: Any) -> GitRepo:
    """A repository with such a workload; `over` replaces files. Kinds that kustomize knows stand behind a prefix."""
    prefix = "a-" if kind in RENAMED else ""
    config = (
        f"version: v1\nforge: {{required_approvals: 0}}\nworkloads:\n  - namespace: ml\n    name: {prefix}train\n"
        f"    kind: {kind}\n    overlay: overlays/run\n    world_size: 8\n    delivery: configmap\n"
    )
    manifests = [CONFIG_MAP, *objects(kind, "knobs")]
    files = {
        ".modekeeper/config.yaml": config.encode(),
        "base/all.yaml": "\n---\n".join(json.dumps(manifest) for manifest in manifests).encode(),
        "base/kustomization.yaml": b"resources: [all.yaml]\n",
        "overlays/run/kustomization.yaml": (f"namePrefix: {prefix}\n" if prefix else "").encode()
        + b"resources:\n  - ../../base\n",
        **over,
    }
    repo = init_bare(folder / "gitops.git")
    commit = repo.write_commit(
        tree=repo.write_tree(None, dict(files)), parents=[], message="Add a job\n", author=ALICE, time=1_767_225_600
    )
    repo.run("update-ref", "refs/heads/main", commit)
    return repo


def built(repo: GitRepo, ref: str) -> dict[tuple[str, str], Any]:
    text = Kustomize().build(repo.files(repo.resolve(ref) or ref), "overlays/run")
    return {(doc["kind"], doc["metadata"]["name"]): doc for doc in YAML(typ="safe").load_all(text)}


@pytest.mark.parametrize("kind", ["Deployment", "Job", "JobSet", "PyTorchJob", "TrainJob", "RayJob"])
def test_every_kind_takes_a_merge_in_place(kind: str, mk: Mk, licensed: dict[str, Path], tmp_path: Path) -> None:
    repo = repository(tmp_path, kind)
    prefix = "a-" if kind in RENAMED else ""
    before = built(repo, "main")
    said = mk(
        "closed-loop", "run", "--apply", "--scenario", "straggler", "--repo", repo.git_dir, "--out", "r", "--json"
    )
    assert said.code == 0, said.err + str(said.json["apply_decision_summary"])
    assert said.json["verify_ok"] is True
    [item] = json.loads(Path("r/k8s_plan.json").read_text())
    assert item["patch"] == {"data": {"dataloader_num_workers": "6"}}
    assert (item["apiVersion"], item["kind"], item["namespace"], item["name"]) == (
        "v1",
        "ConfigMap",
        "ml",
        f"{prefix}knobs",
    )
    assert "'configmap/" not in Path("r/k8s_plan.kubectl.sh").read_text()
    assert f"configmap/{prefix}knobs" in Path("r/k8s_plan.kubectl.sh").read_text()
    assert "nothing restarts" in mk("pr", "show", "1", "--repo", repo.git_dir).out

    after = built(repo, "main")
    expected = copy.deepcopy(before)
    expected["ConfigMap", f"{prefix}knobs"]["data"] |= item["patch"]["data"]
    assert after == expected, "those keys of that ConfigMap, and nothing else"

    back = mk("rollback", "--pr", "1", "--repo", repo.git_dir, "--out", "back", "--json")
    assert back.code == 0, back.err
    assert mk("verify", "--pr", "2", "--repo", repo.git_dir, "--out", "v").code == 0
    applied = mk("apply", "--pr", "2", "--repo", repo.git_dir, "--out", "applied", "--json")
    assert applied.code == 0, applied.err
    assert built(repo, "main") == before


CONFIG = """\
version: v1
forge: {forge}
workloads:
  - {{namespace: ml, name: a-train, overlay: overlays/run, world_size: 8, passport: {passport}, {delivery}}}
"""


def configured(delivery: str = "delivery: configmap", passport: str = "pilot") -> dict[str, bytes]:
    text = CONFIG.format(forge="{required_approvals: 0}", delivery=delivery, passport=passport)
    return {".modekeeper/config.yaml": text.encode()}


def run(mk: Mk, repo: GitRepo) -> Any:
    return mk("closed-loop", "run", "--scenario", "straggler", "--repo", repo.git_dir, "--out", "r", "--json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subPath": "grad_accum_steps"}, "uses ConfigMap ml/a-knobs by subPath: a change would not reach the running pods"),
        ({"immutable": True}, "ConfigMap ml/a-knobs is immutable"),
        ({"generator": True}, "appends a hash of its contents"),
        ({"value": "two"}, "data.dataloader_num_workers is 'two', expected a decimal integer in quotes"),
        ({"missing": True}, "builds no ConfigMap ml/a-other"),
        ({"unmounted": True}, "does not mount ConfigMap ml/a-knobs"),
    ],
)  # fmt: skip
def test_what_would_not_reach_the_running_pods_is_refused(
    change: dict[str, Any], said: str, mk: Mk, tmp_path: Path
) -> None:
    carrier: dict[str, Any] = copy.deepcopy(CONFIG_MAP)
    manifests = [carrier, *objects("Deployment", "knobs")]
    container = manifests[1]["spec"]["template"]["spec"]["containers"][0]
    base: dict[str, Any] = {"resources": ["all.yaml"]}
    name = "a-other" if "missing" in change else "a-knobs"
    if "subPath" in change:
        container["volumeMounts"][0] |= change
    elif "generator" in change:
        del manifests[0]
        literals = [f"{knob}={value}" for knob, value in KNOBS.items()]
        base["configMapGenerator"] = [{"name": "knobs", "namespace": "ml", "literals": literals}]
    elif "value" in change:
        carrier["data"]["dataloader_num_workers"] = change["value"]
    elif "unmounted" in change:
        container["volumeMounts"] = []
    else:
        carrier |= change if "immutable" in change else {}
    files = {
        **configured(f"delivery: configmap, config_map: {name}"),
        "base/all.yaml": "\n---\n".join(json.dumps(manifest) for manifest in manifests).encode(),
        "base/kustomization.yaml": json.dumps(base).encode(),
    }
    told = run(mk, repository(tmp_path, "Deployment", **files))
    assert told.code == 2
    assert said in told.err, told.err


def test_two_workloads_on_one_config_map_are_refused(mk: Mk, tmp_path: Path) -> None:
    first, second = objects("Deployment", "knobs")[0], copy.deepcopy(objects("Deployment", "knobs")[0])
    second["metadata"] |= {"name": "eval", "labels": {"modekeeper.dev/enabled": "true"}}
    files = {
        **configured(),
        "base/all.yaml": "\n---\n".join(json.dumps(manifest) for manifest in (CONFIG_MAP, first, second)).encode(),
    }
    told = run(mk, repository(tmp_path, "Deployment", **files))
    assert told.code == 2
    assert "Deployment ml/a-eval uses ConfigMap ml/a-knobs, too" in told.err


def test_a_cold_knob_is_blocked_with_the_reason(mk: Mk, tmp_path: Path) -> None:
    pilot = json.loads(mk("passport", "show", "--template", "pilot").out)
    pilot |= {"id": "cautious", "actuators": {"hot": [], "cold": ["dataloader_num_workers"]}}
    files = {**configured(passport="cautious"), ".modekeeper/passports/cautious.json": json.dumps(pilot).encode()}
    told = run(mk, repository(tmp_path, "Deployment", **files)).json
    assert told["results"][0]["reason"] == "knob_not_allowed"
    assert "dataloader_num_workers is cold in passport cautious" in told["results"][0]["message"]


def test_a_head_that_changes_more_than_the_keys_fails_verify(mk: Mk, licensed: dict[str, Path], tmp_path: Path) -> None:
    repo = repository(tmp_path, "Deployment", **configured())
    assert (
        mk("closed-loop", "run", "--apply", "--scenario", "straggler", "--repo", repo.git_dir, "--out", "r").code == 0
    )
    merged = repo.resolve("main") or ""
    base = repo.commit(merged).parents[0]
    [path] = [name for name in repo.files(merged) if name.endswith(".knobs.yaml")]
    text = repo.read(merged, path) or b""
    tree = repo.write_tree(merged, {path: text.replace(b"data:\n", b'data:\n  train.yaml: "lr: 9"\n')})
    message = repo.commit(repo.commit(merged).parents[-1]).message
    head = repo.write_commit(tree=tree, parents=[base], message=message, author=ALICE, time=1_767_225_900)
    told = mk("verify", "--base", base, "--head", head, "--repo", repo.git_dir, "--out", "v", "--json")
    assert told.code == 1
    failed = {step["id"]: step["reason"] for step in told.json["steps"] if not step["allowed"]}
    assert (failed["render"], failed["build"]) == ("render_mismatch", "unplanned_change")


def test_values_that_stand_in_a_component_of_the_other_way_are_moved_by_hand(
    mk: Mk, licensed: dict[str, Path], tmp_path: Path
) -> None:
    repo = repository(tmp_path, "Deployment", **configured())
    assert (
        mk("closed-loop", "run", "--apply", "--scenario", "straggler", "--repo", repo.git_dir, "--out", "r").code == 0
    )
    tip = repo.resolve("main") or ""
    tree = repo.write_tree(tip, dict(configured("delivery: annotation")))
    now = repo.write_commit(tree=tree, parents=[tip], message="m\n", author=ALICE, time=1_767_226_000)
    repo.run("update-ref", "refs/heads/main", now)
    told = run(mk, repo)
    assert told.code == 2
    assert "sets its knobs by configmap, the configuration says annotation" in told.err
    assert "by a commit of your own" in told.err


def test_a_plan_file_goes_the_whole_way(mk: Mk, licensed: dict[str, Path], tmp_path: Path) -> None:
    repo = repository(tmp_path, "Job")
    assert run(mk, repo).code == 0
    where = ("--repo", repo.git_dir)
    assert mk("propose", "--plan", "r/k8s_plan.json", *where, "--out", "p").code == 0
    early = mk("k8s", "apply", "--plan", "r/k8s_plan.json", *where, "--out", "early", "--json")
    assert (early.code, early.json["block_reason"]) == (2, "verify_missing")
    assert mk("verify", "--pr", "1", *where, "--out", "v").code == 0
    done = mk("k8s", "apply", "--plan", "r/k8s_plan.json", *where, "--out", "a", "--json")
    assert done.code == 0, done.err
    [item] = json.loads(Path("a/k8s_apply_latest.json").read_text())["items"]
    assert (item["namespace"], item["name"], item["kind"], item["ok"]) == ("ml", "a-knobs", "ConfigMap", True)
    assert built(repo, "main")["ConfigMap", "a-knobs"]["data"]["dataloader_num_workers"] == "6"


def test_the_plan_is_rendered_without_a_repository(mk: Mk, tmp_path: Path) -> None:
    run(mk, repository(tmp_path, "Job"))
    assert mk("k8s", "render", "--plan", "r/k8s_plan.json", "--out", "made").code == 0
    [patch] = [path.read_text() for path in Path("made/kustomize").rglob("*.knobs.yaml")]
    assert 'dataloader_num_workers: "6"' in patch
    Path("alone").mkdir()
    Path("alone/k8s_plan.json").write_text(Path("r/k8s_plan.json").read_text())
    assert mk("k8s", "render", "--plan", "alone/k8s_plan.json", "--out", "bare").code == 0
    [bare] = [path.read_text() for path in Path("bare/kustomize").rglob("*.knobs.yaml")]
    assert bare.splitlines()[1:4] == ["apiVersion: v1", "kind: ConfigMap", "metadata:"]
    assert 'dataloader_num_workers: "6"' in bare


def test_init_lists_a_workload_that_names_its_config_map(mk: Mk, tmp_path: Path) -> None:
    manifest = objects("Deployment", "knobs")[0]
    manifest["metadata"]["annotations"] = {"modekeeper.dev/config-map": "a-knobs"}
    text = "\n---\n".join(json.dumps(one) for one in (CONFIG_MAP, manifest))
    files = repository(tmp_path, "Deployment", **{"base/all.yaml": text.encode()})
    found = find_workloads(files.files("main"), Kustomize())
    assert [(w.name, w.delivery, w.config_map) for w in found.workloads] == [("a-train", "configmap", "a-knobs")]
    written = parse_yaml(RepoSettings, config_yaml("main", found.workloads).encode(), what="config")
    assert written.workloads == tuple(found.workloads)
