"""Every knob is one the product or the passport knows, and the workload carries it."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "knob_known"


def judge(context: Context) -> Verdict:
    """Block knobs nobody declared, or that have no value on the base branch."""
    for change in context.action.changes:
        if not context.passport.knows(change.knob):
            return Verdict.block(
                RULE, Reason.UNKNOWN_KNOB, f"{change.knob} is neither a built-in knob nor declared in the passport"
            )
        if change.knob not in context.knobs:
            return Verdict.block(RULE, Reason.UNKNOWN_KNOB, f"the workload carries no value for {change.knob}")
    return Verdict.allow(RULE)
