"""The training loop: one optimizer step after the other, knobs read again between them, one log line a step."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Any, Protocol

from gitops_mk.demo.faults import NODE, NODE_VARIABLE, Device, Fault, Memory
from gitops_mk.demo.loader import Loader, LoaderError, Machine
from gitops_mk.demo.network import Accumulator, Momentum, Network

_LOADER_KNOBS = ("microbatch_size", "dataloader_num_workers", "dataloader_prefetch_factor")


class Knobs(Protocol):
    """Where the knobs come from. `poll` looks again, and says whether one has a new value; `told` gives them for the log."""

    knobs: dict[str, int]

    def poll(self) -> bool:
        """Look again."""
        ...

    def told(self) -> dict[str, list[str]]:
        """The values as they are delivered."""
        ...


class Training:
    """A run. It goes on until `alive` says no, or `max_steps` are done."""

    def __init__(self, knobs: Knobs, log: IO[str], fault: Fault, seed: int, alive: Callable[[], bool]) -> None:
        self._knobs = knobs
        self._log = log
        self._alive = alive
        self._machine = Machine(fault, seed, time.monotonic())
        self._memory = Memory(fault, self._machine.began)
        self._device = Device()
        self._network = Network(seed)
        self._optimizer = Momentum(self._network)
        self._loader: Loader | None = None
        self._step = 0

    def run(self, max_steps: int | None = None) -> int:
        """Train; gives the number of steps done. Raises LoaderError when a loader process dies."""
        try:
            self._loader = self._new_loader(0)
            self._event("resume")
            while self._alive() and (max_steps is None or self._step < max_steps):
                self._retune()
                self._one_step()
        except LoaderError:
            # A stop may end a wait in the middle of a step.
            if self._alive():
                raise
        finally:
            if self._loader is not None:
                self._loader.close()
            self._memory.close()
        return self._step

    def _new_loader(self, start: int) -> Loader:
        knobs = self._knobs.knobs
        return Loader(
            self._machine,
            start=start,
            size=knobs["microbatch_size"],
            workers=knobs["dataloader_num_workers"],
            prefetch=knobs["dataloader_prefetch_factor"],
            alive=self._alive,
        )

    def _retune(self) -> None:
        before = self._knobs.knobs
        if not self._knobs.poll():
            return
        after = self._knobs.knobs
        if self._loader is not None and any(before[name] != after[name] for name in _LOADER_KNOBS):
            self._loader.close()
            self._loader = self._new_loader(self._loader.place)
        self._event("schedule", changed={k: [before.get(k), v] for k, v in after.items() if before.get(k) != v})

    def _one_step(self) -> None:
        loader = self._loader
        if loader is None:
            return
        knobs = self._knobs.knobs
        began = time.monotonic()
        waited = 0.0
        batch = Accumulator()
        for _ in range(knobs["grad_accum_steps"]):
            asked = time.monotonic()
            x, y, _ = loader.next()
            start = time.monotonic()
            kept = self._network.forward(x)
            forward = time.monotonic()
            kept = self._memory.through(kept)
            back = time.monotonic()
            batch.add(*self._network.backward(kept, y), samples=len(x))
            # While activations wait for the disk, the device has nothing to do.
            self._device.finish(len(x), (forward - start) + (time.monotonic() - back))
            waited += start - asked
        self._optimizer.step(batch.gradients)
        took = time.monotonic() - began
        self._step += 1
        record: dict[str, Any] = {
            "ts": _now(),
            "step": self._step,
            "step_time_ms": round(1000.0 * took, 3),
            "loss": round(batch.loss, 6),
            "throughput": round(knobs["grad_accum_steps"] * knobs["microbatch_size"] / took, 2),
            "data_wait_ms": round(1000.0 * waited, 3),
            "knobs": knobs,
            "node": os.environ.get(NODE_VARIABLE, NODE),
        }
        latencies = [value for value in loader.latencies_ms if value is not None]
        if len(latencies) == len(loader.latencies_ms):
            record["worker_latencies_ms"] = [round(value, 3) for value in latencies]
        self._write(record)

    def _event(self, name: str, **more: object) -> None:
        common = {"ts": _now(), "event": name, "step": self._step + 1, "knobs": self._knobs.knobs}
        self._write({**common, **self._knobs.told(), **more})

    def _write(self, record: dict[str, Any]) -> None:
        self._log.write(json.dumps(record, separators=(",", ":")) + "\n")
        self._log.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
