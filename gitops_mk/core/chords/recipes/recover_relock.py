"""RECOVER-RELOCK: stable again, so walk back to the last stable profile, a step at a time."""

from __future__ import annotations

from gitops_mk.core.chords.batch import split_towards
from gitops_mk.core.chords.relief import GRAD_ACCUM, MICROBATCH
from gitops_mk.core.chords.solve import Solution, State, lowered, moves, raised, unsolved
from gitops_mk.model.verdict import Reason


def targets(state: State) -> Solution:
    """One step towards the stable profile for each knob that stands elsewhere; the batch pair moves together or not at all."""
    if state.stable_profile is None:
        return unsolved(Reason.REQUIRED_SIGNAL_MISSING, "no earlier stable profile is known for this workload")
    away = {k: v for k, v in state.stable_profile.items() if k in state.knobs and state.knobs[k] != v}
    if not away:
        return Solution(rationale="every knob already stands at the last stable profile")
    wanted: dict[str, int] = {}
    refusal: Solution | None = None
    if GRAD_ACCUM in away or MICROBATCH in away:
        batch = _batch_step(state, away)
        wanted.update({c.knob: c.after for c in batch.changes})
        refusal = batch if batch.unsolved else None
    for knob, goal in away.items():
        if knob in (GRAD_ACCUM, MICROBATCH) or knob not in state.allowed:
            continue
        now = state.knobs[knob]
        limit = state.limits.get(knob)
        if limit is not None:
            # The limits may have been tightened since: as near as they let it come.
            goal = min(max(goal, limit.min), limit.max)
        wanted[knob] = min(goal, raised(state, knob)) if goal > now else max(goal, lowered(state, knob))
    if wanted:
        return moves(state, wanted, "a step back towards the last stable profile")
    return refusal or unsolved(Reason.KNOB_NOT_ALLOWED, "none of the knobs that moved may be moved back")


def _batch_step(state: State, away: dict[str, int]) -> Solution:
    """One step back on the batch pair; refused when the profile has another product: that was no chord of ours."""
    if not {GRAD_ACCUM, MICROBATCH} <= set(away):
        return unsolved(Reason.INVARIANT_VIOLATED, "the stable profile moves only one of the batch pair")
    if state.knobs[GRAD_ACCUM] * state.knobs[MICROBATCH] != away[GRAD_ACCUM] * away[MICROBATCH]:
        return unsolved(Reason.INVARIANT_VIOLATED, "the stable profile has another global batch")
    up = away[GRAD_ACCUM] > state.knobs[GRAD_ACCUM]
    return split_towards(state, away[MICROBATCH if up else GRAD_ACCUM], up=up)
