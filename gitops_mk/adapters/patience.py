"""Waiting for a peer only as long as the process is to go on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from gitops_mk.errors import StoppedError

POLL_S = 0.2
T = TypeVar("T")


def unless_stopped(call: Callable[[], T], stopping: threading.Event) -> T:
    """What `call` gives, or raises. Raises StoppedError when `stopping` is set before it has ended."""
    handed: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            handed.put((call(), None))
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            handed.put((None, exc))

    # A daemon: a server that does not answer must not keep the process.
    threading.Thread(target=run, name="request", daemon=True).start()
    while True:
        try:
            answer, failure = handed.get(timeout=POLL_S)
        except queue.Empty:
            if stopping.is_set():
                raise StoppedError("told to stop: its answer was not waited for") from None
            continue
        if failure is not None:
            raise failure
        return answer  # type: ignore[return-value]
