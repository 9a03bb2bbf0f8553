"""A mounted ConfigMap of knobs: a folder with a file a key, called like the knob. Self-contained, as a job's code is.

The kubelet changes all files at once: it writes them into a new folder and then moves the link `..data` over to it. Each look
resolves that link once, and reads everything below what it was then, so that no two values are of different moments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gitops_mk.demo.annotations import DEFAULTS, LIMIT
from gitops_mk.errors import InputError

DATA_LINK = "..data"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}\Z")
_MOST = 64


def knobs_of_files(texts: Mapping[str, str]) -> dict[str, int]:
    """The knobs among the keys of a ConfigMap, over the defaults of those the trainer needs; other keys are none of ours.

    Raises InputError for a knob that the trainer needs and whose value is no number from 1 to 4096.
    """
    knobs = dict(DEFAULTS)
    for name, text in texts.items():
        if not _NAME.match(name):
            continue
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
        if name in DEFAULTS and (number is None or not 1 <= number <= LIMIT):
            raise InputError(f"knob file {name} holds {text[:40]!r}, expected a number from 1 to {LIMIT}")
        if number is not None:
            knobs[name] = number
    return dict(sorted(knobs.items()))


class KnobFiles:
    """The knobs in a mounted ConfigMap, read again when the kubelet has brought another one."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError for a folder that no ConfigMap is mounted as whole: one by `subPath` never changes."""
        self._folder = folder
        self._seen = self._resolve()
        self.knobs = knobs_of_files(self._read(self._seen))

    def poll(self) -> bool:
        """Look again; True when a knob has a new value.

        What is gone or makes no sense for a moment changes nothing: it is looked at again at the next step.
        """
        try:
            now = self._resolve()
            if now == self._seen:
                return False
            knobs = knobs_of_files(self._read(now))
        except InputError:
            return False
        self._seen = now
        changed = knobs != self.knobs
        self.knobs = knobs
        return changed

    def told(self) -> dict[str, list[str]]:
        """The values as the ConfigMap has them, for the log."""
        return {"config_map": [f"{knob}={value}" for knob, value in sorted(self.knobs.items())]}

    def _resolve(self) -> Path:
        """What `..data` is a link to now; each change is another folder."""
        try:
            return self._folder / (self._folder / DATA_LINK).readlink()
        except OSError as exc:
            raise InputError(
                f"{self._folder}: no {DATA_LINK} in it, expected a ConfigMap mounted whole, as a directory"
            ) from exc

    def _read(self, folder: Path) -> dict[str, str]:
        texts = {}
        try:
            for path in folder.iterdir():
                with path.open("rb") as file:
                    texts[path.name] = file.read(_MOST).decode("utf-8", "replace")
        except OSError as exc:
            # Moved on in the midst of it: nothing of the half that was read is used.
            raise InputError(f"{folder}: can't be read as knobs: {exc.strerror}") from exc
        return texts
