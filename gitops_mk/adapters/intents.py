"""The record of a merge that was asked for, as one file that outlives the process."""

from __future__ import annotations

from pathlib import Path

from gitops_mk.adapters.artifacts import write_atomic
from gitops_mk.errors import PeerError
from gitops_mk.model.canonical import dumps_pretty
from gitops_mk.model.intent import MergeIntent

FILE = "merge_intent.json"


class IntentFile:
    """`ports.IntentLog` in a folder; the folder is made when there is something to keep."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def write(self, intent: MergeIntent) -> None:
        """Write and sync it to the disk. Raises PeerError."""
        try:
            write_atomic(self._path, dumps_pretty(intent.plain()).encode())
        except OSError as exc:
            raise PeerError(f"{self._path} can't be written: {exc}", hint="nothing is merged without it") from exc

    def read(self) -> MergeIntent | None:
        """What is kept. Raises InputError for a file that is none of ours."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise PeerError(f"{self._path} can't be read: {exc}") from exc
        return MergeIntent.parse_json(text, what=str(self._path))

    def clear(self) -> None:
        """Remove it. Raises PeerError."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as exc:
            raise PeerError(f"{self._path} can't be removed: {exc}") from exc
