"""From a live object to the place in Git that it comes from, as Argo CD and Flux record it.

Argo CD: the annotation `argocd.argoproj.io/tracking-id` (`<application>:<group>/<kind>:<namespace>/<name>`, resource tracking in
its documentation), then the Application. Flux: the labels `kustomize.toolkit.fluxcd.io/name` and `/namespace`, then the
Kustomization and its GitRepository (Flux API reference). What can't be told for sure is told, and never guessed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gitops_mk.model.base import Frozen
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.verdict import Reason

TRACKING_ID: Final = "argocd.argoproj.io/tracking-id"
INSTANCE: Final = "app.kubernetes.io/instance"
FLUX_NAME: Final = "kustomize.toolkit.fluxcd.io/name"
FLUX_NAMESPACE: Final = "kustomize.toolkit.fluxcd.io/namespace"
FLUX_HELM: Final = "helm.toolkit.fluxcd.io/name"
HELM: Final = "meta.helm.sh/release-name"

_SCP = re.compile(r"^(?:[A-Za-z0-9._-]+@)?([A-Za-z0-9.-]+):(?!//)(.+)$")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://(?:[^@/]*@)?([^/]*)(/.*)$")
_SHA = re.compile(r"^[0-9a-f]{40}([0-9a-f]{24})?$")


class Source(Frozen):
    """Where a workload's manifests stand, and how far the cluster has come in syncing them.

    `revision` is the commit that was synced last; `moving` says that a sync is under way or has failed, and why.
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


@dataclass(frozen=True)
class SyncObjects:
    """What the sync tools say, each by `namespace/name`."""

    applications: Mapping[str, LiveObject] = field(default_factory=dict)
    kustomizations: Mapping[str, LiveObject] = field(default_factory=dict)
    git_repositories: Mapping[str, LiveObject] = field(default_factory=dict)


def by_name(objects: Iterable[LiveObject]) -> dict[str, LiveObject]:
    """Objects by `namespace/name`."""
    found = {}
    for item in objects:
        meta = _map(item, "metadata")
        found[f"{meta.get('namespace', '')}/{meta.get('name', '')}"] = item
    return found


def find_source(live: LiveObject, known: SyncObjects) -> Source | NoSource:
    """The place in Git of a live workload. Two tools that both claim it are ambiguous."""
    meta = _map(live, "metadata")
    labels, annotations = _map(meta, "labels"), _map(meta, "annotations")
    apps = _applications(live, labels, annotations, known)
    flux = (
        f"{labels[FLUX_NAMESPACE]}/{labels[FLUX_NAME]}"
        if labels.get(FLUX_NAME) and labels.get(FLUX_NAMESPACE)
        else None
    )
    if apps and flux:
        return _no(Reason.AMBIGUOUS_SOURCE, f"Application {apps[0]} and Kustomization {flux} both claim it")
    if len(apps) > 1:
        return _no(Reason.AMBIGUOUS_SOURCE, f"{len(apps)} Applications claim it: {', '.join(apps[:3])}")
    if apps:
        return _argo(apps[0], known.applications[apps[0]])
    if flux:
        return _flux(flux, known)
    helm = labels.get(FLUX_HELM) or annotations.get(HELM)
    if helm:
        return _no(Reason.HELM_ONLY, f"Helm release {helm} makes it, and charts are not patched")
    if annotations.get(TRACKING_ID):
        return _no(
            Reason.NO_SOURCE, f"its tracking-id names an Application that is not there: {annotations[TRACKING_ID]}"
        )
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
    tracking = annotations.get(TRACKING_ID)
    if isinstance(tracking, str) and tracking.count(":") >= 2:
        app, _, rest = tracking.partition(":")
        if rest != _own_tracking(live):
            # Copied from another object with its annotations: Argo CD ignores such a claim, too.
            return []
        # `<namespace>_<name>` where Applications live outside Argo CD's own namespace.
        namespace, _, name = app.rpartition("_")
        return [
            key
            for key in known.applications
            if key == f"{namespace}/{name}" or (not namespace and key.partition("/")[2] == app)
        ]
    label = labels.get(INSTANCE)
    if not label:
        return []
    # Helm sets the same label: it counts only where the Application itself lists the object.
    return [key for key, app in known.applications.items() if key.partition("/")[2] == label and _lists(app, live)]


def _own_tracking(live: LiveObject) -> str:
    meta = _map(live, "metadata")
    group = str(live.get("apiVersion", "")).rpartition("/")[0]
    return f"{group}/{live.get('kind')}:{meta.get('namespace', '')}/{meta.get('name')}"


def _lists(app: LiveObject, live: LiveObject) -> bool:
    meta = _map(live, "metadata")
    return any(
        (item.get("kind"), item.get("namespace"), item.get("name"))
        == (live.get("kind"), meta.get("namespace"), meta.get("name"))
        for item in _map(app, "status").get("resources") or ()
    )


