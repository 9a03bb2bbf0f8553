"""Two controllers on one repository, switched between at every call that touches the server: one change, merged once."""

from __future__ import annotations

from typing import Any

import pytest

from gitops_mk.adapters.killswitch import GateKillSwitch
from gitops_mk.controller.propose import Outcome
from gitops_mk.core.ledger import trailers
from gitops_mk.errors import ConflictError
from gitops_mk.model.change import TRAILER_DIGEST, PrState
from gitops_mk.model.chord import Intent
from tests.support.baton import race
from tests.support.world import BRANCH, WRITES, HookedForge, World

REMOTE = (*WRITES, "refresh")


def controller(world: World, forge: Any, chord: Intent) -> None:
    """Plan, propose, verify, apply; a lost race ends the turn, and the next one starts from what stands then."""
    for _ in range(2):
        try:
            if world.state(forge).applied:
                return
            proposal = world.propose(forge, world.plan(forge, chord))
            if proposal.pr is None or proposal.outcome is Outcome.PAUSED:
                continue
            world.verify(forge, proposal.pr.number)
            world.apply(forge, proposal.pr.number, kill=GateKillSwitch(forge))
        except ConflictError:
            continue


@pytest.mark.parametrize("other", [Intent.INPUT_STRAGGLER, Intent.BURST_ABSORB], ids=["same plan", "another plan"])
@pytest.mark.parametrize("seed", range(3))
def test_two_controllers_make_one_change(world: World, seed: int, other: Intent) -> None:
    def work(chord: Intent) -> Any:
        def run(switch: Any) -> None:
            forge = HookedForge(world.forge(), before=lambda call: switch() if call in REMOTE else None)
            controller(world, forge, chord)

        return run

    failed = race(seed, {"one": work(Intent.INPUT_STRAGGLER), "two": work(other)})
    assert failed == []

    ours = [c for c in world.server.log("main") if TRAILER_DIGEST in trailers(c.message)]
    prs = world.forge().list_prs()
    merged = [pr for pr in prs if pr.state is PrState.MERGED]
    assert len(ours) == len(merged) <= 1
    assert sum(pr.state is PrState.OPEN for pr in prs) <= 1
    assert len([ref for ref in world.refs() if ref.startswith("refs/heads/modekeeper/")]) <= 1
    # Whatever was left half done, one undisturbed turn brings to the same end.
    if not merged:
        controller(world, world.forge(), Intent.INPUT_STRAGGLER)
        assert len(world.state(world.forge()).applied) == 1
        assert f"refs/heads/{BRANCH}" not in world.refs()
