"""The embedded GitOps repository: a bare one with the demo trainer's overlay, for a start without a cluster or a forge."""

from __future__ import annotations

from pathlib import Path

from gitops_mk.adapters.git import GitRepo, init_bare
from gitops_mk.adapters.resources import read_template
from gitops_mk.model.change import Person
from gitops_mk.model.settings import CONFIG_PATH

_FILES = {
    CONFIG_PATH: "embedded/config.yaml",
    "base/deployment.yaml": "embedded/base/deployment.yaml",
    "base/kustomization.yaml": "embedded/base/kustomization.yaml",
    "overlays/demo/kustomization.yaml": "embedded/overlays/demo/kustomization.yaml",
}
# The first commit's time is fixed, so that every embedded repository starts from the same commit.
_EPOCH = 1_767_225_600
_AUTHOR = Person(name="Platform Team", email="platform@gitops.invalid")


def embedded_files(*, approvals: int = 0) -> dict[str, bytes]:
    """The tree of a fresh embedded repository. `approvals`: how many a merge needs."""
    files = {path: read_template(name) for path, name in _FILES.items()}
    if approvals:
        files[CONFIG_PATH] = files[CONFIG_PATH].replace(
            b"required_approvals: 0", f"required_approvals: {approvals}".encode()
        )
    return files


def make_embedded(folder: Path, *, approvals: int = 0) -> Path:
    """The bare repository under `folder`, made when it isn't there; gives its path."""
    path = folder / "gitops.git"
    if (path / "HEAD").is_file() and GitRepo(path).resolve("main") is not None:
        return path
    repo = init_bare(path)
    tree = repo.write_tree(None, dict(embedded_files(approvals=approvals)))
    commit = repo.write_commit(tree=tree, parents=[], message="Add the demo trainer\n", author=_AUTHOR, time=_EPOCH)
    repo.run("update-ref", "refs/heads/main", commit)
    return path
