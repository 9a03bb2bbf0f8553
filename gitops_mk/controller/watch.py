"""The closed loop, again and again, each turn in a folder of its own; what happened is told after every turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gitops_mk.controller.loop import LoopResult
from gitops_mk.controller.streak import Streak
from gitops_mk.errors import EXIT_BAD_INPUT, EXIT_FAILED, MkError
from gitops_mk.model.report import report
from gitops_mk.ports import ArtifactStore, Clock

KEPT_ERRORS = 20


@dataclass
class Tally:
    """What the turns so far came to."""

    iterations: int = 0
    streak: Streak = field(default_factory=Streak)
    counts: Counter[str] = field(default_factory=Counter)
    last_out_dir: str | None = None
    errors: list[str] = field(default_factory=list)

    def add(self, result: LoopResult) -> None:
        """Count one turn."""
        seen = result.observation
        self.streak.add(seen)
        self.counts["stable" if seen.stable else "insufficient_evidence" if seen.insufficient else "incident"] += 1
        for name in seen.found:
            self.counts[f"signal_{name}"] += 1
        for entry in result.planned.results:
            self.counts[f"result_{entry['status']}"] += 1
        if result.applied is not None and result.applied.ok:
            self.counts["applied"] += 1
        if result.exit_code == EXIT_BAD_INPUT:
            self.counts["blocked"] += 1

    @property
    def exit_code(self) -> int:
        """1 when a turn failed, else 2 when one was blocked, else 0."""
        if self.errors:
            return EXIT_FAILED
        return EXIT_BAD_INPUT if self.counts["blocked"] else 0


def watch(
    turn: Callable[[str, Tally], LoopResult],
    *,
    interval_s: float,
    max_iterations: int | None,
    clock: Clock,
    artifacts: ArtifactStore,
) -> Tally:
    """Call `turn(folder, the turns so far)` until told to stop; Ctrl-C ends it between or within turns.

    A turn that fails is told and the next one tried: one bad reading must not end the watch.
    """
    tally = Tally()
    started = clock.now()
    try:
        for folder in _folders(max_iterations):
            if tally.iterations:
                clock.sleep(interval_s)
            try:
                tally.add(turn(folder, tally))
            except MkError as exc:
                tally.errors = [*tally.errors, f"{folder}: {exc.message}"][-KEPT_ERRORS:]
                tally.streak.broken()
                tally.counts["failed"] += 1
            tally.iterations += 1
            tally.last_out_dir = f"{artifacts.out_dir}/{folder}"
            _write(tally, started, clock, artifacts)
    except KeyboardInterrupt:
        _write(tally, started, clock, artifacts)
    return tally


def _folders(limit: int | None) -> Iterator[str]:
    number = 1
    while limit is None or number <= limit:
        yield f"iter_{number:04d}"
        number += 1


def _write(tally: Tally, started: datetime, clock: Clock, artifacts: ArtifactStore) -> None:
    last = tally.last_out_dir
    payload: dict[str, Any] = {
        "iterations_done": tally.iterations,
        "last_iteration_out_dir": last,
        "counts": dict(tally.counts),
        "stable_intervals": tally.streak.stable_intervals,
        "errors": tally.errors,
        "artifact_paths": {"last_report": f"{last}/closed_loop_latest.json" if last else None},
    }
    finished = clock.now()
    artifacts.text("watch_summary.md", _summary(tally))
    artifacts.report(
        "watch", report(payload, started=started, finished=finished, out_dir=artifacts.out_dir), at=started
    )


def _summary(tally: Tally) -> str:
    counts = ", ".join(f"{name} {number}" for name, number in sorted(tally.counts.items())) or "none"
    lines = [
        "# ModeKeeper watch",
        "",
        f"- iterations: {tally.iterations}",
        f"- counts: {counts}",
        f"- stable in a row: {tally.streak.stable_intervals}",
        f"- last: {tally.last_out_dir or 'none'}",
    ]
    if tally.errors:
        lines.append(f"- last error: {tally.errors[-1]}")
    return "\n".join(lines) + "\n"
