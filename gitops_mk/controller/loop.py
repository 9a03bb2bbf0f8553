"""The closed loop, once: observe, plan, render; with `apply` also propose, verify, gate and merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gitops_mk.controller.apply import Applied, apply_pr, ask_gate, gate_payload
from gitops_mk.controller.door import Answer, Door
from gitops_mk.controller.k8s_verify import k8s_verify_payload
from gitops_mk.controller.observe import INTERRUPTED, observation_payload, observe
from gitops_mk.controller.plan import Planned, plan_workload, refuse_overridden, summary_lines, write_bundle, write_plan
from gitops_mk.controller.propose import Outcome, Proposal, Proposed, open_pr, settle, withdraw
from gitops_mk.controller.proposing import propose_judged, wanted_of
from gitops_mk.controller.state import identity_of, policy_of, state_on_base, workload_state
from gitops_mk.controller.streak import moved_on
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.controller.verify import record_check, verify_pr
from gitops_mk.core.envelope.rules.telemetry_is_new import TIMELESS
from gitops_mk.core.ledger import in_force
from gitops_mk.core.planner import Options, WorkloadState
from gitops_mk.core.policy import Policy
from gitops_mk.core.recommend import answered_by
from gitops_mk.core.render.paths import plan_path
from gitops_mk.errors import EXIT_BAD_INPUT, EXIT_FAILED, InputError
from gitops_mk.model.change import Person, PullRequest
from gitops_mk.model.chord import Intent
from gitops_mk.model.gate import KillReading, VerifyOutcome, first_active
from gitops_mk.model.plan import Plan
from gitops_mk.model.report import report
from gitops_mk.model.settings import WorkloadSettings
from gitops_mk.model.signal import Classification, Observation, SignalName
from gitops_mk.model.telemetry import Window
from gitops_mk.model.verdict import Reason
from gitops_mk.ports import ArtifactStore, TelemetrySource


@dataclass(frozen=True)
class Target:
    """What the loop is about. Without a workplace there is only a tree of files to plan against, and nothing to write to."""

    workload: WorkloadSettings
    policy: Policy
    files: Mapping[str, bytes]
    base: str | None = None
    workplace: Workplace | None = None


@dataclass(frozen=True)
class LoopResult:
    """What one run came to; `payload` is `closed_loop_latest.json`."""

    payload: dict[str, Any]
    observation: Observation
    planned: Planned
    applied: Applied | None
    exit_code: int
    killed: KillReading | None = None


@dataclass(frozen=True)
class Begun:
    """One turn of the loop that has looked and decided, and written nothing but reports."""

    target: Target
    state: WorkloadState
    observation: Observation
    planned: Planned
    options: Options
    plan_path: str
    started: datetime
    apply: bool

    def wanted(self) -> Proposed | None:
        """The pull request this turn is about to propose, if it is to propose one."""
        chosen, place = self.planned.decision.chosen, self.target.workplace
        if not self.apply or place is None or self.planned.plan is None or chosen is None:
            return None
        return wanted_of(place, self.state, self.planned.plan, chosen.verdicts, self.target.policy.settings)


def run_once(
    target: Target,
    source: TelemetrySource,
    options: Options,
    tools: Tools,
    artifacts: ArtifactStore,
    *,
    apply: bool,
    merge: bool = True,
    seen_before: Window | None = None,
    progress: Callable[[int], None] | None = None,
) -> LoopResult:
    """One turn of the loop. With `apply` and without `merge` it ends at the verified pull request.

    `options.stable_intervals` are those before this one; telemetry that has not moved on since `seen_before` is no further
    interval. Raises MkError for what could not be decided; reports are whole or absent.
    """
    begun = begin(target, source, options, tools, artifacts, apply=apply, seen_before=seen_before, progress=progress)
    return finish(begun, tools, artifacts, merge=merge)


def begin(
    target: Target,
    source: TelemetrySource,
    options: Options,
    tools: Tools,
    artifacts: ArtifactStore,
    *,
    apply: bool,
    seen_before: Window | None = None,
    progress: Callable[[int], None] | None = None,
) -> Begun:
    """Observe and decide. Raises MkError."""
    started = tools.clock.now()
    artifacts.explain("closed_loop_start", {"workload": target.workload.ref.key, "dry_run": not apply}, at=started)
    state = _state(target, tools)
    need = state.passport.observability
    observation = observe(
        source,
        clock=tools.clock,
        artifacts=artifacts,
        min_steps=need.min_steps,
        max_dropped_pct=need.max_dropped_pct,
        since=_last_merge(state, source),
        progress=progress,
    )
    if apply and INTERRUPTED in observation.environment.notes:
        # Somebody wanted it to stop: what was seen by then is no reason to write anything.
        raise KeyboardInterrupt
    moved = moved_on(observation, seen_before)
    options = replace(
        options,
        stable_intervals=options.stable_intervals + moved,
        sighted=options.sightings.with_one_more(observation) if moved else options.sightings.asked,
        already=_proposed(target, state),
    )
    planned = plan_workload(state, observation, options, tools)
    if planned.plan is not None:
        refuse_overridden(state, target.files, tools, planned.plan)
    plan_path = write_plan(artifacts, state, observation, planned, options, tools)
    artifacts.explain(
        "closed_loop_plan",
        {"results": planned.results, "plan_digest": planned.plan.digest if planned.plan else None},
        at=tools.clock.now(),
    )
    return Begun(target, state, observation, planned, options, plan_path, started, apply)


def _proposed(target: Target, state: WorkloadState) -> frozenset[SignalName]:
    """What the open pull request answers to: it was confirmed before it was opened, whoever remembers that."""
    pr = open_pr(target.workplace.forge, state.ref.branch) if target.workplace is not None else None
    return _causes(target.workplace, pr, state) if pr is not None and target.workplace is not None else frozenset()


def _causes(place: Workplace, pr: PullRequest, state: WorkloadState) -> frozenset[SignalName]:
    """The signals that a pull request of ours was opened for, by its own record."""
    if pr.rollback_of is not None:
        return frozenset()
    answered = answered_by(pr.chord)
    path = plan_path(state.overlay, state.ref.slug)
    text = place.forge.repo.read(pr.head_sha, path) if pr.head_sha is not None else None
    try:
        seen = Plan.parse_json(text, what=path).observation.found if text is not None else ()
    except InputError:
        # Somebody edited it; verify says so.
        return answered
    return answered.intersection(seen) or answered


def finish(
    begun: Begun, tools: Tools, artifacts: ArtifactStore, *, merge: bool = True, door: Door | None = None
) -> LoopResult:
    """Propose, verify and merge what was decided, as far as it may be. Raises MkError.

    `door` remembers the gate's answers from one turn to the next.
    """
    target, observation, planned = begun.target, begun.observation, begun.planned
    done = _Done()
    if begun.apply and target.workplace is not None and target.base is not None:
        done = _carry_out(
            target, target.workplace, target.base, begun.state, planned, observation, begun.options, tools, artifacts,
            merge=merge, door=door,
        )  # fmt: skip
    payload = _payload(
        observation, planned, begun.plan_path, done, apply=begun.apply, started=begun.started, tools=tools,
        artifacts=artifacts,
    )  # fmt: skip
    artifacts.report("closed_loop", payload, at=begun.started)
    artifacts.text("summary.md", summary_lines(observation, planned, outcome=_told(planned, done)))
    artifacts.explain("closed_loop_report", {"summary": payload["apply_decision_summary"]}, at=tools.clock.now())
    return LoopResult(payload, observation, planned, done.applied, done.exit_code, done.killed)


def _last_merge(state: WorkloadState, source: TelemetrySource) -> datetime | None:
    """When the workload was last changed by us; a scenario has no time of its own."""
    if source.info.kind == TIMELESS or not state.applied:
        return None
    return in_force(state.applied[-1], state.target.delivery)


@dataclass(frozen=True)
class _Done:
    proposal: Proposal | None = None
    verified: VerifyOutcome | None = None
    applied: Applied | None = None
    killed: KillReading | None = None
    verify_report: str | None = None
    apply_report: str | None = None
    license_ok: bool | None = None
    license_reason: str | None = None
    exit_code: int = 0


def _state(target: Target, tools: Tools) -> WorkloadState:
    if target.workplace is None:
        return workload_state(target.files, target.policy, target.workload, tools.builder)
    return state_on_base(target.workplace.forge, target.files, target.policy, target.workload, tools.builder)


def _carry_out(
    target: Target,
    place: Workplace,
    base: str,
    state: WorkloadState,
    planned: Planned,
    observation: Observation,
    options: Options,
    tools: Tools,
    artifacts: ArtifactStore,
    *,
    merge: bool,
    door: Door | None,
) -> _Done:
    """Everything that writes; the kill switch is read before the first of it."""
    killed = first_active(place.kill_switch.read())
    status = place.license_status()
    common: dict[str, Any] = {"license_ok": status.ok, "license_reason": status.reason}
    if killed is not None:
        artifacts.explain("k8s_apply_blocked", {"reason": "kill_switch", "source": killed.source}, at=tools.clock.now())
        return _Done(killed=killed, exit_code=EXIT_BAD_INPUT, **common)
    identity = identity_of(target.policy.settings)
    settle(place.forge, identity)
    chosen = planned.decision.chosen
    if planned.plan is None or chosen is None:
        proposal = _without_plan(place, state, planned, observation, identity, tools)
        if proposal is not None:
            _explain_proposal(proposal, tools, artifacts)
        blocked = planned.blocked is not None or (proposal is not None and proposal.reason is not None)
        return _Done(proposal=proposal, exit_code=EXIT_BAD_INPUT if blocked else 0, **common)
    proposal = propose_judged(
        place, state, planned.plan, chosen.verdicts, target.files, base, tools, settings=target.policy.settings
    )
    _explain_proposal(proposal, tools, artifacts)
    if proposal.pr is None or proposal.outcome is Outcome.PAUSED:
        return _Done(proposal=proposal, exit_code=EXIT_BAD_INPUT, **common)
    beside = (base, status, merge, target.policy.settings)
    now = tools.clock.monotonic()
    known = (
        door.recall(proposal.pr, beside, now) if door is not None and proposal.outcome is Outcome.UNCHANGED else None
    )
    if known is not None:
        return _Done(
            proposal=proposal,
            verified=known.verified,
            applied=known.applied,
            exit_code=exit_code_of(known.applied) if known.applied is not None else 0,
            **common,
        )
    verified, pr, verify_report = verify_and_record(place, proposal.pr, planned.plan, tools, artifacts)
    write_bundle(artifacts, state, planned.plan, options, tools, verify_report=verify_report)
    if not merge:
        if target.policy.settings.forge.kind != "local":
            ask_gate(place, pr, tools, plan_digest=planned.plan.digest, reported_ok=verified.ok)
        _remember(door, place, pr, beside, now, Answer(verified, None))
        done = Proposal(proposal.outcome, pr, writes=proposal.writes)
        return _Done(proposal=done, verified=verified, verify_report=verify_report, **common)
    applied, apply_report = apply_and_report(
        place, pr, planned.plan, tools, artifacts, verify_report=verify_report, reported_ok=verified.ok
    )
    if not applied.ok:
        _remember(door, place, pr, beside, now, Answer(verified, applied))
    return _Done(
        proposal=Proposal(proposal.outcome, applied.pr or pr, writes=proposal.writes),
        verified=verified,
        applied=applied,
        killed=applied.kill_active,
        verify_report=verify_report,
        apply_report=apply_report,
        exit_code=exit_code_of(applied),
        **common,
    )


def _remember(door: Door | None, place: Workplace, pr: PullRequest, beside: object, now: float, answer: Answer) -> None:
    """Keep the answer for the pull request as it stands now, our own checks on it included."""
    stands = place.forge.get_pr(pr.number)
    if door is not None and stands is not None:
        door.remember(stands, beside, now, answer)


def _without_plan(
    place: Workplace, state: WorkloadState, planned: Planned, observation: Observation, identity: Person, tools: Tools
) -> Proposal | None:
    """Withdraw the open pull request when its cause is gone, or it is not worth its cost any more; leave it when that can't
    be told.
    """
    pr = open_pr(place.forge, state.ref.branch)
    if pr is None or pr.rollback_of is not None or observation.insufficient:
        return None
    verdict = {judged.action.chord: judged.verdict for judged in planned.decision.judged}.get(pr.chord)
    if verdict is not None and verdict.reason is Reason.GAIN_BELOW_COST:
        why = f"it is not worth its cost any more: {verdict.message}"
    elif verdict is not None or _still(place, pr, state, observation):
        return None
    else:
        why = "the cause is gone: " + (
            "stable" if observation.stable else f"now seen is {', '.join(observation.found)}"
        )
    return withdraw(place.forge, state.ref.branch, state.ref.key, why, identity=identity, clock=tools.clock)


def _still(place: Workplace, pr: PullRequest, state: WorkloadState, observation: Observation) -> bool:
    """True while what the pull request was opened for is there, or can't be told; a walk back is for what is stable."""
    causes = _causes(place, pr, state)
    if pr.chord == Intent.RECOVER_RELOCK and observation.stable:
        return True
    gone = Classification.NO_ACTIONABLE_SIGNAL
    return any(s.name in causes and s.classification is not gone for s in observation.signals)


