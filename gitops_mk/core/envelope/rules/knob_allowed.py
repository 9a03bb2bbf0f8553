"""The passport allows the knobs, that way of delivery included, and the chord is one that touches them."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.passport import Passport
from gitops_mk.model.verdict import Reason, Verdict

RULE = "knob_allowed"


def judge(context: Context) -> Verdict:
    """Block knobs outside the passport's list, outside the chord's own, and those that a ConfigMap can't bring to a running job.

    Annotations restart the job, so that every knob may go that way.
    """
    for change in context.action.changes:
        # Also on the way back: what a running job does not take up would leave it with half of a change.
        if context.delivery == "configmap" and change.knob not in context.passport.actuators.hot:
            return _cold(change.knob, context.passport)
        if context.rollback:
            continue
        if change.knob not in context.passport.allowed_knobs:
            return Verdict.block(
                RULE, Reason.KNOB_NOT_ALLOWED, f"passport {context.passport.id} does not allow {change.knob}"
            )
        if context.chord is not None and change.knob not in context.chord.knobs_touched:
            return Verdict.block(RULE, Reason.KNOB_NOT_ALLOWED, f"{context.chord.id} does not touch {change.knob}")
    return Verdict.allow(RULE)


def _cold(knob: str, passport: Passport) -> Verdict:
    cold = "is cold" if knob in passport.actuators.cold else "is not among the hot ones"
    return Verdict.block(
        RULE,
        Reason.KNOB_NOT_ALLOWED,
        f"{knob} {cold} in passport {passport.id}: a ConfigMap restarts nothing, and a running job takes up hot knobs only",
    )
