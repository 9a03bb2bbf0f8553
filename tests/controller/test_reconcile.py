"""One workload, looked at once: what is never observed, what a merge waits for, and from when a chord counts as applied."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.controller.reconcile import Memory, Result, reconcile
from gitops_mk.controller.state import state_on_base
from gitops_mk.core.inventory import Found
from gitops_mk.core.source import SyncObjects
from gitops_mk.errors import ConfigError, ForgeError, StoppedError
from gitops_mk.model.change import ROLLOUT_CHECK, PrState, PullRequest
from gitops_mk.model.times import parse_time
from gitops_mk.model.verdict import Reason
from tests.support.desk import Heard, Post, Vote, seen, synced, trainer
from tests.support.make import NOW
from tests.support.world import CONFIG, WRITES, HookedForge, World, builder

Json = dict[str, Any]


@pytest.fixture
def post(world: World, tmp_path: Path) -> Post:
    return Post(world, tmp_path / "out", world.forge())


def look(
    post: Post, live: Json | None = None, known: SyncObjects | None = None, memory: Memory | None = None
) -> Result:
    snapshot = post.snapshot()
    return reconcile(seen(post, live or trainer(), known), snapshot, memory or Memory(), post.desk)


def only_pr(post: Post) -> PullRequest:
    post.forge.refresh()
    (pr,) = post.forge.list_prs()
    return pr


def values(post: Post) -> dict[str, int]:
    """What the base branch builds."""
    snapshot = post.snapshot()
    return dict(
        state_on_base(
            post.forge, snapshot.files, snapshot.policy, snapshot.policy.settings.workloads[0], builder()
        ).knobs
    )


# -- what is proposed --------------------------------------------------------------------------------------------------


def test_a_straggler_is_proposed_and_told(post: Post) -> None:
    done = look(post)
    assert done.state == "pull request #1 open"
    assert done.wrote
    assert only_pr(post).chord == "INPUT-STRAGGLER"
    assert post.ears.events == [("ChordProposed", f"#1: {only_pr(post).title}")]
    assert post.ears.counts["planned INPUT-STRAGGLER"] == 1
    assert post.ears.counts["lines"] > 0


def test_looked_at_again_nothing_new_comes_of_it(post: Post) -> None:
    look(post)
    before = post.world.refs()
    again = look(post)
    assert again.state == "pull request #1 open"
    assert {ref for ref in post.world.refs() if "pr" in ref} == {ref for ref in before if "pr" in ref}
    assert [reason for reason, _ in post.ears.events] == ["ChordProposed"]


def test_stable_ones_in_a_row_are_counted_for_one_object(post: Post) -> None:
    post.source = lambda found, since: Heard("stable")
    memory = Memory("uid")
    assert look(post, memory=memory).state == "stable"
    assert memory.streak.stable_intervals == 1


# -- what is never observed --------------------------------------------------------------------------------------------

UNFIT: dict[str, tuple[Json, dict[str, Any], Reason]] = {
    "mid-rollout": (trainer(status={"updatedReplicas": 1}), {}, Reason.ROLLOUT_IN_PROGRESS),
    "unobserved": (trainer(status={"observedGeneration": 2}), {}, Reason.ROLLOUT_IN_PROGRESS),
    "paused": (trainer(spec={"paused": True}), {}, Reason.SUSPENDED),
    "past its deadline": (
        trainer(status={"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]}),
        {},
        Reason.DEGRADED,
    ),
    "Flux suspended": (trainer(), {"spec": {"suspend": True}}, Reason.SUSPENDED),
    "Flux not ready": (
        trainer(),
        {"status": {"conditions": [{"type": "Ready", "status": "False", "message": "build failed"}]}},
        Reason.OUT_OF_SYNC,
    ),
    "an attempt behind": (trainer(), {"status": {"lastAttemptedRevision": "main@sha1:" + "2" * 40}}, Reason.OUT_OF_SYNC),
    "no knobs": (trainer({}, spec={"template": {"metadata": {}}}), {}, Reason.UNKNOWN_KNOB),
    "owned by another": (trainer(managers={"an-operator": ("concurrency",)}), {}, Reason.FOREIGN_OWNER),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_a_workload_that_is_not_at_rest_is_not_observed(post: Post, name: str) -> None:
    live, over, reason = UNFIT[name]
    before = post.world.refs()
    done = look(post, live, synced(post.world.tip(), **over))
    assert (done.state, done.reason) == ("left alone", reason)
    assert done.message
    assert post.opened == []
    assert post.world.refs() == before


def test_a_knob_turned_by_hand_is_not_planned_on(post: Post) -> None:
    done = look(post, trainer({"concurrency": 9}))
    assert (done.state, done.reason) == ("left alone", Reason.OUT_OF_SYNC)
    assert "concurrency runs at 9" in done.message
    assert post.opened == []


def test_a_label_on_the_live_object_alone_enrols_nothing(post: Post) -> None:
    listed = post.world.file(CONFIG).decode()
    listed = listed[: listed.index("workloads:")] + "discovery: {namespaces: [ml]}\n"
    post.world.commit({CONFIG: listed.encode()})
    done = look(post, trainer(labels={"modekeeper.dev/enabled": "true"}))
    assert (done.state, done.reason) == ("left alone", Reason.NOT_ENABLED)
    assert "on the live object alone" in done.message
    assert post.opened == []


def test_the_label_in_git_enrols(post: Post) -> None:
    listed = post.world.file(CONFIG).decode()
    listed = listed[: listed.index("workloads:")] + "discovery: {namespaces: [ml]}\n"
    overlay = "overlays/demo/kustomization.yaml"
    labelled = post.world.file(overlay).replace(b"team: research", b'team: research, modekeeper.dev/enabled: "true"')
    post.world.commit({CONFIG: listed.encode(), overlay: labelled})
    assert look(post, trainer(labels={"modekeeper.dev/enabled": "true"})).state == "pull request #1 open"


def test_a_configuration_for_another_branch_is_refused(post: Post) -> None:
    text = post.world.file(CONFIG).replace(b"base_branch: main", b"base_branch: release")
    post.world.commit({CONFIG: text})
    with pytest.raises(ConfigError, match="base_branch"):
        post.snapshot()


# -- after a merge -----------------------------------------------------------------------------------------------------


@pytest.fixture
def merged(post: Post) -> PullRequest:
    """The chord is merged, and nothing is synced yet."""
    post.merge = True
    done = look(post)
    assert done.state == "pull request #1 merged"
    assert [reason for reason, _ in post.ears.events] == ["ChordProposed", "ChordMerged"]
    post.opened.clear()
    return only_pr(post)


def rollout_checks(post: Post) -> list[str]:
    return [check.at for check in only_pr(post).checks if check.name == ROLLOUT_CHECK]


def test_a_merge_that_is_not_synced_yet_is_waited_for(post: Post, merged: PullRequest) -> None:
    before = post.world.tip()
    parent = post.world.server.commit(before).parents[0]
    for _ in range(2):
        done = look(post, trainer(), synced(parent))
        assert (done.state, done.reason, done.wrote) == ("waiting", Reason.OUT_OF_SYNC, False)
        assert "not synced yet" in done.message
    assert post.opened == []
    assert rollout_checks(post) == []


def test_a_revision_that_nobody_can_tell_is_waited_for(post: Post, merged: PullRequest) -> None:
    nothing = synced(post.world.tip(), status={"lastAppliedRevision": "", "lastAttemptedRevision": ""})
    assert look(post, trainer(values(post)), nothing).state == "waiting"
    assert rollout_checks(post) == []


def test_a_sync_that_the_workload_is_not_seen_to_follow_is_waited_for(post: Post, merged: PullRequest) -> None:
    """Two watches come in any order: Flux's word is here, and the live object is still the one from before."""
    done = look(post, trainer(), synced(post.world.tip()))
    assert (done.state, done.reason) == ("waiting", Reason.OUT_OF_SYNC)
    assert "not seen to run yet" in done.message
    assert rollout_checks(post) == []


