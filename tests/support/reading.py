"""A source of pods' logs that is read while a script moves the cluster under it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Self

from gitops_mk.adapters.telemetry.pod_logs import PodLogSource
from gitops_mk.model.workload import WorkloadRef
from gitops_mk.ports import Cluster


def step(number: int) -> bytes:
    return b'{"step": %d, "step_time_ms": 100}\n' % number


def steps(*numbers: int) -> list[bytes]:
    return [step(number) for number in numbers]


class Clock:
    """The time that goes by, until the test has seen enough."""

    def __init__(self) -> None:
        self.jumped = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.jumped


class Reading:
    """A source that is read while a script in another thread moves the cluster; the reading ends when the script does."""

    def __init__(self, cluster: Cluster, ref: WorkloadRef, **options: Any) -> None:
        self.clock = Clock()
        self.source = PodLogSource(cluster, ref, monotonic=self.clock, duration_s=3600.0, **options)
        self.lines: list[bytes] = []
        self._changed = threading.Condition()
        self._problem: BaseException | None = None

    def run(self, script: Callable[[Self], None]) -> list[bytes]:
        """All lines that were read."""

        def guarded() -> None:
            try:
                script(self)
            except BaseException as exc:  # noqa: BLE001 - raised below
                self._problem = exc
            self.clock.jumped = 1e6

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        for block in self.source.chunks():
            assert block.endswith(b"\n")
            with self._changed:
                self.lines += block.splitlines(keepends=True)
                self._changed.notify_all()
        thread.join()
        if self._problem is not None:
            raise self._problem
        return self.lines

    def seen(self, count: int) -> None:
        """Wait for so many lines."""
        self.until(lambda: len(self.lines) >= count, f"{count} lines")

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        end = time.monotonic() + 30
        while not done():
            assert time.monotonic() < end, f"waited for {what}; lines {self.lines}, notes {self.notes}"
            time.sleep(0.002)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.source.environment.notes
