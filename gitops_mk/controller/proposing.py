"""Propose a plan that was made earlier: judged again on today's base before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gitops_mk.controller.plan import refuse_overridden, require_same_policy
from gitops_mk.controller.propose import Outcome, Proposal, Proposed, propose, settle
from gitops_mk.controller.state import configured, identity_of, policy_of, state_on_base
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.core.envelope.registry import may_propose
from gitops_mk.core.planner import Options, WorkloadState, judge_action
from gitops_mk.errors import InputError
from gitops_mk.model.plan import Plan
from gitops_mk.model.settings import RepoSettings
from gitops_mk.model.verdict import Verdict


def propose_plan(place: Workplace, plan: Plan, tools: Tools) -> Proposal:
    """Judge a plan by the policy and the values that stand now, then propose it.

    Raises InputError for a plan of a workload the configuration doesn't know, or made from other values than the base's.
    """
    forge = place.forge
    base = forge.base_tip()
    files = forge.repo.files(base)
    policy = policy_of(files, tools.built_in)
    settle(forge, identity_of(policy.settings))
    workload = configured(policy.settings, plan.workload, plan.overlay)
    state = state_on_base(forge, files, policy, workload, tools.builder)
    require_same_policy(state, plan)
    if plan.overlay != state.overlay or plan.target != state.target or plan.world_size != state.world_size:
        raise InputError(f"the plan for {plan.workload} was made for another overlay or target", hint="plan again")
    for change in plan.changes:
        if state.knobs.get(change.knob) != change.before:
            raise InputError(
                f"the plan moves {change.knob} from {change.before}, the base has {state.knobs.get(change.knob)}",
                hint="plan again: the base branch has changed since",
            )
    refuse_overridden(state, files, tools, plan)
    options = Options(approve_advanced=plan.approved_advanced, stable_intervals=plan.stable_intervals)
    judged = judge_action(state, plan.action(), plan.observation, options, tools.clock.now())
    verdict = judged.verdict
    if not may_propose(verdict):
        return Proposal(Outcome.NOTHING, None, reason=verdict.reason, message=verdict.message)
    return propose_judged(place, state, plan, judged.verdicts, files, base, tools, settings=policy.settings)


def wanted_of(
    place: Workplace,
    state: WorkloadState,
    plan: Plan,
    verdicts: Sequence[Verdict],
    settings: RepoSettings,
    *,
    rollback_of: int | None = None,
) -> Proposed:
    """Everything the pull request of a judged plan is made of."""
    chord = state.catalog.get(plan.chord)
    return Proposed(
        plan=plan,
        passport=state.passport,
        tier=chord.risk_tier if chord else "unknown",
        verdicts=verdicts,
        draft=not place.license_status().ok,
        settings=settings,
        rollback_of=rollback_of,
        reach=state.reach,
    )


def propose_judged(
    place: Workplace,
    state: WorkloadState,
    plan: Plan,
    verdicts: Sequence[Verdict],
    files: Mapping[str, bytes],
    base: str,
    tools: Tools,
    *,
    settings: RepoSettings,
    rollback_of: int | None = None,
) -> Proposal:
    """Propose what was judged; a draft where no licence would let it be merged. `files` is the tree of `base`."""
    wanted = wanted_of(place, state, plan, verdicts, settings, rollback_of=rollback_of)
    return propose(
        place.forge, wanted, files, base, identity=identity_of(settings), wording=tools.wording, clock=tools.clock
    )
