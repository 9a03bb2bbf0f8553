"""Structured logs: one JSON object a line on stderr, or a plain line on a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TextIO

from gitops_mk.model.canonical import dumps_canonical


class StderrJournal:
    """`ports.Journal`. Values are what the caller gives: never a token, never a log line of a workload."""

    def __init__(self, now: Callable[[], datetime], stream: TextIO | None = None) -> None:
        self._now = now
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

    def log(self, event: str, *, level: str = "info", **fields: object) -> None:
        """Write one line. Never raises: a log that can't be written stops nothing."""
        at = self._now().isoformat(timespec="milliseconds")
        with self._lock, suppress(OSError, ValueError):
            line = _told(at, event, fields) if self._stream.isatty() else _record(at, level, event, fields)
            self._stream.write(line + "\n")
            self._stream.flush()


def _told(at: str, event: str, fields: Mapping[str, object]) -> str:
    told = " ".join(f"{key}={value}" for key, value in fields.items() if value not in (None, ""))
    # What came from outside may hold control characters: a terminal is to show them, and not to heed them.
    told = "".join(char if char.isprintable() else repr(char)[1:-1] for char in told)
    return f"{at[11:19]} {event}: {told}" if told else f"{at[11:19]} {event}"


def _record(at: str, level: str, event: str, fields: Mapping[str, object]) -> str:
    named = {"ts": at, "level": level, "event": event}
    try:
        return dumps_canonical({**fields, **named}).decode()
    except (TypeError, ValueError):
        # No JSON: NaN, half a character, an object of ours.
        return dumps_canonical({**{key: ascii(value) for key, value in fields.items()}, **named}).decode()
