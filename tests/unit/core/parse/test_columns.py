"""Columns that most jobs do not give may be left out."""

from __future__ import annotations

import numpy as np

from gitops_mk.core.parse.columns import NAMES, Columns


def test_columns_that_are_not_given_are_nan() -> None:
    given = {name: np.arange(3.0) for name in NAMES if name not in {"wait_ms", "retries", "clock_mhz", "workers"}}
    columns = Columns(**given, workers=np.empty((3, 0)))
    for name in ("wait_ms", "retries", "clock_mhz"):
        assert np.isnan(getattr(columns, name)).tolist() == [True] * 3
    assert len(columns.take(slice(1))) == len(columns.take(slice(1)).wait_ms) == 1
