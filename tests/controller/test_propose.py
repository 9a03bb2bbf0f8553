"""Proposing: one workload, one branch, one pull request, whatever happens in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitops_mk.controller.holding import all_holds, release_hold
from gitops_mk.controller.propose import Outcome, close_pr, settle, withdraw
from gitops_mk.controller.proposing import propose_plan
from gitops_mk.controller.rollback import propose_rollback
from gitops_mk.errors import ConfigError, ConflictError, InputError
from gitops_mk.model.change import LABEL, LABEL_PAUSED, LABEL_RELEASED, LABEL_REVERT, PrState
from gitops_mk.model.chord import Intent
from gitops_mk.model.plan import Plan
from gitops_mk.model.verdict import Reason
from tests.support.make import ALICE, BOB, IDENTITY
from tests.support.world import (
    BRANCH,
    COMPONENT_PATH,
    CONFIG,
    KNOBS_PATH,
    LICENSED,
    OVERLAY,
    PLAN_PATH,
    UNLICENSED,
    HookedForge,
    Killed,
    World,
    copy_of,
    dying,
)

KUSTOMIZATION = f"{OVERLAY}/kustomization.yaml"


def test_the_first_proposal_is_one_commit_and_one_pull_request(world: World) -> None:
    forge = world.forge()
    plan = world.plan(forge)
    proposal = world.propose(forge, plan)
    assert (proposal.outcome, proposal.writes) == (Outcome.CREATED, 2)
    pr = proposal.pr
    assert pr is not None
    assert (pr.number, pr.plan_digest, pr.labels, pr.draft) == (1, plan.digest, (LABEL,), False)
    assert pr.head_sha == world.tip(BRANCH)
    head = world.server.commit(world.tip(BRANCH))
    assert (head.parents, head.author, head.committer) == ((world.tip(),), IDENTITY, IDENTITY)
    assert {c.path for c in world.server.diff(world.tip(), head.sha)} == {
        KUSTOMIZATION, COMPONENT_PATH, KNOBS_PATH, PLAN_PATH,
    }  # fmt: skip
    assert world.verify(forge).ok


@pytest.mark.parametrize("draft", [False, True])
def test_the_same_plan_again_writes_nothing(world: World, draft: bool) -> None:
    forge = world.forge()
    plan = world.plan(forge)
    world.propose(forge, plan, draft=draft)
    before = world.refs()
    for again in (forge, world.forge()):
        world.clock.advance(3600)
        evidence = world.plan(again)
        assert evidence.digest == plan.digest
        proposal = world.propose(again, evidence, draft=draft)
        assert (proposal.outcome, proposal.writes) == (Outcome.UNCHANGED, 0)
        assert proposal.pr is not None
        assert world.refs() == before


def test_a_changed_plan_rebuilds_the_branch_as_one_commit(world: World) -> None:
    forge = world.forge()
    world.propose(forge)
    first = world.tip(BRANCH)
    world.commit({"README.md": b"on the base\n"})
    other = world.plan(forge, Intent.BURST_ABSORB)
    proposal = world.propose(forge, other)
    assert (proposal.outcome, proposal.writes) == (Outcome.UPDATED, 2)
    head = world.server.commit(world.tip(BRANCH))
    assert head.sha != first
    assert head.parents == (world.tip(),), "on today's base"
    pr = proposal.pr
    assert pr is not None
    assert (pr.number, pr.chord, pr.plan_digest) == (1, "BURST-ABSORB", other.digest)
    assert world.verify(forge).ok


def test_a_base_that_moved_elsewhere_changes_nothing(world: World) -> None:
    forge = world.forge()
    world.propose(forge)
    before = world.tip(BRANCH)
    world.commit({"README.md": b"x\n"})
    assert world.propose(forge, world.plan(forge)).outcome is Outcome.UNCHANGED
    assert world.tip(BRANCH) == before
    assert world.verify(forge).ok


@pytest.mark.parametrize(
    "edit", [b"# top\n", b"components:\n  - ../other\n"], ids=["beside our line", "the same list, made elsewhere"]
)
def test_a_base_that_moved_under_our_lines_rebuilds_the_branch(world: World, edit: bytes) -> None:
    forge = world.forge()
    world.propose(forge)
    first = world.tip(BRANCH)
    text = world.file(KUSTOMIZATION)
    other = b"apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nlabels:\n  - pairs: {a: b}\n"
    world.commit({KUSTOMIZATION: edit + text, "overlays/other/kustomization.yaml": other})
    plan = world.plan(forge)
    assert plan.digest == world.plan(forge).digest
    proposal = world.propose(forge, plan)
    assert proposal.outcome in (Outcome.UPDATED, Outcome.UNCHANGED)
    outcome = world.verify(forge)
    assert outcome.ok, outcome.message
    if b"components" in edit:
        assert world.tip(BRANCH) != first
    assert world.propose(forge, plan).writes == 0


def test_a_base_that_conflicts_rebuilds_the_branch(world: World) -> None:
    forge = world.forge()
    world.propose(forge)
    tail = world.file(KUSTOMIZATION) + b"\nnamePrefix: ''\n"
    world.commit({KUSTOMIZATION: tail})
    proposal = world.propose(forge, world.plan(forge))
    assert proposal.outcome is Outcome.UPDATED
    assert world.verify(forge).ok


def test_a_branch_whose_files_are_not_the_plans_is_made_again(world: World) -> None:
    """By our own name and trailers, but with other bytes: verify would say no for ever."""
    forge = world.forge()
    plan = world.plan(forge)
    world.propose(forge, plan)
    good = world.server.commit(world.tip(BRANCH))
    for files in ({KNOBS_PATH: b"{}\n"}, {PLAN_PATH: b"{}\n"}, {PLAN_PATH: None}, {"extra": b"x"}):
        tree = world.server.write_tree(good.sha, files)
        world.put(BRANCH, tree=tree, parents=list(good.parents), message=good.message)
        assert world.propose(forge, world.plan(forge)).outcome is Outcome.UPDATED
        assert world.server.commit(world.tip(BRANCH)).tree == good.tree
        assert world.verify(forge).ok


# -- people ------------------------------------------------------------------------------------------------------------


def human_commit(world: World) -> str:
    return world.commit({KNOBS_PATH: b"# mine\n"}, branch=BRANCH, by=BOB)


def amended(world: World) -> str:
    """Amended by a person: git keeps the author, and the committer tells."""
    head = world.server.commit(world.tip(BRANCH))
    tree = world.server.write_tree(head.sha, {KNOBS_PATH: b"# mine\n"})
    env = {f"GIT_{who}_{what}": value for who, person in (("AUTHOR", IDENTITY), ("COMMITTER", BOB))
           for what, value in (("NAME", person.name), ("EMAIL", person.email), ("DATE", "@1700000000 +0000"))}  # fmt: skip
    args = ("commit-tree", tree, "-p", head.parents[0])
    sha = world.server.run(*args, stdin=head.message.encode() + b"\n", env=env).decode().strip()
    world.server.run("update-ref", f"refs/heads/{BRANCH}", sha)
    return sha


def merged_base(world: World) -> str:
    """The forge's button that merges the base into the branch."""
    base, head = world.commit({"README.md": b"x"}), world.tip(BRANCH)
    tree = world.server.merge_tree(base, head) or ""
    return world.put(BRANCH, tree=tree, parents=[head, base], by=BOB, message="Merge branch 'main'\n")


