"""DRIFT-RETUNE: steps grow slower and stay so; smaller microbatches lower the peak memory of a step.

The global batch is kept exactly, so the optimisation is the same: gradients are summed over more, smaller parts.
"""

from __future__ import annotations

from dataclasses import replace

from gitops_mk.core.chords.batch import split_batch
from gitops_mk.core.chords.sizes import lost_share
from gitops_mk.core.chords.solve import Solution, State
from gitops_mk.model.signal import SignalName

NO_CURE = (
    "the optimisation stays as it is, so this can't cure a loss that diverges: look at the learning rate and the data"
)


def targets(state: State) -> Solution:
    """Split the microbatch by at least the share of time that was lost, and by as little as that takes."""
    split = split_batch(state, shed=lost_share(state.seen.get(SignalName.DRIFT_STEP)))
    if split.changes and SignalName.DRIFT_LOSS in state.seen:
        return replace(split, rationale=f"{split.rationale}; {NO_CURE}")
    return split
