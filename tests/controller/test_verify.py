"""Verify on a real branch: what was proposed passes, and whatever is done to it is stopped by the step that is for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.git import GitRepo
from gitops_mk.controller.reading import resolve
from gitops_mk.controller.verify import verify_commits, verify_payload
from gitops_mk.core.checks.registry import STEPS
from gitops_mk.core.render.component import component_yaml, render
from gitops_mk.core.render.describe import commit_message
from gitops_mk.errors import InputError
from gitops_mk.model.canonical import dumps_pretty
from gitops_mk.model.change import VERIFY_CHECK
from gitops_mk.model.plan import Plan
from gitops_mk.model.verdict import Reason
from tests.support.make import ALICE, BOB
from tests.support.world import BRANCH, COMPONENT_PATH, CONFIG, KNOBS_PATH, OVERLAY, PLAN_PATH, World, builder

KUSTOMIZATION = f"{OVERLAY}/kustomization.yaml"


def replan(plan: Plan, **over: Any) -> Plan:
    """The same plan with fields of its own and a digest that fits."""
    fields = {name: getattr(plan, name) for name in Plan.model_fields if name != "digest"}
    return Plan.make(**{**fields, **over})


def moved(plan: Plan, knob: str, *, before: int | None = None, after: int | None = None) -> Plan:
    """The same plan with one move changed, in every place that tells it."""
    changes = tuple(
        c.model_copy(
            update={"before": c.before if before is None else before, "after": c.after if after is None else after}
        )
        if c.knob == knob
        else c
        for c in plan.changes
    )
    knobs = {**plan.knobs, **{c.knob: c.after for c in changes}}
    return replan(plan, changes=changes, knobs=knobs)


class Branch:
    """The proposed branch, to be done things to; each gives the reason and the step that must stop it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.plan = Plan.parse_json(world.file(PLAN_PATH, BRANCH), what="plan")
        self.base = world.tip()
        self.head = world.server.commit(world.tip(BRANCH))
        self.message = self.head.message + "\n"

    def put(self, *, tree: str | None = None, message: str | None = None, parents: list[str] | None = None) -> None:
        self.world.put(
            BRANCH, tree=tree or self.head.tree, parents=parents or [self.base], message=message or self.message
        )

    def files(self, files: dict[str, bytes | None], **over: Any) -> None:
        self.put(tree=self.world.server.write_tree(self.head.sha, files), **over)

    def text(self, path: str) -> str:
        return self.world.file(path, BRANCH).decode()

    def proposal(self, plan: Plan) -> None:
        """A whole, well-formed branch for another plan."""
        server = self.world.server
        tree = server.write_tree(self.base, dict(render(plan, server.files(self.base))))
        self.put(tree=tree, message=commit_message(plan, self.world.tools.wording))

    def mode(self, path: str, mode: str, oid: str) -> None:
        server = self.world.server
        env = {"GIT_INDEX_FILE": str(self.world.path / "mk-test-index")}
        server.run("read-tree", self.head.tree, env=env)
        server.run("update-index", "--replace", "--index-info", stdin=f"{mode} {oid}\t{path}\n".encode(), env=env)
        self.put(tree=server.run("write-tree", env=env).decode().strip())

    def blob(self, text: str) -> str:
        return self.world.server.run("hash-object", "-w", "--stdin", stdin=text.encode()).decode().strip()

    def oid(self, path: str) -> str:
        return next(e.oid for e in self.world.server.tree(self.head.tree) if e.path == path)


def edited_plan(branch: Branch, **fields: Any) -> dict[str, bytes | None]:
    return {PLAN_PATH: dumps_pretty({**json.loads(branch.text(PLAN_PATH)), **fields}).encode()}


