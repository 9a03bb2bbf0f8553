"""The local forge: pull requests as refs of a bare git repository, for a team that has nothing but a git server.

`refs/modekeeper/pr/<n>` is a chain of commits, each with the record `pr.json` and the text `body.md`: the newest is the
state, the chain its audit log. Reviews and checks are bound to commit SHAs. Every write is one atomic push with leases; a
merge moves the base branch, deletes the workload's branch and closes the record in the same push.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gitops_mk.adapters.clone import Clone
from gitops_mk.adapters.git import GitRepo
from gitops_mk.errors import ConflictError, ForgeError, IntegrityError
from gitops_mk.model.annotation import Annotation
from gitops_mk.model.canonical import dumps_pretty
from gitops_mk.model.change import AppliedChange, Check, Comment, Person, PrState, PullRequest, Review
from gitops_mk.model.finding import Finding
from gitops_mk.model.gate import KillReading
from gitops_mk.model.permit import Permit
from gitops_mk.model.settings import KILL_SWITCH_PATH
from gitops_mk.model.standing import Standing
from gitops_mk.model.times import format_time
from gitops_mk.ports import Clock

PR_REFS = "refs/modekeeper/pr/"
RECORD = "pr.json"
BODY = "body.md"
REFSPECS = ("+refs/heads/*:refs/heads/*", f"+{PR_REFS}*:{PR_REFS}*")
TRIES = 5
_PR_REF = re.compile(re.escape(PR_REFS) + r"([1-9][0-9]{0,8})\Z")


class LocalForge:
    """Branches and pull requests of one remote. Holds a private clone, its own or one handed in; `close` removes it."""

    def __init__(
        self,
        remote: str,
        *,
        base_branch: str,
        identity: Person,
        clock: Clock,
        borrow: Path | None = None,
        clone: Clone | None = None,
    ) -> None:
        self._base_branch = base_branch
        self._identity = identity
        self._clock = clock
        self._records: dict[str, PullRequest] = {}
        self._clone = clone if clone is not None else Clone(remote, REFSPECS, borrow=borrow)
        self._repo = self._clone.repo

    def close(self) -> None:
        """Remove the private clone."""
        self._clone.close()

    @property
    def remote(self) -> str:
        """The address of the git server."""
        return self._clone.remote

    @property
    def identity(self) -> Person:
        """Who we are: the author of our commits."""
        return self._identity

    @property
    def base_branch(self) -> str:
        """The branch that pull requests go to."""
        return self._base_branch

    @property
    def repo(self) -> GitRepo:
        """The objects and refs as of the last refresh."""
        return self._repo

    def refresh(self) -> None:
        """Fetch what changed. Raises ForgeError."""
        self._clone.refresh()

    # -- branches ----------------------------------------------------------------------------------------------------

    def base_tip(self) -> str:
        """The tip of the base branch. Raises ForgeError when it has none."""
        return self._clone.base_tip(self.base_branch)

    def branch_tip(self, branch: str) -> str | None:
        """The tip of a branch, None when it is not there."""
        return self._clone.tip(branch)

    def push_branch(self, branch: str, *, old: str | None, new: str | None) -> None:
        """Move a branch from `old` (None: create) to `new` (None: delete)."""
        self._clone.push({f"refs/heads/{branch}": (old, new)})

    def push_branches(self, moves: Mapping[str, tuple[str | None, str | None]]) -> Mapping[str, ForgeError]:
        """Move many branches at once, each by its own compare-and-swap; gives why, for those that did not move."""
        return self._clone.push_branches(moves)

    def commit_base(self, *, old: str, files: Mapping[str, bytes | None], message: str) -> str:
        """Put a commit on the base branch (the kill switch's own file, nothing else)."""
        now = int(self._clock.now().timestamp())
        return self._clone.commit_switch(
            self.base_branch, old=old, files=files, message=f"{message}\n", author=self.identity, time=now
        )

    # -- pull requests -----------------------------------------------------------------------------------------------

    def list_prs(self, *, open_only: bool = False) -> tuple[PullRequest, ...]:
        """All pull requests, by number."""
        refs = self._repo.refs(PR_REFS)
        # A ref without a number is nobody's pull request, and must not keep the others from being read.
        found = sorted((int(match[1]), oid) for name, oid in refs.items() if (match := _PR_REF.match(name)))
        self._load_all(oid for _, oid in found)
        prs = (self._load(oid, number) for number, oid in found)
        return tuple(self._with_head(pr) for pr in prs if not open_only or pr.state is PrState.OPEN)

    def get_pr(self, number: int) -> PullRequest | None:
        """One pull request, with the live head of its branch."""
        oid = self._repo.refs(f"{PR_REFS}{number}").get(f"{PR_REFS}{number}")
        return None if oid is None else self._with_head(self._load(oid, number))

    def live(self, number: int) -> PullRequest | None:
        """The same: there is no cache but the clone, and its leases hold what was seen in place."""
        return self.get_pr(number)

    def standing(self, pr: PullRequest) -> Standing:
        """A bare repository has no rules of its own: only whether merging works."""
        tree = self._repo.merge_tree(self.base_tip(), pr.head_sha) if pr.head_sha is not None else None
        return Standing(same_repository=True, mergeable=tree is not None)

    def examine(self) -> Iterator[Finding]:
        """Nothing: a bare repository has no rules that could be wrong."""
        yield from ()

    def usage(self) -> tuple[Mapping[str, int], int | None]:
        """Nobody counts them."""
        return {}, None

    def stopped(self) -> KillReading:
        """None but the file on the base branch."""
        return KillReading(source="forge", configured=False, active=False, detail="the base branch holds it")

    def stop(self, number: int, why: str) -> None:
        """Put the kill switch's file on the base branch."""
        for _ in range(TRIES):
            self.refresh()
            try:
                self.commit_base(
                    old=self.base_tip(),
                    files={KILL_SWITCH_PATH: f"{why}\n".encode()},
                    message=f"Throw the kill switch after #{number}\n\n{why}",
                )
            except ConflictError:
                continue
            return
        raise ConflictError("other commits kept being pushed at the same time", ref=f"refs/heads/{self.base_branch}")

    def signed(self, commit: str, *, base: str, files: Mapping[str, bytes | None], message: str) -> str:
        """The commit as it is: a bare repository signs nothing."""
        return commit

    def create_pr(self, pr: PullRequest) -> PullRequest:
        """Open it under the next free number. A branch that has an open one keeps that: it is given back as it stands."""
        for _ in range(TRIES):
            existing = self.list_prs()
            same = next((p for p in existing if p.state is PrState.OPEN and p.branch == pr.branch), None)
            if same is not None:
                return same
            number = max((p.number for p in existing), default=0) + 1
            record = pr.model_copy(update={"number": number})
            try:
                self._store(None, record, f"Open #{number}: {record.title}")
            except ConflictError:
                self.refresh()
                continue
            return self._with_head(record)
        raise ConflictError("other pull requests kept being opened at the same time", ref=PR_REFS)

    def update_pr(self, before: PullRequest, after: PullRequest) -> PullRequest:
        """Replace the record, if it still is `before`."""
        oid = self._oid(before.number)
        if self._strip(self._load(oid, before.number)) != self._strip(before):
            raise ConflictError(f"#{before.number} was changed by somebody else", ref=f"{PR_REFS}{before.number}")
        record = after.model_copy(update={"updated_at": format_time(self._clock.now())})
        self._store(oid, record, f"Update #{record.number}: {record.title}")
        return self._with_head(record)

    def add_review(self, number: int, review: Review) -> PullRequest:
        """Record a review."""
        return self._append(number, lambda pr: {"reviews": (*pr.reviews, review)})

    def add_check(self, number: int, check: Check, *, annotations: Sequence[Annotation] = ()) -> PullRequest:
        """Record a check; a record has no lines to remark on."""
        return self._append(number, lambda pr: {"checks": (*pr.checks, check)[-200:]})

    def add_comment(self, number: int, comment: Comment) -> PullRequest:
        """Record a comment."""
        return self._append(number, lambda pr: {"comments": (*pr.comments, comment)[-500:]})

    def merge(self, permit: Permit, *, message: str) -> str:
        """Merge exactly what the permit names and delete the branch; gives the merge commit.

        Nothing is fetched first: the leases then hold base, branch and record at what the gate and the kill switch saw.
        """
        permit.spend(self._clock.monotonic())
        oid = self._oid(permit.pr)
        pr = self._with_head(self._load(oid, permit.pr))
        if pr.state is not PrState.OPEN or pr.plan_digest != permit.plan_digest:
            raise ConflictError(f"#{pr.number} is not what the permit was made for", ref=f"{PR_REFS}{pr.number}")
        if pr.head_sha != permit.head_sha:
            raise ConflictError(f"{pr.branch} moved since the gate", ref=f"refs/heads/{pr.branch}")
        if self.base_tip() != permit.base_sha:
            raise ConflictError(f"{self.base_branch} moved since the gate", ref=f"refs/heads/{self.base_branch}")
        tree = self._repo.merge_tree(permit.base_sha, permit.head_sha)
        if tree != permit.tree:
            raise IntegrityError("the merge would give another tree than the one that was verified")
        now = self._clock.now()
        sha = self._repo.write_commit(
            tree=tree, parents=[permit.base_sha, permit.head_sha], message=message, author=self.identity,
            time=int(now.timestamp()),
        )  # fmt: skip
        record = pr.model_copy(
            update={
                "state": PrState.MERGED,
                "merge_sha": sha,
                "updated_at": format_time(now),
                "closed_by": self.identity,
            }
        )
        self._clone.push(
            {
                f"refs/heads/{self.base_branch}": (permit.base_sha, sha),
                f"refs/heads/{pr.branch}": (permit.head_sha, None),
                f"{PR_REFS}{pr.number}": (oid, self._record_commit(oid, record, f"Merge #{pr.number} as {sha}")),
            }
        )
        return sha

    def applied(self, workload: str | None = None, *, since: int = 0) -> tuple[AppliedChange, ...]:
        """Merged chords by the trailers on the base branch, oldest first."""
        return self._repo.applied(self.base_tip(), workload, since=since)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _oid(self, number: int) -> str:
        oid = self._repo.refs(f"{PR_REFS}{number}").get(f"{PR_REFS}{number}")
        if oid is None:
            raise ForgeError(f"there is no pull request #{number}", hint="`mk pr list` shows those there are")
        return oid

    def _load(self, oid: str, number: int) -> PullRequest:
        if oid not in self._records:
            self._load_all((oid,))
        pr = self._records[oid]
        if pr.number != number:
            raise ForgeError(f"{PR_REFS}{number} holds the record of #{pr.number}: somebody moved it")
        return pr

    def _load_all(self, oids: Iterable[str]) -> None:
        wanted = [oid for oid in oids if oid not in self._records]
        records, bodies = self._repo.documents(wanted, RECORD), self._repo.documents(wanted, BODY)
        for oid, record, body in zip(wanted, records, bodies, strict=True):
            if record is None or body is None:
                raise ForgeError(f"the pull request record {oid[:12]} lacks {RECORD} or {BODY}")
            pr = PullRequest.parse_json(record, what=f"pull request record {oid[:12]}")
            self._records[oid] = pr.model_copy(update={"body": body.decode("utf-8", "replace")})

    def _with_head(self, pr: PullRequest) -> PullRequest:
        tip = self.branch_tip(pr.branch) if pr.state is PrState.OPEN else pr.head_sha
        return pr.model_copy(update={"head_sha": tip})

    @staticmethod
    def _strip(pr: PullRequest) -> PullRequest:
        return pr.model_copy(update={"head_sha": None})

    def _append(self, number: int, change: Callable[[PullRequest], dict[str, object]]) -> PullRequest:
        for _ in range(TRIES):
            oid = self._oid(number)
            pr = self._load(oid, number)
            record = pr.model_copy(update={**change(pr), "updated_at": format_time(self._clock.now())})
            try:
                self._store(oid, record, f"Note on #{number}")
            except ConflictError:
                self.refresh()
                continue
            return self._with_head(record)
        raise ConflictError(f"#{number} kept being changed at the same time", ref=f"{PR_REFS}{number}")

    def _store(self, old: str | None, record: PullRequest, message: str) -> None:
        self._clone.push({f"{PR_REFS}{record.number}": (old, self._record_commit(old, record, message))})

    def _record_commit(self, old: str | None, record: PullRequest, message: str) -> str:
        stored = record.model_copy(update={"body": ""})
        tree = self._repo.write_tree(None, {RECORD: dumps_pretty(stored.plain()).encode(), BODY: record.body.encode()})
        return self._commit(tree, [old] if old else [], message)

    def _commit(self, tree: str, parents: list[str], message: str) -> str:
        return self._repo.write_commit(
            tree=tree,
            parents=parents,
            message=message + "\n",
            author=self.identity,
            time=int(self._clock.now().timestamp()),
        )
