"""drift_loss: the training loss rises over its best level and stays there, or is no finite number any more.

Medians of blocks are compared with the best block, never with the start of the run: a loss that fell for days and then
diverges is far below where it began. What comes down again (a spike, a learning-rate restart, another data mix) is no
drift.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gitops_mk.core.detect.answers import found, nothing, percent, unknown
from gitops_mk.core.detect.history import View
from gitops_mk.core.detect.points import Points, points
from gitops_mk.core.detect.stats import block_quantile, edges, mann_kendall, median, series, spread
from gitops_mk.core.parse.columns import F64
from gitops_mk.model.signal import Signal, SignalName

NAME = SignalName.DRIFT_LOSS
FEWEST = 16
EFFECT = 0.05
ERRORS = 3.5
# Two blocks at the very end are little to go by.
ERRORS_LATE = 6.0
RISING_Z = 2.5
# A rise seen in nearly every block needs no large last one.
STEADY_Z = 4.5
ERRORS_STEADY = 2.2
RECOVERED = 0.45
ERRORS_JUMP = 4.5
LOST_STREAK = 5
LOST_TAIL = 0.5
POINTS_PER_BLOCK = 12
# Medians of skewed noise scatter more than the standard error says.
MEDIAN_ERROR = 1.25


class _Levels(NamedTuple):
    blocks: F64
    error: float
    noise: float
    scale: float
    best: int
    floor: float


def detect(view: View) -> Signal:
    """Whether the loss rises for good."""
    seen = points(view)
    given = np.isfinite(seen.loss) | (seen.lost > 0)
    n = int(given.sum())
    if n < FEWEST:
        return unknown(NAME, f"{n} steps with a loss, expected {FEWEST}", "loss", unit="loss")
    loss, lost, step = seen.loss[given], seen.lost[given], seen.step[given]
    if _gone(lost):
        return _not_finite(loss, lost, step, seen)
    levels = _levels(loss)
    if levels is None:
        return unknown(NAME, "too few steps with a finite loss to see a trend", "loss", unit="loss")
    late = max(2, len(levels.blocks) // 8)
    for last, errors in ((late, ERRORS), (2, ERRORS_LATE)):
        rise = _rise(levels, last, errors)
        if rise is not None:
            return _risen(levels, rise, loss, step, seen.per_point)
    jumped = _jumped(levels)
    if jumped is not None:
        return _risen(*jumped, loss, step, seen.per_point)
    top = float(median(levels.blocks[-late:])) - levels.floor
    return nothing(
        NAME,
        "the loss stays near its best level, or came down to it again",
        "loss",
        unit="loss",
        effect=max(0.0, top / levels.scale),
        noise=levels.noise / levels.scale,
        threshold=EFFECT,
        series=series(loss),
    )


def _gone(lost: F64) -> bool:
    """True when the losses at the end are no finite numbers: the last few all, or most of the last tenth."""
    bad = lost >= LOST_TAIL
    tail = max(LOST_STREAK, len(bad) // 10)
    return bool(bad[-LOST_STREAK:].all() or bad[-tail:].mean() >= LOST_TAIL)


def _not_finite(loss: F64, lost: F64, step: F64, seen: Points) -> Signal:
    bad = lost >= LOST_TAIL
    good = np.flatnonzero(~bad)
    first = int(good[-1]) + 1 if len(good) and bad[-1] else int(np.argmax(bad))
    onset = int(step[first])
    return found(
        NAME,
        f"the loss is not a finite number any more (NaN or infinity), since step {onset}",
        "loss",
        actionable=True,
        unit="loss",
        onset_step=onset,
        duration_steps=(len(loss) - first) * seen.per_point,
        series=series(loss),
        values={"not_finite_steps": float(lost.sum()) * seen.per_point},
    )


def _levels(loss: F64) -> _Levels | None:
    n = len(loss)
    count = int(np.clip(n // POINTS_PER_BLOCK, 8, 48))
    blocks = block_quantile(loss, count)
    if np.isnan(blocks).any():
        blocks = blocks[~np.isnan(blocks)]
        if len(blocks) < 8:
            return None
    cut = edges(n, count)
    noise = median(np.array([spread(np.diff(loss[a:b])) for a, b in zip(cut[:-1], cut[1:], strict=True)])) / np.sqrt(
        2.0
    )
    noise = float(np.nan_to_num(noise))
    white = MEDIAN_ERROR * noise / np.sqrt(n / count)
    # Noise that lasts longer than a block shows in the blocks themselves, less their own trend.
    slow = spread(np.diff(blocks, n=2)) / np.sqrt(6.0)
    smooth = np.array([median(blocks[max(0, i - 1) : i + 2]) for i in range(len(blocks))])
    best = int(np.argmin(smooth[:-1]))
    floor = float(smooth[best])
    scale = max(abs(floor), 3.0 * noise, 1e-9)
    return _Levels(blocks, max(white, float(slow), 1e-12), noise, scale, best, floor)


def _rise(levels: _Levels, last: int, errors: float) -> float | None:
    """How far the last blocks are above the best one, where that is lasting and more than noise; else None."""
    blocks, best = levels.blocks, levels.best
    tail = blocks[-last:]
    rise = float(np.median(tail)) - levels.floor
    after = blocks[best:]
    z = mann_kendall(after)
    needed = min(errors, ERRORS_STEADY) if z > STEADY_Z else errors
    enough = rise >= EFFECT * levels.scale and rise >= needed * levels.error * np.sqrt(1.0 + 1.0 / last)
    if not enough or best >= len(blocks) - 2:
        return None
    top = float(np.max(after)) - levels.floor
    # The middle of the last two: one odd block at the end is no recovery.
    left = float(np.mean(blocks[-2:])) - levels.floor
    stays = left >= (1.0 - RECOVERED) * top and float(blocks[-1]) - levels.floor >= 0.5 * top
    rising = z > RISING_Z or bool(np.all(tail > levels.floor + 0.5 * rise))
    return rise if stays and rising else None


def _jumped(levels: _Levels) -> tuple[_Levels, float] | None:
    """A loss that fell, stepped up at once and stayed: the block before the step is the best level, however short it was."""
    blocks, error = levels.blocks, levels.error
    before, after = blocks[:-3], np.minimum(blocks[1:-2], blocks[2:-1])
    at = int(np.argmax(after - before))
    jump, floor = float(after[at] - before[at]), float(before[at])
    rest = blocks[at + 1 :] - floor
    rise = float(np.median(rest[-max(2, len(rest) // 4) :]))
    scale = max(abs(floor), 3.0 * levels.noise, 1e-9)
    real = jump > ERRORS_JUMP * error * np.sqrt(1.5) and floor <= levels.floor + 2.0 * error
    if real and rise >= EFFECT * scale and rise >= (1.0 - RECOVERED) * jump and float(rest.min()) > 0.4 * jump:
        return levels._replace(best=at, floor=floor, scale=scale), rise
    return None


def _risen(levels: _Levels, rise: float, loss: F64, step: F64, per_point: int) -> Signal:
    n, count = len(loss), len(levels.blocks)
    after = levels.blocks[levels.best :]
    # Behind the last block that still was near the best.
    low = np.flatnonzero(after <= levels.floor + 0.25 * rise)
    at = min(levels.best + (int(low[-1]) + 1 if len(low) else 0), count - 1)
    first = edges(n, count)[at]
    now = levels.floor + rise
    return found(
        NAME,
        f"the loss rose by {percent(rise / levels.scale)} over its best level ({levels.floor:.4g} to {now:.4g}) "
        f"since step {int(step[first])}",
        "loss",
        actionable=True,
        unit="loss",
        effect=rise / levels.scale,
        noise=levels.noise / levels.scale,
        threshold=EFFECT,
        onset_step=int(step[first]),
        duration_steps=(n - first) * per_point,
        series=series(loss),
        values={"best_loss": levels.floor, "last_loss": now},
    )
