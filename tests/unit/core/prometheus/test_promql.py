"""A workload's names in PromQL: what is written must be read back as the name, whatever it holds."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.prometheus.promql import MAX_QUERY, filled, names_of, regex_quoted
from gitops_mk.errors import InputError
from gitops_mk.model.workload import WorkloadKind, WorkloadRef

NAMES = {"namespace": "ml", "name": "train.v1", "pods": "train\\.v1-[0-9]+"}
ESCAPE = re.compile(r"\\(U[0-9a-f]{8}|.)")


def fill(query: str, names: dict[str, str] | None = NAMES) -> str:
    return filled(query, names, what="the query of loss")


def unquoted(literal: str) -> str:
    """What a PromQL string means, by its rules for the escapes that we write."""
    return ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if m[1][0] == "U" else m[1], literal[1:-1])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("max(step_seconds)", "max(step_seconds)"),
        ('a{namespace="$namespace"}', 'a{namespace="ml"}'),
        ("a{namespace='$namespace', x=`$name`}", "a{namespace='ml', x=`train.v1`}"),
        ('a{pod=~"$name-.*"}', 'a{pod=~"train\\\\.v1-.*"}'),
        ('a{pod !~ "$name"}', 'a{pod !~ "train\\\\.v1"}'),
        ("a{pod=~`$name`}", "a{pod=~`train\\.v1`}"),
        ('a{pod="$name"}', 'a{pod="train.v1"}'),
        ('a{pod=~"$pods"}', 'a{pod=~"train\\\\.v1-[0-9]+"}'),
        ('a{x=~ # "\n  # why\n "$name", y="$name"}', 'a{x=~ # "\n  # why\n "train\\\\.v1", y="train.v1"}'),
        ('a{x="=~", y="$name"}', 'a{x="=~", y="train.v1"}'),
        ('a{x="$names $1 $"}', 'a{x="$names $1 $"}'),
        ('a{x="\\"$name"} # "$name and \'\nor b{y="$name"}', 'a{x="\\"train.v1"} # "$name and \'\nor b{y="train.v1"}'),
    ],
)
def test_placeholders_are_filled_where_they_stand(query: str, expected: str) -> None:
    assert fill(query) == expected


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("a{namespace=$namespace}", "$namespace stands outside of quotes"),
        ("$name", "$name stands outside of quotes"),
        ('a{pod="$pods"}', "$pods is a regular expression"),
        ('a{x="never ends}', 'a string that begins with " has no end'),
        ("a{x='1'} or `", "a string that begins with ` has no end"),
        ("  ", "expected a PromQL expression"),
        ("a" * (MAX_QUERY + 1), "expected a PromQL expression"),
    ],
)
def test_what_can_not_be_filled(query: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        fill(query)
    assert caught.value.message.startswith("the query of loss: ")


def test_without_a_workload() -> None:
    assert fill('a{x="y"}', None) == 'a{x="y"}'
    with pytest.raises(InputError, match="stands for a workload, and none is named"):
        fill('a{x="$name"}', None)
    with pytest.raises(InputError, match="between backticks"):
        fill("a{x=`$name`}", {**NAMES, "name": "a`b"})


@given(st.text(min_size=1), st.sampled_from("\"'"))
def test_a_string_means_the_name(name: str, quote: str) -> None:
    names = {**NAMES, "name": name}
    out = fill(f"a{{x={quote}$name{quote}}}", names)
    assert unquoted(out.removeprefix("a{x=").removesuffix("}")) == name
    # No quote of it ends the string: the same query is read again as one string.
    assert fill(out, names) == out or "$" in name


@given(st.text(alphabet=st.characters(codec="ascii"), min_size=1))
def test_a_matcher_matches_the_name_alone(name: str) -> None:
    out = fill('a{x=~"$name"}', {**NAMES, "name": name})
    pattern = unquoted(out.removeprefix("a{x=~").removesuffix("}"))
    assert re.fullmatch(pattern, name)
    assert pattern == regex_quoted(name)
    assert not re.fullmatch(pattern, name + "x")


@pytest.mark.parametrize(
    ("kind", "pods", "others"),
    [
        ("Deployment", ["t.1-5d7f9c8b6d-x2x4q", "t.1-7b-bbbbb"], ["tx1-5d7f9c8b6d-x2x4q", "t.1-2-5d7f9c8b6d-x2x4q", "t.1-canary-x2x4q", "t.1"]),
        ("StatefulSet", ["t.1-0", "t.1-12"], ["t.1-x", "t.1-0-0"]),
        ("DaemonSet", ["t.1-x2x4q"], ["t.1-a-x2x4q", "t.1-audio"]),
        ("Job", ["t.1-x2x4q", "t.1-3-x2x4q"], ["t.1-worker-0"]),
        ("JobSet", ["t.1-workers-0-1-x2x4q", "t.1-a-b-10-11-x2x4q"], ["t.1", "u.1-workers-0-1-x2x4q", "t.1-0-1-x2x4q", "t.1-5d7f9c8b6d-x2x4q", "t.1-2-x2x4q"]),
        ("TrainJob", ["t.1-node-0-0-x2x4q", "t.1-dataset-initializer-0-0-x2x4q"], ["t.1-node-0", "t.1-worker-0"]),
        ("PyTorchJob", ["t.1-master-0", "t.1-worker-11"], ["t.1", "t.1-2-worker-0", "t.1-0", "t.1-worker-0-x2x4q"]),
        ("RayJob", ["t.1-x7k2p-head-bcdfg", "t.1-x7k2p-head", "t.1-x7k2p-small-group-worker-z8f4b", "t.1-x7k2p-worker-small-z8f4b", "t.1-raycluster-x7k2p-head-bcdfg", "t.1-raycluster-worker-z8f4b"], ["t.1-x7k2p", "t.1-2-x7k2p-head-bcdfg", "t.1-worker-0", "t.1-head-bcdfg", "t.1-5d7f9c8b6d-x2x4q"]),
    ],
)  # fmt: skip
def test_pods_are_those_of_the_workload(kind: str, pods: list[str], others: list[str]) -> None:
    pattern = names_of(WorkloadRef.model_validate({"namespace": "ml", "kind": kind, "name": "t.1"}))["pods"]
    assert all(re.fullmatch(pattern, pod) for pod in pods)
    assert not any(re.fullmatch(pattern, pod) for pod in others)


def test_a_long_name_is_whole_where_nothing_cuts_it() -> None:
    name = "a" * 50
    for kind, ending in (("StatefulSet", "0"), ("PyTorchJob", "worker-0"), ("JobSet", "w-0-0-x2x4q")):
        pattern = names_of(WorkloadRef.model_validate({"namespace": "ml", "kind": kind, "name": name}))["pods"]
        assert re.fullmatch(pattern, f"{name}-{ending}")
        assert not re.fullmatch(pattern, f"{name}b-{ending}")
    pattern = names_of(WorkloadRef(namespace="ml", kind="RayJob", name="a" * 45))["pods"]
    assert re.fullmatch(pattern, f"{'a' * 45}-x7k2-worker-bcdfg")


def test_every_kind_has_an_ending() -> None:
    for kind in get_args(WorkloadKind):
        ref = WorkloadRef.model_validate({"namespace": "ml", "kind": kind, "name": "t"})
        assert not re.fullmatch(names_of(ref)["pods"], "t")


def test_a_long_name_is_cut_in_those_of_its_pods() -> None:
    name = "a" * 60
    pattern = names_of(WorkloadRef(namespace="ml", kind="Deployment", name=name))["pods"]
    assert re.fullmatch(pattern, f"{'a' * 58}x2x4q")
