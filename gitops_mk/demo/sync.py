"""A stand-in for Argo CD and the kubelet: builds what was merged and hands the pod its annotations, or its ConfigMap."""

from __future__ import annotations

from pathlib import Path

from gitops_mk.adapters.artifacts import FolderStore
from gitops_mk.controller.tools import Tools
from gitops_mk.core import yamldocs
from gitops_mk.core.config_map import carrier_of
from gitops_mk.core.places import DATA, TEMPLATE
from gitops_mk.demo.volume import project
from gitops_mk.errors import InputError
from gitops_mk.model.settings import RepoSettings, WorkloadSettings
from gitops_mk.model.workload import KnobMap
from gitops_mk.ports import Forge


def sync(forge: Forge, workload: WorkloadSettings, annotations_file: Path, tools: Tools) -> str:
    """Build the base branch with kustomize and write the pod's annotations file; gives the revision that was synced.

    The file has the Downward API's format: `key="value"`, a line each, the value as a quoted Go string
    (kubernetes.io/docs/concepts/workloads/pods/downward-api). It is replaced by a rename, as the kubelet does.
    """
    forge.refresh()
    revision = forge.base_tip()
    built = tools.builder.build(forge.repo.files(revision), workload.overlay)
    ref = workload.ref
    document = yamldocs.find_document(built, ref.api_version, ref.kind, ref.namespace, ref.name)
    if document is None:
        raise InputError(f"{workload.overlay} builds no {ref}")
    annotations = yamldocs.annotations_of(document, TEMPLATE)
    lines = [f'{key}="{value}"\n' for key, value in sorted(annotations.items())]
    FolderStore(annotations_file.parent).text(annotations_file.name, "".join(lines))
    return revision


def sync_config_map(
    forge: Forge, settings: RepoSettings, workload: WorkloadSettings, folder: Path, tools: Tools
) -> str:
    """Build the base branch and bring the workload's ConfigMap to the folder it is mounted as; gives the revision.

    Nothing restarts. Raises InputError for a workload that no ConfigMap delivers to.
    """
    forge.refresh()
    revision = forge.base_tip()
    built = tools.builder.build(forge.repo.files(revision), workload.overlay)
    carrier = carrier_of(settings, workload, built)
    document = yamldocs.find_document(built, carrier.api_version, carrier.kind, carrier.namespace, carrier.name)
    if not isinstance(carrier, KnobMap) or document is None:
        raise InputError(f"{workload.overlay} builds no ConfigMap that carries the knobs of {workload.ref}")
    data = {str(path[-1]): leaf.text for path, leaf in document.leaves.items() if path[:-1] == DATA}
    project(folder, data)
    return revision
