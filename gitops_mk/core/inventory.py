"""The workloads of a cluster that are ours to look at: each with where it comes from, and why it is left alone where it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from gitops_mk.core.config_map import CONFIG_MAP, may_deliver
from gitops_mk.core.enrolment import LABEL_ENABLED, admitted
from gitops_mk.core.live import NotNow, at_rest, foreign_owner, live_knobs
from gitops_mk.core.objects import items, part, text
from gitops_mk.core.source import NoSource, Source, SyncObjects, find_source, same_repository
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.knob import ANNOTATION_PREFIX, KNOWN_KNOBS
from gitops_mk.model.settings import RepoSettings, WorkloadSettings
from gitops_mk.model.verdict import Reason
from gitops_mk.model.workload import TEMPLATED_KINDS, Delivery, KnobMap, WorkloadRef

SELECTOR: Final = f"{LABEL_ENABLED}=true"
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_TEMPLATE_PATH: Final = ("f:spec", "f:template", "f:metadata", "f:annotations")


@dataclass(frozen=True)
class Found:
    """A workload as the cluster has it. `settings` is None where it is none of this repository's; `not_now` says why it is
    left alone for the moment. `config_map`: the live ConfigMap that carries its knobs, where it is delivered by one and was
    asked for.
    """

    ref: WorkloadRef
    live: LiveObject | None
    source: Source | NoSource
    settings: WorkloadSettings | None
    not_now: NotNow | None
    delivery: Delivery = "annotation"
    config_map: LiveObject | None = None

    @property
    def knobs(self) -> dict[str, int]:
        """The knobs it runs with; none of a ConfigMap that was not asked for."""
        carrier = self.live if self.delivery == "annotation" else self.config_map
        return live_knobs(carrier) if carrier is not None else {}

    def carried_by(self, carrier: KnobMap, config_map: LiveObject | None, managers: Iterable[str] = ()) -> Found:
        """The same with its ConfigMap as the cluster has it, and why it is left alone where that is none to plan for."""
        found = replace(self, config_map=config_map)
        if config_map is None:
            return replace(found, not_now=NotNow(Reason.DEPLOYMENT_MISSING, f"{carrier} is not in the cluster"))
        if not found.knobs:
            return replace(found, not_now=NotNow(Reason.UNKNOWN_KNOB, f"{carrier} holds no knob by its bare name"))
        # Whatever else looks like a knob in it is nobody's business; what a passport declares, verify looks at.
        known = {knob: value for knob, value in found.knobs.items() if knob in KNOWN_KNOBS}
        return replace(found, not_now=foreign_owner(config_map, known, managers))


@dataclass(frozen=True)
class Home:
    """The GitOps repository that asks: its addresses, its base branch, its configuration."""

    urls: tuple[str, ...]
    branch: str
    settings: RepoSettings


def find(live: LiveObject, known: SyncObjects, home: Home) -> Found | None:
    """Judge one live object; None for one that is neither listed nor labelled, or whose name is longer than we take."""
    ref = _ref(live)
    if ref is None:
        return None
    listed = home.settings.workload(ref)
    if listed is None and part(live, "metadata", "labels").get(LABEL_ENABLED) != "true":
        return None
    source = find_source(live, known)
    if listed is None and ref.namespace not in home.settings.discovery.namespaces:
        said = f"namespace {ref.namespace} is not among `discovery.namespaces` of this repository"
        return Found(ref, live, source, None, NotNow(Reason.NOT_ENABLED, said))
    elsewhere = _elsewhere(source, listed, home)
    if elsewhere is not None:
        return Found(ref, live, source, listed, elsewhere)
    overlay = listed.overlay if listed is not None else source.overlay if isinstance(source, Source) else "."
    settings = admitted(home.settings, ref, overlay)
    if settings is None:
        return Found(
            ref, live, source, None, NotNow(Reason.NO_SOURCE, f"{overlay!r} is no folder that can be written to")
        )
    tracked = source if isinstance(source, Source) else None
    if may_deliver(home.settings, settings, part(live, "metadata", "annotations").get(CONFIG_MAP)):
        # Which ConfigMap, and what it holds, is asked where the base branch is built: it is in no list of workloads.
        return Found(ref, live, source, settings, at_rest(live, tracked), delivery="configmap")
    knobs = live_knobs(live)
    if not knobs:
        not_now: NotNow | None = NotNow(
            Reason.UNKNOWN_KNOB, f"its pod template carries no annotation {ANNOTATION_PREFIX}…"
        )
    else:
        not_now = foreign_owner(live, knobs, home.settings.cluster.field_managers) or at_rest(live, tracked)
    return Found(ref, live, source, settings, not_now)


def _ref(live: LiveObject) -> WorkloadRef | None:
    meta = part(live, "metadata")
    try:
        return WorkloadRef.model_validate(
            {"namespace": meta.get("namespace"), "kind": live.get("kind"), "name": meta.get("name")}
        )
    except ValidationError:
        return None


def absent(workload: WorkloadSettings, unheard: str | None = None) -> Found:
    """A workload that is listed and not in the cluster; with `unheard`, why nobody can tell whether it is."""
    reason, said = Reason.CLUSTER_UNREACHABLE, unheard
    if said is None:
        reason, said = Reason.DEPLOYMENT_MISSING, "listed in .modekeeper/config.yaml, and not in the cluster"
    return Found(workload.ref, None, NoSource(reason=reason, message=said), workload, NotNow(reason, said))


def _elsewhere(source: Source | NoSource, listed: WorkloadSettings | None, home: Home) -> NotNow | None:
    """Why its manifests are not, or not surely, in this repository.

    A listed workload is taken at the configuration's word where the cluster knows of no sync tool at all.
    """
    if isinstance(source, NoSource):
        trusted = listed is not None and source.reason is Reason.NO_SOURCE and not source.claimed
        return None if trusted else NotNow(source.reason, source.message)
    if not any(same_repository(source.repo_url, url) for url in home.urls):
        return NotNow(Reason.OTHER_REPOSITORY, f"{source.owner} reads {source.repo_url}")
    if source.branch not in (home.branch, f"refs/heads/{home.branch}", "HEAD"):
        return NotNow(
            Reason.OTHER_REPOSITORY, f"{source.owner} follows {source.branch}, pull requests go to {home.branch}"
        )
    if listed is not None and listed.overlay != source.overlay:
        return NotNow(
            Reason.AMBIGUOUS_SOURCE,
            f"{source.owner} syncs {source.overlay!r}, the configuration says {listed.overlay!r}",
        )
    return None


def trim(live: LiveObject) -> dict[str, Any]:
    """What is kept of a live object in memory: identity, state, and who owns its knobs."""
    meta, spec = part(live, "metadata"), part(live, "spec")
    template = part(spec, "template")
    kept_meta = {
        key: meta[key]
        for key in ("name", "namespace", "uid", "resourceVersion", "generation", "labels", "ownerReferences")
        if key in meta
    }
    kept_meta["annotations"] = {k: v for k, v in part(meta, "annotations").items() if k != _LAST_APPLIED}
    kept_meta["managedFields"] = [entry for entry in map(_knob_fields, items(meta, "managedFields")) if entry]
    containers = [
        {key: c[key] for key in ("name", "resources", "restartPolicy") if key in c}
        for c in items(part(template, "spec"), "containers")
    ]
    kept_spec: dict[str, Any] = {
        key: spec[key] for key in ("replicas", "paused", "suspend", "updateStrategy", "selector") if key in spec
    }
    if live.get("kind") not in TEMPLATED_KINDS:
        kept_spec = dict(spec)
    else:
        kept_spec["template"] = {"metadata": part(template, "metadata"), "spec": {"containers": containers}}
    return {
        "apiVersion": live.get("apiVersion"),
        "kind": live.get("kind"),
        "metadata": kept_meta,
        "spec": kept_spec,
        "status": part(live, "status"),
    }


def _knob_fields(entry: LiveObject) -> dict[str, Any] | None:
    owned = part(entry, "fieldsV1", *_TEMPLATE_PATH)
    fields: dict[str, Any] = {key: {} for key in owned if key.startswith(f"f:{ANNOTATION_PREFIX}")}
    if not fields:
        return None
    for key in reversed(_TEMPLATE_PATH):
        fields = {key: fields}
    return {"manager": text(entry, "manager") or "unknown", "fieldsV1": fields}


def namespaces_of(settings: RepoSettings) -> tuple[str, ...]:
    """Every namespace that has workloads of ours, or may."""
    return tuple(sorted({w.namespace for w in settings.workloads} | set(settings.discovery.namespaces)))


def missing(
    settings: RepoSettings, found: Iterable[Found], unheard: Mapping[tuple[str, str | None], str]
) -> tuple[Found, ...]:
    """Those listed that were not among what the cluster has.

    `unheard`: why the list of a kind in a namespace can't be had. What would stand in it is not therefore gone.
    """
    seen = {item.ref for item in found}
    return tuple(
        absent(workload, unheard.get((workload.kind, workload.namespace)))
        for workload in settings.workloads
        if workload.ref not in seen
    )
