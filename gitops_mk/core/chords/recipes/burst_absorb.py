"""BURST-ABSORB: hiccups of the input stall steps now and then; a deeper queue rides over them."""

from __future__ import annotations

from gitops_mk.core.chords.solve import Solution, State, moves, needs, raised

WORKERS = "dataloader_num_workers"
PREFETCH = "dataloader_prefetch_factor"


def targets(state: State) -> Solution:
    """Double the queue of each loader; once that stands at its limit, add loaders instead."""
    lacking = needs(state, PREFETCH)
    if lacking:
        return lacking
    deeper = raised(state, PREFETCH)
    if deeper == state.knobs[PREFETCH] and WORKERS in state.knobs and WORKERS in state.allowed:
        return moves(state, {WORKERS: raised(state, WORKERS)}, "the queues are as deep as they may be: more loaders")
    return moves(state, {PREFETCH: deeper}, "more batches ready, so that a stall of the input is absorbed")
