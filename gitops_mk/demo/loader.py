"""Loads batches in processes of their own and hands them out in turn, as PyTorch's DataLoader does.

Loader `k` of `n` loads every n-th batch, and keeps at most `prefetch` of them asked for ahead. Batches come in order, so
one slow loader holds up every n-th of them, and a deep queue rides over a pause. Pipes only: no shared memory, no
semaphores, nothing that outlives a killed process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from gitops_mk.demo.faults import Fault, Storage
from gitops_mk.demo.network import Array, Data, Labels

# Forking is quick and, from a process of one thread, safe on Linux; elsewhere start afresh.
_FORK = sys.platform == "linux"
_POLL_S = 0.2
_JOIN_S = 1.0


class LoaderError(Exception):
    """A loader process is gone."""


@dataclass(frozen=True)
class Machine:
    """What a loader process must know of the machine it runs on."""

    fault: Fault
    seed: int
    began: float


class Batch(NamedTuple):
    """A microbatch: (samples, FEATURES) and (samples,); and how long its loader took for it."""

    x: Array
    y: Labels
    latency_ms: float


class Loader:
    """Microbatches of `size` samples from place `start` of the stream on. `alive` is asked while waiting."""

    def __init__(
        self, machine: Machine, *, start: int, size: int, workers: int, prefetch: int, alive: Callable[[], bool]
    ) -> None:
        self._size = size
        self._alive = alive
        self._asked = start
        self._turn = 0
        self.place = start
        self.latencies_ms: list[float | None] = [None] * workers
        context = multiprocessing.get_context("fork") if _FORK else multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for index in range(workers):
            ours, theirs = context.Pipe()
            # A forked child inherits the pipes to its elder siblings, and would keep them open.
            inherited = [*self._pipes, ours] if _FORK else []
            process = context.Process(
                target=_work, args=(theirs, inherited, machine, index, os.getpid()), daemon=True, name=f"loader-{index}"
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for _ in range(prefetch):
            for index in range(workers):
                self._ask(index)

    @property
    def pids(self) -> list[int]:
        """The loader processes."""
        return [process.pid or 0 for process in self._processes]

    def next(self) -> Batch:
        """The next microbatch in order. Raises LoaderError when its loader is gone, or when told not to wait on."""
        index = self._turn
        pipe = self._pipes[index]
        try:
            while not pipe.poll(_POLL_S):
                if not self._alive():
                    raise LoaderError("told to stop")
            x, y, latency_ms = pipe.recv()
            self._ask(index)
        except (EOFError, OSError) as exc:
            raise LoaderError(f"loader {index} is gone") from exc
        self._turn = (index + 1) % len(self._pipes)
        self.place += self._size
        self.latencies_ms[index] = latency_ms
        return Batch(x, y, latency_ms)

    def close(self) -> None:
        """End all loaders; what they had ready is dropped."""
        for pipe in self._pipes:
            pipe.close()
        deadline = time.monotonic() + _JOIN_S
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
            process.close()

    def _ask(self, index: int) -> None:
        self._pipes[index].send((self._asked, self._size))
        self._asked += self._size


def _work(pipe: Connection, inherited: list[Connection], machine: Machine, index: int, parent: int) -> None:
    """A loader process: it answers one request after the other, and ends when its parent does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for other in inherited:
        other.close()
    data = Data(machine.seed)
    storage = Storage(machine.fault, machine.seed, index, machine.began)
    # A pipe holds little: without a queue of our own a large batch would wait for its reader instead of being ready.
    ready: queue.SimpleQueue[object] = queue.SimpleQueue()
    threading.Thread(target=_send, args=(pipe, ready), daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while os.getppid() == parent:
            if not pipe.poll(_POLL_S):
                continue
            start, size = pipe.recv()
            began = time.monotonic()
            x, y = data.batch(start, size)
            storage.read(size)
            ready.put((x, y, 1000.0 * (time.monotonic() - began)))


def _send(pipe: Connection, ready: queue.SimpleQueue[object]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while True:
            pipe.send(ready.get())
