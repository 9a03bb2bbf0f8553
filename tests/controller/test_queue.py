"""Which workload is due when: none keeps another waiting, and one that fails is asked later and later."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.controller.queue import BACKOFF_MAX_S, BACKOFF_S, WorkQueue

INTERVAL = 60.0


@pytest.fixture
def queue() -> WorkQueue:
    found = WorkQueue(INTERVAL)
    found.keep(["a", "b"], 100.0)
    return found


def test_new_ones_are_due_at_once(queue: WorkQueue) -> None:
    assert queue.due(99.9) == ()
    assert queue.due(100.0) == ("a", "b")
    assert queue.next_at() == 100.0


def test_an_empty_queue() -> None:
    queue = WorkQueue(INTERVAL)
    assert queue.due(1e9) == ()
    assert queue.next_at() is None


def test_exactly_these(queue: WorkQueue) -> None:
    queue.done("a", 100.0)
    queue.keep(["a", "c"], 110.0)
    assert queue.due(110.0) == ("c",)
    assert queue.due(160.0) == ("c", "a")
    # One that went and came back is new.
    queue.keep(["c"], 110.0)
    queue.keep(["a", "c"], 111.0)
    assert queue.due(111.0) == ("c", "a")


def test_after_the_interval(queue: WorkQueue) -> None:
    queue.done("a", 105.0)
    assert queue.due(164.9) == ("b",)
    assert queue.due(165.0) == ("b", "a")


class TestNudge:
    def test_due_at_once(self, queue: WorkQueue) -> None:
        queue.done("a", 100.0)
        queue.done("b", 100.0)
        queue.nudge("a", 120.0)
        assert queue.due(120.0) == ("a",)
        # What is due already is not put back.
        queue.nudge("a", 130.0)
        assert queue.next_at() == 120.0

    def test_one_that_fails_is_left_alone(self, queue: WorkQueue) -> None:
        queue.failed("a", 100.0)
        queue.done("b", 100.0)
        queue.nudge("a", 101.0)
        assert queue.due(101.0) == ()
        queue.done("a", 105.0)
        queue.nudge("a", 106.0)
        assert queue.due(106.0) == ("a",)

    def test_nobody(self, queue: WorkQueue) -> None:
        queue.nudge("z", 100.0)
        queue.done("z", 100.0)
        assert queue.failed("z", 100.0) == 0.0
        assert queue.due(1e9) == ("a", "b")


class TestFailing:
    def test_pauses_double_up_to_a_bound(self, queue: WorkQueue) -> None:
        pauses = [queue.failed("a", 100.0) for _ in range(9)]
        assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0]
        assert queue.due(699.9) == ("b",)
        assert queue.due(700.0) == ("b", "a")

    def test_for_weeks(self, queue: WorkQueue) -> None:
        for _ in range(3000):
            pause = queue.failed("a", 100.0)
        assert pause == BACKOFF_MAX_S

    def test_it_goes_well_again(self, queue: WorkQueue) -> None:
        queue.failed("a", 100.0)
        queue.failed("a", 105.0)
        queue.done("a", 115.0)
        assert queue.failed("a", 175.0) == BACKOFF_S

    def test_it_keeps_no_other_waiting(self, queue: WorkQueue) -> None:
        queue.done("b", 100.0)
        for _ in range(20):
            queue.failed("a", 100.0)
        queue.keep(["a", "b"], 101.0)
        assert queue.due(160.0) == ("b",)
        assert queue.next_at() == 160.0


@given(
    st.lists(st.tuples(st.sampled_from(["done", "failed", "nudge", "keep"]), st.sampled_from("ab"), st.floats(0, 100)))
)
def test_no_key_is_lost(moves: list[tuple[str, str, float]]) -> None:
    queue = WorkQueue(INTERVAL)
    queue.keep("ab", 0.0)
    now = 0.0
    for what, key, later in moves:
        now += later
        if what == "keep":
            queue.keep("ab", now)
        else:
            getattr(queue, what)(key, now)
        soon = queue.next_at()
        assert soon is not None
        assert soon <= now + BACKOFF_MAX_S
    assert set(queue.due(now + BACKOFF_MAX_S)) == {"a", "b"}
