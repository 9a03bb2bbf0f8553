"""The folder `kustomize/` as the API server gets it: built by the real kustomize, and the rights it gives, as lines."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from gitops_mk.adapters.kustomize_command import find_command

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "kustomize"
COMPONENTS = sorted(path.parent.name for path in FOLDER.glob("components/*/kustomization.yaml"))
OPTIONS = [name for name in COMPONENTS if name != "image"]
"""Components that an operator chooses; the image is part of the base."""
BUILDS = sorted(
    str(path.parent.relative_to(FOLDER))
    for path in FOLDER.rglob("kustomization.yaml")
    if path.parent.parent.name != "components"
)

Manifest = Mapping[str, Any]


def parse(text: str) -> list[dict[str, Any]]:
    """The documents of a build."""
    return [document for document in YAML(typ="safe").load_all(text) if document]


@cache
def build(folder: Path) -> str:
    """What kustomize builds from a folder, with nothing but the defaults. AssertionError with its words when it can't."""
    done = subprocess.run([*find_command().argv, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{folder}: {done.stderr}"
    return done.stdout


def build_overlay(
    scratch: Path, resources: Iterable[str], *, components: Iterable[str] = (), namespace: str | None = None
) -> str:
    """What an operator's overlay builds, in a copy of the folder under `scratch`, which must be new."""
    tree = scratch / "kustomize"
    shutil.copytree(FOLDER, tree)
    overlay = tree / "overlays" / "operators-own"
    overlay.mkdir()
    lines = [f"namespace: {namespace}"] if namespace else []
    lines += ["resources:", *(f"  - ../../{name}" for name in resources)]
    if components := list(components):
        lines += ["components:", *(f"  - ../../components/{name}" for name in components)]
    (overlay / "kustomization.yaml").write_text("\n".join(lines) + "\n")
    return build(overlay)


# -- rights ----------------------------------------------------------------------------------------------------------


def rights(documents: Sequence[Manifest]) -> list[str]:
    """What these bindings give: `ACCOUNT in NAMESPACE may VERBS RESOURCE`, sorted; `everywhere` for ClusterRoleBindings.

    A binding to a role that is not among the documents gives nothing, as in a cluster.
    """
    roles = {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]): d for d in documents}
    found: set[str] = set()
    for binding in documents:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        ref, namespace = binding["roleRef"], binding["metadata"].get("namespace")
        role = roles.get((ref["kind"], namespace if ref["kind"] == "Role" else None, ref["name"]))
        if role is None:
            continue
        where = f"in {namespace}" if binding["kind"] == "RoleBinding" else "everywhere"
        for subject in binding["subjects"]:
            who = (
                f"{subject['namespace']}/{subject['name']}" if subject["kind"] == "ServiceAccount" else subject["name"]
            )
            found |= {f"{who} {where} may {right}" for right in rule_lines(role["rules"])}
    return sorted(found)


def rule_lines(rules: Iterable[Manifest]) -> Iterator[str]:
    """Each rule as lines `VERBS RESOURCE.GROUP[/NAME]`, with the verbs in order."""
    for rule in rules:
        verbs = ",".join(sorted(rule["verbs"]))
        for group in rule.get("apiGroups", ("",)):
            for resource in rule.get("resources", ()):
                for name in rule.get("resourceNames") or ("",):
                    yield f"{verbs} {resource}{f'.{group}' if group else ''}{f' {name}' if name else ''}"
        for url in rule.get("nonResourceURLs", ()):
            yield f"{verbs} {url}"


_READ = "get,list,watch"
_KINDS = (
    "deployments.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch", "jobsets.jobset.x-k8s.io",
    "pytorchjobs.kubeflow.org", "trainjobs.trainer.kubeflow.org", "rayjobs.ray.io",
)  # fmt: skip

# The golden table: all that the accounts may, and nothing else, besides what every account of a cluster may.
EVERYWHERE = {
    f"{_READ} nodes",
    f"{_READ} applications.argoproj.io",
    f"{_READ} kustomizations.kustomize.toolkit.fluxcd.io",
    f"{_READ} gitrepositories.source.toolkit.fluxcd.io",
}
OWN_NAMESPACE = {"create leases.coordination.k8s.io", "get,update leases.coordination.k8s.io modekeeper-controller"}
KILL_SWITCH = {"get configmaps modekeeper-kill-switch"}
CONTROLLER = {
    *(f"{_READ} {kind}" for kind in (*_KINDS, "replicasets.apps", "pods")),
    "get configmaps",
    "get pods/log",
    "create,patch events",
}
VERIFY = {*(f"get {kind}" for kind in _KINDS), "get configmaps"}
DRY_RUN = {*(f"create,patch {kind}" for kind in _KINDS), "patch configmaps"}
