"""Push the branches of many workloads at once, before each of them is proposed: one push a turn, however many there are.

An optimisation only: `propose` looks at every branch again, and does itself whatever is not as it should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gitops_mk.controller.propose import Proposed, commit_of, hands_off_commits, may_open, open_prs, standing_well
from gitops_mk.core.limits import room_for
from gitops_mk.core.render.describe import Wording
from gitops_mk.errors import MkError
from gitops_mk.model.change import Person
from gitops_mk.ports import Clock, Forge

Move = tuple[str | None, str | None]


def push_ahead(
    forge: Forge,
    wanted: Sequence[Proposed],
    files: Mapping[str, bytes],
    base: str,
    *,
    identity: Person,
    wording: Wording,
    clock: Clock,
) -> int:
    """Push what will be proposed, as far as the limits let it be; gives how many branches moved.

    `files` is the tree of `base`. A branch that can't be moved, or a plan that can't be rendered, is left for `propose` to tell.
    """
    standing = open_prs(forge)
    moves: dict[str, Move] = {}
    room = room_for(wanted[0].settings.limits, forge.list_prs(), clock.now()) if wanted else 0
    for one in wanted:
        branch = one.plan.workload.branch
        if branch not in standing:
            if not may_open(forge, one, clock).allowed or (one.rollback_of is None and room <= 0):
                continue
            room -= one.rollback_of is None
        try:
            tip = forge.branch_tip(branch)
            theirs = hands_off_commits(forge, tip, base, identity=identity, workload=one.plan.workload.key)
            if not theirs and not standing_well(forge, one, files, base, tip):
                moves[branch] = (tip, commit_of(forge, one.plan, files, base, identity=identity, wording=wording))
        except MkError:
            continue
    if len(moves) < 2:
        # Nothing to be saved.
        return 0
    lost = forge.push_branches(moves)
    return len(moves) - len(lost)
