"""Files that people hand to a command."""

from __future__ import annotations

from pathlib import Path

from gitops_mk.errors import InputError

MAX_BYTES = 8 * 1024 * 1024


def read_file(path: Path) -> bytes:
    """A file's bytes, of a bounded size. Raises InputError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise InputError(f"{path} can't be read: {exc.strerror}", hint="check the path") from exc
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES} bytes")
    return data


def read_beside(path: Path, name: str) -> bytes | None:
    """A file in the same folder, None when there is none. Raises InputError when it can't be read."""
    beside = path.parent / name
    return read_file(beside) if beside.exists() else None
