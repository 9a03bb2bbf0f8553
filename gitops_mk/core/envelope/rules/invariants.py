"""What must stay as it is, stays."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.core.invariants import invariant_states
from gitops_mk.model.verdict import Reason, Verdict

RULE = "invariants"


def judge(context: Context) -> Verdict:
    """Block when an invariant leaves its corridor."""
    chord = context.chord
    names = chord.invariants if chord is not None else ()
    states = invariant_states(
        names,
        before=context.knobs,
        after=context.after,
        world_size=context.world_size,
        passport=context.passport,
    )
    for state in states:
        if not state.kept:
            return Verdict.block(
                RULE,
                Reason.INVARIANT_VIOLATED,
                f"{state.name} would go from {state.before} to {state.after} ({state.formula}), "
                f"allowed are {state.tolerance_pct:g} %",
            )
    return Verdict.allow(RULE)
