"""drift: the job gets slower, or its loss rises, gradually and for good.

Step time: total Theil-Sen rise with a Mann-Kendall test, or a level change, over blocks of quiet step times;
discounted by throughput, which falls when work is lost and does not when steps are longer on purpose. Without
throughput a level change is taken for a schedule, and only a gradual and large rise counts: three in four real
healthy runs get slower on purpose. Loss: the last blocks against the best one. A loss that is no number at the end is
drift as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gitops_mk.core.detect.answers import found, nothing, percent, unknown
from gitops_mk.core.detect.clean import clean
from gitops_mk.core.detect.history import QUIET, View
from gitops_mk.core.detect.stats import (
    best_split,
    block_quantile,
    edges,
    mann_kendall,
    median,
    series,
    spread,
    theil_sen,
)
from gitops_mk.core.parse.columns import F64
from gitops_mk.model.signal import Signal, SignalName

NAME = SignalName.DRIFT
STEP_EFFECT = 0.09
# Without throughput: after a quiet start, and for a rise from the first step on, which is what schedules look like.
STEP_EFFECT_UNCONFIRMED = 0.25
STEP_EFFECT_FROM_START = 0.6
QUIET_START = 0.15
STAIRS = 4
STAIRS_SHARE = 0.8
TREND_Z = 3.3
FEWEST = 16
FEWEST_BLOCKS = 6
SPLIT_NOISE = 4.5
LOSS_EFFECT = 0.05
LOSS_SE = 3.5
LOSS_Z = 2.5
LOSS_JUMP = 0.5
LOST_TAIL = 0.5


class _Points(NamedTuple):
    """One value a record, or a cell where the run is longer than what is remembered of it."""

    step: F64
    ms: F64
    pace: F64
    loss: F64
    lost: F64
    per_point: int


class _Rise(NamedTuple):
    effect: float
    noise: float
    block: int
    gradual: bool
    late: bool
    blocks: F64


def detect(view: View) -> Signal:
    """Whether the loss rises or the steps get slower."""
    points = _points(view)
    loss = _loss(points)
    if loss is not None:
        return loss
    return _step(points)


def _points(view: View) -> _Points:
    if not view.complete:
        c = view.cells
        # The first cell holds the warm-up.
        return _Points(c.step[1:], c.quiet[1:], c.pace[1:], c.loss[1:], np.nan_to_num(c.lost[1:]), view.per_cell)
    made = clean(view)
    rows = view.recent
    lost = np.isinf(rows.loss)
    ms = np.where(made.steady, rows.step_ms, np.nan)
    pace = np.where(made.steady, rows.throughput, np.nan)
    cut = slice(made.warm, None)
    return _Points(
        rows.step[cut], ms[cut], pace[cut], np.where(lost, np.nan, rows.loss)[cut], lost[cut].astype(float), 1
    )


def _step(points: _Points) -> Signal:
    n = len(points.ms)
    steady = int(np.isfinite(points.ms).sum())
    blocks = int(np.clip(n // (10 if points.per_point == 1 else 2), 10, 24))
    rise = _rise(points.ms, blocks) if steady >= FEWEST else None
    if rise is None:
        return unknown(NAME, f"{steady} steady steps are too few to see a trend", "step_time_ms")
    pace = _rise(1.0 / points.pace, blocks, like=rise) if np.isfinite(points.pace).mean() > 0.5 else None
    confirmed = pace is not None
    effect = rise.effect if pace is None else min(rise.effect, pace.effect)
    onset = int(points.step[edges(n, blocks)[min(rise.block, blocks - 1)]])
    common = {
        "effect": effect,
        "noise": rise.noise,
        "unit": "ms",
        "series": series(points.ms),
        "values": {
            "step_time_rise": rise.effect,
            "first_ms": float(np.exp(rise.blocks[0])),
            "last_ms": float(np.exp(rise.blocks[-1])),
        },
    }
    unconfirmed = STEP_EFFECT_UNCONFIRMED if rise.late else STEP_EFFECT_FROM_START
    enough = STEP_EFFECT if confirmed else unconfirmed
    if effect >= enough and (confirmed or rise.gradual):
        duration = (n - edges(n, blocks)[min(rise.block, blocks - 1)]) * points.per_point
        how = "gradually" if rise.gradual else "at once"
        told = "and throughput fell with it" if confirmed else "and no throughput is given to tell a planned change by"
        return found(
            NAME,
            f"steps got {percent(effect)} slower {how} since step {onset}, {told}",
            "step_time_ms",
            threshold=enough,
            onset_step=onset,
            duration_steps=duration,
            **common,
        )
    if rise.effect >= STEP_EFFECT:
        why = "throughput did not fall" if confirmed else "a planned schedule looks the same: no throughput is given"
        return nothing(
            NAME, f"steps are {percent(rise.effect)} longer, but {why}", "step_time_ms", threshold=enough, **common
        )
    return nothing(NAME, "neither step time nor loss rises for good", "step_time_ms", threshold=enough, **common)


def _rise(values: F64, blocks: int, like: _Rise | None = None) -> _Rise | None:
    """The lasting rise as a fraction, by trend or by level change; `like` asks for the same shape in another metric.

    None for too few blocks with values.
    """
    quiet = np.log(block_quantile(values, blocks, QUIET))
    quiet = quiet[np.isfinite(quiet)]
    if len(quiet) < FEWEST_BLOCKS:
        return None
    noise = max(spread(np.diff(quiet)) / np.sqrt(2.0), 1e-6)
    slope = theil_sen(quiet)
    trend = slope * (len(quiet) - 1) if mann_kendall(quiet) > TREND_Z else 0.0
    split = best_split(quiet)
    jump = split.after - split.before
    tail = quiet[-max(2, len(quiet) // 6) :]
    middle = split.before + 0.5 * jump
    lasting = (quiet[split.at :] > middle).mean() >= 0.8 and median(tail) > middle if split.at < len(quiet) else False
    scale = max(spread(quiet[: split.at] - split.before), spread(quiet[split.at :] - split.after), 0.5 * noise)
    level = jump if lasting and (jump > SPLIT_NOISE * scale or like is not None) else 0.0
    # A trend must still be there at the end: what went up and came down again is no drift.
    if trend > 0 and median(tail) < np.median(quiet[: len(quiet) // 3]) + 0.5 * trend:
        trend = 0.0
    gradual = _gradual(quiet)
    # A trend fitted to a single level change overstates it.
    effect = level if level >= STEP_EFFECT and not gradual else max(trend, level)
    return _Rise(float(np.expm1(effect)), float(noise), split.at, gradual=gradual, late=_late(quiet), blocks=quiet)


def _late(quiet: F64) -> bool:
    """True when the first quarter of the run has next to nothing of the rise."""
    start = quiet[: max(3, len(quiet) // 4)]
    return float(start[-1] - start[0]) < QUIET_START * float(quiet[-1] - quiet[0])


def _gradual(quiet: F64) -> bool:
    """True when the rise is not made of a few sharp steps, as a schedule's is: the four largest are not most of it."""
    total = float(quiet[-1] - quiet[0])
    largest = np.sort(np.diff(quiet))[-STAIRS:]
    return total > 0 and float(largest.sum()) < STAIRS_SHARE * total


