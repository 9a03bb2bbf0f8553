"""COMM-CONGESTION: the exchange of gradients takes a growing share; larger buckets mean fewer, larger collectives.

See "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (Li et al., VLDB 2020), section 3.2.3.
"""

from __future__ import annotations

from gitops_mk.core.chords.search import Values, least_move
from gitops_mk.core.chords.sizes import BUCKET, times_grown
from gitops_mk.core.chords.solve import Solution, State, moves, needs
from gitops_mk.model.signal import SignalName


def targets(state: State) -> Solution:
    """Fewer collectives by as much as their time grew, as far as the limits go."""
    lacking = needs(state, BUCKET)
    if lacking:
        return lacking
    bucket = state.knobs[BUCKET]

    def left(values: Values) -> float:
        return bucket / max(1, values.get(BUCKET, bucket))

    goal = 1.0 / times_grown(state.seen.get(SignalName.COMM_CONGESTION))
    found = least_move(state, [BUCKET], left, goal=goal) or {BUCKET: bucket}
    return moves(state, found, "larger buckets, so that fewer collectives are started")
