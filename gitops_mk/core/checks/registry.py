"""The steps in their order, numbered once, here; `docs/verify.md` has a section for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.checks.steps import build, envelope, freshness, invariants, plan, policy, render, scope
from gitops_mk.model.gate import VerifyOutcome
from gitops_mk.model.verdict import Reason, Verdict

Step = Callable[[Facts], Verdict]

STEPS: Final[tuple[tuple[int, str, Step], ...]] = (
    (1, scope.ID, scope.check),
    (2, plan.ID, plan.check),
    (3, policy.ID, policy.check),
    (4, envelope.ID, envelope.check),
    (5, render.ID, render.check),
    (6, build.ID, build.check),
    (7, freshness.ID, freshness.check),
    (8, invariants.ID, invariants.check),
)


def verify(facts: Facts, steps: tuple[tuple[int, str, Step], ...] = STEPS) -> VerifyOutcome:
    """Judge every step. Ok only when at least one ran and each said yes."""
    verdicts = tuple(step(facts) for _, _, step in steps)
    if not verdicts:
        verdicts = (Verdict.block("verify", Reason.NO_CHECKS_RUN, "no step was run"),)
    found = facts.plan
    return VerifyOutcome(
        ok=all(v.allowed for v in verdicts),
        base=facts.base,
        head=facts.head,
        tree=facts.tree,
        plan_digest=found.digest if found else None,
        workload=found.workload.key if found else None,
        steps=verdicts,
    )
