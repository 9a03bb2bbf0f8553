"""From a live object to the place in Git that it comes from, as Argo CD and Flux record it.

Argo CD: the annotation `argocd.argoproj.io/tracking-id` (`<application>:<group>/<kind>:<namespace>/<name>`, resource tracking in
its documentation), or its older label, then the Application. Flux: the labels `kustomize.toolkit.fluxcd.io/name` and
`/namespace`, then the Kustomization and its GitRepository (Flux API reference). What can't be
told for sure is told, and never guessed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from gitops_mk.core.objects import items, part, text
from gitops_mk.core.render.text import plain
from gitops_mk.model.base import Frozen
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.verdict import Reason

TRACKING_ID: Final = "argocd.argoproj.io/tracking-id"
INSTANCES: Final = ("app.kubernetes.io/instance", "argocd.argoproj.io/instance")
FLUX_NAME: Final = "kustomize.toolkit.fluxcd.io/name"
FLUX_NAMESPACE: Final = "kustomize.toolkit.fluxcd.io/namespace"
FLUX_HELM: Final = "helm.toolkit.fluxcd.io/name"
HELM: Final = "meta.helm.sh/release-name"

_SCP = re.compile(r"^(?:[A-Za-z0-9._-]+@)?([A-Za-z0-9.-]+):(?!//)(.+)$")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://(?:[^@/]*@)?([^/]*)(/.*)$")
_SHA = re.compile(r"^[0-9a-f]{40}([0-9a-f]{24})?$")
# A range of versions, which Argo CD looks for among the tags: `1.*`, `v1.2.x`, `>=1.0.0 <2.0.0`, `^1`.
_RANGE = re.compile(r"[*^~<>=|,\s]|^v?\d+(?:\.\d+)*(?:\.[xX])+$")
_HEADS = "refs/heads/"


class Source(Frozen):
    """Where a workload's manifests stand, and how far the cluster has come in syncing them.

    `revision` is the commit that was synced last, None while nobody can tell; `moving` says that a sync is under way or has
    failed, and why.
    """

    tool: str
    owner: str
    repo_url: str
    branch: str
    overlay: str
    revision: str | None = None
    synced: bool = False
    suspended: bool = False
    moving: str = ""


class NoSource(Frozen):
    """Why no place in Git can be told."""

    reason: Reason
    message: str
    # A sync tool says that it is its own, and what it names can't be seen.
    claimed: bool = False


@dataclass(frozen=True)
class SyncObjects:
    """What the sync tools say, each by `namespace/name`."""

    applications: Mapping[str, LiveObject] = field(default_factory=dict)
    kustomizations: Mapping[str, LiveObject] = field(default_factory=dict)
    git_repositories: Mapping[str, LiveObject] = field(default_factory=dict)

    @cached_property
    def applications_called(self) -> Mapping[str, list[str]]:
        """The Applications of each name, whatever their namespace: looked up for every workload."""
        found: dict[str, list[str]] = {}
        for key in self.applications:
            found.setdefault(key.partition("/")[2], []).append(key)
        return found


def by_name(objects: Iterable[LiveObject]) -> dict[str, LiveObject]:
    """Objects by `namespace/name`."""
    found = {}
    for item in objects:
        meta = part(item, "metadata")
        found[f"{text(meta, 'namespace')}/{text(meta, 'name')}"] = item
    return found


def find_source(live: LiveObject, known: SyncObjects) -> Source | NoSource:
    """The place in Git of a live workload. Two tools that both claim it are ambiguous."""
    meta = part(live, "metadata")
    labels, annotations = part(meta, "labels"), part(meta, "annotations")
    apps = _applications(live, labels, annotations, known)
    flux = _kustomization(live, labels, known)
    if apps and flux:
        return _no(Reason.AMBIGUOUS_SOURCE, f"Application {apps[0]} and Kustomization {flux} both claim it")
    if len(apps) > 1:
        return _no(Reason.AMBIGUOUS_SOURCE, f"{len(apps)} Applications claim it: {', '.join(apps[:3])}")
    if apps:
        return _argo(apps[0], known.applications[apps[0]])
    if flux:
        return _flux(flux, known)
    helm = text(labels, FLUX_HELM) or text(annotations, HELM)
    if helm:
        return _no(Reason.HELM_ONLY, f"Helm release {helm} makes it, and charts are not patched")
    tracking = text(annotations, TRACKING_ID)
    if tracking:
        said = f"its tracking-id names another object, or an Application that is not there: {_words(tracking)}"
        return _no(Reason.NO_SOURCE, said, claimed=True)
    return _no(Reason.NO_SOURCE, "neither Argo CD nor Flux says that it applied it")


def same_repository(a: str, b: str) -> bool:
    """True when two addresses mean one repository, whatever the protocol, the user or a `.git` at the end."""
    return _place(a) == _place(b)


def at_revision(source: Source, commit: str, contains: frozenset[str]) -> bool:
    """True when the cluster runs `commit` or a later one; `contains` are the commits known to come after it."""
    return source.revision is not None and (source.revision == commit or source.revision in contains)


def _applications(
    live: LiveObject, labels: Mapping[str, Any], annotations: Mapping[str, Any], known: SyncObjects
) -> list[str]:
    tracking = text(annotations, TRACKING_ID)
    if tracking.count(":") >= 2:
        app, _, rest = tracking.partition(":")
        if rest != _own_tracking(live):
            # Copied from another object with its annotations: Argo CD ignores such a claim, too.
            return []
        found = _named(app, known)
        # Two of one name in two namespaces: what they list tells them apart.
        return [key for key in found if _lists(known.applications[key], live)] or found if len(found) > 1 else found
    # Helm sets such a label, too: it counts only where the Application itself lists the object.
    named = {key for label in INSTANCES if text(labels, label) for key in _named(text(labels, label), known)}
    return sorted(key for key in named if _lists(known.applications[key], live))


def _named(app: str, known: SyncObjects) -> list[str]:
    """The Applications that a name means: `<namespace>_<name>` where they live outside Argo CD's own namespace."""
    namespace, _, name = app.rpartition("_")
    if not namespace:
        return known.applications_called.get(app, [])
    key = f"{namespace}/{name}"
    return [key] if key in known.applications else []


