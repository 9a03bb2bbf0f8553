"""The signals the chord is for were seen."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.chord import Intent
from gitops_mk.model.signal import STABLE, SignalName
from gitops_mk.model.verdict import Reason, Verdict

RULE = "required_signals"


def judge(context: Context) -> Verdict:
    """Block a chord whose signals are not all there, and a walk back before it is stable for long enough."""
    chord = context.chord
    if chord is None or not context.action.changes or context.rollback:
        return Verdict.allow(RULE)
    seen = context.observation.words()
    missing = [word for word in chord.required_signals if word not in seen]
    if missing:
        return Verdict.block(
            RULE,
            Reason.REQUIRED_SIGNAL_MISSING,
            f"{chord.id} is for {', '.join(chord.required_signals)}; seen: {', '.join(sorted(seen)) or 'nothing'}",
        )
    needed = context.passport.recovery.stable_intervals
    walks_back = chord.id == Intent.RECOVER_RELOCK and SignalName.DRIFT_LOSS not in seen
    if (walks_back or STABLE in chord.required_signals) and (STABLE not in seen or context.stable_intervals < needed):
        return Verdict.block(
            RULE,
            Reason.REQUIRED_SIGNAL_MISSING,
            f"stable for {context.stable_intervals if STABLE in seen else 0} intervals, the passport asks for "
            f"{needed} in a row",
        )
    return Verdict.allow(RULE)
