"""What is kept over a merge reads back as it was written, and nothing else is taken for it; a finding names what it is of."""

from __future__ import annotations

import pytest

from gitops_mk.errors import InputError
from gitops_mk.model.canonical import dumps_canonical
from gitops_mk.model.finding import Finding
from gitops_mk.model.intent import MergeIntent
from gitops_mk.model.times import format_time
from tests.support.make import NOW, REF, SHA_A, SHA_B, TREE

INTENT = MergeIntent(
    pr=1, workload=REF.key, branch=REF.branch, head=SHA_A, base=SHA_B, tree=TREE, plan_digest="1" * 64,
    at=format_time(NOW),
)  # fmt: skip


def test_an_intent_reads_back() -> None:
    assert MergeIntent.parse_json(dumps_canonical(INTENT.plain()), what="it") == INTENT


@pytest.mark.parametrize("field", list(MergeIntent.model_fields))
@pytest.mark.parametrize("value", [None, "x", 0, []])
def test_every_field_is_needed_and_of_its_kind(field: str, value: object) -> None:
    plain = INTENT.plain()
    if field in ("workload", "branch") and value == "x":
        return
    with pytest.raises(InputError, match=field):
        MergeIntent.parse({**plain, field: value}, what="it")
    with pytest.raises(InputError, match=field):
        MergeIntent.parse({name: one for name, one in plain.items() if name != field}, what="it")


def test_a_finding_is_of_no_consequence_unless_it_says_so() -> None:
    assert Finding("github", True, "all is well") == ("github", True, "all is well", None, False)
