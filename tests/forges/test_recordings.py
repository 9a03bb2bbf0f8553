"""Answers that GitHub really gave, as PyGithub's own tests recorded them: read at test time, and never a copy of ours.

Whatever they hold, reading them ends in a value of ours or in a ForgeError that names the field.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.github.wire import head_check, moment, person, review, status_check
from gitops_mk.errors import ForgeError, InputError
from tests.support.github.npm import cache_folder, locked, need
from tests.support.unavailable import Unavailable

SOURCE = "pygithub==2.10.0 --hash=sha256:90ff24ef1cd1bd57124c2a3869cafee9d7b066909129ecdaba2c2d1903bc118d\n"
ARCHIVE = "pygithub-2.10.0.tar.gz"
MAX_BODY = 2_000_000


def archive() -> Path:
    """The source archive, fetched once by pip, which checks its hash."""
    folder = cache_folder() / "pygithub-2.10.0"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not (folder / ARCHIVE).exists():
            (folder / "requirements.txt").write_text(SOURCE)
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--no-binary",
                ":all:",
                "--require-hashes",
            ]
            done = subprocess.run(
                [*command, "-r", str(folder / "requirements.txt"), "-d", str(folder)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode or not (folder / ARCHIVE).exists():
                raise Unavailable(f"PyGithub's recordings can't be fetched: {done.stderr.strip()[-200:]}")
    return folder / ARCHIVE


@cache
def objects() -> tuple[dict[str, Any], ...]:
    """Every object in every recorded answer, whatever it is part of."""
    try:
        source = archive()
    except Unavailable as exc:
        need(exc)
        raise
    found: list[dict[str, Any]] = []
    with tarfile.open(source) as tar:
        for member in tar:
            if "/ReplayData/" in member.name and member.name.endswith(".txt"):
                file = tar.extractfile(member)
                for line in (file.read() if file else b"").splitlines():
                    if line[:1] in (b"{", b"[") and len(line) < MAX_BODY:
                        try:
                            found += walk(json.loads(line))
                        except ValueError:
                            # A request's headers, as Python prints them.
                            continue
    return tuple(found)


def walk(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        yield data
        for value in data.values():
            yield from walk(value)
    elif isinstance(data, list):
        for value in data:
            yield from walk(value)


KINDS: dict[str, tuple[frozenset[str], Callable[[dict[str, Any]], object], int]] = {
    "accounts": (frozenset({"login", "id", "type", "node_id"}), person, 1000),
    "reviews": (frozenset({"submitted_at", "commit_id", "state", "user"}), review, 5),
    "check runs": (frozenset({"head_sha", "external_id", "status", "conclusion"}), head_check, 5),
    "statuses": (
        frozenset({"context", "state", "creator", "description"}), lambda data: status_check(data, "a" * 40), 1,
    ),
    "times": (frozenset({"created_at", "updated_at", "number"}), lambda data: moment(str(data["updated_at"])), 100),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_github_gave_is_read_or_refused_by_name(kind: str) -> None:
    fields, read, at_least = KINDS[kind]
    matching = [one for one in objects() if fields <= one.keys()]
    well = 0
    for one in matching:
        with suppress(ForgeError, InputError):
            read(one)
            well += 1
    assert well >= at_least, f"{well} of {len(matching)} were read"
