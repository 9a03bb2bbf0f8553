"""No knob moves further in one step than the passport allows."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "max_delta"


def judge(context: Context) -> Verdict:
    """Block steps that are too large."""
    if context.rollback:
        return Verdict.allow(RULE)
    for change in context.action.changes:
        limit = context.passport.knobs.get(change.knob)
        if limit is not None and abs(change.delta) > limit.max_delta:
            return Verdict.block(
                RULE,
                Reason.MAX_DELTA_EXCEEDED,
                f"{change.knob} would move by {change.delta:+d}, at most {limit.max_delta} in one step",
            )
    return Verdict.allow(RULE)
