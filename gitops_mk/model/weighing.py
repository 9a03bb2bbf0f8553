"""What a change is expected to bring, what its delivery costs, and whether the one is worth the other."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gitops_mk.model.base import Frozen

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Gain(Frozen):
    """The share of a step's time that a chord is expected to save, and why so much.

    `at_most` is what it saves if the cause is what the chord answers to. None: nothing says how large the effect is.
    `weighed`: false for a chord that is not about time, whose worth is not in seconds.
    """

    share: Share | None = None
    at_most: Share | None = None
    reasoning: str
    weighed: bool = True


class Cost(Frozen):
    """What the delivery takes from the job once, in seconds of training: the restart, the warm-up behind it, and the work
    since the last checkpoint that is done again.
    """

    restart_s: Seconds = 0.0
    warm_up_s: Seconds = 0.0
    redone_s: Seconds = 0.0
    reasoning: str

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.restart_s + self.warm_up_s + self.redone_s


class Weighing(Frozen):
    """A gain over the time that remains against the cost. `caution` is the part of earlier promises that came true, 1
    without any; `lessons` counts them. `needed` is the passport's ratio of saved time to cost.
    """

    gain: Gain
    cost: Cost
    remaining_s: Seconds
    remaining_from: str
    caution: Share = 1.0
    lessons: Annotated[int, Field(ge=0)] = 0
    needed: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    least_share: Share

    @property
    def share(self) -> float | None:
        """The share of a step's time that is promised: the gain with caution. None where there is none to promise."""
        return None if self.gain.share is None else self.gain.share * self.caution

    @property
    def saved_s(self) -> float | None:
        """Seconds saved over the remaining time."""
        return None if self.share is None else self.share * self.remaining_s

    @property
    def ratio(self) -> float | None:
        """Saved time over cost; None where the delivery costs nothing, or no gain is promised."""
        return None if self.saved_s is None or not self.cost.total_s else self.saved_s / self.cost.total_s

    @property
    def break_even_s(self) -> float | None:
        """After so many seconds of training the change has paid for itself; None where it never does."""
        return self.cost.total_s / self.share if self.share else None

    @property
    def worth_it(self) -> bool:
        """Whether it passes: not weighed at all, or large enough to notice and `needed` times its cost."""
        if not self.gain.weighed:
            return True
        if self.share is None or self.share < self.least_share or not self.saved_s:
            return False
        return self.ratio is None or self.ratio >= self.needed


class Lesson(Frozen):
    """What an earlier chord promised and what came, as shares of a step's time; a negative one made steps longer.

    `commit`: the merge, for the same decision made again has the same digest.
    """

    commit: Annotated[str, Field(pattern=r"^[0-9a-f]+$", min_length=40, max_length=64)]
    plan_digest: Annotated[str, Field(pattern=r"^[0-9a-f]+$", min_length=64, max_length=64)]
    chord: str
    promised: Share
    came: Annotated[float, Field(ge=-1000, le=1, allow_inf_nan=False)]
