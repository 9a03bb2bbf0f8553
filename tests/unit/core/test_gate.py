"""The gate: its order, that every closed gate is recorded, and that a permit comes of nothing but all of them open."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitops_mk.core.gate import GATES, GateFacts, decide
from gitops_mk.core.origin import WEB_COMMITTER
from gitops_mk.model.change import GATE_CHECK, TRAILER_WORKLOAD, VERIFY_CHECK, Check, PrState, Review
from gitops_mk.model.gate import KillReading, VerifyOutcome
from gitops_mk.model.git import CommitInfo
from gitops_mk.model.license import LicenseStatus
from gitops_mk.model.standing import BranchRules, HeadCheck, RequiredCheck, Standing
from gitops_mk.model.times import format_time
from gitops_mk.model.verdict import Reason, Verdict
from tests.support import make

CLEAR = KillReading(source="environment", configured=True, active=False, detail="clear")
THROWN = KillReading(source="environment", configured=True, active=True, detail="MODEKEEPER_KILL_SWITCH=1")
LICENSED = LicenseStatus(ok=True, org="Acme", kid="k1", entitlements=("apply",))
DIGEST = "1" * 64


def check(**over: Any) -> Check:
    values: dict[str, Any] = {
        "name": VERIFY_CHECK, "commit": make.SHA_B, "base": make.SHA_A, "plan_digest": DIGEST,
        "conclusion": "success", "summary": "fine", "tree": make.TREE, "at": format_time(make.NOW),
    }  # fmt: skip
    return Check(**{**values, **over})


def review(**over: Any) -> Review:
    values: dict[str, Any] = {
        "by": make.ALICE,
        "verdict": "approved",
        "commit": make.SHA_B,
        "at": format_time(make.NOW),
    }
    return Review(**{**values, **over})


OUTCOME = VerifyOutcome(
    ok=True,
    base=make.SHA_A,
    head=make.SHA_B,
    tree=make.TREE,
    plan_digest=DIGEST,
    workload=make.REF.key,
    steps=(Verdict.allow("scope"),),
)
PR = make.pull_request(checks=(check(),), reviews=(review(),))
COMMIT = CommitInfo(
    sha=make.SHA_B,
    tree=make.TREE,
    parents=(make.SHA_A,),
    author=make.IDENTITY,
    committer=make.IDENTITY,
    time=0,
    message=f"Move\n\n{TRAILER_WORKLOAD}: {make.REF.key}\n",
)
FACTS = GateFacts(
    kill=(CLEAR,),
    license=LICENSED,
    pr=PR,
    plan_digest=DIGEST,
    base_branch="main",
    base_tip=make.SHA_A,
    verified=OUTCOME,
    reported_ok=None,
    approvals_needed=1,
    identity=make.IDENTITY,
    author=make.IDENTITY,
    kind="Deployment",
    standing=Standing(same_repository=True, mergeable=True),
    commits=(COMMIT,),
    calendar=Verdict.allow("calendar"),
    now=make.NOW,
)


def standing(**over: Any) -> Standing:
    return FACTS.standing.model_copy(update=over) if FACTS.standing else Standing(same_repository=True, mergeable=True)


def head_check(**over: Any) -> HeadCheck:
    values: dict[str, Any] = {"name": "verify", "app": "5", "commit": make.SHA_B, "conclusion": "success", "order": 1}
    return HeadCheck(**{**values, **over})


def checked(*checks: HeadCheck, required: str | None = "5") -> Standing:
    asked = RequiredCheck(name="verify", app=required)
    return standing(checks=checks, rules=BranchRules(required_checks=(asked,)))


# Every way to close a gate that is known: name -> (changed facts, the reason that must come first when it stands alone).
CLOSED: dict[str, tuple[dict[str, Any], Reason]] = {
    "kill": ({"kill": (CLEAR, THROWN)}, Reason.KILL_SWITCH),
    "kill unread": ({"kill": ()}, Reason.KILL_SWITCH),
    "no licence": ({"license": LicenseStatus(ok=False, reason="license_missing")}, Reason.LICENSE_MISSING),
    "expired": ({"license": LicenseStatus(ok=False, reason="license_expired", kid="k1")}, Reason.LICENSE_EXPIRED),
    "licence without reason": ({"license": LicenseStatus(ok=False)}, Reason.LICENSE_INVALID),
    "verify saw another workload": (
        {"verified": OUTCOME.model_copy(update={"workload": "ml/deployment-other"})},
        Reason.VERIFY_STALE,
    ),
    "licence without key": ({"license": LicenseStatus(ok=True)}, Reason.LICENSE_INVALID),
    "report says no": ({"reported_ok": False}, Reason.VERIFY_FAILED),
    "no check": ({"pr": PR.model_copy(update={"checks": ()})}, Reason.VERIFY_MISSING),
    "check of another head": (
        {"pr": PR.model_copy(update={"checks": (check(commit=make.SHA_C),)})},
        Reason.VERIFY_STALE,
    ),
    "check of another name": ({"pr": PR.model_copy(update={"checks": (check(name="x"),)})}, Reason.VERIFY_MISSING),
    "failed check": (
        {"pr": PR.model_copy(update={"checks": (check(), check(conclusion="failure"))})},
        Reason.VERIFY_FAILED,
    ),
    "base moved": ({"base_tip": make.SHA_C}, Reason.VERIFY_STALE),
    "no base": ({"base_tip": None}, Reason.VERIFY_STALE),
    "another plan": ({"plan_digest": "2" * 64}, Reason.VERIFY_STALE),
    "check of another plan": (
        {"pr": PR.model_copy(update={"checks": (check(plan_digest="2" * 64),)})},
        Reason.VERIFY_STALE,
    ),
    "not run again": ({"verified": None}, Reason.VERIFY_STALE),
    "run again on another head": ({"verified": OUTCOME.model_copy(update={"head": make.SHA_C})}, Reason.VERIFY_STALE),
    "run again on another base": ({"verified": OUTCOME.model_copy(update={"base": make.SHA_C})}, Reason.VERIFY_STALE),
    "run again says no": ({"verified": OUTCOME.model_copy(update={"ok": False})}, Reason.VERIFY_FAILED),
    "run again ran nothing": ({"verified": OUTCOME.model_copy(update={"steps": ()})}, Reason.VERIFY_FAILED),
    "run again has no tree": ({"verified": OUTCOME.model_copy(update={"tree": None})}, Reason.VERIFY_FAILED),
    "run again saw another plan": (
        {"verified": OUTCOME.model_copy(update={"plan_digest": "2" * 64})},
        Reason.VERIFY_STALE,
    ),
    "run again saw another tree": ({"verified": OUTCOME.model_copy(update={"tree": "e" * 40})}, Reason.VERIFY_STALE),
    "no pull request": ({"pr": None}, Reason.VERIFY_MISSING),
    "head gone": ({"pr": PR.model_copy(update={"head_sha": None})}, Reason.VERIFY_MISSING),
    "closed": ({"pr": PR.model_copy(update={"state": PrState.CLOSED})}, Reason.PR_NOT_OPEN),
    "merged": ({"pr": PR.model_copy(update={"state": PrState.MERGED})}, Reason.PR_NOT_OPEN),
    "draft": ({"pr": PR.model_copy(update={"draft": True})}, Reason.PR_DRAFT),
    "another base branch": ({"pr": PR.model_copy(update={"base": "other"})}, Reason.NOT_MERGEABLE),
    "another author": (
        {"pr": PR.model_copy(update={"author": make.ALICE, "reviews": (review(by=make.BOB),)})},
        Reason.NOT_OURS,
    ),
    "no review": ({"pr": PR.model_copy(update={"reviews": ()})}, Reason.REVIEW_REQUIRED),
    "stale review": ({"pr": PR.model_copy(update={"reviews": (review(commit=make.SHA_C),)})}, Reason.REVIEW_REQUIRED),
    "own review": ({"pr": PR.model_copy(update={"reviews": (review(by=make.IDENTITY),)})}, Reason.REVIEW_REQUIRED),
    "one person twice": (
        {"pr": PR.model_copy(update={"reviews": (review(), review())}), "approvals_needed": 2},
        Reason.REVIEW_REQUIRED,
    ),
    "changes requested": (
        {"pr": PR.model_copy(update={"reviews": (review(), review(by=make.BOB, verdict="changes_requested"))})},
        Reason.CHANGES_REQUESTED,
    ),
    "changed their mind": (
        {"pr": PR.model_copy(update={"reviews": (review(), review(verdict="changes_requested"))})},
        Reason.CHANGES_REQUESTED,
    ),
    "a bot's review": (
        {"pr": PR.model_copy(update={"reviews": (review(by=make.BOB.model_copy(update={"bot": True})),)})},
        Reason.REVIEW_REQUIRED,
    ),
    "a review that was dismissed": (
        {"pr": PR.model_copy(update={"reviews": (review(), review(verdict="dismissed"))})},
        Reason.REVIEW_REQUIRED,
    ),
    "the branch asks for more": ({"standing": standing(rules=BranchRules(approvals=2))}, Reason.REVIEW_REQUIRED),
    "its owners were not heard": ({"standing": standing(rules=BranchRules(code_owners=True))}, Reason.REVIEW_REQUIRED),
    "on hold": ({"pr": PR.model_copy(update={"held_until": "2026-03-02T00:00:00Z"})}, Reason.HELD_BY_REVIEWER),
    "standing unknown": ({"standing": None}, Reason.NOT_OURS),
    "from another repository": ({"standing": standing(same_repository=False)}, Reason.NOT_OURS),
    "a commit of somebody else": (
        {"commits": (replace(COMMIT, author=make.ALICE),)},
        Reason.NOT_OURS,
    ),
    "committed by somebody else": (
        {"commits": (replace(COMMIT, committer=make.ALICE),)},
        Reason.NOT_OURS,
    ),
    "a commit for another workload": ({"commits": (replace(COMMIT, message="m"),)}, Reason.NOT_OURS),
    "two commits": ({"commits": (COMMIT, COMMIT)}, Reason.NOT_OURS),
    "no commit": ({"commits": ()}, Reason.NOT_OURS),
    "another commit": ({"commits": (replace(COMMIT, sha=make.SHA_C),)}, Reason.NOT_OURS),
    "rules unread": ({"standing": standing(unread="403")}, Reason.RULES_UNREADABLE),
    "our own bypass": ({"standing": standing(bypasses=("ruleset 'main'",))}, Reason.MAY_BYPASS),
    "auto-merge": ({"standing": standing(auto_merge=True)}, Reason.AUTO_MERGE),
    "merge queue": ({"standing": standing(rules=BranchRules(merge_queue=True))}, Reason.MERGE_QUEUE),
    "not mergeable": ({"standing": standing(mergeable=False)}, Reason.NOT_MERGEABLE),
    "mergeable unknown": ({"standing": standing(mergeable=None)}, Reason.NOT_MERGEABLE),
    "frozen": ({"calendar": Verdict.block("calendar", Reason.FROZEN, "holidays")}, Reason.FROZEN),
    "check absent": ({"standing": checked()}, Reason.CHECK_MISSING),
    "check of another app": ({"standing": checked(head_check(app="7"))}, Reason.CHECK_MISSING),
    "a status in place of the check": ({"standing": checked(head_check(app=None))}, Reason.CHECK_MISSING),
    "check skipped": ({"standing": checked(head_check(conclusion="skipped"))}, Reason.CHECK_FAILED),
    "check neutral": ({"standing": checked(head_check(conclusion="neutral"))}, Reason.CHECK_FAILED),
    "check of an older commit": ({"standing": checked(head_check(commit=make.SHA_C))}, Reason.CHECK_MISSING),
    "older success, newer failure": (
        {"standing": checked(head_check(order=1), head_check(order=2, conclusion="failure"))},
        Reason.CHECK_FAILED,
    ),
    "newer failure, told first": (
        {"standing": checked(head_check(order=2, conclusion="failure"), head_check(order=1))},
        Reason.CHECK_FAILED,
    ),
    "a name that looks alike": ({"standing": checked(head_check(name="veri\u00adfy"))}, Reason.CHECK_MISSING),
    "a name in capitals": ({"standing": checked(head_check(name="Verify"))}, Reason.CHECK_MISSING),
    "check in progress": ({"standing": checked(head_check(conclusion=None))}, Reason.CHECK_MISSING),
    "done, then begun again": (
        {"standing": checked(head_check(order=1), head_check(order=2, conclusion=None))},
        Reason.CHECK_MISSING,
    ),
    "any app may, one says no": (
        {"standing": checked(head_check(), head_check(app="7", conclusion="failure"), required=None)},
        Reason.CHECK_FAILED,
    ),
    "any app may, a status says no": (
        {"standing": checked(head_check(), head_check(app=None, conclusion="failure"), required=None)},
        Reason.CHECK_FAILED,
    ),
    "next run only": ({"kind": "Job"}, Reason.PROPOSE_ONLY),
    "kind unknown": ({"kind": ""}, Reason.PROPOSE_ONLY),
}


def rank(reason: Reason) -> int:
    """Where a reason stands in the contract's order."""
    if reason is Reason.KILL_SWITCH:
        return 1
    if reason.startswith(("license_", "binding_", "entitlement_")):
        return 2
    return 3 if reason.startswith("verify_") else 4