def knobs_and_plan(branch: Branch) -> None:
    """A value edited in the patch and in the record alike, with the digest left as it was."""
    changes = [
        {**c.plain(), "after": 6} if c.knob == "dataloader_num_workers" else c.plain() for c in branch.plan.changes
    ]
    knobs = {**branch.plan.knobs, "dataloader_num_workers": 6}
    patch = branch.text(KNOBS_PATH).replace('num_workers: "4"', 'num_workers: "6"')
    branch.files({**edited_plan(branch, changes=changes, knobs=knobs), KNOBS_PATH: patch.encode()})


def two_commits(branch: Branch) -> None:
    tree = branch.world.server.write_tree(branch.head.sha, {KNOBS_PATH: b"{}\n"})
    first = branch.world.put(BRANCH, tree=tree, parents=[branch.base], message=branch.message)
    branch.put(parents=[first])


def unrelated(branch: Branch) -> None:
    root = branch.world.put("root", tree=branch.world.server.commit(branch.base).tree, parents=[])
    branch.put(parents=[root])


TAMPERINGS: dict[str, tuple[Callable[[Branch], None], str, Reason]] = {
    "extra file": (lambda b: b.files({"extra": b"x"}), "scope", Reason.SCOPE_VIOLATION),
    "extra large file": (lambda b: b.files({"extra": b"x" * 5_000_000}), "scope", Reason.SCOPE_VIOLATION),
    "other file edited": (lambda b: b.files({"base/deployment.yaml": b"{}\n"}), "scope", Reason.SCOPE_VIOLATION),
    "file deleted": (lambda b: b.files({"base/deployment.yaml": None}), "scope", Reason.SCOPE_VIOLATION),
    "file of a workload next door": (
        lambda b: b.files({f"{OVERLAY}/modekeeper/other.knobs.yaml": b"{}\n"}), "scope", Reason.SCOPE_VIOLATION,
    ),
    "config edited": (lambda b: b.files({CONFIG: b"version: v1\n"}), "scope", Reason.SCOPE_VIOLATION),
    "passport brought": (lambda b: b.files({".modekeeper/passports/pilot.json": b"{}"}), "scope", Reason.SCOPE_VIOLATION),
    "catalog brought": (lambda b: b.files({".modekeeper/catalog.json": b"{}"}), "scope", Reason.SCOPE_VIOLATION),
    "kill switch brought": (lambda b: b.files({".modekeeper/kill-switch": b""}), "scope", Reason.SCOPE_VIOLATION),
    "workflow brought": (lambda b: b.files({".github/workflows/x.yml": b"on: push\n"}), "scope", Reason.SCOPE_VIOLATION),
    "no record": (lambda b: b.files({PLAN_PATH: None}), "scope", Reason.SCOPE_VIOLATION),
    "nothing": (lambda b: b.put(tree=b.world.server.commit(b.base).tree), "scope", Reason.SCOPE_VIOLATION),
    "unrelated history": (unrelated, "scope", Reason.MERGE_CONFLICT),
    "executable": (lambda b: b.mode(KNOBS_PATH, "100755", b.oid(KNOBS_PATH)), "scope", Reason.SCOPE_VIOLATION),
    "symlink for the patch": (lambda b: b.mode(KNOBS_PATH, "120000", b.blob("/etc/passwd")), "scope", Reason.SCOPE_VIOLATION),
    "symlink for the record": (lambda b: b.mode(PLAN_PATH, "120000", b.blob("../x")), "scope", Reason.SCOPE_VIOLATION),
    "symlink for the folder": (
        lambda b: b.mode(f"{OVERLAY}/modekeeper", "120000", b.blob("/tmp")), "scope", Reason.SCOPE_VIOLATION,
    ),
    "submodule for the folder": (lambda b: b.mode(f"{OVERLAY}/modekeeper", "160000", b.base), "scope", Reason.SCOPE_VIOLATION),
    "submodule beside": (lambda b: b.mode("vendor", "160000", b.base), "scope", Reason.SCOPE_VIOLATION),
    "value edited": (
        lambda b: b.files({KNOBS_PATH: b.text(KNOBS_PATH).replace('"4"', '"5"').encode()}), "render", Reason.RENDER_MISMATCH,
    ),
    "value edited here and there": (knobs_and_plan, "plan", Reason.PLAN_INVALID),
    "digest edited": (lambda b: b.files(edited_plan(b, digest="0" * 64)), "plan", Reason.PLAN_INVALID),
    "record is no JSON": (lambda b: b.files({PLAN_PATH: b"{"}), "plan", Reason.PLAN_INVALID),
    "record with a field more": (lambda b: b.files(edited_plan(b, more=1)), "plan", Reason.PLAN_INVALID),
    "record too large": (lambda b: b.files({PLAN_PATH: b" " * 600_000}), "plan", Reason.PLAN_INVALID),
    "record of 5 MB": (lambda b: b.files({PLAN_PATH: b" " * 5_000_000}), "plan", Reason.PLAN_INVALID),
    "plan of another workload": (
        lambda b: b.files(
            {PLAN_PATH: replan(b.plan, workload=b.plan.workload.model_copy(update={"name": "other"})).to_text().encode()}
        ),
        "plan", Reason.PLAN_INVALID,
    ),
    "plan of another overlay": (
        lambda b: b.files({PLAN_PATH: replan(b.plan, overlay="overlays/other").to_text().encode()}),
        "plan", Reason.PLAN_INVALID,
    ),
    "two commits": (two_commits, "plan", Reason.PLAN_INVALID),
    "no trailers": (lambda b: b.put(message="Trust me\n"), "plan", Reason.PLAN_INVALID),
    "a trailer twice": (
        lambda b: b.put(message=b.message.rstrip() + "\nModeKeeper-Chord: INPUT-STRAGGLER\n"), "plan", Reason.PLAN_INVALID,
    ),
    "trailer of other values": (
        lambda b: b.put(message=b.message.replace("num_workers 2 4", "num_workers 2 3")), "plan", Reason.PLAN_INVALID,
    ),
    "trailer of another workload": (
        lambda b: b.put(message=b.message.replace("deployment-trainer", "deployment-x")), "plan", Reason.PLAN_INVALID,
    ),
    "trailers not last": (lambda b: b.put(message=b.message + "\nMore words.\n"), "plan", Reason.PLAN_INVALID),
    "planned under another policy": (
        lambda b: b.proposal(replan(b.plan, policy=b.plan.policy.model_copy(update={"catalog_sha256": "0" * 64}))),
        "policy", Reason.POLICY_CHANGED,
    ),
    "another world size": (lambda b: b.proposal(replan(b.plan, world_size=8)), "policy", Reason.POLICY_CHANGED),
    "out of bounds": (lambda b: b.proposal(moved(b.plan, "dataloader_num_workers", after=99)), "envelope", Reason.OUT_OF_BOUNDS),
    "step too large": (
        lambda b: b.proposal(moved(b.plan, "dataloader_num_workers", after=20)), "envelope", Reason.MAX_DELTA_EXCEEDED,
    ),
    "chord that is not allowed": (
        lambda b: b.proposal(replan(b.plan, chord="COMM-CONGESTION", approved_advanced=True)), "envelope",
        Reason.CHORD_NOT_ALLOWED,
    ),
    "chord for another signal": (
        lambda b: b.proposal(replan(b.plan, chord="BURST-ABSORB")), "envelope", Reason.REQUIRED_SIGNAL_MISSING,
    ),
    "chord of nobody": (lambda b: b.proposal(replan(b.plan, chord="TURBO")), "envelope", Reason.UNKNOWN_CHORD),
    "rollback of nothing": (lambda b: b.proposal(replan(b.plan, rollback_of="1" * 64)), "envelope", Reason.PLAN_INVALID),
    "another target": (
        lambda b: b.proposal(replan(b.plan, target=b.plan.target.model_copy(update={"name": "trainer2"}))), "build",
        Reason.BUILD_FAILED,
    ),
    "kustomization reformatted": (
        lambda b: b.files({KUSTOMIZATION: (b.text(KUSTOMIZATION) + "\n").encode()}), "render", Reason.RENDER_MISMATCH,
    ),
    "remote base added": (
        lambda b: b.files(
            {KUSTOMIZATION: b.text(KUSTOMIZATION).replace("../../base", "https://example.invalid/x").encode()}
        ),
        "render", Reason.RENDER_MISMATCH,
    ),
    "component edited": (
        lambda b: b.files({COMPONENT_PATH: component_yaml(frozenset({"trainer", "more"})).encode()}), "render",
        Reason.RENDER_MISMATCH,
    ),
    "stale before": (
        lambda b: b.proposal(moved(b.plan, "dataloader_num_workers", before=3)), "freshness", Reason.PLAN_STALE,
    ),
    "a knob pinned beside": (
        lambda b: b.proposal(replan(b.plan, knobs={**b.plan.knobs, "grad_accum_steps": 8})), "build",
        Reason.UNPLANNED_CHANGE,
    ),
}  # fmt: skip


