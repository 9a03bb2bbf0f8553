"""A merge reaches the running job."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "delivery"


def judge(context: Context) -> Verdict:
    """Block applying to kinds whose pod template can't change in a live object: a merge means the next run, a person's call.

    A mounted ConfigMap changes whatever the kind.
    """
    ref = context.action.workload
    if ref.in_place or context.delivery == "configmap" or not context.action.changes:
        return Verdict.allow(RULE)
    return Verdict.block(
        RULE,
        Reason.PROPOSE_ONLY,
        f"the pod template of a {ref.kind} can't change while it runs: merging is for the next run, and yours to do",
    )
