"""The run as detectors of slow change see it: one value a record, or a cell where the run is longer than what is
remembered of it record by record.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gitops_mk.core.detect.clean import clean
from gitops_mk.core.detect.history import View
from gitops_mk.core.parse.columns import F64


class Points(NamedTuple):
    """Warm-up cut off, planned steps without time. `lost` is the share of losses that were no finite numbers."""

    step: F64
    ms: F64
    pace: F64
    loss: F64
    lost: F64
    per_point: int


def points(view: View) -> Points:
    """The steady part of the whole run; computed once a view."""
    return view.once(_points)


def _points(view: View) -> Points:
    cells = view.cells
    if cells is not None and not view.complete:
        # The first cell holds the warm-up.
        lost = np.nan_to_num(cells.lost[1:])
        return Points(cells.step[1:], cells.quiet[1:], cells.pace[1:], cells.loss[1:], lost, view.per_cell)
    made = clean(view)
    rows = view.recent
    infinite = np.isinf(rows.loss)
    ms = np.where(made.steady, rows.step_ms, np.nan)
    pace = np.where(made.steady, rows.throughput, np.nan)
    loss = np.where(infinite, np.nan, rows.loss)
    cut = slice(made.warm, None)
    return Points(rows.step[cut], ms[cut], pace[cut], loss[cut], infinite[cut].astype(float), 1)
