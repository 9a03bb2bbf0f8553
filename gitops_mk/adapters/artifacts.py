"""The folder of `--out`: reports written whole or not at all, and the event log."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gitops_mk.errors import InputError
from gitops_mk.model.canonical import dumps_canonical, dumps_pretty


class FolderStore:
    """Artifacts in one folder, which is made when needed. Raises InputError when it can't be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise _unwritable(folder, exc) from exc
        # Asked now, so that nothing is observed or proposed that could then not be written down.
        self.text(".writable", "")
        (folder / ".writable").unlink(missing_ok=True)

    @property
    def out_dir(self) -> str:
        """Its path."""
        return str(self.folder)

    def report(self, name: str, payload: Mapping[str, Any], *, at: datetime) -> str:
        """Write `<name>_<ts>.json` and `<name>_latest.json`; gives the path of the latter."""
        text = dumps_pretty(payload)
        self.text(f"{name}_{at.astimezone(UTC):%Y%m%d_%H%M%S}.json", text)
        return self.text(f"{name}_latest.json", text)

    def text(self, name: str, content: str | bytes) -> str:
        """Write one file: to a temporary one beside it, flushed to disk, then renamed over it."""
        path = self.folder / name
        data = content.encode() if isinstance(content, str) else content
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
        except OSError as exc:
            raise _unwritable(path, exc) from exc
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
        return str(path)

    def explain(self, event: str, payload: Mapping[str, Any], *, at: datetime) -> None:
        """Append one event to `explain.jsonl`, in one write."""
        stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        line = dumps_canonical({"ts": stamp, "event": event, "payload": payload}) + b"\n"
        path = self.folder / "explain.jsonl"
        try:
            with path.open("ab", buffering=0) as file:
                file.write(line)
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


def _unwritable(path: Path, exc: OSError) -> InputError:
    return InputError(
        f"{path} can't be written: {exc.strerror or exc}", hint="choose another folder with --out, or free some space"
    )
