"""Where time is lost, told by the columns beside it: a clock that fell, input that is waited for, memory that runs short."""

from __future__ import annotations

from typing import Final

import numpy as np

from gitops_mk.core.detect.clean import clean
from gitops_mk.core.detect.history import View
from gitops_mk.core.parse.columns import F64, Bools

FEWEST: Final = 8
# A cause takes at least that part of the loss.
LOCATED: Final = 0.5
CLOCK_FALL: Final = 0.03
FULL: Final = 95.0
RETRIES: Final = 3
TIMES: Final = 2.0


def located(view: View, onset_step: int) -> str | None:
    """What changed with the step time at `onset_step`: `clock`, `input` or `memory`; None where nothing tells."""
    made, rows = clean(view), view.recent
    early, late = made.steady & (rows.step < onset_step), made.steady & (rows.step >= onset_step)
    before, after = _mean(made.ms, early), _mean(made.ms, late)
    if before is None or after is None or after <= before:
        return None
    slower = 1.0 - before / after
    was, now = _mean(rows.clock_mhz, early), _mean(rows.clock_mhz, late)
    if was is not None and now is not None and 1.0 - now / was >= max(CLOCK_FALL, LOCATED * slower):
        return "clock"
    waited, waits = _mean(rows.wait_ms, early), _mean(rows.wait_ms, late)
    if waited is not None and waits is not None and waits - waited >= LOCATED * (after - before):
        return "input"
    return "memory" if _short_of_memory(rows.retries, rows.mem, early, late) else None


def _short_of_memory(retries: F64, mem: F64, early: Bools, late: Bools) -> bool:
    """Retried allocations that come more often since, or memory that is full since and was not before."""
    tried, usual = _counted(retries, late), _counted(retries, early)
    if tried >= RETRIES and tried / int(late.sum()) > TIMES * usual / max(1, int(early.sum())):
        return True
    was, now = _mean(mem, early), _mean(mem, late)
    return was is not None and now is not None and now >= FULL > was


def _counted(counter: F64, where: Bools) -> float:
    """How far a counter went up; what it fell, at a restart, is no count."""
    given = counter[where & np.isfinite(counter)]
    return float(np.maximum(np.diff(given), 0.0).sum())


def _mean(values: F64, where: Bools) -> float | None:
    given = values[where & np.isfinite(values)]
    return float(given.mean()) if len(given) >= FEWEST else None