def _own_tracking(live: LiveObject) -> str:
    group, kind, namespace, name = _identity(live)
    return f"{group}/{kind}:{namespace}/{name}"


def _lists(app: LiveObject, live: LiveObject) -> bool:
    return any(
        tuple(text(item, key) for key in ("group", "kind", "namespace", "name")) == _identity(live)
        for item in items(part(app, "status"), "resources")
    )


def _identity(live: LiveObject) -> tuple[str, str, str, str]:
    meta = part(live, "metadata")
    group = text(live, "apiVersion").rpartition("/")[0]
    return group, text(live, "kind"), text(meta, "namespace"), text(meta, "name")


def _kustomization(live: LiveObject, labels: Mapping[str, Any], known: SyncObjects) -> str | None:
    name, namespace = text(labels, FLUX_NAME), text(labels, FLUX_NAMESPACE)
    if not name or not namespace:
        return None
    key = f"{namespace}/{name}"
    inventory = items(part(known.kustomizations.get(key), "status", "inventory"), "entries")
    group, kind, where, own = _identity(live)
    # The labels may have come with a copy of another object: the inventory tells what was applied.
    listed = not inventory or f"{where}_{own}_{group}_{kind}" in {text(entry, "id") for entry in inventory}
    return key if listed else None


def _argo(key: str, app: LiveObject) -> Source | NoSource:
    spec, status = part(app, "spec"), part(app, "status")
    if spec.get("sourceHydrator"):
        return _no(Reason.RENDERED_SOURCE, f"Application {key} syncs manifests that a hydrator rendered")
    sources = items(spec, "sources") or tuple(one for one in (part(spec, "source"),) if one)
    types = _texts(status, "sourceTypes") or (text(status, "sourceType"),)
    with_path = []
    for number, source in enumerate(sources):
        kind = types[number] if number < len(types) else ""
        if source.get("chart") or source.get("helm") or kind == "Helm":
            continue
        if source.get("plugin") or kind == "Plugin":
            return _no(Reason.RENDERED_SOURCE, f"Application {key} renders with a plugin")
        # A source with a `ref` and no path only lends values to a chart.
        if text(source, "path"):
            with_path.append((number, source))
    if not with_path and sources:
        return _no(Reason.HELM_ONLY, f"Application {key} has no source but Helm charts")
    if len(with_path) != 1:
        return _no(Reason.AMBIGUOUS_SOURCE, f"Application {key} has {len(with_path)} sources with a path, expected one")
    number, source = with_path[0]
    sync = part(status, "sync")
    synced = sync.get("status") == "Synced"
    # Out of sync, it is the revision that was looked at, and not the one that runs.
    revisions = (_texts(sync, "revisions") or (text(sync, "revision"),)) if synced else ()
    return _source(
        tool="argocd",
        owner=f"Application {key}",
        url=text(source, "repoURL"),
        branch=text(source, "targetRevision") or "HEAD",
        path=text(source, "path"),
        revision=revisions[number] if number < len(revisions) else "",
        synced=synced,
        suspended=part(status, "health").get("status") == "Suspended",
        moving=_argo_trouble(status),
    )


