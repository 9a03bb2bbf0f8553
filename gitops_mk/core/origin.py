"""Whose commits are on a branch."""

from __future__ import annotations

from collections.abc import Sequence

from gitops_mk.core.ledger import trailers
from gitops_mk.model.change import TRAILER_WORKLOAD, Person
from gitops_mk.model.git import CommitInfo

# The committer of what is written through GitHub's API; the author stays who asked for it.
WEB_COMMITTER = "noreply@github.com"


def foreign_commits(commits: Sequence[CommitInfo], author: Person, identity: Person, workload: str) -> list[CommitInfo]:
    """The commits that are not ours for that workload: written or amended by somebody else, or without our trailer.

    Ours are by `author`, or by our account on the forge, `identity`, where the forge itself makes and signs them.
    """
    ours = {(author.email, author.email), (identity.email, identity.email), (identity.email, WEB_COMMITTER)}
    return [
        commit
        for commit in commits
        if (commit.author.email, (commit.committer or commit.author).email) not in ours
        or trailers(commit.message).get(TRAILER_WORKLOAD) != [workload]
    ]
