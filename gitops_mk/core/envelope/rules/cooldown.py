"""Enough time has passed since the last merged change."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.times import parse_time
from gitops_mk.model.verdict import Reason, Verdict

RULE = "cooldown"


def judge(context: Context) -> Verdict:
    """Block while the passport's or the chord's cooldown runs, counted from the merge."""
    if not context.action.changes or context.rollback:
        return Verdict.allow(RULE)
    chord = context.chord
    for change in context.applied:
        since = (context.now - parse_time(change.at)).total_seconds()
        wait = float(context.passport.cooldown_s)
        if chord is not None and change.chord == chord.id and chord.cooldown_ms is not None:
            wait = max(wait, chord.cooldown_ms / 1000)
        if since < wait:
            return Verdict.block(
                RULE,
                Reason.COOLDOWN_ACTIVE,
                f"{change.chord} was merged {max(0, since):.0f} s ago; the cooldown is {wait:.0f} s",
            )
    return Verdict.allow(RULE)
