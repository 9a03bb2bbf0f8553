"""Reading of objects that others made: whatever stands where a map or a list was expected, nothing raises."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.objects import items, number, part, text

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)


@given(ANYTHING, st.lists(st.sampled_from("ab"), max_size=3))
def test_anything_can_be_read(value: Any, path: list[str]) -> None:
    found = part(value, *path)
    assert isinstance(found, dict)
    for key in "ab":
        assert all(isinstance(one, dict) for one in items(found, key))
        assert isinstance(text(found, key), str)
        assert type(number(found, key)) is int


def test_items_keep_their_places() -> None:
    assert items({"a": [{"x": 1}, None, "y", {"z": 2}]}, "a") == ({"x": 1}, {}, {}, {"z": 2})
    assert items({"a": {"x": 1}}, "a") == ()


def test_numbers_and_texts() -> None:
    assert number({"a": True}, "a", 7) == 7
    assert number({"a": 0}, "a", 7) == 0
    assert number({}, "a", 7) == 7
    assert text({"a": 1}, "a") == ""
