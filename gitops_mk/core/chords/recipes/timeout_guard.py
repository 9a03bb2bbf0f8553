"""TIMEOUT-GUARD: slow steps come close to the process group's timeout; give it more room."""

from __future__ import annotations

from gitops_mk.core.chords.solve import Solution, State, moves, needs, raised

TIMEOUT = "timeout_ms"


def targets(state: State) -> Solution:
    """Double the timeout, as far as the limits go."""
    return needs(state, TIMEOUT) or moves(
        state, {TIMEOUT: raised(state, TIMEOUT)}, "more room before a slow collective aborts the run"
    )
