"""The record of a merge that was asked for, and a line of an examination: closed, and read back as they were written."""

from __future__ import annotations

from typing import Any

import pytest

from gitops_mk.errors import InputError
from gitops_mk.model.canonical import dumps_pretty
from gitops_mk.model.finding import Finding
from gitops_mk.model.intent import MergeIntent
from tests.support import make

FIELDS: dict[str, Any] = {
    "pr": 3, "workload": make.REF.key, "branch": make.REF.branch, "head": make.SHA_A, "base": make.SHA_B,
    "tree": make.TREE, "plan_digest": "1" * 64, "at": "2026-03-01T12:00:00Z",
}  # fmt: skip


def test_an_intent_is_read_back_as_it_was_written() -> None:
    intent = MergeIntent(**FIELDS)
    assert MergeIntent.parse_json(dumps_pretty(intent.plain()), what="intent") == intent


@pytest.mark.parametrize("field", FIELDS)
def test_half_an_intent_is_none(field: str) -> None:
    for spoiled in ({**FIELDS, field: None}, {k: v for k, v in FIELDS.items() if k != field}):
        with pytest.raises(InputError, match=field):
            MergeIntent.parse(spoiled, what="intent")
    with pytest.raises(InputError, match="more"):
        MergeIntent.parse({**FIELDS, "more": 1}, what="intent")


def test_a_finding_needs_nothing_but_what_was_seen() -> None:
    assert Finding("git", ok=True, detail="2.39") == ("git", True, "2.39", None, False)
