"""The embedded GitOps repository: a bare one with the demo trainer's overlay, for a start without a cluster or a forge."""

from __future__ import annotations

from pathlib import Path

from gitops_mk.adapters.git import GitRepo, init_bare
from gitops_mk.adapters.resources import read_template
from gitops_mk.model.change import Person
from gitops_mk.model.settings import CONFIG_PATH
from gitops_mk.model.workload import Delivery

_FILES = {
    CONFIG_PATH: "embedded/config.yaml",
    "base/deployment.yaml": "embedded/base/deployment.yaml",
    "base/kustomization.yaml": "embedded/base/kustomization.yaml",
    "overlays/demo/kustomization.yaml": "embedded/overlays/demo/kustomization.yaml",
}
# Where a ConfigMap delivers the knobs instead of annotations.
_CONFIG_MAP_FILES = {
    **_FILES,
    "base/deployment.yaml": "embedded/configmap/deployment.yaml",
    "base/knobs.yaml": "embedded/configmap/knobs.yaml",
    "base/kustomization.yaml": "embedded/configmap/kustomization.yaml",
}
# The first commit's time is fixed, so that every embedded repository starts from the same commit.
_EPOCH = 1_767_225_600
_AUTHOR = Person(name="Platform Team", email="platform@gitops.invalid")


def embedded_files(*, approvals: int = 0, delivery: Delivery = "annotation") -> dict[str, bytes]:
    """The tree of a fresh embedded repository. `approvals`: how many a merge needs; `delivery`: how knobs reach the trainer."""
    by_config_map = delivery == "configmap"
    files = {path: read_template(name) for path, name in (_CONFIG_MAP_FILES if by_config_map else _FILES).items()}
    if by_config_map:
        files[CONFIG_PATH] += b"    delivery: configmap\n    config_map: trainer-knobs\n"
    if approvals:
        files[CONFIG_PATH] = files[CONFIG_PATH].replace(
            b"required_approvals: 0", f"required_approvals: {approvals}".encode()
        )
    return files


def make_embedded(folder: Path, *, approvals: int = 0, delivery: Delivery = "annotation") -> Path:
    """The bare repository under `folder`, made when it isn't there; gives its path."""
    path = folder / "gitops.git"
    if (path / "HEAD").is_file() and GitRepo(path).resolve("main") is not None:
        return path
    repo = init_bare(path)
    tree = repo.write_tree(None, dict(embedded_files(approvals=approvals, delivery=delivery)))
    commit = repo.write_commit(tree=tree, parents=[], message="Add the demo trainer\n", author=_AUTHOR, time=_EPOCH)
    repo.run("update-ref", "refs/heads/main", commit)
    return path
