"""What `ports.Forge` promises, whichever forge it is: one suite over all of them; where they may differ stands in `DIFFERS`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.core.render.describe import trailers
from gitops_mk.errors import ConflictError, ForgeError, InputError, IntegrityError
from gitops_mk.model.change import (
    GATE_CHECK,
    LABEL_KILL_SWITCH,
    ROLLOUT_CHECK,
    VERIFY_CHECK,
    Comment,
    PrState,
    PullRequest,
    Review,
)
from gitops_mk.model.permit import PERMIT_LIFE_S
from gitops_mk.model.settings import KILL_SWITCH_PATH, ForgeSettings
from gitops_mk.model.times import format_time
from gitops_mk.ports import Forge
from tests.forges.peers import KINDS, LIVE, HubPeer, Peer, check_of, open_peer, opened, permit_of, plan_of, push, record
from tests.support.github.faults import Fault
from tests.support.github.npm import MISSING
from tests.support.make import ALICE, IDENTITY, NOW

# What a caller may not rely on: (the local forge, GitHub).
DIFFERS = {
    "reviews are recorded by us": (True, False),
    "comments are told with a pull request": (True, False),
    "checks on a head are told before `live`": (True, False),
    "who closed it is told by name": (True, False),
    "a commit is made and signed by the forge": (False, True),
    "the forge itself keeps a kill switch": (False, True),
    "the merge's title is as asked for": (True, False),
    "calls are counted": (False, True),
}


def differs(peer: Peer, what: str) -> bool:
    return DIFFERS[what][peer.kind != "local"]


@pytest.fixture(params=KINDS)
def peer(
    request: pytest.FixtureRequest, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Peer]:
    with open_peer(request.param, embedded, tmp_path / "peer", monkeypatch) as made:
        yield made


@pytest.fixture
def forge(peer: Peer) -> Forge:
    return peer.forge()


def read(forge: Forge, number: int) -> PullRequest:
    found = forge.get_pr(number)
    assert found is not None
    return found


def updated(forge: Forge, pr: PullRequest, **over: Any) -> PullRequest:
    return forge.update_pr(pr, pr.model_copy(update=over))


def test_github_com_itself() -> None:
    """Says so where it was not tried: see .github/workflows/live.yml."""
    if not os.environ.get(LIVE):
        pytest.skip(f"NOT TESTED: {MISSING}{LIVE} names no repository on github.com to run this suite against")
    assert "live" in KINDS


# -- branches ----------------------------------------------------------------------------------------------------------


def test_branches_move_by_compare_and_swap(peer: Peer, forge: Forge) -> None:
    chosen = plan_of(peer)
    branch = chosen.workload.branch
    sha = push(peer, forge, chosen)
    assert peer.tips()[branch] == sha == forge.branch_tip(branch)
    for old in (None, "f" * 40, forge.base_tip()):
        with pytest.raises(ConflictError) as caught:
            forge.push_branch(branch, old=old, new=forge.base_tip())
        assert caught.value.ref == f"refs/heads/{branch}"
    theirs = peer.commit({"more": b"x"}, branch)
    with pytest.raises(ConflictError):
        forge.push_branch(branch, old=sha, new=None)
    assert forge.branch_tip(branch) == theirs == peer.tips()[branch], "a lost race is followed by the truth"
    forge.push_branch(branch, old=theirs, new=None)
    assert forge.branch_tip(branch) is None
    assert branch not in peer.tips()


def test_many_branches_move_at_once_each_on_its_own(peer: Peer, forge: Forge) -> None:
    shas = {name: push(peer, forge, plan_of(peer, name)) for name in ("a", "b")}
    branches = {name: plan_of(peer, name).workload.branch for name in "abcd"}
    moved = peer.commit({"x": b"x"}, branches["b"])
    base = forge.base_tip()
    lost = forge.push_branches(
        {branches["a"]: (shas["a"], None), branches["b"]: (shas["b"], None), branches["c"]: (None, base),
         branches["d"]: ("f" * 40, base)}
    )  # fmt: skip
    assert set(lost) == {branches["b"], branches["d"]}
    assert all(isinstance(why, ConflictError) for why in lost.values())
    tips = peer.tips()
    assert (branches["a"] in tips, tips[branches["b"]], tips[branches["c"]]) == (False, moved, base)
    assert branches["d"] not in tips
    assert forge.push_branches({}) == {}
    forge.refresh()
    assert forge.branch_tip(branches["b"]) == moved


def test_the_base_takes_the_kill_switch_and_nothing_else_from_us(peer: Peer, forge: Forge) -> None:
    base = forge.base_tip()
    sha = forge.commit_base(old=base, files={KILL_SWITCH_PATH: b"stop\n"}, message="Throw")
    assert peer.tips()[peer.base] == sha == forge.base_tip()
    with pytest.raises(ConflictError) as caught:
        forge.commit_base(old=base, files={KILL_SWITCH_PATH: b"x"}, message="Throw")
    assert caught.value.ref == f"refs/heads/{peer.base}"
    with pytest.raises(IntegrityError, match="only a merge"):
        forge.commit_base(old=sha, files={"overlays/demo/kustomization.yaml": b"x"}, message="m")
    assert peer.tips()[peer.base] == sha


# -- pull requests -----------------------------------------------------------------------------------------------------


def test_one_is_opened_and_told_as_it_was_asked_for(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge, held_until=format_time(NOW), rollback_of=7, labels=("modekeeper", "team-a"))
    asked = record(peer, forge, plan_of(peer), held_until=format_time(NOW), rollback_of=7)
    same = (
        "title", "body", "base", "branch", "workload", "chord", "plan_digest", "held_until", "rollback_of", "changes"
    )  # fmt: skip
    assert {name: getattr(pr, name) for name in same} == {name: getattr(asked, name) for name in same}
    assert (pr.state, pr.draft, pr.author.key) == (PrState.OPEN, False, forge.identity.key)
    assert pr.head_sha == peer.tips()[pr.branch]
    assert set(pr.labels) == {"modekeeper", "team-a"}
    other = peer.forge()
    assert read(other, pr.number) == pr
    assert pr in other.list_prs()
    assert pr in other.list_prs(open_only=True)
    assert other.get_pr(999_999) is None
    assert other.live(999_999) is None
    if differs(peer, "calls are counted"):
        calls, _ = forge.usage()
        assert calls["POST"] >= 1
    else:
        assert forge.usage() == ({}, None)


def test_a_branch_keeps_the_one_it_has(peer: Peer, forge: Forge) -> None:
    first = opened(peer, forge)
    unseen = peer.forge()
    chosen = plan_of(peer)
    for late in (forge, unseen):
        assert (
            late.create_pr(record(peer, late, chosen, title="another")).model_copy(
                update={"updated_at": first.updated_at}
            )
            == first
        )
    assert [pr.number for pr in peer.forge().list_prs() if pr.branch == first.branch] == [first.number]


def test_one_opened_unseen_by_another_process_is_given_back(peer: Peer, forge: Forge) -> None:
    late = peer.forge()
    first = opened(peer, forge)
    found = late.create_pr(record(peer, late, plan_of(peer), title="late"))
    assert (found.number, found.title) == (first.number, first.title)


def test_an_update_writes_what_differs_and_refuses_what_changed(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    newer = updated(forge, pr, title="Newer", body="Text\n")
    assert (newer.title, newer.body) == ("Newer", "Text\n")
    assert read(peer.forge(), pr.number).title == "Newer"
    with pytest.raises(ConflictError):
        updated(forge, pr, title="lost")
    peer.edit(newer, title="By a person")
    late = peer.forge()
    with pytest.raises(ConflictError):
        updated(forge if peer.kind != "local" else late, newer, title="lost")
    assert read(late, pr.number).title == "By a person"


def test_an_update_does_not_mind_a_branch_that_moved(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    sha = push(peer, forge, plan_of(peer), b"moved")
    assert updated(forge, pr, title="Moved").head_sha == sha


def test_what_people_labelled_stays(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    peer.label(pr, "theirs")
    forge = peer.forge()
    pr = read(forge, pr.number)
    now = updated(forge, pr, labels=(*(one for one in pr.labels if one != "modekeeper"), "mine"))
    assert set(now.labels) == {"theirs", "mine"}
    assert set(read(peer.forge(), pr.number).labels) == {"theirs", "mine"}


def test_drafts_become_ready_and_drafts_again(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge, draft=True)
    assert pr.draft
    pr = updated(forge, pr, draft=False)
    assert not pr.draft
    assert not read(peer.forge(), pr.number).draft
    assert updated(forge, pr, draft=True).draft


def test_one_that_was_sent_elsewhere_is_told_and_put_back(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    other = plan_of(peer, "elsewhere").workload.branch
    forge.push_branch(other, old=None, new=forge.base_tip())
    peer.edit(pr, base=other)
    forge = peer.forge()
    moved = read(forge, pr.number)
    assert moved.base == other
    assert updated(forge, moved, base=peer.base).base == peer.base
    assert read(peer.forge(), pr.number).base == peer.base


def test_comments_are_appended(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    for text in ("one", "two"):
        pr = forge.add_comment(pr.number, Comment(by=forge.identity, at=format_time(NOW), text=text))
    if differs(peer, "comments are told with a pull request"):
        assert [c.text for c in read(peer.forge(), pr.number).comments] == ["one", "two"]
    elif isinstance(peer, HubPeer):
        assert [c.body for c in peer.world.pull(pr.number).issue.comments] == ["one", "two"]


def test_reviews(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    review = Review(by=ALICE, verdict="approved", commit=pr.head_sha or "", at=format_time(NOW))
    if differs(peer, "reviews are recorded by us"):
        assert forge.add_review(pr.number, review).reviews == (review,)
    else:
        with pytest.raises(InputError, match="is reviewed on GitHub"):
            forge.add_review(pr.number, review)


@pytest.mark.parametrize("name", [VERIFY_CHECK, GATE_CHECK])
def test_checks_are_bound_to_their_commit(peer: Peer, forge: Forge, name: str) -> None:
    pr = opened(peer, forge)
    base, head = forge.base_tip(), pr.head_sha or ""
    tree = forge.repo.merge_tree(base, head)
    for conclusion in ("failure", "success"):
        forge.add_check(pr.number, check_of(pr, base, tree, name=name, conclusion=conclusion, summary=conclusion))
    other = peer.forge()
    if differs(peer, "checks on a head are told before `live`"):
        assert read(other, pr.number).newest_check(name, head) is not None
    live = other.live(pr.number)
    assert live is not None
    newest = live.newest_check(name, head)
    assert newest is not None
    assert (newest.conclusion, newest.base, newest.tree, newest.plan_digest) == ("success", base, tree, pr.plan_digest)
    assert newest.summary == "success"
    moved = push(peer, other, plan_of(peer), b"moved")
    again = other.live(pr.number)
    assert again is not None
    assert again.head_sha == moved
    assert again.newest_check(name, moved) is None, "what was said of one commit says nothing of the next"


def test_what_came_of_the_rollout_is_kept(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    check = check_of(pr, forge.base_tip(), name=ROLLOUT_CHECK, conclusion="failure", summary="it did not start")
    forge.add_check(pr.number, check)
    found = read(peer.forge(), pr.number)
    assert found.newest_check(ROLLOUT_CHECK, check.commit) == check
    assert found.body == "Bödy\n", "people don't see it"


def test_closed_by_us_says_why_and_who(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    closed = updated(forge, pr, state=PrState.CLOSED, closed_by=forge.identity, close_reason="not needed any more")
    forge.push_branch(pr.branch, old=pr.head_sha, new=None)
    for one in (closed, read(peer.forge(), pr.number)):
        assert (one.state, one.close_reason, one.head_sha) == (PrState.CLOSED, "not needed any more", pr.head_sha)
        assert one.closed_by is not None
        assert one.closed_by.key == forge.identity.key
    assert pr.number not in {one.number for one in peer.forge().list_prs(open_only=True)}
    again = opened(peer, forge)
    assert again.number != pr.number


def test_closed_by_a_person_is_told_from_closed_by_us(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    peer.close(pr)
    forge.refresh()
    found = read(forge, pr.number)
    assert found.state is PrState.CLOSED
    assert found.closed_by is not None
    assert found.closed_by.key != forge.identity.key
    if differs(peer, "who closed it is told by name"):
        assert found.closed_by == ALICE


# -- merging -----------------------------------------------------------------------------------------------------------


def nothing_merged(peer: Peer, forge: Forge, pr: PullRequest, base: str) -> None:
    assert peer.tips()[peer.base] == base
    assert read(peer.forge(), pr.number).state is not PrState.MERGED


def test_a_merge_is_of_what_the_permit_names_and_happens_once(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    chosen, base = plan_of(peer), forge.base_tip()
    permit = permit_of(peer, forge, pr)
    sha = forge.merge(permit, message=f"Merge it\n\n{trailers(chosen)}\n")
    info = forge.repo.commit(sha)
    assert (info.parents, info.tree) == ((base, pr.head_sha), permit.tree)
    title = "Merge it" if differs(peer, "the merge's title is as asked for") else f"Merge it (#{pr.number})"
    assert info.message.splitlines()[0] == title
    assert peer.tips()[peer.base] == sha == forge.base_tip()
    assert pr.branch not in peer.tips()
    for one in (read(forge, pr.number), read(peer.forge(), pr.number)):
        assert (one.state, one.merge_sha, one.head_sha) == (PrState.MERGED, sha, pr.head_sha)
    (change,) = forge.applied(pr.workload)
    assert (change.commit, change.plan_digest, change.changes) == (
        sha, pr.plan_digest, {"dataloader_num_workers": (2, 4)},
    )  # fmt: skip
    assert forge.applied("ml/other") == ()
    with pytest.raises(IntegrityError, match="used before"):
        forge.merge(permit, message="m\n")
    assert peer.tips()[peer.base] == sha


@pytest.mark.parametrize("age", [PERMIT_LIFE_S + 1, -1.0])
def test_a_permit_expires(peer: Peer, forge: Forge, age: float) -> None:
    pr = opened(peer, forge)
    permit, base = permit_of(peer, forge, pr), forge.base_tip()
    peer.pass_time(age)
    with pytest.raises(IntegrityError, match="older than"):
        forge.merge(permit, message="m\n")
    nothing_merged(peer, forge, pr, base)


@pytest.mark.parametrize("move", ["head", "base", "closed", "head deleted"])
@pytest.mark.parametrize("seen", [False, True])
def test_what_moved_since_the_gate_merges_nothing(peer: Peer, forge: Forge, move: str, seen: bool) -> None:
    pr = opened(peer, forge)
    permit = permit_of(peer, forge, pr)
    if move == "closed":
        peer.close(pr)
    elif move == "head deleted":
        peer.forge().push_branch(pr.branch, old=pr.head_sha, new=None)
    else:
        peer.commit({"other": b"x"}, pr.branch if move == "head" else peer.base)
    if seen:
        forge.refresh()
    base = peer.tips()[peer.base]
    with pytest.raises(ConflictError) as caught:
        forge.merge(permit, message="m\n")
    if move in ("head", "base"):
        assert caught.value.ref == f"refs/heads/{pr.branch if move == 'head' else peer.base}"
    nothing_merged(peer, forge, pr, base)


def test_how_it_stands(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    standing = forge.standing(pr)
    assert (standing.same_repository, standing.mergeable, standing.auto_merge) == (True, True, False)
    assert all(finding.name for finding in forge.examine())


# -- stopping ----------------------------------------------------------------------------------------------------------


def test_it_can_be_stopped(peer: Peer, forge: Forge) -> None:
    pr = opened(peer, forge)
    assert not forge.stopped().active
    forge.stop(pr.number, "something else was merged")
    for one in (forge, peer.forge()):
        one.refresh()
        reading = one.stopped()
        if differs(peer, "the forge itself keeps a kill switch"):
            assert (reading.configured, reading.active) == (True, True)
            assert LABEL_KILL_SWITCH in read(one, pr.number).labels
        else:
            assert one.repo.read(one.base_tip(), KILL_SWITCH_PATH) == b"something else was merged\n"


# -- commits that the forge makes --------------------------------------------------------------------------------------


def staged(peer: Peer) -> list[str]:
    return [name for name in peer.tips() if name.startswith("modekeeper/staging/")]


def signing(peer: Peer) -> Forge:
    peer.settings = ForgeSettings(kind="github", signed_commits=True)
    return peer.forge()


def asked(forge: Forge, base: str, text: bytes = b"x") -> tuple[str, dict[str, bytes | None], str]:
    files: dict[str, bytes | None] = {"signed/new.txt": text}
    message = "Change\n\nWhy."
    tree = forge.repo.write_tree(base, files)
    return forge.repo.write_commit(tree=tree, parents=[base], message=message, author=IDENTITY, time=1), files, message


def test_a_commit_is_made_by_the_forge_where_it_is_asked_to(peer: Peer, forge: Forge) -> None:
    commit, files, message = asked(forge, forge.base_tip())
    assert forge.signed(commit, base=forge.base_tip(), files=files, message=message) == commit
    forge = signing(peer)
    base = forge.base_tip()
    commit, files, message = asked(forge, base)
    made = forge.signed(commit, base=base, files=files, message=message)
    if not differs(peer, "a commit is made and signed by the forge"):
        assert made == commit
        return
    found, wanted = forge.repo.commit(made), forge.repo.commit(commit)
    assert made != commit
    assert (found.tree, found.parents, found.message.strip()) == (wanted.tree, (base,), message)
    assert found.author.email == forge.identity.email
    assert staged(peer) == []
    branch = plan_of(peer).workload.branch
    forge.push_branch(branch, old=None, new=made)
    assert peer.tips()[branch] == made


FAULTS = {
    "refused": Fault.status(200, {"data": None, "errors": [{"message": "no"}]}), "502": Fault.status(502),
    "dropped": Fault.drop(), "403": Fault.status(403),
}  # fmt: skip


@pytest.mark.parametrize("peer", ["app"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_left_of_a_commit_that_was_not_made(peer: Peer, fault: str) -> None:
    assert isinstance(peer, HubPeer)
    forge = signing(peer)
    base = forge.base_tip()
    commit, files, message = asked(forge, base)
    peer.world.hub.faults.add("POST", "graphql", FAULTS[fault])
    with pytest.raises(ForgeError):
        forge.signed(commit, base=base, files=files, message=message)
    assert staged(peer) == []
    assert forge.signed(commit, base=base, files=files, message=message) != commit


@pytest.mark.parametrize("peer", ["app"], indirect=True)
@pytest.mark.parametrize("fault", [Fault.status_after(502), Fault.drop_after()], ids=["502 after", "dropped after"])
def test_a_commit_whose_answer_was_lost_is_found(peer: Peer, fault: Fault) -> None:
    assert isinstance(peer, HubPeer)
    forge = signing(peer)
    base = forge.base_tip()
    commit, files, message = asked(forge, base)
    peer.world.hub.faults.add("POST", "graphql", fault)
    made = forge.signed(commit, base=base, files=files, message=message)
    assert forge.repo.commit(made).parents == (base,)
    assert sum(r.path.endswith("graphql") for r in peer.world.hub.requests) == 1
    assert staged(peer) == []


@pytest.mark.parametrize("peer", ["app"], indirect=True)
def test_a_commit_onto_something_else_is_refused(peer: Peer) -> None:
    """Somebody pushes to the staging branch in between: `expectedHeadOid` holds, and what stands there is not taken."""
    assert isinstance(peer, HubPeer)
    forge, hub = signing(peer), peer.world.hub
    base = forge.base_tip()
    commit, files, message = asked(forge, base)
    staging = f"modekeeper/staging/{commit[:16]}"
    hub.faults.add("POST", "graphql", Fault.before(lambda: hub.commit(peer.world.repo, staging, {"evil": b"x"})))
    with pytest.raises(ForgeError):
        forge.signed(commit, base=base, files=files, message=message)
    assert staged(peer) == []
