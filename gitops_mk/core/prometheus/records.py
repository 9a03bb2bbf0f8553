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
import numpy.typing as npt

from gitops_mk.core.prometheus.answers import MAX_SERIES, Answer, Series
from gitops_mk.core.prometheus.grid import Grid
from gitops_mk.core.prometheus.roles import ROLES, WORKER_SCALE, Take
from gitops_mk.core.render.text import plain
from gitops_mk.errors import TelemetryError

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MAX_NOTES: Final = 40
# Of gaps, and of restarts: what is said of roles must find room as well.
MAX_ALIKE: Final = 5
MAX_NAMES: Final = 64
# A list of names is longer than one of times, and readers keep the last one.
NAMED_EVERY: Final = 30
# So many samples in a row must be missing for a gap; single scrapes fail.
GAP: Final = 4
# A step that stands for so long, or telemetry that ended so long ago, is told.
STANDING_MS: Final = 300_000
_WORKER_LABELS: Final = (
    "pod", "exported_pod", "rank", "global_rank", "worker", "worker_id", "Hostname", "node", "instance",
)  # fmt: skip
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
        self._label = worker_label
        self._has_step = "step" in queries
        self._key = next((r for r in queries if ROLES[r].group == "step_time"), "step")
        self._arrays: dict[str, F64] = {}
        self._paired: dict[str, dict[frozenset[tuple[str, str]], F64]] = {}
        self._workers: F64 = np.empty((0, 0))
        self._broken: Bools = np.empty(0, dtype=bool)
        self._ids: dict[str, int] = {}
        self._named = 0
        self._named_for = 0
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
        rows, given = self._matrix(role, first, count, answer.series)
        odd = given & ~np.isfinite(rows)
        rows[odd] = np.nan
        self._span[role] = (int(given.any(axis=0).sum()), int(odd.sum()))
        self._widest[role] = max(self._widest[role], len(rows))
        self._see(answer.series)
        take = ROLES[role].take
        if take == "workers":
            self._workers = self._by_worker(answer.series, rows * WORKER_SCALE[role])
        elif take == "paired":
            self._paired[role] = {_labels(one): row for one, row in zip(answer.series, rows, strict=True)}
        else:
            self._arrays[ROLES[role].field] = _reduced(rows, take)
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
            arrays["gpu_mem_util_pct"] = self._shares(count).tolist()
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
                    self._name(step)
        return out

    def finish(self) -> list[str]:
        """The last record; the notes are whole then."""
        out = [self._step.line()] if self._step is not None else []
        end = self._grid.at(self._grid.size - 1)
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

    def _name(self, step: _Step) -> None:
        """Say whose the times are: where that changed, and now and then for who reads a part."""
        if self._named_for in (0, NAMED_EVERY) or self._named != len(self._ids):
            step.fields["worker_ids"] = list(self._ids)
            self._named, self._named_for = len(self._ids), 0
        self._named_for += 1

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

    def _matrix(self, role: str, first: int, count: int, series: Sequence[Series]) -> tuple[F64, Bools]:
        """A row a series, a column a sample; and which of them were given."""
        rows, given = np.full((len(series), count), np.nan), np.zeros((len(series), count), dtype=bool)
        start, step = self._grid.at(first), self._grid.step_ms
        for row, there, one in zip(rows, given, series, strict=True):
            if not one.values:
                continue
            times, texts = zip(*one.values, strict=True)
            try:
                values = np.array(texts, dtype=np.float64)
            except ValueError as exc:
                raise TelemetryError(f"{role}: the answer has a sample that is no number") from exc
            at = np.rint((np.array(times) * 1000.0 - start) / step)
            known = (at >= 0) & (at < count)
            index = at[known].astype(np.intp)
            row[index], there[index] = values[known], True
        return rows, given

    def _see(self, series: Sequence[Series]) -> None:
        for one in series:
            for names, seen in ((_NODE_LABELS, self._nodes), (_MODEL_LABELS, self._models)):
                value = next((one.metric[name] for name in names if one.metric.get(name)), None)
                if value is not None and len(seen) < MAX_NAMES:
                    seen[plain(value)] = None

    def _by_worker(self, series: Sequence[Series], rows: F64) -> F64:
        """A column a worker, in the order in which they turned up; of two series of one worker, the slower."""
        names = self._names(series)
        for name in sorted({name for name in names if name} - self._ids.keys(), key=_natural):
            if len(self._ids) >= MAX_SERIES:
                self.note(f"only the first {MAX_SERIES} workers are told of")
                break
            self._ids[name] = len(self._ids)
        out = np.full((rows.shape[1], len(self._ids)), np.nan)
        for name, row in zip(names, rows, strict=True):
            if name in self._ids:
                column = self._ids[name]
                out[:, column] = np.fmax(out[:, column], row)
        return out

    def _names(self, series: Sequence[Series]) -> list[str]:
        label = self._label or _told_apart_by(series)
        # One alone says nothing about what will tell it from others.
        if len(series) > 1:
            self._label = label
        names = [plain(one.metric.get(label, "")) for one in series]
        if not all(names):
            self.note(f"{names.count('')} series of workers have no label {label}, and are left out")
        return names

    def _shares(self, count: int) -> F64:
        """The highest percentage of memory in use, of the series that meet: by their labels, or because there is one each."""
        (_, used), (role, other) = sorted(self._paired.items(), key=lambda item: item[0] != "gpu_mem_used")
        pairs = [(used[labels], other[labels]) for labels in used if labels in other]
        if not pairs and len(used) == len(other) == 1:
            pairs = [(next(iter(used.values())), next(iter(other.values())))]
        if not pairs and used and other:
            self.note(f"no series of gpu_mem_used has the labels of one of {role}")
        out = np.full(count, np.nan)
        for part, rest in pairs:
            whole = rest if role == "gpu_mem_total" else part + rest
            with np.errstate(divide="ignore", invalid="ignore"):
                share = 100.0 * part / whole
            out = np.fmax(out, np.where(np.isfinite(share), share, np.nan))
        return out


def _labels(one: Series) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in one.metric.items() if name != "__name__")


def _told_apart_by(series: Sequence[Series]) -> str:
    for label in _WORKER_LABELS:
        values = [one.metric.get(label, "") for one in series]
        if all(values) and len(set(values)) == len(values):
            return label
    raise TelemetryError(
        f"no label tells the {len(series)} workers apart, of {', '.join(_WORKER_LABELS)}",
        hint="name it: worker_label in the configuration, or --prometheus-worker-label",
    )


def _reduced(rows: F64, take: Take) -> F64:
    """One value a sample, of the finite ones."""
    if take == "max":
        return np.asarray(np.fmax.reduce(rows, axis=0, initial=np.nan))
    if take == "min":
        return np.asarray(np.fmin.reduce(rows, axis=0, initial=np.nan))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nansum(rows, axis=0) / np.isfinite(rows).sum(axis=0))


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """By the numbers in a name: worker-2 before worker-10."""
    parts, number = [], ""
    for char in f"{name}\0":
        if char.isascii() and char.isdigit():
            number += char
            continue
        if number:
            parts.append((int(number[:18]), ""))
            number = ""
        parts.append((-1, char))
    return tuple(parts)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000.0, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
