"""Numbers as logs print them."""

from __future__ import annotations

import re
from typing import Final

_NUMBER = re.compile(
    r"([+-]?(?:\d[\d,]*\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|nan|inf(?:inity)?))([a-z]*)", re.IGNORECASE | re.ASCII
)
_SCALES: Final = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_DURATIONS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "sec": 1000.0, "min": 60_000.0}


def number(text: str) -> float | None:
    """The number that a text begins with: `5,120`, `9.1E+00`, `1.2K`, `3.4/3.6` (now and on average), `12%`, `nan`.

    None where there is none.
    """
    found = _NUMBER.match(text.strip())
    return None if found is None else _float(found[1]) * _SCALES.get(found[2].lower(), 1.0)


def duration_ms(text: str) -> float | None:
    """Milliseconds of a number with its own unit of time, `0.41s` or `410ms`; None for anything else."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None or found[2].lower() not in _DURATIONS:
        return None
    return _float(found[1]) * _DURATIONS[found[2].lower()]


def _float(text: str) -> float:
    return float(text.replace(",", ""))
