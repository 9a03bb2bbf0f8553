"""A knob is not pushed the same way again and again: two loops that answer each other would spiral."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.chord import Intent
from gitops_mk.model.times import parse_time
from gitops_mk.model.verdict import Reason, Verdict

RULE = "direction"


def judge(context: Context) -> Verdict:
    """Block a knob's move when as many merged changes of the budget's window moved it the same way as the passport allows.

    A walk back is exempt: it ends where it began.
    """
    if not context.action.changes or context.rollback or context.action.chord == Intent.RECOVER_RELOCK:
        return Verdict.allow(RULE)
    budget = context.passport.budget
    recent = [
        change
        for change in context.applied
        if (context.now - parse_time(change.at)).total_seconds() < budget.window_s and change.rollback_of is None
    ]
    for move in context.action.changes:
        same = sum(
            (after > before) == (move.delta > 0)
            for change in recent
            for knob, (before, after) in change.changes.items()
            if knob == move.knob and before != after
        )
        if same >= budget.max_same_direction:
            way = "up" if move.delta > 0 else "down"
            return Verdict.block(
                RULE,
                Reason.BUDGET_EXHAUSTED,
                f"{move.knob} was moved {way} {same} times in {budget.window_s} s, the passport allows "
                f"{budget.max_same_direction}",
            )
    return Verdict.allow(RULE)
