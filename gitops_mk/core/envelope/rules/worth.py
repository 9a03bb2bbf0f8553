"""What the change should bring is worth what its delivery costs."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.core.render.figures import brief, duration, share
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.model.weighing import Weighing

RULE = "worth"


def judge(context: Context) -> Verdict:
    """Block a change without a gain to promise, one too small to notice, and one not worth its cost by the passport's ratio."""
    weighing = context.weighing
    if not context.action.changes or context.rollback or weighing is None:
        return Verdict.allow(RULE)
    if weighing.worth_it:
        return Verdict.allow(RULE, sum_up(weighing))
    return Verdict.block(RULE, Reason.GAIN_BELOW_COST, sum_up(weighing))


def sum_up(weighing: Weighing) -> str:
    """The weighing as one sentence."""
    if not weighing.gain.weighed:
        return weighing.gain.reasoning
    if weighing.share is None or weighing.saved_s is None:
        return f"no gain can be promised: {weighing.gain.reasoning}"
    told = f"{share(weighing.share)} of the time should be saved"
    if weighing.share < weighing.least_share:
        return f"{told}, the passport asks for {share(weighing.least_share)}: {weighing.gain.reasoning}"
    told += f", {duration(weighing.saved_s)} in the {duration(weighing.remaining_s)} that remain"
    if weighing.ratio is None:
        return f"{told}, and the delivery costs nothing"
    told += f", {brief(weighing.ratio)} times the {duration(weighing.cost.total_s)} it costs"
    return f"{told}; the passport asks for {brief(weighing.needed)} times"
