"""What people ask for in comments and on the dashboard: by whom it is heeded, that it is done once, and what is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gitops_mk.adapters.github import talk
from gitops_mk.adapters.github.talk import DASHBOARD_LABEL, DASHBOARD_TITLE, GitHubBoard
from gitops_mk.controller.door import Door
from gitops_mk.controller.holding import all_holds
from gitops_mk.controller.inbox import act_on_ticks, answer_words, show
from gitops_mk.controller.propose import Outcome, close_pr, withdraw
from gitops_mk.controller.tools import Workplace
from gitops_mk.core.commands import HELP
from gitops_mk.core.render.dashboard import MARK, Row
from gitops_mk.errors import ForgeError
from gitops_mk.model.change import LABEL_KILL_SWITCH, LABEL_PAUSED, LABEL_RELEASED, VERIFY_CHECK, PrState
from gitops_mk.model.verdict import Reason
from tests.support.github.faults import Fault
from tests.support.github.records import Account, Comment, Issue
from tests.support.github_world import HubWorld
from tests.support.make import ALICE, IDENTITY
from tests.support.world import BRANCH


@pytest.fixture
def proposed(world: HubWorld) -> HubWorld:
    """One open pull request of ours."""
    assert world.propose(world.forge()).pr is not None
    return world


def say(world: HubWorld, text: str, by: Account | None = None) -> Comment:
    return world.hub.comment(world.pull(), by or world.alice, text)


def turn(world: HubWorld, place: Workplace | None = None) -> int:
    """One turn of a controller: of one that has just been started, unless it is handed in."""
    place = place or world.place()
    place.forge.refresh()
    return answer_words(place, world.tools, Door())


def ours(world: HubWorld) -> list[Comment]:
    return [c for c in world.pull().issue.comments if c.user is world.app.bot]


def reactions(comment: Comment) -> list[str]:
    return [r.content for r in comment.reactions]


def writes(world: HubWorld) -> int:
    return sum(
        r.method != "GET" and "git-upload" not in r.path and "access_tokens" not in r.path for r in world.hub.requests
    )


def pr_of(world: HubWorld, number: int = 1) -> Any:
    found = world.forge().get_pr(number)
    assert found is not None
    return found


# -- commands ------------------------------------------------------------------------------------------------------------


def test_verify_is_run_and_recorded(proposed: HubWorld) -> None:
    asked = say(proposed, "Please\n/modekeeper verify")
    assert turn(proposed) == 1
    (answer,) = ours(proposed)
    assert answer.body.startswith(f"`verify`: ok for {proposed.tip(BRANCH)[:12]} on {proposed.tip()[:12]}")
    assert f"(asked by alice in comment {asked.id})" in answer.body
    assert reactions(asked) == ["+1"]
    assert [run.name for run in proposed.repo.runs.values()] == [VERIFY_CHECK]


def test_rebase_makes_the_plan_anew_on_todays_base(proposed: HubWorld) -> None:
    say(proposed, "/modekeeper rebase")
    turn(proposed)
    assert "stands on" in ours(proposed)[0].body
    proposed.commit({"README": b"newer"})
    before = proposed.tip(BRANCH)
    say(proposed, "/modekeeper rebase")
    turn(proposed)
    after = proposed.server.commit(proposed.tip(BRANCH))
    assert after.sha != before
    assert after.parents == (proposed.tip(),)
    assert len(ours(proposed)) == 1
    assert f"{after.sha[:12]} on {proposed.tip()[:12]}" in ours(proposed)[0].body


def test_rebase_leaves_somebody_elses_commit_alone(proposed: HubWorld) -> None:
    theirs = proposed.commit({"mine": b"x"}, branch=BRANCH, by=ALICE)
    asked = say(proposed, "/modekeeper rebase")
    turn(proposed)
    assert "it is theirs" in ours(proposed)[0].body
    assert reactions(asked) == ["confused"]
    assert proposed.tip(BRANCH) == theirs


def test_a_hold_blocks_the_gate_until_it_ends_or_is_released(proposed: HubWorld) -> None:
    proposed.verify(proposed.forge())
    say(proposed, "/modekeeper hold 7d")
    turn(proposed)
    assert "not merged before 2026-03-08T12:00:00Z" in ours(proposed)[0].body
    base = proposed.tip()
    applied = proposed.apply(proposed.forge())
    assert (applied.ok, applied.reason) == (False, Reason.HELD_BY_REVIEWER)
    proposed.clock.advance(7 * 86_400 - 1)
    assert proposed.apply(proposed.forge()).reason is Reason.HELD_BY_REVIEWER
    assert proposed.tip() == base
    say(proposed, "/modekeeper release")
    turn(proposed)
    assert "it may be merged" in ours(proposed)[0].body
    assert pr_of(proposed).held_until is None
    say(proposed, "/modekeeper hold 1h")
    turn(proposed)
    assert proposed.apply(proposed.forge()).reason is Reason.HELD_BY_REVIEWER
    proposed.clock.advance(3600)
    assert proposed.apply(proposed.forge()).ok


def test_a_no_is_a_hold_until_it_is_released(proposed: HubWorld) -> None:
    proposed.hub.close(proposed.pull(), proposed.alice)
    forge = proposed.forge()
    (hold,) = all_holds(proposed.place(forge), proposed.tools)
    assert (hold.pr, hold.source) == (1, "closed")
    say(proposed, "/modekeeper verify")
    turn(proposed)
    assert "1 is closed, expected an open one" in ours(proposed)[0].body
    say(proposed, "/modekeeper release")
    turn(proposed)
    assert "may be proposed again" in ours(proposed)[0].body
    forge = proposed.forge()
    assert LABEL_RELEASED in pr_of(proposed).labels
    assert all_holds(proposed.place(forge), proposed.tools) == ()
    again = proposed.propose(forge)
    assert (again.outcome, again.pr.number if again.pr else 0) == (Outcome.CREATED, 2)


def test_explain_tells_every_gate(proposed: HubWorld) -> None:
    say(proposed, "/modekeeper explain")
    turn(proposed)
    said = ours(proposed)[0].body
    for rule in ("kill_switch: open", "license: open", "verify_ok: verify_missing", "rules: open", "calendar: open"):
        assert f"- {rule}" in said
    proposed.hub.close(proposed.pull(), proposed.alice)
    say(proposed, "/modekeeper explain")
    turn(proposed)
    assert "`explain`: it is closed" in ours(proposed)[0].body


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/modekeeper", HELP), ("/modekeeper merge", "`merge` is no command"), ("/modekeeper hold", "takes how long"),
        ("/modekeeper hold 400d", "longer than a year"), ("/modekeeper verify now", "takes nothing after it"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(proposed: HubWorld, text: str, said: str) -> None:
    asked = say(proposed, text)
    assert turn(proposed) == 1
    assert said in ours(proposed)[0].body
    assert reactions(asked) == ["confused"]
    assert turn(proposed) == 0


def say_and_go(world: HubWorld) -> None:
    gone = world.hub.user("gone")
    world.hub.collaborate(world.repo, gone, "write")
    say(world, "/modekeeper release", gone)
    world.hub.delete_user(gone)


SILENT: dict[str, Callable[[HubWorld], object]] = {
    "code": lambda w: say(w, "```\n/modekeeper release\n```"),
    "a quote": lambda w: say(w, "> /modekeeper release"),
    "talk": lambda w: say(w, "try /modekeeper release"),
    "a bot": lambda w: say(w, "/modekeeper release", w.hub.app("helper").bot),
    "ourselves": lambda w: say(w, "/modekeeper release", w.app.bot),
    "somebody who is gone": lambda w: say_and_go(w),
}


@pytest.mark.parametrize("what", SILENT)
def test_these_ask_for_nothing(proposed: HubWorld, what: str) -> None:
    SILENT[what](proposed)
    said, count = len(ours(proposed)), writes(proposed)
    assert turn(proposed) == 0
    assert (len(ours(proposed)), writes(proposed)) == (said, count)


@pytest.mark.parametrize("role", ["none", "read", "triage"])
def test_who_may_not_write_is_told_so_and_nothing_is_done(proposed: HubWorld, role: str) -> None:
    eve = proposed.hub.user("eve")
    proposed.hub.collaborate(proposed.repo, eve, role)
    asked = say(proposed, "/modekeeper hold 7d", eve)
    turn(proposed)
    assert "eve has no write access here: nothing was done" in ours(proposed)[0].body
    assert reactions(asked) == ["confused"]
    assert pr_of(proposed).held_until is None


@pytest.mark.parametrize("role", ["write", "maintain", "admin"])
def test_who_may_write_is_heeded(proposed: HubWorld, role: str) -> None:
    carol = proposed.hub.user("carol")
    proposed.hub.collaborate(proposed.repo, carol, role)
    say(proposed, "/modekeeper hold 7d", carol)
    turn(proposed)
    assert pr_of(proposed).held_until is not None


def test_whoever_took_over_a_login_is_somebody_else(proposed: HubWorld) -> None:
    say(proposed, "/modekeeper hold 7d", proposed.bob)
    proposed.hub.rename_user(proposed.bob, "bob-the-elder")
    proposed.hub.collaborate(proposed.repo, proposed.bob, "none")
    eve = proposed.hub.user("eve")
    proposed.hub.rename_user(eve, "bob")
    turn(proposed)
    assert pr_of(proposed).held_until is None


# -- once --------------------------------------------------------------------------------------------------------------


def test_each_is_done_once_over_restarts_in_one_comment(proposed: HubWorld) -> None:
    words = [say(proposed, "/modekeeper verify"), say(proposed, "/modekeeper hold 7d", proposed.bob)]
    assert turn(proposed) == 2
    words.append(say(proposed, "/modekeeper verify"))
    assert turn(proposed) == 1
    count, until = writes(proposed), pr_of(proposed).held_until
    proposed.clock.advance(60)
    for _ in range(3):
        assert turn(proposed) == 0
    assert (writes(proposed), pr_of(proposed).held_until) == (count, until)
    assert len(ours(proposed)) == 1
    assert [reactions(word) for word in words] == [["+1"]] * 3
    assert len([run for run in proposed.repo.runs.values() if run.name == VERIFY_CHECK]) == 2


def test_a_comment_of_the_same_second_is_heard(proposed: HubWorld) -> None:
    """GitHub's times are whole seconds: the pull request was changed when it was read, and in the same second again."""
    place = proposed.place()
    say(proposed, "hello")
    assert turn(proposed, place) == 0
    say(proposed, "/modekeeper hold 7d")
    assert turn(proposed, place) == 1


