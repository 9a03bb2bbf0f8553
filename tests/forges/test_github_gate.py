"""Forged checks, worthless approvals, and everything that can move: GitHub itself would merge each of these, and we don't.

Our App stands on the bypass list of the only ruleset, so that nothing but our own gate is between a pull request and the base.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from gitops_mk.controller.apply import Applied
from gitops_mk.errors import MkError
from gitops_mk.model.change import GATE_CHECK, LABEL_KILL_SWITCH, VERIFY_CHECK
from gitops_mk.model.verdict import Reason
from tests.support.github.faults import Fault
from tests.support.github_world import HubWorld
from tests.support.make import ALICE, IDENTITY
from tests.support.world import BRANCH

CI = "ci/verify"


def rules_of(world: HubWorld, *more: dict[str, Any], app: bool = True) -> None:
    """The check is required from GitHub Actions' App (or from any), and our App may pass all of it by."""
    check: dict[str, Any] = {"context": CI}
    if app:
        check["integration_id"] = world.hub.actions.id
    status = {"strict_required_status_checks_policy": False, "required_status_checks": [check]}
    world.repo.ruleset(
        "main",
        rules=[{"type": "required_status_checks", "parameters": status}, *more],
        bypass=[{"actor_id": world.app.id, "actor_type": "Integration", "bypass_mode": "always"}],
    )


@pytest.fixture
def ready(world: HubWorld) -> HubWorld:
    """A pull request that is proposed, verified, and green in CI."""
    rules_of(world)
    forge = world.forge()
    proposal = world.propose(forge)
    assert proposal.pr is not None
    assert proposal.pr.head_sha is not None
    assert world.verify(forge).ok
    world.hub.check_run(world.repo, proposal.pr.head_sha, CI)
    return world


def head(world: HubWorld) -> str:
    return world.tip(BRANCH)


def apply(world: HubWorld, **over: Any) -> Applied:
    return world.apply(world.forge(), **over)


def nothing_merged(world: HubWorld, base: str) -> None:
    assert world.pull().merged is False
    assert world.tip() == base
    assert not any(r.path.endswith("/merge") and r.method == "PUT" for r in world.hub.requests)


def test_with_everything_in_order_it_is_merged_and_gone(ready: HubWorld) -> None:
    base, branch = ready.tip(), head(ready)
    applied = apply(ready)
    assert applied.ok, applied.message
    merged = ready.server.commit(ready.tip())
    assert (merged.sha, merged.parents) == (applied.merge_sha, (base, branch))
    assert f"refs/heads/{BRANCH}" not in ready.refs()
    assert [r.body["sha"] for r in ready.hub.requests if r.path.endswith("/merge")] == [branch]
    told = [run for run in ready.repo.runs.values() if run.name == GATE_CHECK]
    assert [run.conclusion for run in told] == ["success"]


def unrun(world: HubWorld) -> None:
    """Take CI's check away."""
    for run in [r for r in world.repo.runs.values() if r.name == CI]:
        del world.repo.runs[run.id]
        world.repo.runs_of[run.head_sha].remove(run)


def instead(**fields: Any) -> Callable[[HubWorld], object]:
    """Another check run in place of CI's."""

    def act(world: HubWorld) -> None:
        unrun(world)
        name = fields.get("name", CI)
        rest = {key: value for key, value in fields.items() if key != "name"}
        world.hub.check_run(world.repo, head(world), name, **rest)

    return act


def other_app(world: HubWorld) -> None:
    unrun(world)
    world.hub.check_run(world.repo, head(world), CI, app=world.hub.app("evil"))


def as_status(world: HubWorld) -> None:
    unrun(world)
    world.hub.status(world.repo, head(world), CI, by=world.alice)


def old_head(world: HubWorld) -> None:
    """Green on the commit before, and our own commit made anew."""
    unrun(world)
    world.hub.check_run(world.repo, world.tip(), CI)


def page_two(world: HubWorld) -> None:
    """The newest run says no, and a hundred others stand before it."""
    unrun(world)
    world.hub.check_run(world.repo, head(world), CI)
    for number in range(120):
        world.hub.check_run(world.repo, head(world), f"other-{number}")
    world.hub.check_run(world.repo, head(world), CI, conclusion="failure")


def duplicate_suite(world: HubWorld) -> None:
    """Twice by the same App: the newer one is not done."""
    world.hub.check_run(world.repo, head(world), CI, status="queued")


