from __future__ import annotations

import pytest

from gitops_mk.core.yamltree import YamlLimits, read_stream
from gitops_mk.errors import InputError


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        ("", "null"),
        ("~", "null"),
        ("Null", "null"),
        ("true", "bool"),
        ("FALSE", "bool"),
        ("0", "int"),
        ("-17", "int"),
        ("1.5", "float"),
        ("-1e3", "float"),
        (".5", "float"),
        ("010", "plain"),
        ("0x1f", "plain"),
        ("1_000", "plain"),
        ("1:30", "plain"),
        ("2024-01-01", "plain"),
        (".inf", "plain"),
        ("yes", "plain"),
        ("N", "plain"),
        ("v1", "str"),
        ("'yes'", "str"),
        ('"1"', "str"),
        ("! 1", "str"),
        ("!!str 1", "str"),
        ("!!int '1'", "int"),
        ("!own x", "!own"),
    ],
)
def test_a_scalar_says_what_every_version_of_yaml_takes_it_for(scalar: str, expected: str) -> None:
    document = read_stream(f"a: {scalar}\n", what="x").documents[0]
    assert document.events[2].type == expected


def test_anchors_are_followed_to_the_nearest_before() -> None:
    document = read_stream("a: &x 1\nb: *x\nc: &x {d: 2}\ne: *x\n", what="x").documents[0]
    assert document.events[document.resolve(4)].value == "1"
    assert document.events[document.resolve(11)].kind == "map"
    assert document.resolve(1) == 1
    assert document.aliased == {"x"}


def test_a_key_may_be_a_collection_or_the_alias_of_one() -> None:
    document = read_stream("? &k [a]\n: b\n? *k\n: c\n", what="x").documents[0]
    assert len(document.children(0)) == 4


def test_a_key_given_by_an_alias_counts_as_that_key() -> None:
    with pytest.raises(InputError, match="key 'k' at line 2 column 1 stands twice"):
        read_stream("&a k: b\n*a : c\n", what="x")


def test_bounds_hold_over_all_documents() -> None:
    with pytest.raises(InputError, match="more than 5 nodes at line 3"):
        read_stream("a: b\n---\nc: d\n", what="x", limits=YamlLimits(max_nodes=5))


def test_tabs_are_read_as_blanks_only_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a:\tb\nc:\td\n"
    assert read_stream(text, what="x").text == text
    monkeypatch.setattr("gitops_mk.core.yamltree._TAB_BUDGET", 20)
    with pytest.raises(InputError, match="line 2 column 3"):
        read_stream(text, what="x")


def test_a_lone_surrogate_is_not_utf8() -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        read_stream("a: \ud800\n", what="x")
