"""Set a repository up: find the workloads that carry knobs, and the configuration that lists them."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gitops_mk.core import yamldocs
from gitops_mk.core.checks.facts import document_knobs
from gitops_mk.core.documents import parse_yaml
from gitops_mk.core.kustomization import NAMES, closure
from gitops_mk.errors import InputError, ManifestError
from gitops_mk.model.settings import CONFIG_PATH, RepoSettings, WorkloadSettings
from gitops_mk.model.workload import API_VERSIONS
from gitops_mk.ports import ManifestBuilder

_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def overlays_of(files: Mapping[str, bytes]) -> list[str]:
    """Folders with a kustomization that no other one builds on: what a syncing tool may point at."""
    folders = sorted(path.rpartition("/")[0] or "." for path in files if path.rpartition("/")[2] in NAMES)
    below: set[str] = set()
    for folder in folders:
        try:
            reached = closure(files, folder).directories
        except InputError:
            continue
        below |= set(reached) - {folder}
    return [folder for folder in folders if folder not in below]


def builds_on(files: Mapping[str, bytes], overlays: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each of `overlays` the folders that build on it: what changes there reaches them too."""
    folders = sorted({posixpath.dirname(path) or "." for path in files if posixpath.basename(path) in NAMES})
    found: dict[str, list[str]] = {overlay: [] for overlay in overlays}
    for folder in folders:
        try:
            reached = closure(files, folder).directories - {folder}
        except InputError:
            continue
        for overlay, above in found.items():
            if posixpath.normpath(overlay) in reached:
                above.append(folder)
    return {overlay: tuple(above) for overlay, above in found.items()}


@dataclass
class Found:
    """What a repository holds for a configuration: workloads, each in one overlay; and, for people, what was left out."""

    workloads: list[WorkloadSettings] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_workloads(files: Mapping[str, bytes], builder: ManifestBuilder, overlays: Sequence[str] = ()) -> Found:
    """The workloads with knob annotations, each with the first overlay that builds it, and no two that a configuration
    can't list together. Raises ManifestError for an overlay that was asked for and does not build.
    """
    found = Found()
    also: dict[str, list[str]] = {}
    for overlay in dict.fromkeys(overlay.rstrip("/") or "." for overlay in overlays or overlays_of(files)):
        try:
            documents = yamldocs.documents(builder.build(files, overlay))
        except (ManifestError, InputError) as exc:
            if overlays:
                raise
            found.notes.append(f"{overlay} is left out: {exc.message}")
            continue
        for document in documents:
            try:
                workload = _workload(document, overlay)
                if workload is None:
                    continue
                if any(workload.ref == other.ref for other in found.workloads):
                    also.setdefault(workload.ref.key, []).append(overlay)
                    continue
                parse_yaml(RepoSettings, config_yaml("main", [*found.workloads, workload]).encode(), what=CONFIG_PATH)
            except InputError as exc:
                found.notes.append(f"{document.id.whole} in {overlay} is left out: {exc.message}")
            else:
                found.workloads.append(workload)
    for workload in found.workloads:
        if others := also.get(workload.ref.key):
            found.notes.append(
                f"{workload.ref} is also built by {', '.join(others)}: one overlay a workload; "
                f"edit `overlay` ({workload.overlay}) to choose another"
            )
    return found


def _workload(document: yamldocs.Leaves, overlay: str) -> WorkloadSettings | None:
    """A built object as a workload; None when it is of another kind or carries no knobs. Raises InputError."""
    ident = document.id.whole
    if API_VERSIONS.get(ident.kind) != ident.api_version:
        return None
    if not document_knobs(document):
        return None
    fields = {"namespace": ident.namespace, "name": ident.name, "kind": ident.kind, "overlay": overlay}
    return WorkloadSettings.parse(fields, what="its identity")


def config_yaml(branch: str, workloads: Sequence[WorkloadSettings]) -> str:
    """A configuration that lists them."""
    lines = [
        "# yaml-language-server: $schema=config.schema.json",
        "# ModeKeeper GitOps: which workloads, where they live, what may be done. See docs/config.md.",
        "version: v1",
        f"base_branch: {_scalar(branch)}",
        "defaults:",
        "  passport: pilot",
        "forge:",
        "  kind: local",
        "  required_approvals: 1",
    ]
    lines.append("workloads:" if workloads else "workloads: []")
    for workload in workloads:
        lines += [
            f"  - namespace: {_scalar(workload.namespace)}",
            f"    name: {_scalar(workload.name)}",
            f"    kind: {workload.kind}",
            f"    overlay: {_scalar(workload.overlay)}",
        ]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """Text as YAML reads it back: a namespace may be called `123` or `on`."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9./_-]*", text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text)
