"""There are not too many changes already."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.times import parse_time
from gitops_mk.model.verdict import Reason, Verdict

RULE = "budget"


def judge(context: Context) -> Verdict:
    """Block when the passport's or the chord's number of changes in its window is used up."""
    if not context.action.changes or context.rollback:
        return Verdict.allow(RULE)
    ages = [((context.now - parse_time(change.at)).total_seconds(), change.chord) for change in context.applied]
    budget = context.passport.budget
    recent = sum(age < budget.window_s for age, _ in ages)
    if recent >= budget.max_changes:
        return Verdict.block(
            RULE,
            Reason.BUDGET_EXHAUSTED,
            f"{recent} changes in {budget.window_s} s, the passport allows {budget.max_changes}",
        )
    chord = context.chord
    if chord is not None and chord.budget is not None:
        recent = sum(age * 1000 < chord.budget.window_ms and name == chord.id for age, name in ages)
        if recent >= chord.budget.max_changes:
            return Verdict.block(
                RULE,
                Reason.BUDGET_EXHAUSTED,
                f"{recent} of {chord.id} in {chord.budget.window_ms // 1000} s, the catalog allows "
                f"{chord.budget.max_changes}",
            )
    return Verdict.allow(RULE)