FORGERIES: dict[str, tuple[Callable[[HubWorld], object], Reason]] = {
    "absent": (unrun, Reason.CHECK_MISSING),
    "by another App": (other_app, Reason.CHECK_MISSING),
    "a status in its place": (as_status, Reason.CHECK_MISSING),
    "skipped": (instead(conclusion="skipped"), Reason.CHECK_FAILED),
    "neutral": (instead(conclusion="neutral"), Reason.CHECK_FAILED),
    "on an older commit": (old_head, Reason.CHECK_MISSING),
    "older success, newer failure": (
        lambda w: w.hub.check_run(w.repo, head(w), CI, conclusion="failure"), Reason.CHECK_FAILED,
    ),
    "the failure on page two": (page_two, Reason.CHECK_FAILED),
    "a name that looks alike": (instead(name="ci/verify\u00a0"), Reason.CHECK_MISSING),
    "a name in capitals": (instead(name="CI/Verify"), Reason.CHECK_MISSING),
    "in progress": (instead(status="in_progress"), Reason.CHECK_MISSING),
    "done, and queued again": (duplicate_suite, Reason.CHECK_MISSING),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_check_merges_nothing(ready: HubWorld, name: str) -> None:
    act, reason = FORGERIES[name]
    act(ready)
    base = ready.tip()
    applied = apply(ready)
    assert (applied.ok, applied.reason) == (False, reason), applied.message
    nothing_merged(ready, base)
    newest = [run for run in ready.repo.runs.values() if run.name == GATE_CHECK][-1]
    assert newest.conclusion == "failure", "a person's click meets the same condition"


def test_where_any_app_may_give_it_all_that_do_must_agree(ready: HubWorld) -> None:
    rules_of(ready, app=False)
    ready.hub.status(ready.repo, head(ready), CI, "failure", by=ready.alice)
    base = ready.tip()
    assert apply(ready).reason is Reason.CHECK_FAILED
    nothing_merged(ready, base)


def test_classic_protection_counts_as_well(ready: HubWorld) -> None:
    ready.repo.protect("main", required_checks=[("ci/lint", ready.hub.actions.id)], strict=False, enforce_admins=False)
    assert apply(ready).reason is Reason.CHECK_MISSING


def forged_verify(by: str) -> Callable[[HubWorld], object]:
    """Somebody writes our own verify check, with what ours is bound to."""

    def act(world: HubWorld) -> None:
        ours = next(run for run in world.repo.runs.values() if run.name == VERIFY_CHECK)
        bound = ours.external_id
        del world.repo.runs[ours.id]
        world.repo.runs_of[ours.head_sha].remove(ours)
        if by == "status":
            world.hub.status(world.repo, head(world), VERIFY_CHECK, by=world.alice)
        else:
            world.hub.check_run(world.repo, head(world), VERIFY_CHECK, external_id=bound)

    return act


@pytest.mark.parametrize("by", ["status", "another app"])
def test_our_own_check_written_by_somebody_else_is_none(ready: HubWorld, by: str) -> None:
    forged_verify(by)(ready)
    base = ready.tip()
    assert apply(ready).reason is Reason.VERIFY_MISSING
    nothing_merged(ready, base)


# -- approvals ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def reviewed(ready: HubWorld) -> HubWorld:
    """One approval is asked for by the branch."""
    asked = {
        "required_approving_review_count": 1, "dismiss_stale_reviews_on_push": True, "require_code_owner_review": False,
        "require_last_push_approval": False, "required_review_thread_resolution": False,
    }  # fmt: skip
    rules_of(ready, {"type": "pull_request", "parameters": asked})
    return ready


def test_an_approval_by_somebody_who_may_write_opens_the_gate(reviewed: HubWorld) -> None:
    assert apply(reviewed).reason is Reason.REVIEW_REQUIRED
    reviewed.hub.review(reviewed.pull(), reviewed.alice)
    assert apply(reviewed).ok


def dismissed(world: HubWorld) -> None:
    world.hub.dismiss(world.pull(), world.hub.review(world.pull(), world.alice))


def changed_mind(world: HubWorld) -> None:
    world.hub.review(world.pull(), world.alice)
    world.hub.review(world.pull(), world.alice, "CHANGES_REQUESTED")


def deleted_user(world: HubWorld) -> None:
    carol = world.hub.user("carol")
    world.hub.collaborate(world.repo, carol, "write")
    world.hub.review(world.pull(), carol)
    world.hub.delete_user(carol)


def reader(world: HubWorld) -> None:
    carol = world.hub.user("carol")
    world.hub.collaborate(world.repo, carol, "read")
    world.hub.review(world.pull(), carol)


def stale(world: HubWorld) -> None:
    world.hub.review(world.pull(), world.alice, commit=world.tip())


APPROVALS: dict[str, tuple[Callable[[HubWorld], object], Reason]] = {
    "of an earlier commit": (stale, Reason.REVIEW_REQUIRED),
    "by ourselves": (lambda w: w.hub.review(w.pull(), w.app.bot), Reason.REVIEW_REQUIRED),
    "by another bot": (lambda w: w.hub.review(w.pull(), w.hub.app("helper").bot), Reason.REVIEW_REQUIRED),
    "dismissed": (dismissed, Reason.REVIEW_REQUIRED),
    "taken back": (changed_mind, Reason.CHANGES_REQUESTED),
    "by somebody who is gone": (deleted_user, Reason.REVIEW_REQUIRED),
    "by somebody from outside": (lambda w: w.hub.review(w.pull(), w.hub.user("eve")), Reason.REVIEW_REQUIRED),
    "by somebody who may only read": (reader, Reason.REVIEW_REQUIRED),
    "a remark": (lambda w: w.hub.review(w.pull(), w.alice, "COMMENTED"), Reason.REVIEW_REQUIRED),
}  # fmt: skip


@pytest.mark.parametrize("name", APPROVALS)
def test_a_worthless_approval_merges_nothing(reviewed: HubWorld, name: str) -> None:
    act, reason = APPROVALS[name]
    act(reviewed)
    base = reviewed.tip()
    applied = apply(reviewed)
    assert (applied.ok, applied.reason) == (False, reason), applied.message
    nothing_merged(reviewed, base)


def test_a_remark_after_an_approval_takes_nothing_back(reviewed: HubWorld) -> None:
    reviewed.hub.review(reviewed.pull(), reviewed.alice)
    reviewed.hub.review(reviewed.pull(), reviewed.alice, "COMMENTED")
    assert apply(reviewed).ok


# -- what the pull request is ------------------------------------------------------------------------------------------


def by_somebody_else(world: HubWorld) -> None:
    world.pull().issue.user = world.alice


def auto_merge(world: HubWorld) -> None:
    """Somebody turns it on while CI still works."""
    unrun(world)
    world.repo.auto_merge(world.pull(), world.alice)


def second_commit(world: HubWorld) -> None:
    world.commit({"extra": b"x"}, branch=BRANCH, by=IDENTITY)


def humans_commit(world: HubWorld) -> None:
    world.commit({"extra": b"x"}, branch=BRANCH, by=ALICE)


QUEUE: dict[str, Any] = {
    "check_response_timeout_minutes": 60, "grouping_strategy": "ALLGREEN", "max_entries_to_build": 5,
    "max_entries_to_merge": 5, "merge_method": "MERGE", "min_entries_to_merge": 1, "min_entries_to_merge_wait_minutes": 5,
}  # fmt: skip


STANDS: dict[str, tuple[Callable[[HubWorld], object], set[Reason]]] = {
    "a draft": (lambda w: w.hub.draft(w.pull()), {Reason.PR_DRAFT}),
    "auto-merge": (auto_merge, {Reason.AUTO_MERGE}),
    "a merge queue": (lambda w: rules_of(w, {"type": "merge_queue", "parameters": QUEUE}), {Reason.MERGE_QUEUE}),
    "opened by somebody else": (by_somebody_else, {Reason.NOT_OURS, Reason.VERIFY_MISSING}),
    "a second commit": (second_commit, {Reason.VERIFY_STALE, Reason.VERIFY_MISSING}),
    "somebody's commit": (humans_commit, {Reason.VERIFY_STALE, Reason.VERIFY_MISSING}),
    "the label": (lambda w: w.hub.label(w.pull(), LABEL_KILL_SWITCH), {Reason.KILL_SWITCH}),
    "closed": (lambda w: w.hub.close(w.pull(), w.alice), {Reason.VERIFY_STALE, Reason.VERIFY_MISSING}),
    "its branch deleted": (lambda w: w.hub.move(w.repo, BRANCH, None), {Reason.VERIFY_MISSING, Reason.VERIFY_STALE}),
    "the base moved": (lambda w: w.commit({"README": b"x"}), {Reason.VERIFY_STALE}),
}  # fmt: skip


@pytest.mark.parametrize("name", STANDS)
def test_what_it_is_closes_the_gate(ready: HubWorld, name: str) -> None:
    act, reasons = STANDS[name]
    act(ready)
    base = ready.tip()
    applied = apply(ready)
    assert not applied.ok
    assert applied.reason in reasons, applied.message
    nothing_merged(ready, base)


def test_a_fork_with_our_branch_name_is_none_of_ours(ready: HubWorld) -> None:
    fork = ready.hub.fork(ready.repo, "eve")
    pull = ready.hub.open_pr(fork.parent or ready.repo, f"eve:{BRANCH}", by=ready.hub.user("eve"), title="mine")
    forge = ready.forge()
    assert forge.get_pr(pull.number) is None
    assert [pr.number for pr in forge.list_prs()] == [1]


def test_a_repository_that_was_renamed_or_replaced_is_told(ready: HubWorld) -> None:
    forge = ready.forge()
    ready.hub.rename(ready.repo, "team/other")
    with pytest.raises(
        MkError, match="has become team/other|installed on the repository|does not exist or is not accessible"
    ):
        ready.forge()
    # A new repository takes the old name, with a pull request of the same number.
    base = ready.tip()
    imposter = ready.hub.repo("team/gitops", ready.repo.git_dir)
    ready.hub.install(
        ready.app, imposter, permissions={"contents": "write", "pull_requests": "write", "checks": "write"}
    )
    ready.hub.open_pr(imposter, BRANCH, by=ready.app.bot)
    with suppress(MkError):
        assert not ready.apply(forge).ok
    assert ready.tip() == base
    assert not any(r.path.endswith("/merge") for r in ready.hub.requests)


# -- whatever moves, whenever ------------------------------------------------------------------------------------------


MOVES: dict[str, Callable[[HubWorld], object]] = {
    "a push to the head": lambda w: w.commit({"extra": b"x"}, branch=BRANCH, by=IDENTITY),
    "a push to the base": lambda w: w.commit({"README": b"x"}),
    "a no": lambda w: w.hub.review(w.pull(), w.bob, "CHANGES_REQUESTED"),
    "CI turns red": lambda w: w.hub.check_run(w.repo, head(w), CI, conclusion="failure"),
    "the label": lambda w: w.hub.label(w.pull(), LABEL_KILL_SWITCH),
}
# GitHub holds the head, and the merge shows its base; a word that comes after the gate's last look is not heard any more.
HELD = {"a push to the head", "a push to the base"}
LAST = 12


@pytest.mark.parametrize("name", MOVES)
def test_what_moves_before_any_request_merges_nothing_unverified(ready: HubWorld, name: str) -> None:
    """At each request of an apply in turn: nothing but the verified head is ever merged, and only onto the verified base."""
    ready.hub.requests.clear()
    saved = ready.refs()
    verified_head = head(ready)
    calm = len(requests_of_apply(ready, saved))
    for at in range(1 if name in HELD else calm - LAST, calm + 1):
        outcome = disturbed(ready, MOVES[name], at)
        merged = ready.pull().merged
        if merged:
            told = ready.server.commit(ready.pull().merge_commit_sha or "")
            assert told.parents[1:] == (verified_head,), f"{name} before request {at}: another head was merged"
            if told.parents[0] != saved["refs/heads/main"]:
                assert isinstance(outcome, MkError), f"{name} before request {at}: reported as applied"
                assert LABEL_KILL_SWITCH in {label.name for label in ready.pull().issue.labels}
        else:
            assert not (isinstance(outcome, Applied) and outcome.ok)
        restore(ready, saved)


def requests_of_apply(world: HubWorld, saved: dict[str, str]) -> list[str]:
    """The requests of an undisturbed apply, up to its merge."""
    first = len(world.hub.requests)
    assert apply(world).ok
    paths = [f"{r.method} {r.path}" for r in world.hub.requests[first:]]
    restore(world, saved)
    return paths[: next(i for i, path in enumerate(paths) if path.endswith("/merge")) + 1]


def disturbed(world: HubWorld, act: Callable[[HubWorld], object], at: int) -> Applied | MkError:
    world.hub.faults.add("*", ".*", Fault.before(lambda: act(world)), nth=at)
    try:
        return apply(world)
    except MkError as exc:
        return exc
    finally:
        world.hub.faults.clear()


def restore(world: HubWorld, saved: dict[str, str]) -> None:
    """Back to the one open pull request, verified and green."""
    pull = world.pull()
    for other in [p for p in world.repo.pulls if p.number != 1]:
        del world.repo.issues[other.number]
    for ref in world.refs().keys() - saved.keys():
        world.hub.move(world.repo, ref.removeprefix("refs/heads/"), None)
    pull.merged_at, pull.merge_commit_sha, pull.merged_by, pull.auto_merge = None, None, None, None
    pull.issue.state, pull.issue.labels = "open", [one for one in pull.issue.labels if one.name == "modekeeper"]
    pull.reviews.clear()
    for ref, sha in saved.items():
        world.server.run("update-ref", ref, sha)
    world.hub._open[pull.id] = pull
    world.hub.head_moves(pull, saved[f"refs/heads/{BRANCH}"])
    for run in [r for r in world.repo.runs.values() if r.conclusion == "failure" or r.name == GATE_CHECK]:
        del world.repo.runs[run.id]
        world.repo.runs_of[run.head_sha].remove(run)
    intents = world.path.parent / "intents" / "merge_intent.json"
    intents.unlink(missing_ok=True)
