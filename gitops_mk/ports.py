"""What the controller asks of the outside world. Adapters implement these; nothing here has a body.

There is no write to a cluster among them: the only mutations are a push to the workload's own branch, the records of pull
requests, and `Forge.merge`, which takes a permit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from gitops_mk.model.change import AppliedChange, Check, Comment, Person, PullRequest, Review
from gitops_mk.model.gate import KillReading
from gitops_mk.model.git import CommitInfo, PathChange, TreeEntry
from gitops_mk.model.permit import Permit
from gitops_mk.model.telemetry import SourceInfo


class TelemetrySource(Protocol):
    """A stream of telemetry, read once."""

    @property
    def info(self) -> SourceInfo:
        """What reports call it."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Blocks of whole lines, oldest first, each of bounded size. Raises TelemetryError."""
        ...


class Clock(Protocol):
    """Time as it is outside."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class KillSwitch(Protocol):
    """Every source of the kill switch, read afresh at each call."""

    def read(self, *, pr: PullRequest | None = None) -> tuple[KillReading, ...]:
        """All sources; one that can't be read counts as active. Never raises."""
        ...


class Repo(Protocol):
    """A git object database: reading, and writing of objects that no ref names yet."""

    def resolve(self, ref: str) -> str | None:
        """The commit that a branch name, ref or SHA means; None when there is none. Raises GitError."""
        ...

    def commit(self, sha: str) -> CommitInfo:
        """What a commit says of itself."""
        ...

    def tree(self, treeish: str) -> tuple[TreeEntry, ...]:
        """All files of a tree, by path."""
        ...

    def read(self, treeish: str, path: str, *, max_bytes: int = 1_048_576) -> bytes | None:
        """The bytes of a regular file; None when the path is not there. Raises GitError for links, folders and larger files."""
        ...

    def files(self, treeish: str) -> Mapping[str, bytes]:
        """Every regular file of a tree, by path; links and submodules are left out.

        A file that is too large to read has other bytes in its place, which no reader takes. Raises GitError for a tree
        that is too large altogether.
        """
        ...

    def diff(self, base: str, head: str) -> tuple[PathChange, ...]:
        """The paths that differ between two trees, renames told as a removal and an addition."""
        ...

    def diff_text(self, base: str, head: str) -> str:
        """The unified diff of two trees, for people."""
        ...

    def merge_tree(self, base: str, head: str) -> str | None:
        """The tree that merging `head` into `base` gives; None on a conflict."""
        ...

    def merge_base(self, a: str, b: str) -> str | None:
        """The best common ancestor; None for unrelated histories."""
        ...

    def log(
        self, ref: str, *, first_parent: bool = True, exclude: str | None = None, limit: int = 1000
    ) -> tuple[CommitInfo, ...]:
        """Commits from `ref` backwards, newest first, without those reachable from `exclude`."""
        ...

    def write_tree(self, base: str, files: Mapping[str, bytes | None]) -> str:
        """A tree like `base` with these files put in (or taken out: None). Gives the tree's id."""
        ...

    def write_commit(self, *, tree: str, parents: Sequence[str], message: str, author: Person, time: int) -> str:
        """A commit object with author and committer alike and a fixed time, so that equal input gives an equal id."""
        ...


class Forge(Protocol):
    """Where branches and pull requests live. Every write is compare-and-swap and raises ConflictError when it lost."""

    def refresh(self) -> None:
        """Fetch what changed. Raises ForgeError."""
        ...

    @property
    def repo(self) -> Repo:
        """The objects and refs as of the last refresh."""
        ...

    @property
    def base_branch(self) -> str:
        """The branch that pull requests go to."""
        ...

    def base_tip(self) -> str:
        """The tip of the base branch. Raises ForgeError when it has none."""
        ...

    def branch_tip(self, branch: str) -> str | None:
        """The tip of a branch, None when it is not there."""
        ...

    def list_prs(self, *, open_only: bool = False) -> tuple[PullRequest, ...]:
        """All pull requests, by number."""
        ...

    def get_pr(self, number: int) -> PullRequest | None:
        """One pull request, with the live head of its branch."""
        ...

    def push_branch(self, branch: str, *, old: str | None, new: str | None) -> None:
        """Move a branch from `old` (None: create) to `new` (None: delete)."""
        ...

    def create_pr(self, pr: PullRequest) -> PullRequest:
        """Open it under the next free number; `pr.number` is ignored."""
        ...

    def update_pr(self, before: PullRequest, after: PullRequest) -> PullRequest:
        """Replace the record, if it still is `before`."""
        ...

    def add_review(self, number: int, review: Review) -> PullRequest:
        """Record a review. Computed again on a lost race, within a budget."""
        ...

    def add_check(self, number: int, check: Check) -> PullRequest:
        """Record a check."""
        ...

    def add_comment(self, number: int, comment: Comment) -> PullRequest:
        """Record a comment."""
        ...

    def merge(self, permit: Permit, *, message: str) -> str:
        """Merge exactly what the permit names and delete the branch; gives the merge commit.

        Raises ConflictError when something moved since the gate, IntegrityError for a spent permit or another tree.
        """
        ...

    def commit_base(self, *, old: str, files: Mapping[str, bytes | None], message: str) -> str:
        """Put a commit on the base branch (the kill switch's own file, nothing else). Raises ConflictError."""
        ...

    def applied(self, workload: str | None = None, *, since: int = 0) -> tuple[AppliedChange, ...]:
        """Merged chords by the trailers on the base branch, oldest first."""
        ...


class ManifestBuilder(Protocol):
    """kustomize."""

    def build(self, files: Mapping[str, bytes], overlay: str) -> str:
        """The YAML that `overlay` builds from a tree given as path -> bytes. Raises ManifestError."""
        ...

    def version(self) -> str:
        """What is used, for reports."""
        ...


class ArtifactStore(Protocol):
    """The folder of `--out`."""

    @property
    def out_dir(self) -> str:
        """Its path."""
        ...

    def report(self, name: str, payload: Mapping[str, Any], *, at: datetime) -> str:
        """Write `<name>_<ts>.json` and `<name>_latest.json`; gives the path of the latter. Raises InputError."""
        ...

    def text(self, name: str, content: str) -> str:
        """Write one file atomically; gives its path."""
        ...

    def explain(self, event: str, payload: Mapping[str, Any], *, at: datetime) -> None:
        """Append one event to `explain.jsonl`."""
        ...
