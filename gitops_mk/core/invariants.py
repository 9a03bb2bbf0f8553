"""What a chord must leave as it is, computed from knob values alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gitops_mk.model.chord import InvariantName
from gitops_mk.model.passport import Passport
from gitops_mk.model.plan import InvariantState

GLOBAL_BATCH_KNOBS = ("microbatch_size", "grad_accum_steps")
READ_AHEAD_KNOBS = ("dataloader_num_workers", "dataloader_prefetch_factor")

_SUFFIX = {InvariantName.GLOBAL_BATCH: " * world_size", InvariantName.TAIL_LATENCY: ", not less"}


def invariant_states(
    names: tuple[InvariantName, ...],
    *,
    before: Mapping[str, int],
    after: Mapping[str, int],
    world_size: int,
    passport: Passport,
) -> tuple[InvariantState, ...]:
    """Each invariant before and after. One of whose knobs the workload carries none says nothing and is left out.

    A knob that the workload does not carry can't move, so it is a constant factor and the others must keep their product.

    `global_batch` is checked whether a chord promises it or not: no chord may change what is optimised.
    """
    states = []
    for name in dict.fromkeys((InvariantName.GLOBAL_BATCH, *names)):
        knobs, scale = (GLOBAL_BATCH_KNOBS, world_size) if name is InvariantName.GLOBAL_BATCH else (READ_AHEAD_KNOBS, 1)
        carried = [knob for knob in knobs if knob in before]
        if not carried:
            continue
        states.append(
            InvariantState(
                name=name,
                before=math.prod(before[k] for k in carried) * scale,
                after=math.prod(after[k] for k in carried) * scale,
                tolerance_pct=passport.invariant(name).tolerance_pct,
                formula=" * ".join(carried) + _SUFFIX[name],
            )
        )
    return tuple(states)
