"""Figures as people read them: no exponents for the sizes that occur."""

from __future__ import annotations


def brief(value: float) -> str:
    """At most three significant digits, and none behind the point that say nothing."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def share(value: float) -> str:
    """A share as percent, two significant digits below ten."""
    return f"{100 * value:.2g} %" if abs(value) < 0.0995 else f"{100 * value:.0f} %"


def duration(seconds: float) -> str:
    """A duration in the largest unit that leaves more than one of it."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{brief(seconds / size)} {unit}"
    return f"{brief(seconds)} s"
