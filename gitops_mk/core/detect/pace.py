"""How fast the newest steps went: what a cost in steps is turned into seconds by, and what an outcome is held against."""

from __future__ import annotations

from typing import Final

import numpy as np

from gitops_mk.core.detect.clean import clean
from gitops_mk.core.detect.history import View
from gitops_mk.model.telemetry import Pace

# Short runs are cut finer, so that there is something to compare.
MOST_STEPS: Final = 8
MOST_BLOCKS: Final = 64


def pace_of(view: View) -> Pace | None:
    """The newest steady steps in at most 64 blocks of 1 to 8 steps; None without a steady step."""
    made = clean(view)
    ms = made.ms[made.steady]
    ms = ms[np.isfinite(ms)]
    if not len(ms):
        return None
    block = min(max(len(ms) // MOST_BLOCKS, 1), MOST_STEPS)
    count = min(len(ms) // block, MOST_BLOCKS)
    means = ms[len(ms) - count * block :].reshape(count, block).mean(axis=1)
    return Pace(
        block_steps=block,
        block_ms=tuple(float(f"{mean:.5g}") for mean in means),
        checkpoint_every=_every(view),
    )


def _every(view: View) -> int | None:
    steps = sorted({int(e.step) for e in view.events if e.kind == "checkpoint" and e.step is not None})
    gaps = np.diff(steps)
    return int(np.median(gaps)) if len(gaps) else None