def _loss(points: _Points) -> Signal | None:
    given = np.isfinite(points.loss) | (points.lost > 0)
    n = int(given.sum())
    if n < FEWEST:
        return None
    loss, lost, step = points.loss[given], points.lost[given], points.step[given]
    tail = max(5, n // 10) if n >= 50 else 5
    if (lost[-tail:] > 0).mean() >= LOST_TAIL:
        bad = np.flatnonzero(lost > 0)
        onset = int(step[bad[0]])
        return found(
            NAME,
            f"the loss is not a finite number any more (NaN or infinity), first at step {onset}",
            "loss",
            unit="loss",
            onset_step=onset,
            duration_steps=(n - int(bad[0])) * points.per_point,
            series=series(loss),
            values={"not_finite_steps": float((lost > 0).sum()) * points.per_point},
        )
    blocks = int(np.clip(n // 16, 8, 24))
    level = block_quantile(loss, blocks)
    if np.isnan(level).any():
        return None
    per_block = n / blocks
    noise = median(
        np.array([spread(np.diff(loss[a:b])) for a, b in zip(edges(n, blocks)[:-1], edges(n, blocks)[1:], strict=True)])
    ) / np.sqrt(2)
    # The standard error of a median is 1.25 times that of a mean.
    error = 1.25 * noise / np.sqrt(per_block) + 1e-12
    best = int(np.argmin(level))
    last = level[-max(2, blocks // 8) :]
    rise = float(np.median(last) - level[best])
    scale = max(abs(float(level[best])), 3.0 * noise, 1e-9)
    after = level[best:]
    effect = rise / scale
    significant = rise >= LOSS_SE * error * np.sqrt(2.0) and best < blocks - 2
    rising = mann_kendall(after) > LOSS_Z or bool(np.all(np.diff(after) > 0))
    recovering = float(np.max(after)) - float(level[-1]) > 0.35 * float(np.max(after) - level[best])
    jumped = effect >= LOSS_JUMP and bool(np.all(last > level[best] + 0.7 * (np.max(after) - level[best])))
    if not (effect >= LOSS_EFFECT and significant and ((rising and not recovering) or jumped)):
        return None
    at = int(
        np.argmax(level > level[best] + 0.25 * rise)
        if best == 0
        else best + np.argmax(after > level[best] + 0.25 * rise)
    )
    first = edges(n, blocks)[at]
    return found(
        NAME,
        f"the loss rose by {percent(effect)} over its best level ({level[best]:.4g} to {float(np.median(last)):.4g}) "
        f"since step {int(step[first])}",
        "loss",
        unit="loss",
        effect=effect,
        noise=noise / scale,
        threshold=LOSS_EFFECT,
        onset_step=int(step[first]),
        duration_steps=(n - first) * points.per_point,
        series=series(loss),
        values={"best_loss": float(level[best]), "last_loss": float(np.median(last))},
    )
