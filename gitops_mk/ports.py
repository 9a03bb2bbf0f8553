"""What the controller asks of the outside world. Adapters implement these; nothing here has a body.

There is no write to a workload among them: the only mutations are a push to the workload's own branch, the records of pull
requests, and `Forge.merge`, which takes a permit. In a cluster, the controller may announce (Events) and be elected (a
Lease); `Cluster` itself only reads, and asks with `dryRun=All`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from gitops_mk.errors import ForgeError
from gitops_mk.model.annotation import Annotation
from gitops_mk.model.change import AppliedChange, Check, Comment, Person, PullRequest, Review
from gitops_mk.model.cluster import ApplyAnswer, LiveObject, Page, WatchEvent
from gitops_mk.model.finding import Finding
from gitops_mk.model.gate import KillReading
from gitops_mk.model.git import CommitInfo, PathChange, TreeEntry
from gitops_mk.model.intent import MergeIntent
from gitops_mk.model.permit import Permit
from gitops_mk.model.standing import Standing
from gitops_mk.model.telemetry import Environment, SourceInfo


class TelemetrySource(Protocol):
    """A stream of telemetry, read once."""

    @property
    def info(self) -> SourceInfo:
        """What reports call it."""
        ...

    @property
    def environment(self) -> Environment:
        """What the source itself knows of where its lines came from; whole once `chunks` ended."""
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

    def applied(self, tip: str, workload: str | None = None, *, since: int = 0) -> tuple[AppliedChange, ...]:
        """Merged chords by the trailers from `tip` backwards, oldest first."""
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
    def identity(self) -> Person:
        """Who we are there: whom our pull requests and comments are by."""
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
        """One pull request as of the last refresh, with the head of its branch; its reviews and comments may be older."""
        ...

    def live(self, number: int) -> PullRequest | None:
        """One pull request whole, read past every cache: what the gate looks at."""
        ...

    def standing(self, pr: PullRequest) -> Standing:
        """How an open pull request stands by the forge's own rules, read past every cache. What can't be read is named there."""
        ...

    def examine(self) -> Iterator[Finding]:
        """What there is to say of it, for `mk doctor`. Never raises."""
        ...

    def usage(self) -> tuple[Mapping[str, int], int | None]:
        """Calls so far, by kind; and what is left of the hourly budget, None where there is none or it is not known."""
        ...

    def stopped(self) -> KillReading:
        """The kill switch that the forge itself keeps, besides the file on the base branch. Raises ForgeError."""
        ...

    def stop(self, number: int, why: str) -> None:
        """Throw it, for people to clear: that pull request was not merged as it was verified. Raises ForgeError."""
        ...

    def push_branch(self, branch: str, *, old: str | None, new: str | None) -> None:
        """Move a branch from `old` (None: create) to `new` (None: delete)."""
        ...

    def push_branches(self, moves: Mapping[str, tuple[str | None, str | None]]) -> Mapping[str, ForgeError]:
        """Move many branches at once, each by its own compare-and-swap; gives why, for those that did not move."""
        ...

    def signed(self, commit: str, *, base: str, files: Mapping[str, bytes | None], message: str) -> str:
        """The same change as a commit that the forge makes and signs; `commit` itself where it is not asked to."""
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

    def add_check(self, number: int, check: Check, *, annotations: Sequence[Annotation] = ()) -> PullRequest:
        """Record a check, with remarks on lines of the change where the forge can show them."""
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


@dataclass(frozen=True)
class Word:
    """A comment that asks for something. `may_write`: it is by somebody with write access to the repository."""

    pr: int
    id: int
    by: Person
    text: str
    may_write: bool


class Inbox(Protocol):
    """Where people ask for things on a forge: comments on our pull requests."""

    def words(self) -> tuple[Word, ...]:
        """Those that stand unanswered, oldest first. Raises ForgeError."""
        ...

    def answer(self, word: Word, *, well: bool, text: str) -> None:
        """React to it, and say so in our one comment on that pull request. Raises ForgeError."""
        ...


class Board(Protocol):
    """One page of a repository that shows how everything stands: an issue, say."""

    def read(self) -> str | None:
        """What it says now, boxes that people ticked included; None where there is none. Raises ForgeError."""
        ...

    def write(self, text: str) -> None:
        """Make it say that. Raises ForgeError."""
        ...


class IntentLog(Protocol):
    """The merge that was asked for and not accounted for yet: written before it is asked for, on a disk that keeps it."""

    def write(self, intent: MergeIntent) -> None:
        """Keep it, whatever happens to this process. Raises PeerError when that can't be; then nothing may be merged."""
        ...

    def read(self) -> MergeIntent | None:
        """The one that is kept; None where all is accounted for. Raises InputError for a record that can't be read."""
        ...

    def clear(self) -> None:
        """It is accounted for. Raises PeerError."""
        ...


