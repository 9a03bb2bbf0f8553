"""Where time is lost, told by the columns beside it: a clock that fell, input that is waited for, memory that runs short."""

from __future__ import annotations

from typing import Final

import numpy as np

from gitops_mk.core.detect.clean import clean
from gitops_mk.core.detect.history import View
from gitops_mk.core.parse.columns import F64, Bools

FEWEST: Final = 8
# A cause takes at least that part of the loss.
SHARE: Final = 0.5
CLOCK_FALL: Final = 0.03
FULL: Final = 95.0


def located(view: View, onset_step: int) -> str | None:
    """What changed with the step time at `onset_step`: `clock`, `input` or `memory`; None where nothing tells."""
    made, rows = clean(view), view.recent
    early, late = made.steady & (rows.step < onset_step), made.steady & (rows.step >= onset_step)
    before, after = _mean(made.ms, early), _mean(made.ms, late)
    if before is None or after is None or after <= before:
        return None
    slower = 1.0 - before / after
    was, now = _mean(rows.clock_mhz, early), _mean(rows.clock_mhz, late)
    if was is not None and now is not None and 1.0 - now / was >= max(CLOCK_FALL, SHARE * slower):
        return "clock"
    waited, waits = _mean(rows.wait_ms, early), _mean(rows.wait_ms, late)
    if waited is not None and waits is not None and waits - waited >= SHARE * (after - before):
        return "input"
    return "memory" if _short_of_memory(rows.retries, rows.mem, early, late) else None


def _short_of_memory(retries: F64, mem: F64, early: Bools, late: Bools) -> bool:
    """Retried allocations that come since, or memory that is full since and was not before."""
    tried = retries[late & np.isfinite(retries)]
    if len(tried) > 1 and tried[-1] > tried[0]:
        return True
    was, now = _mean(mem, early), _mean(mem, late)
    return was is not None and now is not None and now >= FULL > was


def _mean(values: F64, where: Bools) -> float | None:
    given = values[where & np.isfinite(values)]
    return float(given.mean()) if len(given) >= FEWEST else None