@pytest.mark.parametrize("touch", [human_commit, amended, merged_base])
@pytest.mark.parametrize("chord", [Intent.INPUT_STRAGGLER, Intent.BURST_ABSORB], ids=["same plan", "other plan"])
def test_a_persons_commit_pauses_is_said_once_and_never_overwritten(world: World, touch: Any, chord: Intent) -> None:
    forge = world.forge()
    world.propose(forge)
    theirs = touch(world)
    for number in range(3):
        proposal = world.propose(forge, world.plan(forge, chord))
        assert (proposal.outcome, proposal.reason) == (Outcome.PAUSED, Reason.PAUSED_BY_HUMAN)
        assert proposal.writes == (1 if number == 0 else 0)
        assert world.tip(BRANCH) == theirs
    pr = forge.get_pr(1)
    assert pr is not None
    assert LABEL_PAUSED in pr.labels
    assert [c.by for c in pr.comments] == [IDENTITY]
    assert withdraw(forge, BRANCH, pr.workload, "gone", identity=IDENTITY, clock=world.clock).outcome is Outcome.PAUSED
    assert world.tip(BRANCH) == theirs
    assert not world.verify(forge).ok or touch is merged_base
    assert not world.apply(forge).ok


def test_a_persons_branch_of_our_name_is_left_alone(world: World) -> None:
    forge = world.forge()
    theirs = world.put(BRANCH, tree=world.server.write_tree(world.tip(), {"x": b"1"}), parents=[world.tip()], by=BOB)
    forge.refresh()
    proposal = world.propose(forge)
    assert (proposal.outcome, proposal.pr, proposal.writes) == (Outcome.PAUSED, None, 0)
    assert world.tip(BRANCH) == theirs


