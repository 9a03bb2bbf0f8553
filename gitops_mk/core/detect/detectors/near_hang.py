"""near_hang: single steps that take many times the quiet level, off every cadence: the job all but stood still."""

from __future__ import annotations

from typing import Any

import numpy as np

from gitops_mk.core.detect.answers import found, nothing
from gitops_mk.core.detect.clean import clean
from gitops_mk.core.detect.history import View
from gitops_mk.core.detect.stats import series
from gitops_mk.model.signal import Signal, SignalName

NAME = SignalName.NEAR_HANG
# Evaluations and checkpoints of real jobs were seen at up to 40 times the quiet level.
TIMES = 45.0


def detect(view: View) -> Signal:
    """Whether a step nearly hung."""
    made = clean(view)
    ratio = np.where(made.steady, made.ms / made.level, 0.0)
    stalled = np.flatnonzero(ratio >= TIMES)
    common: dict[str, Any] = {"threshold": TIMES - 1.0, "noise": made.noise, "series": series(made.ms)}
    if len(stalled):
        first = int(stalled[0])
        worst = float(ratio[stalled].max())
        step = int(view.recent.step[first])
        return found(
            NAME,
            f"{len(stalled)} steps nearly hung, the longest at {worst:.0f}x the quiet level "
            f"({made.ms[stalled].max() / 1000:.3g} s), first at step {step}",
            "step_time_ms",
            effect=worst - 1.0,
            onset_step=step,
            duration_steps=int(stalled[-1]) - first + 1,
            values={"stalled_steps": len(stalled), "longest_ms": float(made.ms[stalled].max())},
            **common,
        )
    return nothing(NAME, "no step came near to hanging", "step_time_ms", effect=float(ratio.max()) - 1.0, **common)
