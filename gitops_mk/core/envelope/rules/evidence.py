"""There is enough telemetry to act on."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "evidence"


def judge(context: Context) -> Verdict:
    """Block changes made on too little, or too dirty, telemetry."""
    if not context.action.changes or context.rollback:
        return Verdict.allow(RULE)
    need = context.passport.observability
    seen = context.observation
    if seen.window.steps < need.min_steps:
        return Verdict.block(
            RULE,
            Reason.INSUFFICIENT_EVIDENCE,
            f"{seen.window.steps} steps were seen, the passport asks for {need.min_steps}",
        )
    if seen.ingest.dropped_pct > need.max_dropped_pct:
        return Verdict.block(
            RULE,
            Reason.INSUFFICIENT_EVIDENCE,
            f"{seen.ingest.dropped_pct:.1f} % of the lines were unusable, at most {need.max_dropped_pct:g} % may be",
        )
    if seen.insufficient:
        return Verdict.block(RULE, Reason.INSUFFICIENT_EVIDENCE, "no detector had the evidence to answer")
    return Verdict.allow(RULE)
