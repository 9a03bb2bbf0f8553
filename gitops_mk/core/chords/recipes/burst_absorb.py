"""BURST-ABSORB: hiccups of the input stall steps now and then; more batches kept ready ride over them."""

from __future__ import annotations

from gitops_mk.core.chords.relief import PREFETCH, WORKERS, bursts
from gitops_mk.core.chords.search import Values, least_move
from gitops_mk.core.chords.sizes import stalled_batches
from gitops_mk.core.chords.solve import Solution, State, movable, moves, needs
from gitops_mk.model.signal import SignalName


def targets(state: State) -> Solution:
    """The least move of queues and loaders that keeps a stall's worth of batches more, as far as the limits go."""
    lacking = needs(state, PREFETCH)
    if lacking:
        return lacking
    knobs = movable(state, PREFETCH, WORKERS)
    loaders, queue = state.knobs.get(WORKERS, 1), state.knobs[PREFETCH]
    batches = stalled_batches(state.seen.get(SignalName.BURST), state.knobs)

    def left(values: Values) -> float:
        return bursts(batches, (loaders, values.get(WORKERS, loaders)), (queue, values.get(PREFETCH, queue)))

    found = least_move(state, knobs, left) or {knobs[0]: state.knobs[knobs[0]]}
    return moves(state, found, f"{batches:.3g} batches more kept ready, so that a stall of the input is absorbed")
