"""Whose a commit is."""

from __future__ import annotations

from dataclasses import replace

from gitops_mk.core.origin import WEB_COMMITTER, foreign_commits
from gitops_mk.model.change import TRAILER_WORKLOAD, Person
from gitops_mk.model.git import CommitInfo
from tests.support import make

BOT = Person(name="mk[bot]", email="9+mk[bot]@users.noreply.github.com", account="9", bot=True)
OURS = CommitInfo(
    sha=make.SHA_A, tree=make.TREE, parents=(), author=make.IDENTITY, committer=make.IDENTITY, time=0,
    message=f"m\n\n{TRAILER_WORKLOAD}: {make.REF.key}\n",
)  # fmt: skip


def foreign(commit: CommitInfo) -> bool:
    return bool(foreign_commits([commit], make.IDENTITY, BOT, make.REF.key))


def test_ours_are_by_us_and_for_that_workload() -> None:
    assert not foreign(OURS)
    assert not foreign(replace(OURS, committer=None))
    assert not foreign(replace(OURS, author=BOT, committer=BOT))
    site = Person(name="GitHub", email=WEB_COMMITTER)
    assert not foreign(replace(OURS, author=BOT, committer=site))
    assert foreign(replace(OURS, author=make.ALICE))
    assert foreign(replace(OURS, committer=make.ALICE))
    assert foreign(replace(OURS, committer=site)), "an edit on GitHub's page, under our git name, is not ours"
    assert foreign(replace(OURS, author=make.ALICE, committer=site))
    assert foreign(replace(OURS, message="m"))
    assert foreign(replace(OURS, message=f"m\n\n{TRAILER_WORKLOAD}: ml/deployment-other\n"))
