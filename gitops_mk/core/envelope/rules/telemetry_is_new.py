"""The telemetry is from after the last merge: what a change has mended must not call for the next one."""

from __future__ import annotations

from datetime import datetime

from gitops_mk.core.envelope.context import Context
from gitops_mk.core.ledger import in_force
from gitops_mk.model.verdict import Reason, Verdict

RULE = "telemetry_is_new"
# A scenario has no time of its own: it stands for whatever moment it is asked at.
TIMELESS = "synthetic"


def judge(context: Context) -> Verdict:
    """Block a change whose telemetry ends before the last merged change of the workload took effect."""
    last = context.observation.window.last_ts
    if not context.action.changes or context.rollback or last is None or context.observation.source == TIMELESS:
        return Verdict.allow(RULE)
    for change in context.applied:
        if datetime.fromisoformat(last) <= in_force(change, context.delivery):
            return Verdict.block(
                RULE,
                Reason.INSUFFICIENT_EVIDENCE,
                f"the telemetry ends at {last}, before {change.chord}, merged at {change.at}, took effect",
            )
    return Verdict.allow(RULE)
