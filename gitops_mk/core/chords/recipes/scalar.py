"""SCALAR: the simple policy. One small step of one knob, or of the batch pair where only that is to be had."""

from __future__ import annotations

from gitops_mk.core.chords.batch import split_batch
from gitops_mk.core.chords.solve import Solution, State, moves
from gitops_mk.model.signal import DRIFTS, SignalName

# Memory and compute pressure are not mended by reading ahead.
BATCH_SIGNALS = frozenset({SignalName.GPU_SATURATED, *DRIFTS})
ORDER = ("dataloader_prefetch_factor", "dataloader_num_workers")


def targets(state: State) -> Solution:
    """Split the microbatch where the device is the trouble; else one more of the first input knob that still has room."""
    if BATCH_SIGNALS & state.seen.keys():
        return split_batch(state)
    for knob in ORDER:
        limit = state.limits.get(knob)
        if knob in state.knobs and knob in state.allowed and limit is not None and state.knobs[knob] < limit.max:
            return moves(state, {knob: state.knobs[knob] + 1}, f"one step of {knob}")
    return split_batch(state)
