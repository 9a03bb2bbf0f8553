"""What is left of GitHub's hourly limits, and until when to keep silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gitops_mk.adapters.github.transport import number
from gitops_mk.errors import ForgeError

if TYPE_CHECKING:
    from gitops_mk.ports import Clock

# The part of the budget that only closing, merging and what the gate looks at may spend.
RESERVE: Final = 0.1
# What is waited for on the spot; longer is told, and taken up later.
PATIENCE_S: Final = 90.0
SECONDARY_WAIT_S: Final = 60.0
LONGEST_S: Final = 3600.0
REST: Final = "core"
GRAPHQL: Final = "graphql"


@dataclass(frozen=True)
class _Left:
    """What the newest answer said of one limit; `at` and `resets_in` are of the clock that can't be set."""

    limit: int
    remaining: int
    resets_in: float
    at: float


class Budget:
    """REST and GraphQL have a limit each, told with every answer; being silent is for both."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._silent_until = 0.0
        self._strikes = 0
        self._left: dict[str, _Left] = {}

    @property
    def limit(self) -> int | None:
        """REST calls an hour; None while it is not known."""
        return self._left[REST].limit if REST in self._left else None

    @property
    def remaining(self) -> int | None:
        """REST calls left; None while it is not known."""
        return self._left[REST].remaining if REST in self._left else None

    def admit(self, *, urgent: bool, resource: str = REST) -> None:
        """Wait for what can be waited for. Raises ForgeError when it would take longer."""
        wait = self._silent_until - self._clock.monotonic()
        if wait > PATIENCE_S:
            raise ForgeError(f"GitHub asks for {wait:.0f} s of silence", retryable=True)
        if wait > 0:
            self._clock.sleep(wait)
        left = self._left.get(resource)
        if left is None or urgent:
            return
        left_s = left.resets_in - (self._clock.monotonic() - left.at)
        if left.remaining <= left.limit * RESERVE and left_s > 0:
            raise ForgeError(
                f"{left.remaining} of {left.limit} calls are left for {left_s:.0f} s, kept for closing and merging",
                retryable=True,
            )

    def learn(self, headers: Mapping[str, str], now_epoch: float) -> None:
        """Take in an answer's headers; those that are no numbers say nothing."""
        limit, left, reset = (number(headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining", "reset"))
        if limit is not None and left is not None and reset is not None:
            resource = headers.get("x-ratelimit-resource", REST)
            resets_in = min(max(0.0, reset - now_epoch), LONGEST_S)
            self._left[resource] = _Left(int(limit), int(left), resets_in, self._clock.monotonic())

    def struck(self, headers: Mapping[str, str], now_epoch: float) -> float:
        """How long to be silent after a "too fast", in seconds: `Retry-After`, else the reset, else a minute and more."""
        self._strikes += 1
        wait = number(headers.get("retry-after"))
        if wait is None and number(headers.get("x-ratelimit-remaining")) == 0:
            reset = number(headers.get("x-ratelimit-reset"))
            wait = reset - now_epoch + 1 if reset is not None else None
        if wait is None or wait < 0:
            wait = SECONDARY_WAIT_S * 2 ** (self._strikes - 1)
        wait = min(wait, LONGEST_S)
        self._silent_until = self._clock.monotonic() + wait
        return wait

    def well(self) -> None:
        """A call went through."""
        self._strikes = 0
