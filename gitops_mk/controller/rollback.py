"""Roll back: the plan that undoes a merged chord, proposed like any other. Verified, gated and merged like any other, too."""

from __future__ import annotations

from datetime import datetime

from gitops_mk.controller.propose import Proposal, settle
from gitops_mk.controller.proposing import propose_judged
from gitops_mk.controller.state import identity_of, policy_of, state_on_base
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.core.enrolment import by_key
from gitops_mk.core.envelope.registry import may_propose
from gitops_mk.core.invariants import invariant_states
from gitops_mk.core.planner import Options, WorkloadState, judge_action, make_plan
from gitops_mk.errors import InputError
from gitops_mk.model.change import AppliedChange, PrState, PullRequest
from gitops_mk.model.chord import Intent
from gitops_mk.model.knob import KnobChange
from gitops_mk.model.plan import Action, Plan
from gitops_mk.model.signal import Observation
from gitops_mk.model.telemetry import Environment, IngestCounts, Window
from gitops_mk.model.verdict import Verdict


def find_applied(pr: PullRequest, applied: tuple[AppliedChange, ...]) -> AppliedChange:
    """The merged change of a pull request. Raises InputError when it was never merged."""
    if pr.state is not PrState.MERGED:
        raise InputError(
            f"#{pr.number} is {pr.state}, expected a merged one", hint="`mk pr close N` withdraws an open one"
        )
    mine = [c for c in reversed(applied) if c.plan_digest == pr.plan_digest and c.workload == pr.workload]
    # By commit where it is known: the same decision made again has the same digest.
    found = next((c for c in mine if c.commit == pr.merge_sha), mine[0] if mine else None)
    if found is None or not found.changes:
        raise InputError(f"#{pr.number}: its change is not in the base branch's history")
    if found.rollback_of is not None:
        raise InputError(
            f"#{pr.number} is a rollback itself: it is not undone, the chord is planned again where it is called for",
            hint=f"`mk hold release {pr.number}` lets it be proposed again",
        )
    return found


def rollback_plan(
    state: WorkloadState, change: AppliedChange, *, now: datetime, mk_version: str
) -> tuple[Plan, tuple[Verdict, ...]]:
    """The plan back to the values before `change`, with the envelope's verdicts. Raises InputError when it can't be undone."""
    for knob, (_, after) in change.changes.items():
        stands = state.knobs.get(knob)
        if stands != after:
            raise InputError(
                f"{knob} stands at {stands}, the change left it at {after}: something changed it since",
                hint="undo the later change first, or edit the values by hand",
            )
    changes = tuple(
        KnobChange(knob=knob, before=after, after=before) for knob, (before, after) in sorted(change.changes.items())
    )
    entry = state.catalog.get(Intent.RECOVER_RELOCK)
    action = Action(
        workload=state.ref,
        chord=Intent.RECOVER_RELOCK,
        changes=changes,
        invariants=invariant_states(
            entry.invariants if entry else (),
            before=state.knobs,
            after={**state.knobs, **{c.knob: c.after for c in changes}},
            world_size=state.world_size,
            passport=state.passport,
        ),
        rationale=f"undoes {change.chord} of {change.commit[:12]}: every knob goes back to where it stood",
    )
    observation = Observation(
        signals=(), environment=Environment(), ingest=IngestCounts(), window=Window(), source="none", format="none"
    )
    judged = judge_action(state, action, observation, Options(), now, rollback=change)
    verdict = judged.verdict
    if not may_propose(verdict):
        raise InputError(f"the rollback is blocked: {verdict.reason}: {verdict.message}")
    plan = make_plan(
        state, action, observation, Options(), now=now, mk_version=mk_version, rollback_of=change.plan_digest
    )
    return plan, judged.verdicts


def propose_rollback(place: Workplace, pr: PullRequest, tools: Tools) -> tuple[Plan, Proposal]:
    """Plan and propose the way back from a merged pull request. Raises InputError when it can't be undone."""
    forge = place.forge
    base = forge.base_tip()
    files = forge.repo.files(base)
    policy = policy_of(files, tools.built_in)
    workload = by_key(policy.settings, pr.workload, files, files.get, digest=pr.plan_digest)
    if workload is None:
        raise InputError(f"#{pr.number} is for {pr.workload}, which the configuration does not know any more")
    settle(forge, identity_of(policy.settings))
    pr = forge.get_pr(pr.number) or pr
    state = state_on_base(forge, files, policy, workload, tools.builder)
    change = find_applied(pr, state.applied)
    plan, verdicts = rollback_plan(state, change, now=tools.clock.now(), mk_version=tools.mk_version)
    return plan, propose_judged(
        place, state, plan, verdicts, files, base, tools, settings=policy.settings, rollback_of=pr.number
    )
