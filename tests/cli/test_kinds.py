"""Kinds whose pod template can't change in a live object: proposed, verified, built right; merging is a person's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gitops_mk.adapters.git import GitRepo, init_bare
from gitops_mk.adapters.kustomize import Kustomize
from gitops_mk.core.places import knobs_at, texts_of
from gitops_mk.model.change import Person
from tests.cli.conftest import Mk

KNOBS = {
    "grad_accum_steps": "4", "microbatch_size": "32", "dataloader_num_workers": "2", "dataloader_prefetch_factor": "2",
    "concurrency": "8", "timeout_ms": "60000", "comm_bucket_mb": "25",
}  # fmt: skip
ANNOTATIONS = {f"modekeeper/knob.{name}": value for name, value in KNOBS.items()}
POD: dict[str, Any] = {
    "metadata": {"annotations": ANNOTATIONS},
    "spec": {"containers": [{"name": "trainer", "image": "example.invalid/trainer:1"}], "restartPolicy": "Never"},
}
PLAIN: dict[str, Any] = {"spec": POD["spec"]}
OBJECTS: dict[str, dict[str, Any]] = {
    "Job": {"apiVersion": "batch/v1", "spec": {"template": POD}},
    "JobSet": {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "spec": {
            "replicatedJobs": [
                {"name": "driver", "template": {"spec": {"template": PLAIN}}},
                {"name": "workers", "replicas": 2, "template": {"spec": {"parallelism": 4, "template": POD}}},
            ]
        },
    },
    "PyTorchJob": {
        "apiVersion": "kubeflow.org/v1",
        "spec": {"pytorchReplicaSpecs": {"Master": {"replicas": 1, "template": POD}, "Worker": {"replicas": 3, "template": POD}}},
    },
    "TrainJob": {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "spec": {"runtimeRef": {"name": "torch"}, "annotations": ANNOTATIONS},
    },
    "RayJob": {
        "apiVersion": "ray.io/v1",
        "spec": {
            "entrypoint": "python train.py",
            "rayClusterSpec": {
                "headGroupSpec": {"template": PLAIN},
                "workerGroupSpecs": [{"groupName": "small", "template": POD}, {"groupName": "large", "template": POD}],
            },
        },
    },
}  # fmt: skip
PLACES = {"Job": 2, "JobSet": 1, "PyTorchJob": 2, "TrainJob": 1, "RayJob": 2}


def repository(folder: Path, kind: str) -> GitRepo:
    manifest = {"kind": kind, "metadata": {"name": "train", "namespace": "ml"}, **OBJECTS[kind]}
    config = (
        f"version: v1\nforge: {{required_approvals: 0}}\nworkloads:\n  - namespace: ml\n    name: a-train\n    kind: {kind}\n"
        "    overlay: overlays/run\n    world_size: 8\n"
    )
    files = {
        ".modekeeper/config.yaml": config.encode(),
        "base/job.yaml": json.dumps(manifest).encode(),
        "base/kustomization.yaml": b"resources: [job.yaml]\n",
        "overlays/run/kustomization.yaml": b"namePrefix: a-\nresources:\n  - ../../base\n",
    }
    repo = init_bare(folder / "gitops.git")
    tree = repo.write_tree(None, dict(files))
    commit = repo.write_commit(
        tree=tree, parents=[], message="Add a job\n", author=Person(name="A", email="a@example.com"), time=1_767_225_600
    )
    repo.run("update-ref", "refs/heads/main", commit)
    return repo


@pytest.mark.parametrize("kind", sorted(OBJECTS))
def test_a_kind_that_takes_values_at_its_next_run(kind: str, mk: Mk, licensed: dict[str, Path], tmp_path: Path) -> None:
    repo = repository(tmp_path, kind)
    said = mk(
        "closed-loop", "run", "--apply", "--scenario", "straggler", "--repo", repo.git_dir, "--out", "r", "--json"
    )
    assert said.code == 2, said.err
    payload = said.json
    assert payload["apply_blocked_reason"] == "propose_only"
    assert payload["results"][0]["reason"] == "propose_only"
    assert payload["verify_ok"] is True, payload["apply_decision_summary"]
    assert "next run" in payload["apply_blocked_message"]
    shown = mk("pr", "show", "1", "--repo", repo.git_dir)
    assert "these values hold from its next run on" in shown.out

    tree = repo.merge_tree("main", f"modekeeper/ml/{kind.lower()}-a-train")
    assert tree is not None
    built: dict[str, Any] = YAML(typ="safe").load(Kustomize().build(repo.files(tree), "overlays/run"))
    texts = texts_of(built)
    moved = knobs_at(kind, texts)
    assert moved["dataloader_num_workers"] > 2
    values = [text for path, text in texts.items() if path[-1] == "modekeeper/knob.dataloader_num_workers"]
    assert values == [str(moved["dataloader_num_workers"])] * PLACES[kind], (
        "every role that carries the knob, and no other"
    )
    # A second plan on top of the merged one finds the target again.
    merged = repo.write_commit(
        tree=tree,
        parents=[repo.resolve("main") or ""],
        message="m\n",
        author=Person(name="A", email="a@example.com"),
        time=1_767_225_700,
    )
    repo.run("update-ref", "refs/heads/main", merged)
    again = mk("closed-loop", "run", "--scenario", "straggler", "--repo", repo.git_dir, "--out", "again", "--json")
    assert again.code == 0, again.err
    assert json.loads(Path("again/k8s_plan.json").read_text())[0]["kind"] == kind


def test_a_role_that_differs_has_no_value(mk: Mk, tmp_path: Path) -> None:
    """Two roles with two values of one knob: nobody can say which one a move starts from."""
    annotations = {**ANNOTATIONS, "modekeeper/knob.dataloader_num_workers": "3"}
    two = {"Master": {"template": POD}, "Worker": {"template": {**POD, "metadata": {"annotations": annotations}}}}
    saved = OBJECTS["PyTorchJob"]
    OBJECTS["PyTorchJob"] = {**saved, "spec": {"pytorchReplicaSpecs": two}}
    try:
        repo = repository(tmp_path, "PyTorchJob")
    finally:
        OBJECTS["PyTorchJob"] = saved
    said = mk("closed-loop", "run", "--scenario", "straggler", "--repo", repo.git_dir, "--out", "r", "--json")
    assert said.json["results"][0]["reason"] == "unknown_knob"
