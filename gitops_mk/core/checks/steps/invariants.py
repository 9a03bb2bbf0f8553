"""Step 8, invariants: computed again from what kustomize built of base and head."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.invariants import invariant_states
from gitops_mk.model.verdict import Reason, Verdict

ID = "invariants"


def check(facts: Facts) -> Verdict:
    """Judge what must stay, and that the plan told the reviewer the same numbers."""
    plan, policy, passport = facts.plan, facts.policy, facts.passport
    if plan is None or policy is None or passport is None or not facts.head_knobs:
        return Verdict.block(ID, Reason.INVARIANT_VIOLATED, "not judged: there is no plan, no policy or no build")
    chord = policy.catalog.get(plan.chord)
    states = invariant_states(
        chord.invariants if chord else (),
        before=facts.base_knobs,
        after=facts.head_knobs,
        world_size=plan.world_size,
        passport=passport,
    )
    for state in states:
        if not state.kept:
            return Verdict.block(
                ID, Reason.INVARIANT_VIOLATED, f"{state.name} goes from {state.before} to {state.after}"
            )
    if states != plan.invariants:
        return Verdict.block(ID, Reason.INVARIANT_VIOLATED, "the plan states other invariants than the builds show")
    return Verdict.allow(ID, ", ".join(f"{s.name} {s.before} to {s.after}" for s in states) or "none apply")