def test_handed_back_by_deleting_the_branch(world: World) -> None:
    forge = world.forge()
    world.propose(forge)
    human_commit(world)
    forge.refresh()
    world.propose(forge)
    world.server.run("update-ref", "-d", f"refs/heads/{BRANCH}")
    proposal = world.propose(forge, world.plan(forge))
    assert proposal.outcome is Outcome.UPDATED
    assert proposal.pr is not None
    assert LABEL_PAUSED not in proposal.pr.labels, "so that the next time is said again"
    assert world.verify(forge).ok
    human_commit(world)
    forge.refresh()
    assert world.propose(forge).writes == 1


def test_a_push_between_our_look_and_our_write_wins(world: World) -> None:
    forge = world.forge()
    world.propose(forge)
    theirs: list[str] = []

    def push(name: str) -> None:
        if name == "push_branch" and not theirs:
            theirs.append(human_commit(world))

    hooked: Any = HookedForge(forge, before=push)
    proposal = world.propose(hooked, world.plan(forge, Intent.BURST_ABSORB))
    assert proposal.outcome is Outcome.PAUSED
    assert world.tip(BRANCH) == theirs[0]


def test_a_pull_request_a_person_closed_holds_its_knobs_until_released(world: World) -> None:
    forge = world.forge()
    plan = world.plan(forge)
    pr = world.propose(forge, plan).pr
    assert pr is not None
    close_pr(forge, pr, by=BOB, why="not now")
    place = world.place(forge)
    assert f"refs/heads/{BRANCH}" not in world.refs()
    (hold,) = all_holds(place, world.tools)
    assert (hold.pr, hold.by, hold.source, hold.knobs) == (1, "Bob", "closed", tuple(sorted(pr.changes)))
    refused = propose_plan(place, plan, world.tools)
    assert (refused.outcome, refused.reason, refused.writes) == (Outcome.NOTHING, Reason.HELD_BY_REVIEWER, 0)

    assert release_hold(place, 1, ALICE, world.tools) == hold
    released = forge.get_pr(1)
    assert released is not None
    assert LABEL_RELEASED in released.labels
    assert released.comments[-1].by == ALICE
    with pytest.raises(InputError, match="holds nothing"):
        release_hold(place, 1, ALICE, world.tools)
    again = propose_plan(place, world.plan(forge), world.tools)
    assert (again.outcome, again.pr.number if again.pr else None) == (Outcome.CREATED, 2)


