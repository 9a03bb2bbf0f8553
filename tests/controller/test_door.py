"""The gate's last answer is given again while nothing has changed, and no longer than it may be true."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gitops_mk.controller.apply import Applied
from gitops_mk.controller.door import LATER_S, RESTLESS, SOON_S, Answer, Door
from gitops_mk.model.gate import VerifyOutcome
from gitops_mk.model.verdict import Reason, Verdict
from tests.support import make

PR = make.pull_request()
SEEN = VerifyOutcome(
    ok=True, base=make.SHA_A, head=make.SHA_B, tree=make.TREE, plan_digest=None, workload=None,
    steps=(Verdict.allow("scope"),),
)  # fmt: skip


def answer(reason: Reason | None) -> Answer:
    return Answer(SEEN, Applied(False, PR, None, reason=reason) if reason is not None else None)


def test_the_same_is_answered_the_same_for_a_while() -> None:
    door, said = Door(), answer(Reason.REVIEW_REQUIRED)
    assert door.recall(PR, "beside", 0.0) is None
    door.remember(PR, "beside", 100.0, said)
    assert door.recall(PR, "beside", 100.0 + LATER_S - 1) is said
    assert door.recall(PR, "beside", 100.0 + LATER_S) is None


@pytest.mark.parametrize("reason", sorted(RESTLESS))
def test_what_changes_by_itself_is_asked_again_soon(reason: Reason) -> None:
    door, said = Door(), answer(reason)
    door.remember(PR, None, 0.0, said)
    assert door.recall(PR, None, SOON_S - 1) is said
    assert door.recall(PR, None, SOON_S) is None


def test_a_verify_that_said_no_is_run_again_soon() -> None:
    door, said = Door(), Answer(SEEN.model_copy(update={"ok": False}), None)
    door.remember(PR, None, 0.0, said)
    assert door.recall(PR, None, SOON_S) is None


def test_any_change_asks_again() -> None:
    door = Door()
    door.remember(PR, ("base", 1), 0.0, answer(Reason.REVIEW_REQUIRED))
    for other in (
        {"head_sha": make.SHA_C},
        {"labels": ("x",)},
        {"updated_at": "2026-03-01T12:00:01Z"},
        {"draft": True},
    ):
        assert door.recall(PR.model_copy(update=other), ("base", 1), 1.0) is None, other
    assert door.recall(PR, ("base", 2), 1.0) is None
    assert door.recall(PR.model_copy(update={"number": 2}), ("base", 1), 1.0) is None
    door.forget(PR.number)
    assert door.recall(PR, ("base", 1), 1.0) is None


def test_an_answer_is_a_value() -> None:
    assert replace(answer(None)) == answer(None)