def test_all_open_gives_a_permit_for_exactly_this() -> None:
    permit = decide(FACTS, monotonic=5.0).permit
    assert permit is not None
    assert (permit.pr, permit.head_sha, permit.base_sha, permit.tree) == (1, make.SHA_B, make.SHA_A, make.TREE)
    assert (permit.plan_digest, permit.license_kid, permit.issued_at) == (DIGEST, "k1", 5.0)
    assert "seal" not in repr(permit)


@pytest.mark.parametrize("name", CLOSED)
def test_each_closed_gate_alone(name: str) -> None:
    changed, reason = CLOSED[name]
    decision = decide(replace(FACTS, **changed), monotonic=0.0)
    assert decision.permit is None
    assert decision.first is not None
    assert decision.first.reason is reason
    assert decision.first.message
    assert len(decision.verdicts) == len(GATES)


@pytest.mark.parametrize(
    "good",
    [
        checked(head_check()),
        checked(head_check(order=1, conclusion="failure"), head_check(order=2)),
        checked(head_check(), head_check(app="7", conclusion="failure")),
        checked(head_check(), head_check(name="other", conclusion="failure")),
        checked(head_check(app=None), required=None),
        standing(rules=BranchRules(required_checks=(RequiredCheck(name=GATE_CHECK),))),
        standing(rules=BranchRules(code_owners=True, approvals=1), owners_approved=True),
    ],
)
def test_rules_that_are_met(good: Standing) -> None:
    assert decide(replace(FACTS, standing=good), monotonic=0.0).allowed


