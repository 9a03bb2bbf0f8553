"""Step 2, plan: one commit brings a decision record of that workload, whole, and its trailers say the same."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.ledger import trailers
from gitops_mk.model.change import TRAILER_CHANGE, TRAILER_CHORD, TRAILER_DIGEST, TRAILER_ROLLBACK, TRAILER_WORKLOAD
from gitops_mk.model.plan import Plan
from gitops_mk.model.verdict import Reason, Verdict

ID = "plan"


def check(facts: Facts) -> Verdict:
    """Judge the decision record by its schema, its digest, and the commit that brings it."""
    plan = facts.plan_or_error
    if not isinstance(plan, Plan):
        return Verdict.block(ID, Reason.PLAN_INVALID, plan)
    workload = facts.workload
    if workload is None or plan.workload != workload.ref or plan.overlay != workload.overlay:
        return Verdict.block(ID, Reason.PLAN_INVALID, f"the record is for {plan.workload} in {plan.overlay!r}")
    if plan.compute_digest() != plan.digest:
        return Verdict.block(ID, Reason.PLAN_INVALID, "the record's digest is not that of its decision")
    if len(facts.commits) != 1:
        return Verdict.block(
            ID, Reason.PLAN_INVALID, f"{len(facts.commits)} commits on the branch, expected one of ours"
        )
    found = trailers(facts.commits[0].message)
    expected = {
        TRAILER_WORKLOAD: [plan.workload.key],
        TRAILER_CHORD: [plan.chord],
        TRAILER_DIGEST: [plan.digest],
        TRAILER_ROLLBACK: [plan.rollback_of] if plan.rollback_of else None,
        TRAILER_CHANGE: [f"{c.knob} {c.before} {c.after}" for c in plan.changes],
    }
    for key, values in expected.items():
        if found.get(key) != values:
            return Verdict.block(
                ID, Reason.PLAN_INVALID, f"trailer {key} says {found.get(key, 'nothing')}, expected {values}"
            )
    return Verdict.allow(ID, f"{plan.chord}, digest {plan.digest[:12]}")
