"""Apply: gather what the gate looks at, ask it, read the kill switch once more, merge, and look at what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from gitops_mk.controller.aftermath import finish_merge, intent_of
from gitops_mk.controller.state import identity_of, policy_of, required_approvals
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.controller.verify import verify_pr
from gitops_mk.core import gate
from gitops_mk.core.calendar import judge_time
from gitops_mk.core.enrolment import by_key
from gitops_mk.core.policy import Policy
from gitops_mk.core.render.describe import commit_message
from gitops_mk.core.render.paths import plan_path
from gitops_mk.core.render.text import plain
from gitops_mk.errors import ConflictError, ForgeError, InputError
from gitops_mk.model.change import GATE_CHECK, Check, PrState, PullRequest
from gitops_mk.model.gate import GateDecision, KillReading, VerifyOutcome, first_active
from gitops_mk.model.plan import Plan
from gitops_mk.model.settings import RepoSettings, WorkloadSettings
from gitops_mk.model.times import format_time
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.ports import Forge


@dataclass(frozen=True)
class Applied:
    """What applying came to: merged, blocked (by `reason`), or failed after the merge was asked for."""

    ok: bool
    pr: PullRequest | None
    decision: GateDecision | None
    reason: Reason | None = None
    message: str = ""
    merge_sha: str | None = None
    kill: tuple[KillReading, ...] = ()
    verified: VerifyOutcome | None = None
    failed: bool = False

    @property
    def kill_active(self) -> KillReading | None:
        """The first active source of the kill switch."""
        return first_active(self.kill)


@dataclass(frozen=True)
class Asked:
    """The gate's answer, and what it was given on."""

    pr: PullRequest | None
    decision: GateDecision
    plan: Plan | None
    kill: tuple[KillReading, ...]
    verified: VerifyOutcome | None
    settings: RepoSettings

    @property
    def opens(self) -> bool:
        """True when there is a permit, and something to use it for."""
        return self.decision.permit is not None and self.pr is not None and self.plan is not None

    @property
    def refused(self) -> Applied:
        """Why nothing may be merged."""
        first = self.decision.first
        reason = first.reason if first else Reason.VERIFY_FAILED
        said = first.message if first else "the pull request is for a workload the base does not configure"
        return Applied(
            False, self.pr, self.decision, reason=reason, message=said, kill=self.kill, verified=self.verified
        )


def ask_gate(
    place: Workplace, pr: PullRequest | None, tools: Tools, *, plan_digest: str | None, reported_ok: bool | None
) -> Asked:
    """Ask the gate about a pull request as it stands now, and tell the answer on its head. Raises MkError.

    Telling takes a moment: what was told as open is judged once more, so that nothing stands between judging and merging.
    """
    asked = _ask(place, pr, tools, plan_digest=plan_digest, reported_ok=reported_ok)
    if tell_gate(place, asked, tools) and asked.opens:
        asked = _ask(place, asked.pr, tools, plan_digest=plan_digest, reported_ok=reported_ok)
        if not asked.opens:
            tell_gate(place, asked, tools)
    return asked


def _ask(
    place: Workplace, pr: PullRequest | None, tools: Tools, *, plan_digest: str | None, reported_ok: bool | None
) -> Asked:
    forge = place.forge
    forge.refresh()
    kill = place.kill_switch.read(pr=pr)
    pr = forge.get_pr(pr.number) if pr is not None else None
    verified = None
    if pr is not None and pr.state is PrState.OPEN and pr.head_sha is not None:
        verified = verify_pr(
            forge, pr, builder=tools.builder, built_in=tools.built_in, clock=tools.clock, cluster=tools.cluster
        )
    known = forge.get_pr(pr.number) if pr is not None else None
    facts, plan, settings = _facts(place, pr, verified, tools, plan_digest=plan_digest, reported_ok=reported_ok)
    # Verify takes its time, and reading the forge, too. A switch thrown meanwhile counts; one that was thrown before
    # counts as well, whoever cleared it.
    if first_active(kill) is None:
        kill = place.kill_switch.read(pr=facts.pr)
        if pr is not None and forge.get_pr(pr.number) != known:
            facts, plan, settings = _facts(place, pr, verified, tools, plan_digest=plan_digest, reported_ok=reported_ok)
    facts = replace(facts, kill=kill, base_tip=forge.base_tip())
    decision = gate.decide(facts, monotonic=tools.clock.monotonic())
    return Asked(facts.pr, decision, plan, kill, verified, settings)


