"""At first sight nobody is bothered: looks in a row must agree, and a restart loses nothing that is open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops_mk.controller.reconcile import Memory, Result, reconcile
from gitops_mk.model.change import PrState
from tests.support.desk import Heard, Post, seen, trainer
from tests.support.world import CONFIG, World


@pytest.fixture
def post(world: World, tmp_path: Path) -> Post:
    return Post(world, tmp_path / "out", world.forge(), patient=True)


def look(post: Post, memory: Memory, scenario: str = "straggler") -> Result:
    post.source = lambda found, since: Heard(scenario)
    return reconcile(seen(post, trainer()), post.snapshot(), memory, post.desk)


def report(post: Post) -> dict[str, object]:
    (path,) = post.out.rglob("closed_loop_latest.json")
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def states(post: Post) -> list[tuple[str, PrState]]:
    post.forge.refresh()
    return [(pr.chord, pr.state) for pr in post.forge.list_prs()]


def test_three_looks_in_a_row_must_agree(post: Post) -> None:
    memory = Memory()
    for number in (1, 2):
        told = look(post, memory)
        assert told.state == "confirming"
        assert told.message == f"confirmation: seen in {number} looks in a row, 3 are needed"
        assert not told.wrote
        assert report(post)["confirmation"] == {"seen": number, "needed": 3}
    assert states(post) == []
    assert look(post, memory).state == "pull request #1 open"
    assert report(post)["confirmation"] is None
    assert states(post) == [("INPUT-STRAGGLER", PrState.OPEN)]


def test_one_that_does_not_show_it_begins_the_count_anew(post: Post) -> None:
    memory = Memory()
    assert [look(post, memory, name).state for name in ("straggler", "straggler", "stable", "straggler")] == [
        "confirming", "confirming", "stable", "confirming",
    ]  # fmt: skip
    assert states(post) == []


def test_one_that_can_not_tell_neither_confirms_nor_denies(post: Post) -> None:
    memory = Memory()
    assert [look(post, memory, name).state for name in ("straggler", "straggler", "empty", "straggler")] == [
        "confirming", "confirming", "insufficient evidence", "pull request #1 open",
    ]  # fmt: skip


def test_after_a_restart_what_is_open_stays_so(post: Post) -> None:
    memory = Memory()
    for _ in range(3):
        look(post, memory)
    assert look(post, Memory()).state == "pull request #1 open"
    assert states(post) == [("INPUT-STRAGGLER", PrState.OPEN)]


def test_another_signal_does_not_take_its_place_at_first_sight(post: Post) -> None:
    memory = Memory()
    for _ in range(3):
        look(post, memory)
    # The cause is gone, so it is withdrawn; what is seen now waits like anything else.
    assert look(post, memory, "burst").state == "pull request #1 closed"
    assert states(post) == [("INPUT-STRAGGLER", PrState.CLOSED)]
    assert look(post, memory, "burst").state == "confirming"
    assert look(post, memory, "burst").state == "pull request #2 open"


def test_how_many_is_the_teams_to_say(post: Post) -> None:
    config = post.world.file(CONFIG).decode()
    post.world.commit({CONFIG: (config + "limits: {confirmations: 1}\n").encode()})
    assert look(post, Memory()).state == "pull request #1 open"


def test_what_is_not_worth_its_cost_any_more_is_withdrawn(post: Post) -> None:
    memory = Memory()
    for _ in range(3):
        look(post, memory)
    config = post.world.file(CONFIG).decode()
    head, found, rest = config.partition("    overlay:")
    assert found
    post.world.commit({CONFIG: f"{head}    total_steps: 401\n{found}{rest}".encode()})
    told = look(post, memory)
    assert told.state == "pull request #1 closed"
    (pr,) = post.forge.list_prs()
    assert str(pr.close_reason).startswith("it is not worth its cost any more: ")


def test_a_detector_that_can_not_tell_withdraws_nothing(post: Post) -> None:
    memory = Memory()
    for _ in range(3):
        look(post, memory)

    class Blind(Heard):
        """The same run without its workers' times."""

        def chunks(self) -> Iterator[bytes]:
            for block in super().chunks():
                records = [json.loads(line) for line in block.splitlines()]
                yield b"".join(
                    json.dumps({k: v for k, v in r.items() if k != "worker_latencies_ms"}).encode() + b"\n"
                    for r in records
                )

    post.source = lambda found, since: Blind("stable")
    reconcile(seen(post, trainer()), post.snapshot(), memory, post.desk)
    assert states(post) == [("INPUT-STRAGGLER", PrState.OPEN)]
