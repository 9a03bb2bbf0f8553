"""COMM-CONGESTION: the exchange of gradients takes a growing share; larger buckets mean fewer, larger collectives.

See "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (Li et al., VLDB 2020), section 3.2.3.
"""

from __future__ import annotations

from gitops_mk.core.chords.solve import Solution, State, moves, needs, raised

BUCKET = "comm_bucket_mb"


def targets(state: State) -> Solution:
    """Double the bucket, as far as the limits go."""
    return needs(state, BUCKET) or moves(
        state, {BUCKET: raised(state, BUCKET)}, "larger buckets, so that fewer collectives are started"
    )
