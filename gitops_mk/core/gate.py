"""The gate: one function on every way to a merge, and the only maker of permits.

The order is the contract's (section 6): kill switch, licence, verify_ok, what the forge says. Every gate is judged even
when an earlier one is closed, so that a person sees at once all there is to mend; the first closed one gives the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gitops_mk.core.origin import foreign_commits
from gitops_mk.model.change import GATE_CHECK, VERIFY_CHECK, Person, PrState, PullRequest, Review
from gitops_mk.model.gate import GateDecision, KillReading, VerifyOutcome
from gitops_mk.model.git import CommitInfo
from gitops_mk.model.license import LicenseStatus
from gitops_mk.model.permit import Permit, claim_seal
from gitops_mk.model.standing import HeadCheck, RequiredCheck, Standing
from gitops_mk.model.times import parse_time
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.model.workload import IN_PLACE_KINDS, KnobMap

_SEAL: Final = claim_seal()


@dataclass(frozen=True)
class GateFacts:
    """Everything the gate looks at, read live. `verified` is verify run again just now, on `base_tip` and the PR's head.

    `reported_ok`: what a verify report lying beside the plan says; None when there is none. `identity` is who we are on the
    forge, `author` who our commits are by. `standing` is None where there is no open pull request; `commits` are those that
    merging would bring. `calendar` says whether merging is for now.
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
    author: Person
    kind: str
    standing: Standing | None
    commits: Sequence[CommitInfo]
    calendar: Verdict
    now: datetime


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
    """Gate 4a: the pull request is open, not a draft, not on hold, and goes to the base branch."""
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
    if pr.held_until is not None and facts.now < parse_time(pr.held_until):
        return Verdict.block(name, Reason.HELD_BY_REVIEWER, f"#{pr.number} is on hold until {pr.held_until}")
    return Verdict.allow(name, f"#{pr.number} is open")


def origin_gate(facts: GateFacts) -> Verdict:
    """Gate 4b: it is ours: by our account, from the repository itself, and one commit of ours is all it brings."""
    name, pr = "origin", facts.pr
    if pr is None or facts.standing is None:
        return Verdict.block(name, Reason.NOT_OURS, "there is no open pull request")
    if pr.author.key != facts.identity.key:
        return Verdict.block(name, Reason.NOT_OURS, f"#{pr.number} was opened by {pr.author.name}, not by us")
    if not facts.standing.same_repository:
        return Verdict.block(name, Reason.NOT_OURS, f"the head of #{pr.number} is in another repository")
    foreign = foreign_commits(facts.commits, facts.author, facts.identity, pr.workload)
    if foreign:
        found = f"{foreign[0].sha[:12]} by {foreign[0].author.name}"
        return Verdict.block(name, Reason.NOT_OURS, f"#{pr.number} brings {found}, which is not ours")
    if len(facts.commits) != 1 or facts.commits[0].sha != pr.head_sha:
        return Verdict.block(name, Reason.NOT_OURS, f"#{pr.number} brings {len(facts.commits)} commits, expected one")
    return Verdict.allow(name, f"#{pr.number} is ours, one commit")


def rules_gate(facts: GateFacts) -> Verdict:
    """Gate 4c: the forge would merge it now, at our word alone, and every check its rules ask for is green on this head."""
    name, pr, standing = "rules", facts.pr, facts.standing
    if pr is None or standing is None:
        return Verdict.block(name, Reason.NOT_MERGEABLE, "there is no open pull request")
    if standing.unread:
        return Verdict.block(name, Reason.RULES_UNREADABLE, standing.unread)
    if standing.bypasses:
        return Verdict.block(name, Reason.MAY_BYPASS, "; ".join(standing.bypasses))
    if standing.auto_merge:
        said = f"auto-merge is on for #{pr.number}: it would merge what comes later, too"
        return Verdict.block(name, Reason.AUTO_MERGE, said)
    if standing.rules.merge_queue:
        said = f"{facts.base_branch} has a merge queue, which this version does not use and will not pass by"
        return Verdict.block(name, Reason.MERGE_QUEUE, said)
    for required in standing.rules.required_checks:
        # Our own word on the gate can't be a condition of the gate.
        if required.name == GATE_CHECK:
            continue
        verdict = _required(name, required, pr, standing.checks)
        if verdict is not None:
            return verdict
    if standing.mergeable is not True:
        said = "can't be merged" if standing.mergeable is False else "is not known to be mergeable yet"
        return Verdict.block(name, Reason.NOT_MERGEABLE, f"#{pr.number} {said}")
    return Verdict.allow(name, f"{len(standing.rules.required_checks)} required checks passed")


