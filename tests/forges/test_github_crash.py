"""Killed for good before or after any request of a turn, and before or after the record on disk: run again, the end is the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from tests.support.github.faults import Fault
from tests.support.github_life import Told, live
from tests.support.github_world import TOKEN_RIGHTS, HubWorld, hub_world

CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.github_life"])
# Requests of a turn are some forty; each is a point. Those that only read are many and alike: every write, and every third read.
READS_EVERY = 3


@contextmanager
def fresh(embedded: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubWorld]:
    with hub_world(folder, embedded, monkeypatch, as_app=False, validate=False) as world:
        # GitHub's own checks of a merge are no part of this.
        yield world


def turn(world: HubWorld) -> int:
    """One turn in a process of its own; its exit code, negative for the signal that ended it."""
    token = world.hub.token(world.bot, TOKEN_RIGHTS)
    told = Told(world.remote, str(world.path.parent / "state"), token, world.clock.now())
    process = CONTEXT.Process(target=live, args=(told,))
    process.start()
    running.append(process.pid or 0)
    process.join(120)
    running.clear()
    assert process.exitcode is not None, "the turn hangs"
    return process.exitcode


running: list[int] = []


def kill() -> None:
    os.kill(running[-1], signal.SIGKILL)


def end_state(world: HubWorld) -> dict[str, Any]:
    """Everything that anybody sees: refs, pull requests, labels, and the newest word of each check."""
    prs = [
        (
            p.number,
            p.state,
            p.merged,
            p.merge_commit_sha,
            p.issue.title,
            p.issue.body,
            sorted(x.name for x in p.issue.labels),
        )
        for p in world.repo.pulls
    ]
    statuses = {(sha, s.context): s.state for sha, many in world.repo.statuses.items() for s in many}
    return {"refs": world.refs(), "prs": prs, "statuses": statuses, "kept": kept(world)}


def kept(world: HubWorld) -> list[str]:
    folder = world.path.parent / "state"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.fixture(scope="module")
def calm(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    """The end of an undisturbed turn, and its requests, in order."""
    with pytest.MonkeyPatch.context() as patch, fresh(embedded, tmp_path_factory.mktemp("calm"), patch) as world:
        assert turn(world) == 0
        merged = [p for p in world.repo.pulls if p.merged]
        assert len(merged) == 1
        return end_state(world), [f"{r.method} {r.path}" for r in world.hub.requests]


def points(requests: list[str]) -> list[int]:
    """The places to be killed at, by the number of the request."""
    writes = [n for n, r in enumerate(requests, 1) if not r.startswith("GET") and not r.endswith("git-upload-pack")]
    reads = [n for n in range(1, len(requests) + 1) if n not in writes]
    return sorted({*writes, *reads[::READS_EVERY]})


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_request_and_run_again_it_ends_the_same(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calm: tuple[dict[str, Any], list[str]], *,
    after: bool, part: int,
) -> None:  # fmt: skip
    expected, requests = calm
    named = points(requests)
    assert len(named) >= 20
    for at in named[part::4]:
        with fresh(embedded, tmp_path / f"{at}", monkeypatch) as world:
            act = Fault.after(kill) if after else Fault.before(kill)
            world.hub.faults.add("*", ".*", act, nth=at)
            where = f"killed {'after' if after else 'before'} {requests[at - 1]} ({at})"
            assert turn(world) == -signal.SIGKILL, where
            world.hub.faults.clear()
            assert turn(world) == 0, where
            assert end_state(world) == expected, where
            merges = sum(r.path.endswith("/merge") and r.status == 200 for r in world.hub.requests)
            assert merges <= 1, where
            writes = len(
                [r for r in world.hub.requests if r.method in ("POST", "PUT", "PATCH") and "git-" not in r.path]
            )
            assert turn(world) == 0, where
            assert end_state(world) == expected, f"{where}, and run twice"
            after_that = len(
                [r for r in world.hub.requests if r.method in ("POST", "PUT", "PATCH") and "git-" not in r.path]
            )
            assert after_that == writes, f"{where}: the third run had nothing to write"


@pytest.mark.parametrize("fault", ["502 after", "502 before", "dropped", "dropped after"])
def test_an_answer_that_is_lost_is_read_back_and_nothing_is_done_twice(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calm: tuple[dict[str, Any], list[str]], fault: str
) -> None:
    """Each write of the API in turn; the turn may fail, the next one makes it whole."""
    expected, requests = calm
    made = {
        "502 after": lambda: Fault.status_after(502), "502 before": lambda: Fault.status(502),
        "dropped": Fault.drop, "dropped after": Fault.drop_after,
    }  # fmt: skip
    writes = [n for n, r in enumerate(requests, 1) if r.split()[0] in ("POST", "PUT", "PATCH") and "/api/" in r]
    for at in writes:
        with fresh(embedded, tmp_path / f"{at}", monkeypatch) as world:
            world.hub.faults.add("*", ".*", made[fault](), nth=at)
            assert turn(world) in (0, 1)
            world.hub.faults.clear()
            assert turn(world) == 0
            assert end_state(world) == expected, f"{fault} at {requests[at - 1]}"