def test_a_hold_that_has_run_out_holds_nothing() -> None:
    over = PR.model_copy(update={"held_until": format_time(make.NOW)})
    assert decide(replace(FACTS, pr=over), monotonic=0.0).allowed


@pytest.mark.parametrize("committer", [None, WEB_COMMITTER])
def test_a_commit_that_the_forge_made_for_us_is_ours(committer: str | None) -> None:
    us = make.IDENTITY.model_copy(update={"email": "9+mk[bot]@users.noreply.github.com", "account": "9"})
    by = us if committer is None else us.model_copy(update={"email": committer})
    made = replace(COMMIT, author=us, committer=by)
    facts = replace(FACTS, identity=us, pr=PR.model_copy(update={"author": us}), commits=(made,))
    assert decide(facts, monotonic=0.0).allowed
    renamed = us.model_copy(update={"name": "mk-renamed", "email": "9+mk-renamed[bot]@users.noreply.github.com"})
    assert decide(replace(facts, pr=PR.model_copy(update={"author": renamed})), monotonic=0.0).allowed
    twin = us.model_copy(update={"account": "10"})
    assert not decide(replace(facts, pr=PR.model_copy(update={"author": twin})), monotonic=0.0).allowed


def test_an_approval_later_taken_for_the_same_head_counts_again() -> None:
    back = PR.model_copy(update={"reviews": (review(verdict="changes_requested"), review())})
    assert decide(replace(FACTS, pr=back), monotonic=0.0).allowed


