"""Whether a live workload has come to rest: what `kubectl rollout status` looks at, for the kinds that roll."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from gitops_mk.core.objects import items, number, part, text
from gitops_mk.model.cluster import LiveObject


class RolloutState(StrEnum):
    """Where a rollout stands."""

    DONE = "done"
    IN_PROGRESS = "in_progress"
    SUSPENDED = "suspended"
    DEGRADED = "degraded"


class Rollout(NamedTuple):
    """The state, and a sentence that says why."""

    state: RolloutState
    message: str

    @property
    def done(self) -> bool:
        """True when all pods are of the newest template, and available."""
        return self.state is RolloutState.DONE


def rollout(live: LiveObject) -> Rollout:
    """The state of a Deployment, StatefulSet or DaemonSet; other kinds have no rollout and are done, or suspended.

    Method: the conditions of `kubectl rollout status` (kubectl reference), by generation first: a status that has not seen the
    newest spec says nothing about it.
    """
    spec, status = part(live, "spec"), part(live, "status")
    if spec.get("paused") is True or spec.get("suspend") is True:
        return Rollout(RolloutState.SUSPENDED, "it is paused or suspended")
    judge = {"Deployment": _deployment, "StatefulSet": _stateful_set, "DaemonSet": _daemon_set}.get(text(live, "kind"))
    if judge is None:
        return Rollout(RolloutState.DONE, "a kind without rollouts")
    generation = number(part(live, "metadata"), "generation")
    if number(status, "observedGeneration") < generation:
        return Rollout(RolloutState.IN_PROGRESS, f"generation {generation} has not been observed yet")
    return judge(spec, status)


def _deployment(spec: LiveObject, status: LiveObject) -> Rollout:
    wanted = number(spec, "replicas", 1)
    updated, total = number(status, "updatedReplicas"), number(status, "replicas")
    available = number(status, "availableReplicas")
    for condition in items(status, "conditions"):
        if condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return Rollout(RolloutState.DEGRADED, "the rollout exceeded its progress deadline")
    if updated < wanted:
        return Rollout(RolloutState.IN_PROGRESS, _newest(updated, wanted))
    if total > updated:
        return Rollout(RolloutState.IN_PROGRESS, f"{total - updated} old pods are still there")
    if available < updated:
        return Rollout(RolloutState.IN_PROGRESS, f"{available} of {updated} new pods are available")
    return Rollout(RolloutState.DONE, f"{wanted} pods are available")


def _stateful_set(spec: LiveObject, status: LiveObject) -> Rollout:
    wanted = number(spec, "replicas", 1)
    ready, updated = number(status, "readyReplicas"), number(status, "updatedReplicas")
    if ready < wanted:
        return Rollout(RolloutState.IN_PROGRESS, f"{ready} of {wanted} pods are ready")
    if updated < wanted:
        held = _on_delete(spec) or number(part(spec, "updateStrategy", "rollingUpdate"), "partition") > 0
        return Rollout(RolloutState.IN_PROGRESS, _newest(updated, wanted, held=held))
    return Rollout(RolloutState.DONE, f"{wanted} pods are ready")


def _daemon_set(spec: LiveObject, status: LiveObject) -> Rollout:
    wanted = number(status, "desiredNumberScheduled")
    updated, available = number(status, "updatedNumberScheduled"), number(status, "numberAvailable")
    if updated < wanted:
        return Rollout(RolloutState.IN_PROGRESS, _newest(updated, wanted, held=_on_delete(spec)))
    if available < wanted:
        return Rollout(RolloutState.IN_PROGRESS, f"{available} of {wanted} pods are available")
    return Rollout(RolloutState.DONE, f"{wanted} pods are available")


def _on_delete(spec: LiveObject) -> bool:
    return part(spec, "updateStrategy").get("type") == "OnDelete"


def _newest(updated: int, wanted: int, *, held: bool = False) -> str:
    """Where a person lets the pods of old go, their telemetry is of the values of old until that is done."""
    rest = "; the rest waits for a person" if held else ""
    return f"{updated} of {wanted} pods are of the newest template{rest}"
