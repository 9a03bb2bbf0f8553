"""Apply: gather what the gate looks at, ask it, read the kill switch once more, merge, and look at what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from gitops_mk.controller.state import identity_of, policy_of, required_approvals
from gitops_mk.controller.verify import verify_pr
from gitops_mk.core import gate
from gitops_mk.core.enrolment import by_key
from gitops_mk.core.policy import BuiltIn, Policy
from gitops_mk.core.render.paths import plan_path
from gitops_mk.errors import ConflictError, ForgeError, InputError, IntegrityError
from gitops_mk.model.change import PrState, PullRequest
from gitops_mk.model.gate import GateDecision, KillReading, VerifyOutcome, first_active
from gitops_mk.model.license import LicenseStatus
from gitops_mk.model.plan import Plan
from gitops_mk.model.settings import WorkloadSettings
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.ports import Clock, Cluster, Forge, KillSwitch, ManifestBuilder


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


def apply_pr(
    forge: Forge,
    pr: PullRequest | None,
    *,
    plan_digest: str | None,
    license_status: LicenseStatus,
    kill_switch: KillSwitch,
    reported_ok: bool | None,
    builder: ManifestBuilder,
    built_in: BuiltIn,
    clock: Clock,
    message: Callable[[Plan], str],
    cluster: Cluster | None = None,
) -> Applied:
    """Merge a pull request if every gate is open. Raises for what could not be decided; then nothing was merged."""
    forge.refresh()
    kill = kill_switch.read(pr=pr)
    pr = forge.get_pr(pr.number) if pr is not None else None
    base = forge.base_tip()
    files = forge.repo.files(base)
    policy = policy_of(files, built_in)
    workload = _workload(forge, policy, pr, files)
    verified = None
    if pr is not None and pr.state is PrState.OPEN and pr.head_sha is not None:
        verified = verify_pr(forge, pr, builder=builder, built_in=built_in, clock=clock, cluster=cluster)
    plan = _brought(forge, verified, workload)
    facts = gate.GateFacts(
        kill=kill,
        license=license_status,
        pr=pr,
        plan_digest=plan_digest,
        base_branch=forge.base_branch,
        base_tip=base,
        verified=verified,
        reported_ok=reported_ok,
        approvals_needed=approvals_needed(policy, workload, plan),
        identity=identity_of(policy.settings),
        kind=workload.kind if workload else "",
    )
    decision = gate.decide(facts, monotonic=clock.monotonic())
    if decision.permit is not None and pr is not None:
        # Verify takes its time. Asked again on what stands now, so that a switch thrown meanwhile, a review or a closed
        # pull request counts; from here to the merge nothing is fetched, and its leases hold all of this in place.
        kill = kill_switch.read(pr=pr)
        pr = forge.get_pr(pr.number)
        facts = replace(facts, kill=kill, pr=pr, base_tip=forge.base_tip())
        decision = gate.decide(facts, monotonic=clock.monotonic())
    first = decision.first
    if decision.permit is None or pr is None or plan is None:
        reason = first.reason if first else Reason.VERIFY_FAILED
        said = first.message if first else "the pull request is for a workload the base does not configure"
        return Applied(False, pr, decision, reason=reason, message=said, kill=kill, verified=verified)
    words = message(plan)
    try:
        sha = forge.merge(decision.permit, message=words)
    except ConflictError as exc:
        reason = _lost(forge, pr, exc)
        return Applied(False, pr, decision, reason=reason, message=exc.message, kill=kill, verified=verified)
    except ForgeError as exc:
        raise ForgeError(
            f"the merge of #{pr.number} was asked for and not confirmed: {exc.message}",
            hint=f"look at {forge.base_branch} before asking again: `mk apply` starts from what stands there",
            retryable=exc.retryable,
        ) from exc
    merged = forge.repo.commit(sha)
    if merged.tree != decision.permit.tree or merged.parents[:1] != (decision.permit.base_sha,):
        raise IntegrityError(
            f"merge {sha[:12]} is not what was verified: stop, and look at it", hint="mk kill-switch on"
        )
    return Applied(
        True, forge.get_pr(pr.number), decision, merge_sha=sha, kill=kill, verified=verified, message=f"merged as {sha}"
    )


def _workload(
    forge: Forge, policy: Policy, pr: PullRequest | None, files: Mapping[str, bytes]
) -> WorkloadSettings | None:
    """The workload of a pull request; one that was discovered may have its first record on the head only."""
    if pr is None:
        return None
    if pr.state is PrState.OPEN and pr.head_sha is not None:
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
