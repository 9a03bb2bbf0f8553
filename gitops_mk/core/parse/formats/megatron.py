"""Megatron-LM and its forks: ` iteration  100/  500000 | consumed samples: 25600 | elapsed time per iteration (ms): 6245.3 | …`.

Forks print two numbers, `6245.3/6300.1`: the first is of now, the second an average. nanotron prints `1.2K` and calls it
`elapsed_time_per_iteration_ms`. Source: megatron/training/training.py, `training_log`.
"""

from __future__ import annotations

import re

from gitops_mk.core.parse.fields import Aliases
from gitops_mk.core.parse.formats.text import Record
from gitops_mk.core.parse.prefix import Line
from gitops_mk.core.parse.values import number

_STEP = re.compile(r"\[?iteration:?\s+(\d{1,12})\s*/\s*\d+\s*\|", re.IGNORECASE | re.ASCII)


class Megatron:
    """Reads the lines that begin with the iteration, a `name: value` between bars."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases

    def claims(self, line: Line) -> bool:
        """True for a line of training, not of validation."""
        return bool(self.records(line))

    def records(self, line: Line) -> list[Record]:
        """The record of a line of training."""
        found = _STEP.match(line.text)
        if found is None:
            return []
        record: Record = {"iteration": int(found[1])}
        for cell in line.text[found.end() :].rstrip("]").split("|"):
            name, _, text = cell.rpartition(":")
            name = name.strip()
            if name in self._aliases:
                record[name] = number(text)
        return [record]
