"""DRIFT-RETUNE: steps grow slower and stay so; smaller microbatches lower the peak memory of a step.

The global batch is kept exactly, so the optimisation is the same: gradients are summed over more, smaller parts.
"""

from __future__ import annotations

from gitops_mk.core.chords.solve import Solution, State, split_batch


def targets(state: State) -> Solution:
    """Split the microbatch by the smallest whole factor that the limits allow."""
    return split_batch(state, up=True)
