"""How much faster or slower steps became, with a confidence interval that assumes no distribution."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from gitops_mk.core.parse.columns import F64
from gitops_mk.model.telemetry import Pace

LEVEL: Final = 0.95
DRAWS: Final = 4_000
# Under so many blocks an interval of this kind is too narrow to be trusted.
FEWEST_BLOCKS: Final = 12
# The same data gives the same interval, wherever it is asked.
SEED: Final = 20_260
METHOD: Final = (
    "ratio of mean step times, circular block bootstrap (Politis, Romano 1992), expanded percentiles (Hesterberg 2015)"
)


class Effect(NamedTuple):
    """The share of a step's time that is saved, negative where steps got longer, and the interval round it.

    `steps`: how many of each side were compared, at most a block's more on one of them.
    """

    saved: float
    low: float
    high: float
    before_ms: float
    after_ms: float
    steps: int


def saved_time(before: Pace, after: Pace) -> Effect | None:
    """The newest steps of both, as many of each; None where those are too few to say anything.

    Means and not medians, for a burst costs time that a median does not see. Blocks of neighbouring steps are drawn, for
    what slows one step mostly slows the next: "A circular block-resampling procedure for stationary data", Politis and
    Romano (1992). The percentiles are those of Hesterberg, "What Teachers Should Know About the Bootstrap" (2015), 5.1,
    widened for few runs.
    """
    steps = min(before.steps, after.steps)
    old = np.array(before.block_ms[-max(1, steps // before.block_steps) :])
    new = np.array(after.block_ms[-max(1, steps // after.block_steps) :])
    if min(len(old), len(new)) < FEWEST_BLOCKS:
        return None
    run = _run(old, new)
    tail = _tail(min(len(old), len(new)) / run)
    rng = np.random.default_rng(SEED)
    ratios = _means(new, run, rng) / _means(old, run, rng)
    high, low = (1.0 - float(np.quantile(ratios, q)) for q in (tail, 1.0 - tail))
    return Effect(1.0 - float(new.mean() / old.mean()), low, high, float(old.mean()), float(new.mean()), steps)


def _run(old: F64, new: F64) -> int:
    """How many neighbours are drawn together: by how much a block resembles the next, at most a quarter of them all.

    The rule of Politis and White, "Automatic block-length selection for the dependent bootstrap" (2004, corrected by Patton
    and others 2009), for the circular bootstrap of an autoregression of the first order.
    """
    n = min(len(old), len(new))
    alike = max(0.0, *(_alike(values) for values in (old, new)))
    best = math.cbrt(6.0 * alike**2 / (1.0 - alike**2) ** 2 * n)
    return int(min(max(1, math.ceil(best)), n // 4))


def _alike(values: F64) -> float:
    """The correlation of a block with the next one, below 1."""
    off = values - values.mean()
    total = float((off**2).sum())
    return min(float((off[1:] * off[:-1]).sum()) / total, 0.97) if total > 0 else 0.0


def _tail(runs: float) -> float:
    """The quantile at which the interval ends: further out for few runs, as Student's t is further out than the normal."""
    freedom = max(2.0, runs - 1.0)
    z = NormalDist().inv_cdf(1.0 - (1.0 - LEVEL) / 2.0)
    # Abramowitz and Stegun 26.7.5.
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return NormalDist().cdf(-math.sqrt((freedom + 1) / freedom) * t)


def _means(values: F64, run: int, rng: np.random.Generator) -> F64:
    """Means of resamples made of runs of neighbours, the last value being the first one's neighbour."""
    n = len(values)
    starts = rng.integers(0, n, size=(DRAWS, math.ceil(n / run), 1))
    index = ((starts + np.arange(run)) % n).reshape(DRAWS, -1)[:, :n]
    return np.asarray(values[index].mean(axis=1))
