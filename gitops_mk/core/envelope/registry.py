"""The rules in their order, and how their verdicts become one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gitops_mk.core.envelope.context import Context
from gitops_mk.core.envelope.rules import (
    approval,
    bounds,
    budget,
    chord_allowed,
    chord_known,
    cooldown,
    delivery,
    direction,
    evidence,
    held,
    invariants,
    knob_allowed,
    knob_known,
    max_delta,
    required_signals,
    solvable,
    telemetry_is_new,
    worth,
)
from gitops_mk.model.verdict import Reason, Verdict

Rule = Callable[[Context], Verdict]

RULES: Final[tuple[Rule, ...]] = (
    chord_known.judge,
    approval.judge,
    chord_allowed.judge,
    evidence.judge,
    required_signals.judge,
    solvable.judge,
    knob_known.judge,
    knob_allowed.judge,
    held.judge,
    cooldown.judge,
    budget.judge,
    direction.judge,
    telemetry_is_new.judge,
    bounds.judge,
    max_delta.judge,
    invariants.judge,
    worth.judge,
    delivery.judge,
)


def judge(context: Context) -> tuple[Verdict, ...]:
    """Every rule's verdict on the action, in order."""
    return tuple(rule(context) for rule in RULES)


def decide(verdicts: tuple[Verdict, ...]) -> Verdict:
    """The first no; else allowed. No verdict at all is no evidence of safety and counts as a no."""
    blocked = next((v for v in verdicts if not v.allowed), None)
    if blocked is not None:
        return blocked
    if not verdicts:
        return Verdict.block("envelope", Reason.NO_CHECKS_RUN, "no rule was asked")
    return Verdict.allow("envelope", f"{len(verdicts)} rules have nothing against it")


def may_propose(verdict: Verdict) -> bool:
    """True when a pull request may be opened: allowed, or only the delivery is left to a person."""
    return verdict.allowed or verdict.reason is Reason.PROPOSE_ONLY