def _explain_proposal(proposal: Proposal, tools: Tools, artifacts: ArtifactStore) -> None:
    artifacts.explain(
        "propose_report",
        {
            "outcome": proposal.outcome,
            "pr": proposal.pr.number if proposal.pr else None,
            "writes": proposal.writes,
            "reason": proposal.reason,
            "message": proposal.message,
        },
        at=tools.clock.now(),
    )


def verify_and_record(
    place: Workplace, pr: PullRequest, plan: Plan, tools: Tools, artifacts: ArtifactStore
) -> tuple[VerifyOutcome, PullRequest, str]:
    """Verify the pull request, record the check, write `k8s_verify_*.json`; gives the outcome, the PR and the path."""
    started = tools.clock.now()
    artifacts.explain("k8s_verify_start", {"pr": pr.number}, at=started)
    outcome = verify_pr(
        place.forge, pr, builder=tools.builder, built_in=tools.built_in, clock=tools.clock, cluster=tools.cluster
    )
    pr = record_check(place.forge, pr, outcome, clock=tools.clock)
    payload = report(
        k8s_verify_payload(outcome, (plan,)), started=started, finished=tools.clock.now(), out_dir=artifacts.out_dir
    )
    path = artifacts.report("k8s_verify", payload, at=started)
    artifacts.explain(
        "k8s_verify_report",
        {"ok": outcome.ok, "reason": outcome.reason, "message": outcome.message},
        at=tools.clock.now(),
    )
    return outcome, pr, path


