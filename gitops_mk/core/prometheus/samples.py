"""Samples of several series on one grid, and the one value that they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gitops_mk.core.prometheus.answers import Series
from gitops_mk.core.prometheus.grid import Grid
from gitops_mk.core.prometheus.roles import Take
from gitops_mk.errors import TelemetryError

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Labels = frozenset[tuple[str, str]]


def matrix(series: Sequence[Series], grid: Grid, first: int, count: int, *, role: str) -> tuple[F64, Bools]:
    """A row a series, a column a sample; and which of them were given. NaN where none was.

    Raises TelemetryError for a sample that is no number.
    """
    rows, given = np.full((len(series), count), np.nan), np.zeros((len(series), count), dtype=bool)
    start, step = grid.at(first), grid.step_ms
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


def reduced(rows: F64, take: Take) -> F64:
    """One value a sample, of those that are no NaN; NaN where there is none."""
    if take == "max":
        return np.asarray(np.fmax.reduce(rows, axis=0, initial=np.nan))
    if take == "min":
        return np.asarray(np.fmin.reduce(rows, axis=0, initial=np.nan))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nansum(rows, axis=0) / np.isfinite(rows).sum(axis=0))


def labels(one: Series) -> Labels:
    """What tells a series from others of its metric."""
    return frozenset((name, value) for name, value in one.metric.items() if name != "__name__")


def shares(used: Mapping[Labels, F64], other: Mapping[Labels, F64], count: int, *, is_total: bool) -> F64 | None:
    """The highest percentage of memory in use, of the series that meet: by their labels, or because there is one each.

    `other` is what is free, or with `is_total` all there is. None where there are series and none of them meet.
    """
    pairs = [(used[key], other[key]) for key in used if key in other]
    if not pairs and len(used) == len(other) == 1:
        pairs = [(next(iter(used.values())), next(iter(other.values())))]
    if not pairs and used and other:
        return None
    out = np.full(count, np.nan)
    for part, rest in pairs:
        whole = rest if is_total else part + rest
        with np.errstate(divide="ignore", invalid="ignore"):
            share = 100.0 * part / whole
        out = np.fmax(out, np.where(np.isfinite(share), share, np.nan))
    return out
