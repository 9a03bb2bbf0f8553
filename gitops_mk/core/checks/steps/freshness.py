"""Step 7, freshness: what the plan calls "before" is what the base builds now."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts
from gitops_mk.model.verdict import Reason, Verdict

ID = "freshness"


def check(facts: Facts) -> Verdict:
    """Judge the plan's starting values, of the knobs it moves and of those it pins."""
    plan = facts.plan
    if plan is None:
        return Verdict.block(ID, Reason.PLAN_STALE, "not judged: there is no plan")
    before = {c.knob: c.before for c in plan.changes}
    after = {c.knob: c.after for c in plan.changes}
    for knob, value in plan.knobs.items():
        stands = facts.base_knobs.get(knob)
        expected = before.get(knob, value)
        if stands != expected:
            return Verdict.block(
                ID, Reason.PLAN_STALE, f"{knob} stands at {stands} on the base, the plan was made at {expected}"
            )
        if knob in after and value != after[knob]:
            return Verdict.block(ID, Reason.PLAN_STALE, f"{knob} is pinned to {value} but moved to {after[knob]}")
    if not set(before) <= set(plan.knobs):
        return Verdict.block(ID, Reason.PLAN_STALE, "the plan moves a knob that it does not pin")
    return Verdict.allow(ID, f"{len(plan.knobs)} values as the base builds them")
