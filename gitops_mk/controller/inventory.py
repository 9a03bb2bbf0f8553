"""Ask a cluster for all workloads of ours, in a number of calls that does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gitops_mk.core.config_map import carrier_of
from gitops_mk.core.enrolment import LABEL_ENABLED, is_enrolled, refused_place
from gitops_mk.core.inventory import SELECTOR, Found, Home, find, missing, namespaces_of, trim
from gitops_mk.core.live import NotNow
from gitops_mk.core.source import SyncObjects, by_name
from gitops_mk.errors import ClusterError, MkError
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.settings import RepoSettings
from gitops_mk.model.verdict import Reason
from gitops_mk.model.workload import API_VERSIONS, KnobMap
from gitops_mk.ports import Cluster, ManifestBuilder

# What Argo CD and Flux say, in the order of the fields of `SyncObjects`.
SYNC_KINDS = ("Application", "Kustomization", "GitRepository")


@dataclass(frozen=True)
class Inventory:
    """What was found, and what could not be asked."""

    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scope:
    """One list to ask for: a kind, where, and by which label."""

    kind: str
    namespace: str | None
    labels: str


def scopes(settings: RepoSettings) -> tuple[Scope, ...]:
    """The lists that show every workload of ours: by label where discovery is open, whole where some are listed by name."""
    found = []
    for namespace in namespaces_of(settings):
        listed = {w.kind for w in settings.workloads if w.namespace == namespace}
        for kind in API_VERSIONS:
            if kind in listed:
                found.append(Scope(kind, namespace, ""))
            elif namespace in settings.discovery.namespaces:
                found.append(Scope(kind, namespace, SELECTOR))
    return tuple(found)


def take_inventory(cluster: Cluster, home: Home) -> Inventory:
    """Every workload of ours. A list that this identity may not ask for becomes a note. Raises ClusterError otherwise."""
    notes: dict[Scope, str] = {}
    known = sync_objects(cluster, notes)
    found: list[Found] = []
    for scope in scopes(home.settings):
        for live in _items(cluster, scope, notes):
            judged = find(live, known, home)
            if judged is not None:
                found.append(judged)
    unheard = {(scope.kind, scope.namespace): note for scope, note in notes.items()}
    return Inventory((*found, *missing(home.settings, found, unheard)), tuple(notes.values()))


def unenrolled(
    found: Found, files: Mapping[str, bytes], settings: RepoSettings, builder: ManifestBuilder
) -> NotNow | None:
    """Why a workload that is ready is left alone all the same: only its live object has the label. None where Git agrees.

    `files` and `settings` are those of the base branch. Raises ManifestError and InputError.
    """
    if found.not_now is not None or found.settings is None or settings.workload(found.ref) is not None:
        return None
    overlay = found.settings.overlay
    built = builder.build(files, overlay)
    if is_enrolled(settings, found.ref, built):
        refused = refused_place(settings, found.settings, files, built)
        return NotNow(Reason.AMBIGUOUS_SOURCE, refused) if refused else None
    said = f'{overlay!r} on the base branch does not build it with the label {LABEL_ENABLED}: "true"'
    return NotNow(Reason.NOT_ENABLED, f"{said}; one on the live object alone enrols nothing")


def with_carrier(
    found: Found,
    files: Mapping[str, bytes],
    settings: RepoSettings,
    builder: ManifestBuilder,
    cluster: Cluster | None,
) -> Found:
    """The workload with the ConfigMap that carries its knobs, as the cluster has it; unchanged where annotations do.

    `files` and `settings` are those of the base branch. Raises ManifestError, InputError and ClusterError.
    """
    if found.delivery == "annotation" or found.not_now is not None or found.settings is None:
        return found
    carrier = carrier_of(settings, found.settings, builder.build(files, found.settings.overlay))
    if not isinstance(carrier, KnobMap):
        # The annotation stands on the live object alone.
        return replace(found, delivery="annotation")
    live = cluster.get(carrier.kind, carrier.name, namespace=carrier.namespace) if cluster is not None else None
    return found.carried_by(carrier, live, settings.cluster.field_managers)


def confirmed(
    inventory: Inventory,
    files: Mapping[str, bytes],
    settings: RepoSettings,
    builder: ManifestBuilder,
    cluster: Cluster | None = None,
) -> Inventory:
    """The inventory held against the base branch: what Git does not enrol, or can't be built, is not ready."""

    def judged(found: Found) -> Found:
        try:
            not_now = unenrolled(found, files, settings, builder)
            if not_now is None:
                return with_carrier(found, files, settings, builder, cluster)
        except ClusterError as exc:
            not_now = NotNow(Reason.CLUSTER_UNREACHABLE, exc.message)
        except MkError as exc:
            not_now = NotNow(Reason.BUILD_FAILED, exc.message)
        return replace(found, not_now=not_now)

    return replace(inventory, found=tuple(map(judged, inventory.found)))


def sync_objects(cluster: Cluster, notes: dict[Scope, str]) -> SyncObjects:
    """What Argo CD and Flux say; nothing of one that is not installed. What may not be listed is put into `notes`."""
    return SyncObjects(*(by_name(_items(cluster, Scope(kind, None, ""), notes, whole=True)) for kind in SYNC_KINDS))


def as_kept(item: LiveObject, kind: str, *, whole: bool) -> LiveObject:
    """What is kept of an item of a list or a watch; `whole`: all of it. Items of a list carry neither kind nor version."""
    return item if whole else trim({**item, "kind": kind, "apiVersion": API_VERSIONS.get(kind)})


def _items(cluster: Cluster, scope: Scope, notes: dict[Scope, str], *, whole: bool = False) -> Iterator[LiveObject]:
    try:
        for page in cluster.pages(scope.kind, namespace=scope.namespace, labels=scope.labels):
            for item in page.items:
                yield as_kept(item, scope.kind, whole=whole)
    except ClusterError as exc:
        if exc.status != 403:
            raise
        where = f" in {scope.namespace}" if scope.namespace else ""
        notes[scope] = f"may not list {scope.kind}{where}: {exc.message}"
