"""`mk verify` as a job's step: which commits it judges, what it waits for, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gitops_mk.adapters import actions
from gitops_mk.adapters.git import GitRepo
from gitops_mk.core.workflow import parse_event
from gitops_mk.errors import GitError
from gitops_mk.model.verdict import Reason
from tests.actions.conftest import Hub, Ran, Verify, git
from tests.support.githttp import git_server
from tests.support.make import ALICE, StandingClock
from tests.support.world import BRANCH, CONFIG, KNOBS_PATH, OVERLAY

QUEUE = "refs/heads/gh-readonly-queue/main/pr-7-x"


def no(ran: Ran, reason: str) -> None:
    """It said no, everywhere and with that reason."""
    assert ran.code == 1
    assert ran.outputs["verify_ok"] == "false"
    assert ran.outputs["reason"] == ran.report["reason"] == reason
    assert ran.report["ok"] is ran.report["verify_ok"] is False
    assert Reason(reason)
    assert "### verify: not ok" in ran.summary


class TestPullRequest:
    def test_a_good_one(self, hub: Hub, verify: Verify) -> None:
        hub.pull_request()
        ran = verify()
        assert ran.code == 0, ran.out
        assert ran.outputs == {"verify_ok": "true", "reason": "", "report": ran.outputs["report"]}
        assert json.loads(Path(ran.outputs["report"]).read_text()) == ran.report
        assert ran.report["verify_ok"] is True
        assert ran.report["applicable"] is True
        assert (ran.report["base"], ran.report["head"]) == (hub.world.tip(), hub.world.tip(BRANCH))
        assert ran.report["event"]["number"] == hub.number
        assert ran.summary.startswith("### verify: ok\n")
        assert ran.commands == []
        assert "1 ok scope 4 files of Deployment ml/trainer" in ran.out

    def test_it_needs_nothing_of_the_pull_request_in_the_checkout_and_puts_nothing_there(
        self, hub: Hub, verify: Verify
    ) -> None:
        before = sorted(path for path in hub.checkout.rglob("*"))
        head = hub.world.tip(BRANCH)
        assert GitRepo(hub.checkout / ".git").resolve(head) is None
        hub.pull_request()
        assert verify().code == 0
        assert sorted(path for path in hub.checkout.rglob("*")) == before

    def test_what_the_checkout_has_is_not_fetched_again(self, hub: Hub, tmp_path: Path) -> None:
        hub.change({"x": b"y" * 1000})
        repo = GitRepo(hub.checkout / ".git", scratch=tmp_path / "scratch")
        event = parse_event(hub.pull_request().read_bytes(), None, what="e")
        assert isinstance(actions.settle(repo, str(hub.world.path), event, StandingClock(), wait_s=0), actions.Settled)
        packs = git("count-objects", "-v", cwd=tmp_path / "scratch/objects.git")
        (count,) = [int(line.split()[1]) for line in packs.splitlines() if line.startswith("count:")]
        # Two commits, and what one of them changes: not what the base holds.
        assert 0 < count < 15

    def test_a_bad_one_is_annotated_on_its_lines(self, hub: Hub, verify: Verify) -> None:
        text = hub.world.file(KNOBS_PATH, BRANCH).decode()
        key = "modekeeper/knob.dataloader_num_workers"
        value = next(line for line in text.splitlines() if key in line)
        head = hub.change(
            {KNOBS_PATH: text.replace(value, value.split(":")[0] + ': "63"').encode()}, on=hub.world.tip(BRANCH)
        )
        hub.put(head)
        hub.pull_request(head)
        ran = verify()
        no(ran, "plan_invalid")
        number = 1 + next(i for i, line in enumerate(text.splitlines()) if key in line)
        assert f"::error file={KNOBS_PATH},line={number},title=verify%3A build%3A unplanned_change::" in ran.out
        assert len(ran.commands) == 4
        assert all(line.startswith(f"::error file={OVERLAY}/modekeeper/") for line in ran.commands)

    def test_json_is_json_and_no_command(self, hub: Hub, verify: Verify) -> None:
        head = hub.change({"##[add-mask]x\n::error::y": b"1", f"{OVERLAY}/modekeeper/x.plan.json": b"{}"})
        hub.put(head)
        hub.pull_request(head)
        ran = verify("--json")
        assert json.loads(ran.out) == ran.report
        assert "##[add-mask]" in ran.report["message"]
        assert ran.commands == []

    def test_a_head_that_moved_on(self, hub: Hub, verify: Verify) -> None:
        old = hub.world.tip(BRANCH)
        hub.pull_request(old)
        hub.put(hub.change({"x": b"1"}, on=old))
        # It is known at once, without a wait.
        ran = verify("--wait", "1h")
        no(ran, "head_moved")
        assert old in ran.report["message"]
        assert ran.report["steps"] == []
        assert [line.split("::")[1] for line in ran.commands] == ["error title=verify%3A head_moved"]

    def test_a_head_that_was_replaced(self, hub: Hub, verify: Verify) -> None:
        hub.pull_request(hub.world.tip(BRANCH))
        hub.put(hub.change({"x": b"1"}))
        no(verify(), "head_moved")

    def test_a_pull_request_that_is_gone(self, hub: Hub, verify: Verify) -> None:
        hub.pull_request()
        hub.server.set_refs({f"refs/pull/{hub.number}/{name}": None for name in ("head", "merge")})
        ran = verify()
        no(ran, "head_moved")
        assert "is gone" in ran.report["message"]

    def test_a_conflict(self, hub: Hub, verify: Verify) -> None:
        head = hub.world.tip(BRANCH)
        hub.world.commit({KNOBS_PATH: b"# other\n"})
        hub.put(head, merge=False)
        hub.pull_request(head)
        no(verify("--wait", "1h"), "merge_conflict")

    def test_histories_without_anything_in_common(self, hub: Hub, verify: Verify) -> None:
        tree = hub.server.write_tree(None, {"a": b"1"})
        head = hub.server.write_commit(tree=tree, parents=[], message="m", author=ALICE, time=1)
        hub.put(head, merge=False)
        hub.pull_request(head)
        no(verify(), "merge_conflict")

    def test_a_merge_that_github_never_tried(self, hub: Hub, verify: Verify) -> None:
        head = hub.world.tip(BRANCH)
        hub.server.set_refs({f"refs/pull/{hub.number}/merge": None})
        hub.pull_request(head)
        no(verify(), "not_mergeable")
        # One of the head before, and a commit that is no merge, are as good as none.
        for merge in (hub.merged(hub.world.tip(), hub.change({"x": b"1"})), hub.world.tip()):
            hub.server.set_refs({f"refs/pull/{hub.number}/merge": merge})
            no(verify(), "not_mergeable")

    def test_a_base_that_moved_on_is_judged_as_it_is_now(self, hub: Hub, verify: Verify) -> None:
        head = hub.world.tip(BRANCH)
        hub.pull_request(head)
        old = hub.world.tip()
        hub.world.commit({"README.md": b"more"})
        ran = verify()
        assert ran.code == 0, ran.out
        assert ran.report["base"] == hub.world.tip()
        assert old in ran.report["note"]

    def test_a_base_that_was_rewound(self, hub: Hub, verify: Verify) -> None:
        head = hub.world.tip(BRANCH)
        hub.put(head, onto=hub.change({"x": b"1"}))
        hub.pull_request(head)
        no(verify(), "base_moved")

    def test_the_policy_is_the_bases(self, hub: Hub, verify: Verify) -> None:
        """A pull request of ours that also loosens the rules it is judged by."""
        loose = hub.world.file(CONFIG).replace(b"version: v1", b"version: v1\nlimits: {max_open_prs: 9}")
        head = hub.change({CONFIG: loose}, on=hub.world.tip(BRANCH))
        hub.put(head)
        hub.pull_request(head)
        no(verify("--others", "pass"), "scope_violation")

    def test_from_a_fork_by_number_alone(self, hub: Hub, verify: Verify) -> None:
        head = hub.world.tip(BRANCH)
        hub.server.set_refs({f"refs/heads/{BRANCH}": None})
        hub.pull_request(head, branch="$(touch${IFS}X)`id`;${{github.token}}")
        assert verify().code == 0


class TestOthers:
    @pytest.mark.parametrize(
        "path", ["README.md", CONFIG, ".github/workflows/x.yml", "base/modekeeper/kustomization.yaml"]
    )
    def test_what_is_none_of_ours_is_peoples(self, hub: Hub, verify: Verify, path: str) -> None:
        head = hub.put(hub.change({path: b"# by hand\n"}))
        hub.pull_request(head, branch="feature")
        ran = verify("--others", "pass")
        assert ran.code == 0, ran.out
        assert ran.outputs["verify_ok"] == "false"
        assert ran.outputs["reason"] == "not_ours"
        assert ran.report["applicable"] is False
        assert ran.report["steps"] == []
        assert "nothing of ModeKeeper's" in ran.summary
        assert ran.commands == []
        ran = verify()
        assert ran.code == 1

    def test_our_files_are_ours_whoever_changes_them(self, hub: Hub, verify: Verify) -> None:
        head = hub.put(hub.change({KNOBS_PATH: b"# by hand\n"}))
        hub.pull_request(head, branch="feature")
        no(verify("--others", "pass"), "scope_violation")


class TestMergeGroup:
    def test_a_merge_by_the_queue(self, hub: Hub, verify: Verify) -> None:
        base, head = hub.world.tip(), hub.world.tip(BRANCH)
        queued = hub.merged(base, head)
        hub.merge_group(base, queued, QUEUE)
        ran = verify()
        assert ran.code == 0, ran.out
        assert (ran.report["base"], ran.report["head"]) == (base, head)
        assert ran.report["event"]["head"] == queued
        assert queued in ran.report["note"]

    def test_a_squash_by_the_queue(self, hub: Hub, verify: Verify) -> None:
        base = hub.world.tip()
        ours = hub.server.commit(hub.world.tip(BRANCH))
        squashed = hub.server.write_commit(tree=ours.tree, parents=[base], message=ours.message, author=ALICE, time=9)
        hub.merge_group(base, squashed, QUEUE)
        ran = verify()
        assert ran.code == 0, ran.out
        assert ran.report["head"] == squashed

    def test_behind_another_entry_of_the_queue(self, hub: Hub, verify: Verify) -> None:
        first = hub.change({"README.md": b"x"})
        hub.merge_group(first, hub.merged(first, hub.world.tip(BRANCH)), QUEUE)
        ran = verify()
        assert ran.code == 0, ran.out
        assert ran.report["base"] == first

    def test_a_merge_that_brings_more_than_the_pull_request(self, hub: Hub, verify: Verify) -> None:
        base, head = hub.world.tip(), hub.world.tip(BRANCH)
        tree = hub.server.write_tree(hub.server.merge_tree(base, head), {"evil": b"1"})
        queued = hub.server.write_commit(tree=tree, parents=[base, head], message="m", author=ALICE, time=1)
        hub.merge_group(base, queued, QUEUE)
        no(verify(), "scope_violation")

    def test_a_queue_that_moved(self, hub: Hub, verify: Verify) -> None:
        base, head = hub.world.tip(), hub.world.tip(BRANCH)
        hub.merge_group(base, hub.merged(base, head), QUEUE)
        hub.server.set_refs({QUEUE: head})
        no(verify(), "head_moved")
        hub.server.set_refs({QUEUE: None})
        no(verify(), "head_moved")

    def test_a_base_that_is_not_below_it(self, hub: Hub, verify: Verify) -> None:
        hub.merge_group(hub.change({"x": b"1"}), hub.world.tip(BRANCH), QUEUE)
        no(verify(), "base_moved")


# Every workflow command there is, new form and old, as somebody may call a file; and what a shell or a template would run.
NAMES = [
    "::set-output name=verify_ok::true", "::set-env name=PATH::x", "::add-path::x", "::add-mask::a", "::save-state name=a::b",
    "::error::x", "::warning file=a::x", "::notice::x", "::debug::x", "::group::x", "::endgroup::", "::echo::on",
    "::stop-commands::x", "::add-matcher::m.json", "::remove-matcher owner=x::", "##[set-output name=a]b", "##[add-mask]a",
    "x ##[error]y", "##[group]x", "##[command]x", "::internal-set-repo-path repoFullName=a::x",
    "$(touch CANARY)", "`touch CANARY`", "${{ github.token }}", ";touch CANARY;", "'\"\\ \u202e\u2066x",
]  # fmt: skip


class TestInjection:
    @pytest.mark.parametrize("before", ["", "a\n"])
    def test_names_of_files(self, hub: Hub, verify: Verify, before: str, tmp_path: Path) -> None:
        canary = tmp_path / "canary"
        names = [before + name.replace("CANARY", str(canary).replace("/", "_")) for name in NAMES]
        files: dict[str, bytes | None] = {f"{name}.plan.json": b"{}" for name in names}
        folders: dict[str, bytes | None] = {f"{name}/modekeeper/{name}.plan.json": b"{}" for name in names}
        each: list[dict[str, bytes | None]] = [{name: b"{}"} for name in folders]
        for number, group in enumerate([files, folders, *each]):
            head = hub.put(hub.change(group, message=f"{names[number % len(names)]}\n"))
            hub.pull_request(head, branch="feature", title=names[0])
            ran = verify()
            assert ran.code == 1
            assert not [line for line in ran.commands if not line.startswith(("::error file=", "::error title="))]
            assert not [line for line in (ran.out + ran.err).splitlines() if line.lstrip().startswith("::set")]
            assert ran.outputs["verify_ok"] == "false"
            assert len(ran.outputs) == 3
            for name in ("outputs", "summary"):
                (tmp_path / name).unlink()
        assert not canary.exists()

    @pytest.mark.parametrize("more", [(), ("--json",)])
    def test_a_name_that_is_no_text(self, hub: Hub, verify: Verify, more: tuple[str, ...]) -> None:
        name = "\udcff\udc80.yaml"
        head = hub.put(hub.change({name: b"1"}, on=hub.world.tip(BRANCH)))
        hub.pull_request(head)
        no(verify(*more), "scope_violation")
        hub.put(hub.change({KNOBS_PATH: b"# x"}, on=head), merge=False)
        no(verify(*more), "head_moved")

    def test_what_a_plan_says(self, hub: Hub, verify: Verify) -> None:
        path = f"{OVERLAY}/modekeeper/trainer.plan.json"
        for text in NAMES[:22]:
            plan = json.loads(hub.world.file(path, BRANCH)) | {"chord": f"a\n{text}", text: text}
            head = hub.put(hub.change({path: json.dumps(plan).encode()}, on=hub.world.tip(BRANCH)))
            hub.pull_request(head)
            ran = verify()
            assert ran.code == 1
            assert not [line for line in ran.commands if not line.startswith("::error file=")]


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "said"),
        [("push", "'push' is none"), ("pull_request_target", "hint: run it on"), ("::error::x", "is none")],
    )
    def test_an_event_that_verify_does_not_judge(
        self, hub: Hub, verify: Verify, monkeypatch: pytest.MonkeyPatch, name: str, said: str
    ) -> None:
        hub.pull_request()
        monkeypatch.setenv("GITHUB_EVENT_NAME", name)
        ran = verify()
        assert ran.code == 2
        assert ran.outputs["verify_ok"] == "false"
        assert ran.outputs["reason"] == "error"
        assert ran.report["reason"] is None
        assert said in ran.report["message"]
        assert "### verify: not ok\n\n**error**: event" in ran.summary
        assert len(ran.commands) == 1
        assert ran.commands[0].startswith("::error title=verify%3A error::event ")

    def test_no_event_at_all(self, verify: Verify, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        ran = verify("--event", tmp_path / "none.json")
        assert ran.code == 2
        assert "can't be read" in ran.report["message"]
        monkeypatch.delenv("GITHUB_EVENT_PATH")
        ran = verify()
        assert ran.code == 2
        assert "GITHUB_EVENT_PATH is not set" in ran.err

    def test_an_event_beside_commits(self, hub: Hub, verify: Verify) -> None:
        ran = verify("--event", hub.pull_request(), "--base", "main", "--head", "main")
        assert ran.code == 2
        assert "give one of them alone" in ran.err

    def test_outside_of_a_job_by_option_alone(self, hub: Hub, verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("GITHUB_ACTIONS", "GITHUB_EVENT_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
            monkeypatch.delenv(name)
        assert verify().code == 2
        ran = verify("--event", hub.pull_request())
        assert ran.code == 0, ran.err
        assert ran.outputs == {}

    def test_a_checkout_that_is_cut_off(self, hub: Hub, verify: Verify, tmp_path: Path) -> None:
        hub.world.commit({"README.md": b"x"})
        git("clone", "-q", "--depth", "1", f"file://{hub.world.path}", str(tmp_path / "shallow"))
        hub.pull_request()
        ran = verify("--repo", tmp_path / "shallow")
        assert ran.code == 2
        assert "fetch-depth: 0" in ran.report["message"]

    def test_a_checkout_without_a_remote(self, hub: Hub, verify: Verify) -> None:
        git("remote", "remove", "origin", cwd=hub.checkout)
        hub.pull_request()
        assert "no remote `origin`" in verify().report["message"]
        assert verify("--forge", hub.world.path).code == 0

    def test_a_folder_that_is_no_repository(self, hub: Hub, verify: Verify, tmp_path: Path) -> None:
        hub.pull_request()
        (tmp_path / "empty").mkdir()
        ran = verify("--repo", tmp_path / "empty")
        assert ran.code == 2
        assert ran.outputs["reason"] == "error"

    def test_files_of_the_runner_that_can_not_be_written(
        self, hub: Hub, verify: Verify, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        hub.pull_request()
        monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "no" / "where"))
        ran = verify()
        assert ran.code == 2
        assert "can't be written" in ran.err

    def test_a_fault_of_ours_is_concluded_too(self, hub: Hub, verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: object, **kwargs: object) -> None:
            raise RuntimeError("::error::boom")

        monkeypatch.setattr(actions, "settle", broken)
        hub.pull_request()
        ran = verify()
        assert ran.code == 1
        assert ran.outputs["reason"] == "error"
        assert ran.report["message"] == "RuntimeError: ::error::boom"
        assert len(ran.commands) == 1


class TestWaiting:
    @pytest.fixture
    def settle(self, hub: Hub, tmp_path: Path) -> Callable[..., tuple[actions.Settled | actions.Halted, StandingClock]]:
        """Settle, with something happening on the server at each pause."""

        def call(
            *happens: Callable[[], object], wait_s: float = 60.0
        ) -> tuple[actions.Settled | actions.Halted, StandingClock]:
            left = list(happens)

            class Clock(StandingClock):
                def sleep(self, seconds: float) -> None:
                    super().sleep(seconds)
                    if left:
                        left.pop(0)()

            clock = Clock()
            repo = GitRepo(hub.checkout / ".git", scratch=tmp_path / "scratch")
            event = parse_event((tmp_path / "event.json").read_bytes(), None, what="e")
            return actions.settle(repo, str(hub.world.path), event, clock, wait_s=wait_s), clock

        return call

    def test_for_the_head_then_for_the_merge(
        self, hub: Hub, settle: Callable[..., tuple[object, StandingClock]]
    ) -> None:
        old = hub.world.tip(BRANCH)
        new = hub.server.write_commit(
            tree=hub.server.commit(old).tree, parents=[hub.world.tip()], message="m", author=ALICE, time=4
        )
        hub.pull_request(new)
        found, clock = settle(
            lambda: hub.put(new, merge=False), lambda: None, lambda: hub.put(new), lambda: pytest.fail("waited on")
        )
        assert found == actions.Settled(hub.world.tip(), new)
        assert clock.slept == [1.0, 1.5, 2.25]

    def test_no_longer_than_told(self, hub: Hub, settle: Callable[..., tuple[object, StandingClock]]) -> None:
        hub.pull_request(hub.change({"x": b"1"}))
        found, clock = settle(wait_s=20)
        assert isinstance(found, actions.Halted)
        assert found.reason == "head_moved"
        assert sum(clock.slept) == pytest.approx(20)
        assert max(clock.slept) == actions.LONGEST_PAUSE_S


class TestOverHttp:
    def test_a_server_that_is_down_for_a_moment_and_the_token_of_the_job(
        self, hub: Hub, verify: Verify, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("MODEKEEPER_GIT_ALLOW_HTTP", "1")
        monkeypatch.setenv("MODEKEEPER_GIT_TOKEN", "canary-token")
        hub.pull_request()
        _ = hub.checkout
        with git_server(tmp_path) as server:
            faults = iter([503, 502])
            server.fault = lambda method, path: next(faults, None)
            monkeypatch.setattr(actions, "FIRST_PAUSE_S", 0.01)
            ran = verify("--forge", server.remote("gitops.git"), "--wait", "60s")
            assert ran.code == 0, ran.out
            assert all(authorization for _, _, authorization in server.seen)
        assert "canary" not in ran.out + ran.err + ran.summary + json.dumps(ran.report)

    @pytest.mark.parametrize(("fault", "code"), [(401, 1), (500, 1)])
    def test_a_server_that_does_not_let_us_in(
        self, hub: Hub, verify: Verify, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: int, code: int
    ) -> None:
        monkeypatch.setenv("MODEKEEPER_GIT_ALLOW_HTTP", "1")
        hub.pull_request()
        _ = hub.checkout
        with git_server(tmp_path) as server:
            server.fault = lambda method, path: fault
            ran = verify("--forge", server.remote("gitops.git"))
        assert ran.code == code
        assert ran.outputs["reason"] == "error"
        assert "git fetch failed" in ran.report["message"]


def test_a_base_that_is_not_on_the_server(hub: Hub, verify: Verify) -> None:
    hub.pull_request(base={"sha": hub.world.tip(), "ref": "gone"})
    ran = verify()
    assert ran.outputs["reason"] == "error"
    assert "couldn't find remote ref" in ran.report["message"]


def test_an_unreadable_history_is_no_conflict(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: GitRepo, base: str, head: str) -> None:
        raise GitError("broken")

    hub.server.set_refs({f"refs/pull/{hub.number}/merge": None})
    event = parse_event(hub.pull_request().read_bytes(), None, what="e")
    repo = GitRepo(hub.checkout / ".git", scratch=tmp_path / "scratch")
    monkeypatch.setattr(GitRepo, "merge_tree", broken)
    with pytest.raises(GitError, match="broken"):
        actions.settle(repo, str(hub.world.path), event, StandingClock(), wait_s=0)