def _required(name: str, required: RequiredCheck, pr: PullRequest, checks: Sequence[HeadCheck]) -> Verdict | None:
    """Why a required check is not met. The newest of each source counts; where any may give it, all that do must."""
    newest: dict[str | None, HeadCheck] = {}
    for check in sorted(checks, key=lambda c: c.order):
        fits = check.name == required.name and check.commit == pr.head_sha
        if fits and required.app in (None, check.app):
            newest[check.app] = check
    head = (pr.head_sha or "")[:12]
    if not newest:
        by = f" by app {required.app}" if required.app is not None else ""
        return Verdict.block(name, Reason.CHECK_MISSING, f"required check {required.name!r}{by} is not on {head}")
    bad = next((c for c in newest.values() if c.conclusion != "success"), None)
    if bad is None:
        return None
    if bad.conclusion is None:
        return Verdict.block(name, Reason.CHECK_MISSING, f"required check {bad.name!r} is not done on {head}")
    return Verdict.block(name, Reason.CHECK_FAILED, f"required check {bad.name!r} is {bad.conclusion} on {head}")


def review_gate(facts: GateFacts) -> Verdict:
    """Gate 4d: enough people approved this very head; nobody's newest word on it asks for changes."""
    name, pr = "reviews", facts.pr
    if pr is None:
        return Verdict.block(name, Reason.REVIEW_REQUIRED, "there is no pull request to review")
    newest: dict[str, Review] = {}
    for review in pr.reviews:
        newest[review.by.key] = review
    against = [r for r in newest.values() if r.verdict == "changes_requested"]
    if against:
        return Verdict.block(name, Reason.CHANGES_REQUESTED, f"{against[0].by.name} asks for changes")
    ours = {pr.author.key, facts.identity.key}
    approvals = [
        r for key, r in newest.items()
        if r.verdict == "approved" and r.commit == pr.head_sha and key not in ours and not r.by.bot
    ]  # fmt: skip
    standing = facts.standing
    needed = max(facts.approvals_needed, standing.rules.approvals if standing is not None else 0)
    if len(approvals) < needed:
        stale = sum(r.verdict == "approved" and r.commit != pr.head_sha for r in newest.values())
        more = f" ({stale} for an earlier commit)" if stale else ""
        return Verdict.block(
            name, Reason.REVIEW_REQUIRED, f"{len(approvals)} approvals of this commit{more}, {needed} needed"
        )
    if standing is not None and standing.rules.code_owners and standing.owners_approved is not True:
        return Verdict.block(name, Reason.REVIEW_REQUIRED, "an approval of the code owners is needed")
    return Verdict.allow(name, f"{len(approvals)} approvals, {needed} needed")


def delivery_gate(facts: GateFacts) -> Verdict:
    """Gate 4e: a merge reaches the running workload; for other kinds merging is a person's decision."""
    if facts.kind in IN_PLACE_KINDS or facts.kind == KnobMap.kind:
        return Verdict.allow("delivery")
    return Verdict.block("delivery", Reason.PROPOSE_ONLY, f"a {facts.kind or 'workload'} takes it at its next run only")


def calendar_gate(facts: GateFacts) -> Verdict:
    """Gate 4f: no freeze is on, and the schedule lets merges through now."""
    return facts.calendar


GATES: Final[tuple[Callable[[GateFacts], Verdict], ...]] = (
    kill_switch_gate,
    license_gate,
    verify_gate,
    forge_gate,
    origin_gate,
    rules_gate,
    review_gate,
    delivery_gate,
    calendar_gate,
)
