"""A private clone of the GitOps repository: one fetch a turn, and every push by compare-and-swap."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gitops_mk.adapters.git import GitRepo, open_private
from gitops_mk.errors import ConflictError, ForgeError, GitError, IntegrityError, MkError
from gitops_mk.model.change import Person
from gitops_mk.model.settings import KILL_SWITCH_PATH

PREFIX = "modekeeper/"
Moves = Mapping[str, tuple[str | None, str | None]]
"""Full ref name -> (what it must be at, what it is to be at); None: absent."""


def own_refspecs(base_branch: str) -> tuple[str, ...]:
    """The base branch and our own; whatever else a server has is not brought here.

    A pattern each, for a name alone makes a fetch fail where it is not there, with words of git's.
    """
    return tuple(f"+refs/heads/{name}*:refs/heads/{name}*" for name in (base_branch, PREFIX))


class Clone:
    """The objects and refs of one remote in a folder of our own; `close` removes it."""

    def __init__(
        self,
        remote: str,
        refspecs: Sequence[str],
        *,
        borrow: Path | None = None,
        token: Callable[[], str | None] | None = None,
    ) -> None:
        self.remote = remote
        self.refspecs = tuple(refspecs)
        # Nobody else writes here, so refs are what they were until we fetch or push.
        self._heads: dict[str, str] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="mk-forge-", ignore_cleanup_errors=True)
        try:
            self.repo: GitRepo = open_private(Path(self._folder.name), remote, refspecs, borrow=borrow, token=token)
        except GitError as exc:
            self.close()
            raise ForgeError(
                f"the git server can't be read: {exc.message}",
                hint=exc.hint or "check --forge, or the remote of the checkout",
                retryable=exc.retryable,
            ) from exc
        except MkError:
            self.close()
            raise

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def refresh(self) -> None:
        """Fetch what changed. Raises ForgeError."""
        self._heads = None
        try:
            self.repo.fetch(self.remote, self.refspecs)
        except GitError as exc:
            raise ForgeError(
                f"the git server can't be read: {exc.message}", hint=exc.hint, retryable=exc.retryable
            ) from exc

    def tip(self, branch: str) -> str | None:
        """The tip of a branch, None when it is not there."""
        if self._heads is None:
            self._heads = self.repo.refs("refs/heads/")
        return self._heads.get(f"refs/heads/{branch}")

    def base_tip(self, branch: str) -> str:
        """The tip of the base branch. Raises ForgeError when it has none."""
        tip = self.tip(branch)
        if tip is None:
            raise ForgeError(
                f"branch {branch!r} is not on the git server",
                hint="push it, or set base_branch in .modekeeper/config.yaml",
            )
        return tip

    def push(self, moves: Moves) -> None:
        """Move refs, all or none. An answer that was lost on the way is made up for by looking at what came of it.

        Raises ConflictError for a race that was lost, ForgeError for what the server refuses.
        """
        try:
            self.repo.push(self.remote, moves)
        except ConflictError as exc:
            with suppress(ForgeError):
                self.refresh()
            # Git names one of those that moved, whichever comes first in its own order; here it is the caller's.
            moved = (ref for ref, (old, _) in moves.items() if self.repo.refs(ref).get(ref) != old)
            raise _conflict(next(moved, exc.ref)) from exc
        except GitError as exc:
            if not (exc.retryable and self._took_effect(moves)):
                raise _refused(exc) from exc
        self._set({ref: new for ref, (_, new) in moves.items()})

    def push_each(self, moves: Moves) -> dict[str, ForgeError]:
        """Move refs by one push, each on its own; gives why, for those that did not move."""
        if not moves:
            return {}
        try:
            lost = self.repo.push_each(self.remote, moves)
        except GitError as exc:
            with suppress(ForgeError):
                self.refresh()
            now = self.repo.refs("refs/heads/")
            return {ref: _refused(exc) for ref, (_, new) in moves.items() if now.get(ref) != new}
        done = {ref: new for ref, (_, new) in moves.items() if ref not in lost}
        if done:
            self._set(done)
        return {ref: _conflict(ref) if raced else _refused(GitError(said)) for ref, (raced, said) in lost.items()}

    def push_branches(self, moves: Moves) -> dict[str, ForgeError]:
        """The same by the names of branches."""
        lost = self.push_each({f"refs/heads/{branch}": move for branch, move in moves.items()})
        return {ref.removeprefix("refs/heads/"): why for ref, why in lost.items()}

    def commit_switch(
        self, branch: str, *, old: str, files: Mapping[str, bytes | None], message: str, author: Person, time: int
    ) -> str:
        """Put a commit on the base branch that writes the kill switch's own file; gives its id.

        Raises IntegrityError for any other file: only a merge may write those. Raises ConflictError for a race that was lost.
        """
        other = sorted(p for p in files if p != KILL_SWITCH_PATH and not p.startswith(f"{KILL_SWITCH_PATH}/"))
        if other:
            raise IntegrityError(f"{other[0]} can't be written to {branch}: only a merge may do that")
        tree = self.repo.write_tree(old, files)
        sha = self.repo.write_commit(tree=tree, parents=[old], message=message, author=author, time=time)
        self.push({f"refs/heads/{branch}": (old, sha)})
        return sha

    def _set(self, refs: Mapping[str, str | None]) -> None:
        self.repo.set_refs(refs)
        self._heads = None

    def _took_effect(self, moves: Moves) -> bool:
        try:
            self.refresh()
        except ForgeError:
            return False
        return all(self.repo.refs(ref).get(ref) == new for ref, (_, new) in moves.items())


def _conflict(ref: str) -> ConflictError:
    return ConflictError(f"{ref} was moved by somebody else at the same time", ref=ref)


def _refused(exc: GitError) -> ForgeError:
    said = f"the git server did not take the push: {exc.message}"
    return ForgeError(said, hint=exc.hint, retryable=exc.retryable)
