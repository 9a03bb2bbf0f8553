"""CSV with a header row that uses names we know; what is a list holds its members separated by `;`."""

from __future__ import annotations

import csv
import re
from typing import Any

from gitops_mk.core.parse.fields import LISTS, Aliases
from gitops_mk.core.parse.prefix import line_of
from gitops_mk.core.parse.rows import BadShapeError, Layout, Tally

_NAMES = frozenset({"worker_ids", "worker_nodes", "worker_ranks"})
_TEXTS = frozenset({"node", "gpu_model", "event"})
_HEADER_CELL = re.compile(r"[A-Za-z_@][\w @./()%-]{0,199}", re.ASCII)


def header_of(text: str) -> list[str]:
    """The names of a header row; none when the line is no such row."""
    cells = [] if "{" in text else _split(text) or []
    return [cell.strip() for cell in cells]


def is_header(names: list[str], aliases: Aliases, *, first: bool) -> bool:
    """True for a row of names of which we know one; after the first line, two, and all of them must look like names."""
    met = sum(name in aliases for name in names)
    return met >= 1 if first else met >= 2 and all(_HEADER_CELL.fullmatch(name) for name in names)


class CsvLines:
    """Reads CSV; the first non-empty line is the header. A quoted field may not span lines: one line is one record."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._header: list[str] | None = None
        self._prefixed = False

    def rows(self, block: bytes, tally: Tally) -> list[Any]:
        """The rows of a block of whole lines, those that do not fit the header counted and left out."""
        rows: list[Any] = []
        for raw in block.split(b"\n"):
            raw = raw.strip()
            if not raw:
                continue
            text, time = self._text(raw)
            cells = _split(text)
            if self._header is None:
                self._begin([c.strip() for c in cells or []])
                continue
            tally.lines += 1
            if cells is None or len(cells) != len(self._header):
                tally.invalid_shape += 1
                continue
            values = [cell.strip() for cell in cells]
            if values == self._header:
                # A log that was begun anew.
                tally.other += 1
                continue
            try:
                self._take({"ts": time} | self._record(values) if time else self._record(values), rows, tally)
            except BadShapeError:
                tally.invalid_shape += 1
        return rows

    def _text(self, raw: bytes) -> tuple[str, str | None]:
        """The line without what stands in front of it, if something stood in front of the header."""
        if self._header is None:
            line = line_of(raw)
            self._prefixed = line.time is not None
        elif self._prefixed:
            line = line_of(raw)
        else:
            return raw.decode("utf-8", "replace"), None
        return (line.text, line.time) if self._prefixed else (raw.decode("utf-8", "replace"), None)

    def _begin(self, header: list[str]) -> None:
        self._header = header
        self._layout.learn(name for name in (*header, *(["ts"] * self._prefixed)) if name in self._layout.aliases)

    def _record(self, values: list[str]) -> dict[str, Any]:
        pairs = zip(self._header or [], values, strict=True)
        return {name: value for name, cell in pairs if (value := self._value(name, cell)) is not None}

    def _take(self, record: dict[str, Any], rows: list[Any], tally: Tally) -> None:
        rows.append(self._layout.coerce(record))

    def _value(self, name: str, cell: str) -> Any:
        alias = self._layout.aliases.get(name)
        if not cell or alias is None:
            return None
        if alias.role in LISTS:
            parts = [part.strip() for part in cell.split(";")]
            return parts if alias.role in _NAMES else [_number(part) for part in parts]
        if alias.role == "rank":
            return int(cell) if cell.isdecimal() and len(cell) < 10 else cell
        return cell if alias.role in _TEXTS else _number(cell)


def _split(line: str) -> list[str] | None:
    try:
        return next(csv.reader([line]))
    except csv.Error:
        return None


def _number(cell: str) -> float | str:
    # float() also reads `1_000`, which no writer of numbers means.
    try:
        return cell if "_" in cell else float(cell)
    except ValueError:
        return cell
