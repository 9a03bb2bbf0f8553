"""The fence stands before every write of a forge, whichever there are; nothing but reads passes a fence that is shut."""

from __future__ import annotations

import inspect
from typing import Any, cast

import pytest

from gitops_mk.controller.fenced import FencedForge
from gitops_mk.errors import StoppedError
from gitops_mk.ports import Forge

READS = {
    "refresh", "repo", "identity", "base_branch", "base_tip", "branch_tip", "list_prs", "get_pr", "live", "standing", "examine", "usage",
    "stopped", "applied",
}  # fmt: skip
MEMBERS = {name for name in vars(Forge) if not name.startswith("_")}
# A method that nobody called a read is a write: a new one is behind the fence, or fails here.
WRITES = MEMBERS - READS


class Recorder:
    """A forge that writes down what it is asked, and gives the name of what it was."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name in ("repo", "identity", "base_branch"):
            self.asked.append((name, (), {}))
            return name

        def method(*args: Any, **options: Any) -> str:
            self.asked.append((name, args, options))
            return name

        return method


class Fence:
    """Counts who comes by; raises when it is shut."""

    def __init__(self, forge: Recorder) -> None:
        self.shut = False
        self.passed: list[int] = []
        self._forge = forge

    def __call__(self) -> None:
        if self.shut:
            raise StoppedError("told to stop")
        self.passed.append(len(self._forge.asked))


@pytest.fixture
def inner() -> Recorder:
    return Recorder()


@pytest.fixture
def fence(inner: Recorder) -> Fence:
    return Fence(inner)


@pytest.fixture
def forge(inner: Recorder, fence: Fence) -> FencedForge:
    return FencedForge(cast("Forge", inner), fence)


def call(forge: FencedForge, name: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Ask for it, each argument something of its own; gives the answer, and what should have come through."""
    if isinstance(vars(Forge)[name], property):
        return getattr(forge, name), (), {}
    args: list[Any] = []
    options: dict[str, Any] = {}
    for one in list(inspect.signature(vars(Forge)[name]).parameters.values())[1:]:
        if one.kind is inspect.Parameter.KEYWORD_ONLY:
            options[one.name] = object()
        else:
            args.append(object())
    return getattr(forge, name)(*args, **options), tuple(args), options


def test_the_protocol_is_known() -> None:
    assert READS <= MEMBERS
    assert {"push_branch", "signed", "create_pr", "update_pr", "merge", "commit_base"} <= WRITES


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_it_is_a_whole_forge(name: str) -> None:
    ours, asked = vars(FencedForge)[name], vars(Forge)[name]
    assert isinstance(ours, property) is isinstance(asked, property)
    if not isinstance(asked, property):
        assert inspect.signature(ours) == inspect.signature(asked)


def test_it_is_nothing_more() -> None:
    assert {name for name in vars(FencedForge) if not name.startswith("_")} == MEMBERS


@pytest.mark.parametrize("name", sorted(READS))
def test_reads_pass(forge: FencedForge, inner: Recorder, fence: Fence, name: str) -> None:
    fence.shut = True
    answer, args, options = call(forge, name)
    assert inner.asked == [(name, args, options)]
    if name != "refresh":
        assert answer == name


@pytest.mark.parametrize("name", sorted(WRITES))
def test_writes_are_fenced(forge: FencedForge, inner: Recorder, fence: Fence, name: str) -> None:
    answer, args, options = call(forge, name)
    assert inner.asked == [(name, args, options)]
    # Asked once, right before.
    assert fence.passed == [0]
    if name not in ("push_branch", "stop"):
        assert answer == name
    fence.shut = True
    with pytest.raises(StoppedError, match="told to stop"):
        call(forge, name)
    assert len(inner.asked) == 1
