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
        # A folder of that name throws the switch, too: clearing it takes out everything in it.
        paths = [e.path for e in forge.repo.tree(tip) if f"{e.path}/".startswith(f"{KILL_SWITCH_PATH}/")]
        if bool(paths) == active:
            return None
        text = f"{format_time(clock.now())} {plain(reason)}\n".encode()
        files = {KILL_SWITCH_PATH: text} if active else dict.fromkeys(paths)
        word = "Throw" if active else "Clear"
        try:
            return forge.commit_base(
                old=tip, files=files, message=f"{word} the ModeKeeper kill switch\n\n{plain(reason)}"
            )
        except ConflictError:
            if attempt == TRIES - 1:
                raise
    raise AssertionError("unreachable")
