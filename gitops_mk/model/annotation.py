"""A remark on a line of a changed file, as a check run or a workflow command carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Annotation:
    """`line` counts from 1; the text is harmless already."""

    path: str
    line: int
    level: Literal["failure", "warning", "notice"]
    title: str
    message: str
