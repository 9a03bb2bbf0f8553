"""Step times without what is planned: warm-up, pauses on a cadence (checkpoint, evaluation), announced events.

A pause counts as planned when the outliers lie on a lattice in the step number: most points of the lattice are hit,
several times more than chance would. Up to three cadences are taken out, one after the other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gitops_mk.core.detect.history import View
from gitops_mk.core.detect.stats import MAD_TO_SD, median
from gitops_mk.core.parse.columns import F64, Bools

WARM = 1.3
CADENCES = 3
MOST_PAUSES = 400
SHORTEST_CADENCE = 5
COVERAGE = 0.7
HITS = 4
OVER_CHANCE = 2.5
# An asynchronous checkpoint slows the steps behind its pause down; so many of them belong to it.
TAIL = 12
# A cadence is kept to the step; a neighbour is hit only where the pause begins a step early or late.
EXACT = 0.6
SHORT = 3
MANY = 8
# In logs: half of the highest.
TOP = 0.7
# What is planned goes on over the run; a few slow stretches near each other do not make a cadence.
SPAN = 0.3
ALIKE = 6.0
LEVEL_QUANTILE = 0.25


class Clean(NamedTuple):
    """The recent step times with what is planned marked.

    level: the quiet level around each step, the higher of left and right. noise: relative spread of quiet steps.
    steady: steps that are neither warm-up nor planned. cadences: the periods that were found, in steps.
    """

    ms: F64
    level: F64
    noise: float
    steady: Bools
    warm: int
    cadences: tuple[int, ...]


def clean(view: View) -> Clean:
    """The recent steps, cleaned; computed once a view."""
    return view.once(_clean)


def _clean(view: View) -> Clean:
    ms, step = view.recent.step_ms, view.recent.step
    n = len(ms)
    warm = _warm_up(ms) if view.complete else 0
    steady = np.ones(n, dtype=bool)
    steady[:warm] = False
    for at in np.flatnonzero(np.diff(view.recent.segment) > 0).tolist():
        steady[at + 1 : at + 1 + _warm_up(ms[at + 1 :], most=8)] = False
    steady &= ~view.planned(step)
    level = _level(ms[warm:])
    level = np.concatenate([np.full(warm, level[0]), level])
    excess = np.log(ms / level)
    quiet = np.abs(excess[steady])
    noise = MAD_TO_SD * median(quiet) if len(quiet) else 0.0
    planned, cadences = _pauses(step, excess, steady, noise)
    return Clean(ms=ms, level=level, noise=noise, steady=steady & ~planned, warm=warm, cadences=cadences)


def _warm_up(ms: F64, *, most: int | None = None) -> int:
    """Length of the slow prefix, at most an eighth of the run."""
    n = len(ms)
    cap = min(n // 8 if most is None else most, n)
    if not cap:
        return 0
    slow = ms[:cap] > WARM * np.median(ms)
    return cap if slow.all() else int(np.argmin(slow))


def _level(ms: F64) -> F64:
    n = len(ms)
    width = min(n, int(np.clip(n // 8, 15, 101)))
    windows = sliding_window_view(ms, width)
    rank = int(LEVEL_QUANTILE * (width - 1))
    quiet = np.partition(windows, rank, axis=1)[:, rank]
    index = np.arange(n)
    left = quiet[np.clip(index - width, 0, n - width)]
    right = quiet[np.clip(index + 1, 0, n - width)]
    return np.asarray(np.maximum(left, right))


def episodes(slow: Bools, *, bridge: int = 0) -> list[tuple[int, int]]:
    """Stretches of slow steps as (first, end), those at most `bridge` steps apart taken as one."""
    edge = np.diff(np.concatenate([[False], slow, [False]]).astype(np.int8))
    out: list[tuple[int, int]] = []
    for first, end in zip(np.flatnonzero(edge == 1).tolist(), np.flatnonzero(edge == -1).tolist(), strict=True):
        if out and first - out[-1][1] <= bridge:
            out[-1] = (out[-1][0], end)
        else:
            out.append((first, end))
    return out


def _pauses(step: F64, excess: F64, steady: Bools, noise: float) -> tuple[Bools, tuple[int, ...]]:
    n = len(step)
    planned = np.zeros(n, dtype=bool)
    cadences: list[int] = []
    slow = steady & (excess > max(0.15, 4.0 * noise))
    strides = np.diff(step)
    stride = float(np.median(strides[strides > 0])) if (strides > 0).any() else 1.0
    for _ in range(CADENCES):
        stretches = episodes(slow & ~planned, bridge=1)
        if len(stretches) < HITS - 1:
            break
        tops = [_top(excess, first, end) for first, end in stretches]
        found = np.array([first for first, _ in tops])
        short = np.array([length <= SHORT for _, length in tops])
        where = np.round(step[found] / stride)
        best = _lattice(where, n, short)
        if best is None:
            break
        period, phase = best
        hit = _on(where, period, phase)
        # A pause many times as long as the others of its cadence is none of them.
        high = excess[found]
        hit &= high <= np.median(high[hit]) + np.log(ALIKE)
        # What follows most pauses belongs to the cadence; what follows one of them is something else.
        ends = [(first, _tail(excess, first, noise)) for first in found[hit].tolist()]
        length = int(np.median([end - first for first, end in ends]))
        for first, end in ends:
            planned[first : min(end, first + length + 1)] = True
        cadences.append(round(period * stride))
    return planned, tuple(cadences)


def _top(excess: F64, first: int, end: int) -> tuple[int, int]:
    """Where the high part of a slow stretch begins, and how many steps it has: what comes before and after is its foot."""
    part = excess[first:end]
    high = np.flatnonzero(part >= part.max() - TOP)
    return first + int(high[0]), len(high)


def _on(where: F64, period: int, phase: int) -> Bools:
    off = (where - phase) % period
    return np.asarray((off <= 1) | (off >= period - 1))


def _lattice(where: F64, n: int, short: Bools) -> tuple[int, int] | None:
    """The period and phase that most outliers lie on; None when no lattice is covered well enough."""
    recent = where[-MOST_PAUSES:]
    reach = min(len(recent) - 1, 24)
    gaps = np.concatenate([recent[k:] - recent[:-k] for k in range(1, reach + 1)])
    gaps = gaps[(gaps >= SHORTEST_CADENCE) & (gaps <= n / 3)]
    periods, counts = np.unique(gaps.astype(int), return_counts=True)
    density = len(where) / n
    best: tuple[float, int, int] | None = None
    for period in periods[np.argsort(-counts, kind="stable")][:48].tolist():
        phases, votes = np.unique(recent % period, return_counts=True)
        phase = int(phases[np.argmax(votes)])
        on = recent[_on(recent, period, phase)]
        hits = len(np.unique(np.round((on - phase) / period)))
        expected = int((on[-1] - on[0]) / period) + 1 if len(on) else 1
        coverage = hits / max(expected, 1)
        chance = min(1.0, 3.0 * density)
        exact = float((on % period == phase).mean())
        enough = hits >= HITS or (hits == HITS - 1 and coverage >= 0.99 and expected * period > 0.6 * n)
        enough &= expected * period > SPAN * n
        # A few long stretches at equal distances are as likely bursts.
        enough &= hits >= MANY or bool(short[-MOST_PAUSES:][_on(recent, period, phase)].mean() >= 0.5)
        if (
            exact >= EXACT
            and enough
            and coverage >= COVERAGE
            and coverage >= OVER_CHANCE * chance
            and (best is None or hits > best[0])
        ):
            best = (hits, period, phase)
    return None if best is None else (best[1], best[2])


def _tail(excess: F64, first: int, noise: float) -> int:
    """Where the slow stretch that begins at `first` ends."""
    above, below = max(0.05, 2.0 * noise), excess[first] + np.log(ALIKE)
    stop = min(len(excess), first + 1 + TAIL)
    at = first + 1
    while at < stop and above < excess[at] <= below:
        at += 1
    return at
