"""Whether proposing and merging are for now: the schedule's windows, and its freezes."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gitops_mk.model.settings import WEEKDAYS, Freeze, Schedule, TimeWindow
from gitops_mk.model.verdict import Reason, Verdict

RULE = "calendar"


def judge_time(schedule: Schedule, now: datetime, *, undoes: bool = False) -> Verdict:
    """Is this a time for a change? `undoes`: of what takes a change back, which only a freeze keeps waiting."""
    local = now.astimezone(ZoneInfo(schedule.timezone))
    freeze = next((freeze for freeze in schedule.freezes if _frozen(freeze, local)), None)
    if freeze is not None:
        why = f" ({freeze.reason})" if freeze.reason else ""
        return Verdict.block(RULE, Reason.FROZEN, f"a freeze is on until {freeze.end} {schedule.timezone}{why}")
    if undoes or not schedule.windows or any(_within(window, local) for window in schedule.windows):
        return Verdict.allow(RULE)
    said = f"{local:%a %H:%M} {schedule.timezone} is in none of the schedule's {len(schedule.windows)} windows"
    return Verdict.block(RULE, Reason.OUTSIDE_SCHEDULE, said)


def _frozen(freeze: Freeze, local: datetime) -> bool:
    start, end = (datetime.fromisoformat(text).replace(tzinfo=local.tzinfo) for text in (freeze.start, freeze.end))
    return start <= local < end


def _within(window: TimeWindow, local: datetime) -> bool:
    """By the clock on the wall, so that a window keeps its hours over a change to summer time."""
    minute = local.hour * 60 + local.minute
    start, end = _minutes(window.start), _minutes(window.end)
    today = WEEKDAYS[local.weekday()] in window.days
    if start < end:
        return today and start <= minute < end
    yesterday = WEEKDAYS[(local - timedelta(days=1)).weekday()] in window.days
    return (today and minute >= start) or (yesterday and minute < end)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