def test_a_change_taken_back_on_the_base_holds_until_released(world: World) -> None:
    forge = world.forge()
    merged = world.merged(forge)
    before = {KNOBS_PATH: None, PLAN_PATH: None, COMPONENT_PATH: None}
    original = world.server.read(world.server.log("main")[-1].sha, KUSTOMIZATION)
    world.commit({**before, KUSTOMIZATION: original}, by=BOB, message="Take it back\n")
    forge.refresh()
    world.clock.advance(7200)
    place = world.place(forge)
    (hold,) = all_holds(place, world.tools)
    assert (hold.pr, hold.source) == (merged.number, "reverted")
    plan = world.plan(forge)
    assert propose_plan(place, plan, world.tools).reason is Reason.HELD_BY_REVIEWER
    release_hold(place, merged.number, ALICE, world.tools)
    again = propose_plan(place, world.plan(forge), world.tools)
    assert again.outcome is Outcome.CREATED
    assert again.pr is not None
    outcome = world.verify(forge, again.pr.number)
    assert outcome.ok, outcome.message
    assert world.apply(forge, again.pr.number).ok


def test_closing_keeps_what_somebody_else_put_on_the_branch(world: World) -> None:
    forge = world.forge()
    world.propose(forge)
    theirs = human_commit(world)
    forge.refresh()
    pr = forge.get_pr(1)
    assert pr is not None
    assert close_pr(forge, pr, by=BOB, why="mine").state is PrState.CLOSED
    assert world.tip(BRANCH) == theirs


def test_a_rollback_a_person_asked_for_is_not_replaced(world: World) -> None:
    forge = world.forge()
    merged = world.merged(forge)
    forge.refresh()
    _, proposal = propose_rollback(world.place(forge), merged, world.tools)
    assert proposal.pr is not None
    assert LABEL_REVERT in proposal.pr.labels
    before = world.refs()
    other = world.propose(forge, world.plan(forge, Intent.BURST_ABSORB))
    assert (other.outcome, other.writes, other.reason) == (Outcome.PAUSED, 0, Reason.PAUSED_BY_HUMAN)
    assert world.refs() == before


# -- licence, withdrawal -----------------------------------------------------------------------------------------------


def test_a_draft_without_a_licence_is_made_ready_with_one(world: World) -> None:
    forge = world.forge()
    world.license = UNLICENSED
    drafted = propose_plan(world.place(forge), world.plan(forge), world.tools)
    assert drafted.pr is not None
    assert drafted.pr.draft
    head = world.tip(BRANCH)
    world.license = LICENSED
    ready = propose_plan(world.place(forge), world.plan(forge), world.tools)
    assert ready.pr is not None
    assert (ready.outcome, ready.pr.draft, world.tip(BRANCH)) == (Outcome.UPDATED, False, head)
    world.license = UNLICENSED
    kept = propose_plan(world.place(forge), world.plan(forge), world.tools)
    assert kept.pr is not None
    assert (kept.outcome, kept.pr.draft) == (Outcome.UNCHANGED, False), "ready is not taken back"


def test_when_the_cause_is_gone_it_is_closed_with_the_reason(world: World) -> None:
    forge = world.forge()
    pr = world.propose(forge).pr
    assert pr is not None
    done = withdraw(forge, BRANCH, pr.workload, "the cause is gone: stable", identity=IDENTITY, clock=world.clock)
    assert done.outcome is Outcome.CLOSED
    assert f"refs/heads/{BRANCH}" not in world.refs()
    closed = world.forge().get_pr(1)
    assert closed is not None
    assert (closed.state, closed.close_reason, closed.closed_by) == (
        PrState.CLOSED,
        "the cause is gone: stable",
        IDENTITY,
    )
    assert all_holds(world.place(forge), world.tools) == (), "our own no is no hold"
    again = withdraw(forge, BRANCH, pr.workload, "x", identity=IDENTITY, clock=world.clock)
    assert (again.outcome, again.writes) == (Outcome.NOTHING, 0)
    assert world.propose(forge, world.plan(forge)).outcome is Outcome.CREATED


