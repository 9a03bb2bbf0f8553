"""The decision trace (`decision_trace_event.v0`): what went in, what was seen, what each rule said, what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gitops_mk.core.planner import Decision, WorkloadState
from gitops_mk.model.canonical import digest, dumps_canonical
from gitops_mk.model.signal import Observation

SCHEMA = "decision_trace_event.v0"


def trace_events(
    state: WorkloadState, observation: Observation, decision: Decision, outcome: dict[str, Any], *, ts: str
) -> Iterator[dict[str, Any]]:
    """The events of one decision, in the order it was made."""

    def event(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        return {"schema_version": SCHEMA, "ts": ts, "event": kind, "workload": state.ref.key, "payload": payload}

    yield event(
        "inputs",
        {
            "observation_sha256": digest(observation.plain()),
            "policy": state.policy.plain(),
            "knobs": dict(state.knobs),
            "applied": len(state.applied),
            "holds": [hold.plain() for hold in state.holds],
        },
    )
    for signal in observation.signals:
        yield event("signal", signal.plain())
    for judged in decision.judged:
        for verdict in judged.verdicts:
            yield event("verdict", {"chord": judged.action.chord, **verdict.plain()})
    yield event("outcome", outcome)


def trace_lines(events: Iterator[dict[str, Any]]) -> str:
    """The trace as JSON lines."""
    return "".join(dumps_canonical(event).decode() + "\n" for event in events)
