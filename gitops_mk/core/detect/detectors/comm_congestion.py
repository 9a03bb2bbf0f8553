"""comm_congestion: the time a step outside the slowest worker grows, while the workers themselves do not get slower."""

from __future__ import annotations

from typing import Any

import numpy as np

from gitops_mk.core.detect.answers import found, nothing, percent, unknown
from gitops_mk.core.detect.clean import clean
from gitops_mk.core.detect.history import View, comm_of
from gitops_mk.core.detect.stats import best_split, block_quantile, edges, series, spread
from gitops_mk.model.signal import Signal, SignalName

NAME = SignalName.COMM_CONGESTION
FEWEST = 30
TIMES = 1.8
SHARE = 0.045
NOISE = 5.0


def detect(view: View) -> Signal:
    """Whether communication takes a lasting, larger part of the step."""
    made = clean(view)
    comm = np.where(made.steady, comm_of(view.recent), np.nan)
    given = ~np.isnan(comm)
    n = int(given.sum())
    # Worker times that exceed the step time are not parts of it: then their difference means nothing.
    inside = n >= FEWEST and float((comm[given] >= 0).mean()) >= 0.9
    if not inside:
        return unknown(NAME, "no communication time and no worker times within the step to tell it by", "comm_ms")
    values, ms, step = comm[given], made.ms[given], view.recent.step[given]
    blocks = int(np.clip(n // 16, 8, 20))
    quiet = block_quantile(values, blocks)
    split = best_split(quiet)
    rest = block_quantile(ms - values, blocks)
    more = split.after - split.before
    share = more / float(np.median(ms))
    own = np.median(rest[split.at :]) - np.median(rest[: split.at]) if split.at < blocks else 0.0
    noise = max(spread(quiet[: split.at] - split.before), spread(quiet[split.at :] - split.after))
    lasting = bool(np.all(quiet[-2:] > split.before + 0.5 * more))
    common: dict[str, Any] = {
        "effect": share,
        "noise": noise / float(np.median(ms)),
        "threshold": SHARE,
        "series": series(values),
        "values": {"before_ms": split.before, "after_ms": split.after},
    }
    grown = split.after >= TIMES * max(split.before, 1e-9) and share >= SHARE and more > NOISE * noise and own < more
    if grown and lasting:
        first = edges(n, blocks)[split.at]
        return found(
            NAME,
            f"communication went from {split.before:.3g} to {split.after:.3g} ms a step at step {int(step[first])}, "
            f"{percent(share)} of the step time",
            "comm_ms",
            onset_step=int(step[first]),
            duration_steps=n - first,
            **common,
        )
    return nothing(NAME, "communication takes no larger part of the step than before", "comm_ms", **common)
