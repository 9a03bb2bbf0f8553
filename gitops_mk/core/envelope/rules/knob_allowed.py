"""The passport allows the knobs, and the chord is one that touches them."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "knob_allowed"


def judge(context: Context) -> Verdict:
    """Block knobs outside the passport's list, and outside the chord's own."""
    if context.rollback:
        return Verdict.allow(RULE)
    for change in context.action.changes:
        if change.knob not in context.passport.allowed_knobs:
            return Verdict.block(
                RULE, Reason.KNOB_NOT_ALLOWED, f"passport {context.passport.id} does not allow {change.knob}"
            )
        if context.chord is not None and change.knob not in context.chord.knobs_touched:
            return Verdict.block(RULE, Reason.KNOB_NOT_ALLOWED, f"{context.chord.id} does not touch {change.knob}")
    return Verdict.allow(RULE)
