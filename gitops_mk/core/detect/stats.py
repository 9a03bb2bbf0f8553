"""Robust statistics on a few dozen points: medians of blocks, trend, change point. NaN means "no value" throughout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gitops_mk.core.parse.columns import F64

# Median absolute deviation to standard deviation, for a normal distribution.
MAD_TO_SD = 1.4826
SERIES_POINTS = 64


class Split(NamedTuple):
    """A level change: the first index after it, the medians before and after."""

    at: int
    before: float
    after: float


def quantile_rows(matrix: F64, q: float) -> F64:
    """The q-quantile (lower) of each row's values, NaN for a row without any."""
    ordered = np.sort(matrix, axis=1)
    count = matrix.shape[1] - np.isnan(ordered).sum(axis=1)
    index = np.maximum(0, np.floor((count - 1) * q)).astype(np.intp)
    out = ordered[np.arange(len(ordered)), np.minimum(index, matrix.shape[1] - 1)]
    return np.asarray(np.where(count > 0, out, np.nan))


def mean_rows(matrix: F64) -> F64:
    """The mean of each row's values, NaN for a row without any."""
    given = ~np.isnan(matrix)
    count = given.sum(axis=1)
    total = np.where(given, matrix, 0.0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def median(values: F64) -> float:
    """The median of the values there are; NaN for none."""
    given = values[~np.isnan(values)]
    return float(np.median(given)) if len(given) else float("nan")


def spread(values: F64) -> float:
    """Robust standard deviation by the median absolute deviation; 0 for none."""
    given = values[~np.isnan(values)]
    return MAD_TO_SD * float(np.median(np.abs(given - np.median(given)))) if len(given) else 0.0


def edges(n: int, blocks: int) -> list[int]:
    """The borders that cut n values into so many blocks of about equal length."""
    return [round(i * n / blocks) for i in range(blocks + 1)]


def block_quantile(values: F64, blocks: int, q: float = 0.5) -> F64:
    """The q-quantile of each block, NaN for a block without values."""
    cut = edges(len(values), blocks)
    out = np.full(blocks, np.nan)
    for i in range(blocks):
        part = values[cut[i] : cut[i + 1]]
        part = part[~np.isnan(part)]
        if len(part):
            out[i] = np.quantile(part, q)
    return out


def theil_sen(values: F64) -> float:
    """Median slope over all pairs, a step of the index (Theil 1950, Sen 1968)."""
    i, j = np.triu_indices(len(values), 1)
    return float(np.median((values[j] - values[i]) / (j - i)))


def mann_kendall(values: F64) -> float:
    """The z value of Mann's trend test (Mann 1945, Kendall 1975), ties corrected; 0 for fewer than 4 values."""
    n = len(values)
    if n < 4:
        return 0.0
    i, j = np.triu_indices(n, 1)
    s = float(np.sign(values[j] - values[i]).sum())
    ties = np.unique(values, return_counts=True)[1].astype(float)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18.0
    return 0.0 if variance <= 0 else (s - np.sign(s)) / float(np.sqrt(variance))


def best_split(values: F64, edge: int = 2) -> Split:
    """Where two medians fit best (least absolute deviation), at least `edge` values on either side."""
    best, found = np.inf, Split(len(values), median(values), median(values))
    for at in range(edge, len(values) - edge + 1):
        before, after = float(np.median(values[:at])), float(np.median(values[at:]))
        cost = float(np.abs(values[:at] - before).sum() + np.abs(values[at:] - after).sum())
        if cost < best - 1e-12:
            best, found = cost, Split(at, before, after)
    return found


def series(values: F64) -> tuple[float, ...]:
    """The values as at most 64 points for a chart, oldest first: medians of blocks."""
    given = values[np.isfinite(values)]
    points = given if len(given) <= SERIES_POINTS else block_quantile(given, SERIES_POINTS)
    return tuple(round(float(v), 4) for v in points)
