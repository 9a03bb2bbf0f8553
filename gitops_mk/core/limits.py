"""Whether one more pull request may be opened: a reviewer's attention is the scarcest thing there is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from gitops_mk.model.change import PrState, PullRequest
from gitops_mk.model.settings import Limits
from gitops_mk.model.times import parse_time
from gitops_mk.model.verdict import Reason, Verdict

RULE = "limits"
HOUR = timedelta(hours=1)
NO_LIMIT = 1_000_000


def room_for(limits: Limits, prs: Iterable[PullRequest], now: datetime) -> int:
    """How many more may be opened at once."""
    open_now, lately = _counts(prs, now)
    most = [
        limit - taken
        for limit, taken in ((limits.max_open_prs, open_now), (limits.max_prs_per_hour, lately))
        if limit is not None
    ]
    return max(0, min(most, default=NO_LIMIT))


def judge_limits(limits: Limits, prs: Iterable[PullRequest], now: datetime) -> Verdict:
    """Is there room for one more? What undoes a change takes no room, and is not asked about."""
    open_now, lately = _counts(prs, now)
    if limits.max_open_prs is not None and open_now >= limits.max_open_prs:
        said = f"{open_now} pull requests are open, at most {limits.max_open_prs} may be"
        return Verdict.block(RULE, Reason.TOO_MANY_OPEN, said)
    if limits.max_prs_per_hour is not None and lately >= limits.max_prs_per_hour:
        said = f"{lately} pull requests were opened within the hour, at most {limits.max_prs_per_hour} may be"
        return Verdict.block(RULE, Reason.TOO_MANY_PER_HOUR, said)
    return Verdict.allow(RULE)


def _counts(prs: Iterable[PullRequest], now: datetime) -> tuple[int, int]:
    """Those open now, and those opened within the hour; what undoes a change is not counted."""
    counted = [pr for pr in prs if pr.rollback_of is None]
    # One from the future, by a clock that was set back, counts as of now.
    lately = sum(now - parse_time(pr.created_at) < HOUR for pr in counted)
    return sum(pr.state is PrState.OPEN for pr in counted), lately
