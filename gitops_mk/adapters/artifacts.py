"""The folder of `--out`: reports written whole or not at all, and the event log."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from gitops_mk.errors import InputError
from gitops_mk.model.canonical import dumps_canonical, dumps_pretty


class FolderStore:
    """Artifacts in one folder, which is made when needed. Raises InputError when it can't be written."""

    def __init__(self, folder: Path, *, history: bool = True) -> None:
        """`history`: keep each report under its time too; else only the newest, so that a folder written for ever stays small."""
        self.folder = folder
        self._history = history
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise _unwritable(folder, exc) from exc
        # Asked now, so that nothing is observed or proposed that could then not be written down.
        self.text(".writable", "")
        (folder / ".writable").unlink(missing_ok=True)
        if not history:
            (folder / "explain.jsonl").unlink(missing_ok=True)

    @property
    def out_dir(self) -> str:
        """Its path."""
        return str(self.folder)

    def report(self, name: str, payload: Mapping[str, Any], *, at: datetime) -> str:
        """Write `<name>_<ts>.json` and `<name>_latest.json`; gives the path of the latter."""
        text = dumps_pretty(payload)
        if self._history:
            self.text(f"{name}_{at.astimezone(UTC):%Y%m%d_%H%M%S}.json", text)
        return self.text(f"{name}_latest.json", text)

    def text(self, name: str, content: str | bytes) -> str:
        """Write one file: to a temporary one beside it, flushed to disk, then renamed over it."""
        path = self.folder / name
        # A name that is no text, in a message, must not cost the whole report.
        data = content.encode("utf-8", "replace") if isinstance(content, str) else content
        try:
            write_atomic(path, data)
        except OSError as exc:
            raise _unwritable(path, exc) from exc
        return str(path)

    def explain(self, event: str, payload: Mapping[str, Any], *, at: datetime) -> None:
        """Append one event to `explain.jsonl`: a whole line or nothing."""
        stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        entry = {"ts": stamp, "event": event, "payload": payload}
        try:
            line = dumps_canonical(entry) + b"\n"
        except UnicodeEncodeError:
            line = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        path = self.folder / "explain.jsonl"
        try:
            with path.open("ab", buffering=0) as file:
                start = file.seek(0, os.SEEK_END)
                try:
                    _write_all(file, line)
                except OSError:
                    file.truncate(start)
                    raise
        except OSError as exc:
            raise _unwritable(path, exc) from exc

    def read(self, name: str) -> bytes | None:
        """A file that stands here, None when it doesn't."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise InputError(f"{self.folder / name} can't be read: {exc.strerror}") from exc


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, flushed to the disk; its folder is made. Raises OSError."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".mk-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
        _sync_folder(path.parent)
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _write_all(file: FileIO, data: bytes) -> None:
    """A full disk takes a part first, and says no only then."""
    done = 0
    while done < len(data):
        done += file.write(data[done:])


def _sync_folder(folder: Path) -> None:
    """So that the new name outlives a power cut, too; the file stands already where a file system can't do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _unwritable(path: Path, exc: OSError) -> InputError:
    return InputError(
        f"{path} can't be written: {exc.strerror or exc}", hint="choose another folder with --out, or free some space"
    )
