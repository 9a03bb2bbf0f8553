"""How a detector answers: the three classifications, with what they have in common filled in."""

from __future__ import annotations

from typing import Any

import numpy as np

from gitops_mk.model.signal import Classification, Evidence, Signal, SignalName


def found(name: SignalName, summary: str, metric: str, *, actionable: bool = False, **evidence: Any) -> Signal:
    """The signal is there; `actionable` where a chord may answer to it on this evidence alone."""
    answer = _answer(name, Classification.SIGNAL_FOUND, summary, metric, evidence)
    return answer.model_copy(update={"actionable": bool(actionable)})


def nothing(name: SignalName, summary: str, metric: str, **evidence: Any) -> Signal:
    """There was enough to look at, and the signal is not in it."""
    return _answer(name, Classification.NO_ACTIONABLE_SIGNAL, summary, metric, evidence)


def unknown(name: SignalName, summary: str, metric: str, **evidence: Any) -> Signal:
    """There was not enough to look at."""
    return _answer(name, Classification.INSUFFICIENT_EVIDENCE, summary, metric, evidence)


def percent(share: float) -> str:
    """A fraction as whole percent, one decimal below ten."""
    return f"{share:.0%}" if abs(share) >= 0.0995 else f"{share:.1%}"


def _answer(name: SignalName, kind: Classification, summary: str, metric: str, evidence: dict[str, Any]) -> Signal:
    for key in ("effect", "noise", "threshold"):
        if (value := evidence.get(key)) is not None:
            evidence[key] = round(float(value), 5) if np.isfinite(value) else None
    for key in ("onset_step", "duration_steps"):
        if (value := evidence.get(key)) is not None:
            evidence[key] = int(value)
    if values := evidence.get("values"):
        evidence["values"] = {k: round(float(v), 4) for k, v in values.items() if np.isfinite(v)}
    return Signal(name=name, classification=kind, evidence=Evidence(summary=summary, metric=metric, **evidence))
