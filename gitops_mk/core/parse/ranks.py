"""Records of several ranks to one a step: what each worker took, and the step as the slowest made it.

A record waits until the newest step is more than `WAIT` ahead of its own, so that the ranks' records may come in any order
within that; then no other can belong to it. A rank that was silent in a step leaves NaN. Memory is bounded: so many steps
wait, with so many records of so many ranks. What comes out depends on the records and their order, not on the batches.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gitops_mk.core.parse.columns import F64, Bools, Columns, Indices, concat
from gitops_mk.core.parse.rows import MAX_WORKERS, Batch, Tally

WAIT: Final = 64
# A rank that goes back further than this is a job that resumed; so is one that is at a step again, later.
RESUME: Final = 32
AGAIN: Final = 2
# A rank may say what there is to say of a step in so many records.
RECORDS: Final = 4
_NEVER: Final = (-np.inf, np.nan)


class RankMerger:
    """Takes batches in order of arrival. As long as no record names a rank, they pass as they are."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._active = False
        self._waiting: list[Columns] = []
        # Of the waiting records, in step with them: column of the rank (-1: none), own time, run of the job.
        self._who: list[int] = []
        self._own: list[F64] = []
        self._run: list[int] = []
        self._runs = 0
        self._newest = -np.inf
        # Of each rank in this run: its highest step, and when it got there.
        self._tops: dict[str | None, tuple[float, float]] = {}
        self._heard: dict[float, dict[str | None, int]] = {}
        self._order: dict[str, int] = {}
        self._columns: dict[str, int] = {}
        self._nodes: dict[str, str] = {}
        self._stages: dict[str, int] = {}

    def feed(self, batch: Batch) -> list[Columns]:
        """The records that are whole by now."""
        out: list[Columns] = []
        if not self._active:
            first = _first(batch.ranks)
            if first is None:
                return [batch.columns]
            self._active = True
            if first:
                out.append(batch.columns.take(slice(first)))
                late = np.arange(len(batch.columns)) >= first
                batch = batch.take(late)
        self._take_in(batch)
        return out + self._closed(last=False)

    def finish(self) -> list[Columns]:
        """The rest."""
        return self._closed(last=True)

    def _take_in(self, batch: Batch) -> None:
        n = len(batch.columns)
        ranks = batch.ranks or [None] * n
        keep: list[int] = []
        tally = self._tally
        columns = batch.columns
        for i, (rank, step, ts) in enumerate(zip(ranks, columns.step.tolist(), columns.ts.tolist(), strict=True)):
            if step != step:
                # Without a step nobody knows what it belongs to.
                tally.missing_fields += 1
                continue
            if rank is not None and rank not in self._order and len(self._order) >= MAX_WORKERS:
                tally.workers_cut = True
                rank = None
            if self._resumed(rank, step, ts):
                self._runs += 1
                self._newest = -np.inf
                self._tops, self._heard = {}, {}
            heard = self._heard.setdefault(step, {})
            heard[rank] = heard.get(rank, 0) + 1
            if heard[rank] > RECORDS:
                tally.merged += 1
                continue
            self._newest = max(self._newest, step)
            if step > self._tops.get(rank, _NEVER)[0]:
                self._tops[rank] = (step, ts)
            if rank is not None:
                self._order.setdefault(rank, len(self._order))
                self._learn(rank, batch, i)
            keep.append(i)
            self._who.append(-1 if rank is None else self._order[rank])
            self._run.append(self._runs)
        if keep:
            self._waiting.append(columns.take(np.array(keep)))
            self._own.append(np.full(len(keep), np.nan) if batch.own is None else batch.own[keep])
        for step in [s for s in self._heard if s < self._newest - WAIT]:
            del self._heard[step]

    def _resumed(self, rank: str | None, step: float, ts: float) -> bool:
        if step < self._newest - WAIT:
            return True
        top, when = self._tops.get(rank, _NEVER)
        again = step <= top - AGAIN and ts > when and rank in self._heard.get(step, ())
        return again or step < top - RESUME

    def _learn(self, rank: str, batch: Batch, i: int) -> None:
        node = batch.nodes[i] if batch.nodes else None
        stage = batch.stages[i] if batch.stages else None
        if node is not None:
            self._nodes[rank] = node
        if stage is not None:
            self._stages[rank] = stage

    def _closed(self, *, last: bool) -> list[Columns]:
        rows = concat(self._waiting)
        if not len(rows):
            return []
        who, run, own = np.array(self._who), np.array(self._run), np.concatenate(self._own)
        whole: Bools = np.full(len(rows), True) if last else (run < self._runs) | (rows.step < self._newest - WAIT)
        rest = ~whole
        self._waiting, self._own = [rows.take(rest)], [own[rest]]
        self._who, self._run = who[rest].tolist(), run[rest].tolist()
        if not whole.any():
            return []
        rows, who, run, own = rows.take(whole), who[whole], run[whole], own[whole]
        order = np.lexsort((rows.step, run))
        merged = self._merged(rows.take(order), who[order], run[order], own[order])
        self._tell()
        return [merged]

    def _merged(self, rows: Columns, who: Indices, run: Indices, own: F64) -> Columns:
        """One record a step. The rows are sorted by run and step."""
        fresh = np.concatenate([[True], (np.diff(rows.step) != 0) | (np.diff(run) != 0)])
        starts = np.flatnonzero(fresh)
        group = np.cumsum(fresh) - 1
        self._tally.merged += len(rows) - len(starts)
        return Columns(
            ts=np.fmax.reduceat(rows.ts, starts),
            step=rows.step[starts],
            step_ms=np.fmax.reduceat(rows.step_ms, starts),
            loss=_means(rows.loss, starts),
            throughput=_means(rows.throughput, starts),
            util=_means(rows.util, starts),
            mem=np.fmax.reduceat(rows.mem, starts),
            comm_ms=_means(rows.comm_ms, starts),
            wait_ms=np.fmax.reduceat(rows.wait_ms, starts),
            retries=np.fmax.reduceat(rows.retries, starts),
            clock_mhz=np.fmin.reduceat(rows.clock_mhz, starts),
            segment=rows.segment[starts],
            workers=self._workers(rows, who, own, starts, group),
        )

    def _workers(self, rows: Columns, who: Indices, own: F64, starts: Indices, group: Indices) -> F64:
        """A column a rank, in the order in which the steps first named them, ranks of one step by number.

        A record that has a list of its own, of all workers, keeps it.
        """
        names = list(self._order)
        first: dict[str, tuple[int, int, str]] = {}
        for row, i in enumerate(who.tolist()):
            if i >= 0 and names[i] not in self._columns:
                first.setdefault(names[i], (int(group[row]), *_by_number(names[i])))
        # A job is one of several workers from the step on that has the second.
        since = 0 if len(self._columns) > 1 else len(starts)
        for name in sorted(first, key=lambda name: first[name]):
            self._columns[name] = len(self._columns)
            if len(self._columns) == 2:
                since = first[name][0]
        lists = ~np.isnan(rows.workers).all(axis=1) if rows.workers.shape[1] else np.full(len(rows), False)
        width = len(self._columns) if since < len(starts) else 0
        out = np.full((len(starts), max(width, rows.workers.shape[1])), np.nan)
        if width:
            column = np.array([*(self._columns.get(name, -1) for name in names), -1])[who]
            mine = np.where(np.isnan(own), rows.step_ms, own)
            # From the last to the first: what a rank said first holds.
            told = np.flatnonzero((column >= 0) & (group >= since) & ~np.isnan(mine))[::-1]
            out[group[told], column[told]] = mine[told]
        for row in np.flatnonzero(lists)[::-1].tolist():
            out[group[row]] = np.nan
            out[group[row], : rows.workers.shape[1]] = rows.workers[row]
        return out

    def _tell(self) -> None:
        columns, tally = self._columns, self._tally
        if len(columns) < 2:
            return
        tally.worker_ranks = tuple(columns)
        if all(rank in self._nodes for rank in columns):
            tally.worker_nodes = tuple(self._nodes[rank] for rank in columns)
        if all(rank in self._stages for rank in columns):
            tally.worker_stages = tuple(str(self._stages[rank]) for rank in columns)


def _first(ranks: list[str | None] | None) -> int | None:
    return None if ranks is None else next((i for i, rank in enumerate(ranks) if rank is not None), None)


def _by_number(rank: str) -> tuple[int, str]:
    return (int(rank), rank) if rank.isascii() and rank.isdecimal() else (-1, rank)


def _means(values: F64, starts: Indices) -> F64:
    """The mean of what is given in each group, NaN where nothing is."""
    given = ~np.isnan(values)
    counts = np.add.reduceat(given.astype(np.float64), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.add.reduceat(np.where(given, values, 0.0), starts) / np.where(counts > 0, counts, np.nan)