class ManifestBuilder(Protocol):
    """kustomize."""

    def build(self, files: Mapping[str, bytes], overlay: str) -> str:
        """The YAML that `overlay` builds from a tree given as path -> bytes. Raises ManifestError."""
        ...

    def version(self) -> str:
        """What is used, for reports."""
        ...

    def warm(self) -> None:
        """Look for the program in the background: it will be needed soon."""
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


class Cluster(Protocol):
    """A Kubernetes API server, to read from. Kinds are those of `model.cluster.RESOURCES`.

    Every method raises ClusterError when the server can't be reached or refuses; a list of a kind that the server does not
    serve is empty.
    """

    @property
    def context(self) -> str:
        """The kubeconfig's context, or `in-cluster`."""
        ...

    @property
    def server(self) -> str:
        """The server's address."""
        ...

    @property
    def calls(self) -> int:
        """Requests sent so far."""
        ...

    def version(self) -> str:
        """The server's version."""
        ...

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> LiveObject | None:
        """One object; None when it, or its kind, is not there."""
        ...

    def pages(self, kind: str, *, namespace: str | None = None, labels: str = "") -> Iterator[Page]:
        """All objects of a kind, 500 at a time. Raises ExpiredError when the list grew too old to go on."""
        ...

    def watch(
        self, kind: str, *, namespace: str | None = None, labels: str = "", resource_version: str
    ) -> Iterator[WatchEvent]:
        """What changed since that version, as it happens; ends when the server ends it, or is silent for too long.

        Raises ExpiredError when the version is too old.
        """
        ...

    def can_i(self, verb: str, kind: str, *, namespace: str | None = None, name: str = "") -> bool:
        """Ask the server's authoriser, for ourselves (SelfSubjectAccessReview)."""
        ...

    def dry_run_apply(self, kind: str, namespace: str, name: str, document: bytes, *, force: bool) -> ApplyAnswer:
        """Server-side apply of one object, as YAML, with `dryRun=All`, our field manager and strict field validation."""
        ...

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        previous: bool = False,
        since_time: str | None = None,
        since_seconds: int | None = None,
        limit_bytes: int | None = None,
    ) -> AbstractContextManager[Iterator[bytes]]:
        """A container's log as raw blocks, every line with its RFC 3339 time in front (`timestamps=true`).

        With `follow` a block may be empty: nothing came for a while. Leaving the context ends the request.
        """
        ...


class Announcer(Protocol):
    """Tells a workload's owners what happens to it, as Kubernetes Events."""

    def announce(self, workload: LiveObject, *, reason: str, message: str, warning: bool = False) -> None:
        """Record an Event on the workload. Never raises: an announcement that fails is logged, nothing depends on it."""
        ...


class Meter(Protocol):
    """What the controller counts. Label values are of closed sets."""

    def planned(self, chord: str) -> None:
        """A plan was made."""
        ...

    def proposed(self, outcome: str) -> None:
        """Proposing came to that."""
        ...

    def gate(self, reason: str) -> None:
        """The gate was asked; `open` where it was."""
        ...

    def lines(self, count: int) -> None:
        """Log lines were read."""
        ...

    def failed(self) -> None:
        """A reconcile failed."""
        ...

    def reconciled(self, seconds: float) -> None:
        """A reconcile took that long."""
        ...

    def rolled_out(self, seconds: float) -> None:
        """A merge was seen rolled out that long after it."""
        ...

    def state(self, *, prs: Mapping[str, int], workloads: Mapping[str, int], leader: bool) -> None:
        """How things stand: pull requests by state, workloads by why they are left alone."""
        ...


class Journal(Protocol):
    """Structured logs. Fields hold names, numbers and reasons: no token, and no line of a workload's log."""

    def log(self, event: str, *, level: str = "info", **fields: object) -> None:
        """Write one line. Never raises."""
        ...


class Election(Protocol):
    """Which of several controllers works. Correctness never depends on it: every write is compare-and-swap."""

    def lead(self) -> bool:
        """True while this process holds the Lease, by a clock that can't be set."""
        ...
