"""INPUT-STRAGGLER: batches are taken in turn, so one slow loader holds up every n-th; with more loaders its share falls.

With n loaders and one that needs T ms a batch, a step can't be faster than T/n per batch taken. One that is slow in some
of its batches only is helped by deeper queues as well.
"""

from __future__ import annotations

from gitops_mk.core.chords.relief import PREFETCH, WORKERS, slow_loader
from gitops_mk.core.chords.search import Values, least_move
from gitops_mk.core.chords.sizes import slow_worker
from gitops_mk.core.chords.solve import Solution, State, movable, moves, needs
from gitops_mk.model.signal import SignalName


def targets(state: State) -> Solution:
    """The least move of loaders and queues after which the slow one holds up no step, as far as the limits go."""
    lacking = needs(state, WORKERS)
    if lacking:
        return lacking
    knobs = movable(state, WORKERS, PREFETCH)
    excess, share = slow_worker(state.seen.get(SignalName.STRAGGLER))

    def left(values: Values) -> float:
        return slow_loader(excess, share, _both(state, values, WORKERS), _both(state, values, PREFETCH))

    found = least_move(state, knobs, left) or {knobs[0]: state.knobs[knobs[0]]}
    return moves(state, found, "the slow loader's share of the batches falls as the loaders grow in number")


def _both(state: State, values: Values, knob: str) -> tuple[int, int]:
    now = state.knobs.get(knob, 1)
    return now, values.get(knob, now)
