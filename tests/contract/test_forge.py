"""What `ports.Forge` promises: one suite over the local forge on a path and on git over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gitops_mk.adapters import git
from gitops_mk.adapters.forge_local import PR_REFS, LocalForge
from gitops_mk.core import gate
from gitops_mk.core.render.describe import trailers
from gitops_mk.errors import ConflictError, ForgeError, GitError, InputError, IntegrityError
from gitops_mk.model.change import TRAILER_WORKLOAD, VERIFY_CHECK, Check, Comment, PrState, PullRequest, Review
from gitops_mk.model.gate import KillReading, VerifyOutcome
from gitops_mk.model.git import CommitInfo
from gitops_mk.model.permit import PERMIT_LIFE_S, Permit
from gitops_mk.model.settings import KILL_SWITCH_PATH
from gitops_mk.model.standing import Standing
from gitops_mk.model.times import format_time
from gitops_mk.model.verdict import Verdict
from tests.support.githttp import GitServer, git_server
from tests.support.make import ALICE, BOB, IDENTITY, NOW, plan, pull_request
from tests.support.world import BRANCH, LICENSED, World, copy_of, template


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("embedded"))


@pytest.fixture(params=["path", "http"])
def world(
    request: pytest.FixtureRequest, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.delenv(git.TOKEN_VARIABLE, raising=False)
    path = copy_of(embedded, tmp_path / "gitops.git")
    if request.param == "path":
        made = World(path)
        yield made
        made.close()
        return
    monkeypatch.setenv(git.HTTP_VARIABLE, "1")
    with git_server(tmp_path) as server:
        made = World(path, remote=server.remote("gitops.git"))
        yield made
        made.close()


@pytest.fixture
def forge(world: World) -> LocalForge:
    return world.forge()


def branch_of(world: World, forge: LocalForge, branch: str = BRANCH, text: bytes = b"new") -> str:
    """One commit on a branch, with the trailers of a plan."""
    base = forge.base_tip()
    tree = forge.repo.write_tree(base, {f"file-{branch.replace('/', '-')}": text})
    message = f"Change\n\n{trailers(plan())}\n"
    sha = forge.repo.write_commit(tree=tree, parents=[base], message=message, author=IDENTITY, time=1_767_225_700)
    forge.push_branch(branch, old=forge.branch_tip(branch), new=sha)
    return sha


def review(text: str = "", by: object = ALICE, commit: str = "a" * 40) -> Review:
    return Review.model_validate(
        {"by": by, "verdict": "approved", "commit": commit, "at": format_time(NOW), "comment": text}
    )


def ours(sha: str, workload: str) -> CommitInfo:
    """A commit as we would make it."""
    return CommitInfo(
        sha=sha, tree=sha, parents=(), author=IDENTITY, committer=IDENTITY, time=0,
        message=f"{TRAILER_WORKLOAD}: {workload}",
    )  # fmt: skip


def permit_of(forge: LocalForge, pr: PullRequest, *, monotonic: float, tree: str | None = None) -> Permit:
    """A real permit, from the real gate: the only place there is to get one."""
    base, head = forge.base_tip(), pr.head_sha or ""
    tree = tree or forge.repo.merge_tree(base, head) or ""
    steps = (Verdict.allow("step"),)
    outcome = VerifyOutcome(
        ok=True, base=base, head=head, tree=tree, plan_digest=pr.plan_digest, workload=pr.workload, steps=steps
    )
    check = Check(
        name=VERIFY_CHECK, commit=head, base=base, plan_digest=pr.plan_digest, conclusion="success", summary="",
        tree=tree, at=format_time(NOW),
    )  # fmt: skip
    decision = gate.decide(
        gate.GateFacts(
            kill=(KillReading(source="test", configured=True, active=False, detail="clear"),),
            license=LICENSED,
            pr=pr.model_copy(update={"checks": (check,)}),
            plan_digest=None,
            base_branch="main",
            base_tip=base,
            verified=outcome,
            reported_ok=None,
            approvals_needed=0,
            identity=forge.identity,
            author=IDENTITY,
            kind="Deployment",
            standing=Standing(same_repository=True, mergeable=True),
            commits=(ours(head, pr.workload),),
            calendar=Verdict.allow("calendar"),
            now=NOW,
        ),
        monotonic=monotonic,
    )
    assert decision.permit is not None, decision.first
    return decision.permit


def proposed(world: World, forge: LocalForge) -> PullRequest:
    branch_of(world, forge)
    return forge.create_pr(pull_request(plan_digest=plan().digest))


# -- branches ----------------------------------------------------------------------------------------------------------


def test_a_branch_is_made_moved_and_deleted_by_compare_and_swap(world: World, forge: LocalForge) -> None:
    sha = branch_of(world, forge)
    assert forge.branch_tip(BRANCH) == sha == world.tip(BRANCH)
    for old in (None, "f" * 40, forge.base_tip()):
        with pytest.raises(ConflictError) as caught:
            forge.push_branch(BRANCH, old=old, new=forge.base_tip())
        assert caught.value.ref == f"refs/heads/{BRANCH}"
    assert world.tip(BRANCH) == sha
    forge.push_branch(BRANCH, old=sha, new=None)
    assert forge.branch_tip(BRANCH) is None
    assert f"refs/heads/{BRANCH}" not in world.refs()
    with pytest.raises(ConflictError):
        forge.push_branch(BRANCH, old=sha, new=None)


def test_what_others_pushed_is_seen_after_a_refresh(world: World, forge: LocalForge) -> None:
    other = world.forge()
    sha = branch_of(world, other)
    assert forge.branch_tip(BRANCH) is None
    forge.refresh()
    assert forge.branch_tip(BRANCH) == sha
    other.push_branch(BRANCH, old=sha, new=None)
    forge.refresh()
    assert forge.branch_tip(BRANCH) is None


def test_a_lost_race_is_followed_by_the_truth(world: World, forge: LocalForge) -> None:
    other = world.forge()
    sha = branch_of(world, other)
    with pytest.raises(ConflictError):
        branch_of(world, forge, text=b"other")
    assert forge.branch_tip(BRANCH) == sha


def test_a_base_branch_that_is_not_there_is_told(world: World, forge: LocalForge) -> None:
    world.server.run("update-ref", "-d", "refs/heads/main")
    forge.refresh()
    with pytest.raises(ForgeError, match="'main' is not on the git server"):
        forge.base_tip()


# -- pull requests -----------------------------------------------------------------------------------------------------


def test_the_life_of_a_pull_request(world: World, forge: LocalForge) -> None:
    sha = branch_of(world, forge)
    opened = forge.create_pr(pull_request(number=99, body="Bödy\n", head_sha=None))
    assert (opened.number, opened.head_sha, opened.body) == (1, sha, "Bödy\n")
    other = world.forge()
    assert other.get_pr(1) == opened
    assert other.list_prs() == (opened,) == other.list_prs(open_only=True)
    assert other.get_pr(2) is None
    closed = forge.update_pr(opened, opened.model_copy(update={"state": PrState.CLOSED, "close_reason": "no"}))
    assert closed.state is PrState.CLOSED
    other.refresh()
    assert other.list_prs(open_only=True) == ()
    assert other.get_pr(1) == closed
    again = other.create_pr(pull_request())
    assert again.number == 2
    assert [pr.number for pr in other.list_prs()] == [1, 2]


def test_a_branch_keeps_the_pull_request_it_has(world: World, forge: LocalForge) -> None:
    branch_of(world, forge)
    first = forge.create_pr(pull_request())
    other = world.forge()
    before = world.refs()
    assert other.create_pr(pull_request(title="another")) == first
    assert world.refs() == before


def test_one_opened_unseen_for_the_same_branch_is_given_back(world: World) -> None:
    one, two = world.forge(), world.forge()
    first = one.create_pr(pull_request(title="one"))
    assert two.create_pr(pull_request(title="two")) == first
    assert len([ref for ref in world.refs() if ref.startswith(PR_REFS)]) == 1


def test_numbers_are_given_once_to_forges_that_open_at_the_same_time(world: World) -> None:
    forges = [world.forge(), world.forge()]
    made: list[tuple[int, str]] = []
    failed: list[BaseException] = []

    def work(forge: LocalForge, name: str) -> None:
        try:
            for number in range(4):
                branch = f"modekeeper/{name}/{number}"
                made.append((forge.create_pr(pull_request(branch=branch, title=branch)).number, branch))
        except BaseException as exc:  # noqa: BLE001 - told in the main thread
            failed.append(exc)

    threads = [threading.Thread(target=work, args=(forge, name)) for forge, name in zip(forges, "ab", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(number for number, _ in made) == list(range(1, 9))
    last = world.forge()
    assert {(pr.number, pr.branch) for pr in last.list_prs()} == set(made)


def test_an_update_is_refused_when_the_record_is_another_by_now(world: World, forge: LocalForge) -> None:
    pr = forge.create_pr(pull_request())
    other = world.forge()
    newer = other.update_pr(pr, pr.model_copy(update={"title": "newer"}))
    with pytest.raises(ConflictError) as unseen:
        forge.update_pr(pr, pr.model_copy(update={"title": "lost"}))
    with pytest.raises(ConflictError) as seen:
        forge.update_pr(pr, pr.model_copy(update={"title": "lost"}))
    assert unseen.value.ref == seen.value.ref == f"{PR_REFS}1"
    assert forge.get_pr(1) == newer
    forge.update_pr(newer, newer.model_copy(update={"title": "last"}))


def test_an_update_does_not_mind_a_branch_that_moved(world: World, forge: LocalForge) -> None:
    branch_of(world, forge)
    pr = forge.create_pr(pull_request())
    sha = branch_of(world, forge, text=b"moved")
    assert forge.update_pr(pr, pr.model_copy(update={"title": "t2"})).head_sha == sha


def test_notes_are_appended_though_others_write_too(world: World) -> None:
    one, two = world.forge(), world.forge()
    one.create_pr(pull_request())
    two.refresh()
    check = Check(
        name="c",
        commit="a" * 40,
        base="b" * 40,
        plan_digest=None,
        conclusion="success",
        summary="",
        at=format_time(NOW),
    )
    for number in range(3):
        one.add_review(1, review(f"one {number}"))
        two.add_review(1, review(f"two {number}", by=BOB))
        two.add_check(1, check)
        one.add_comment(1, Comment(by=BOB, at=format_time(NOW), text=f"{number}"))
    last = world.forge().get_pr(1)
    assert last is not None
    assert [r.comment for r in last.reviews] == ["one 0", "two 0", "one 1", "two 1", "one 2", "two 2"]
    assert [c.text for c in last.comments] == ["0", "1", "2"]
    assert len(last.checks) == 3
    assert len(world.server.log(f"{PR_REFS}1")) == 13, "the chain of records is the audit log"


def test_notes_go_to_pull_requests_that_are_there(forge: LocalForge) -> None:
    calls: list[Callable[[], object]] = [
        lambda: forge.add_review(5, review()),
        lambda: forge.update_pr(pull_request(number=5), pull_request()),
    ]
    for call in calls:
        with pytest.raises(ForgeError, match="no pull request #5"):
            call()


@pytest.mark.parametrize(
    "files", [{}, {"pr.json": b"{}"}, {"pr.json": b"{", "body.md": b""}, {"pr.json": b"[]", "body.md": b""}]
)
def test_a_record_that_is_none_is_told_and_never_taken_for_one(
    world: World, forge: LocalForge, files: dict[str, bytes]
) -> None:
    tree = world.server.write_tree(None, dict(files))
    world.put("tmp", tree=tree, parents=[])
    world.server.run("update-ref", f"{PR_REFS}1", world.tip("tmp"))
    forge.refresh()
    for call in (forge.list_prs, lambda: forge.get_pr(1), lambda: forge.create_pr(pull_request())):
        with pytest.raises((ForgeError, InputError), match="pull request record"):
            call()


def test_a_record_under_another_number_is_told(world: World, forge: LocalForge) -> None:
    forge.create_pr(pull_request())
    world.server.run("update-ref", f"{PR_REFS}2", world.refs()[f"{PR_REFS}1"])
    forge.refresh()
    with pytest.raises(ForgeError, match="holds the record of #1"):
        forge.get_pr(2)
    with pytest.raises(ForgeError, match="holds the record of #1"):
        forge.list_prs()


@pytest.mark.parametrize("name", ["x", "01", "0", "1/2", "-1", "9999999999"])
def test_a_ref_without_a_number_stops_nobody(world: World, forge: LocalForge, name: str) -> None:
    world.server.run("update-ref", f"{PR_REFS}{name}", world.tip())
    forge.refresh()
    assert forge.list_prs() == ()
    if name != "1/2":
        assert forge.create_pr(pull_request()).number == 1


# -- merging -----------------------------------------------------------------------------------------------------------


def test_a_merge_moves_base_branch_and_record_together(world: World, forge: LocalForge) -> None:
    pr = proposed(world, forge)
    base, head = forge.base_tip(), pr.head_sha
    permit = permit_of(forge, pr, monotonic=world.clock.monotonic())
    sha = forge.merge(permit, message=f"Merge\n\n{trailers(plan())}\n")
    info = world.server.commit(sha)
    assert (info.parents, info.tree) == ((base, head), permit.tree)
    assert world.refs() == {"refs/heads/main": sha, f"{PR_REFS}1": world.refs()[f"{PR_REFS}1"]}
    merged = world.forge().get_pr(1)
    assert merged is not None
    assert (merged.state, merged.merge_sha, merged.closed_by) == (PrState.MERGED, sha, IDENTITY)
    assert merged == forge.get_pr(1)
    (change,) = forge.applied(pr.workload)
    assert (change.commit, change.plan_digest, change.changes) == (
        sha,
        pr.plan_digest,
        {"dataloader_num_workers": (2, 4)},
    )
    assert forge.applied("ml/other") == ()
    assert forge.applied(since=int(NOW.timestamp()) + 1) == ()


def test_a_merge_by_hand_counts_by_the_commit_it_merged(world: World, forge: LocalForge) -> None:
    pr = proposed(world, forge)
    tree = forge.repo.merge_tree(forge.base_tip(), pr.head_sha or "") or ""
    sha = world.put(
        "main", tree=tree, parents=[forge.base_tip(), pr.head_sha or ""], by=ALICE, message="Merge by hand\n"
    )
    forge.refresh()
    assert [(c.commit, c.plan_digest) for c in forge.applied()] == [(sha, pr.plan_digest)]


def nothing_merged(world: World, before: dict[str, str]) -> None:
    after = world.refs()
    assert after["refs/heads/main"] == before["refs/heads/main"]
    assert after[f"{PR_REFS}1"] == before[f"{PR_REFS}1"]


def test_a_permit_is_good_once(world: World, forge: LocalForge) -> None:
    pr = proposed(world, forge)
    permit = permit_of(forge, pr, monotonic=world.clock.monotonic())
    forge.merge(permit, message="m\n")
    before = world.refs()
    with pytest.raises(IntegrityError, match="used before"):
        forge.merge(permit, message="m\n")
    assert world.refs() == before


@pytest.mark.parametrize("age", [PERMIT_LIFE_S + 1, -1.0])
def test_a_permit_expires(world: World, forge: LocalForge, age: float) -> None:
    pr = proposed(world, forge)
    permit = permit_of(forge, pr, monotonic=world.clock.monotonic())
    world.clock.advance(age)
    before = world.refs()
    with pytest.raises(IntegrityError, match="older than"):
        forge.merge(permit, message="m\n")
    assert world.refs() == before


def test_a_permit_for_another_tree_merges_nothing(world: World, forge: LocalForge) -> None:
    pr = proposed(world, forge)
    permit = permit_of(forge, pr, monotonic=world.clock.monotonic(), tree="e" * 40)
    before = world.refs()
    with pytest.raises(IntegrityError, match="another tree"):
        forge.merge(permit, message="m\n")
    assert world.refs() == before


MOVES: dict[str, tuple[Callable[[World], object], str]] = {
    "base moved": (lambda world: world.commit({"other": b"x"}), "refs/heads/main"),
    "base rewritten": (
        lambda world: world.put("main", tree=world.server.commit(world.tip()).tree, parents=[]), "refs/heads/main",
    ),
    "head moved": (lambda world: world.commit({"file": b"x"}, branch=BRANCH), f"refs/heads/{BRANCH}"),
    "head deleted": (
        lambda world: world.server.run("update-ref", "-d", f"refs/heads/{BRANCH}"), f"refs/heads/{BRANCH}",
    ),
    "reviewed": (lambda world: world.forge().add_review(1, review()), f"{PR_REFS}1"),
    "closed": (
        lambda world: (other := world.forge()).update_pr(
            pr := other.list_prs()[0], pr.model_copy(update={"state": PrState.CLOSED})
        ),
        f"{PR_REFS}1",
    ),
    "kill switch": (lambda world: world.commit({KILL_SWITCH_PATH: b""}), "refs/heads/main"),
}  # fmt: skip


# A review that was seen is the gate's to judge, and it is: see the tests of apply.
UNSEEN_AND_SEEN = [(move, seen) for move in MOVES for seen in (False, True) if (move, seen) != ("reviewed", True)]


@pytest.mark.parametrize(("move", "seen"), UNSEEN_AND_SEEN)
def test_what_moved_since_the_gate_merges_nothing(world: World, forge: LocalForge, move: str, seen: bool) -> None:
    """Unseen: between the last look and the push, where only the leases can tell."""
    pr = proposed(world, forge)
    permit = permit_of(forge, pr, monotonic=world.clock.monotonic())
    act, ref = MOVES[move]
    act(world)
    if seen:
        forge.refresh()
    before = world.refs()
    with pytest.raises(ConflictError) as caught:
        forge.merge(permit, message="m\n")
    assert caught.value.ref == ref
    assert world.refs() == before
    nothing_merged(world, before)


def test_a_merge_of_what_is_not_there_is_told(world: World, forge: LocalForge) -> None:
    pr = proposed(world, forge)
    permit = permit_of(forge, pr, monotonic=world.clock.monotonic())
    with pytest.raises(ForgeError, match="no pull request #8"):
        forge.merge(replace(permit, pr=8, _spent=[]), message="m\n")


def test_commits_on_the_base_are_for_the_kill_switch_alone(world: World, forge: LocalForge) -> None:
    base = forge.base_tip()
    sha = forge.commit_base(old=base, files={KILL_SWITCH_PATH: b"stop\n"}, message="Throw")
    assert world.tip() == sha == forge.base_tip()
    assert world.file(KILL_SWITCH_PATH) == b"stop\n"
    with pytest.raises(ConflictError) as caught:
        forge.commit_base(old=base, files={KILL_SWITCH_PATH: b"x"}, message="Throw")
    assert caught.value.ref == "refs/heads/main"
    for path in ("overlays/demo/kustomization.yaml", ".modekeeper/kill-switch2", ".modekeeper/config.yaml"):
        with pytest.raises(IntegrityError, match="only a merge"):
            forge.commit_base(old=sha, files={path: b"x"}, message="m")
    assert world.tip() == sha


# -- a server that fails -----------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there(world: World, tmp_path: Path) -> None:
    gone = World(tmp_path / "none.git", remote=(world.remote or str(world.path)).replace("gitops.git", "none.git"))
    with pytest.raises(ForgeError, match="can't be read") as caught:
        gone.forge()
    assert caught.value.hint


def test_a_remote_of_another_kind_leaves_no_folder_behind(world: World) -> None:
    with pytest.raises(InputError):
        LocalForge("ext::sh -c id", base_branch="main", identity=IDENTITY, clock=world.clock)


def test_a_server_that_refuses_says_why(world: World, forge: LocalForge) -> None:
    hooks = world.path / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "pre-receive").write_text("#!/bin/sh\necho 'frozen for the release' >&2\nexit 1\n")
    (hooks / "pre-receive").chmod(0o755)
    before = world.refs()
    with pytest.raises(ForgeError, match="frozen for the release") as caught:
        branch_of(world, forge)
    assert not isinstance(caught.value, ConflictError)
    assert not caught.value.retryable
    assert world.refs() == before
    assert forge.branch_tip(BRANCH) is None


@pytest.fixture
def far(tmp_path: Path, embedded: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, GitServer]]:
    copy_of(embedded, tmp_path / "far" / "gitops.git")
    monkeypatch.setenv(git.HTTP_VARIABLE, "1")
    with git_server(tmp_path / "far") as server:
        made = World(tmp_path / "far" / "gitops.git", remote=server.remote("gitops.git"))
        yield made, server
        made.close()


def test_an_answer_lost_on_the_way_is_made_up_for(far: tuple[World, GitServer]) -> None:
    """The merge took effect and its answer did not come back: looked up, not done again."""
    world, server = far
    forge = world.forge()
    pr = proposed(world, forge)
    permit = permit_of(forge, pr, monotonic=world.clock.monotonic())
    server.fault = lambda method, path: "lost" if path.endswith("git-receive-pack") and method == "POST" else None
    sha = forge.merge(permit, message="m\n")
    assert world.tip() == sha == forge.base_tip()
    assert forge.get_pr(1) == world.forge().get_pr(1)


@pytest.mark.parametrize("fault", ["drop", 500, 401, 403])
def test_a_push_that_fails_is_told_and_has_no_effect(far: tuple[World, GitServer], fault: int | str) -> None:
    world, server = far
    forge = world.forge()
    pr = proposed(world, forge)
    permit = permit_of(forge, pr, monotonic=world.clock.monotonic())
    before = world.refs()
    server.fault = lambda method, path: fault if "receive-pack" in path else None
    with pytest.raises(ForgeError) as caught:
        forge.merge(permit, message="m\n")
    assert not isinstance(caught.value, ConflictError)
    assert caught.value.retryable is (fault in ("drop", 500))
    assert world.refs() == before
    found = forge.get_pr(1)
    assert found is not None
    assert found.state is PrState.OPEN


def test_a_server_that_dies_after_the_push_leaves_the_outcome_open(far: tuple[World, GitServer]) -> None:
    world, server = far
    forge = world.forge()
    dead = False

    def die(method: str, path: str) -> str | None:
        nonlocal dead
        if dead:
            return "drop"
        dead = method == "POST" and path.endswith("git-receive-pack")
        return "lost" if dead else None

    server.fault = die
    with pytest.raises(ForgeError) as caught:
        branch_of(world, forge)
    assert caught.value.retryable
    assert f"refs/heads/{BRANCH}" in world.refs()
    with pytest.raises(ForgeError):
        forge.refresh()
    server.fault = lambda method, path: None
    forge.refresh()
    assert forge.branch_tip(BRANCH) == world.tip(BRANCH)


def test_reading_needs_no_git_process_a_record(
    world: World, forge: LocalForge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        forge.create_pr(pull_request(branch=f"modekeeper/a/{number}", state=PrState.CLOSED))
    fresh = world.forge()
    calls: list[str] = []
    real = git._execute

    def counted(args: Sequence[str], env: Mapping[str, str], stdin: bytes = b"") -> tuple[int, bytes, str]:
        calls.append(args[0])
        return real(args, env, stdin)

    monkeypatch.setattr(git, "_execute", counted)
    assert len(fresh.list_prs()) == 5
    assert len(calls) <= 3, calls


def test_errors_of_the_objects_themselves_pass_through(forge: LocalForge) -> None:
    with pytest.raises(GitError):
        forge.repo.files("f" * 40)