def tell_gate(place: Workplace, asked: Asked, tools: Tools) -> bool:
    """Record on the head whether the gate would open, so that a person's click on the merge button meets the same conditions.

    True when it was not on record already.
    """
    pr, seen = asked.pr, asked.verified
    if pr is None or pr.head_sha is None or pr.state is not PrState.OPEN or asked.settings.forge.kind == "local":
        return False
    first = asked.decision.first
    summary = "the gate would open" if first is None else f"{first.reason}: {first.message}"
    conclusion: Literal["success", "failure"] = "success" if asked.opens else "failure"
    newest = pr.newest_check(GATE_CHECK, pr.head_sha)
    if newest is not None and (newest.conclusion, newest.summary) == (conclusion, plain(summary, most=500)):
        return False
    place.forge.add_check(
        pr.number,
        Check(
            name=GATE_CHECK,
            commit=pr.head_sha,
            base=seen.base if seen is not None else place.forge.base_tip(),
            plan_digest=pr.plan_digest,
            conclusion=conclusion,
            summary=plain(summary, most=500),
            tree=seen.tree if seen is not None else None,
            at=format_time(tools.clock.now()),
        ),
    )
    return True


def apply_pr(
    place: Workplace, pr: PullRequest | None, tools: Tools, *, plan_digest: str | None, reported_ok: bool | None
) -> Applied:
    """Merge a pull request if every gate is open. Raises for what could not be decided; then nothing was merged."""
    forge = place.forge
    finish_merge(place, tools)
    asked = ask_gate(place, pr, tools, plan_digest=plan_digest, reported_ok=reported_ok)
    permit, pr, plan = asked.decision.permit, asked.pr, asked.plan
    if permit is None or pr is None or plan is None:
        return asked.refused
    place.intents.write(intent_of(permit, pr, tools.clock.now()))
    try:
        sha = forge.merge(permit, message=commit_message(plan, tools.wording))
    except ConflictError as exc:
        place.intents.clear()
        return replace(asked.refused, reason=_lost(forge, pr, exc), message=exc.message)
    except ForgeError as exc:
        # The record of the intent stays: whoever asks next begins with looking at what came of it.
        raise ForgeError(
            f"the merge of #{pr.number} was asked for and not confirmed: {exc.message}",
            hint=f"look at {forge.base_branch} before asking again: `mk apply` starts from what stands there",
            retryable=exc.retryable,
        ) from exc
    finish_merge(place, tools)
    merged = forge.get_pr(pr.number)
    return replace(asked.refused, ok=True, pr=merged, reason=None, merge_sha=sha, message=f"merged as {sha}")


