"""Trade microbatch size against accumulation, their product unchanged: the same optimisation in other parts."""

from __future__ import annotations

from functools import partial

from gitops_mk.core.chords.relief import GRAD_ACCUM, MICROBATCH, memory
from gitops_mk.core.chords.search import Values, batch_splits, best
from gitops_mk.core.chords.solve import Solution, State, moves, needs, unsolved
from gitops_mk.model.verdict import Reason


def split_towards(state: State, goal: int, *, up: bool) -> Solution:
    """The split that brings the shrinking one nearest to `goal` without going past it. `up` as in `split_batch`."""
    grow, shrink = (GRAD_ACCUM, MICROBATCH) if up else (MICROBATCH, GRAD_ACCUM)
    low = state.knobs[shrink]
    nearest = min((split for split in batch_splits(state, grow, shrink) if split[shrink] >= goal),
                  key=lambda split: split[shrink], default=None)  # fmt: skip
    if nearest is None:
        return unsolved(
            Reason.INVARIANT_VIOLATED,
            f"{shrink} {low} can't come nearer to {goal} within the limits: no other split of {state.knobs[grow] * low} fits",
        )
    return moves(state, nearest, "a step back towards the last stable profile")


def split_batch(state: State, *, up: bool = True, shed: float = 0.0) -> Solution:
    """The least move of the pair that keeps its product exactly and makes the shrinking one at least `shed` smaller, as a
    share; where the limits allow no such move, the one that comes nearest.

    `up`: more, smaller microbatches. Otherwise fewer, larger ones.
    """
    lacking = needs(state, GRAD_ACCUM, MICROBATCH)
    if lacking:
        return lacking
    grow, shrink = (GRAD_ACCUM, MICROBATCH) if up else (MICROBATCH, GRAD_ACCUM)
    high, low = state.knobs[grow], state.knobs[shrink]
    found = best(state, batch_splits(state, grow, shrink), partial(_left, shrink, low), goal=1.0 - shed)
    if found is None:
        return unsolved(
            Reason.INVARIANT_VIOLATED,
            f"{grow} {high} can't rise while {shrink} {low} falls within the limits: no other split of {high * low} fits",
        )
    why = f"{grow} {high} to {found[grow]}, {shrink} {low} to {found[shrink]}: their product stays {high * low}"
    return moves(state, found, why)


def _left(shrink: str, low: int, values: Values) -> float:
    return memory(low, values.get(shrink, low))
