"""The passport allows the chord."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "chord_allowed"


def judge(context: Context) -> Verdict:
    """Block chords the passport does not list."""
    chord = context.action.chord
    if context.rollback or chord in context.passport.allowed_chords:
        return Verdict.allow(RULE)
    allowed = ", ".join(context.passport.allowed_chords) or "none"
    return Verdict.block(
        RULE, Reason.CHORD_NOT_ALLOWED, f"passport {context.passport.id} allows {allowed}, not {chord}"
    )
