"""When changes are welcome: windows by the clock on the wall, freezes above all, and room for one more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.calendar import judge_time
from gitops_mk.core.limits import judge_limits, room_for
from gitops_mk.errors import InputError
from gitops_mk.model.change import PrState, PullRequest
from gitops_mk.model.settings import Freeze, Limits, Schedule, TimeWindow
from gitops_mk.model.times import format_time
from gitops_mk.model.verdict import Reason
from tests.support import make

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
NIGHT = TimeWindow(days=("mon",), start="22:00", end="06:00")
DAY = TimeWindow(days=("mon", "tue"), start="09:00", end="17:00")


@pytest.mark.parametrize(
    ("window", "hours", "open_"),
    [
        (DAY, 9, True), (DAY, 8.99, False), (DAY, 16.99, True), (DAY, 17, False), (DAY, 24 + 9, True), (DAY, 48 + 9, False),
        (NIGHT, 22, True), (NIGHT, 21.9, False), (NIGHT, 24 + 5.9, True), (NIGHT, 24 + 6, False), (NIGHT, 48 + 5, False),
        (NIGHT, 5, False), (TimeWindow(days=("mon",)), 23.99, True), (TimeWindow(days=("mon",)), 24, False),
    ],
)  # fmt: skip
def test_a_window_is_open_from_its_start_to_its_end(window: TimeWindow, hours: float, open_: bool) -> None:
    verdict = judge_time(Schedule(windows=(window,)), MONDAY + timedelta(hours=hours))
    assert verdict.allowed is open_
    assert open_ or verdict.reason is Reason.OUTSIDE_SCHEDULE


def test_hours_are_those_of_the_time_zone_in_summer_and_in_winter() -> None:
    schedule = Schedule(timezone="Europe/Berlin", windows=(TimeWindow(start="09:00", end="10:00"),))
    winter, summer = datetime(2026, 1, 15, 8, 30, tzinfo=UTC), datetime(2026, 7, 15, 7, 30, tzinfo=UTC)
    for at in (winter, summer):
        assert judge_time(schedule, at).allowed
        assert not judge_time(schedule, at + timedelta(hours=1)).allowed


def test_no_window_is_any_time() -> None:
    assert judge_time(Schedule(), MONDAY).allowed


def test_undoing_waits_for_a_freeze_only() -> None:
    at = MONDAY + timedelta(hours=3)
    assert judge_time(Schedule(windows=(DAY,)), at, undoes=True).allowed
    frozen = Schedule(freezes=(Freeze(start="2026-03-02", end="2026-03-02T04:00", reason="release"),))
    for undoes in (False, True):
        verdict = judge_time(frozen, at, undoes=undoes)
        assert (verdict.reason, "release" in verdict.message) == (Reason.FROZEN, True)
    assert judge_time(frozen, at + timedelta(hours=1)).allowed
    assert judge_time(frozen, MONDAY - timedelta(seconds=1)).allowed
    unnamed = Schedule(freezes=(Freeze(start="2026-03-02", end="2026-03-03"),))
    assert "()" not in judge_time(unnamed, at).message


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_moment_has_an_answer(at: datetime) -> None:
    schedule = Schedule(timezone="America/New_York", windows=(DAY, NIGHT))
    if datetime(1, 1, 3, tzinfo=UTC) < at < datetime(9999, 12, 29, tzinfo=UTC):
        assert judge_time(schedule, at).reason in (None, Reason.OUTSIDE_SCHEDULE)


@pytest.mark.parametrize(
    "bad",
    [
        {"timezone": "Mars/Olympus"}, {"timezone": "../etc/passwd"}, {"timezone": ""},
        {"freezes": [{"start": "2026-02-30", "end": "2026-03-01"}]},
        {"freezes": [{"start": "2026-03-02", "end": "2026-03-02"}]},
        {"freezes": [{"start": "yesterday", "end": "2026-03-02"}]},
        {"windows": [{"days": ["monday"]}]}, {"windows": [{"start": "9:00"}]}, {"windows": [{"end": "24:30"}]},
    ],
)  # fmt: skip
def test_a_schedule_that_means_nothing_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="config"):
        Schedule.parse(bad, what="config")


def opened(minutes_ago: float, **over: Any) -> PullRequest:
    return make.pull_request(created_at=format_time(make.NOW - timedelta(minutes=minutes_ago)), **over)


def test_there_is_room_below_the_limits_only() -> None:
    limits = Limits()
    old = [opened(600), opened(600)]
    assert judge_limits(limits, old, make.NOW).allowed
    assert judge_limits(limits, [*old, opened(600)], make.NOW).reason is Reason.TOO_MANY_OPEN
    closed = [opened(m, state=PrState.CLOSED) for m in (5, 59)]
    assert judge_limits(limits, closed, make.NOW).reason is Reason.TOO_MANY_PER_HOUR
    assert judge_limits(limits, [opened(60, state=PrState.MERGED), closed[0]], make.NOW).allowed
    assert judge_limits(limits, [opened(-30), opened(-30)], make.NOW).reason is Reason.TOO_MANY_PER_HOUR


def test_what_undoes_takes_no_room_and_limits_can_be_off() -> None:
    assert judge_limits(Limits(), [opened(5, rollback_of=1)] * 9, make.NOW).allowed
    off = Limits(max_open_prs=None, max_prs_per_hour=None)
    assert judge_limits(off, [opened(5)] * 99, make.NOW).allowed


def test_the_room_is_what_the_limits_leave() -> None:
    assert room_for(Limits(), [], make.NOW) == 2
    assert room_for(Limits(max_prs_per_hour=9), [opened(600), opened(5)], make.NOW) == 1
    assert room_for(Limits(), [opened(600)] * 9, make.NOW) == 0
    assert room_for(Limits(max_open_prs=None, max_prs_per_hour=None), [], make.NOW) > 10_000
