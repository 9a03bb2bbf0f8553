"""Whether a live workload has come to rest: what `kubectl rollout status` looks at, for the kinds that roll."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

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
    spec, status = _part(live, "spec"), _part(live, "status")
    if spec.get("paused") is True or spec.get("suspend") is True:
        return Rollout(RolloutState.SUSPENDED, "it is paused or suspended")
    judge = {"Deployment": _deployment, "StatefulSet": _stateful_set, "DaemonSet": _daemon_set}.get(
        str(live.get("kind"))
    )
    if judge is None:
        return Rollout(RolloutState.DONE, "a kind without rollouts")
    generation = _number(_part(live, "metadata"), "generation")
    if _number(status, "observedGeneration") < generation:
        return Rollout(RolloutState.IN_PROGRESS, f"generation {generation} has not been observed yet")
    return judge(spec, status)


def _deployment(spec: LiveObject, status: LiveObject) -> Rollout:
    wanted = _number(spec, "replicas", 1)
    updated, total = _number(status, "updatedReplicas"), _number(status, "replicas")
    available = _number(status, "availableReplicas")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return Rollout(RolloutState.DEGRADED, "the rollout exceeded its progress deadline")
    if updated < wanted:
        return Rollout(RolloutState.IN_PROGRESS, f"{updated} of {wanted} pods are of the newest template")
    if total > updated:
        return Rollout(RolloutState.IN_PROGRESS, f"{total - updated} old pods are still there")
    if available < updated:
        return Rollout(RolloutState.IN_PROGRESS, f"{available} of {updated} new pods are available")
    return Rollout(RolloutState.DONE, f"{wanted} pods are available")


def _stateful_set(spec: LiveObject, status: LiveObject) -> Rollout:
    wanted = _number(spec, "replicas", 1)
    ready = _number(status, "readyReplicas")
    if ready < wanted:
        return Rollout(RolloutState.IN_PROGRESS, f"{ready} of {wanted} pods are ready")
    strategy = _part(spec, "updateStrategy")
    partition = _number(_part(strategy, "rollingUpdate"), "partition")
    updated = _number(status, "updatedReplicas")
    if strategy.get("type") == "OnDelete" or partition:
        return Rollout(
            RolloutState.DONE, f"{updated} of {wanted} pods are of the newest template; the rest waits for a person"
        )
    if status.get("updateRevision") != status.get("currentRevision") and updated < wanted:
        return Rollout(RolloutState.IN_PROGRESS, f"{updated} of {wanted} pods are of the newest template")
    return Rollout(RolloutState.DONE, f"{wanted} pods are ready")


def _daemon_set(spec: LiveObject, status: LiveObject) -> Rollout:
    wanted = _number(status, "desiredNumberScheduled")
    updated, available = _number(status, "updatedNumberScheduled"), _number(status, "numberAvailable")
    if _part(spec, "updateStrategy").get("type") != "OnDelete" and updated < wanted:
        return Rollout(RolloutState.IN_PROGRESS, f"{updated} of {wanted} pods are of the newest template")
    if available < wanted:
        return Rollout(RolloutState.IN_PROGRESS, f"{available} of {wanted} pods are available")
    return Rollout(RolloutState.DONE, f"{wanted} pods are available")


def _part(value: LiveObject, key: str) -> LiveObject:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _number(value: LiveObject, key: str, default: int = 0) -> int:
    found: Any = value.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else default
