"""Every knob stays between the passport's minimum and maximum."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "bounds"


def judge(context: Context) -> Verdict:
    """Block targets outside the limits."""
    if context.rollback:
        return Verdict.allow(RULE)
    for change in context.action.changes:
        limit = context.passport.knobs.get(change.knob)
        if limit is not None and not limit.min <= change.after <= limit.max:
            return Verdict.block(
                RULE,
                Reason.OUT_OF_BOUNDS,
                f"{change.knob} would be {change.after}, expected {limit.min} to {limit.max}",
            )
    return Verdict.allow(RULE)
