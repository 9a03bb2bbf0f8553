"""Rolling back: a merged change is undone by a pull request like any other, or refused when it can't be undone."""

from __future__ import annotations

import pytest

from gitops_mk.controller.holding import all_holds, release_hold
from gitops_mk.controller.propose import Outcome, Proposal, close_pr
from gitops_mk.controller.rollback import find_applied, propose_rollback
from gitops_mk.errors import InputError
from gitops_mk.model.change import LABEL_REVERT, PrState, PullRequest
from gitops_mk.model.chord import Intent
from gitops_mk.model.verdict import Reason
from tests.support.make import ALICE
from tests.support.world import CONFIG, KNOBS_PATH, LICENSED, UNLICENSED, World


def roll_back(world: World, pr: PullRequest) -> tuple[Proposal, PullRequest]:
    _, proposal = propose_rollback(world.place(), pr, world.tools)
    assert proposal.pr is not None
    return proposal, proposal.pr


def test_it_puts_every_knob_back_without_waiting_for_the_cooldown(world: World) -> None:
    before = dict(world.state(world.forge()).knobs)
    merged = world.merged(world.forge())
    assert dict(world.state(world.forge()).knobs) != before
    proposal, pr = roll_back(world, merged)
    assert proposal.outcome is Outcome.CREATED
    assert (pr.number, pr.rollback_of, pr.chord) == (2, 1, "RECOVER-RELOCK")
    assert LABEL_REVERT in pr.labels
    assert pr.changes == {knob: (after, old) for knob, (old, after) in merged.changes.items()}
    assert pr.title.startswith("Roll back")
    outcome = world.verify(world.forge(), 2)
    assert outcome.ok, outcome.message
    assert world.apply(world.forge(), 2).ok
    assert dict(world.state(world.forge()).knobs) == before


def test_what_was_taken_back_is_held_and_can_be_released(world: World) -> None:
    merged = world.merged(world.forge())
    _, pr = roll_back(world, merged)
    world.verify(world.forge(), pr.number)
    assert world.apply(world.forge(), pr.number).ok
    place = world.place()
    for hold in all_holds(place, world.tools):
        assert hold.source == "reverted"
        if hold.pr is not None:
            release_hold(place, hold.pr, ALICE, world.tools)
    assert all_holds(place, world.tools) == ()


def test_asked_for_twice_it_is_one_pull_request(world: World) -> None:
    merged = world.merged(world.forge())
    roll_back(world, merged)
    before = world.refs()
    proposal, pr = roll_back(world, merged)
    assert (proposal.outcome, proposal.writes, pr.number) == (Outcome.UNCHANGED, 0, 2)
    assert world.refs() == before


def test_it_takes_over_an_open_proposal_of_the_workload(world: World) -> None:
    merged = world.merged(world.forge())
    world.clock.advance(86_400)
    world.propose(world.forge(), world.plan(world.forge(), Intent.BURST_ABSORB))
    proposal, pr = roll_back(world, merged)
    assert (proposal.outcome, pr.number, pr.rollback_of) == (Outcome.UPDATED, 2, 1)
    assert world.verify(world.forge(), 2).ok


def test_it_is_refused_when_the_values_changed_since(world: World) -> None:
    merged = world.merged(world.forge())
    world.commit({KNOBS_PATH: world.file(KNOBS_PATH).replace(b'num_workers: "4"', b'num_workers: "5"')})
    before = world.refs()
    with pytest.raises(InputError, match="stands at 5, the change left it at 4"):
        propose_rollback(world.place(), merged, world.tools)
    assert world.refs() == before


def test_it_is_refused_for_what_was_never_merged(world: World) -> None:
    forge = world.forge()
    pr = world.propose(forge).pr
    assert pr is not None
    with pytest.raises(InputError, match="#1 is open, expected a merged one"):
        propose_rollback(world.place(), pr, world.tools)
    closed = close_pr(forge, pr, by=ALICE, why="no")
    with pytest.raises(InputError, match="is closed"):
        propose_rollback(world.place(), closed, world.tools)
    with pytest.raises(InputError, match="not in the base branch's history"):
        find_applied(pr.model_copy(update={"state": PrState.MERGED}), ())


def test_it_is_refused_for_a_workload_nobody_configures_any_more(world: World) -> None:
    merged = world.merged(world.forge())
    world.commit({CONFIG: b"version: v1\nbase_branch: main\nworkloads: []\n"})
    with pytest.raises(InputError, match="does not know any more"):
        propose_rollback(world.place(), merged, world.tools)


def test_limits_that_were_tightened_since_do_not_stand_in_the_way(world: World) -> None:
    """When it is needed most, nothing but the way back being exact may matter."""
    merged = world.merged(world.forge())
    world.commit({CONFIG: world.file(CONFIG).replace(b"passport: pilot", b"passport: comm")})
    _, pr = roll_back(world, merged)
    assert world.verify(world.forge(), pr.number).ok


def test_without_a_licence_it_is_a_draft(world: World) -> None:
    merged = world.merged(world.forge())
    world.license = UNLICENSED
    _, pr = roll_back(world, merged)
    assert pr.draft
    world.verify(world.forge(), 2)
    applied = world.apply(world.forge(), 2)
    assert (applied.ok, applied.reason) == (False, Reason.LICENSE_MISSING)
    world.license = LICENSED
    proposal, pr = roll_back(world, merged)
    assert (proposal.outcome, pr.draft) == (Outcome.UPDATED, False)


def test_a_rollback_is_not_rolled_back(world: World) -> None:
    """That would bring back what a person took back, past every rule that guards a chord."""
    merged = world.merged(world.forge())
    roll_back(world, merged)
    world.verify(world.forge(), 2)
    done = world.apply(world.forge(), 2)
    assert done.pr is not None
    with pytest.raises(InputError, match="is a rollback itself"):
        propose_rollback(world.place(), done.pr, world.tools)


def test_a_merged_rollback_holds_the_chord_until_released(world: World) -> None:
    merged = world.merged(world.forge())
    roll_back(world, merged)
    world.verify(world.forge(), 2)
    assert world.apply(world.forge(), 2).ok
    [hold] = world.state(world.forge()).holds
    assert (hold.source, hold.pr, hold.by) == ("reverted", 2, "a rollback")
    release_hold(world.place(), 2, ALICE, world.tools)
    assert world.state(world.forge()).holds == ()
