"""Chunks of bytes to columns: lines put together, the format found out, ranks merged, the counts kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gitops_mk.core.parse.columns import Columns
from gitops_mk.core.parse.fields import PLANNED_EVENTS, with_fields
from gitops_mk.core.parse.formats.jsonl import JsonLines
from gitops_mk.core.parse.formats.registry import TABLES, TEXTS, Detector, Lines, open_lines
from gitops_mk.core.parse.names import FORMATS, UNKNOWN_FORMAT
from gitops_mk.core.parse.ranks import RankMerger
from gitops_mk.core.parse.rows import Layout, PlannedEvent, Tally
from gitops_mk.errors import InputError

MAX_LINE = 1_048_576
# Rows are made into columns this many bytes at a time, so that a large chunk needs no more memory than a small one.
_BLOCK = 262_144
_BOM = b"\xef\xbb\xbf"


class Reader:
    """Feed it bytes cut anywhere; it gives columns. A line over 1 MiB is counted as invalid shape and never held.

    The format is that of the first line that can be of one only, unless `format_` names it; until then lines are read as
    JSON. `fields` maps a name of ours, which says the unit, to the job's own name of that field. `planned` are events
    that no line announces: (step, kind).

    Raises InputError for a format, a field or a kind of event that is unknown.
    """

    def __init__(
        self,
        format_: str | None = None,
        *,
        fields: Mapping[str, str] | None = None,
        planned: Iterable[tuple[float, str]] = (),
    ) -> None:
        if format_ is not None and format_ not in FORMATS:
            raise InputError(
                f"format {format_!r}, expected one of {', '.join(FORMATS)}",
                hint="leave --format out to have it detected",
            )
        self.format = format_ or UNKNOWN_FORMAT
        self.tally = Tally()
        self.events: list[PlannedEvent] = []
        self._planned = [_planned(step, what) for step, what in planned]
        self._aliases = with_fields(fields or {})
        self._layout = Layout(self._aliases)
        self._detector = Detector(self._aliases)
        self._lines: Lines | None = open_lines(format_, self._layout) if format_ else None
        self._undecided = JsonLines(self._layout)
        self._ranks = RankMerger(self.tally)
        self._rest = b""
        self._skipping = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[Columns]:
        """The columns of all lines that are complete by now, but for those of ranks that others may still belong to."""
        data = self._rest + chunk if self._rest else chunk
        self._rest = b""
        if self._skipping:
            end = data.find(b"\n")
            if end < 0:
                return []
            data, self._skipping = data[end + 1 :], False
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if len(self._rest) > MAX_LINE:
            # The lines before it come first, so that the counts do not depend on the chunks.
            out = self._blocks(data[:end])
            self._too_long()
            self._rest, self._skipping = b"", True
            return out
        return self._blocks(data[:end])

    def finish(self) -> list[Columns]:
        """The columns of a last line without a newline, and of all that was held back."""
        rest, self._rest = self._rest, b""
        out = self._blocks(rest + b"\n") if rest.strip() else []
        self.events += self._planned
        self._planned = []
        return out + self._ranks.finish()

    def _too_long(self) -> None:
        self.tally.lines += 1
        self.tally.invalid_shape += 1

    def _blocks(self, data: bytes) -> list[Columns]:
        out: list[Columns] = []
        start = 0
        while start < len(data):
            # A little more than a block is not worth a copy.
            end = len(data) if len(data) - start <= 2 * _BLOCK else data.find(b"\n", start + _BLOCK) + 1
            out += self._block(data[start:end])
            start = end
        return out

    def _block(self, block: bytes) -> list[Columns]:
        if len(block) > MAX_LINE:
            block = self._without_long_lines(block)
        if not self._begun:
            block = block.lstrip().removeprefix(_BOM)
            if not block.strip():
                return []
            self._begun = True
        if self._lines is None:
            block = self._decide(block)
        return self._read(self._lines, block) if self._lines is not None and block else []

    def _decide(self, block: bytes) -> bytes:
        """Look at line after line until one is of a format; gives that line and the rest."""
        at = 0
        while at < len(block):
            end = block.index(b"\n", at) + 1
            line = block[at:end]
            name = self._detector.claimed(line) if line.strip() else None
            if name is not None:
                self._settle(name)
                return block[at:]
            self._read(self._undecided, line)
            at = end
        return b""

    def _settle(self, name: str) -> None:
        self.format = name
        tally = self.tally
        if name in TEXTS or name in TABLES:
            # What else a job prints is no fault in a log that is no JSON.
            tally.other += tally.invalid_json + tally.invalid_shape + tally.missing_fields
            tally.invalid_json = tally.invalid_shape = tally.missing_fields = 0
            self._layout = Layout(self._aliases)
        self._lines = self._detector.opened(name, self._layout)

    def _read(self, lines: Lines, block: bytes) -> list[Columns]:
        rows = lines.rows(block, self.tally)
        batch = self._layout.columns(rows, self.tally, self.events) if rows else None
        return self._ranks.feed(batch) if batch is not None else []

    def _without_long_lines(self, block: bytes) -> bytes:
        lines = block.split(b"\n")
        kept = [line for line in lines if len(line) <= MAX_LINE]
        for _ in range(len(lines) - len(kept)):
            self._too_long()
        return b"\n".join(kept)


def _planned(step: float, what: str) -> PlannedEvent:
    if what not in PLANNED_EVENTS:
        raise InputError(f"planned: {what!r}, expected one of {', '.join(sorted(PLANNED_EVENTS))}")
    return PlannedEvent(what, float(step))


def detect_format(line: bytes, fields: Mapping[str, str] | None = None) -> str | None:
    """What one line by itself tells of the format; None where it tells nothing."""
    return Detector(with_fields(fields or {})).claimed(line)


def is_table(format_: str | None) -> bool:
    """True for a format whose first line names the columns of all others."""
    return format_ in TABLES