def _argo_trouble(status: Mapping[str, Any]) -> str:
    phase = part(status, "operationState").get("phase")
    if phase in ("Running", "Terminating"):
        return "a sync is under way"
    if phase in ("Failed", "Error"):
        return f"the last sync failed: {_words(text(part(status, 'operationState'), 'message'))}"
    health = part(status, "health").get("status")
    return f"health is {health}" if health in ("Degraded", "Missing", "Unknown") else ""


def _flux(key: str, known: SyncObjects) -> Source | NoSource:
    kustomization = known.kustomizations.get(key)
    if kustomization is None:
        return _no(Reason.NO_SOURCE, f"its labels name Kustomization {key}, which is not there", claimed=True)
    spec, status = part(kustomization, "spec"), part(kustomization, "status")
    ref = part(spec, "sourceRef")
    if ref.get("kind") != "GitRepository":
        return _no(Reason.RENDERED_SOURCE, f"Kustomization {key} reads {ref.get('kind')}, expected a GitRepository")
    where = f"{text(ref, 'namespace') or key.partition('/')[0]}/{text(ref, 'name')}"
    repository = known.git_repositories.get(where)
    if repository is None:
        return _no(
            Reason.NO_SOURCE, f"Kustomization {key} reads GitRepository {where}, which is not there", claimed=True
        )
    repo = part(repository, "spec")
    git = part(repo, "ref")
    # In the order in which Flux heeds them; a `name` may be that of a branch.
    first = next((name for name in ("commit", "name", "semver", "tag") if text(git, name)), "branch")
    branch = text(git, first)
    if first != "branch" and not (first == "name" and branch.startswith(_HEADS)):
        return _no(Reason.PINNED_SOURCE, f"GitRepository {where} follows {first} {branch!r}, and no branch")
    ready = _condition(status, "Ready")
    applied = _sha_of(text(status, "lastAppliedRevision"))
    return _source(
        tool="flux",
        owner=f"Kustomization {key}",
        url=text(repo, "url"),
        branch=branch or "master",
        path=text(spec, "path") or ".",
        revision=applied,
        synced=ready.get("status") == "True" and _sha_of(text(status, "lastAttemptedRevision")) == applied,
        suspended=spec.get("suspend") is True or repo.get("suspend") is True,
        moving=""
        if ready.get("status") == "True"
        else f"not ready: {_words(text(ready, 'message') or 'no status yet')}",
    )


def _source(
    *,
    tool: str,
    owner: str,
    url: str,
    branch: str,
    path: str,
    revision: str,
    synced: bool,
    suspended: bool,
    moving: str,
) -> Source | NoSource:
    overlay = posixpath.normpath(path.strip("/") or ".")
    if overlay.split("/")[0] == ".." or not url:
        return _no(Reason.NO_SOURCE, f"{owner} names path {path!r} of {url!r}, which is no folder of a repository")
    # A tag can't be told from a branch by its name: where it isn't the base branch, it is of no use either way.
    branch = branch.removeprefix(_HEADS)
    if _SHA.match(branch.lower()) or _RANGE.search(branch) or branch.startswith("refs/"):
        return _no(Reason.PINNED_SOURCE, f"{owner} follows {_words(branch)}, and no branch")
    return Source(
        tool=tool,
        owner=owner,
        repo_url=url,
        branch=branch,
        overlay=overlay,
        revision=revision if _SHA.match(revision) else None,
        synced=synced,
        suspended=suspended,
        moving=moving,
    )


def _sha_of(revision: str) -> str:
    """The commit in Flux's `main@sha1:…` (and its older `main/…`); empty where there is none."""
    sha = re.split(r"[:/]", revision)[-1]
    return sha if _SHA.match(sha) else ""


def _place(url: str) -> tuple[str, str]:
    where = url.strip().removeprefix("file://")
    match = _URL.match(where) or _SCP.match(where)
    if match is None:
        return "", posixpath.normpath(where.rstrip("/").removesuffix(".git"))
    host = match[1].rpartition("@")[2].lower()
    if where.startswith(("ssh://", "https://", "http://")) and host.endswith((":22", ":443", ":80")):
        host = host.rpartition(":")[0]
    return host, match[2].strip("/").removesuffix(".git")


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((item for item in items(status, "conditions") if item.get("type") == kind), {})


def _texts(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The list at `key`, each in its place: what is no text is empty."""
    found = value.get(key)
    return tuple(item if isinstance(item, str) else "" for item in found) if isinstance(found, list) else ()


def _words(said: str) -> str:
    return plain(said, most=160)


def _no(reason: Reason, message: str, *, claimed: bool = False) -> NoSource:
    return NoSource(reason=reason, message=message, claimed=claimed)