def test_synced_and_still_rolling_out_is_waited_for(post: Post, merged: PullRequest) -> None:
    rolling = trainer(values(post), status={"updatedReplicas": 1})
    assert look(post, rolling, synced(post.world.tip())).reason == Reason.ROLLOUT_IN_PROGRESS
    assert rollout_checks(post) == []


def test_rolled_out_is_recorded_once_and_counts_from_then(post: Post, merged: PullRequest) -> None:
    post.world.clock.advance(90)
    done = look(post, trainer(values(post)))
    assert (done.state, done.wrote) == ("rolled out", True)
    assert post.ears.lags == [90.0]
    assert post.ears.events[-1][0] == "ChordRolledOut"
    ended = NOW + timedelta(seconds=90)
    assert [parse_time(at) for at in rollout_checks(post)] == [ended]
    (check,) = [check for check in only_pr(post).checks if check.name == ROLLOUT_CHECK]
    assert (check.commit, check.plan_digest) == (merged.merge_sha, merged.plan_digest)

    snapshot = post.snapshot()
    state = state_on_base(post.forge, snapshot.files, snapshot.policy, snapshot.policy.settings.workloads[0], builder())
    assert parse_time(state.applied[-1].at) == ended

    # The cooldown runs from there, and telemetry from before it is of other values.
    post.world.clock.advance(1)
    after = look(post, trainer(values(post)))
    assert after.reason == Reason.COOLDOWN_ACTIVE
    assert post.opened == [("ml/deployment-trainer", ended)]
    assert len(rollout_checks(post)) == 1


