"""drift_step: steps get slower, gradually or at once, and stay so.

Quiet levels of blocks are fitted by a level change, by a flat stretch that turns into a rise, and by one trend
throughout; the shape that fits best must be lasting, larger than what is left over, and large enough to matter. It is
discounted by throughput, which falls when work is lost and does not when steps are longer on purpose. Without
throughput a level change is taken for a schedule, and only a gradual and large rise counts: three in four real
healthy runs get slower on purpose.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gitops_mk.core.detect.answers import found, nothing, percent, unknown
from gitops_mk.core.detect.clean import episodes
from gitops_mk.core.detect.history import QUIET, View
from gitops_mk.core.detect.locate import located
from gitops_mk.core.detect.points import points
from gitops_mk.core.detect.stats import block_quantile, edges, mann_kendall, median, series, spread, theil_sen
from gitops_mk.core.parse.columns import F64, Indices
from gitops_mk.model.signal import Signal, SignalName

NAME = SignalName.DRIFT_STEP
EFFECT = 0.08
# Throughput may be averaged over many steps, and lag behind.
PACE_EFFECT = 0.06
PACE_SHARE = 0.6
# Without throughput: after a quiet start, and for a rise from the first step on, which is what schedules look like.
EFFECT_UNCONFIRMED = 0.25
EFFECT_FROM_START = 0.6
QUIET_START = 0.15
STAIRS = 4
STAIRS_SHARE = 0.8
TREND_Z = 3.3
FEWEST = 16
FEWEST_BLOCKS = 6
MOST_BLOCKS = 48
POINTS_PER_BLOCK = 8
NOISE = 3.0
ERRORS = 5.0
# A block is a rise's when it is this far up; that many of the blocks behind the onset must be.
UP = 0.5
UP_SHARE = 0.8
UP_SHARE_RAMP = 0.6
# A level that was there before, again and again, is one of several that the run goes between: bursts, not drift.
SEEN_BEFORE = 0.1
LONGER = 3


class _Shape(NamedTuple):
    """A rise in logs of the level: where it begins, how large it is at the end, what it leaves unexplained."""

    kind: str
    at: int
    rise: float
    fitted: F64
    cost: float


def detect(view: View) -> Signal:
    """Whether the steps get slower for good."""
    seen = points(view)
    n = len(seen.ms)
    steady = int(np.isfinite(seen.ms).sum())
    count = int(np.clip(n // (POINTS_PER_BLOCK if seen.per_point == 1 else 2), 10, MOST_BLOCKS))
    levels = np.log(block_quantile(seen.ms, count, QUIET)) if steady >= FEWEST else np.empty(0)
    kept = np.flatnonzero(np.isfinite(levels))
    kept = kept[_settling(levels[kept]) :]
    if len(kept) < FEWEST_BLOCKS:
        return unknown(NAME, f"{steady} steady steps are too few to see a trend", "step_time_ms")
    quiet = levels[kept]
    shape = _rise(quiet)
    effect = float(np.expm1(shape.rise)) if shape is not None else 0.0
    paced = np.isfinite(seen.pace).mean() > 0.5
    slower = _pace(1.0 / seen.pace, count, kept, shape) if paced and shape is not None else 0.0
    gradual, late = _gradual(quiet), _late(quiet)
    enough = EFFECT if paced else EFFECT_UNCONFIRMED if late else EFFECT_FROM_START
    onset = edges(n, count)[int(kept[shape.at])] if shape is not None else 0
    common = {
        "effect": effect,
        "noise": max(spread(np.diff(quiet)) / np.sqrt(2.0), 1e-6),
        "threshold": enough,
        "series": series(seen.ms),
        "values": {
            "throughput_fall": slower,
            "first_ms": float(np.exp(quiet[0])),
            "last_ms": float(np.exp(quiet[-1])),
        },
    }
    if effect >= EFFECT and _announced(view, seen.step, onset, count):
        summary = f"steps are {percent(effect)} longer since a schedule that the job announced"
        return nothing(NAME, summary, "step_time_ms", **common)
    confirmed = paced and slower >= max(PACE_EFFECT, PACE_SHARE * effect)
    if effect >= enough and (confirmed if paced else gradual):
        told = "and throughput fell with it" if paced else "and no throughput is given to tell a planned change by"
        how = "gradually" if gradual else "at once"
        step = int(seen.step[onset])
        return found(
            NAME,
            f"steps got {percent(effect)} slower {how} since step {step}, {told}",
            "step_time_ms",
            actionable=paced,
            onset_step=step,
            duration_steps=(n - onset) * seen.per_point,
            cause=located(view, step),
            **common,
        )
    if effect >= EFFECT:
        why = "throughput did not fall" if paced else "a planned schedule looks the same: no throughput is given"
        return nothing(NAME, f"steps are {percent(effect)} longer, but {why}", "step_time_ms", **common)
    return nothing(NAME, "steps do not get slower for good", "step_time_ms", **common)


def _announced(view: View, step: F64, onset: int, count: int) -> bool:
    """True when the job announced a change of schedule within two blocks of the onset."""
    near = 2.0 * float(step[-1] - step[0]) / count
    told = [event.step for event in view.events if event.kind == "schedule" and event.step is not None]
    return any(abs(at - float(step[onset])) <= near for at in told)


def _rise(quiet: F64) -> _Shape | None:
    """The shape that fits best among the rises that are lasting and more than noise; None when there is none."""
    noise = max(spread(np.diff(quiet)) / np.sqrt(2.0), 1e-6)
    shapes = [shape for shape in (_trend(quiet), _level(quiet), _ramp(quiet)) if shape is not None]
    real = [shape for shape in shapes if shape.rise > 0 and _lasting(quiet, shape) and _clear(quiet, shape, noise)]
    return min(real, key=lambda shape: shape.cost, default=None)


def _settling(quiet: F64) -> int:
    """Blocks at the start that still come down from the warm-up: their end is where the run begins."""
    if len(quiet) < FEWEST_BLOCKS:
        return 0
    down = 2.0 * spread(np.diff(quiet)) / np.sqrt(2.0)
    at = 0
    while at < len(quiet) // 8 and quiet[at] > quiet[at + 1] + down:
        at += 1
    return at


def _level(quiet: F64) -> _Shape | None:
    best: _Shape | None = None
    for at in range(2, len(quiet) - 1):
        before, after = float(np.median(quiet[:at])), float(np.median(quiet[at:]))
        fitted = np.where(np.arange(len(quiet)) < at, before, after)
        cost = float(np.abs(quiet - fitted).sum())
        if best is None or cost < best.cost - 1e-12:
            best = _Shape("level", at, after - before, fitted, cost)
    return best


def _ramp(quiet: F64) -> _Shape | None:
    """Flat, then a straight line that begins where the flat stretch ends."""
    best: _Shape | None = None
    index = np.arange(len(quiet), dtype=float)
    for at in range(2, len(quiet) - 3):
        before = float(np.median(quiet[:at]))
        run = index[at:] - at + 1.0
        slope = float(np.median((quiet[at:] - before) / run))
        fitted = before + slope * np.maximum(index - at + 1.0, 0.0)
        cost = float(np.abs(quiet - fitted).sum())
        if best is None or cost < best.cost - 1e-12:
            best = _Shape("ramp", at, slope * float(run[-1]), fitted, cost)
    return best


def _trend(quiet: F64) -> _Shape | None:
    """One straight line throughout (Theil-Sen), where Mann-Kendall says that there is one."""
    if mann_kendall(quiet) <= TREND_Z:
        return None
    slope = theil_sen(quiet)
    index = np.arange(len(quiet), dtype=float)
    line = slope * index
    fitted = line + float(np.median(quiet - line))
    return _Shape("trend", 0, slope * (len(quiet) - 1), fitted, float(np.abs(quiet - fitted).sum()))


def _lasting(quiet: F64, shape: _Shape) -> bool:
    """What went up and came down again is no drift."""
    base = float(shape.fitted[0])
    tail = quiet[-max(2, len(quiet) // 8) :]
    up = UP * shape.rise
    if shape.kind == "trend":
        return bool(median(tail) > np.median(quiet[: len(quiet) // 3]) + up)
    earlier, after = quiet[: shape.at] > base + 0.75 * shape.rise, quiet[shape.at :]
    longest = max((end - first for first, end in episodes(earlier)), default=0)
    if float(earlier.mean()) > SEEN_BEFORE or len(after) < LONGER * longest:
        return False
    share = float((after > base + (up if shape.kind == "level" else 0.25 * shape.rise)).mean())
    enough = UP_SHARE if shape.kind == "level" else UP_SHARE_RAMP
    return share >= enough and float(np.median(quiet[-3:])) > base + 0.6 * shape.rise


def _clear(quiet: F64, shape: _Shape, noise: float) -> bool:
    """True when the rise stands out of what the shape leaves unexplained. A trend was tested as such."""
    if shape.kind == "trend":
        return True
    rest = quiet - shape.fitted
    scale = max(spread(rest[: shape.at]), spread(rest[shape.at :]), 0.5 * noise)
    # The standard error of a median is 1.25 times that of a mean.
    error = 1.25 * scale * np.sqrt(1.0 / shape.at + 1.0 / (len(quiet) - shape.at))
    return bool(shape.rise > max(NOISE * scale, ERRORS * error))


def _pace(inverse: F64, count: int, kept: Indices, shape: _Shape) -> float:
    """How much longer a unit of work takes behind the onset than before it, as a fraction."""
    blocks = block_quantile(inverse, count)[kept]
    at = shape.at if shape.kind != "trend" else max(1, len(blocks) // 4)
    tail = max(2, len(blocks) // 8) if shape.kind != "level" else len(blocks) - at
    before, after = median(blocks[:at]), median(blocks[-tail:])
    return float(np.nan_to_num(after / before - 1.0))


def _late(quiet: F64) -> bool:
    """True when the first quarter of the run has next to nothing of the rise."""
    start = quiet[: max(3, len(quiet) // 4)]
    return float(start[-1] - start[0]) < QUIET_START * float(quiet[-1] - quiet[0])


def _gradual(quiet: F64) -> bool:
    """True when the rise is not made of a few sharp steps, as a schedule's is: the four largest are not most of it."""
    total = float(quiet[-1] - quiet[0])
    largest = np.sort(np.diff(quiet))[-STAIRS:]
    return total > 0 and float(largest.sum()) < STAIRS_SHARE * total
