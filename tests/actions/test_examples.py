"""GitHub's own example events, by npm."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gitops_mk.core.workflow import EVENTS, parse_event
from gitops_mk.errors import InputError
from tests.actions.peers import EXAMPLES
from tests.support.github.npm import file_of, need
from tests.support.unavailable import Unavailable


@pytest.fixture(scope="module")
def examples() -> dict[str, list[Any]]:
    try:
        path = file_of(EXAMPLES)
    except Unavailable as exc:
        need(exc)
        raise
    return {event["name"]: event["examples"] for event in json.loads(path.read_text())}


def test_every_one_that_verify_judges_is_read(examples: dict[str, list[Any]]) -> None:
    found = [
        (name, example, parse_event(json.dumps(example).encode(), given, what="example"))
        for name in EVENTS
        for example in examples[name]
        for given in (name, None)
    ]
    assert len(found) > 50
    for name, example, event in found:
        said = example[name]
        if name == "pull_request":
            assert (event.number, event.head) == (said["number"], said["head"]["sha"])
            assert event.base_branch == said["base"]["ref"]
        else:
            assert (event.head, event.base) == (said["head_sha"], said["base_sha"])
            assert event.ref == said["head_ref"]


def test_no_other_is(examples: dict[str, list[Any]]) -> None:
    others = examples.keys() - set(EVENTS)
    assert len(others) > 40
    for name in others:
        for example in examples[name]:
            with pytest.raises(InputError, match="is none that verify judges"):
                parse_event(json.dumps(example).encode(), name, what="example")
