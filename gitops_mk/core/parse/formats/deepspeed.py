"""DeepSpeed: `steps: 10 loss: 2.10 iter time (s): 0.512 samples/sec: 128.0` of its pipeline engine, and its timer's lines.

Sources: deepspeed/runtime/pipe/engine.py, deepspeed/utils/timer.py (`ThroughputTimer`).
"""

from __future__ import annotations

import re

from gitops_mk.core.parse.fields import Aliases
from gitops_mk.core.parse.formats.text import Record
from gitops_mk.core.parse.prefix import Line
from gitops_mk.core.parse.values import number

_STEP = re.compile(
    r"\bsteps?: *(\d{1,12}) +loss: *(\S+) +iter time \((ms|s)\): *(\S+)(?: +samples/sec: *(\S+))?", re.ASCII
)
_TIMER = re.compile(r"\bglobal_step=(\d{1,12}),.{0,120}\bCurrSamplesPerSec=(\S+)", re.ASCII)


class DeepSpeed:
    """Reads the engine's lines; the timer's, which tell no time, only until the first of those."""

    def __init__(self, aliases: Aliases) -> None:
        self._timed = False

    def claims(self, line: Line) -> bool:
        """True for either kind of line."""
        return bool(_STEP.search(line.text) or _TIMER.search(line.text))

    def records(self, line: Line) -> list[Record]:
        """The record of a line."""
        found = _STEP.search(line.text)
        if found is not None:
            self._timed = True
            step, loss, unit, time, pace = found.groups(default="")
            name = "step_time_ms" if unit == "ms" else "iter time (s)"
            return [{"step": int(step), "loss": number(loss), name: number(time), "samples/sec": number(pace)}]
        found = None if self._timed else _TIMER.search(line.text)
        return [] if found is None else [{"step": int(found[1]), "samples/sec": number(found[2])}]
