"""No reviewer said no to it."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "held"


def judge(context: Context) -> Verdict:
    """Block knobs of a workload that a person put on hold, until it is released."""
    if context.rollback:
        return Verdict.allow(RULE)
    moved = {change.knob for change in context.action.changes}
    for hold in context.holds:
        held = sorted(moved & set(hold.knobs))
        if hold.workload == context.action.workload.key and held:
            what = f"pull request #{hold.pr}" if hold.pr else "a change"
            return Verdict.block(
                RULE,
                Reason.HELD_BY_REVIEWER,
                f"{what} was {hold.source} by {hold.by} on {hold.at[:10]}: {', '.join(held)} held until released",
            )
    return Verdict.allow(RULE)