def apply_and_report(
    place: Workplace,
    pr: PullRequest | None,
    plan: Plan | None,
    tools: Tools,
    artifacts: ArtifactStore,
    *,
    verify_report: str | None,
    reported_ok: bool | None,
) -> tuple[Applied, str]:
    """Ask the gate and merge; write `k8s_apply_*.json`; gives the outcome and the path."""
    started = tools.clock.now()
    artifacts.explain("k8s_apply_start", {"pr": pr.number if pr else None}, at=started)
    applied = apply_pr(place, pr, tools, plan_digest=plan.digest if plan else None, reported_ok=reported_ok)
    payload = report(
        apply_payload(applied, plan, verify_report),
        started=started,
        finished=tools.clock.now(),
        out_dir=artifacts.out_dir,
    )
    path = artifacts.report("k8s_apply", payload, at=started)
    event = "k8s_apply_applied" if applied.ok else "k8s_apply_blocked"
    artifacts.explain(
        event,
        {"reason": applied.reason, "message": applied.message, "merge_sha": applied.merge_sha},
        at=tools.clock.now(),
    )
    artifacts.explain("k8s_apply_report", {"path": path, "ok": applied.ok}, at=tools.clock.now())
    return applied, path


def exit_code_of(applied: Applied) -> int:
    """0 applied, 1 failed, 2 blocked."""
    if applied.ok:
        return 0
    return EXIT_FAILED if applied.failed else EXIT_BAD_INPUT


