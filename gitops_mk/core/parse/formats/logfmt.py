"""logfmt: `ts=2026-01-01T00:00:00Z level=info msg="step done" step=10 step_time_ms=410 loss=2.31`.

A value may carry its own unit of time, `step_time=410ms`, which goes before the name's.
"""

from __future__ import annotations

import re

from gitops_mk.core.parse.fields import NUMBERS, Aliases, known
from gitops_mk.core.parse.formats.text import Record
from gitops_mk.core.parse.prefix import Line
from gitops_mk.core.parse.values import duration_ms, number

_PAIR = re.compile(
    r"""(?<![^\s,;{(])([A-Za-z_@][\w@./()%-]{0,199})=("(?:[^"\\]|\\.)*"|[^\s,;]+(?:,\d{3})*)""", re.ASCII
)
_IN_MS = {"step_ms": "step_time_ms", "wait_ms": "wait_ms", "comm_ms": "comm_ms", "own_ms": "compute_ms"}
_MEASURES = frozenset({"step_ms", "loss", "throughput"})


class Logfmt:
    """Reads `name=value` lines that have a measure of a step; a request that took its time is none."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases

    def claims(self, line: Line) -> bool:
        """True for a line with a step and a measure of it."""
        return any(
            {"step", "event"} & self._roles(record) or "step_ms" in self._roles(record) for record in self.records(line)
        )

    def records(self, line: Line) -> list[Record]:
        """The record of a line with a measure of a step, or with a planned event."""
        record: Record = {}
        meant = set()
        for name, text in _PAIR.findall(line.text):
            alias = known(name, self._aliases)
            if alias is None:
                continue
            meant.add(alias.role)
            if name not in self._aliases or name in record:
                continue
            text = text.strip('"').rstrip(",;")
            own = duration_ms(text) if alias.role in _IN_MS else None
            if own is not None:
                record[_IN_MS[alias.role]] = own
            elif alias.role in NUMBERS or alias.role == "loss":
                record[name] = number(text)
            else:
                record[name] = _plain(alias.role, text)
        if "event" in meant:
            return [record]
        no_step = "request" in meant and not meant & {"step", "loss"}
        return [record] if meant & _MEASURES and not no_step and self._roles(record) & _MEASURES else []

    def _roles(self, record: Record) -> set[str]:
        return {self._aliases[name].role for name in record}


def _plain(role: str, text: str) -> float | str | list[float | None] | list[str]:
    if role == "ts":
        value = number(text)
        return text if value is None or "-" in text[1:] else value
    if role in {"workers", "worker_stages"}:
        return [number(part) for part in re.split(r"[;|/]", text.strip("[]"))]
    return [part for part in text.strip("[]").split(";") if part] if role.startswith("worker_") else text
