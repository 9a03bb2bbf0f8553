"""A forge that writes only while it may: the fence is asked right before each write, whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from gitops_mk.errors import ForgeError
from gitops_mk.model.annotation import Annotation
from gitops_mk.model.change import AppliedChange, Check, Comment, Person, PullRequest, Review
from gitops_mk.model.finding import Finding
from gitops_mk.model.gate import KillReading
from gitops_mk.model.permit import Permit
from gitops_mk.model.standing import Standing
from gitops_mk.ports import Board, Forge, Inbox, Repo, Word


class FencedForge:
    """`ports.Forge` behind a fence, which raises StoppedError when it is shut. Reads pass; a merge may have a fence of its own."""

    def __init__(self, forge: Forge, fence: Callable[[], None], *, at_merge: Callable[[], None] | None = None) -> None:
        self._forge = forge
        self._fence = fence
        self._at_merge = at_merge or fence

    def refresh(self) -> None:
        """Fetch what changed."""
        self._forge.refresh()

    @property
    def repo(self) -> Repo:
        """The objects and refs as of the last refresh."""
        return self._forge.repo

    @property
    def identity(self) -> Person:
        """Who we are there."""
        return self._forge.identity

    @property
    def base_branch(self) -> str:
        """The branch that pull requests go to."""
        return self._forge.base_branch

    def base_tip(self) -> str:
        """The tip of the base branch."""
        return self._forge.base_tip()

    def branch_tip(self, branch: str) -> str | None:
        """The tip of a branch."""
        return self._forge.branch_tip(branch)

    def list_prs(self, *, open_only: bool = False) -> tuple[PullRequest, ...]:
        """All pull requests."""
        return self._forge.list_prs(open_only=open_only)

    def get_pr(self, number: int) -> PullRequest | None:
        """One pull request."""
        return self._forge.get_pr(number)

    def live(self, number: int) -> PullRequest | None:
        """One pull request, past every cache."""
        return self._forge.live(number)

    def standing(self, pr: PullRequest) -> Standing:
        """How it stands by the forge's own rules."""
        return self._forge.standing(pr)

    def examine(self) -> Iterator[Finding]:
        """What there is to say of it."""
        return self._forge.examine()

    def usage(self) -> tuple[Mapping[str, int], int | None]:
        """Calls so far, and what is left."""
        return self._forge.usage()

    def stopped(self) -> KillReading:
        """The kill switch that the forge keeps."""
        return self._forge.stopped()

    def stop(self, number: int, why: str) -> None:
        """Throw it; where this process may not, the record of its intent brings the next one to it."""
        self._fence()
        self._forge.stop(number, why)

    def applied(self, workload: str | None = None, *, since: int = 0) -> tuple[AppliedChange, ...]:
        """Merged chords."""
        return self._forge.applied(workload, since=since)

    def push_branch(self, branch: str, *, old: str | None, new: str | None) -> None:
        """Move a branch."""
        self._fence()
        self._forge.push_branch(branch, old=old, new=new)

    def push_branches(self, moves: Mapping[str, tuple[str | None, str | None]]) -> Mapping[str, ForgeError]:
        """Move many branches."""
        self._fence()
        return self._forge.push_branches(moves)

    def signed(self, commit: str, *, base: str, files: Mapping[str, bytes | None], message: str) -> str:
        """The same change, signed."""
        self._fence()
        return self._forge.signed(commit, base=base, files=files, message=message)

    def create_pr(self, pr: PullRequest) -> PullRequest:
        """Open it."""
        self._fence()
        return self._forge.create_pr(pr)

    def update_pr(self, before: PullRequest, after: PullRequest) -> PullRequest:
        """Replace the record."""
        self._fence()
        return self._forge.update_pr(before, after)

    def add_review(self, number: int, review: Review) -> PullRequest:
        """Record a review."""
        self._fence()
        return self._forge.add_review(number, review)

    def add_check(self, number: int, check: Check, *, annotations: Sequence[Annotation] = ()) -> PullRequest:
        """Record a check."""
        self._fence()
        return self._forge.add_check(number, check, annotations=annotations)

    def add_comment(self, number: int, comment: Comment) -> PullRequest:
        """Record a comment."""
        self._fence()
        return self._forge.add_comment(number, comment)

    def merge(self, permit: Permit, *, message: str) -> str:
        """Merge what the permit names."""
        self._at_merge()
        return self._forge.merge(permit, message=message)

    def commit_base(self, *, old: str, files: Mapping[str, bytes | None], message: str) -> str:
        """Put a commit on the base branch."""
        self._fence()
        return self._forge.commit_base(old=old, files=files, message=message)


class FencedInbox:
    """`ports.Inbox` behind the same fence."""

    def __init__(self, inbox: Inbox, fence: Callable[[], None]) -> None:
        self._inbox = inbox
        self._fence = fence

    def words(self) -> tuple[Word, ...]:
        """Those that stand unanswered."""
        return self._inbox.words()

    def answer(self, word: Word, *, well: bool, text: str) -> None:
        """React to it, and say so."""
        self._fence()
        self._inbox.answer(word, well=well, text=text)


class FencedBoard:
    """`ports.Board` behind the same fence."""

    def __init__(self, board: Board, fence: Callable[[], None]) -> None:
        self._board = board
        self._fence = fence

    def read(self) -> str | None:
        """What it says now."""
        return self._board.read()

    def write(self, text: str) -> None:
        """Make it say that."""
        self._fence()
        self._board.write(text)
