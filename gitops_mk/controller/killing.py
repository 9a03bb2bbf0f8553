"""Throw or clear the repository's kill switch: one file, straight on the base branch."""

from __future__ import annotations

from gitops_mk.controller.tools import Workplace
from gitops_mk.core.render.text import plain
from gitops_mk.errors import ConflictError
from gitops_mk.model.settings import KILL_SWITCH_PATH
from gitops_mk.model.times import format_time
from gitops_mk.ports import Clock

TRIES = 5


def throw(place: Workplace, *, active: bool, reason: str, clock: Clock) -> str | None:
    """Make the file be there, or not; gives the commit, None when it was so already. Raises ConflictError."""
    forge = place.forge
    for attempt in range(TRIES):
        forge.refresh()
        tip = forge.base_tip()
        present = any(entry.path == KILL_SWITCH_PATH for entry in forge.repo.tree(tip))
        if present == active:
            return None
        text = f"{format_time(clock.now())} {plain(reason)}\n".encode() if active else None
        word = "Throw" if active else "Clear"
        try:
            return forge.commit_base(
                old=tip, files={KILL_SWITCH_PATH: text}, message=f"{word} the ModeKeeper kill switch\n\n{plain(reason)}"
            )
        except ConflictError:
            if attempt == TRIES - 1:
                raise
    raise AssertionError("unreachable")
