"""The gate: one function on every way to a merge, and the only maker of permits.

The order is the contract's (section 6): kill switch, licence, verify_ok, what the forge says. Every gate is judged even
when an earlier one is closed, so that a person sees at once all there is to mend; the first closed one gives the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gitops_mk.model.change import VERIFY_CHECK, Person, PrState, PullRequest, Review
from gitops_mk.model.gate import GateDecision, KillReading, VerifyOutcome
from gitops_mk.model.license import LicenseStatus
from gitops_mk.model.permit import Permit, claim_seal
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.model.workload import IN_PLACE_KINDS

_SEAL: Final = claim_seal()


@dataclass(frozen=True)
class GateFacts:
    """Everything the gate looks at, read live. `verified` is verify run again just now, on `base_tip` and the PR's head.

    `reported_ok`: what a verify report lying beside the plan says; None when there is none.
    """

    kill: Sequence[KillReading]
    license: LicenseStatus
    pr: PullRequest | None
    plan_digest: str | None
    base_branch: str
    base_tip: str | None
    verified: VerifyOutcome | None
    reported_ok: bool | None
    approvals_needed: int
    identity: Person
    kind: str


def decide(facts: GateFacts, *, monotonic: float) -> GateDecision:
    """Judge every gate; a permit exactly when all are open."""
    verdicts = tuple(gate(facts) for gate in GATES)
    pr, seen = facts.pr, facts.verified
    permit = None
    if (
        verdicts
        and all(v.allowed for v in verdicts)
        and pr is not None
        and pr.head_sha is not None
        and seen is not None
        and seen.tree is not None
        and facts.license.kid is not None
    ):
        permit = Permit(
            seal=_SEAL,
            pr=pr.number,
            head_sha=pr.head_sha,
            base_sha=seen.base,
            tree=seen.tree,
            plan_digest=pr.plan_digest,
            license_kid=facts.license.kid,
            issued_at=monotonic,
        )
    return GateDecision(verdicts=verdicts, permit=permit)


def kill_switch_gate(facts: GateFacts) -> Verdict:
    """Gate 1: no source of the kill switch is active; no reading at all counts as active."""
    active = [reading for reading in facts.kill if reading.active]
    if not facts.kill:
        return Verdict.block("kill_switch", Reason.KILL_SWITCH, "no source of the kill switch was read")
    if active:
        return Verdict.block(
            "kill_switch", Reason.KILL_SWITCH, "; ".join(f"{reading.source}: {reading.detail}" for reading in active)
        )
    return Verdict.allow("kill_switch", f"{sum(r.configured for r in facts.kill)} sources are clear")


def license_gate(facts: GateFacts) -> Verdict:
    """Gate 2: the licence is valid and entitles to apply."""
    if facts.license.ok and facts.license.kid is not None:
        return Verdict.allow("license", f"{facts.license.org}, key {facts.license.kid}")
    reason = Reason(facts.license.reason) if facts.license.reason else Reason.LICENSE_INVALID
    return Verdict.block("license", reason, facts.license.message or "the licence is not valid")


def verify_gate(facts: GateFacts) -> Verdict:
    """Gate 3: the recorded check and verify run again both say yes to exactly this head, base and plan."""
    name = "verify_ok"
    pr = facts.pr
    if facts.reported_ok is False:
        return Verdict.block(name, Reason.VERIFY_FAILED, "the verify report beside the plan says verify_ok=false")
    if pr is None or pr.head_sha is None:
        return Verdict.block(name, Reason.VERIFY_MISSING, "there is no head commit that could have been verified")
    check = pr.newest_check(VERIFY_CHECK, pr.head_sha)
    if check is None:
        stale = any(c.name == VERIFY_CHECK for c in pr.checks)
        return Verdict.block(
            name,
            Reason.VERIFY_STALE if stale else Reason.VERIFY_MISSING,
            f"no verify of head {pr.head_sha[:12]} is recorded" + (", only of earlier ones" if stale else ""),
        )
    if check.conclusion != "success":
        return Verdict.block(name, Reason.VERIFY_FAILED, f"verify of {pr.head_sha[:12]} failed: {check.summary}")
    if check.base != facts.base_tip:
        return Verdict.block(
            name,
            Reason.VERIFY_STALE,
            f"verified against {check.base[:12]}, {facts.base_branch} is at {(facts.base_tip or 'nothing')[:12]}",
        )
    if check.plan_digest != pr.plan_digest or (facts.plan_digest or pr.plan_digest) != pr.plan_digest:
        return Verdict.block(name, Reason.VERIFY_STALE, "verified for another plan than this one")
    seen = facts.verified
    if seen is None or seen.head != pr.head_sha or seen.base != facts.base_tip:
        return Verdict.block(name, Reason.VERIFY_STALE, "verify was not run again on this head and base")
    if not seen.ok or not seen.steps or seen.tree is None:
        return Verdict.block(name, Reason.VERIFY_FAILED, f"verify run again says: {seen.message or 'not ok'}")
    if seen.plan_digest != pr.plan_digest or seen.tree != check.tree:
        return Verdict.block(name, Reason.VERIFY_STALE, "verify run again saw another plan or another tree")
    if seen.workload != pr.workload:
        return Verdict.block(name, Reason.VERIFY_STALE, f"#{pr.number} says {pr.workload}, it brings {seen.workload}")
    return Verdict.allow(name, f"{len(seen.steps)} steps passed on {pr.head_sha[:12]}")


def forge_gate(facts: GateFacts) -> Verdict:
    """Gate 4a: the pull request is open, ours, not a draft, and goes to the base branch."""
    name, pr = "pull_request", facts.pr
    if pr is None:
        return Verdict.block(name, Reason.PR_NOT_OPEN, "no pull request proposes this plan")
    if pr.state is not PrState.OPEN:
        return Verdict.block(name, Reason.PR_NOT_OPEN, f"#{pr.number} is {pr.state}")
    if pr.head_sha is None:
        return Verdict.block(name, Reason.HEAD_MOVED, f"#{pr.number}: branch {pr.branch} is gone")
    if pr.draft:
        return Verdict.block(name, Reason.PR_DRAFT, f"#{pr.number} is a draft")
    if pr.base != facts.base_branch:
        return Verdict.block(name, Reason.NOT_MERGEABLE, f"it goes to {pr.base}, expected {facts.base_branch}")
    if pr.author.email != facts.identity.email:
        return Verdict.block(name, Reason.NOT_MERGEABLE, f"#{pr.number} was opened by {pr.author.name}, not by us")
    return Verdict.allow(name, f"#{pr.number} is open")


def review_gate(facts: GateFacts) -> Verdict:
    """Gate 4b: enough people approved this very head; nobody's newest word on it asks for changes."""
    name, pr = "reviews", facts.pr
    if pr is None:
        return Verdict.block(name, Reason.REVIEW_REQUIRED, "there is no pull request to review")
    newest: dict[str, Review] = {}
    for review in pr.reviews:
        newest[review.by.email.lower()] = review
    against = [r for r in newest.values() if r.verdict == "changes_requested"]
    if against:
        return Verdict.block(name, Reason.CHANGES_REQUESTED, f"{against[0].by.name} asks for changes")
    ours = {pr.author.email.lower(), facts.identity.email.lower()}
    approvals = [r for email, r in newest.items() if r.commit == pr.head_sha and email not in ours]
    if len(approvals) < facts.approvals_needed:
        stale = sum(r.verdict == "approved" and r.commit != pr.head_sha for r in newest.values())
        more = f" ({stale} for an earlier commit)" if stale else ""
        return Verdict.block(
            name,
            Reason.REVIEW_REQUIRED,
            f"{len(approvals)} approvals of this commit{more}, {facts.approvals_needed} needed",
        )
    return Verdict.allow(name, f"{len(approvals)} approvals, {facts.approvals_needed} needed")


def delivery_gate(facts: GateFacts) -> Verdict:
    """Gate 4c: a merge reaches the running workload; for other kinds merging is a person's decision."""
    if facts.kind in IN_PLACE_KINDS:
        return Verdict.allow("delivery")
    return Verdict.block("delivery", Reason.PROPOSE_ONLY, f"a {facts.kind or 'workload'} takes it at its next run only")


GATES: Final[tuple[Callable[[GateFacts], Verdict], ...]] = (
    kill_switch_gate,
    license_gate,
    verify_gate,
    forge_gate,
    review_gate,
    delivery_gate,
)
