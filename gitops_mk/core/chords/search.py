"""An integer search over a few knobs: the least move that reaches a goal, within bounds, step and invariant."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Final

from gitops_mk.core.chords.solve import State

# A knob that could go further is tried at its nearest values and at ever larger steps.
MOST_VALUES: Final = 256
MOST_TRIED: Final = 65_536
# No chord moves a knob further than this at once, whatever its limits.
FURTHEST: Final = 8
EPS: Final = 1e-9
# What leaves that little more of the trouble, as a share of it, is as good: a larger move is not worth so little.
GRAIN: Final = 0.05

Values = dict[str, int]


def least_move(
    state: State, knobs: Sequence[str], left: Callable[[Values], float], *, goal: float = 0.0
) -> Values | None:
    """The values, of those upwards within the limits, that leave at most `goal`, by the smallest move; where none do,
    those that leave least. None where no move leaves less than standing still.

    A move's size is the sum of |log(after / before)|: doubling two knobs is twice doubling one.
    """
    ranges = [_upwards(state, knob) for knob in knobs]
    candidates = (dict(zip(knobs, values, strict=True)) for values in product(*ranges))
    return best(state, candidates, left, goal=goal)


def batch_splits(state: State, grow: str, shrink: str) -> Iterator[Values]:
    """Every split of the pair's product with more of `grow`, within the limits: the invariant holds in each exactly."""
    low, limit = state.knobs[shrink], state.limits.get(shrink)
    whole = state.knobs[grow] * low
    first, last = low - 1, 1
    if limit is not None:
        first, last = min(first, limit.max), max(limit.min, low - limit.max_delta, 1)
    # Where there are too many to try, whole fractions: nobody trains with so many that more are needed.
    wide = first - last > MOST_TRIED
    values = (low // part for part in range(2, MOST_VALUES)) if wide else range(first, last - 1, -1)
    for value in values:
        if value and whole % value == 0:
            split = {grow: whole // value, shrink: value}
            if all(fits(state, knob, to) for knob, to in split.items()):
                yield split


def best(state: State, candidates: Iterator[Values], left: Callable[[Values], float], *, goal: float) -> Values | None:
    """The candidate that leaves at most `goal` by the smallest move, else one that leaves about as little as any can."""
    stays = left({})
    helps = [(max(rest, goal), values) for values in candidates if (rest := left(values)) < stays - EPS]
    if not helps:
        return None
    least = min(rest for rest, _ in helps)
    enough = least + (EPS if least <= goal + EPS else GRAIN * (stays - goal))
    return min((values for rest, values in helps if rest <= enough), key=lambda values: _size(state, values))


def fits(state: State, knob: str, value: int) -> bool:
    """Whether the limits let `knob` go to `value` in one step."""
    limit = state.limits.get(knob)
    if limit is None:
        return value >= 1
    return limit.min <= value <= limit.max and abs(value - state.knobs[knob]) <= limit.max_delta


def _upwards(state: State, knob: str) -> list[int]:
    now = state.knobs[knob]
    limit = state.limits.get(knob)
    # From nothing it may go to one.
    top = max(now, 1) * FURTHEST
    if limit is not None:
        top = max(now, min(top, limit.max, now + limit.max_delta))
    if top - now < MOST_VALUES:
        return list(range(now, top + 1))
    values = list(range(now, now + MOST_VALUES // 2))
    while values[-1] < top:
        # In whole numbers, so that every machine tries the same.
        values.append(min(top, values[-1] * 33 // 32 + 1))
    return values


def _size(state: State, values: Mapping[str, int]) -> tuple[float, int, tuple[int, ...]]:
    """How large a move is; of equal ones that of the knob named first is the smaller."""
    moved = [abs(value - state.knobs[knob]) for knob, value in values.items()]
    ratio = sum(abs(math.log(max(value, 1) / max(state.knobs[knob], 1))) for knob, value in values.items())
    return round(ratio, 9), sum(moved), tuple(reversed(moved))
