"""Structured logs: one JSON object a line on stderr, or a plain line on a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
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
        if self._stream.isatty():
            told = " ".join(f"{key}={value}" for key, value in fields.items() if value not in (None, ""))
            line = f"{at[11:19]} {event}: {told}" if told else f"{at[11:19]} {event}"
        else:
            line = dumps_canonical({"ts": at, "level": level, "event": event, **fields}).decode("utf-8", "replace")
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return
