"""What git remembers: trailers, holds, and the last stable profile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.ledger import applied_change, holds, since_rollout, stable_profile, trailers
from gitops_mk.model.change import LABEL_RELEASED, ROLLOUT_CHECK, VERIFY_CHECK, Check, PrState
from gitops_mk.model.git import CommitInfo
from tests.support import make

MESSAGE = f"""\
INPUT-STRAGGLER on ml/deployment-trainer

because

ModeKeeper-Workload: ml/deployment-trainer
ModeKeeper-Chord: INPUT-STRAGGLER
ModeKeeper-Plan-Digest: {"1" * 64}
ModeKeeper-Change: dataloader_num_workers 2 4
ModeKeeper-Change: broken
"""


def commit(message: str = MESSAGE, time: int = 1_700_000_000) -> CommitInfo:
    return CommitInfo(sha=make.SHA_A, tree=make.TREE, parents=(), author=make.IDENTITY, time=time, message=message)


def test_trailers_are_the_last_paragraph() -> None:
    assert trailers(MESSAGE)["ModeKeeper-Change"] == ["dataloader_num_workers 2 4", "broken"]
    assert trailers(MESSAGE + "\nand more words") == {}
    assert trailers("") == {}


def test_applied_change() -> None:
    found = applied_change(commit())
    assert found is not None
    assert found.changes == {"dataloader_num_workers": (2, 4)}
    assert found.at == "2023-11-14T22:13:20Z"
    assert applied_change(commit("x"), MESSAGE) is not None
    undo = applied_change(commit(MESSAGE.rstrip() + f"\nModeKeeper-Rollback-Of: {'2' * 64}\n"))
    assert undo is not None
    assert undo.rollback_of == "2" * 64
    early = applied_change(commit(time=-5))
    assert early is not None
    assert early.at == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "message",
    [
        "no trailers",
        MESSAGE.replace("1" * 64, "1" * 63),
        MESSAGE.replace("ModeKeeper-Chord: INPUT-STRAGGLER\n", ""),
        MESSAGE.replace("ModeKeeper-Chord: INPUT-STRAGGLER", "ModeKeeper-Chord: A\nModeKeeper-Chord: B"),
    ],
)
def test_not_ours(message: str) -> None:
    assert applied_change(commit(message)) is None


@given(st.text(max_size=200))
def test_any_message_can_be_read(message: str) -> None:
    applied_change(commit(message))


class TestStableProfile:
    def profile(self, *changes: Any, **now: int) -> dict[str, int] | None:
        return stable_profile(changes, {**make.KNOBS, **now})

    def test_nothing_of_ours(self) -> None:
        assert self.profile() is None

    def test_back_through_an_unbroken_run(self) -> None:
        first = make.applied("INPUT-STRAGGLER", {"dataloader_num_workers": (2, 4)})
        second = make.applied("INPUT-STRAGGLER", {"dataloader_num_workers": (4, 8)})
        assert self.profile(first, second, dataloader_num_workers=8) == make.KNOBS

    def test_a_persons_edit_is_a_new_start(self) -> None:
        first = make.applied("INPUT-STRAGGLER", {"dataloader_num_workers": (2, 4)})
        assert self.profile(first, dataloader_num_workers=6) is None
        second = make.applied("INPUT-STRAGGLER", {"dataloader_num_workers": (6, 8)})
        assert self.profile(first, second, dataloader_num_workers=8) == {**make.KNOBS, "dataloader_num_workers": 6}

    def test_halfway_back_goes_on(self) -> None:
        up = make.applied("INPUT-STRAGGLER", {"dataloader_num_workers": (2, 8)})
        down = make.applied("RECOVER-RELOCK", {"dataloader_num_workers": (8, 4)})
        assert self.profile(up, down, dataloader_num_workers=4) == make.KNOBS

    def test_a_chord_that_came_again_after_a_walk_back_is_needed(self) -> None:
        up = make.applied("INPUT-STRAGGLER", {"dataloader_num_workers": (2, 4)})
        down = make.applied("RECOVER-RELOCK", {"dataloader_num_workers": (4, 2)})
        again = make.applied("INPUT-STRAGGLER", {"dataloader_num_workers": (2, 4)})
        assert self.profile(up, down, again, dataloader_num_workers=4) is None

    def test_a_rollback_is_a_new_start(self) -> None:
        up = make.applied("INPUT-STRAGGLER", {"dataloader_num_workers": (2, 4)})
        back = make.applied("RECOVER-RELOCK", {"dataloader_num_workers": (4, 2)})
        back = back.model_copy(update={"rollback_of": "1" * 64})
        assert self.profile(up, back) is None

    def test_only_a_walk_back_in_force(self) -> None:
        down = make.applied("RECOVER-RELOCK", {"dataloader_num_workers": (4, 2)})
        assert self.profile(down) is None


class TestHolds:
    def held(self, *prs: Any, applied: Any = (), **now: int) -> list[tuple[str, tuple[str, ...], int | None]]:
        found = holds(prs, applied, {make.REF.key: {**make.KNOBS, **now}}, identity=make.IDENTITY)
        return [(h.source, h.knobs, h.pr) for h in found]

    def closed(self, **over: Any) -> Any:
        return make.pull_request(**{"state": PrState.CLOSED, "closed_by": make.ALICE, **over})

    def test_closed_by_a_person(self) -> None:
        assert self.held(self.closed()) == [("closed", ("dataloader_num_workers",), 1)]
        assert self.held(self.closed(closed_by=None)) == [("closed", ("dataloader_num_workers",), 1)]
        assert self.held(self.closed(closed_by=make.IDENTITY)) == []
        assert self.held(self.closed(labels=(LABEL_RELEASED,))) == []
        assert self.held(self.closed(changes={})) == []
        assert self.held(make.pull_request()) == []

    def test_reverted(self) -> None:
        change = make.applied(changes={"dataloader_num_workers": (2, 4), "dataloader_prefetch_factor": (1, 2)})
        merged = make.pull_request(state=PrState.MERGED, number=7, merge_sha=make.SHA_A)
        assert self.held(merged, applied=(change,)) == [("reverted", ("dataloader_num_workers",), 7)]
        assert self.held(applied=(change,)) == [("reverted", ("dataloader_num_workers",), None)]
        assert self.held(applied=(change,), dataloader_num_workers=4) == []
        assert self.held(applied=(change,), dataloader_num_workers=3) == []
        released = merged.model_copy(update={"labels": (LABEL_RELEASED,)})
        assert self.held(released, applied=(change,)) == []

    def test_the_same_decision_taken_back_twice_is_held_twice(self) -> None:
        """Digests repeat by design; a release is for one merge."""
        first = make.applied(commit=make.SHA_A)
        again = make.applied(commit=make.SHA_B)
        released = make.pull_request(state=PrState.MERGED, number=1, merge_sha=make.SHA_A, labels=(LABEL_RELEASED,))
        second = make.pull_request(state=PrState.MERGED, number=2, merge_sha=make.SHA_B)
        assert self.held(released, second, applied=(first, again)) == [("reverted", ("dataloader_num_workers",), 2)]

    def test_a_merged_rollback_holds_what_it_took_back(self) -> None:
        up = make.applied()
        down = make.applied("RECOVER-RELOCK", {"dataloader_num_workers": (4, 2)}, commit=make.SHA_B, digest="2" * 64)
        down = down.model_copy(update={"rollback_of": "1" * 64})
        rollback = make.pull_request(state=PrState.MERGED, number=2, merge_sha=make.SHA_B, rollback_of=1)
        assert self.held(rollback, applied=(up, down)) == [("reverted", ("dataloader_num_workers",), 2)]
        assert self.held(rollback, applied=(up, down), dataloader_num_workers=3) == []
        released = rollback.model_copy(update={"labels": (LABEL_RELEASED,)})
        assert self.held(released, applied=(up, down)) == []

    def test_declining_an_undo_is_no_word_against_the_chord(self) -> None:
        assert self.held(self.closed(rollback_of=1)) == []

    def test_a_walk_back_of_ours_is_no_revert(self) -> None:
        up = make.applied(changes={"dataloader_num_workers": (2, 4)})
        down = make.applied("RECOVER-RELOCK", {"dataloader_num_workers": (4, 2)}, commit=make.SHA_B, digest="2" * 64)
        assert self.held(applied=(up, down)) == []


class TestSinceRollout:
    LATER, EARLIER = "2026-03-01T13:00:00Z", "2026-03-01T11:00:00Z"

    def merged(self, at: str | None, **over: Any) -> Any:
        checks: tuple[Check, ...] = ()
        if at is not None:
            checks = (
                Check(
                    name=over.pop("name", ROLLOUT_CHECK), commit=over.pop("on", make.SHA_A), base=make.SHA_C, plan_digest=None,
                    conclusion="success", summary="", at=at,
                ),
            )  # fmt: skip
        fields: dict[str, Any] = {"state": PrState.MERGED, "merge_sha": make.SHA_A, "checks": checks, **over}
        return make.pull_request(**fields)

    def dates(self, *prs: Any) -> list[str]:
        first, second = make.applied(commit=make.SHA_A), make.applied(commit=make.SHA_B)
        found = since_rollout((first, second), prs)
        assert [change.model_copy(update={"at": first.at}) for change in found] == [first, second]
        return [change.at for change in found]

    def test_dated_from_its_rollout(self) -> None:
        now = make.applied().at
        assert self.dates(self.merged(self.LATER)) == [self.LATER, now]
        # A clock that went back makes nothing older.
        assert self.dates(self.merged(self.EARLIER)) == [now, now]

    def test_nothing_on_record(self) -> None:
        now = make.applied().at
        assert self.dates() == [now, now]
        assert self.dates(self.merged(None)) == [now, now]
        assert self.dates(self.merged(self.LATER, merge_sha=None, state=PrState.OPEN)) == [now, now]
        assert self.dates(self.merged(self.LATER, name=VERIFY_CHECK)) == [now, now]
        assert self.dates(self.merged(self.LATER, on=make.SHA_B)) == [now, now]
        assert since_rollout((), (self.merged(self.LATER),)) == ()