def test_a_later_revision_counts_too(post: Post, merged: PullRequest) -> None:
    later = post.world.commit({"README.md": b"# Team\n"})
    assert look(post, trainer(values(post)), synced(later)).state == "rolled out"
    assert len(rollout_checks(post)) == 1


def test_a_later_edit_by_hand_counts_with_the_values_it_left(post: Post, merged: PullRequest) -> None:
    """Somebody turned the knob again in Git before the first change was seen to run: the later values are the witness."""
    knobs = "overlays/demo/modekeeper/trainer.knobs.yaml"
    text = post.world.file(knobs)
    now = values(post)["dataloader_num_workers"]
    edited = text.replace(f'dataloader_num_workers: "{now}"'.encode(), b'dataloader_num_workers: "3"')
    assert edited != text
    later = post.world.commit({knobs: edited})
    live = trainer({**values(post), "dataloader_num_workers": now})
    assert look(post, live, synced(later)).state == "waiting"
    assert look(post, trainer(values(post)), synced(later)).state == "rolled out"


def test_without_a_sync_tool_the_values_are_the_witness(post: Post, merged: PullRequest) -> None:
    nobody = SyncObjects()
    assert look(post, trainer(flux=False), nobody).state == "waiting"
    assert rollout_checks(post) == []
    assert look(post, trainer(values(post), flux=False), nobody).state == "rolled out"


def test_a_clock_that_was_set_back_makes_no_negative_lag(post: Post, merged: PullRequest) -> None:
    post.world.clock.at -= timedelta(days=3650)
    assert look(post, trainer(values(post))).state == "rolled out"
    assert post.ears.lags == [0.0]


# -- the fence ---------------------------------------------------------------------------------------------------------


def test_told_to_stop_while_it_reads_nothing_is_written(post: Post) -> None:
    post.source = lambda found, since: Heard("straggler", during=post.stopping.set)
    before = post.world.refs()
    with pytest.raises(StoppedError, match="told to stop"):
        look(post)
    assert post.world.refs() == before


def test_the_lease_lost_between_plan_and_push_means_no_write(post: Post) -> None:
    vote = Vote()

    def lose() -> None:
        vote.leads = False

    post.election = vote
    post.source = lambda found, since: Heard("straggler", during=lose)
    before = post.world.refs()
    with pytest.raises(StoppedError, match="Lease"):
        look(post)
    assert post.world.refs() == before


@pytest.mark.parametrize("writes", range(1, 5))
def test_told_to_stop_between_any_two_writes(world: World, tmp_path: Path, writes: int) -> None:
    """What stands then is whole, and the next controller goes on from it to the same end."""
    stopping = threading.Event()
    done = 0

    def after(name: str) -> None:
        nonlocal done
        if name in WRITES:
            done += 1
            if done == writes:
                stopping.set()

    hooked: Any = HookedForge(world.forge(), after=after)
    first = Post(world, tmp_path / "one", hooked, merge=True, stopping=stopping)
    stopped = False
    try:
        look(first)
    except StoppedError:
        stopped = True
    assert stopped == (done == writes and only_pr_state(world) is not PrState.MERGED)
    assert done <= writes
    second = Post(world, tmp_path / "two", world.forge(), merge=True)
    if only_pr_state(world) is not PrState.MERGED:
        assert look(second).state == "pull request #1 merged"
    assert [pr.state for pr in second.forge.list_prs()] == [PrState.MERGED]


def only_pr_state(world: World) -> PrState | None:
    forge = world.forge()
    prs = forge.list_prs()
    assert len(prs) <= 1
    return prs[0].state if prs else None


def test_a_snapshot_from_before_another_merge_writes_nothing_wrong(post: Post, world: World, tmp_path: Path) -> None:
    """Two controllers with the same picture: one change."""
    old = post.snapshot()
    found: Found = seen(post, trainer())
    other = Post(world, tmp_path / "other", world.forge(), merge=True)
    assert look(other).state == "pull request #1 merged"
    post.merge = True
    # Whatever comes of it, it is what stands that counts.
    with suppress(ForgeError):
        reconcile(found, old, Memory(), post.desk)
    post.forge.refresh()
    assert len(post.forge.applied("ml/deployment-trainer")) == 1
