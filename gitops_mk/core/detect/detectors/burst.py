"""burst: several stretches of slow steps, off every cadence, that cost a noticeable share of the time.

Slow is measured against the higher of the quiet levels to the left and to the right, so that a level change is no
burst; and slow steps must come in stretches more often than their number alone would make them.
"""

from __future__ import annotations

import numpy as np

from gitops_mk.core.detect.answers import found, nothing, percent
from gitops_mk.core.detect.clean import clean, episodes
from gitops_mk.core.detect.history import View
from gitops_mk.core.detect.locate import LOCATED
from gitops_mk.core.detect.stats import series
from gitops_mk.core.parse.columns import Bools
from gitops_mk.model.signal import Signal, SignalName

NAME = SignalName.BURST
SLOW = 0.28
NOISE = 4.0
EPISODES = 3
SHORTEST = 2
COST = 0.025
CLUSTERING = 0.25


def detect(view: View) -> Signal:
    """Whether slow stretches come again and again."""
    made = clean(view)
    excess = np.log(made.ms / made.level)
    bar = max(SLOW, NOISE * made.noise)
    slow = made.steady & (excess > bar)
    runs = [(a, b) for a, b in episodes(slow, bridge=1) if int(slow[a:b].sum()) >= SHORTEST]
    in_run = np.zeros(len(slow), dtype=bool)
    for a, b in runs:
        in_run[a:b] = slow[a:b]
    lost = float((made.ms - made.level)[in_run].sum())
    cost = lost / float(made.level.sum())
    duty = float(slow.mean())
    follows = float((slow[:-1] & slow[1:]).sum()) / max(1, int(slow[:-1].sum()))
    clustered = follows >= min(0.75, duty + CLUSTERING)
    common = {
        "effect": cost,
        "noise": made.noise,
        "threshold": COST,
        "series": series(made.ms),
        "values": {
            "episodes": len(runs),
            "slow_share": duty,
            "bar": bar,
            "stall_steps": lost / max(1, len(runs)) / float(np.median(made.level)),
        },
    }
    if len(runs) >= EPISODES and cost >= COST and clustered:
        height = float(np.median((made.ms / made.level)[in_run]))
        onset = int(view.recent.step[runs[0][0]])
        return found(
            NAME,
            f"{len(runs)} bursts of slow steps ({height:.1f}x the quiet level) since step {onset}, off every cadence, "
            f"cost {percent(cost)} of the time",
            "step_time_ms",
            actionable=True,
            onset_step=onset,
            duration_steps=len(made.ms) - runs[0][0],
            cause=_cause(view, in_run, made.steady & ~slow, lost),
            **common,
        )
    seen = (
        f"{len(runs)} slow stretches cost {percent(max(cost, 0.0))} of the time"
        if runs
        else "no stretches of slow steps"
    )
    return nothing(NAME, seen, "step_time_ms", **common)


def _cause(view: View, in_run: Bools, quiet: Bools, lost: float) -> str | None:
    """Whether it is input that the bursts wait for; None where the steps don't tell how long they waited."""
    wait = view.recent.wait_ms
    given = np.isfinite(wait)
    if not (in_run & given).any() or not (quiet & given).any():
        return None
    usual = float(np.median(wait[quiet & given]))
    return "input" if float((wait[in_run & given] - usual).sum()) >= LOCATED * lost else "compute"
