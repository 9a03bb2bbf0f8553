"""NEAR-HANG/TIMEOUT-GUARD: steps stall almost to the timeout; more room, and less in flight at once."""

from __future__ import annotations

from gitops_mk.core.chords.solve import Solution, State, lowered, moves, needs, raised

TIMEOUT = "timeout_ms"
CONCURRENCY = "concurrency"


def targets(state: State) -> Solution:
    """Double the timeout and halve the concurrency, as far as the limits go."""
    lacking = needs(state, TIMEOUT)
    if lacking:
        return lacking
    wanted = {TIMEOUT: raised(state, TIMEOUT)}
    if CONCURRENCY in state.knobs and CONCURRENCY in state.allowed:
        wanted[CONCURRENCY] = lowered(state, CONCURRENCY)
    return moves(state, wanted, "more room before the timeout, and fewer requests in flight")
