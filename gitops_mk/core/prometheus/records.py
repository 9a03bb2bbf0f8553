"""Series of several queries to records of steps, one JSON line each, and what is to be said of what was not there.

A sample is a moment, a record is a step: samples that show the same step counter are one record, a counter that went back is a
restart. Where no query gives the counter, each sample counts as a step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from gitops_mk.core.prometheus.answers import Answer, Series
from gitops_mk.core.prometheus.grid import Grid
from gitops_mk.core.prometheus.roles import ROLES, WORKER_SCALE, Take
from gitops_mk.core.prometheus.samples import F64, Bools, Labels, labels, matrix, reduced, shares
from gitops_mk.core.prometheus.workers import Workers
from gitops_mk.core.render.text import plain

MAX_NOTES: Final = 40
# Of gaps, and of restarts: what is said of roles must find room as well.
MAX_ALIKE: Final = 5
MAX_NAMES: Final = 64
# So many samples in a row must be missing for a gap; single scrapes fail.
GAP: Final = 4
# A step that stands for so long, or telemetry that ended so long ago, is told.
STANDING_MS: Final = 300_000
_NODE_LABELS: Final = ("Hostname", "node")
_MODEL_LABELS: Final = ("modelName", "GpuDeviceName")
_WORDS: Final[Mapping[Take, str]] = {"max": "highest", "min": "lowest", "mean": "mean"}


@dataclass
class _Step:
    """The samples of one step so far. `held` has, for each field, the sum and the count."""

    number: int
    ts: int
    fields: dict[str, Any] = field(default_factory=dict)
    held: dict[str, tuple[float, int]] = field(default_factory=dict)

    def line(self) -> str:
        means = {name: total / count for name, (total, count) in self.held.items()}
        return json.dumps({"ts": self.ts, "step": self.number, **self.fields, **means})


class Recorder:
    """For one span of the grid after the other: `take` the answer of every role, then ask for the `lines`; at the end, `finish`.

    `queries` are the expressions by role. `worker_label` is the label that tells workers apart; None: the first of the usual
    ones that does.
    """

    def __init__(self, grid: Grid, queries: Mapping[str, str], *, worker_label: str | None = None) -> None:
        self._grid = grid
        self._queries = queries
        self._has_step = "step" in queries
        self._key = next((r for r in queries if ROLES[r].group == "step_time"), "step")
        self._arrays: dict[str, F64] = {}
        self._paired: dict[str, dict[Labels, F64]] = {}
        self._workers: F64 = np.empty((0, 0))
        self._broken: Bools = np.empty(0, dtype=bool)
        self._who = Workers(worker_label, self.note)
        self._step: _Step | None = None
        self._last: int | None = None
        # Counted when the lines are asked for: a span may be taken again, in parts.
        self._span: dict[str, tuple[int, int]] = {}
        self._samples = dict.fromkeys(queries, 0)
        self._widest = dict.fromkeys(queries, 0)
        self._odd = dict.fromkeys(queries, 0)
        self._useless = 0
        self._gaps = 0
        self._restarts = 0
        self._notes: dict[str, None] = {}
        self._left_out = 0
        self._nodes: dict[str, None] = {}
        self._models: dict[str, None] = {}

    @property
    def most_series(self) -> int:
        """The most series that an answer had."""
        return max(self._widest.values(), default=0)

    @property
    def empty(self) -> bool:
        """True where no answer held a sample."""
        return not any(self._samples.values())

    @property
    def nodes(self) -> tuple[str, ...]:
        """Nodes that labels name."""
        return tuple(sorted(self._nodes))

    @property
    def gpu_models(self) -> tuple[str, ...]:
        """GPU models that labels name."""
        return tuple(sorted(self._models))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said; whole once it is finished."""
        more = (f"{self._left_out} more notes like these",) if self._left_out else ()
        return (*self._notes, *more)

    def note(self, words: str) -> None:
        """Add a note, each once, up to a limit."""
        if words in self._notes:
            return
        if len(self._notes) >= MAX_NOTES:
            self._left_out += 1
        else:
            self._notes[words] = None

    def take(self, role: str, first: int, count: int, answer: Answer) -> None:
        """The answer for the `count` samples from the grid's `first`. Raises TelemetryError for one that can't be used."""
        for remark in answer.remarks:
            self.note(f"{role}: Prometheus remarks: {plain(remark)}")
        if any(one.histograms for one in answer.series):
            self.note(f"{role}: native histograms are no numbers, and left out")
        rows, given = matrix(answer.series, self._grid, first, count, role=role)
        odd = given & ~np.isfinite(rows)
        rows[odd] = np.nan
        self._span[role] = (int(given.any(axis=0).sum()), int(odd.sum()))
        self._widest[role] = max(self._widest[role], len(rows))
        self._see(answer.series)
        take = ROLES[role].take
        if take == "workers":
            self._workers = self._who.columns(answer.series, rows * WORKER_SCALE[role])
        elif take == "paired":
            self._paired[role] = {labels(one): row for one, row in zip(answer.series, rows, strict=True)}
        else:
            self._arrays[ROLES[role].field] = reduced(rows, take)
        if role == "loss":
            # A loss that is no number says that training diverged: it is told as it is.
            self._broken = np.asarray(odd.any(axis=0))

    def lines(self, first: int, count: int) -> list[str]:
        """The records of that span that are complete, one JSON object each, without line ends."""
        for role, (samples, odd) in self._span.items():
            self._samples[role] += samples
            self._odd[role] += odd
        arrays = {name: values.tolist() for name, values in self._arrays.items()}
        if self._paired:
            arrays["gpu_mem_util_pct"] = self._memory(count).tolist()
        workers, broken = self._workers, self._broken
        key = np.array(arrays[ROLES[self._key].field])
        usable = key > 0 if self._key != "step" else key >= 0
        self._useless += int((np.isfinite(key) & ~usable).sum())
        if self._has_step:
            usable &= np.array(arrays["step"]) >= 0
        held = {role.field for role in ROLES.values() if role.held}
        out: list[str] = []
        for i in np.flatnonzero(usable).tolist():
            at = first + i
            self._leap(at)
            number = math.floor(arrays["step"][i]) if self._has_step else at
            step = self._begin(number, self._grid.at(at), out)
            if len(broken) and broken[i]:
                step.fields.setdefault("loss", math.nan)
            for name, values in arrays.items():
                value = values[i]
                if name == "step" or value != value:
                    continue
                if name in held:
                    total, have = step.held.get(name, (0.0, 0))
                    step.held[name] = (total + value, have + 1)
                else:
                    step.fields.setdefault(name, value)
            if len(workers) and "worker_latencies_ms" not in step.fields:
                row = [None if value != value else value for value in workers[i].tolist()]
                if any(value is not None for value in row):
                    step.fields["worker_latencies_ms"] = row
                    names = self._who.names()
                    if names is not None:
                        step.fields["worker_ids"] = names
        return out

    def finish(self, asked: int | None = None, *, why: str = "the read was cut short") -> list[str]:
        """The last record; the notes are whole then. `asked`: how many samples of the grid were asked for, and `why` no more."""
        out = [self._step.line()] if self._step is not None else []
        size = self._grid.size if asked is None else asked
        # Nothing is known of what nobody asked for: no silence, and no counter that stands.
        end = self._grid.at(size - 1)
        if size < self._grid.size:
            self.note(
                f"gap: {why}: {self._grid.size - size} of {self._grid.size} samples, those after {_time(end)}, were not asked for"
            )
        if self._last is not None:
            silent = end - self._grid.at(self._last)
            if silent >= max(STANDING_MS, GAP * self._grid.step_ms):
                self.note(
                    f"gap: there is nothing after {_time(self._grid.at(self._last))}, {silent / 60_000:.0f} min to the end"
                )
        if self._step is not None and self._has_step and end - self._step.ts >= STANDING_MS:
            self.note(f"the step counter has stood at {self._step.number} since {_time(self._step.ts)}")
        self._step = None
        for role, query in self._queries.items():
            self._conclude(role, query)
        for count, what in ((self._gaps, "gaps"), (self._restarts, "restarts")):
            if count > MAX_ALIKE:
                self.note(f"{count} {what} in all")
        if self._useless:
            self.note(
                f"{self._key}: {self._useless} samples are no {'step' if self._key == 'step' else 'time of a step'}"
            )
        if not self._has_step:
            self.note("no query gives the step: each sample counts as one")
        return out

    def _conclude(self, role: str, query: str) -> None:
        samples, most = self._samples[role], max(self._samples.values())
        if not samples:
            self.note(f"{role}: no series has a sample: {plain(query, most=120)}")
        elif samples < 0.9 * most:
            self.note(f"gap: {role}: {samples} samples where there are {most} of others")
        if self._odd[role]:
            self.note(f"{role}: {self._odd[role]} samples are no finite number")
        words = _WORDS.get(ROLES[role].take)
        if words is not None and self._widest[role] > 1:
            self.note(f"{role}: up to {self._widest[role]} series, of which the {words} counts")

    def _leap(self, at: int) -> None:
        last, self._last = self._last, at
        if last is not None and at - last > GAP:
            self._gaps += 1
            if self._gaps <= MAX_ALIKE:
                times = self._grid
                self.note(f"gap: there is nothing between {_time(times.at(last))} and {_time(times.at(at))}")

    def _begin(self, number: int, ts: int, out: list[str]) -> _Step:
        """The record of that step, to be filled; a finished one goes to `out`."""
        step = self._step
        if step is not None and step.number == number:
            return step
        if step is not None:
            out.append(step.line())
            if number < step.number:
                self._restarts += 1
                if self._restarts <= MAX_ALIKE:
                    self.note(f"the step counter went back from {step.number} to {number} at {_time(ts)}: a restart")
                out.append(json.dumps({"ts": ts, "event": "resume", "step": number}))
        self._step = _Step(number, ts)
        return self._step

    def _memory(self, count: int) -> F64:
        used = self._paired["gpu_mem_used"]
        role = next(role for role in self._paired if role != "gpu_mem_used")
        found = shares(used, self._paired[role], count, is_total=role == "gpu_mem_total")
        if found is None:
            self.note(f"no series of gpu_mem_used has the labels of one of {role}")
            return np.full(count, np.nan)
        return found

    def _see(self, series: Sequence[Series]) -> None:
        for one in series:
            for names, seen in ((_NODE_LABELS, self._nodes), (_MODEL_LABELS, self._models)):
                value = next((one.metric[name] for name in names if one.metric.get(name)), None)
                if value is not None and len(seen) < MAX_NAMES:
                    seen[plain(value)] = None


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000.0, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