def _facts(
    place: Workplace,
    pr: PullRequest | None,
    verified: VerifyOutcome | None,
    tools: Tools,
    *,
    plan_digest: str | None,
    reported_ok: bool | None,
) -> tuple[gate.GateFacts, Plan | None, RepoSettings]:
    """What the gate looks at, but the kill switch, read past every cache; and the plan that would be merged."""
    forge = place.forge
    pr = forge.live(pr.number) if pr is not None else None
    base = forge.base_tip()
    files = forge.repo.files(base)
    policy = policy_of(files, tools.built_in)
    workload = _workload(forge, policy, pr, files)
    plan = _brought(forge, verified, workload)
    is_open = pr is not None and pr.state is PrState.OPEN
    standing = forge.standing(pr) if pr is not None and is_open else None
    head = pr.head_sha if pr is not None and is_open else None
    known = head is not None and forge.repo.resolve(head) is not None
    now = tools.clock.now()
    undoes = plan is not None and plan.rollback_of is not None
    facts = gate.GateFacts(
        kill=(),
        license=place.license_status(),
        pr=pr,
        plan_digest=plan_digest,
        base_branch=forge.base_branch,
        base_tip=base,
        verified=verified,
        reported_ok=reported_ok,
        approvals_needed=approvals_needed(policy, workload, plan),
        identity=forge.identity,
        author=identity_of(policy.settings),
        # What verify found the base to have: a plan for another object than that is not verified.
        kind=plan.carrier.kind if plan is not None else workload.kind if workload else "",
        standing=standing,
        commits=forge.repo.log(head, first_parent=False, exclude=base, limit=50) if head is not None and known else (),
        calendar=judge_time(policy.settings.schedule, now, undoes=undoes),
        now=now,
    )
    return facts, plan, policy.settings


def _workload(
    forge: Forge, policy: Policy, pr: PullRequest | None, files: Mapping[str, bytes]
) -> WorkloadSettings | None:
    """The workload of a pull request; one that was discovered may have its first record on the head only."""
    if pr is None:
        return None
    # A head that was pushed since the last fetch is not here; then verify was not run on it either, and the gate says so.
    if pr.state is PrState.OPEN and pr.head_sha is not None and forge.repo.resolve(pr.head_sha) is not None:
        head = pr.head_sha
        paths = [entry.path for entry in forge.repo.tree(head)]
        read = partial(forge.repo.read, head)
        return by_key(policy.settings, pr.workload, paths, read, digest=pr.plan_digest)
    return by_key(policy.settings, pr.workload, files, files.get, digest=pr.plan_digest)


def approvals_needed(policy: Policy, workload: WorkloadSettings | None, plan: Plan | None) -> int:
    """How many approvals a merge needs: as the base asks, and one at least for an advanced chord.

    `plan` is the one that verify saw, None where it saw none that is good. That somebody ran with --approve-advanced is its own
    word; a review of its head is not.
    """
    if workload is None or plan is None:
        return max(1, required_approvals(policy, workload) if workload is not None else 1)
    chord = policy.catalog.get(plan.chord)
    safe = chord is not None and chord.risk_tier == "safe"
    return max(required_approvals(policy, workload), 0 if safe or plan.rollback_of is not None else 1)


def _brought(forge: Forge, verified: VerifyOutcome | None, workload: WorkloadSettings | None) -> Plan | None:
    """The plan in the tree that was verified; the pull request's record only says what it is about."""
    if verified is None or not verified.ok or verified.tree is None or workload is None:
        return None
    path = plan_path(workload.overlay, workload.ref.slug)
    text = forge.repo.read(verified.tree, path)
    if text is None:
        raise InputError(f"{path} is not in the tree to merge")
    return Plan.parse_json(text, what=path)


def _lost(forge: Forge, pr: PullRequest, lost: ConflictError) -> Reason:
    """Why a merge lost its race, by the ref that was moved."""
    if lost.ref == f"refs/heads/{forge.base_branch}":
        return Reason.BASE_MOVED
    if lost.ref == f"refs/heads/{pr.branch}":
        return Reason.HEAD_MOVED
    live = forge.get_pr(pr.number)
    return Reason.NOT_MERGEABLE if live is not None and live.state is PrState.OPEN else Reason.PR_NOT_OPEN


def gate_payload(decision: GateDecision | None) -> list[dict[str, object]]:
    """The gates, in order, for reports."""
    verdicts: tuple[Verdict, ...] = decision.verdicts if decision else ()
    return [verdict.plain() for verdict in verdicts]
