"""straggler: the same worker is slower than its peers, persistently, by more than they differ among themselves.

The measure is a worker's time over the median of its peers in the same step (with one peer: over that one). Two ways
to be found: often far above, or always a little above.
"""

from __future__ import annotations

import numpy as np

from gitops_mk.core.detect.answers import found, nothing, percent, unknown
from gitops_mk.core.detect.clean import episodes
from gitops_mk.core.detect.history import View, lag_of
from gitops_mk.core.detect.stats import block_quantile, median, series, spread
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


def detect(view: View) -> Signal:
    """Whether, and which, workers are behind."""
    workers = view.recent.workers
    full = (~np.isnan(workers)).sum(axis=1) >= 2
    if int(full.sum()) < FEWEST:
        return unknown(
            NAME, f"{int(full.sum())} steps with two or more worker times, expected {FEWEST}", "worker_latencies_ms"
        )
    workers = workers[full]
    ratio = np.log(workers / _peers(workers))
    noise = spread(ratio.ravel() if ratio.shape[1] > 2 else ratio.min(axis=1))
    bar = max(np.log1p(FAR), FAR_NOISE * noise) if ratio.shape[1] > 2 else np.log1p(FAR)
    with np.errstate(invalid="ignore"):
        far = ratio > bar
    seen = np.maximum((~np.isnan(ratio)).sum(axis=0), 1)
    share = far.sum(axis=0) / seen
    middle = np.array([median(ratio[:, j]) for j in range(ratio.shape[1])])
    culprits = sorted(set(_often(share, seen, noise, ratio)) | set(_always(ratio, middle)))
    if not culprits:
        top = int(np.nanargmax(middle)) if np.isfinite(middle).any() else 0
        return nothing(
            NAME,
            f"no worker stays behind: the slowest by median, {view.worker_name(top)}, "
            f"by {percent(float(np.expm1(np.nan_to_num(middle[top]))))}",
            "worker_latencies_ms",
            noise=noise,
            threshold=float(np.expm1(bar)),
        )
    return _found(
        view, ratio, workers, far[:, culprits].any(axis=1), culprits, full, noise, float(np.expm1(bar)), share
    )


def _peers(workers: F64) -> F64:
    """The median of the peers: of all workers, which with three or more is near enough; with two, the other one."""
    if workers.shape[1] == 2:
        return workers[:, ::-1]
    ordered = np.sort(workers, axis=1)
    count = (workers.shape[1] - np.isnan(ordered).sum(axis=1)).astype(np.intp)
    # Of an even number the lower middle one: with two given it is the peer of the slower.
    return np.asarray(ordered[np.arange(len(ordered)), (count - 1) // 2][:, None])


def _often(share: F64, seen: F64, noise: float, ratio: F64) -> list[int]:
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
    cost = float(np.nansum(lag_of(view.recent.take(full)))) / float(view.recent.step_ms[full].sum())
    names = tuple(view.worker_name(j) for j in culprits)
    who = names[0] if len(names) == 1 else f"{', '.join(names[:4])}{' and others' if len(names) > 4 else ''}"
    often = percent(float(share[worst])) if len(above) else "nearly all"
    verb = "takes" if len(names) == 1 else "take up to"
    return found(
        NAME,
        f"{who} {verb} {times:.2g}x the time of {'its' if len(names) == 1 else 'their'} peers in {often} of steps "
        f"since step {int(steps[first])}",
        "worker_latencies_ms",
        effect=times - 1.0,
        noise=noise,
        threshold=bar,
        onset_step=int(steps[first]),
        duration_steps=len(steps) - first,
        culprits=names,
        series=series(workers[:, worst]),
        values={
            "slow_share": float(share[worst]),
            "ratio": times,
            "cost_share": min(cost, 1.0),
            "workers": workers.shape[1],
        },
    )


def _onset(far: Bools) -> int:
    """The first step from which on the culprits are behind in most of a stretch."""
    runs = episodes(far, bridge=4)
    lasting = [a for a, b in runs if b - a >= 3]
    return lasting[0] if lasting else (runs[0][0] if runs else 0)
