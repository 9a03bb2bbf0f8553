"""What earlier promises came to: read from the record on the base branch and from the outcomes on pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gitops_mk.core.weigh.weighing import MOST_LESSONS
from gitops_mk.model.change import OUTCOME_CHECK, PullRequest
from gitops_mk.model.plan import Plan
from gitops_mk.model.weighing import Lesson

# Slower than so many times makes no difference any more, and the figure has to end somewhere.
WORST: Final = -1000.0
_TOLD: Final = re.compile(r"promised ([0-9]{1,3}(?:\.[0-9]{1,3})?) %, came (-?[0-9]{1,9}(?:\.[0-9]{1,3})?) %")


def promise_and_came(promised: float, came: float) -> str:
    """Both as the words of an outcome, in percent of a step's time; `lesson` reads them back."""
    return f"promised {100 * promised:.1f} %, came {100 * came:.1f} %"


def lessons(record: Plan | None, prs: Iterable[PullRequest], workload: str) -> tuple[Lesson, ...]:
    """The workload's lessons, oldest first, at most 20: those that the merged `record` carries, then newer outcomes.

    The record is in Git, and what it carries outlasts the forge's memory of pull requests.
    """
    found = {lesson.commit: lesson for lesson in (record.lessons if record is not None else ())}
    merged = [pr for pr in prs if pr.workload == workload and pr.merge_sha is not None and pr.rollback_of is None]
    for pr in sorted(merged, key=lambda pr: pr.number):
        told = lesson(pr)
        if told is not None:
            found[told.commit] = told
    return tuple(found.values())[-MOST_LESSONS:]


def lesson(pr: PullRequest) -> Lesson | None:
    """What a merged pull request promised and brought; None where that is not on record."""
    if pr.merge_sha is None:
        return None
    check = pr.newest_check(OUTCOME_CHECK, pr.merge_sha)
    words = _TOLD.search(check.summary) if check is not None else None
    if words is None:
        return None
    promised, came = float(words[1]) / 100.0, float(words[2]) / 100.0
    if promised > 1.0 or came > 1.0:
        return None
    return Lesson(
        commit=pr.merge_sha, plan_digest=pr.plan_digest, chord=pr.chord, promised=promised, came=max(came, WORST)
    )
