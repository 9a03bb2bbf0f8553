"""Runs the demo trainer as a process of its own, follows its log, and sums stretches of it up."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple, Self

from gitops_mk.errors import InputError, PeerError

_POLL_S = 0.03
_STOP_S = 3.0


class Summary(NamedTuple):
    """A stretch of training. Step times in ms, throughput in samples per second, the loss as the mean of the stretch."""

    steps: int
    median_step_ms: float
    p95_step_ms: float
    throughput: float
    loss: float


class Trainer:
    """The trainer as a process; a context manager that starts and stops it.

    `annotations` is the file its knobs come from, `knobs_dir` the folder of a mounted ConfigMap instead, `log` the file it
    writes to, `fault` one of `none`, `straggler`, `drift` and `burst`.
    """

    def __init__(
        self,
        *,
        annotations: Path | None = None,
        knobs_dir: Path | None = None,
        log: Path,
        fault: str = "none",
        seed: int = 7,
    ) -> None:
        self._log = log
        option = ["--annotations", str(annotations)] if knobs_dir is None else ["--knobs-dir", str(knobs_dir)]
        self._argv = [sys.executable, "-m", "gitops_mk.demo.trainer", *option]
        self._argv += ["--log", str(log), "--fault", fault, "--seed", str(seed), "--parent", str(os.getpid())]
        self._process: subprocess.Popen[bytes] | None = None
        self._follower = _Follower(log)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, in a session of its own so that a Ctrl-C ends it by way of `stop`, not in the middle."""
        if self._process is not None:
            raise InputError("the trainer runs already")
        self._follower.skip()
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def steps(self) -> int:
        """The last step it has logged, 0 before the first."""
        self._follower.read()
        return self._follower.step

    def wait_for_steps(self, steps: int, timeout: float, progress: Callable[[int], None] | None = None) -> int:
        """Wait until it has done `steps` steps since its start; gives how many it has done.

        `progress` is called with that number whenever it grows. Raises PeerError when the trainer ends before, or
        `timeout` seconds pass.
        """
        told = 0

        def done() -> int | None:
            nonlocal told
            now = self.steps()
            if now > told and progress is not None:
                progress(now)
            told = now
            return now if now >= steps else None

        return self._wait(done, timeout, f"step {steps}")

    def wait_for_change(self, timeout: float) -> int:
        """Wait until it takes up new knobs, and give the first step with them. Each change is told once.

        Raises PeerError when the trainer ends before, or `timeout` seconds pass.
        """

        def done() -> int | None:
            self._follower.read()
            return self._follower.changes.pop(0) if self._follower.changes else None

        return self._wait(done, timeout, "a change of knobs")

    def stop(self) -> None:
        """End it and all its loaders: a request, and after 3 s force. Harmless when it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                # Its loaders are in its group, which lives on under its number until it is reaped.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _wait(self, done: Callable[[], int | None], timeout: float, what: str) -> int:
        deadline = time.monotonic() + timeout
        while True:
            found = done()
            if found is not None:
                return found
            process = self._process
            if process is None:
                raise PeerError("the trainer does not run")
            if process.poll() is not None:
                said = process.stderr.read(2000).decode("utf-8", "replace").strip() if process.stderr else ""
                raise PeerError(
                    f"the trainer ended with status {process.returncode} before {what}: {said or 'no word'}"
                )
            if time.monotonic() > deadline:
                raise PeerError(
                    f"the trainer did not come to {what} within {timeout:g} s, it is at step {self._follower.step}",
                    hint=f"look at {self._log}; is the machine very busy?",
                    retryable=True,
                )
            time.sleep(_POLL_S)


class _Follower:
    """Reads what is new in a log, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._rest = b""
        self.step = 0
        self.changes: list[int] = []

    def skip(self) -> None:
        """Start from the end of what is there now."""
        self._at = self._path.stat().st_size if self._path.exists() else 0
        self._rest = b""
        self.step = 0
        self.changes = []

    def read(self) -> None:
        """Take in what was written since."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._at)
            new = file.read()
            self._at += len(new)
            *lines, self._rest = (self._rest + new).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        record = _record(line)
        if record.get("event") == "schedule":
            self.changes.append(int(record["step"]))
        elif "step_time_ms" in record:
            self.step = int(record["step"])


def summarise(log: Path, first: int, last: int) -> Summary:
    """Sum up the steps from `first` to `last`, both included. Raises InputError when the log has none of them."""
    rows = [r for r in _records(log) if "step_time_ms" in r and first <= r["step"] <= last]
    if not rows:
        raise InputError(f"{log}: no steps from {first} to {last}")
    times = sorted(float(r["step_time_ms"]) for r in rows)
    samples = sum(float(r["throughput"]) * float(r["step_time_ms"]) for r in rows)
    return Summary(
        steps=len(rows),
        median_step_ms=median(times),
        p95_step_ms=times[min(len(times) - 1, math.ceil(0.95 * len(times)) - 1)],
        throughput=samples / sum(times),
        loss=fmean(float(r["loss"]) for r in rows),
    )


def _records(log: Path) -> Iterator[dict[str, Any]]:
    try:
        with log.open("rb") as file:
            for line in file:
                yield _record(line)
    except OSError as exc:
        raise InputError(f"{log}: can't be read: {exc.strerror}") from exc


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
