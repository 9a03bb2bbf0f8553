"""The life of a pull request on GitHub, from its opening to what came of it: one a workload, and nobody written over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from gitops_mk.adapters.artifacts import FolderStore
from gitops_mk.adapters.github.pulls import ODD_BASE
from gitops_mk.controller.batch import push_ahead
from gitops_mk.controller.followup import tell_outcome
from gitops_mk.controller.propose import Outcome, Proposal, Proposed, propose, settle, withdraw
from gitops_mk.controller.state import identity_of, policy_of
from gitops_mk.core.ledger import trailers
from gitops_mk.core.planner import compute_action
from gitops_mk.core.weigh.weighing import weigh
from gitops_mk.errors import ForgeError
from gitops_mk.model.change import (
    LABEL,
    LABEL_PAUSED,
    LABEL_REVERT,
    OUTCOME_CHECK,
    ROLLOUT_CHECK,
    TRAILER_DIGEST,
    Check,
    PrState,
    PullRequest,
)
from gitops_mk.model.chord import Intent
from gitops_mk.model.passport import Economics
from gitops_mk.model.plan import PatchTarget
from gitops_mk.model.settings import ForgeSettings, Freeze, Limits, RepoSettings, Schedule, TimeWindow
from gitops_mk.model.signal import SignalName
from gitops_mk.model.telemetry import Pace, Window
from gitops_mk.model.times import format_time
from gitops_mk.model.verdict import Reason
from tests.support.github.faults import Fault
from tests.support.github_world import HubWorld
from tests.support.make import ALICE, IDENTITY, REF, observation, passport, plan
from tests.support.world import BRANCH, KNOBS_PATH


def writes(world: HubWorld) -> list[str]:
    """Everything but reading, and asking for a token."""
    return [
        f"{r.method} {r.path}"
        for r in world.hub.requests
        if r.method != "GET" and not r.path.endswith(("git-upload-pack", "access_tokens"))
    ]


def quiet(world: HubWorld) -> None:
    world.hub.requests.clear()


def pr_of(proposal: Proposal) -> PullRequest:
    assert proposal.pr is not None
    return proposal.pr


# -- opening and changing ------------------------------------------------------------------------------------------------


def test_the_same_plan_again_is_one_pull_request_and_not_one_write(either: HubWorld) -> None:
    first = either.propose(either.forge())
    assert (first.outcome, pr_of(first).labels) == (Outcome.CREATED, (LABEL,))
    quiet(either)
    for _ in range(2):
        again = either.propose(either.forge())
        assert (again.outcome, again.writes) == (Outcome.UNCHANGED, 0)
    either.clock.advance(3600)
    assert either.propose(either.forge()).outcome is Outcome.UNCHANGED
    assert writes(either) == []
    assert len(either.repo.pulls) == 1


def test_one_process_that_goes_on_asks_once_a_turn(world: HubWorld) -> None:
    forge = world.forge()
    world.propose(forge)
    forge.refresh()
    quiet(world)
    forge.refresh()
    world.propose(forge)
    api = [r for r in world.hub.requests if "/api/" in r.path]
    assert [(r.path.rpartition("/")[2], r.status) for r in api] == [("pulls", 304), ("pulls", 304)]


def test_a_changed_plan_is_the_same_pull_request_with_one_commit_on_todays_base(world: HubWorld) -> None:
    world.propose(world.forge())
    old = world.tip(BRANCH)
    world.commit({"README": b"newer"})
    forge = world.forge()
    changed = world.propose(forge, world.plan(forge, Intent.BURST_ABSORB))
    assert (changed.outcome, pr_of(changed).number, len(world.repo.pulls)) == (Outcome.UPDATED, 1, 1)
    commit = world.server.commit(world.tip(BRANCH))
    assert (commit.sha != old, commit.parents) == (True, (world.tip(),))
    assert trailers(commit.message)[TRAILER_DIGEST] == [pr_of(changed).plan_digest]
    assert world.pull().issue.title == pr_of(changed).title
    assert "BURST" in pr_of(changed).chord


def test_a_base_that_moves_beside_it_costs_nothing(world: HubWorld) -> None:
    world.propose(world.forge())
    world.commit({"README": b"newer"})
    quiet(world)
    assert world.propose(world.forge()).outcome is Outcome.UNCHANGED
    assert writes(world) == []


def test_where_branches_must_be_up_to_date_it_is_rebuilt(world: HubWorld) -> None:
    world.configure(b"kind: github", b"kind: github\n  up_to_date: true")
    world.propose(world.forge())
    world.commit({"README": b"newer"})
    assert world.propose(world.forge()).outcome is Outcome.UPDATED
    assert world.server.commit(world.tip(BRANCH)).parents == (world.tip(),)


@pytest.mark.parametrize("base", ["release", "release+1"])
def test_one_that_was_sent_elsewhere_is_put_back(world: HubWorld, base: str) -> None:
    world.propose(world.forge())
    world.hub.move(world.repo, base, world.tip())
    world.pull().base_ref = base
    found = world.forge().get_pr(1)
    assert found is not None
    assert found.base == (base if base == "release" else ODD_BASE)
    assert world.propose(world.forge()).outcome is Outcome.UPDATED
    assert world.pull().base_ref == "main"


SPOILED = {
    "gone": "Edited by a person.",
    "of another kind": "x\n\n<!-- modekeeper:v1 {} -->\n",
    "no JSON": "x\n\n<!-- modekeeper:v1 {oops} -->\n",
    "not at the end": "<!-- modekeeper:v1 {} -->\n\nmore",
    "empty": "",
}


@pytest.mark.parametrize("state", ["open", "closed", "merged"])
@pytest.mark.parametrize("how", SPOILED)
def test_a_record_that_was_spoiled_is_read_from_the_commit(world: HubWorld, how: str, state: str) -> None:
    forge = world.forge()
    before = pr_of(world.propose(forge))
    if state == "closed":
        world.hub.close(world.pull(), world.alice)
    elif state == "merged":
        world.hub.merge_by_hand(world.pull(), world.alice)
    world.pull().issue.body = SPOILED[how]
    found = world.forge().get_pr(1)
    assert found is not None
    assert (found.workload, found.chord, found.plan_digest, found.changes) == (
        before.workload, before.chord, before.plan_digest, before.changes,
    )  # fmt: skip
    assert found.state == state
    if state == "closed":
        assert [hold.pr for hold in world.state(world.forge()).holds] == [1], "a no is heard all the same"


def test_labels_that_a_killed_run_did_not_put_on_are_put_on(world: HubWorld) -> None:
    world.hub.faults.add("POST", "/labels", Fault.status(502))
    with pytest.raises(ForgeError):
        world.propose(world.forge())
    world.propose(world.forge())
    assert [label.name for label in world.pull().issue.labels] == [LABEL]
    quiet(world)
    world.propose(world.forge())
    assert writes(world) == []


def test_labels_and_reviewers_of_the_configuration(world: HubWorld) -> None:
    world.forge_settings = ForgeSettings(kind="github", labels=("Team-A",), reviewers=("alice", "nobody-such"))
    world.hub.label(world.hub.issue(world.repo, world.alice, "x"), "team-a")
    world.configure(b"kind: github", b"kind: github\n  labels: [Team-A]")
    world.propose(world.forge())
    assert {label.name for label in world.pull(2).issue.labels} == {LABEL, "team-a"}
    quiet(world)
    assert world.propose(world.forge()).outcome is Outcome.UNCHANGED
    assert writes(world) == [], "for GitHub they are the same label"


# -- people ------------------------------------------------------------------------------------------------------------


def test_somebodys_commit_pauses_it_until_it_is_handed_back(world: HubWorld) -> None:
    world.propose(world.forge())
    theirs = world.commit({"mine": b"x"}, branch=BRANCH, by=ALICE)
    paused = world.propose(world.forge())
    assert (paused.outcome, paused.reason, world.tip(BRANCH)) == (Outcome.PAUSED, Reason.PAUSED_BY_HUMAN, theirs)
    assert LABEL_PAUSED in pr_of(paused).labels
    quiet(world)
    again = world.propose(world.forge())
    assert (again.outcome, again.writes, writes(world)) == (Outcome.PAUSED, 0, [])
    # The branch is put back to what we made of it.
    world.hub.move(world.repo, BRANCH, world.server.commit(theirs).parents[0])
    back = world.propose(world.forge())
    assert back.outcome is Outcome.UPDATED
    assert LABEL_PAUSED not in pr_of(back).labels


def test_one_that_somebody_else_opened_is_theirs(world: HubWorld) -> None:
    world.propose(world.forge())
    world.pull().issue.user = world.alice
    quiet(world)
    proposal = world.propose(world.forge())
    assert (proposal.outcome, proposal.reason, writes(world)) == (Outcome.PAUSED, Reason.NOT_OURS, [])


def test_a_draft_becomes_ready_once_there_is_a_licence(world: HubWorld) -> None:
    draft = world.propose(world.forge(), draft=True)
    assert pr_of(draft).draft
    assert world.pull().draft
    assert world.apply(world.forge()).reason in (Reason.PR_DRAFT, Reason.VERIFY_MISSING)
    quiet(world)
    assert world.propose(world.forge(), draft=True).outcome is Outcome.UNCHANGED
    assert writes(world) == []
    ready = world.propose(world.forge())
    assert (ready.outcome, pr_of(ready).draft, world.pull().draft) == (Outcome.UPDATED, False, False)
    quiet(world)
    assert world.propose(world.forge(), draft=True).outcome is Outcome.UNCHANGED, (
        "who reviews it is not sent away again"
    )
    assert writes(world) == []


def test_where_there_are_no_drafts_it_is_opened_all_the_same(world: HubWorld) -> None:
    said = {"message": "Validation Failed", "errors": [{"message": "Draft pull requests are not supported"}]}
    world.hub.faults.add("POST", "/pulls$", Fault.status(422, said))
    assert not pr_of(world.propose(world.forge(), draft=True)).draft


def test_withdrawn_it_is_closed_with_why_and_its_branch_is_gone(world: HubWorld) -> None:
    forge = world.forge()
    title = pr_of(world.propose(forge)).title
    done = withdraw(forge, BRANCH, REF.key, "the cause is gone", identity=IDENTITY, clock=world.clock)
    assert done.outcome is Outcome.CLOSED
    issue = world.pull().issue
    assert (issue.state, issue.title, world.pull().merged) == ("closed", f"{title} - autoclosed", False)
    assert f"refs/heads/{BRANCH}" not in world.refs()
    found = world.forge().get_pr(1)
    assert found is not None
    assert found.close_reason == "the cause is gone"
    nothing = withdraw(world.forge(), BRANCH, REF.key, "again", identity=IDENTITY, clock=world.clock)
    assert nothing.outcome is Outcome.NOTHING


def test_one_that_a_person_opened_again_and_closed_is_their_no(world: HubWorld) -> None:
    """That we closed it once says nothing of the second time."""
    forge = world.forge()
    head = pr_of(world.propose(forge)).head_sha
    withdraw(forge, BRANCH, REF.key, "the cause is gone", identity=IDENTITY, clock=world.clock)
    world.clock.advance(86_400)
    world.hub.move(world.repo, BRANCH, head)
    world.hub.reopen(world.pull(), world.alice)
    opened = world.forge().get_pr(1)
    assert opened is not None
    assert (opened.state, opened.closed_by) == (PrState.OPEN, None)
    world.hub.close(world.pull(), world.alice)
    forge = world.forge()
    found = forge.get_pr(1)
    assert found is not None
    assert found.closed_by is not None
    assert found.closed_by.key != forge.identity.key


def test_that_we_closed_it_is_kept_over_what_is_written_later(world: HubWorld) -> None:
    forge = world.forge()
    world.propose(forge)
    withdraw(forge, BRANCH, REF.key, "the cause is gone", identity=IDENTITY, clock=world.clock)
    world.clock.advance(86_400)
    forge = world.forge()
    closed = forge.get_pr(1)
    assert closed is not None
    forge.update_pr(closed, closed.model_copy(update={"close_reason": "another"}))
    again = world.forge().get_pr(1)
    assert again is not None
    assert again.closed_by is not None
    assert (again.closed_by.key, again.close_reason) == (forge.identity.key, "another")


def test_what_a_person_works_on_is_not_withdrawn(world: HubWorld) -> None:
    world.propose(world.forge())
    theirs = world.commit({"mine": b"x"}, branch=BRANCH, by=ALICE)
    done = withdraw(world.forge(), BRANCH, REF.key, "the cause is gone", identity=IDENTITY, clock=world.clock)
    assert (done.outcome, world.pull().state, world.tip(BRANCH)) == (Outcome.PAUSED, "open", theirs)


def test_a_branch_that_was_left_behind_is_swept(world: HubWorld) -> None:
    forge = world.forge()
    world.propose(forge)
    world.hub.faults.add("POST", "git-receive-pack", Fault.drop(), times=9)
    with pytest.raises(ForgeError):
        withdraw(forge, BRANCH, REF.key, "gone", identity=IDENTITY, clock=world.clock)
    world.hub.faults.clear()
    assert f"refs/heads/{BRANCH}" in world.refs()
    settle(world.forge(), IDENTITY)
    assert f"refs/heads/{BRANCH}" not in world.refs()


def test_a_no_is_not_asked_about_again(world: HubWorld) -> None:
    world.propose(world.forge())
    world.hub.close(world.pull(), world.alice)
    (hold,) = world.state(world.forge()).holds
    assert (hold.pr, hold.source, hold.knobs) == (1, "closed", ("dataloader_num_workers",))
    found = world.forge().get_pr(1)
    assert found is not None
    assert found.closed_by is not None
    assert found.closed_by.key != world.forge().identity.key


def test_one_that_a_person_merged_is_merged(world: HubWorld) -> None:
    forge = world.forge()
    before = pr_of(world.propose(forge))
    sha = world.hub.merge_by_hand(world.pull(), world.alice)
    forge = world.forge()
    settle(forge, IDENTITY)
    found = forge.get_pr(1)
    assert found is not None
    assert (found.state, found.merge_sha) == (PrState.MERGED, sha)
    assert [change.plan_digest for change in forge.applied()] == [before.plan_digest]


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_merge_by_either_method_is_what_was_verified(world: HubWorld, method: Any) -> None:
    world.forge_settings = ForgeSettings(kind="github", merge_method=method)
    forge = world.forge()
    merged = world.merged(forge)
    (change,) = world.forge().applied()
    assert change.commit == merged.merge_sha == world.tip()
    assert change.workload == REF.key
    assert f"refs/heads/{BRANCH}" not in world.refs()
    quiet(world)
    settle(world.forge(), IDENTITY)
    assert writes(world) == []


# -- limits and hours ----------------------------------------------------------------------------------------------------


def settings_of(**over: Any) -> RepoSettings:
    return RepoSettings(**{"version": "v1", "forge": ForgeSettings(kind="github"), **over})


def wanted(name: str, settings: RepoSettings, **over: Any) -> Proposed:
    """A plan for a workload of that name, which the repository has beside the trainer."""
    ref = REF.model_copy(update={"name": name})
    made = plan(
        workload=ref, overlay=f"overlays/{name}",
        target=PatchTarget(api_version="apps/v1", kind="Deployment", name=name),
    )  # fmt: skip
    return Proposed(plan=made, passport=passport(), tier="safe", verdicts=(), draft=False, settings=settings, **over)


NAMES = ("a", "b", "c", "d")


@pytest.fixture
def many(world: HubWorld) -> HubWorld:
    """Four more overlays."""
    world.commit({f"overlays/{name}/kustomization.yaml": b"resources:\n  - ../../base\n" for name in NAMES})
    return world


def ask(world: HubWorld, one: Proposed, forge: Any = None) -> Proposal:
    forge = forge or world.forge()
    base = forge.base_tip()
    return propose(
        forge, one, forge.repo.files(base), base, identity=IDENTITY, wording=world.tools.wording, clock=world.clock
    )


def test_no_more_are_opened_than_reviewers_are_asked_to_look_at(many: HubWorld) -> None:
    settings = settings_of(limits=Limits(max_prs_per_hour=None))
    done = [ask(many, wanted(name, settings)) for name in NAMES]
    assert [one.outcome for one in done] == [Outcome.CREATED] * 3 + [Outcome.NOTHING]
    assert done[3].reason is Reason.TOO_MANY_OPEN
    assert "refs/heads/modekeeper/ml/deployment-d" not in many.refs()
    assert ask(many, wanted("d", settings, rollback_of=1)).outcome is Outcome.CREATED, (
        "what undoes a change waits for none"
    )
    assert ask(many, wanted("a", settings)).outcome is Outcome.UNCHANGED, "those that stand are kept up"
    many.hub.close(many.pull(1), many.alice)
    assert ask(many, wanted("b", settings)).outcome is Outcome.UNCHANGED


def test_no_more_are_opened_within_an_hour(many: HubWorld) -> None:
    settings = settings_of()
    done = [ask(many, wanted(name, settings)) for name in NAMES[:3]]
    assert [one.reason for one in done] == [None, None, Reason.TOO_MANY_PER_HOUR]
    many.hub.close(many.pull(1), many.alice)
    assert ask(many, wanted("c", settings)).reason is Reason.TOO_MANY_PER_HOUR, "a closed one was opened, too"
    many.clock.advance(3600)
    assert ask(many, wanted("c", settings)).outcome is Outcome.CREATED


def test_nothing_is_opened_out_of_hours_or_in_a_freeze(many: HubWorld) -> None:
    # It is Sunday, noon.
    weekdays = settings_of(schedule=Schedule(windows=(TimeWindow(days=("mon",)),)))
    frozen = settings_of(schedule=Schedule(freezes=(Freeze(start="2026-03-01", end="2026-03-02", reason="release"),)))
    assert ask(many, wanted("a", weekdays)).reason is Reason.OUTSIDE_SCHEDULE
    closed = ask(many, wanted("a", frozen))
    assert closed.reason is Reason.FROZEN
    assert "release" in closed.message
    assert ask(many, wanted("a", frozen, rollback_of=1)).reason is Reason.FROZEN
    assert many.repo.pulls == []
    assert ask(many, wanted("a", weekdays, rollback_of=1)).outcome is Outcome.CREATED
    many.clock.advance(timedelta(days=1).total_seconds())
    assert ask(many, wanted("b", weekdays)).outcome is Outcome.CREATED


# -- many at once --------------------------------------------------------------------------------------------------------


def ahead(world: HubWorld, all_: Sequence[Proposed], forge: Any = None) -> int:
    forge = forge or world.forge()
    base = forge.base_tip()
    return push_ahead(
        forge, all_, forge.repo.files(base), base, identity=IDENTITY, wording=world.tools.wording, clock=world.clock
    )


def pushes(world: HubWorld) -> int:
    return sum(r.method == "POST" and r.path.endswith("git-receive-pack") for r in world.hub.requests)


UNLIMITED = settings_of(limits=Limits(max_open_prs=None, max_prs_per_hour=None))


def test_many_branches_are_one_push(many: HubWorld) -> None:
    all_ = [wanted(name, UNLIMITED) for name in NAMES]
    forge = many.forge()
    quiet(many)
    assert (ahead(many, all_, forge), pushes(many)) == (4, 1)
    done = [ask(many, one, forge) for one in all_]
    assert [one.outcome for one in done] == [Outcome.CREATED] * 4
    assert pushes(many) == 1, "what was pushed ahead is not pushed again"
    quiet(many)
    assert (ahead(many, all_), writes(many)) == (0, [])


def test_only_as_many_are_pushed_as_may_be_opened(many: HubWorld) -> None:
    all_ = [wanted(name, settings_of()) for name in NAMES]
    assert ahead(many, all_) == 2
    assert [name for name in NAMES if f"refs/heads/modekeeper/ml/deployment-{name}" in many.refs()] == ["a", "b"]
    assert ahead(many, [wanted("c", settings_of(schedule=Schedule(windows=(TimeWindow(days=("mon",)),))))] * 2) == 0


def test_one_that_lost_its_race_does_not_keep_the_others(many: HubWorld) -> None:
    all_ = [wanted(name, UNLIMITED) for name in NAMES[:3]]
    branch = all_[1].plan.workload.branch
    forge = many.forge()
    act = Fault.before(lambda: many.hub.commit(many.repo, branch, {"theirs": b"x"}, by=many.alice))
    many.hub.faults.add("POST", "git-receive-pack", act)
    assert ahead(many, all_, forge) == 2
    outcomes = [ask(many, one).outcome for one in all_]
    assert outcomes == [Outcome.CREATED, Outcome.PAUSED, Outcome.CREATED]


def test_somebodys_branch_is_not_pushed_over(many: HubWorld) -> None:
    all_ = [wanted(name, UNLIMITED) for name in NAMES[:3]]
    many.hub.commit(many.repo, all_[0].plan.workload.branch, {"theirs": b"x"}, by=many.alice)
    theirs = many.tip(all_[0].plan.workload.branch)
    assert ahead(many, all_) == 2
    assert many.tip(all_[0].plan.workload.branch) == theirs


# -- what came of it -----------------------------------------------------------------------------------------------------


def rolled_out(world: HubWorld) -> tuple[Any, PullRequest, Any]:
    """A change that was merged and is seen running."""
    forge = world.forge()
    pr = world.merged(forge)
    (change,) = forge.applied()
    check = Check(
        name=ROLLOUT_CHECK, commit=change.commit, base=change.commit, plan_digest=change.plan_digest,
        conclusion="success", summary="runs", at=format_time(world.clock.now()),
    )  # fmt: skip
    return forge, forge.add_check(pr.number, check), change


def told(world: HubWorld, forge: Any, pr: PullRequest, change: Any, *found: SignalName, **over: Any) -> Any:
    workload = policy_of(forge.repo.files(forge.base_tip()), world.tools.built_in).settings.workloads[0]
    now = world.clock.now()
    window = Window(first_step=0, last_step=399, steps=400, first_ts=(now + timedelta(seconds=1)).isoformat())
    over = {"window": window, "source": "file", **over}
    return tell_outcome(
        world.place(forge),
        pr,
        change,
        workload,
        observation(*found, **over),
        world.tools,
        FolderStore(world.path.parent / "out"),
    )


@pytest.mark.parametrize(
    ("found", "verdict"),
    [((), "kept"), ((SignalName.STRAGGLER,), "no_effect"), ((SignalName.STRAGGLER, SignalName.BURST), "regressed")],
)
def test_what_came_of_it_is_said_once(world: HubWorld, found: tuple[SignalName, ...], verdict: str) -> None:
    forge, pr, change = rolled_out(world)
    world.clock.advance(7200)
    outcome = told(world, forge, pr, change, *found)
    assert outcome is not None
    assert outcome.verdict == verdict
    (comment,) = world.pull().issue.comments
    assert comment.body.startswith(f"**{verdict}**.")
    again = world.forge()
    now = again.get_pr(1)
    assert now is not None
    check = now.newest_check(OUTCOME_CHECK, change.commit)
    assert check is not None
    assert check.conclusion == ("failure" if verdict == "regressed" else "success")
    written = json.loads((world.path.parent / "out" / "outcome_latest.json").read_text())
    assert {key: written[key] for key in ("verdict", "pr", "merge_sha", "chord", "promised", "came")} == {
        "verdict": verdict, "pr": 1, "merge_sha": change.commit, "chord": change.chord, "promised": None, "came": None,
    }  # fmt: skip
    assert written["rollback_pr"] == (2 if verdict == "regressed" else None)
    assert written["schema_version"] == "v0"
    assert told(world, again, now, change, *found) is None
    assert len(world.pull().issue.comments) == 1
    if verdict != "regressed":
        assert len(world.repo.pulls) == 1
        return
    revert = world.forge().get_pr(2)
    assert revert is not None
    assert (revert.rollback_of, revert.state) == (1, PrState.OPEN)
    assert LABEL_REVERT in revert.labels
    assert "#2 takes it back." in comment.body
    assert revert.changes == {knob: (new, old) for knob, (old, new) in change.changes.items()}


def timed(ms: float) -> Pace:
    return Pace(block_steps=8, block_ms=tuple(ms + number % 3 for number in range(64)))


@pytest.mark.parametrize(("now_ms", "verdict"), [(70.0, "kept"), (99.0, "no_effect"), (120.0, "regressed")])
def test_what_was_promised_is_held_against_what_came(world: HubWorld, now_ms: float, verdict: str) -> None:
    forge = world.forge()
    seen = observation(SignalName.STRAGGLER, pace=timed(100.0))
    action = compute_action(world.state(forge), Intent.INPUT_STRAGGLER, seen)
    weighing = weigh(action, world.state(forge).knobs, seen, Economics())
    made = world.plan(forge, observation=seen, weighing=weighing)
    pr = world.merged(forge, made)
    (change,) = forge.applied()
    check = Check(
        name=ROLLOUT_CHECK, commit=change.commit, base=change.commit, plan_digest=change.plan_digest,
        conclusion="success", summary="runs", at=format_time(world.clock.now()),
    )  # fmt: skip
    pr = forge.add_check(pr.number, check)
    assert told(world, forge, pr, change, pace=Pace(block_steps=1, block_ms=(70.0,) * 30)) is None, "too few yet"
    outcome = told(world, forge, pr, change, pace=timed(now_ms))
    assert outcome.verdict == verdict
    written = json.loads((world.path.parent / "out" / "outcome_latest.json").read_text())
    assert written["promised"] == 0.25
    assert written["came"]["low"] <= written["came"]["share"] <= written["came"]["high"]
    assert written["compared"]["steps"] == 512
    (lesson,) = world.state(world.forge()).lessons
    assert lesson.promised == 0.25
    assert lesson.came == pytest.approx(written["came"]["share"], abs=0.001)
    fresh = world.state(world.forge())
    decided = weigh(action, fresh.knobs, seen, Economics(), lessons=fresh.lessons)
    assert decided.caution == pytest.approx({"kept": 1.0}.get(verdict, 0.52), abs=0.03)


def test_steps_without_a_time_are_never_held_against_themselves(world: HubWorld) -> None:
    forge, pr, change = rolled_out(world)
    timeless = Window(first_step=0, last_step=399, steps=400)
    assert told(world, forge, pr, change, SignalName.STRAGGLER, window=timeless) is None
    world.clock.advance(7 * 3600)
    outcome = told(world, forge, pr, change, SignalName.STRAGGLER, window=timeless)
    assert outcome.verdict == "inconclusive"


def test_while_it_can_not_be_told_nothing_is_said(world: HubWorld) -> None:
    forge, pr, change = rolled_out(world)
    assert told(world, forge, pr, change, insufficient=True) is None
    fresh = pr.model_copy(update={"checks": ()})
    assert told(world, forge, fresh, change) is None
    assert told(world, forge, pr, replace_rollback(change)) is None
    assert world.pull().issue.comments == []


def replace_rollback(change: Any) -> Any:
    return change.model_copy(update={"rollback_of": "1" * 64})


def test_a_way_back_that_there_is_none_of_is_said(world: HubWorld) -> None:
    forge, pr, change = rolled_out(world)
    path = KNOBS_PATH
    edited = world.file(path).replace(b'"4"', b'"3"')
    assert edited != world.file(path)
    world.commit({path: edited})
    forge.refresh()
    outcome = told(world, forge, pr, change, SignalName.BURST)
    assert outcome is not None
    assert "could not be proposed" in world.pull().issue.comments[0].body
    assert len(world.repo.pulls) == 1


def test_commits_are_by_whom_the_configuration_names(world: HubWorld) -> None:
    world.propose(world.forge())
    settings = policy_of(world.server.files(world.tip()), world.tools.built_in).settings
    assert world.server.commit(world.tip(BRANCH)).author == identity_of(settings)
