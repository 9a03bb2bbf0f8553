"""The steps in their order, numbered once, here; `docs/verify.md` has a section for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.checks.steps import (
    build,
    cluster,
    dry_run,
    envelope,
    freshness,
    invariants,
    live,
    plan,
    policy,
    render,
    rights,
    scope,
)
from gitops_mk.core.seen import seen_of
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
    (9, cluster.ID, cluster.check),
)

# Judged where a cluster was asked: what was not asked has no step that could be taken for a yes.
CLUSTER_STEPS: Final[tuple[tuple[int, str, Step], ...]] = (
    (10, live.ID, live.check),
    (11, rights.ID, rights.check),
    (12, dry_run.ID, dry_run.check),
)


def steps_for(facts: Facts) -> tuple[tuple[int, str, Step], ...]:
    """The steps that judge these facts."""
    asked = facts.cluster is not None and not facts.cluster.error
    return STEPS + CLUSTER_STEPS if asked else STEPS


def verify(facts: Facts, steps: tuple[tuple[int, str, Step], ...] | None = None) -> VerifyOutcome:
    """Judge every step. Ok only when at least one ran and each said yes."""
    verdicts = tuple(step(facts) for _, _, step in (steps_for(facts) if steps is None else steps))
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
        cluster=seen_of(facts.cluster, facts.compared) if facts.cluster is not None else None,
    )
