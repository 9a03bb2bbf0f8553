"""What the gate said last, so that it is not asked again while nothing has changed: asking costs a forge half a dozen calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gitops_mk.controller.apply import Applied
from gitops_mk.model.change import PullRequest
from gitops_mk.model.gate import VerifyOutcome
from gitops_mk.model.verdict import Reason

# Answers that may change though the pull request doesn't: checks end, hours pass, a cluster comes back.
RESTLESS: Final = frozenset(
    {
        Reason.CHECK_MISSING, Reason.CHECK_FAILED, Reason.NOT_MERGEABLE, Reason.RULES_UNREADABLE, Reason.FROZEN,
        Reason.OUTSIDE_SCHEDULE, Reason.HELD_BY_REVIEWER, Reason.VERIFY_FAILED, Reason.VERIFY_STALE,
    }
)  # fmt: skip
SOON_S: Final = 60.0
LATER_S: Final = 1800.0


@dataclass(frozen=True)
class Answer:
    """What verify and the gate said; `applied` is None where the gate was not asked."""

    verified: VerifyOutcome
    applied: Applied | None


class Door:
    """The newest answer for each pull request. What it forgets is asked again."""

    def __init__(self) -> None:
        self._answers: dict[int, tuple[object, float, Answer]] = {}

    def recall(self, pr: PullRequest, beside: object, now: float) -> Answer | None:
        """The answer given to exactly this, not too long ago. `beside`: what else it depends on."""
        known = self._answers.get(pr.number)
        if known is None or known[0] != (pr, beside):
            return None
        reason = known[2].applied.reason if known[2].applied is not None else None
        life = SOON_S if reason in RESTLESS or not known[2].verified.ok else LATER_S
        return known[2] if now - known[1] < life else None

    def remember(self, pr: PullRequest, beside: object, now: float, answer: Answer) -> None:
        """Keep it."""
        self._answers[pr.number] = ((pr, beside), now, answer)

    def forget(self, number: int) -> None:
        """Somebody asks for a fresh look."""
        self._answers.pop(number, None)
