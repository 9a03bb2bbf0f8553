"""Formats of plain text: the lines of a log, of which some are steps and most are not."""

from __future__ import annotations

from typing import Any, Protocol

from gitops_mk.core.parse.fields import Aliases
from gitops_mk.core.parse.planned import announced
from gitops_mk.core.parse.prefix import LONGEST, Line, line_of
from gitops_mk.core.parse.rows import BadShapeError, Layout, Tally

Record = dict[str, Any]


class TextFormat(Protocol):
    """What one format knows of its lines. It may remember what it saw, line by line."""

    def claims(self, line: Line) -> bool:
        """True for a line that can only be of this format."""
        ...

    def records(self, line: Line) -> list[Record]:
        """The step records of a line, by names whose units are known; none where it does not claim to be a step."""
        ...


class TextLines:
    """Reads text. A line that is no step is looked at for an event that was planned, and else counted as `other`."""

    def __init__(self, layout: Layout, format_: TextFormat) -> None:
        self._layout = layout
        self._format = format_

    def rows(self, block: bytes, tally: Tally) -> list[Any]:
        """The rows of a block of whole lines. They are all of one type."""
        records: list[Record] = []
        for raw in block.split(b"\n"):
            if not raw.strip():
                continue
            line = line_of(raw[:LONGEST])
            found = self._format.records(line)
            if not found:
                tally.lines += 1
                event = announced(line.text)
                if event is None:
                    tally.other += 1
                else:
                    records.append(event)
                continue
            tally.lines += len(found)
            records += (_stamped(record, line, self._layout.aliases) for record in found)
        return self._made(records, tally)

    def _made(self, records: list[Record], tally: Tally) -> list[Any]:
        for record in records:
            self._layout.learn(name for name in record if name in self._layout.aliases)
        rows = []
        for record in records:
            try:
                rows.append(self._layout.coerce(record))
            except BadShapeError:
                tally.invalid_shape += 1
        return rows


def _stamped(record: Record, line: Line, aliases: Aliases) -> Record:
    roles = {aliases[name].role for name in record if name in aliases}
    if line.time is not None and "ts" not in roles:
        record["ts"] = line.time
    if line.rank is not None and "rank" not in roles:
        record["rank"] = int(line.rank)
    return record
