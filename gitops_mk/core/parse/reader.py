"""Chunks of bytes to columns: lines put together, the format found out, the counts kept."""

from __future__ import annotations

from gitops_mk.core.parse.columns import Columns
from gitops_mk.core.parse.csvlines import CsvLines
from gitops_mk.core.parse.fields import ALIASES
from gitops_mk.core.parse.jsonl import JsonLines
from gitops_mk.core.parse.rows import Layout, PlannedEvent, Tally
from gitops_mk.errors import InputError

MAX_LINE = 1_048_576
FORMATS = ("jsonl", "csv")
UNKNOWN_FORMAT = "unknown"
# Rows are made into columns this many bytes at a time, so that a large chunk needs no more memory than a small one.
_BLOCK = 262_144
_BOM = b"\xef\xbb\xbf"


class Reader:
    """Feed it bytes cut anywhere; it gives columns. A line over 1 MiB is counted as invalid shape and never held.

    Raises InputError for a format other than `jsonl` and `csv`.
    """

    def __init__(self, format_: str | None = None) -> None:
        if format_ is not None and format_ not in FORMATS:
            raise InputError(
                f"format {format_!r}, expected one of {', '.join(FORMATS)}",
                hint="leave --format out to have it detected",
            )
        self.format = format_ or UNKNOWN_FORMAT
        self.tally = Tally()
        self.events: list[PlannedEvent] = []
        self._layout = Layout()
        self._lines: JsonLines | CsvLines | None = self._of(format_) if format_ else None
        self._rest = b""
        self._skipping = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[Columns]:
        """The columns of all lines that are complete by now."""
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
        """The columns of a last line without a newline."""
        rest, self._rest = self._rest, b""
        return self._blocks(rest + b"\n") if rest.strip() else []

    def _too_long(self) -> None:
        self.tally.lines += 1
        self.tally.invalid_shape += 1

    def _blocks(self, data: bytes) -> list[Columns]:
        out, start = [], 0
        while start < len(data):
            # A little more than a block is not worth a copy.
            end = len(data) if len(data) - start <= 2 * _BLOCK else data.find(b"\n", start + _BLOCK) + 1
            if (columns := self._block(data[start:end])) is not None:
                out.append(columns)
            start = end
        return out

    def _block(self, block: bytes) -> Columns | None:
        if len(block) > MAX_LINE:
            block = self._without_long_lines(block)
        if not self._begun:
            block = block.lstrip().removeprefix(_BOM)
            if not block.strip():
                return None
            self._begun = True
        if self._lines is None:
            self.format = detect_format(block.lstrip().partition(b"\n")[0])
            self._lines = self._of(self.format)
        rows = self._lines.rows(block, self.tally)
        return self._layout.columns(rows, self.tally, self.events) if rows else None

    def _without_long_lines(self, block: bytes) -> bytes:
        lines = block.split(b"\n")
        kept = [line for line in lines if len(line) <= MAX_LINE]
        for _ in range(len(lines) - len(kept)):
            self._too_long()
        return b"\n".join(kept)

    def _of(self, format_: str) -> JsonLines | CsvLines:
        return CsvLines(self._layout) if format_ == "csv" else JsonLines(self._layout)


def detect_format(line: bytes) -> str:
    """`csv` for a line that is a header with a name we know and no brace, else `jsonl`."""
    names = {cell.strip().strip('"') for cell in line.decode("utf-8", "replace").split(",")}
    return "csv" if b"{" not in line and not names.isdisjoint(ALIASES) else "jsonl"
