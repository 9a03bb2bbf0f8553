"""NORMAL-HOLD: keep every knob where it is."""

from __future__ import annotations

from gitops_mk.core.chords.solve import Solution, State


def targets(state: State) -> Solution:
    """No move at all, whatever the state."""
    del state
    return Solution(rationale="every knob stays where it is")