def test_quiet_pull_requests_are_not_read_again(proposed: HubWorld) -> None:
    place = proposed.place()
    for _ in range(2):
        turn(proposed, place)
    proposed.hub.requests.clear()
    turn(proposed, place)
    assert not any(r.path.endswith("/comments") for r in proposed.hub.requests)


@pytest.mark.parametrize("restarted", [False, True])
def test_where_our_comment_was_deleted_nothing_is_done_again(proposed: HubWorld, restarted: bool) -> None:
    place = proposed.place()
    say(proposed, "/modekeeper hold 7d")
    turn(proposed, place)
    until = pr_of(proposed).held_until
    (answer,) = ours(proposed)
    del proposed.repo.comments[answer.id]
    proposed.pull().issue.comments.remove(answer)
    proposed.clock.advance(60)
    proposed.pull().issue.updated_at = proposed.hub.now()
    again = None if restarted else place
    assert turn(proposed, again) == 0
    assert pr_of(proposed).held_until == until
    say(proposed, "/modekeeper verify")
    assert turn(proposed, again) == 1
    assert len(ours(proposed)) == 1
    assert turn(proposed) == 0


def test_after_more_commands_than_are_remembered_the_first_are_still_done(
    proposed: HubWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "KEPT", 2)
    for _ in range(4):
        say(proposed, "/modekeeper")
        assert turn(proposed) == 1
    assert turn(proposed) == 0


