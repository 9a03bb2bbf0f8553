"""How large a trouble is, read from the evidence: what recipes solve for, and what promises are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gitops_mk.core.chords.relief import GRAD_ACCUM, PREFETCH, WORKERS
from gitops_mk.model.signal import Evidence

BUCKET: Final = "comm_bucket_mb"
# Where nothing tells how large an effect is: once again as much.
UNTOLD: Final = 1.0


def effect_of(evidence: Evidence | None) -> float:
    """The effect as a fraction of the quiet level."""
    return UNTOLD if evidence is None or evidence.effect is None else max(evidence.effect, 0.0)


def lost_share(evidence: Evidence | None) -> float:
    """The share of the time that the effect takes, in [0, 1)."""
    effect = effect_of(evidence)
    return effect / (1.0 + effect)


def slow_worker(evidence: Evidence | None) -> tuple[float, float]:
    """How much longer steps are for the slow worker, as a fraction, and in which share of steps it is slow."""
    if evidence is None:
        return UNTOLD, 1.0
    cost = evidence.values.get("cost_share")
    excess = effect_of(evidence) if cost is None else min(cost, 0.9) / (1.0 - min(cost, 0.9))
    return max(excess, 0.01), evidence.values.get("slow_share", 1.0)


def stalled_batches(evidence: Evidence | None, knobs: Mapping[str, int]) -> float:
    """How many batches a burst keeps waiting for: its time in steps, each of which takes as many as it accumulates.

    Where nothing tells, as many as are kept ready.
    """
    told = None if evidence is None else evidence.values.get("stall_steps")
    if told is None:
        return max(1.0, float(knobs.get(WORKERS, 1) * knobs.get(PREFETCH, 1)))
    return max(1.0, told * knobs.get(GRAD_ACCUM, 1))


def times_grown(evidence: Evidence | None) -> float:
    """How many times as long communication takes as before; twice, where nothing tells."""
    before, after = (evidence.values.get(key, 0.0) if evidence else 0.0 for key in ("before_ms", "after_ms"))
    return max(1.1, after / before) if before > 0 and after > 0 else 2.0
