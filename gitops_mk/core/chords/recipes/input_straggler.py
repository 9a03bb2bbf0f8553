"""INPUT-STRAGGLER: batches are taken in turn, so one slow loader holds up every n-th; with more loaders its share falls.

With n loaders and one that needs T ms a batch, a step can't be faster than T/n per batch taken.
"""

from __future__ import annotations

from gitops_mk.core.chords.solve import Solution, State, moves, needs, raised

WORKERS = "dataloader_num_workers"
PREFETCH = "dataloader_prefetch_factor"


def targets(state: State) -> Solution:
    """Double the loaders and the queue of each, as far as the limits go."""
    lacking = needs(state, WORKERS)
    if lacking:
        return lacking
    wanted = {WORKERS: raised(state, WORKERS)}
    if PREFETCH in state.knobs and PREFETCH in state.allowed:
        wanted[PREFETCH] = raised(state, PREFETCH)
    return moves(state, wanted, "the slow loader's share of the batches falls as the loaders grow in number")
