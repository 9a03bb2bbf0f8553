"""GitHub's own example events, and the pull requests that PyGithub recorded, read as if they were ours: told or refused, never a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from gitops_mk.adapters.github.pulls import Pulls, labels_of, state_of
from gitops_mk.adapters.github.record import record_of, with_record
from gitops_mk.adapters.github.wire import Bag, head_check, person, review, status_check
from gitops_mk.errors import ForgeError
from gitops_mk.model.change import Person, PrState
from tests.actions.peers import EXAMPLES
from tests.forges import test_recordings
from tests.forges.test_github_api import Tips
from tests.support.github.npm import file_of, need
from tests.support.make import pull_request
from tests.support.unavailable import Unavailable

US = Person(name="mk[bot]", email="1+mk[bot]@users.noreply.github.com", account="1", bot=True)


@cache
def events() -> tuple[dict[str, Any], ...]:
    """Every example of every event."""
    try:
        found = json.loads(file_of(EXAMPLES).read_text())
    except Unavailable as exc:
        need(exc)
        raise
    return tuple(example for event in found for example in event["examples"])


def objects(source: str, fields: frozenset[str]) -> Iterator[dict[str, Any]]:
    """All that have these fields, wherever they stand."""
    every = events() if source == "events" else test_recordings.objects()
    for one in every if source == "recordings" else (part for event in every for part in test_recordings.walk(event)):
        if fields <= one.keys():
            yield one


WHOLE = frozenset({"number", "title", "state", "head", "base", "user", "created_at", "updated_at", "merged_at"})


@pytest.mark.parametrize(("source", "at_least"), [("events", 20), ("recordings", 20)])
def test_pull_requests(source: str, at_least: int) -> None:
    """As they are, and as they would be on a branch of ours with a record of ours."""
    clone: Any = Tips()
    text = with_record("text", record_of(pull_request(), rollouts=()))
    read = 0
    for one in objects(source, WHOLE):
        repo = (one["base"].get("repo") or {}).get("id", 0) if isinstance(one["base"], dict) else 0
        reader = Pulls(clone, repo, US)
        try:
            assert reader.read(Bag(one, "pull request"), (), ()) is None
            ours = {**one, "body": text, "head": {**one["head"], "ref": "modekeeper/ml/x", "repo": one["base"]["repo"]}}
            found = reader.read(Bag(ours, "pull request"), (), ())
        except ForgeError:
            continue
        assert found is not None
        assert (found.number, found.workload) == (one["number"], pull_request().workload)
        assert (found.state is PrState.OPEN) is (one["state"] == "open")
        assert (found.state is PrState.MERGED) is (one["merged_at"] is not None)
        assert found.labels == labels_of(Bag(one, "pull request"))
        assert state_of(Bag(one, "pull request")) is found.state
        read += 1
    assert read >= at_least


KINDS: dict[str, tuple[frozenset[str], Any, int]] = {
    "accounts": (frozenset({"login", "id", "node_id", "type"}), person, 100),
    "reviews": (frozenset({"submitted_at", "commit_id", "state", "user"}), review, 2),
    "check runs": (frozenset({"head_sha", "external_id", "status", "conclusion", "name"}), head_check, 2),
    "statuses": (frozenset({"context", "state", "description", "id"}), lambda one: status_check(one, "a" * 40), 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_rest(kind: str) -> None:
    fields, read, at_least = KINDS[kind]
    well = 0
    for one in objects("events", fields):
        try:
            read(one)
        except ForgeError:
            continue
        well += 1
    assert well >= at_least
