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
from gitops_mk.model.change import Person
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
    assert item["patch"] == {"data": {"dataloader_num_workers": "4", "dataloader_prefetch_factor": "4"}}
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
