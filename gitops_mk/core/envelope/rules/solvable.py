"""Targets could be computed from the values as they stand."""

from __future__ import annotations

from gitops_mk.core.envelope.context import Context
from gitops_mk.model.verdict import Reason, Verdict

RULE = "solvable"


def judge(context: Context) -> Verdict:
    """Block an action whose recipe found no targets, under the reason the recipe gave."""
    action = context.action
    if action.unsolved is None:
        return Verdict.allow(RULE)
    return Verdict.block(RULE, action.unsolved_reason or Reason.INVARIANT_VIOLATED, action.unsolved)
