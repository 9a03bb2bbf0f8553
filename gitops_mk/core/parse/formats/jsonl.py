"""JSON Lines: whole chunks decoded in C into typed rows, line by line only where a chunk has a line that does not
fit.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import numpy as np

from gitops_mk.core.parse.prefix import Line, line_of
from gitops_mk.core.parse.rows import BadShapeError, Layout, Tally

# A bare NaN or infinity as Python's json and numpy write it; made a string, which the row type accepts for a loss.
_BARE = re.compile(rb":\s*(NaN|-?Infinity|nan|-?inf)(?=\s*[,}])")
_OWN_WORDS = re.compile(rb"([:,\[]\s*)(nan|-?inf)(?=\s*[,}\]])")
_AS_JSON = {b"nan": b"NaN", b"inf": b"Infinity", b"-inf": b"-Infinity"}


class JsonLines:
    """Reads JSON lines; the layout grows with the keys that turn up."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def rows(self, block: bytes, tally: Tally) -> list[Any]:
        """The rows of a block of whole lines that ends in a newline, lines that are no JSON object counted and left
        out.

        The rows are all of one type: when the layout grows half-way, earlier ones are made again.
        """
        block = block.replace(b"\r\n", b"\n") if b"\r" in block else block
        lines = _objects(block)
        if lines:
            rows = self._whole(block)
            # With as many values as lines, no line holds two.
            if rows is not None and len(rows) == lines:
                tally.lines += lines
                return rows
        return self._each(block, tally)

    def _whole(self, block: bytes) -> list[Any] | None:
        try:
            return self._layout.decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        if not any(word in block for word in (b"NaN", b"Infinity", b"nan", b"inf")):
            return None
        try:
            return self._layout.decoder.decode_lines(_BARE.sub(rb':"\1"', block))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _each(self, block: bytes, tally: Tally) -> list[Any]:
        layout = self._layout
        rows: list[Any] = []
        decode, made = layout.decoder.decode, layout.row
        for line in block.split(b"\n"):
            line = line.strip()
            if not line:
                continue
            tally.lines += 1
            front: Line | None = None
            if line[:1] != b"{":
                front = line_of(line)
                if front.text[:1] == "{":
                    line = front.text.encode()
                    layout.learn(("ts", "rank"))
                else:
                    front = None
            try:
                row = decode(line) if layout.row is made else None
            except (msgspec.DecodeError, UnicodeDecodeError):
                row = None
            if row is None:
                row = self._slowly(line, tally)
            if layout.row is not made:
                decode, made = layout.decoder.decode, layout.row
                rows = [_remake(r, made) for r in rows]
            if row is not None:
                if front is not None:
                    layout.stamp(row, front.time, front.rank)
                rows.append(row)
        return rows

    def _slowly(self, line: bytes, tally: Tally) -> Any:
        record = decoded(line)
        if record is None:
            tally.invalid_json += 1
            return None
        if not isinstance(record, dict):
            tally.invalid_shape += 1
            return None
        record = self._layout.flat(record)
        self._layout.learn(record)
        try:
            return self._layout.coerce(record)
        except BadShapeError:
            tally.invalid_shape += 1
            return None


def decoded(line: bytes) -> Any:
    """The value of a line of JSON, NaN and infinities allowed however they are spelt.

    None for what is no JSON; `null`, which is no record either, is an empty list.
    """
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        spelt = _OWN_WORDS.sub(lambda m: m[1] + _AS_JSON[m[2]], line)
        if spelt == line:
            return None
        try:
            value = json.loads(spelt.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    return [] if value is None else value


def _objects(block: bytes) -> int:
    """How many lines the block has if each goes from { to }, so that no value can span two; else 0."""
    text = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    whole = block[:1] == b"{" and ends[-1] == len(text) - 1
    whole = whole and bool((text[ends - 1] == ord("}")).all() and (text[ends[:-1] + 1] == ord("{")).all())
    return len(ends) if whole else 0


def _remake(row: Any, made: Any) -> Any:
    return made(*(getattr(row, name) for name in row.__struct_fields__))
