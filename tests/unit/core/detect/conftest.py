"""A healthy job as arrays, to put something on top of, and the way from it to an observation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gitops_mk.core.detect.observer import Observer
from gitops_mk.model.signal import Observation

F64 = npt.NDArray[np.float64]


@dataclass
class Job:
    """Arrays a test may change before it observes them; None leaves a field out."""

    workers: F64 | None
    comm: F64
    pause: F64
    loss: F64 | None
    throughput: F64 | None
    util: F64 | None
    mem: F64 | None
    step: F64
    extra: list[dict[str, Any]] = field(default_factory=list)
    raw: F64 | None = None

    @property
    def n(self) -> int:
        return len(self.step)

    def records(self) -> list[dict[str, Any]]:
        if self.raw is not None:
            ms = self.raw
        else:
            assert self.workers is not None
            ms = self.workers.max(axis=1) + self.comm + self.pause
        ts = 1.76e12 + np.cumsum(ms)
        out: list[dict[str, Any]] = []
        for i in range(self.n):
            record: dict[str, Any] = {"ts": float(ts[i]), "step": int(self.step[i]), "step_time_ms": float(ms[i])}
            if self.workers is not None:
                record["worker_latencies_ms"] = self.workers[i].tolist()
            if self.loss is not None:
                record["loss"] = float(self.loss[i])
            if self.throughput is not None:
                record["throughput"] = float(self.throughput[i] / ms[i])
            if self.util is not None:
                record["gpu_util_pct"] = float(self.util[i])
            if self.mem is not None:
                record["gpu_mem_util_pct"] = float(self.mem[i])
            out.append(record)
        return out + self.extra

    def observe(self, **options: Any) -> Observation:
        return observe_records(self.records(), **options)


def observe_records(records: list[dict[str, Any]], **options: Any) -> Observation:
    observer = Observer("file", **options)
    observer.feed(b"".join(json.dumps(r).encode() + b"\n" for r in records))
    return observer.finish()


def make_job(n: int = 600, workers: int = 4, seed: int = 0, noise: float = 0.012) -> Job:
    rng = np.random.default_rng(seed)
    x = np.arange(n) / max(n - 1, 1)
    common = 400.0 * np.exp(rng.normal(0, noise, n))
    return Job(
        workers=common[:, None] * np.exp(rng.normal(0, 0.01, (n, workers))),
        comm=30.0 * np.exp(rng.normal(0, 0.05, n)),
        pause=np.zeros(n),
        loss=(2 + 5 * np.exp(-5 * x)) * (1 + rng.normal(0, 0.01, n)),
        throughput=np.full(n, 256_000.0),
        util=np.clip(90 + rng.normal(0, 1, n), 0, 100),
        mem=70 + rng.normal(0, 0.2, n),
        step=np.arange(n, dtype=float),
    )


@pytest.fixture
def job() -> Callable[..., Job]:
    return make_job


@pytest.fixture
def observe() -> Callable[..., Observation]:
    return observe_records
