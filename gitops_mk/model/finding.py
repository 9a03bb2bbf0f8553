"""One line of an examination, as `mk doctor` prints it."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """What was looked at, whether it is as it should be, and what to do where it is not. `needed`: nothing works without it."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None
    needed: bool = False
