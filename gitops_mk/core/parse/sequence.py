"""Records in the order of training: duplicates taken out, local disorder undone, resumes and gaps found, all counted.

Works on blocks of a fixed number of records and remembers a bounded stretch of the past, so memory does not grow and
the result does not depend on how the records arrived.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gitops_mk.core.parse.columns import EMPTY, F64, Columns, concat

BLOCK = 4096
# How far a late record may be put back in place, in records, and how many the search for duplicates remembers.
REORDER = 128
MEMORY = 4096
# Going back further than this is a resumed job, not disorder.
RESUME = 32
# So many expected steps in a row must be missing for a gap; single lost lines are none.
GAP = 4
GAP_MS = 60_000.0

_U64 = npt.NDArray[np.uint64]


class Sequencer:
    """Takes columns in order of arrival, gives columns in order of training."""

    def __init__(self) -> None:
        self.duplicates = 0
        self.out_of_order = 0
        self.clock_skew = 0
        self.resumes = 0
        self.gaps = 0
        self.underivable = 0
        self._waiting: list[Columns] = []
        self._n_waiting = 0
        self._seen: _U64 = np.empty(0, dtype=np.uint64)
        self._carry = EMPTY
        self._top = -np.inf
        self._highest = -np.inf
        self._steps: F64 = np.empty(0)
        self._last: tuple[float, float, float] | None = None
        self._derives: bool | None = None
        self._stride = 1.0

    def feed(self, batch: Columns) -> list[Columns]:
        """What is in order for good by now."""
        self._waiting.append(batch)
        self._n_waiting += len(batch)
        out = []
        while self._n_waiting >= BLOCK:
            whole = concat(self._waiting)
            rest = whole.take(slice(BLOCK, None))
            self._waiting, self._n_waiting = [rest], len(rest)
            out.append(self._block(whole.take(slice(BLOCK)), last=False))
        return out

    def finish(self) -> list[Columns]:
        """The rest."""
        whole, self._waiting, self._n_waiting = concat(self._waiting), [], 0
        return [self._block(whole, last=True)]

    def _block(self, rows: Columns, *, last: bool) -> Columns:
        rows = self._without_duplicates(self._with_step_time(rows))
        rows = concat([self._carry, self._placed(rows)]) if len(self._carry) else self._placed(rows)
        key_back = (np.diff(rows.segment) == 0) & (np.diff(rows.step) < 0)
        if key_back.any():
            rows = rows.take(np.lexsort((rows.step, rows.segment)))
        cut = len(rows) if last else max(0, len(rows) - REORDER)
        self._carry = rows.take(slice(cut, None))
        return self._measured(rows.take(slice(cut)))

    def _with_step_time(self, rows: Columns) -> Columns:
        """Leave out records without a step time when the stream gives them elsewhere: they are no step records."""
        if not len(rows):
            return rows
        missing = np.isnan(rows.step_ms)
        if self._derives is None:
            self._derives = bool(missing[0])
        if self._derives:
            return rows
        if missing.any():
            self.underivable += int(missing.sum())
            rows = rows.take(~missing)
        return rows

    def _without_duplicates(self, rows: Columns) -> Columns:
        if not len(rows):
            return rows
        keys = _keys(rows)
        known = np.isnan(rows.step)
        pool = np.concatenate([self._seen, keys])[-MEMORY - len(keys) :]
        if rows.step[0] > self._highest and (np.diff(rows.step) > 0).all():
            self._seen, self._highest = pool[-MEMORY:], float(rows.step[-1])
            return rows
        self._highest = float(np.fmax.reduce(rows.step, initial=self._highest))
        first = np.zeros(len(pool), dtype=bool)
        first[np.unique(pool, return_index=True)[1]] = True
        keep = first[len(self._seen) :] | known
        self._seen = pool[-MEMORY:]
        if keep.all():
            return rows
        self.duplicates += int((~keep).sum())
        return rows.take(keep)

    def _placed(self, rows: Columns) -> Columns:
        """Give every record a step and the number of resumes before it."""
        n = len(rows)
        if not n:
            return rows
        step = rows.step
        holes = np.isnan(step)
        if holes.any():
            step = _filled(step, holes, self._top)
        segment = np.full(n, float(self.resumes))
        start = 0
        top = np.maximum.accumulate(np.concatenate([[self._top], step]))[:-1]
        near = self._steps
        while start < n:
            back = np.flatnonzero(self._resumed(step, top, start, near))
            if not len(back):
                break
            start += int(back[0])
            self.resumes += 1
            segment[start:] = self.resumes
            top[start] = -np.inf
            top[start:] = np.maximum.accumulate(np.concatenate([[-np.inf], step[start:]]))[:-1]
            near = np.empty(0)
            start += 1
        self.out_of_order += int((step < top).sum())
        self._top = float(max(top[-1], step[-1]))
        self._steps = step[-RESUME:]
        return replace(rows, step=step, segment=segment)

    def _resumed(self, step: F64, top: F64, start: int, near: F64) -> npt.NDArray[np.bool_]:
        """From `start` on: far below the highest step so far, or a stretch of steps that were there a moment ago,
        again.
        """
        back = top[start:] - step[start:]
        out = back > RESUME
        tail = step[start:]
        candidates = np.flatnonzero((back > 0) & ~out)
        if len(candidates) and len(np.unique(np.concatenate([near, tail]))) < len(near) + len(tail):
            past = np.concatenate([near, step])
            for i in candidates.tolist():
                run = tail[i : i + 4]
                at = len(near) + start + i
                again = len(run) == 4 and np.array_equal(run, run[0] + np.arange(4.0))
                if again and np.isin(run, past[max(0, at - 2 * RESUME) : at]).all():
                    out[i] = True
                    break
        return np.asarray(out)

    def _measured(self, rows: Columns) -> Columns:
        """Count clock skew and gaps, and derive step times where the stream gives none."""
        n = len(rows)
        if not n:
            return rows
        first = self._last or (np.nan, np.nan, np.nan)
        ts, step, segment = (
            np.concatenate([[before], column])
            for before, column in zip(first, (rows.ts, rows.step, rows.segment), strict=True)
        )
        self._last = (float(ts[-1]), float(step[-1]), float(segment[-1]))
        same = np.diff(segment) == 0
        dts, dstep = np.diff(ts), np.diff(step)
        with np.errstate(invalid="ignore", divide="ignore"):
            forward = same & (dstep > 0)
            self.clock_skew += int((forward & (dts < 0)).sum())
            if forward.any():
                self._stride = float(np.median(dstep[forward]))
            expected = rows.step_ms * np.maximum(dstep, 1.0)
            late = same & (dts > 20.0 * expected + GAP_MS)
            self.gaps += int(((forward & (dstep > GAP * self._stride)) | late).sum())
            derived = np.where(forward & (dts > 0), dts / dstep, np.nan)
        holes = np.isnan(rows.step_ms)
        if not holes.any():
            return rows
        rows = replace(rows, step_ms=np.where(holes, derived, rows.step_ms))
        usable = ~np.isnan(rows.step_ms)
        self.underivable += int((~usable).sum())
        return rows.take(usable)


def _keys(rows: Columns) -> _U64:
    """One number a record, equal for equal step, time and value. A clash of two 64-bit keys is as good as excluded."""
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in (rows.step, rows.ts, rows.step_ms, rows.loss):
        # -0.0 and NaN have more than one pattern of bits.
        bits = np.where(np.isnan(column), -1.0, column + 0.0).view(np.uint64)
        keys = (keys ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _filled(step: F64, holes: npt.NDArray[np.bool_], top: float) -> F64:
    """Steps for records that name none: one more than the record before."""
    n = len(step)
    base = np.where(holes, -1, np.arange(n))
    before = np.maximum.accumulate(base)
    origin = np.where(before >= 0, step[np.maximum(before, 0)], top if np.isfinite(top) else -1.0)
    return np.asarray(np.where(holes, origin + np.arange(n) - before, step))