def first_no(world: World) -> tuple[str, Reason | None, str]:
    outcome = world.verify(world.forge(), record=False)
    assert not outcome.ok
    assert len(outcome.steps) == len(STEPS)
    blocked = next(step for step in outcome.steps if not step.allowed)
    assert outcome.reason is blocked.reason
    return blocked.rule, blocked.reason, blocked.message


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_branch_that_was_tampered_with_is_stopped(ready: World, name: str) -> None:
    act, step, reason = TAMPERINGS[name]
    act(Branch(ready))
    assert first_no(ready)[:2] == (step, reason), first_no(ready)


def test_what_was_proposed_passes_every_step(ready: World) -> None:
    Branch(ready)
    forge = ready.forge()
    outcome = ready.verify(forge)
    assert outcome.ok
    assert [step.rule for step in outcome.steps] == [ident for _, ident, _ in STEPS]
    pr = forge.get_pr(1)
    assert pr is not None
    check = pr.newest_check(VERIFY_CHECK, outcome.head)
    assert check is not None
    assert (check.conclusion, check.base, check.tree, check.plan_digest) == (
        "success", ready.tip(), outcome.tree, pr.plan_digest,
    )  # fmt: skip
    payload: Any = verify_payload(outcome)
    assert [step["number"] for step in payload["steps"]] == list(range(1, 10))


