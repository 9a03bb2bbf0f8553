"""torchtitan: `step: 10  loss: 8.12  grad_norm: 1.2  memory: 40.1GiB(50%)  tps: 5,120  tflops: 40.1  mfu: 12.3%`.

It prints no step time: that follows from the times in front of the lines and the steps between them. Source:
torchtitan/components/metrics.py.
"""

from __future__ import annotations

import re
from typing import Final

from gitops_mk.core.parse.fields import Aliases
from gitops_mk.core.parse.formats.text import Record
from gitops_mk.core.parse.prefix import Line
from gitops_mk.core.parse.values import number

_STEP = re.compile(r"(validate )?\bstep:\s*(\d{1,12})\s+(?:loss|.{1,40}?\bloss):\s*\S", re.ASCII)
_PAIR = re.compile(r"(?<![^\s])([A-Za-z_][\w/.()%]{0,80}):\s*(\S+)", re.ASCII)
_MEMORY = re.compile(r"\((\d+(?:\.\d+)?)%\)", re.ASCII)
_NAMES: Final = {"wps": "tps", "memory": "memory/max_reserved(%)"}


class Torchtitan:
    """Reads the lines of its metrics processor, whatever colours they come in."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases

    def claims(self, line: Line) -> bool:
        """True for a line of metrics."""
        return bool(self.records(line))

    def records(self, line: Line) -> list[Record]:
        """The record of a line of metrics; that of a validation is a planned event."""
        found = _STEP.search(line.text)
        if found is None:
            return []
        if found[1]:
            return [{"event": "eval", "step": int(found[2])}]
        record: Record = {}
        for name, text in _PAIR.findall(line.text):
            share = _MEMORY.search(text) if name == "memory" else None
            known = _NAMES.get(name, name)
            if known in self._aliases and known not in record:
                record[known] = number(share[1] if share else text)
        if "memory/max_reserved(%)" in record and not _MEMORY.search(line.text):
            del record["memory/max_reserved(%)"]
        return [record]
