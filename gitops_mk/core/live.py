"""What a live workload carries: its knobs, who owns them, and whether it may be planned for now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gitops_mk.core.objects import part
from gitops_mk.core.places import DATA, TEMPLATE, knob_path, knobs_at, texts_of
from gitops_mk.core.refusals import GITOPS_MANAGERS, managers_of
from gitops_mk.core.rollout import RolloutState, rollout
from gitops_mk.core.source import Source
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.knob import knobs_from_annotations
from gitops_mk.model.verdict import Reason
from gitops_mk.model.workload import TEMPLATED_KINDS, KnobMap


class NotNow(NamedTuple):
    """Why nothing is planned for a workload at the moment."""

    reason: Reason
    message: str


def live_knobs(live: LiveObject) -> dict[str, int]:
    """The knobs on the pod template of a live object, or in a live ConfigMap."""
    kind = str(live.get("kind"))
    if kind == KnobMap.kind:
        return knobs_at(kind, texts_of(live.get("data"), DATA))
    if kind in TEMPLATED_KINDS:
        # Thousands of these are looked at in one go.
        annotations = part(live, *map(str, TEMPLATE))
        return knobs_from_annotations({str(key): text for key, text in annotations.items() if isinstance(text, str)})
    return knobs_at(kind, texts_of(live.get("spec"), ("spec",)))


def foreign_owner(live: LiveObject, knobs: Iterable[str], extra: Iterable[str] = ()) -> NotNow | None:
    """The controller that owns one of `knobs` and is none of those that apply what stands in Git."""
    trusted = GITOPS_MANAGERS | frozenset(extra)
    place = DATA if live.get("kind") == KnobMap.kind else TEMPLATE
    for knob in sorted(knobs):
        path = tuple(map(str, knob_path(place, knob)))
        others = [name for name in managers_of(live, path) if name not in trusted]
        if others:
            return NotNow(
                Reason.FOREIGN_OWNER,
                f"{knob} is owned by {', '.join(others)}: a change in Git would be undone, or fight it",
            )
    return None


def at_rest(live: LiveObject, source: Source | None) -> NotNow | None:
    """None when the workload runs what Git has, and has come to rest."""
    state = rollout(live)
    if state.state is RolloutState.SUSPENDED:
        return NotNow(Reason.SUSPENDED, state.message)
    if state.state is RolloutState.DEGRADED:
        return NotNow(Reason.DEGRADED, state.message)
    if source is not None:
        if source.suspended:
            return NotNow(Reason.SUSPENDED, f"{source.owner} is suspended")
        if source.moving:
            return NotNow(
                Reason.DEGRADED if "health" in source.moving else Reason.OUT_OF_SYNC, f"{source.owner}: {source.moving}"
            )
        if not source.synced:
            return NotNow(Reason.OUT_OF_SYNC, f"{source.owner} is not in sync")
    if not state.done:
        return NotNow(Reason.ROLLOUT_IN_PROGRESS, state.message)
    return None