def apply_payload(applied: Applied, plan: Plan | None, verify_report: str | None) -> dict[str, Any]:
    """`k8s_apply_latest.json`."""
    items = []
    if plan is not None:
        items.append(
            {
                "namespace": plan.carrier.namespace,
                "name": plan.carrier.name,
                "kind": plan.carrier.kind,
                "ok": applied.ok,
                "chord": plan.chord,
                "changes": [c.plain() for c in plan.changes],
                "message": applied.message,
            }
        )
    gates = applied.decision.verdicts if applied.decision else ()
    by_rule = {verdict.rule: verdict for verdict in gates}
    return {
        "ok": applied.ok,
        "block_reason": applied.reason,
        "message": applied.message,
        "license_ok": by_rule["license"].allowed if "license" in by_rule else False,
        "verify_ok": by_rule["verify_ok"].allowed if "verify_ok" in by_rule else False,
        "verify_report_path": verify_report,
        "kill_switch_active": applied.kill_active is not None,
        "pr": pr_payload(applied.pr),
        "merge_sha": applied.merge_sha,
        "gates": gate_payload(applied.decision),
        "kill_switch": [reading.plain() for reading in applied.kill],
        "checks": {"items": items},
        "items": items,
    }


def pr_payload(pr: PullRequest | None) -> dict[str, Any] | None:
    """A pull request as reports tell it."""
    if pr is None:
        return None
    return {
        "number": pr.number,
        "title": pr.title,
        "state": pr.state,
        "draft": pr.draft,
        "branch": pr.branch,
        "base": pr.base,
        "head_sha": pr.head_sha,
        "merge_sha": pr.merge_sha,
        "workload": pr.workload,
        "chord": pr.chord,
        "plan_digest": pr.plan_digest,
        "labels": list(pr.labels),
    }


