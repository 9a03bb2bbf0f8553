"""Watching: turn after turn, counted and told; a turn that fails does not end it, Ctrl-C does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.artifacts import FolderStore
from gitops_mk.controller.apply import Applied
from gitops_mk.controller.loop import LoopResult
from gitops_mk.controller.plan import Planned
from gitops_mk.controller.watch import KEPT_ERRORS, Tally, watch
from gitops_mk.core.planner import Decision
from gitops_mk.errors import ForgeError, InputError, TelemetryError
from gitops_mk.model.signal import Observation, SignalName
from tests.support.make import StandingClock, observation

STABLE = observation()
BURST = observation(SignalName.BURST)
UNSURE = observation(insufficient=True)


def result(seen: Observation = STABLE, *, exit_code: int = 0, applied: bool = False) -> LoopResult:
    done = Applied(True, None, None) if applied else None
    return LoopResult({}, seen, Planned(Decision((), None), None, ()), done, exit_code)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "out")


def run(
    store: FolderStore, turns: list[Any], *, clock: StandingClock | None = None, limit: int | None = None
) -> tuple[Tally, list[tuple[str, int]]]:
    """Watch with turns that give, or raise, what stands in the list."""
    called: list[tuple[str, int]] = []
    script: Iterator[Any] = iter(turns)

    def turn(folder: str, tally: Tally) -> LoopResult:
        called.append((folder, tally.streak.stable_intervals))
        now = next(script)
        if isinstance(now, BaseException):
            raise now
        assert isinstance(now, LoopResult)
        return now

    watching: Callable[..., Tally] = watch
    tally = watching(
        turn, interval_s=30.0, max_iterations=limit or len(turns), clock=clock or StandingClock(), artifacts=store
    )
    return tally, called


def told(store: FolderStore) -> dict[str, Any]:
    data = json.loads(store.read("watch_latest.json") or b"{}")
    assert isinstance(data, dict)
    return data


def test_turns_have_folders_of_their_own_and_an_interval_between(store: FolderStore) -> None:
    clock = StandingClock()
    tally, called = run(store, [result()] * 3, clock=clock)
    assert [folder for folder, _ in called] == ["iter_0001", "iter_0002", "iter_0003"]
    assert clock.slept == [30.0, 30.0], "none before the first, none after the last"
    assert tally.exit_code == 0


def test_stable_turns_are_counted_in_a_row(store: FolderStore) -> None:
    turns = [result(), result(), result(BURST), result(), result(UNSURE), result(), TelemetryError("gone"), result()]
    tally, called = run(store, turns)
    assert [stable for _, stable in called] == [0, 1, 2, 0, 1, 0, 1, 0]
    assert tally.streak.stable_intervals == 1
    counts = told(store)["counts"]
    assert counts == {"stable": 5, "incident": 1, "signal_burst": 1, "insufficient_evidence": 1, "failed": 1}


def test_the_same_telemetry_again_is_no_further_interval(store: FolderStore) -> None:
    """A file that does not grow would else walk the knobs back on one reading."""
    still = STABLE.model_copy(update={"source": "file"})
    window = still.window.model_copy(update={"last_step": 500, "steps": 501})
    grown = still.model_copy(update={"window": window})
    tally, called = run(store, [result(still), result(still), result(grown), result(grown)])
    assert [stable for _, stable in called] == [0, 1, 1, 2]
    assert tally.streak.stable_intervals == 2


def test_a_turn_that_fails_is_told_and_the_next_one_tried(store: FolderStore) -> None:
    tally, called = run(store, [ForgeError("down"), InputError("odd"), result(applied=True)])
    assert len(called) == tally.iterations == 3
    assert tally.exit_code == 1
    report = told(store)
    assert report["errors"] == ["iter_0001: down", "iter_0002: odd"]
    assert report["counts"]["applied"] == 1
    assert "last error: iter_0002: odd" in (store.read("watch_summary.md") or b"").decode()


def test_a_fault_of_our_own_is_not_hidden(store: FolderStore) -> None:
    with pytest.raises(ZeroDivisionError):
        run(store, [result(), ZeroDivisionError()])


def test_only_the_last_errors_are_kept(store: FolderStore) -> None:
    number = KEPT_ERRORS + 5
    tally, _ = run(store, [ForgeError(str(n)) for n in range(number)])
    assert len(tally.errors) == KEPT_ERRORS
    assert told(store)["errors"][-1] == f"iter_{number:04d}: {number - 1}"
    assert told(store)["counts"]["failed"] == number


def test_a_blocked_turn_gives_exit_code_2(store: FolderStore) -> None:
    assert run(store, [result(exit_code=2), result()])[0].exit_code == 2


@pytest.mark.parametrize("interrupted", [1, 2])
def test_ctrl_c_ends_it_and_what_was_done_is_told(store: FolderStore, interrupted: int) -> None:
    turns: list[Any] = [result() for _ in range(interrupted)]
    turns[-1] = KeyboardInterrupt()
    tally, _ = run(store, turns, limit=10)
    assert tally.iterations == told(store)["iterations_done"] == interrupted - 1
    assert tally.exit_code == 0


def test_ctrl_c_while_it_sleeps(store: FolderStore) -> None:
    class Impatient(StandingClock):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    tally, called = run(store, [result()], clock=Impatient(), limit=10)
    assert (tally.iterations, len(called)) == (1, 1)
    assert told(store)["iterations_done"] == 1


def test_the_report_is_there_after_every_turn(store: FolderStore) -> None:
    seen: list[int] = []

    def turn(folder: str, tally: Tally) -> LoopResult:
        seen.append(told(store).get("iterations_done", 0))
        return result()

    watch(turn, interval_s=1, max_iterations=3, clock=StandingClock(), artifacts=store)
    assert seen == [0, 1, 2]
    report = told(store)
    assert report["last_iteration_out_dir"] == f"{store.out_dir}/iter_0003"
    assert report["artifact_paths"] == {"last_report": f"{store.out_dir}/iter_0003/closed_loop_latest.json"}
    assert report["schema_version"] == "v0"
    assert "- iterations: 3" in (store.read("watch_summary.md") or b"").decode()
