"""Whose commits are on a branch."""

from __future__ import annotations

import pytest

from gitops_mk.core.origin import WEB_COMMITTER, foreign_commits
from gitops_mk.model.change import TRAILER_WORKLOAD, Person
from gitops_mk.model.git import CommitInfo
from tests.support.make import ALICE, IDENTITY, REF, SHA_A, TREE

BOT = Person(name="mk[bot]", email="7+mk[bot]@users.noreply.github.com", account="7", bot=True)
WEB = Person(name="GitHub", email=WEB_COMMITTER)
OURS = f"Change\n\n{TRAILER_WORKLOAD}: {REF.key}\n"


def commit(author: Person = IDENTITY, committer: Person | None = IDENTITY, message: str = OURS) -> CommitInfo:
    return CommitInfo(SHA_A, TREE, (), author, 0, message, committer)


@pytest.mark.parametrize(
    "ours", [commit(), commit(committer=None), commit(BOT, BOT), commit(BOT, WEB), commit(BOT, None)]
)
def test_ours_are_by_our_author_or_made_by_the_forge_for_us(ours: CommitInfo) -> None:
    assert foreign_commits([ours], IDENTITY, BOT, REF.key) == []


@pytest.mark.parametrize(
    "theirs",
    [
        commit(ALICE, ALICE),
        commit(IDENTITY, ALICE),
        commit(IDENTITY, WEB),
        commit(ALICE, IDENTITY),
        commit(WEB, WEB),
        commit(BOT, IDENTITY),
        commit(message="Change\n"),
        commit(message=f"Change\n\n{TRAILER_WORKLOAD}: ml/deployment-other\n"),
        commit(message=f"{OURS.rstrip()}\n{TRAILER_WORKLOAD}: ml/deployment-other\n"),
    ],
)
def test_everything_else_is_somebody_elses(theirs: CommitInfo) -> None:
    assert foreign_commits([commit(), theirs], IDENTITY, BOT, REF.key) == [theirs]
