"""straggler: the same worker is slower than its peers, persistently, by more than they differ among themselves.

The measure is a worker's time over the median of its peers in the same step (with one peer: over that one). Peers are
the workers of the same pipeline stage where stages are given: a stage that is longer than the others is an imbalance,
and nobody in it straggles. Three ways to be found: often far above, always a little above, far above since some step.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from gitops_mk.core.detect.answers import found, nothing, percent, unknown
from gitops_mk.core.detect.clean import episodes
from gitops_mk.core.detect.history import QUIET, View, lag_of
from gitops_mk.core.detect.locate import LOCATED
from gitops_mk.core.detect.stats import block_quantile, edges, median, series, spread
from gitops_mk.core.parse.columns import F64, Bools
from gitops_mk.model.signal import Signal, SignalName

NAME = SignalName.STRAGGLER
FEWEST = 30
FAR = 0.12
FAR_NOISE = 5.0
OFTEN = 0.12
OVER_PEERS = 3.0
ALWAYS = 0.10
ALWAYS_SE = 5.0
ALWAYS_BLOCKS = 0.8
CLEAR = 1.5
BLOCKS = 10
# Since some step: so many of the last blocks, all of them.
LATE_BLOCKS = 40
LATE_FEWEST = 2
LATE_STEPS = 30
IMBALANCE = 0.10
# A worker's time is part of the step's when it is no longer than that, give or take how the two are measured.
INSIDE = 1.02
CLOSELY = 0.8


def detect(view: View) -> Signal:
    """Whether, and which, workers are behind."""
    workers = view.recent.workers
    full = (~np.isnan(workers)).sum(axis=1) >= 2
    if int(full.sum()) < FEWEST:
        return unknown(
            NAME, f"{int(full.sum())} steps with two or more worker times, expected {FEWEST}", "worker_latencies_ms"
        )
    workers = workers[full]
    peers = _peers(workers, view.stages)
    ratio = np.log(workers / peers)
    noise = spread(ratio.ravel() if ratio.shape[1] > 2 else ratio.min(axis=1))
    bar = max(np.log1p(FAR), FAR_NOISE * noise) if ratio.shape[1] > 2 else np.log1p(FAR)
    with np.errstate(invalid="ignore"):
        far = ratio > bar
    seen = np.maximum((~np.isnan(ratio)).sum(axis=0), 1)
    share = far.sum(axis=0) / seen
    middle = np.array([median(ratio[:, j]) for j in range(ratio.shape[1])])
    culprits = sorted({*_often(share, seen), *_always(ratio, middle), *_late(ratio, noise)})
    if not culprits:
        return _nobody(view, middle, peers, noise, bar)
    return _found(
        view, ratio, workers, far[:, culprits].any(axis=1), culprits, full, noise, float(np.expm1(bar)), share
    )


def _peers(workers: F64, stages: tuple[str, ...]) -> F64:
    """What each worker is held against, a column each: the lower median of its stage, or of all."""
    if len(stages) != workers.shape[1] or len(set(stages)) < 2:
        return np.asarray(np.broadcast_to(_peer_time(workers), workers.shape))
    out = np.full(workers.shape, np.nan)
    for stage in sorted(set(stages)):
        mine = np.flatnonzero(np.array(stages) == stage)
        # Alone in its stage a worker has no peer: nobody can say whether it or the stage is slow.
        if len(mine) > 1:
            out[:, mine] = _peer_time(workers[:, mine])
    return out


def _peer_time(workers: F64) -> F64:
    """The median of the workers, which with three or more is near enough to that of the peers; with two, the other one."""
    if workers.shape[1] == 2:
        return workers[:, ::-1]
    ordered = np.sort(workers, axis=1)
    count = (workers.shape[1] - np.isnan(ordered).sum(axis=1)).astype(np.intp)
    # Of an even number the lower middle one: with two given it is the peer of the slower.
    return np.asarray(ordered[np.arange(len(ordered)), np.maximum(count - 1, 0) // 2][:, None])


def _often(share: F64, seen: F64) -> list[int]:
    out = []
    for j in np.flatnonzero(share >= OFTEN).tolist():
        others = np.delete(share, j)
        if share[j] >= OVER_PEERS * max(float(np.median(others)), 0.02) and seen[j] >= FEWEST:
            out.append(j)
    return out


def _always(ratio: F64, middle: F64) -> list[int]:
    order = np.argsort(-np.nan_to_num(middle, nan=-np.inf))
    top = int(order[0])
    column = ratio[:, top]
    column = column[~np.isnan(column)]
    if len(column) < FEWEST or middle[top] < np.log1p(ALWAYS):
        return []
    error = 1.25 * spread(column) / np.sqrt(len(column))
    blocks = block_quantile(column, BLOCKS)
    runner_up = max(float(np.nan_to_num(middle[order[1]])), 0.0)
    steady = (blocks >= np.log1p(ALWAYS)).mean() >= ALWAYS_BLOCKS
    return [top] if middle[top] >= ALWAYS_SE * error and steady and middle[top] >= CLEAR * runner_up else []


def _late(ratio: F64, noise: float) -> list[int]:
    """Workers that are behind in every one of the last blocks, and that most of their peers are not."""
    n = len(ratio)
    count = int(np.clip(n // 15, 4, LATE_BLOCKS))
    need = max(LATE_FEWEST, int(np.ceil(LATE_STEPS * count / n)))
    bar = max(np.log1p(FAR), 3.0 * noise)
    last = edges(n, count)[-need - 1 :]
    behind = [all(median(ratio[first:end, j]) > bar for first, end in pairwise(last)) for j in range(ratio.shape[1])]
    # With three of ten behind at once it is no longer a worker that is slow.
    return np.flatnonzero(behind).tolist() if sum(behind) <= max(1, 0.3 * len(behind)) else []


def _nobody(view: View, middle: F64, peers: F64, noise: float, bar: float) -> Signal:
    top = int(np.nanargmax(middle)) if np.isfinite(middle).any() else 0
    summary = (
        f"no worker stays behind: the slowest by median, {view.worker_name(top)}, "
        f"by {percent(float(np.expm1(np.nan_to_num(middle[top]))))}"
    )
    stages = np.array([median(column) for column in peers.T])
    stages = stages[np.isfinite(stages)]
    apart = float(stages.max() / stages.min() - 1.0) if len(stages) and view.stages else 0.0
    if apart >= IMBALANCE:
        summary += f"; the longest pipeline stage takes {percent(apart)} more than the shortest: rebalance the stages"
    return nothing(
        NAME,
        summary,
        "worker_latencies_ms",
        noise=noise,
        threshold=float(np.expm1(bar)),
        values={"stage_imbalance": apart} if view.stages else {},
    )


def _found(
    view: View,
    ratio: F64,
    workers: F64,
    far: Bools,
    culprits: list[int],
    full: Bools,
    noise: float,
    bar: float,
    share: F64,
) -> Signal:
    steps = view.recent.step[full]
    worst = max(culprits, key=lambda j: float(np.nanmean(ratio[:, j])))
    above = ratio[:, worst][far & ~np.isnan(ratio[:, worst])]
    times = float(np.exp(np.median(above))) if len(above) else float(np.exp(np.nanmedian(ratio[:, worst])))
    first = _onset(far)
    cost = _cost(view, workers, full)
    names = tuple(view.worker_name(j) for j in culprits)
    who = names[0] if len(names) == 1 else f"{', '.join(names[:4])}{' and others' if len(names) > 4 else ''}"
    often = percent(float(share[worst])) if len(above) else "nearly all"
    verb = "takes" if len(names) == 1 else "take up to"
    return found(
        NAME,
        f"{who} {verb} {times:.2g}x the time of {'its' if len(names) == 1 else 'their'} peers in {often} of steps "
        f"since step {int(steps[first])}",
        "worker_latencies_ms",
        actionable=True,
        effect=times - 1.0,
        noise=noise,
        threshold=bar,
        onset_step=int(steps[first]),
        duration_steps=len(steps) - first,
        culprits=names,
        cause=_cause(view, full, first, cost),
        series=series(workers[:, worst]),
        values={
            "slow_share": float(share[worst]),
            "ratio": times,
            "cost_share": cost,
            "workers": workers.shape[1],
        },
    )


def _cost(view: View, workers: F64, full: Bools) -> float:
    """The share of the steps' time that goes with the slow worker.

    Where a worker's time is part of the step, its lag behind the others; where workers prepare batches ahead, and may take
    longer than a step, what steps take over the quiet ones, which are those that did not wait.
    """
    ms = view.recent.step_ms[full]
    if (np.nanmax(workers, axis=1) <= INSIDE * ms).mean() >= 0.5:
        share = float(np.nansum(lag_of(view.recent.take(full)))) / float(ms.sum())
    else:
        share = 1.0 - float(np.quantile(ms, QUIET)) / float(ms.mean())
    return min(max(share, 0.0), 1.0)


def _cause(view: View, full: Bools, first: int, cost: float) -> str | None:
    """Whether the steps wait for input by as much as the slow worker costs; None where they don't tell.

    What they wait longer since it is slow; of one that was slow from the start, all that they wait, which has to fit the
    cost closely to be it.
    """
    wait, ms = view.recent.wait_ms[full], view.recent.step_ms[full]
    given = np.isfinite(wait)
    before, since = given.copy(), given.copy()
    before[first:], since[:first] = False, False
    if int(since.sum()) < FEWEST:
        return None
    waited = float(wait[since].mean() / ms[since].mean())
    if int(before.sum()) >= FEWEST:
        more = float((wait[since].mean() - wait[before].mean()) / ms[since].mean())
        return "input" if more >= LOCATED * cost else "compute"
    if waited >= CLOSELY * cost:
        return "input"
    return "compute" if waited <= (1.0 - CLOSELY) * cost else None


def _onset(far: Bools) -> int:
    """The first step from which on the culprits are behind in most of a stretch."""
    runs = episodes(far, bridge=4)
    lasting = [a for a, b in runs if b - a >= 3]
    return lasting[0] if lasting else (runs[0][0] if runs else 0)
