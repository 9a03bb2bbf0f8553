"""Set a repository up: find the workloads that carry knobs, and the configuration that lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gitops_mk.core import yamldocs
from gitops_mk.core.checks.facts import TEMPLATE_ANNOTATIONS
from gitops_mk.core.kustomization import closure
from gitops_mk.core.render.component import KUSTOMIZATION_NAMES
from gitops_mk.errors import InputError, ManifestError
from gitops_mk.model.knob import knobs_from_annotations
from gitops_mk.model.settings import WorkloadSettings
from gitops_mk.model.workload import API_VERSIONS
from gitops_mk.ports import ManifestBuilder


def overlays_of(files: Mapping[str, bytes]) -> list[str]:
    """Folders with a kustomization that no other one builds on: what a syncing tool may point at."""
    folders = sorted(path.rpartition("/")[0] or "." for path in files if path.rpartition("/")[2] in KUSTOMIZATION_NAMES)
    below: set[str] = set()
    for folder in folders:
        try:
            reached = closure(files, folder).directories
        except InputError:
            continue
        below |= set(reached) - {folder}
    return [folder for folder in folders if folder not in below]


def find_workloads(
    files: Mapping[str, bytes], builder: ManifestBuilder, overlays: Sequence[str] = ()
) -> list[WorkloadSettings]:
    """The workloads with knob annotations, each with the first overlay that builds it. Raises for an overlay that was asked for."""
    found: dict[str, WorkloadSettings] = {}
    for overlay in overlays or overlays_of(files):
        try:
            built = builder.build(files, overlay.rstrip("/"))
        except (ManifestError, InputError):
            if overlays:
                raise
            continue
        for document in yamldocs.documents(built):
            ident = document.id
            if ident.kind not in API_VERSIONS or not knobs_from_annotations(
                yamldocs.annotations_of(document, TEMPLATE_ANNOTATIONS)
            ):
                continue
            workload = WorkloadSettings.parse(
                {
                    "namespace": ident.namespace or "default",
                    "name": ident.name,
                    "kind": ident.kind,
                    "overlay": overlay.rstrip("/"),
                },
                what=f"{ident} in {overlay}",
            )
            found.setdefault(workload.ref.key, workload)
    return list(found.values())


def config_yaml(branch: str, workloads: Sequence[WorkloadSettings]) -> str:
    """A configuration that lists them."""
    lines = [
        "# yaml-language-server: $schema=config.schema.json",
        "# ModeKeeper GitOps: which workloads, where they live, what may be done. See docs/config.md.",
        "version: v1",
        f"base_branch: {branch}",
        "defaults:",
        "  passport: pilot",
        "forge:",
        "  kind: local",
        "  required_approvals: 1",
    ]
    lines.append("workloads:" if workloads else "workloads: []")
    for workload in workloads:
        lines += [
            f"  - namespace: {workload.namespace}",
            f"    name: {workload.name}",
            f"    kind: {workload.kind}",
            f"    overlay: {workload.overlay}",
        ]
    return "\n".join(lines) + "\n"