def test_a_plan_for_other_values_or_another_policy_is_refused(world: World) -> None:
    forge = world.forge()
    plan = world.plan(forge)
    place = world.place(forge)

    def with_(**over: Any) -> Plan:
        fields = {name: getattr(plan, name) for name in Plan.model_fields if name != "digest"}
        return Plan.make(**{**fields, **over})

    with pytest.raises(InputError, match="another overlay or target"):
        propose_plan(place, with_(overlay="overlays/other"), world.tools)
    with pytest.raises(InputError, match="does not know"):
        propose_plan(place, with_(workload=plan.workload.model_copy(update={"name": "other"})), world.tools)
    stale = tuple(c.model_copy(update={"before": c.before + 1}) for c in plan.changes)
    with pytest.raises(InputError, match="plan again: the base branch has changed since|moves"):
        propose_plan(place, with_(changes=stale), world.tools)
    world.commit({CONFIG: world.file(CONFIG).replace(b"passport: pilot", b"passport: perf")})
    forge.refresh()
    with pytest.raises(ConfigError, match="another catalog, passport or configuration"):
        propose_plan(place, plan, world.tools)
    assert set(world.refs()) == {"refs/heads/main"}


# -- killed anywhere ---------------------------------------------------------------------------------------------------


def told(world: World) -> dict[str, Any]:
    """The end state, without the times and numbers of writes that two ways to it may differ in."""
    forge = world.forge()
    prs = [
        (p.number, p.state, p.draft, p.head_sha, p.plan_digest, p.labels, p.title, len(p.comments), p.close_reason)
        for p in forge.list_prs()
    ]
    heads = {name: sha for name, sha in world.refs().items() if name.startswith("refs/heads/")}
    return {"prs": prs, "heads": heads}


def create(world: World, forge: Any) -> None:
    world.propose(forge, world.plan(forge))


def change(world: World, forge: Any) -> None:
    world.propose(forge, world.plan(forge, Intent.BURST_ABSORB))


def pause(world: World, forge: Any) -> None:
    world.propose(forge, world.plan(forge))


def close(world: World, forge: Any) -> None:
    """As the loop does it: first what an earlier run was killed in."""
    settle(forge, IDENTITY)
    withdraw(forge, BRANCH, "ml/deployment-trainer", "gone", identity=IDENTITY, clock=world.clock)


def prepared(source: Path, target: Path, step: Any) -> World:
    world = World(copy_of(source, target))
    if step is pause:
        human_commit(world)
    return world


@pytest.mark.parametrize(("step", "writes"), [(create, 2), (change, 2), (pause, 1), (close, 2)])
@pytest.mark.parametrize("effect", [False, True], ids=["before", "after"])
def test_killed_at_any_write_and_run_again_it_ends_the_same(
    embedded: Path, proposed: Path, tmp_path: Path, step: Any, writes: int, effect: bool
) -> None:
    source = embedded if step is create else proposed
    calm = prepared(source, tmp_path / "calm.git", step)
    step(calm, dying(calm.forge(), writes + 1, effect=effect))
    expected = told(calm)
    for at in range(1, writes + 1):
        again = prepared(source, tmp_path / f"again-{at}.git", step)
        with pytest.raises(Killed):
            step(again, dying(again.forge(), at, effect=effect))
        step(again, again.forge())
        assert told(again) == expected, f"killed at write {at}"
        before = again.refs()
        step(again, again.forge())
        assert again.refs() == before
        again.close()
    calm.close()


def test_the_caller_plans_again_when_the_base_moved_under_a_lost_race(world: World) -> None:
    forge = world.forge()

    def race(name: str) -> None:
        if name == "push_branch":
            world.commit({"README.md": world.tip().encode()})
            world.propose(world.forge())

    hooked: Any = HookedForge(forge, before=race)
    with pytest.raises(ConflictError):
        world.propose(hooked, world.plan(forge, Intent.BURST_ABSORB))
    assert len(world.forge().list_prs()) == 1
