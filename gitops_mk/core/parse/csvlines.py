"""CSV with a header row that uses the names of `fields`; `worker_latencies_ms` holds its numbers separated by `;`."""

from __future__ import annotations

import csv
from typing import Any

from gitops_mk.core.parse.fields import ALIASES
from gitops_mk.core.parse.rows import BadShapeError, Layout, Tally

_LISTS = frozenset({"workers", "worker_ids", "worker_stages"})


class CsvLines:
    """Reads CSV; the first non-empty line is the header. A quoted field may not span lines: one line is one record."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._header: list[str] | None = None

    def rows(self, block: bytes, tally: Tally) -> list[Any]:
        """The rows of a block of whole lines, those that do not fit the header counted and left out."""
        rows = []
        for raw in block.split(b"\n"):
            line = raw.strip()
            if not line:
                continue
            cells = _split(line)
            if self._header is None:
                self._header = [c.strip() for c in cells or []]
                self._layout.learn(name for name in self._header if name in ALIASES)
                continue
            tally.lines += 1
            if cells is None or len(cells) != len(self._header):
                tally.invalid_shape += 1
                continue
            record = {name: _value(name, cell.strip()) for name, cell in zip(self._header, cells, strict=True)}
            try:
                rows.append(self._layout.coerce(record))
            except BadShapeError:
                tally.invalid_shape += 1
        return rows


def _split(line: bytes) -> list[str] | None:
    try:
        return next(csv.reader([line.decode("utf-8", "replace")]))
    except csv.Error:
        return None


def _value(name: str, cell: str) -> Any:
    if not cell or name not in ALIASES:
        return None
    role = ALIASES[name].role
    if role in _LISTS:
        parts = [part.strip() for part in cell.split(";")]
        return parts if role != "workers" else [_number(part) for part in parts]
    return cell if role in {"node", "gpu_model", "event"} else _number(cell)


def _number(cell: str) -> float | str:
    # float() also reads `1_000`, which no writer of numbers means.
    try:
        return cell if "_" in cell else float(cell)
    except ValueError:
        return cell
