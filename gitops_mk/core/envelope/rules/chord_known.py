"""The chord stands in the catalog."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "chord_known"


def judge(context: Context) -> Verdict:
    """Block chords the catalog does not have."""
    if context.rollback:
        return Verdict.allow(RULE)
    if context.chord is None:
        have = ", ".join(chord.id for chord in context.catalog.chords)
        return Verdict.block(
            RULE, Reason.UNKNOWN_CHORD, f"chord {context.action.chord} is not in the catalog, which has {have}"
        )
    return Verdict.allow(RULE)
