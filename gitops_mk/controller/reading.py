"""What git says of a pair of commits, and the builds that will be asked for: had while the rest of a command is loaded.

A command that starts spends its first tenths of a second on importing models; git and kustomize are other programs, and can
work meanwhile. So no model is needed here, and nothing is judged. Why: ADR 0013.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gitops_mk.core.render.paths import overlay_beside
from gitops_mk.errors import GitError, InputError

if TYPE_CHECKING:
    from gitops_mk.model.git import PathChange
    from gitops_mk.ports import ManifestBuilder, Repo

JOIN_S: Final = 0.05


@dataclass(frozen=True)
class Reading:
    """`tree` is what merging `head` into `base` gives; None where they conflict, and then only `base_files` is known.

    `changes` and `head_files` are that tree's against the base's. `special` are the paths, in either, that are links or
    submodules.
    """

    base: str
    head: str
    tree: str | None
    base_files: Mapping[str, bytes] = field(repr=False)
    head_files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    changes: tuple[PathChange, ...] = ()
    special: frozenset[str] = frozenset()


def resolve(repo: Repo, ref: str, role: str) -> str:
    """The commit of a ref. Raises InputError."""
    sha = repo.resolve(ref)
    if sha is None:
        raise InputError(
            f"{role} {ref!r} is no commit in this repository",
            hint="in CI, fetch enough history (actions/checkout with fetch-depth: 0)",
        )
    return sha


def read(repo: Repo, base: str, head: str) -> Reading:
    """What the repository says of two commits, by SHA. Raises GitError."""
    # git is asked side by side: each answer is a process of its own.
    with ThreadPoolExecutor(1) as pool:
        merged = pool.submit(_merged_tree, repo, base, head)
        base_files = repo.files(base)
        tree = merged.result()
    if tree is None:
        return Reading(base, head, None, base_files)
    try:
        head_files = repo.files(tree)
    except GitError:
        # Too large to read, and so none of ours: the steps can still say which paths change.
        head_files = {}
    links = (
        entry.path for treeish in (base, tree) for entry in repo.tree(treeish) if entry.mode in ("120000", "160000")
    )
    return Reading(base, head, tree, base_files, head_files, repo.diff(base, tree), frozenset(links))


def _merged_tree(repo: Repo, base: str, head: str) -> str | None:
    try:
        return repo.merge_tree(base, head)
    except GitError:
        if repo.merge_base(base, head) is None:
            return None
        raise


class ReadAhead:
    """Reads two commits in the background, then begins the builds of the overlay whose decision record differs.

    Which overlay counts is not decided here: a wrong guess costs a build that nobody asks for.
    """

    def __init__(
        self,
        open_repo: Callable[[], AbstractContextManager[Repo]],
        builder: ManifestBuilder,
        base: str,
        head: str,
        *,
        end_children: Callable[[], None],
    ) -> None:
        """`builder` must keep what it is building for who asks next; `end_children` ends the programs that run for us."""
        self._builder = builder
        self._end_children = end_children
        self._stopped = False
        self._opened = ExitStack()
        self._reading: Future[tuple[Repo, Reading]] = Future()
        self._thread = threading.Thread(target=self._run, args=(open_repo, base, head), name="read-ahead", daemon=True)
        self._thread.start()

    def result(self) -> tuple[Repo, Reading]:
        """The repository, open until `close`, and what it says. Raises InputError and GitError."""
        return self._reading.result()

    def close(self) -> None:
        """End what still runs, and close the repository."""
        self._stopped = True
        while self._thread.is_alive():
            self._end_children()
            self._thread.join(JOIN_S)
        self._opened.close()

    def _run(self, open_repo: Callable[[], AbstractContextManager[Repo]], base: str, head: str) -> None:
        try:
            repo = self._opened.enter_context(open_repo())
            found = read(repo, resolve(repo, base, "base"), resolve(repo, head, "head"))
        except BaseException as exc:  # noqa: BLE001 - told to whoever asks
            self._reading.set_exception(exc)
            return
        self._reading.set_result((repo, found))
        overlays = {overlay_beside(change.path) for change in found.changes} - {None}
        if len(overlays) == 1 and not self._stopped:
            with ThreadPoolExecutor(2) as pool:
                for files in (found.base_files, found.head_files):
                    # Whoever asks for the build is told what is wrong with it.
                    pool.submit(self._builder.build, files, str(*overlays))