@pytest.mark.parametrize("path", ["/reactions", "/comments"])
@pytest.mark.parametrize("fault", [Fault.status(502), Fault.status_after(502)], ids=["before", "after"])
def test_an_answer_that_is_lost_ends_in_one_comment(proposed: HubWorld, path: str, fault: Fault) -> None:
    asked = say(proposed, "/modekeeper hold 7d")
    proposed.hub.faults.add("POST", path, fault)
    with pytest.raises(ForgeError):
        turn(proposed)
    proposed.hub.faults.clear()
    for _ in range(2):
        turn(proposed)
    assert len(ours(proposed)) == 1
    # What was answered is not done again for the sake of a reaction.
    assert reactions(asked) == (
        [] if (path, fault.kind) in (("/reactions", "status"), ("/comments", "status_after")) else ["+1"]
    )
    assert turn(proposed) == 0


def test_a_forged_status_comment_hides_nothing(proposed: HubWorld) -> None:
    asked = say(proposed, "/modekeeper hold 7d")
    say(proposed, f'x\n\n<!-- modekeeper:status {{"done":[{asked.id}]}} -->\n', proposed.bob)
    assert turn(proposed) == 1
    assert pr_of(proposed).held_until is not None


def test_a_spoiled_status_comment_is_none(proposed: HubWorld) -> None:
    say(proposed, "/modekeeper")
    turn(proposed)
    ours(proposed)[0].body = '<!-- modekeeper:status {"done":"x"} -->'
    turn(proposed)
    assert turn(proposed) == 0