def _argo(key: str, app: LiveObject) -> Source | NoSource:
    spec, status = _map(app, "spec"), _map(app, "status")
    if spec.get("sourceHydrator"):
        return _no(Reason.RENDERED_SOURCE, f"Application {key} syncs manifests that a hydrator rendered")
    sources = spec.get("sources") or ([spec["source"]] if spec.get("source") else [])
    types = status.get("sourceTypes") or [status.get("sourceType")]
    plain = []
    for number, source in enumerate(sources):
        kind = types[number] if number < len(types) else None
        if source.get("chart") or source.get("helm") or kind == "Helm":
            continue
        if source.get("plugin") or kind == "Plugin":
            return _no(Reason.RENDERED_SOURCE, f"Application {key} renders with a plugin")
        # A source with a `ref` and no path only lends values to a chart.
        if source.get("path"):
            plain.append((number, source))
    if not plain and sources:
        return _no(Reason.HELM_ONLY, f"Application {key} has no source but Helm charts")
    if len(plain) != 1:
        return _no(Reason.AMBIGUOUS_SOURCE, f"Application {key} has {len(plain)} sources with a path, expected one")
    number, source = plain[0]
    sync = _map(status, "sync")
    revisions = sync.get("revisions") or [sync.get("revision")]
    revision = revisions[number] if number < len(revisions) else None
    return _source(
        tool="argocd",
        owner=f"Application {key}",
        url=str(source.get("repoURL", "")),
        branch=str(source.get("targetRevision") or "HEAD"),
        path=str(source["path"]),
        revision=revision,
        synced=sync.get("status") == "Synced",
        suspended=_map(status, "health").get("status") == "Suspended",
        moving=_argo_trouble(status),
    )


def _argo_trouble(status: Mapping[str, Any]) -> str:
    phase = _map(status, "operationState").get("phase")
    if phase in ("Running", "Terminating"):
        return "a sync is under way"
    if phase in ("Failed", "Error"):
        return f"the last sync failed: {_words(_map(status, 'operationState').get('message'))}"
    health = _map(status, "health").get("status")
    return f"health is {health}" if health in ("Degraded", "Missing", "Unknown") else ""


def _flux(key: str, known: SyncObjects) -> Source | NoSource:
    kustomization = known.kustomizations.get(key)
    if kustomization is None:
        return _no(Reason.NO_SOURCE, f"its labels name Kustomization {key}, which is not there")
    spec, status = _map(kustomization, "spec"), _map(kustomization, "status")
    ref = _map(spec, "sourceRef")
    if ref.get("kind") != "GitRepository":
        return _no(Reason.RENDERED_SOURCE, f"Kustomization {key} reads {ref.get('kind')}, expected a GitRepository")
    where = f"{ref.get('namespace') or key.partition('/')[0]}/{ref.get('name')}"
    repository = known.git_repositories.get(where)
    if repository is None:
        return _no(Reason.NO_SOURCE, f"Kustomization {key} reads GitRepository {where}, which is not there")
    repo = _map(repository, "spec")
    git = _map(repo, "ref")
    pinned = next((name for name in ("commit", "tag", "semver", "name") if git.get(name)), None)
    if pinned:
        return _no(Reason.PINNED_SOURCE, f"GitRepository {where} follows {pinned} {git[pinned]!r}, and no branch")
    ready = _condition(status, "Ready")
    applied = _sha_of(status.get("lastAppliedRevision"))
    return _source(
        tool="flux",
        owner=f"Kustomization {key}",
        url=str(repo.get("url", "")),
        branch=str(git.get("branch") or "master"),
        path=str(spec.get("path") or "."),
        revision=applied,
        synced=ready.get("status") == "True" and _sha_of(status.get("lastAttemptedRevision")) == applied,
        suspended=spec.get("suspend") is True or repo.get("suspend") is True,
        moving="" if ready.get("status") == "True" else f"not ready: {_words(ready.get('message') or 'no status yet')}",
    )


def _source(
    *,
    tool: str,
    owner: str,
    url: str,
    branch: str,
    path: str,
    revision: Any,
    synced: bool,
    suspended: bool,
    moving: str,
) -> Source | NoSource:
    overlay = posixpath.normpath(path.strip("/") or ".")
    if overlay.startswith("..") or not url:
        return _no(Reason.NO_SOURCE, f"{owner} names path {path!r} of {url!r}, which is no folder of a repository")
    if _SHA.match(branch):
        return _no(Reason.PINNED_SOURCE, f"{owner} follows commit {branch[:12]}, and no branch")
    return Source(
        tool=tool,
        owner=owner,
        repo_url=url,
        branch=branch,
        overlay=overlay,
        revision=revision if isinstance(revision, str) and _SHA.match(revision) else None,
        synced=synced,
        suspended=suspended,
        moving=moving,
    )


def _sha_of(revision: Any) -> str | None:
    """The commit in Flux's `main@sha1:…` (and its older `main/…`)."""
    text = str(revision or "")
    sha = re.split(r"[:/]", text)[-1]
    return sha if _SHA.match(sha) else None


def _place(url: str) -> tuple[str, str]:
    text = url.strip()
    match = _URL.match(text) or _SCP.match(text)
    if match is None:
        return "", posixpath.normpath(text.removeprefix("file://").rstrip("/").removesuffix(".git"))
    host = match[1].rpartition("@")[2].lower()
    if text.startswith(("ssh://", "https://", "http://")) and host.endswith((":22", ":443", ":80")):
        host = host.rpartition(":")[0]
    return host, match[2].strip("/").removesuffix(".git")


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((item for item in status.get("conditions") or () if item.get("type") == kind), {})


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _words(text: Any) -> str:
    line = " ".join(str(text or "").split())
    return line if len(line) <= 160 else line[:159] + "…"


def _no(reason: Reason, message: str) -> NoSource:
    return NoSource(reason=reason, message=message)
