"""What detection remembers: the last few thousand steps as they were, and the whole run in a bounded number of cells.

A cell sums up a fixed number of consecutive records; when there are too many cells, neighbours are merged and the
number of records a cell doubles. Memory is O(1) in the length of the run, and every cell stands for the same share of
it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar, cast

import numpy as np

from gitops_mk.core.detect.stats import mean_rows, quantile_rows
from gitops_mk.core.parse.columns import F64, Bools, Columns, concat
from gitops_mk.core.parse.rows import PlannedEvent

# So many records are kept as they were; fewer where a record is wide, so that a thousand workers need no more memory.
RECENT = 32_768
RECENT_VALUES = 1_048_576
# The shorter of the two time scales: what began late in a long run is looked for in so many records.
SCALE = 2048
BASE = 32
MOST_CELLS = 1024
# Low enough that bursts in up to half of the steps can't move it, high enough to be a level and not a minimum.
QUIET = 0.35
EVENTS = 256


T = TypeVar("T")


class Cells(NamedTuple):
    """One row a cell: how many records, and robust sums of them. Times in milliseconds.

    step: the first of the cell. quiet: 35th percentile of the step time. pace: median throughput. lag: median of the
    slowest worker over the median one. comm: median time a step outside the slowest worker.
    """

    step: F64
    quiet: F64
    loss: F64
    lost: F64
    pace: F64
    lag: F64
    comm: F64


class History:
    """Collects ordered columns; `view()` is what detectors see."""

    def __init__(self) -> None:
        self.total = 0
        self._recent: deque[Columns] = deque()
        self._n_recent = 0
        self._loose: list[Columns] = []
        self._n_loose = 0
        self._fresh: list[F64] = []
        self._cells: F64 = np.empty((0, len(Cells._fields)))
        self._per_cell = 1
        self._first: Columns | None = None
        self._width = 0

    @property
    def _most(self) -> int:
        return min(RECENT, max(SCALE, RECENT_VALUES // max(1, self._width)))

    def append(self, rows: Columns) -> None:
        """Take in records that are in order."""
        if not len(rows):
            return
        self.total += len(rows)
        self._recent.append(rows)
        self._n_recent += len(rows)
        self._width = max(self._width, rows.workers.shape[1])
        while self._n_recent - len(self._recent[0]) >= self._most:
            self._n_recent -= len(self._recent.popleft())
        if self._first is None:
            self._first = rows.take(slice(1))
        self._loose.append(rows)
        self._n_loose += len(rows)
        if self._n_loose >= BASE:
            whole = concat(self._loose)
            cut = self._n_loose // BASE * BASE
            self._fresh.append(_summed(whole.take(slice(cut))))
            rest = whole.take(slice(cut, None))
            self._loose, self._n_loose = [rest], len(rest)
            self._settle()

    def _settle(self) -> None:
        fresh = np.concatenate(self._fresh)
        whole = len(fresh) // self._per_cell * self._per_cell
        if whole:
            self._cells = np.concatenate([self._cells, _merged(fresh[:whole], self._per_cell)])
        self._fresh = [fresh[whole:]]
        while len(self._cells) > MOST_CELLS:
            even = len(self._cells) // 2 * 2
            # An odd cell out goes back among the fresh ones as if its records had been one base cell each.
            spare = np.repeat(self._cells[even:], self._per_cell, axis=0)
            self._cells = _merged(self._cells[:even], 2)
            self._fresh.insert(0, spare)
            self._per_cell *= 2

    def view(
        self,
        *,
        events: tuple[PlannedEvent, ...] = (),
        workers: tuple[str, ...] = (),
        stages: tuple[str, ...] = (),
    ) -> View:
        """Everything a detector may ask for."""
        recent = concat(list(self._recent)).take(slice(-self._most, None))
        parts = [
            self._cells,
            *([_merged(f, len(f)) for f in [np.concatenate(self._fresh)] if len(f)] if self._fresh else []),
        ]
        cells = Cells(*np.concatenate(parts).T)
        return View(
            recent=recent,
            cells=cells,
            total=self.total,
            per_cell=BASE * self._per_cell,
            events=events,
            workers=workers,
            stages=stages,
        )

    @property
    def first(self) -> Columns | None:
        """The oldest record of all."""
        return self._first


@dataclass(frozen=True)
class View:
    """The history as detectors see it. `cells` is None for a view of the last records alone."""

    recent: Columns
    cells: Cells | None
    total: int
    per_cell: int = BASE
    events: tuple[PlannedEvent, ...] = ()
    workers: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    cache: dict[object, object] = field(default_factory=dict, compare=False)

    def once(self, make: Callable[[View], T]) -> T:
        """What `make` gives for this view, computed at the first time it is asked for."""
        if make not in self.cache:
            self.cache[make] = make(self)
        return cast("T", self.cache[make])

    @property
    def complete(self) -> bool:
        """True when the recent records are the whole run."""
        return self.total <= len(self.recent)

    def with_step_time(self, recent_ms: F64, cells_ms: F64 | None) -> View:
        """The same history with other step times: what is left when a found cause is taken out."""
        cells = None if self.cells is None or cells_ms is None else self.cells._replace(quiet=cells_ms)
        return replace(self, recent=replace(self.recent, step_ms=recent_ms), cells=cells, cache={})

    def tail(self) -> View | None:
        """The last records alone: the shorter time scale. None where they are most of what is remembered."""
        if len(self.recent) < 2 * SCALE:
            return None
        return replace(self, recent=self.recent.take(slice(-SCALE, None)), cells=None, cache={})

    def worker_name(self, index: int) -> str:
        """What a worker is called: its own name where the records gave one."""
        named = self.workers[index] if index < len(self.workers) else str(index)
        return f"worker-{named}" if named.isdigit() else named

    def planned(self, steps: F64) -> Bools:
        """Which of these steps stand on a pause that the job announced, or right behind one."""
        out = np.zeros(len(steps), dtype=bool)
        for event in self.events:
            if event.step is not None:
                reach = 8 if event.kind == "resume" else 2
                out |= (steps >= event.step - 1) & (steps <= event.step + reach)
        return out


def lag_of(rows: Columns) -> F64:
    """How far the slowest worker is behind the median one, in milliseconds a record; NaN without two workers."""
    if rows.workers.shape[1] < 2:
        return np.full(len(rows), np.nan)
    ordered = np.sort(rows.workers, axis=1)
    count = (rows.workers.shape[1] - np.isnan(ordered).sum(axis=1)).astype(np.intp)
    line = np.arange(len(ordered))
    top = ordered[line, np.maximum(count - 1, 0)]
    # With two workers the median one is the faster: the other is the one that is behind.
    middle = ordered[line, np.maximum((count - 1) // 2, 0)]
    return np.asarray(np.where(count >= 2, top - middle, np.nan))


def comm_of(rows: Columns) -> F64:
    """Time a step outside the slowest worker, in milliseconds: as given, else step time less the slowest worker."""
    if rows.workers.shape[1] == 0:
        return rows.comm_ms
    slowest = np.fmax.reduce(rows.workers, axis=1)
    rest = rows.step_ms - slowest
    return np.asarray(np.where(np.isnan(rows.comm_ms), rest, rows.comm_ms))


def _summed(rows: Columns) -> F64:
    """One line of cell values for each 32 records."""

    def by_cell(values: F64) -> F64:
        return values.reshape(-1, BASE)

    finite = np.where(np.isinf(rows.loss), np.nan, rows.loss)
    return np.column_stack(
        Cells(
            step=rows.step[::BASE],
            quiet=quantile_rows(by_cell(rows.step_ms), QUIET),
            loss=quantile_rows(by_cell(finite), 0.5),
            lost=mean_rows(by_cell(np.where(np.isnan(rows.loss), np.nan, np.isinf(rows.loss).astype(float)))),
            pace=quantile_rows(by_cell(rows.throughput), 0.5),
            lag=quantile_rows(by_cell(lag_of(rows)), 0.5),
            comm=quantile_rows(by_cell(comm_of(rows)), 0.5),
        )
    )


def _merged(lines: F64, group: int) -> F64:
    """Each `group` lines as one: the first step, and the mean of the rest."""
    if group == 1:
        return lines
    width = lines.shape[1]
    stacked = lines.reshape(-1, group, width).transpose(0, 2, 1).reshape(-1, group)
    out = mean_rows(stacked).reshape(-1, width)
    out[:, 0] = lines[::group, 0]
    return out