def _payload(
    observation: Observation,
    planned: Planned,
    plan_path: str,
    done: _Done,
    *,
    apply: bool,
    started: datetime,
    tools: Tools,
    artifacts: ArtifactStore,
) -> dict[str, Any]:
    results = planned.results
    for result in results:
        if result["status"] == "planned":
            result["applied"] = bool(done.applied and done.applied.ok)
    observed = observation_payload(observation)
    attempted = bool(done.applied and done.applied.decision and done.applied.decision.allowed)
    blocked = done.applied.reason if done.applied else None
    if done.killed is not None:
        blocked = blocked or "kill_switch"  # type: ignore[assignment]
    proposal = done.proposal
    if proposal is not None and proposal.reason is not None and blocked is None:
        blocked = proposal.reason
    if apply and blocked is None and planned.blocked is not None:
        blocked = planned.blocked.reason
    return report(
        {
            **observed,
            "confirmation": _confirmation(planned),
            "proposed": planned.proposed,
            "results": results,
            "dry_run": not apply,
            "verify_ok": bool(done.verified and done.verified.ok),
            "apply_attempted": attempted,
            "apply_ok": bool(done.applied and done.applied.ok),
            "apply_blocked_reason": blocked,
            "apply_blocked_message": _blocked_message(planned, done) if blocked is not None else None,
            "kill_switch_active": done.killed is not None,
            "kill_switch_signal": done.killed.detail if done.killed else None,
            "license_ok": done.license_ok,
            "license_reason": done.license_reason,
            "k8s_plan_path": plan_path,
            "k8s_plan_items": len(planned.items),
            "k8s_verify_report_path": done.verify_report,
            "k8s_apply_report_path": done.apply_report,
            "pr": pr_payload(proposal.pr) if proposal else None,
            "propose_outcome": proposal.outcome if proposal else None,
            "apply_decision_summary": "; ".join(f"{k}: {v}" for k, v in _told(planned, done).items())
            or "dry run: nothing written",
        },
        started=started,
        finished=tools.clock.now(),
        out_dir=artifacts.out_dir,
    )


def _blocked_message(planned: Planned, done: _Done) -> str:
    """The sentence that goes with `apply_blocked_reason`."""
    if done.applied is not None:
        return done.applied.message
    if done.killed is not None:
        return done.killed.detail
    if done.proposal is not None and done.proposal.reason is not None:
        return done.proposal.message
    return planned.blocked.message if planned.blocked is not None else ""


def _confirmation(planned: Planned) -> dict[str, int] | None:
    """How far the confirmation has come of what is not acted on yet."""
    decision = planned.decision
    return {"seen": decision.waiting, "needed": decision.needed} if decision.waiting and planned.plan is None else None


def _told(planned: Planned, done: _Done) -> dict[str, Any]:
    told: dict[str, Any] = {}
    waiting = _confirmation(planned)
    if waiting is not None:
        told["confirmation"] = f"seen in {waiting['seen']} looks in a row, {waiting['needed']} are needed"
    if planned.blocked is not None:
        told["envelope"] = f"{planned.blocked.reason}: {planned.blocked.message}"
    if done.proposal is not None:
        number = f" #{done.proposal.pr.number}" if done.proposal.pr else ""
        told["pull request"] = f"{done.proposal.outcome}{number}"
        if done.proposal.message:
            told["pull request"] += f" ({done.proposal.message})"
    if done.verified is not None:
        told["verify"] = "ok" if done.verified.ok else f"{done.verified.reason}: {done.verified.message}"
    if done.applied is not None:
        told["apply"] = done.applied.message if done.applied.ok else f"{done.applied.reason}: {done.applied.message}"
    elif done.killed is not None:
        told["apply"] = f"kill_switch: {done.killed.detail}"
    return told


def target_of(place: Workplace, tools: Tools, choose: Callable[[Policy], WorkloadSettings]) -> Target:
    """The loop's target on the tip of the base branch."""
    base = place.forge.base_tip()
    files = place.forge.repo.files(base)
    policy = policy_of(files, tools.built_in)
    return Target(workload=choose(policy), policy=policy, files=files, base=base, workplace=place)