def test_nothing_is_done_or_said_while_the_kill_switch_is_on(proposed: HubWorld) -> None:
    proposed.hub.label(proposed.pull(), LABEL_KILL_SWITCH)
    asked = say(proposed, "/modekeeper verify")
    count = writes(proposed)
    assert turn(proposed) == 0
    assert writes(proposed) == count
    proposed.hub.unlabel(proposed.pull(), LABEL_KILL_SWITCH)
    assert turn(proposed) == 1
    assert reactions(asked) == ["+1"]


def test_that_it_is_somebodys_now_is_said_once(proposed: HubWorld) -> None:
    proposed.commit({"mine": b"x"}, branch=BRANCH, by=ALICE)
    for _ in range(3):
        proposal = proposed.propose(proposed.forge())
        assert (proposal.outcome, proposal.reason) == (Outcome.PAUSED, Reason.PAUSED_BY_HUMAN)
    assert [c.body for c in ours(proposed) if "it is yours now" in c.body] == [ours(proposed)[0].body]
    assert len(ours(proposed)) == 1
    assert LABEL_PAUSED in pr_of(proposed).labels


# -- the dashboard -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(proposed: HubWorld) -> HubWorld:
    proposed.configure(b"kind: github", b"kind: github\n  dashboard: true")
    return proposed


ROWS = (Row("ml/deployment-trainer", "open", None, "waits for a review"),)


def put_up(world: HubWorld, place: Workplace | None = None, rows: tuple[Row, ...] = ROWS) -> None:
    place = place or world.place()
    place.forge.refresh()
    show(place, rows, world.tools)


def boards(world: HubWorld) -> list[Issue]:
    return [i for i in world.repo.issues.values() if i.pull is None]


def test_it_is_opened_once_and_not_written_while_nothing_changes(shown: HubWorld) -> None:
    put_up(shown)
    (issue,) = boards(shown)
    assert (issue.title, [label.name for label in issue.labels]) == (DASHBOARD_TITLE, [DASHBOARD_LABEL])
    assert (issue.body or "").startswith(MARK)
    assert "#1 " in (issue.body or "")
    count, place = writes(shown), shown.place()
    for _ in range(3):
        put_up(shown)
        put_up(shown, place)
    assert writes(shown) == count
    put_up(shown, rows=(Row("ml/deployment-trainer", "open", None, "something new"),))
    assert writes(shown) == count + 1
    assert "something new" in (boards(shown)[0].body or "")
    assert len(boards(shown)) == 1


def test_it_is_opt_in(proposed: HubWorld) -> None:
    put_up(proposed)
    assert boards(proposed) == []


def test_it_is_not_written_while_the_kill_switch_is_on(shown: HubWorld) -> None:
    shown.hub.label(shown.pull(), LABEL_KILL_SWITCH)
    put_up(shown)
    assert boards(shown) == []


def tick(world: HubWorld, what: str) -> None:
    (issue,) = boards(world)
    lines = (issue.body or "").split("\n")
    assert any(what in line for line in lines)
    issue.body = "\r\n".join(line.replace("- [ ]", "- [x]") if what in line else line for line in lines)
    issue.updated_at = world.hub.now()


