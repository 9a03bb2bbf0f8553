"""NEAR-HANG/TIMEOUT-GUARD: steps stall almost to the timeout; more room, and less in flight at once."""

from __future__ import annotations

import math

from gitops_mk.core.chords.solve import Solution, State, lowered, moves, needs, raised
from gitops_mk.model.signal import SignalName

TIMEOUT = "timeout_ms"
CONCURRENCY = "concurrency"
# A stall that was seen is no longest one.
ROOM = 2.0


def targets(state: State) -> Solution:
    """A timeout of twice the longest stall, no more than doubled and never lowered, and half the concurrency."""
    lacking = needs(state, TIMEOUT)
    if lacking:
        return lacking
    most = raised(state, TIMEOUT)
    wanted = {TIMEOUT: most}
    evidence = state.seen.get(SignalName.NEAR_HANG)
    longest = evidence.values.get("longest_ms") if evidence is not None else None
    if longest is not None and math.isfinite(longest):
        wanted = {TIMEOUT: max(state.knobs[TIMEOUT], min(most, math.ceil(ROOM * longest)))}
    if CONCURRENCY in state.knobs and CONCURRENCY in state.allowed:
        wanted[CONCURRENCY] = lowered(state, CONCURRENCY)
    return moves(state, wanted, "more room before the timeout, and fewer requests in flight")
