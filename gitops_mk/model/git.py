"""What git says of trees and commits, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitops_mk.model.change import Person

REGULAR_MODE = "100644"
ABSENT_MODE = "000000"


@dataclass(frozen=True)
class TreeEntry:
    """One file of a git tree. `mode` as git writes it: 100644, 100755, 120000 (symlink), 160000 (submodule)."""

    mode: str
    oid: str
    path: str


@dataclass(frozen=True)
class PathChange:
    """One path that differs between two trees; a mode of 000000 means the path is not there."""

    path: str
    old_mode: str
    new_mode: str


@dataclass(frozen=True)
class CommitInfo:
    """What a commit says of itself. `time` is the committer's, in epoch seconds.

    The committer is another than the author when a person amended or rebased somebody's commit.
    """

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    time: int
    message: str
    committer: Person | None = None
