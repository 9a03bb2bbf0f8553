"""Made-up telemetry for demos and tests: equal scenario, seed and length give equal bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gitops_mk.errors import InputError
from gitops_mk.model.telemetry import Environment, SourceInfo

SCENARIOS: dict[str, str] = {
    "stable": "a healthy job: warm-up, a checkpoint every 100 steps, nothing wrong",
    "drift": "steps get gradually slower from a third of the run on, and throughput falls with them",
    "burst": "stretches of slow steps, again and again, off every cadence",
    "straggler": "worker 1 of 4 takes several times as long as its peers",
    "gpu_saturated": "the GPU gets pinned half-way, and steps get slower with it",
    "comm_congestion": "the time outside the workers grows to a multiple half-way",
    "near_hang": "two steps take a hundred times as long as the others",
    "recovered": "a healthy job again, after what was wrong was put right",
    "empty": "no lines at all",
}

STEP_MS = 400.0
WORKERS = 4
START_MS = 1_767_225_600_000
LINES_PER_BLOCK = 1000


class SyntheticSource:
    """JSON lines of one scenario. Raises InputError for an unknown one."""

    def __init__(self, scenario: str, *, seed: int = 0, steps: int = 400) -> None:
        if scenario not in SCENARIOS:
            raise InputError(
                f"scenario {scenario!r}, expected one of {', '.join(SCENARIOS)}",
                hint="pass one of them with --scenario",
            )
        if steps < 0:
            raise InputError(f"{steps} steps, expected 0 or more")
        self._scenario = scenario
        self._seed = seed
        self._steps = steps

    @property
    def info(self) -> SourceInfo:
        """`synthetic` and the scenario."""
        return SourceInfo(kind="synthetic", name=self._scenario, format="jsonl")

    @property
    def environment(self) -> Environment:
        """No machine made these lines."""
        return Environment()

    def chunks(self) -> Iterator[bytes]:
        """Blocks of whole lines."""
        if self._scenario == "empty":
            return
        import json

        lines: list[str] = []
        for record in _records(self._scenario, self._seed, self._steps):
            lines.append(json.dumps(record))
            if len(lines) >= LINES_PER_BLOCK:
                yield ("\n".join(lines) + "\n").encode()
                lines = []
        if lines:
            yield ("\n".join(lines) + "\n").encode()


def _records(scenario: str, seed: int, steps: int) -> Iterator[dict[str, Any]]:
    import numpy as np

    rng = np.random.default_rng([seed, list(SCENARIOS).index(scenario)])
    x = np.arange(steps) / max(steps - 1, 1)
    common = STEP_MS * np.exp(rng.normal(0.0, 0.015, steps))
    workers = common[:, None] * np.exp(rng.normal(0.0, 0.012, (steps, WORKERS)))
    comm = 0.08 * STEP_MS * np.exp(rng.normal(0.0, 0.05, steps))
    pause = np.where(np.arange(steps) % 100 == 99, 3.0 * STEP_MS, 0.0)
    workers[: min(5, steps // 20)] *= 3.0
    util = np.clip(88.0 + rng.normal(0.0, 1.5, steps), 0.0, 100.0)
    _SHAPES.get(scenario, _healthy)(rng, x, workers, comm, pause, util)
    step_ms = workers.max(axis=1, initial=0.0) + comm + pause if steps else np.empty(0)
    loss = (2.0 + 5.0 * np.exp(-5.0 * x)) * (1.0 + rng.normal(0.0, 0.01, steps))
    ts = START_MS + np.cumsum(step_ms)
    for i in range(steps):
        yield {
            "ts": int(ts[i]),
            "step": i,
            "step_time_ms": round(float(step_ms[i]), 3),
            "loss": round(float(loss[i]), 5),
            "throughput": round(256_000.0 / float(step_ms[i]), 3),
            "worker_latencies_ms": [round(float(v), 2) for v in workers[i]],
            "gpu_util_pct": round(float(util[i]), 1),
            "gpu_mem_util_pct": 71.5,
            "node": "node-a",
            "gpu_model": "NVIDIA H100 80GB HBM3",
        }


def _healthy(rng: Any, x: Any, workers: Any, comm: Any, pause: Any, util: Any) -> None:
    """Nothing to put on top."""


def _drift(rng: Any, x: Any, workers: Any, comm: Any, pause: Any, util: Any) -> None:
    import numpy as np

    workers *= (1.0 + 0.6 * np.clip((x - 0.33) / 0.67, 0.0, 1.0))[:, None]


def _burst(rng: Any, x: Any, workers: Any, comm: Any, pause: Any, util: Any) -> None:
    n = len(x)
    length = max(4, n // 50)
    for start in (0.14, 0.31, 0.43, 0.58, 0.72, 0.87):
        first = int(start * n) + int(rng.integers(0, max(1, n // 40)))
        workers[first : first + length] *= 2.4
        util[first : first + length] *= 0.6


def _straggler(rng: Any, x: Any, workers: Any, comm: Any, pause: Any, util: Any) -> None:
    import numpy as np

    slow = 6.2 * np.exp(rng.normal(0.0, 0.04, len(x)))
    workers[:, 1] *= np.where(x >= 0.1, slow, 1.0)


def _gpu_saturated(rng: Any, x: Any, workers: Any, comm: Any, pause: Any, util: Any) -> None:
    import numpy as np

    late = x >= 0.5
    util[late] = np.clip(99.6 - np.abs(rng.normal(0.0, 0.2, int(late.sum()))), 0.0, 100.0)
    workers[late] *= 1.4


def _comm_congestion(rng: Any, x: Any, workers: Any, comm: Any, pause: Any, util: Any) -> None:
    comm[x >= 0.5] *= 6.0


def _near_hang(rng: Any, x: Any, workers: Any, comm: Any, pause: Any, util: Any) -> None:
    for at in (0.62, 0.78):
        pause[int(at * len(x)) : int(at * len(x)) + 1] = 120.0 * STEP_MS


_SHAPES: dict[str, Callable[[Any, Any, Any, Any, Any, Any], None]] = {
    "drift": _drift,
    "burst": _burst,
    "straggler": _straggler,
    "gpu_saturated": _gpu_saturated,
    "comm_congestion": _comm_congestion,
    "near_hang": _near_hang,
}
