"""Observe: telemetry from a source to one observation, every stage explained as it happens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from gitops_mk.core.detect.observer import Observer
from gitops_mk.model.signal import Observation, SignalName
from gitops_mk.model.telemetry import Environment
from gitops_mk.ports import ArtifactStore, Clock, TelemetrySource

INTERRUPTED = "reading was interrupted: the report covers what was read by then"


def observe(
    source: TelemetrySource,
    *,
    clock: Clock,
    artifacts: ArtifactStore,
    min_steps: int = 30,
    max_dropped_pct: float = 20.0,
    since: datetime | None = None,
    progress: Callable[[int], None] | None = None,
) -> Observation:
    """Read the source to its end, or to Ctrl-C, and say what its telemetry shows.

    Steps with a time not after `since` are left out.
    `progress` is told the number of lines read so far after each block. Raises TelemetryError, InputError.
    """
    info = source.info
    artifacts.explain("observe_start", {"source": info.kind, "name": info.name, "format": info.format}, at=clock.now())
    observer = Observer(
        info.kind,
        info.format,
        min_steps=min_steps,
        max_dropped_pct=max_dropped_pct,
        since=since,
        fields=info.fields,
        planned=info.planned,
    )
    interrupted = False
    try:
        for chunk in source.chunks():
            observer.feed(chunk)
            if progress is not None:
                progress(observer.progress)
    except KeyboardInterrupt:
        interrupted = True
    seen = observer.finish()
    environment = merged(seen.environment, source.environment)
    if interrupted:
        environment = environment.model_copy(update={"notes": (*environment.notes, INTERRUPTED)})
    seen = seen.model_copy(update={"environment": environment})
    artifacts.explain("observe_ingest", seen.ingest.plain(), at=clock.now())
    artifacts.explain(
        "observe_signals",
        {"found": list(seen.found), "signals": {str(s.name): str(s.classification) for s in seen.signals}},
        at=clock.now(),
    )
    artifacts.explain("observe_report", _verdict(seen), at=clock.now())
    return seen


def merged(told: Environment, known: Environment) -> Environment:
    """What the records say of their machines, and what their source knows.

    A node may go by two names in the two (the host's and the pod's), so that only those of one side count as several; GPU
    models are one where they differ in blanks, which labels can't have.
    """
    models = {model.replace(" ", "-").lower(): model for model in (*known.gpu_models_seen, *told.gpu_models_seen)}
    return Environment(
        nodes_seen=tuple(sorted({*told.nodes_seen, *known.nodes_seen})),
        gpu_models_seen=tuple(sorted(models.values())),
        unstable=told.unstable or known.unstable or len(models) > 1,
        notes=(*told.notes, *known.notes),
    )


def observation_payload(seen: Observation) -> dict[str, Any]:
    """The observation as the body of `observe_latest.json`."""
    return {
        **_verdict(seen),
        "signals": seen.facets(),
        "classification": seen.classification,
        "evidence": _evidence(seen),
        "environment": seen.environment.plain(),
        "ingest": seen.ingest.plain(),
        "window": seen.window.plain(),
        "source": seen.source,
        "format": seen.format,
    }


def _evidence(seen: Observation) -> dict[str, Any]:
    """By signal; `drift` is the one of its two that was found, or else that of the step time."""
    told = {
        str(s.name): {**s.evidence.plain(), "classification": s.classification, "actionable": s.actionable}
        for s in seen.signals
    }
    drifts = [s for name in (SignalName.DRIFT_STEP, SignalName.DRIFT_LOSS) if (s := seen.signal(name)) is not None]
    if drifts:
        told[str(SignalName.DRIFT)] = told[str(next((s for s in drifts if s.found), drifts[0]).name)]
    return told


def _verdict(seen: Observation) -> dict[str, Any]:
    return {
        "incident": seen.incident,
        "stable": seen.stable,
        "insufficient_evidence": seen.insufficient,
        "pr_worthy": seen.pr_worthy,
    }