def test_email_case_does_not_make_two_people() -> None:
    shout = make.ALICE.model_copy(update={"email": "ALICE@example.invalid"})
    twice = PR.model_copy(update={"reviews": (review(), review(by=shout))})
    assert not decide(replace(FACTS, pr=twice, approvals_needed=2), monotonic=0.0).allowed


def test_no_plan_named_is_the_pull_requests_own() -> None:
    assert decide(replace(FACTS, plan_digest=None), monotonic=0.0).allowed


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(CLOSED)), min_size=1, max_size=6, unique=True))
def test_any_closed_gate_blocks_and_the_first_in_order_gives_the_reason(names: list[str]) -> None:
    changed: dict[str, Any] = {}
    for name in names:
        changed.update(CLOSED[name][0])
    decision = decide(replace(FACTS, **changed), monotonic=0.0)
    assert decision.permit is None
    reasons = [v.reason for v in decision.closed if v.reason]
    assert decision.first is not None
    assert decision.first.reason is reasons[0]
    assert [rank(r) for r in reasons] == sorted(rank(r) for r in reasons)
    if "kill" in changed:
        assert reasons[0] is Reason.KILL_SWITCH
    elif "license" in changed:
        assert rank(reasons[0]) == 2


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_only_the_one_good_world_opens_the_gate(data: st.DataObject) -> None:
    """Each field drawn from good and bad values: a permit exactly when every one is good."""
    bad = {field.name: [FACTS.__getattribute__(field.name)] for field in fields(FACTS)}
    for changed, _ in CLOSED.values():
        for key, value in changed.items():
            if len(changed) == 1:
                bad[key].append(value)
    drawn = {key: data.draw(st.sampled_from(values)) for key, values in bad.items()}
    good = all(value is FACTS.__getattribute__(key) for key, value in drawn.items())
    assert decide(GateFacts(**drawn), monotonic=0.0).allowed is good
