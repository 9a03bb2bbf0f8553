"""Advanced chords are approved by the person who runs the controller."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "approval"


def judge(context: Context) -> Verdict:
    """Block an advanced chord that nobody approved; undoing one needs no approval."""
    chord = context.chord
    if chord is None or chord.risk_tier == "safe" or context.approve_advanced or context.rollback:
        return Verdict.allow(RULE)
    return Verdict.block(
        RULE, Reason.APPROVAL_REQUIRED, f"{chord.id} is an advanced chord: it needs --approve-advanced"
    )
