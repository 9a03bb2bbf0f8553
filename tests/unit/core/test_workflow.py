"""Events, workflow commands, annotations and the summary: whatever text comes in, no command comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core import workflow
from gitops_mk.core.render import component
from gitops_mk.core.workflow import Event
from gitops_mk.errors import InputError
from gitops_mk.model.annotation import Annotation
from gitops_mk.model.gate import VerifyOutcome
from gitops_mk.model.git import ABSENT_MODE, REGULAR_MODE, PathChange
from gitops_mk.model.verdict import Reason, Verdict
from tests.support.make import SHA_A, SHA_B, TREE

PLAN = "overlays/demo/modekeeper/trainer.plan.json"
KNOBS = "overlays/demo/modekeeper/trainer.knobs.yaml"
HIDDEN = ("\u202e", "\u200b", "\x1b", "\r", "\n", "\u2028", "\x85")


def pull_request(**over: Any) -> dict[str, Any]:
    pull = {
        "number": 7,
        "head": {"sha": SHA_B, "ref": "modekeeper/ml/deployment-trainer"},
        "base": {"sha": SHA_A, "ref": "main"},
    }
    return {"action": "opened", "pull_request": {**pull, **over}}


def merge_group(**over: Any) -> dict[str, Any]:
    group = {
        "head_sha": SHA_B,
        "head_ref": "refs/heads/gh-readonly-queue/main/pr-7-" + SHA_A,
        "base_sha": SHA_A,
        "base_ref": "refs/heads/main",
    }
    return {"action": "checks_requested", "merge_group": {**group, **over}}


def parse(event: Any, name: str | None = None) -> Event:
    return workflow.parse_event(json.dumps(event).encode(), name, what="event.json")


class TestEvents:
    @pytest.mark.parametrize("name", [None, "pull_request"])
    def test_a_pull_request(self, name: str | None) -> None:
        assert parse(pull_request(), name) == Event(
            "pull_request", SHA_B, SHA_A, "main", "refs/pull/7/head", "modekeeper/ml/deployment-trainer", 7
        )

    @pytest.mark.parametrize("name", [None, "merge_group"])
    def test_a_merge_group(self, name: str | None) -> None:
        found = parse(merge_group(), name)
        assert found == Event("merge_group", SHA_B, SHA_A, "main", "refs/heads/gh-readonly-queue/main/pr-7-" + SHA_A)
        assert found.plain() == {
            "name": "merge_group", "head": SHA_B, "base": SHA_A, "base_branch": "main", "number": None,
        }  # fmt: skip
        # GitHub's own examples have it both ways.
        assert parse(merge_group(base_ref="main", head_ref="q")).ref == "refs/heads/q"

    @pytest.mark.parametrize(
        ("event", "name", "said"),
        [
            ([], None, "expected a JSON object"),
            ({}, None, "'unknown' is none"),
            (pull_request(), "push", "'push' is none"),
            (pull_request(), "::error::x\n::stop", "is none that verify judges"),
            ({}, "pull_request", "pull_request is missing"),
            ({"merge_group": None}, "merge_group", "merge_group is missing"),
            ({"pull_request": {"number": 1}}, None, "head is missing"),
            (pull_request(number=0), None, "number is 0, expected a whole number"),
            (pull_request(number=True), None, "number is True"),
            (pull_request(number="7; id"), None, "number is '7; id'"),
            (pull_request(number=2**31), None, "expected a whole number"),
            (pull_request(head={"sha": "$(id)", "ref": "b"}), None, "sha is"),
            (pull_request(head={"sha": SHA_B.upper(), "ref": "b"}), None, "expected the SHA of a commit"),
            (pull_request(head={"sha": SHA_B + "\n", "ref": "b"}), None, "expected the SHA of a commit"),
            (pull_request(head={"sha": None, "ref": "b"}), None, "sha is None"),
            (pull_request(head={"sha": SHA_B, "ref": 1}), None, "ref is 1, expected the name of a branch"),
            (merge_group(base_sha="main"), None, "base_sha is 'main'"),
        ],
    )
    def test_what_is_none_of_them_is_bad_input(self, event: Any, name: str | None, said: str) -> None:
        with pytest.raises(InputError, match="^[^\n]*$") as caught:
            parse(event, name)
        assert said in caught.value.message.replace("\\", "")

    def test_the_dangerous_trigger_is_told_apart(self) -> None:
        with pytest.raises(InputError) as caught:
            parse(pull_request(), "pull_request_target")
        assert "the rights of the base" in (caught.value.hint or "")

    @pytest.mark.parametrize(
        "ref",
        [
            "", "-x", "/a", ".a", "a..b", "a@{b", "a//b", "a/.b", "a b", "a:b", "a*", "+a:refs/heads/main", "a^", "a~1", "a?", "a[b",
            "a\\b", "a\nb", "a\x7f", "a/", "a.", "a.lock", "x" * 251,
        ],
    )  # fmt: skip
    def test_what_git_would_take_for_something_else_is_no_branch(self, ref: str) -> None:
        with pytest.raises(InputError, match="expected the name of a branch"):
            parse(pull_request(base={"sha": SHA_A, "ref": ref}))

    @pytest.mark.parametrize(
        "ref", ["$(touch`X`)", "${{github.token}}", "a;id", "dependabot/npm/x-1.2", "größe", "a'b\"c"]
    )
    def test_odd_names_that_git_takes_are_taken(self, ref: str) -> None:
        assert parse(pull_request(head={"sha": SHA_B, "ref": ref})).head_branch == ref

    def test_too_large_and_broken_files(self) -> None:
        for data, said in (
            (b" " * (workflow.EVENT_MAX_BYTES + 1), "expected at most"),
            (b"{", "no valid JSON"),
            (b'{"a": 1, "a": 2}', "twice"),
            (b"[" * 200 + b"]" * 200, "nested"),
        ):
            with pytest.raises(InputError, match=said):
                workflow.parse_event(data, None, what="event.json")


def changed(*paths: str, mode: str = REGULAR_MODE) -> tuple[PathChange, ...]:
    return tuple(PathChange(path, REGULAR_MODE, mode) for path in paths)


class TestOurs:
    def test_the_mark_is_the_components(self) -> None:
        assert workflow.COMPONENT_MARK == component._MARK

    @pytest.mark.parametrize(
        ("path", "before", "after", "ours"),
        [
            (PLAN, None, b"{}", True),
            (KNOBS, b"x", None, True),
            ("modekeeper/kustomization.yaml", None, workflow.COMPONENT_MARK + b".\n", True),
            ("o/modekeeper/kustomization.yaml", workflow.COMPONENT_MARK + b".\n", b"resources: []\n", True),
            ("infra/modekeeper/kustomization.yaml", None, b"resources: []\n", False),
            ("infra/modekeeper/notes.md", None, b"x", False),
            ("overlays/demo/kustomization.yaml", b"x", b"y", False),
            ("x.plan.json", None, b"{}", False),
            ("modekeeper", None, workflow.COMPONENT_MARK, False),
            (".modekeeper/config.yaml", None, b"version: v1", False),
        ],
    )
    def test_what_a_change_touches(self, path: str, before: bytes | None, after: bytes | None, ours: bool) -> None:
        files = [{path: data} if data is not None else {} for data in (before, after)]
        found = changed("a", path)
        assert workflow.concerns_us(found, files[0], files[1]) is ours
        assert workflow.concerns_us(found, files[0], files[1], branch="feature") is ours
        assert workflow.concerns_us(found, files[0], files[1], branch=workflow.INIT_BRANCH) is ours
        assert workflow.concerns_us(found, files[0], files[1], branch="modekeeper/ml/deployment-x")

    def test_a_branch_of_ours_is_ours_whatever_it_changes(self) -> None:
        assert workflow.concerns_us((), {}, {}, branch="modekeeper/x")
        assert not workflow.concerns_us((), {}, {})


def outcome(*steps: Verdict) -> VerifyOutcome:
    return VerifyOutcome(
        ok=all(step.allowed for step in steps),
        base=SHA_A, head=SHA_B, tree=TREE, plan_digest=None, workload=None, steps=steps,
    )  # fmt: skip


FILES = {
    KNOBS: b'# Kept\nmetadata:\n  annotations:\n    modekeeper/knob.grad_accum_steps: "4"\n    modekeeper/knob.concurrency: "2"\n',
    PLAN: b'{\n  "chord": "X",\n  "policy": {\n    "catalog_sha256": "a",\n    "config_sha256": "b"\n  }\n}\n',
    "overlays/demo/kustomization.yaml": b"a: b\n",
}


def told(rule: str, message: str, reason: Reason = Reason.SCOPE_VIOLATION) -> tuple[str, int]:
    (found,) = workflow.annotate(outcome(Verdict.block(rule, reason, message)), changed(*FILES), FILES)
    assert found.level == "failure"
    return found.path, found.line


class TestAnnotations:
    def test_a_path_that_is_named(self) -> None:
        assert told("scope", "overlays/demo/kustomization.yaml is none of ours") == (
            "overlays/demo/kustomization.yaml",
            1,
        )
        assert told("render", f"{KNOBS} differs from what the plan gives") == (KNOBS, 1)

    def test_the_longest_name_is_meant(self) -> None:
        steps = outcome(Verdict.block("scope", Reason.SCOPE_VIOLATION, "a/b/c is none of ours"))
        (found,) = workflow.annotate(steps, changed("a/b", "a/b/c"), {})
        assert (found.path, found.line) == ("a/b/c", 1)

    def test_a_knob_that_is_named(self) -> None:
        assert told("build", "grad_accum_steps stays as it is") == (KNOBS, 4)
        assert told("freshness", "nothing that we know") == (KNOBS, 4)
        assert told("policy", "config_sha256: planned under x, the base has y") == (PLAN, 5)
        assert told("policy", "passport_id: x") == (PLAN, 1)

    def test_what_stands_nowhere_gets_the_first_line_of_a_changed_file(self) -> None:
        step = Verdict.block("build", Reason.BUILD_FAILED, "base does not build")
        paths = (*changed("z", mode=ABSENT_MODE), *changed("y"))
        (found,) = workflow.annotate(outcome(step), paths, {"y": b"\xff\xfe"})
        assert (found.path, found.line) == ("y", 1)
        assert found.title == "verify: build: build_failed"

    def test_no_change_no_annotation(self) -> None:
        assert workflow.annotate(outcome(Verdict.block("scope", Reason.SCOPE_VIOLATION, "m")), (), {}) == ()

    def test_what_follows_from_an_earlier_no_is_left_out(self) -> None:
        steps = (
            Verdict.block("envelope", Reason.PLAN_INVALID, "not judged: no plan"),
            Verdict.block("render", Reason.RENDER_MISMATCH, "not judged: there is no plan"),
            Verdict.block("build", Reason.BUILD_FAILED, "base does not build"),
            Verdict.allow("cluster", "not consulted"),
        )
        assert [one.title for one in workflow.annotate(outcome(*steps), changed(PLAN), FILES)] == [
            "verify: envelope: plan_invalid", "verify: build: build_failed",
        ]  # fmt: skip

    def test_nothing_hidden_is_in_a_message(self) -> None:
        step = Verdict.block("build", Reason.BUILD_FAILED, "a" + "".join(HIDDEN) + "b")
        (found,) = workflow.annotate(outcome(step), changed(PLAN), FILES)
        assert found.message == "a b"


# Every command of GitHub's, old and new form, and ways to get one to the start of a line.
COMMANDS = [
    "::set-output name=verify_ok::true", "::set-env name=PATH::/tmp", "::add-path::/tmp", "::add-mask::a", "::save-state name=a::b",
    "::error::x", "::warning file=a::x", "::notice::x", "::debug::x", "::group::x", "::endgroup::", "::echo::on",
    "::stop-commands::x", "::add-matcher::m.json", "::remove-matcher owner=x::", "##[set-output name=a]b", "##[add-mask]a",
    "x ##[error]y", "##[group]x", "##[command]x", "::internal-set-repo-path repoFullName=a;workspaceRepo=true::/",
]  # fmt: skip
INJECTIONS = [
    *COMMANDS, *(f"a\n{one}" for one in COMMANDS), *(f"a\r{one}" for one in COMMANDS), "\u2028::error::x", "  ::error::x", "\t::error::x",
    "\ufeff::error::x", "%0A::error::x", "a\x0b::error::x", "a\x0c::error::x", "a\x1c::error::x", "a\x85::error::x", "\u200b::error::x",
]  # fmt: skip


def starts_a_command(line: str) -> bool:
    """As the runner sees it: the new form after white space, the old one anywhere."""
    return line.lstrip().startswith("::") or "##[" in line


class TestCommands:
    def test_escaping(self) -> None:
        assert workflow.escape_data("100%\r\n::x") == "100%25%0D%0A::x"
        assert workflow.escape_property("a:b,c%\n") == "a%3Ab%2Cc%25%0A"
        assert workflow.command("endgroup") == "::endgroup::"
        assert workflow.command("error", "m\n%", file="a,b:c", line=3) == "::error file=a%2Cb%3Ac,line=3::m%0A%25"

    def test_an_annotation(self) -> None:
        one = Annotation("a b,c:d", 2, "failure", "verify: x\n::error::", "m")
        assert (
            workflow.annotation_command(one) == "::error file=a b%2Cc%3Ad,line=2,title=verify%3A x %3A%3Aerror%3A%3A::m"
        )
        assert workflow.annotation_command(Annotation("a", 1, "warning", "t", "m")).startswith("::warning ")

    @pytest.mark.parametrize("text", INJECTIONS)
    def test_no_text_starts_a_command(self, text: str) -> None:
        assert not starts_a_command(workflow.inert(text))
        lines = workflow.quoted([text, text + text], "token")
        assert lines[0] == "::stop-commands::token"
        assert lines[-1] == "::token::"
        assert not any(starts_a_command(line) for one in lines[1:-1] for line in one.splitlines())

    @given(st.text())
    def test_of_any_text_one_line_is_left_that_starts_none(self, text: str) -> None:
        line = workflow.inert(text)
        assert len(line.splitlines()) <= 1
        assert not starts_a_command(line)
        said = workflow.command("error", text, file=text)
        assert "\n" not in said
        assert "\r" not in said
        head, _, _ = said.removeprefix("::error file=").partition("::")
        assert ":" not in head
        assert "," not in head


class TestReport:
    def test_an_undecided_one_is_never_a_yes(self) -> None:
        payload = workflow.undecided_payload(None, SHA_B, "timed_out", "not done within 8 s")
        assert not payload["ok"]
        assert not payload["verify_ok"]
        assert workflow.step_lines(payload) == ["timed_out: not done within 8 s"]
        text = workflow.summary(payload, "e" * 64)
        assert text.startswith("### verify: not ok\n\n**timed\\_out**: not done within 8 s\n")
        assert "- base" not in text
        assert "e" * 64 in text

    def test_an_error_has_no_reason(self) -> None:
        payload = workflow.undecided_payload(None, None, None, "no such file")
        assert workflow.step_lines(payload) == ["error: no such file"]
        assert "**error**: no such file" in workflow.summary(payload, "e")

    def test_steps(self) -> None:
        steps = [
            {"number": 1, "id": "scope", "allowed": True, "reason": None, "message": "4 files"},
            {"number": 2, "id": "plan", "allowed": False, "reason": "plan_invalid", "message": "a|b <b>@x</b>\n# y"},
        ]
        payload = {**workflow.undecided_payload(SHA_A, SHA_B, "plan_invalid", "m"), "steps": steps, "cluster": {"a": 1}}
        assert workflow.step_lines(payload) == [
            "1 ok  scope       4 files", "2 NO  plan        plan_invalid: a|b <b>@x</b>\n# y",
        ]  # fmt: skip
        text = workflow.summary(payload | {"note": "n"}, "e")
        assert (
            "| ok | 1 scope | 4 files |\n| **no** | 2 plan | plan\\_invalid: a\\|b \\<b\\>@\u2060x\\</b\\> \\#\u2060 y |\n"
            in text
        )
        assert "- cluster: consulted" in text
        assert "- note: n" in text

    def test_a_yes(self) -> None:
        payload = {**workflow.undecided_payload(SHA_A, SHA_B, None, ""), "ok": True, "verify_ok": True}
        assert workflow.summary(payload, "e").startswith("### verify: ok\n\n- base")
        assert workflow.step_lines(payload) == []

    def test_what_is_none_of_ours(self) -> None:
        payload = {**workflow.undecided_payload(SHA_A, SHA_B, "not_ours", "m"), "applicable": False}
        assert workflow.summary(payload, "e").startswith("### verify: nothing of ModeKeeper's to verify\n")

    @pytest.mark.parametrize("text", INJECTIONS)
    def test_a_summary_holds_no_markup_of_others(self, text: str) -> None:
        payload = workflow.undecided_payload(SHA_A, SHA_B, "plan_invalid", f"{text}<script>[a](http://x)\n| a |")
        lines = workflow.summary(payload, "e").splitlines()
        assert len(lines) == 8
        assert "<script>" not in lines[2].replace("\\<", "")
        assert "://x" not in lines[2]
