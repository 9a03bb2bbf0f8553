"""Telemetry whose reading ends when the process is to stop, even while its server is silent."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress

from gitops_mk.errors import StoppedError
from gitops_mk.model.telemetry import Environment, SourceInfo
from gitops_mk.ports import TelemetrySource

POLL_S = 0.2
AHEAD = 4


class StoppableSource:
    """`ports.TelemetrySource` read in a thread of its own, so that who takes the blocks never waits for long."""

    def __init__(self, source: TelemetrySource, stopping: threading.Event) -> None:
        self._source = source
        self._stopping = stopping

    @property
    def info(self) -> SourceInfo:
        """What reports call it."""
        return self._source.info

    @property
    def environment(self) -> Environment:
        """What the source itself knows of where its lines came from."""
        return self._source.environment

    def chunks(self) -> Iterator[bytes]:
        """The blocks of the source. Raises StoppedError when told to stop, and what the source raises."""
        handed: queue.Queue[bytes | Exception | None] = queue.Queue(AHEAD)
        left = threading.Event()
        # A daemon: a server that does not answer must not keep the process.
        threading.Thread(target=self._read, args=(handed, left), name="telemetry", daemon=True).start()
        try:
            while True:
                if self._stopping.is_set():
                    raise StoppedError("told to stop: the telemetry was not read to its end")
                try:
                    block = handed.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                if block is None:
                    return
                if isinstance(block, Exception):
                    raise block
                yield block
        finally:
            left.set()

    def _read(self, handed: queue.Queue[bytes | Exception | None], left: threading.Event) -> None:
        def hand(block: bytes | Exception | None) -> bool:
            while not left.is_set():
                with suppress(queue.Full):
                    handed.put(block, timeout=POLL_S)
                    return True
            return False

        try:
            for block in self._source.chunks():
                if not hand(block):
                    return
            hand(None)
        except Exception as exc:  # noqa: BLE001 - raised again where the blocks are taken
            hand(exc)
