"""Two controllers on one repository of GitHub's, switched between at every request of either: one branch, one pull request, one merge.

A few schedules run with every test; `MODEKEEPER_SEEDS=1000` asks for so many.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.killswitch import GateKillSwitch
from gitops_mk.controller.propose import Outcome, settle
from gitops_mk.core.ledger import trailers
from gitops_mk.errors import ConflictError, ForgeError
from gitops_mk.model.change import TRAILER_DIGEST
from gitops_mk.model.chord import Intent
from tests.support.baton import race
from tests.support.github_world import HubWorld, hub_world
from tests.support.make import IDENTITY
from tests.support.world import BRANCH

SEEDS = int(os.environ.get("MODEKEEPER_SEEDS", "12"))
TOGETHER = 4
REMOTE = frozenset(
    {"refresh", "push_branch", "create_pr", "update_pr", "add_check", "live", "standing", "merge", "list_prs"}
)


class Switching:
    """A forge that lets go before each of its remote calls."""

    def __init__(self, forge: Any, switch: Any) -> None:
        self._forge = forge
        self._switch = switch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._forge, name)
        if name not in REMOTE:
            return found

        def call(*args: Any, **options: Any) -> Any:
            self._switch()
            return found(*args, **options)

        return call


def controller(world: HubWorld, forge: Any, chord: Intent) -> None:
    """Plan, propose, verify, apply; a lost race ends the turn, and the next one starts from what stands then."""
    for _ in range(2):
        try:
            state = world.state(forge)
            # As every turn begins.
            settle(forge, IDENTITY)
            if state.applied:
                return
            proposal = world.propose(forge, world.plan(forge, chord))
            if proposal.pr is None or proposal.outcome is Outcome.PAUSED:
                continue
            world.verify(forge, proposal.pr.number)
            world.apply(forge, proposal.pr.number, kill=GateKillSwitch(forge))
        except (ConflictError, ForgeError):
            continue


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_two_controllers_make_one_change(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    for seed in range(first, min(first + TOGETHER, SEEDS)):
        with hub_world(tmp_path / f"{seed}", embedded, monkeypatch, as_app=False, validate=seed % 50 == 0) as world:
            two(world, seed)


def two(world: HubWorld, seed: int) -> None:
    other = Intent.BURST_ABSORB if seed % 2 else Intent.INPUT_STRAGGLER

    def work(chord: Intent) -> Any:
        forge = world.forge()
        return lambda switch: controller(world, Switching(forge, switch), chord)

    failed = race(seed, {"one": work(Intent.INPUT_STRAGGLER), "two": work(other)})
    assert failed == [], f"seed {seed}"
    ours = [c for c in world.server.log("main") if TRAILER_DIGEST in trailers(c.message)]
    merged = [p for p in world.repo.pulls if p.merged]
    assert len(ours) == len(merged) <= 1, f"seed {seed}"
    assert sum(p.state == "open" for p in world.repo.pulls) <= 1, f"seed {seed}"
    assert len([ref for ref in world.refs() if ref.startswith("refs/heads/modekeeper/")]) <= 1, f"seed {seed}"
    # Whatever was left half done, undisturbed turns bring to the same end.
    for _ in range(2):
        controller(world, world.forge(), Intent.INPUT_STRAGGLER)
    assert len([p for p in world.repo.pulls if p.merged]) == 1, f"seed {seed}"
    assert len(world.state(world.forge()).applied) == 1, f"seed {seed}"
    assert f"refs/heads/{BRANCH}" not in world.refs(), f"seed {seed}"