def test_a_tick_acts_once(shown: HubWorld) -> None:
    place = shown.place()
    put_up(shown, place)
    shown.clock.advance(5)
    tick(shown, "verify #1")
    assert act_on_ticks(place, shown.tools, Door()) == 1
    put_up(shown, place)
    assert act_on_ticks(place, shown.tools, Door()) == 0
    assert act_on_ticks(shown.place(), shown.tools, Door()) == 0
    assert len([run for run in shown.repo.runs.values() if run.name == VERIFY_CHECK]) == 1


def test_a_tick_on_a_hold_releases_it(shown: HubWorld) -> None:
    shown.hub.close(shown.pull(), shown.alice)
    place = shown.place()
    put_up(shown, place)
    shown.clock.advance(5)
    tick(shown, "release #1")
    assert act_on_ticks(place, shown.tools, Door()) == 1
    assert LABEL_RELEASED in pr_of(shown).labels


def test_an_issue_of_somebody_elses_is_none_of_ours(shown: HubWorld) -> None:
    body = f"{MARK}\n- [x] verify #1 <!-- mk:verify=1 -->\n"
    shown.hub.issue(shown.repo, shown.alice, DASHBOARD_TITLE, body, labels=[DASHBOARD_LABEL])
    assert act_on_ticks(shown.place(), shown.tools, Door()) == 0
    put_up(shown)
    assert len(boards(shown)) == 2


def test_a_listing_that_lags_behind_opens_no_second_one_and_repeats_no_tick(shown: HubWorld) -> None:
    place = shown.place()
    assert place.board is not None
    place.board.read()
    shown.hub.eventual = 50
    put_up(shown, place)
    shown.clock.advance(5)
    put_up(shown, place, rows=(Row("ml/deployment-trainer", "open", None, "something new"),))
    put_up(shown, place, rows=(Row("ml/deployment-trainer", "open", None, "something new"),))
    assert len(boards(shown)) == 1


def test_one_that_was_closed_is_opened_anew(shown: HubWorld) -> None:
    place = shown.place()
    put_up(shown, place)
    (issue,) = boards(shown)
    issue.state = "closed"
    issue.updated_at = shown.hub.now() + 1
    put_up(shown, place)
    assert [i.state for i in boards(shown)] == ["closed", "open"]


@pytest.mark.parametrize("fault", [Fault.status(502), Fault.status_after(502)], ids=["before", "after"])
def test_one_whose_opening_got_no_answer_is_found(shown: HubWorld, fault: Fault) -> None:
    shown.hub.faults.add("POST", "/issues$", fault)
    with pytest.raises(ForgeError):
        put_up(shown)
    put_up(shown)
    assert len(boards(shown)) == 1


def test_writing_without_having_read_opens_no_second_one(shown: HubWorld) -> None:
    put_up(shown)
    board = GitHubBoard(shown.forge())
    board.write(f"{MARK}\nnew")
    assert [i.body for i in boards(shown)] == [f"{MARK}\nnew"]
    assert board.read() == f"{MARK}\nnew"


@pytest.mark.parametrize("body", [5, {"a": 1}, [5], [None]], ids=str)
def test_a_listing_of_other_things_is_told(shown: HubWorld, body: Any) -> None:
    board = GitHubBoard(shown.forge())
    shown.hub.faults.add("GET", r"/issues\?", Fault.status(200, body))
    with pytest.raises(ForgeError):
        board.read()


# -- taking back ---------------------------------------------------------------------------------------------------------


def test_a_person_at_the_keyboard_says_no_as_well(proposed: HubWorld) -> None:
    forge = proposed.forge()
    pr = forge.get_pr(1)
    assert pr is not None
    closed = close_pr(forge, pr, by=ALICE, why="not now", author=IDENTITY)
    assert closed.state is PrState.CLOSED
    (hold,) = all_holds(proposed.place(), proposed.tools)
    assert hold.pr == 1
    assert not proposed.pull().issue.title.endswith(" - autoclosed")


def test_what_we_withdraw_ourselves_holds_nothing(proposed: HubWorld) -> None:
    done = withdraw(
        proposed.forge(), BRANCH, "ml/deployment-trainer", "not seen any more", identity=IDENTITY, clock=proposed.clock
    )
    assert done.outcome is Outcome.CLOSED
    assert all_holds(proposed.place(), proposed.tools) == ()
