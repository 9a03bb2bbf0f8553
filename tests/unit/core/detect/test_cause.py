"""Where time is lost, and how fast the run goes: what a change is weighed by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gitops_mk.model.signal import Observation, Signal, SignalName

Json = dict[str, Any]
Observe = Callable[..., Observation]


def steps(n: int = 400, *, ms: Callable[[int], float] = lambda i: 100.0, seed: int = 3, **more: Any) -> list[Json]:
    """Records with 1 % noise; `more` gives fields, as functions of the index."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        took = ms(i) * float(np.exp(rng.normal(0, 0.01)))
        fields = {name: value(i, took) for name, value in more.items()}
        out.append({"step": i, "step_time_ms": took, "throughput": 1e5 / took, **fields})
    return out


def the(seen: Observation, name: SignalName) -> Signal:
    found = seen.signal(name)
    assert found is not None
    assert found.found, found.evidence.summary
    return found


def slower(i: int) -> float:
    return 100.0 if i < 200 else 140.0


class TestDrift:
    def cause(self, observe: Observe, **more: Any) -> str | None:
        return the(observe(steps(ms=slower, **more)), SignalName.DRIFT_STEP).evidence.cause

    def test_nothing_tells(self, observe: Observe) -> None:
        assert self.cause(observe) is None

    def test_the_clock_fell(self, observe: Observe) -> None:
        assert self.cause(observe, gpu_sm_clock_mhz=lambda i, _: 1980 if i < 200 else 1400) == "clock"
        assert self.cause(observe, gpu_sm_clock_mhz=lambda i, _: 1980 if i < 200 else 1930) is None

    def test_input_is_waited_for(self, observe: Observe) -> None:
        assert self.cause(observe, data_wait_ms=lambda i, _: 5.0 if i < 200 else 44.0) == "input"
        assert self.cause(observe, data_wait_ms=lambda i, _: 5.0) is None

    def test_memory_runs_short(self, observe: Observe) -> None:
        assert self.cause(observe, num_alloc_retries=lambda i, _: max(0, i - 200)) == "memory"
        assert self.cause(observe, num_alloc_retries=lambda i, _: 3) is None
        assert self.cause(observe, num_alloc_retries=lambda i, _: i // 20) is None, "as often as before"
        assert self.cause(observe, num_alloc_retries=lambda i, _: int(i > 300)) is None, "one is none"
        restarted = lambda i, _: i % 150 if i > 200 else 0  # noqa: E731 - a counter that begins again
        assert self.cause(observe, num_alloc_retries=restarted) == "memory"
        assert self.cause(observe, gpu_mem_util_pct=lambda i, _: 80.0 if i < 200 else 96.0) == "memory"
        assert self.cause(observe, gpu_mem_util_pct=lambda i, _: 96.5) is None

    def test_too_short_to_tell(self, observe: Observe) -> None:
        only_late: Any = lambda i, _: 44.0 if i >= 396 else float("nan")  # noqa: E731
        assert self.cause(observe, data_wait_ms=only_late) is None


class TestStraggler:
    def records(
        self, *, wait: float | None = None, ahead: bool = False, since: int = 0, usual: float = 0.0
    ) -> list[Json]:
        """Four ranks, one at 1.5 times the others since some step; or four loaders that work ahead, one of them too slow.

        `wait`: the share of a step that waits for input since then, `usual` before.
        """
        rng = np.random.default_rng(5)
        out = []
        for i in range(300):
            base = [100.0 * float(np.exp(rng.normal(0, 0.01))) for _ in range(4)]
            if ahead:
                workers = [base[0], base[1], base[2] * 8.0, base[3]]
                took = 100.0 if i % 4 else 300.0
            else:
                workers = [base[0], base[1], base[2] * (1.5 if i >= since else 1.0), base[3]]
                took = max(workers) + 1.0
            record: Json = {"step": i, "step_time_ms": took, "worker_latencies_ms": workers}
            if wait is not None:
                record["data_wait_ms"] = (wait if i >= since else usual) * took
            out.append(record)
        return out

    def test_part_of_the_step(self, observe: Observe) -> None:
        evidence = the(observe(self.records()), SignalName.STRAGGLER).evidence
        assert evidence.values["cost_share"] == pytest.approx(1 / 3, abs=0.02)
        assert evidence.cause is None

    def test_working_ahead(self, observe: Observe) -> None:
        evidence = the(observe(self.records(ahead=True)), SignalName.STRAGGLER).evidence
        assert evidence.values["cost_share"] == pytest.approx(1 / 3, abs=0.02)

    @pytest.mark.parametrize(("wait", "cause"), [(0.3, "input"), (0.15, None), (0.05, "compute")])
    def test_of_one_that_always_was_slow_all_waiting_has_to_fit(
        self, observe: Observe, wait: float, cause: str | None
    ) -> None:
        assert the(observe(self.records(wait=wait)), SignalName.STRAGGLER).evidence.cause == cause

    @pytest.mark.parametrize(
        ("wait", "usual", "cause"), [(0.3, 0.0, "input"), (0.3, 0.3, "compute"), (0.4, 0.1, "input")]
    )
    def test_waiting_that_came_with_it(self, observe: Observe, wait: float, usual: float, cause: str) -> None:
        seen = observe(self.records(wait=wait, usual=usual, since=100))
        assert the(seen, SignalName.STRAGGLER).evidence.cause == cause


class TestBurst:
    def records(self, wait: Callable[[bool], float | None]) -> list[Json]:
        rng = np.random.default_rng(9)
        starts = set(np.cumsum(rng.integers(17, 60, 12)).tolist())
        slow = {at + k for at in starts for k in range(6)}
        out = steps(500, ms=lambda i: 200.0 if i in slow else 100.0)
        for record in out:
            value = wait(record["step"] in slow)
            if value is not None:
                record["data_wait_ms"] = value
        return out

    @pytest.mark.parametrize(
        ("wait", "cause"),
        [
            (lambda slow: 100.0 if slow else 3.0, "input"),
            (lambda slow: 3.0, "compute"),
            (lambda slow: None, None),
            (lambda slow: 100.0 if slow else None, None),
        ],
    )
    def test_what_they_wait_for(
        self, observe: Observe, wait: Callable[[bool], float | None], cause: str | None
    ) -> None:
        evidence = the(observe(self.records(wait)), SignalName.BURST).evidence
        assert evidence.cause == cause
        assert evidence.values["stall_steps"] == pytest.approx(6.0, abs=1.5)


class TestPace:
    def test_long_and_short_runs(self, observe: Observe) -> None:
        long = observe(steps(2000)).pace
        assert long is not None
        assert (long.block_steps, len(long.block_ms)) == (8, 64)
        assert long.mean_ms == pytest.approx(100.0, rel=0.01)
        short = observe(steps(40)).pace
        assert short is not None
        assert (short.block_steps, len(short.block_ms)) == (1, 40)
        assert observe([]).pace is None

    def test_checkpoints_as_announced(self, observe: Observe) -> None:
        events = [{"event": "checkpoint", "step": at} for at in (50, 150, 250)]
        pace = observe(steps(300) + events).pace
        assert pace is not None
        assert pace.checkpoint_every == 100
        once = observe(steps(300) + events[:1]).pace
        assert once is not None
        assert once.checkpoint_every is None

    def test_all_announced(self, observe: Observe) -> None:
        events = [{"event": "checkpoint", "step": at} for at in range(0, 40, 2)]
        assert observe(steps(40) + events).pace is None
