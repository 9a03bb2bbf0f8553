"""Which recipe computes which chord. A chord in a team's catalog without a recipe here can't be planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gitops_mk.core.chords.recipes import (
    burst_absorb,
    comm_congestion,
    drift_retune,
    input_straggler,
    near_hang,
    normal_hold,
    recover_relock,
    scalar,
    timeout_guard,
)
from gitops_mk.core.chords.solve import Solution, State
from gitops_mk.model.chord import Intent

Recipe = Callable[[State], Solution]

RECIPES: Final[Mapping[Intent, Recipe]] = {
    Intent.NORMAL_HOLD: normal_hold.targets,
    Intent.DRIFT_RETUNE: drift_retune.targets,
    Intent.BURST_ABSORB: burst_absorb.targets,
    Intent.INPUT_STRAGGLER: input_straggler.targets,
    Intent.RECOVER_RELOCK: recover_relock.targets,
    Intent.SCALAR: scalar.targets,
    Intent.TIMEOUT_GUARD: timeout_guard.targets,
    Intent.COMM_CONGESTION: comm_congestion.targets,
    Intent.NEAR_HANG: near_hang.targets,
}