# -- what the base may have come to ----------------------------------------------------------------------------------


BASES: dict[str, tuple[Callable[[World], dict[str, bytes | None]], str, Reason]] = {
    "policy tightened": (
        lambda w: {CONFIG: w.file(CONFIG).replace(b"passport: pilot", b"passport: safe")}, "policy", Reason.POLICY_CHANGED,
    ),
    "workload gone from the configuration": (
        lambda w: {CONFIG: w.file(CONFIG).replace(b"name: trainer", b"name: another")}, "scope", Reason.SCOPE_VIOLATION,
    ),
    "configuration broken": (lambda w: {CONFIG: b"version: v9\n"}, "scope", Reason.SCOPE_VIOLATION),
    "values moved": (
        lambda w: {"base/deployment.yaml": w.file("base/deployment.yaml").replace(b'num_workers: "2"', b'num_workers: "3"')},
        "freshness", Reason.PLAN_STALE,
    ),
    "overlay does not build": (
        lambda w: {"base/kustomization.yaml": b"resources:\n  - nowhere.yaml\n"}, "envelope", Reason.BUILD_FAILED,
    ),
    "kustomization in conflict": (
        lambda w: {KUSTOMIZATION: w.file(KUSTOMIZATION) + b"namePrefix: ''\n"}, "scope", Reason.MERGE_CONFLICT,
    ),
    "overlay with two kustomizations": (
        lambda w: {f"{OVERLAY}/kustomization.yml": w.file(KUSTOMIZATION)}, "scope", Reason.SCOPE_VIOLATION,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BASES)
def test_a_base_that_changed_meanwhile_is_what_judges(ready: World, name: str) -> None:
    Branch(ready)
    edit, step, reason = BASES[name]
    ready.commit(edit(ready), by=BOB)
    assert first_no(ready)[:2] == (step, reason), first_no(ready)


def test_a_base_that_does_not_build_is_told_with_kustomizes_words(ready: World) -> None:
    Branch(ready)
    ready.commit({"base/kustomization.yaml": b"resources:\n  - nowhere.yaml\n"})
    steps = ready.verify(ready.forge(), record=False).steps
    build = next(step for step in steps if step.rule == "build")
    assert build.reason is Reason.BUILD_FAILED
    assert "nowhere.yaml" in build.message


def test_a_link_on_the_way_is_refused_though_it_was_on_the_base(ready: World) -> None:
    branch = Branch(ready)
    server = ready.server
    env = {"GIT_INDEX_FILE": str(ready.path / "mk-test-index")}
    server.run("read-tree", branch.base, env=env)
    lines = f"0 {'0' * 40}\t{KUSTOMIZATION}\n120000 {branch.blob('../elsewhere')}\t{OVERLAY}\n"
    server.run("update-index", "--index-info", stdin=lines.encode(), env=env)
    tree = server.run("write-tree", env=env).decode().strip()
    ready.put("main", tree=tree, parents=[branch.base], by=ALICE)
    assert first_no(ready)[:2] in {("scope", Reason.MERGE_CONFLICT), ("scope", Reason.SCOPE_VIOLATION)}


def test_a_cooldown_on_the_base_counts(world: World) -> None:
    forge = world.forge()
    world.merged(forge)
    forge.refresh()
    number = world.propose(forge, world.plan(forge)).pr
    assert number is not None
    assert world.verify(forge, number.number).reason is Reason.COOLDOWN_ACTIVE
    world.clock.advance(86_400)
    later = world.verify(forge, number.number)
    assert later.ok, later.message


# -- as CI does it -----------------------------------------------------------------------------------------------------


def test_in_a_checkout_nothing_is_written_and_the_answer_is_the_same(ready: World, tmp_path: Path) -> None:
    Branch(ready)
    expected = ready.verify(ready.forge(), record=False)
    before = {str(p): p.read_bytes() for p in sorted(ready.path.rglob("*")) if p.is_file()}
    repo = GitRepo(ready.path, scratch=tmp_path / "scratch")
    base, head = resolve(repo, "main", "base"), resolve(repo, BRANCH, "head")
    outcome = verify_commits(
        repo,
        base,
        head,
        builder=builder(),
        built_in=ready.tools.built_in,
        applied=repo.applied(base),
        now=ready.clock.now(),
    )
    assert outcome == expected
    assert {str(p): p.read_bytes() for p in sorted(ready.path.rglob("*")) if p.is_file()} == before
    with pytest.raises(InputError, match="head 'nowhere' is no commit") as caught:
        resolve(repo, "nowhere", "head")
    assert "fetch-depth" in (caught.value.hint or "")


def test_the_command_says_the_same(ready: World, tmp_path: Path) -> None:
    Branch(ready)
    args = ["verify", "--base", "main", "--head", BRANCH, "--repo", str(ready.path), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "gitops_mk", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "out" / "verify_latest.json").read_text())["verify_ok"] is True


def test_a_pull_request_whose_branch_is_gone_cannot_be_verified(ready: World) -> None:
    Branch(ready)
    ready.server.run("update-ref", "-d", f"refs/heads/{BRANCH}")
    with pytest.raises(InputError, match="is gone"):
        ready.verify(ready.forge())
