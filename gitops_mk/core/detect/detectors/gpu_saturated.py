"""gpu_saturated: the GPU is newly at its limit, and the steps got slower with it. Utilisation alone is never a signal:
NVML's figure says that some kernel ran, not that the device is full, and a healthy job sits at 95 % and above.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gitops_mk.core.detect.answers import found, nothing, percent, unknown
from gitops_mk.core.detect.clean import clean
from gitops_mk.core.detect.history import View
from gitops_mk.core.detect.stats import best_split, block_quantile, edges, median, series
from gitops_mk.core.parse.columns import F64
from gitops_mk.model.signal import Signal, SignalName

NAME = SignalName.GPU_SATURATED
FEWEST = 30
BLOCKS = 20
PINNED = 98.5
PINNED_RISE = 4.0
PINNED_COST = 0.12
FULL = 97.0
FULL_RISE = 3.0
FULL_COST = 0.06


class _Pin(NamedTuple):
    metric: str
    before: float
    after: float
    first: int
    cost: float
    need: float


def detect(view: View) -> Signal:
    """Whether compute or memory ran full, at the cost of time."""
    rows, made = view.recent, clean(view)
    pins = [
        _pin(view, "gpu_util_pct", rows.util, PINNED, PINNED_RISE, PINNED_COST, typical=True),
        _pin(view, "gpu_mem_util_pct", rows.mem, FULL, FULL_RISE, FULL_COST, typical=False),
    ]
    if all(p is None for p in pins):
        return unknown(NAME, f"fewer than {FEWEST} steps with GPU utilisation or memory", "gpu_util_pct", unit="%")
    for pin in pins:
        if pin is not None and pin.cost >= pin.need:
            onset = int(rows.step[pin.first])
            what = "memory" if pin.metric == "gpu_mem_util_pct" else "utilisation"
            return found(
                NAME,
                f"GPU {what} went from {pin.before:.0f} % to {pin.after:.1f} % at step {onset} "
                f"and steps got {percent(pin.cost)} slower",
                pin.metric,
                actionable=True,
                unit="%",
                effect=pin.cost,
                noise=made.noise,
                threshold=pin.need,
                onset_step=onset,
                duration_steps=len(rows) - pin.first,
                cause=what if what == "memory" else None,
                series=series(rows.mem if pin.metric == "gpu_mem_util_pct" else rows.util),
                values={"before_pct": pin.before, "after_pct": pin.after},
            )
    return nothing(
        NAME, "the GPU did not become full at the cost of time", "gpu_util_pct", unit="%", series=series(rows.util)
    )


def _pin(view: View, metric: str, values: F64, limit: float, rise: float, need: float, *, typical: bool) -> _Pin | None:
    """How much slower the steps are since the metric came to its limit; 0 when it did not."""
    given = ~np.isnan(values)
    if int(given.sum()) < FEWEST:
        return None
    where = np.flatnonzero(given)
    blocks = block_quantile(values[given], BLOCKS)
    if limit >= PINNED:
        split = best_split(blocks)
        before, after, at = split.before, split.after, split.at
    else:
        high = blocks >= limit
        at = BLOCKS - int(np.argmin(high[::-1])) if not high.all() else 0
        before, after = (median(blocks[: max(1, at // 2)]), median(blocks[at:])) if at < BLOCKS else (0.0, 0.0)
    if not (2 <= at <= BLOCKS - 2) or after < limit or after - before < rise or median(blocks[-2:]) < limit:
        return _Pin(metric, before, after, 0, 0.0, need)
    first = int(where[edges(int(given.sum()), BLOCKS)[at]])
    return _Pin(metric, before, after, first, _slower(view, first, typical=typical), need)


def _slower(view: View, first: int, *, typical: bool) -> float:
    """Step time from `first` on against before, and throughput likewise where it is given: the smaller of both."""
    made = clean(view)
    centre = np.median if typical else _trimmed
    early, late = made.steady.copy(), made.steady.copy()
    early[first:], late[:first] = False, False
    if early.sum() < 8 or late.sum() < 8:
        return 0.0
    slower = float(centre(made.ms[late]) / centre(made.ms[early])) - 1.0
    pace = view.recent.throughput
    if np.isfinite(pace[late]).sum() >= 8 and np.isfinite(pace[early]).sum() >= 8:
        inverse = 1.0 / pace
        less = float(centre(inverse[late & np.isfinite(inverse)]) / centre(inverse[early & np.isfinite(inverse)])) - 1.0
        slower = min(slower, less)
    return slower


def _trimmed(values: F64) -> float:
    """The mean with single outliers cut down to four times the median."""
    return float(np.minimum(values, 4.0 * np.median(values)).mean())
