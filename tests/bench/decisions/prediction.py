"""What a reader of a log says about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Prediction:
    """The signals found, whether they make a pull request, or that the evidence is insufficient; `culprits` are places of workers.

    `crash` holds the error of a reader that failed; it then found nothing.
    """

    signals: frozenset[str] = frozenset()
    pr: bool = False
    insufficient: bool = False
    culprits: tuple[int, ...] = ()
    crash: str = ""


Predictor = Callable[[Path], Prediction]
