"""The times that are asked for: a window's samples, a step apart, in spans that a server answers at once.

A server refuses more than 11,000 points a series (`/api/v1/query_range`,
https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gitops_mk.errors import ConfigError, InputError
from gitops_mk.model.settings import MAX_PROMETHEUS_DURATION_S, MAX_PROMETHEUS_STEP_S

MOST_POINTS: Final = 10_000
LEAST_POINTS: Final = 20
FIRST_POINTS: Final = 120
# Of all series of an answer.
MOST_SAMPLES: Final = 100_000
LONGEST: Final = 1_000_000


class Grid(NamedTuple):
    """`size` samples from `start_ms`, `step_ms` apart: epoch milliseconds."""

    start_ms: int
    step_ms: int
    size: int

    def at(self, index: int) -> int:
        """The time of a sample."""
        return self.start_ms + index * self.step_ms


def grid(*, now_s: float, duration_s: float, step_s: float) -> Grid:
    """The samples of the last `duration_s` seconds, at whole multiples of the step so that another call asks for the same times.

    Raises InputError for a window without any length, and for over a million samples; ConfigError for a step of over an hour, and
    for a duration of over 30 days.
    """
    for name, value, most, words in (
        ("step", step_s, MAX_PROMETHEUS_STEP_S, "1h"),
        ("duration", duration_s, MAX_PROMETHEUS_DURATION_S, "30d"),
    ):
        # So that what is no number at all is refused as well.
        if not value <= most:
            raise ConfigError(
                f"prometheus: a {name} of {value:g} s, expected at most {words}", hint=f"ask for a shorter {name}"
            )
    step_ms, duration_ms = round(step_s * 1000), round(duration_s * 1000)
    if step_ms < 1 or duration_ms < 1:
        raise InputError(
            f"prometheus: {duration_s:g} s in steps of {step_s:g} s are no window",
            hint="for example --duration 1h with a step of 15s",
        )
    count = duration_ms // step_ms + 1
    if count > LONGEST:
        raise InputError(
            f"prometheus: {duration_s:g} s in steps of {step_s:g} s are {count:,} samples, expected at most {LONGEST:,}",
            hint="ask for a shorter --duration, or a longer step",
        )
    end = int(now_s * 1000) // step_ms * step_ms
    return Grid(end - (count - 1) * step_ms, step_ms, count)


def points(series: int) -> int:
    """How many points to ask for at once, when answers were seen to have that many series."""
    return max(LEAST_POINTS, min(MOST_POINTS, MOST_SAMPLES // max(1, series)))


def seconds(ms: int) -> str:
    """A time as the API takes it."""
    return f"{ms // 1000}.{ms % 1000:03d}"
