"""Two dry-runs compared: what webhooks and defaults do to both cancels out, and nothing that differs is lost."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.dryrun import Difference, compare, differences, leaves_of, unplanned
from gitops_mk.core.places import OBJECT, TEMPLATE
from gitops_mk.core.refusals import GITOPS_MANAGERS
from gitops_mk.model.cluster import ApplyAnswer, Refusal, Trial
from gitops_mk.model.knob import annotation_key
from tests.support import objects

KEY = annotation_key("dataloader_num_workers")
PLACES = (OBJECT, TEMPLATE)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "1", "null", "{}", "[]", "true"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "0", "1", "metadata"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def stored(workers: int = 2, **over: Any) -> ApplyAnswer:
    return ApplyAnswer(200, objects.deployment({"dataloader_num_workers": workers}, **over))


def conflicting(*found: tuple[str, str]) -> ApplyAnswer:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}" using apps/v1', "field": field}
        for manager, field in found
    ]
    return ApplyAnswer(409, {"message": "conflicts", "reason": "Conflict", "details": {"causes": causes}})


def compared(base: Trial | None, head: Trial | None, managers: frozenset[str] = GITOPS_MANAGERS) -> Any:
    return compare(base, head, managers=managers)


class TestCompare:
    def test_not_attempted(self) -> None:
        for base, head in ((None, None), (Trial(plain=stored()), None), (None, Trial(plain=stored()))):
            told = compared(base, head)
            assert (told.head.attempted, told.head.ok, told.differences) == (False, None, ())

    def test_exactly_the_planned_leaf(self) -> None:
        told = compared(Trial(plain=stored()), Trial(plain=stored(4)))
        assert (told.head.ok, told.head.status) == (True, 200)
        assert told.differences == (Difference((*TEMPLATE, KEY), '"2"', '"4"'),)
        assert str(told.differences[0]) == f'spec.template.metadata.annotations[{KEY}] goes from "2" to "4"'

    def test_no_answer(self) -> None:
        told = compared(Trial(plain=stored()), Trial(error="silent", timed_out=True))
        assert (told.head.refusal, told.head.message) == (Refusal.TIMEOUT, "head: silent")
        told = compared(Trial(error="refused"), Trial(plain=stored()))
        assert (told.head.refusal, told.head.message) == (Refusal.UNREACHABLE, "base: refused")

    def test_refused(self) -> None:
        no = ApplyAnswer(403, {"message": 'admission webhook "w" denied the request: no'})
        told = compared(Trial(plain=stored()), Trial(plain=no))
        assert (told.head.by, told.differences) == ("w", ())
        assert told.head.message.startswith("head: admission webhook")
        assert compared(Trial(plain=no), Trial(plain=stored())).head.message.startswith("base: ")

    def test_a_forced_one_that_is_refused(self) -> None:
        held = conflicting(("argocd-controller", KEY))
        no = ApplyAnswer(422, {"message": "field is immutable"})
        assert compared(Trial(plain=stored()), Trial(held, no)).head.refusal is Refusal.SCHEMA

    def test_a_conflict_that_was_not_forced(self) -> None:
        told = compared(Trial(plain=stored()), Trial(plain=conflicting(("tuner", ".spec.replicas"))))
        assert (told.head.refusal, told.head.by) == (Refusal.FIELD_CONFLICT, "tuner")


class TestConflicts:
    REPLICAS = ("kube-controller-manager", ".spec.replicas")
    KNOB = ("tuner", f".spec.template.metadata.annotations.{KEY}")

    def test_one_that_the_base_has_too(self) -> None:
        held = conflicting(self.REPLICAS)
        told = compared(Trial(held, stored()), Trial(held, stored(4)))
        assert (told.head.ok, len(told.differences)) == (True, 1)

    def test_one_with_who_applies_what_stands_in_git(self) -> None:
        head = Trial(conflicting(("argocd-controller", self.KNOB[1])), stored(4))
        assert compared(Trial(plain=stored()), head).head.ok

    def test_one_on_the_knob(self) -> None:
        base = Trial(conflicting(self.REPLICAS), stored())
        head = Trial(conflicting(("argocd-controller", self.KNOB[1]), self.REPLICAS, self.KNOB), stored(4))
        told = compared(base, head)
        assert (told.head.ok, told.head.refusal, told.head.by) == (False, Refusal.FIELD_CONFLICT, "tuner")
        assert (told.head.status, told.head.reason, told.differences) == (409, "Conflict", ())
        assert told.head.message == f"head: {self.KNOB[1]} is owned by tuner"
        assert compared(base, head, GITOPS_MANAGERS | {"tuner"}).head.ok

    def test_none_in_the_base(self) -> None:
        # A forced answer alone, with no word of what it overrode.
        assert compared(Trial(forced=stored()), Trial(forced=stored(4))).head.ok


class TestDifferences:
    def test_bookkeeping_is_left_out(self) -> None:
        base, head = stored(), copy.deepcopy(stored())
        meta = head.body["metadata"]
        meta.update(
            resourceVersion="8", generation=4, uid="u", creationTimestamp="now", managedFields=[{"manager": "m"}]
        )
        status = {"conditions": [{"type": "Available"}], "availableReplicas": 1}
        assert differences(base, ApplyAnswer(200, {**head.body, "status": status})) == ()

    @given(JSON, JSON)
    def test_none_exactly_where_they_are_equal(self, a: Any, b: Any) -> None:
        wrapped = [ApplyAnswer(200, {"data": value}) for value in (a, b)]
        assert (differences(*wrapped) == ()) == (leaves_of(a) == leaves_of(b))
        assert (leaves_of(a) == leaves_of(b)) == (_exact(a) == _exact(b))

    @given(JSON, JSON)
    def test_both_ways(self, a: Any, b: Any) -> None:
        there = differences(ApplyAnswer(200, {"d": a}), ApplyAnswer(200, {"d": b}))
        back = differences(ApplyAnswer(200, {"d": b}), ApplyAnswer(200, {"d": a}))
        assert [(d.path, d.before, d.after) for d in there] == [(d.path, d.after, d.before) for d in back]

    @given(JSON, JSON, JSON)
    def test_what_is_added_to_both_cancels_out(self, a: Any, b: Any, added: Any) -> None:
        plain = differences(ApplyAnswer(200, {"d": a}), ApplyAnswer(200, {"d": b}))
        both = differences(ApplyAnswer(200, {"d": a, "x": added}), ApplyAnswer(200, {"d": b, "x": added}))
        assert plain == both

    @given(objects.damaged(objects.deployment()), objects.damaged(objects.deployment()))
    def test_nothing_raises(self, a: dict[str, Any], b: dict[str, Any]) -> None:
        unplanned(differences(ApplyAnswer(200, a), ApplyAnswer(200, b)), PLACES, {"concurrency": 8})


def _exact(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{_exact(value[key])}" for key in sorted(value)) + "}"
    return "[" + ",".join(map(_exact, value)) + "]" if isinstance(value, list) else repr(value)


class TestUnplanned:
    KNOBS = {"dataloader_num_workers": 4}

    def one(self, path: tuple[str | int, ...], before: str | None, after: str | None) -> Difference | None:
        return unplanned((Difference(path, before, after),), PLACES, self.KNOBS)

    def test_planned(self) -> None:
        assert unplanned((), PLACES, self.KNOBS) is None
        for place in PLACES:
            assert self.one((*place, KEY), '"2"', '"4"') is None
            assert self.one((*place, KEY), None, '"4"') is None

    def test_an_empty_map_gives_way(self) -> None:
        assert self.one(TEMPLATE, "{}", None) is None
        assert self.one(TEMPLATE, None, "{}") is not None

    def test_another_value(self) -> None:
        assert self.one((*TEMPLATE, KEY), '"2"', '"5"') is not None
        assert self.one((*TEMPLATE, KEY), '"2"', "4") is not None
        assert self.one((*TEMPLATE, KEY), '"2"', None) is not None

    def test_what_goes_is_no_less_a_change(self) -> None:
        found = self.one(("spec", "template", "spec", "containers", 0, "image"), '"a"', None)
        assert str(found) == 'spec.template.spec.containers[0].image goes from "a" to None'

    def test_what_comes(self) -> None:
        assert self.one((*TEMPLATE, annotation_key("concurrency")), None, '"8"') is not None
