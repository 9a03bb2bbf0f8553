"""What is true of a run, told from the same run without its fault.

Both generators make every run twice from the same random draws: once with the fault and once without. What the fault did is then a
measurement, and a label follows from the definitions below and from nothing else; no family names its own label. Between "this is
there" and "this is not" lies a band where a label is None: nobody is scored on it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flag = bool | None
Severity = Literal["hard", "mid", "easy"]

SIGNALS = (
    "drift",
    "drift_loss",
    "drift_step",
    "burst",
    "straggler",
    "gpu_saturated",
    "comm_congestion",
    "near_hang",
)
CLASSES = ("drift", "burst", "straggler", "gpu_saturated", "comm_congestion", "near_hang")
ACTIONS = ("drift", "burst", "straggler", "gpu_saturated")

STEP_TRUE, STEP_NULL = 0.10, 0.06
LOSS_TRUE, LOSS_NULL = 0.08, 0.04
PEER_TRUE, PEER_NULL = 1.12, 1.08
SHARE_TRUE, SHARE_NULL = 0.20, 0.08
BURST_STEP, BURST_TRUE, BURST_NULL, BURST_MOST, BURST_APART = 1.25, 0.04, 0.015, 0.45, 8
GPU_STEP_TRUE, MEMORY_STEP_TRUE = 0.15, 0.08
HANG_TRUE, HANG_NULL = 60.0, 20.0
MIN_STEPS = 30


@dataclass
class Run:
    """One run as it happened, whatever of it gets logged. Times are seconds, shares percent; `n` steps, `W` workers.

    `curve` is the loss without the noise of its batches: labels look at it, logs never show it.
    """

    step: Ints
    at: Floats
    seconds: Floats
    loss: Floats
    curve: Floats
    throughput: Floats
    workers: Floats
    comm: Floats
    util: Floats
    memory: Floats
    stages: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    events: tuple[tuple[int, str], ...] = ()

    def every(self, keep: Ints) -> Run:
        """The run with only the steps at these positions."""
        names = ("step", "at", "seconds", "loss", "curve", "throughput", "workers", "comm", "util", "memory")
        place = {int(p): i for i, p in enumerate(keep)}
        events = tuple((place[i], word) for i, word in self.events if i in place)
        return replace(self, **{name: getattr(self, name)[keep] for name in names}, events=events)


@dataclass(frozen=True)
class Labels:
    """True, false, or None where nobody should be judged. `culprits` are places in `worker_latencies_ms`, `onset` is a step.

    `pr_ok` false: a pull request on this run is wrong, whatever else is unknown.
    """

    drift: Flag = False
    drift_loss: Flag = False
    drift_step: Flag = False
    burst: Flag = False
    straggler: Flag = False
    gpu_saturated: Flag = False
    comm_congestion: Flag = False
    near_hang: Flag = False
    incident: Flag = False
    insufficient: bool = False
    severity: Severity | None = None
    onset: int | None = None
    culprits: tuple[int, ...] = ()
    pr_ok: Flag = None

    def as_dict(self) -> dict[str, object]:
        """As it stands in `labels.json`."""
        return asdict(self) | {"culprits": list(self.culprits)}


UNKNOWN = Labels(None, None, None, None, None, None, None, None, None, insufficient=True, pr_ok=False)


@dataclass(frozen=True)
class Shown:
    """Which fields the log holds: what can't be seen in it can't be asked of its reader."""

    loss: bool = True
    throughput: bool = True
    workers: bool = True
    stages: bool = True
    comm: bool = False
    util: bool = True
    memory: bool = True


def grade(value: float, true: float, null: float) -> Flag:
    """True from `true` on, None from `null` on, else false."""
    return True if value >= true else None if value >= null else False


def tail_of(n: int) -> slice:
    """The end of a run: its last 8 %, at least 8 steps."""
    return slice(max(0, n - max(8, n * 8 // 100)), n)


def judge(faulty: Run, clean: Run, shown: Shown, onset: int | None = None, pr_ok: Flag = None) -> Labels:
    """The labels of `faulty`. `onset` is the place (not the step number) where the fault begins."""
    n = len(faulty.step)
    tail = tail_of(n)
    ratio = faulty.seconds / clean.seconds
    end = float(np.median(ratio[tail])) - 1.0
    sizes: dict[str, float] = {}

    straggler, culprits = _stragglers(faulty, clean, tail, sizes)
    comm = _comm(faulty, clean, tail, sizes)
    gpu = _gpu(faulty, clean, tail, end, sizes)
    hang = _hang(faulty, ratio, sizes)
    step = _step(faulty, clean, shown, tail, end, sizes)
    loss = _loss(faulty, clean, tail, sizes)
    burst = _burst(faulty, clean, ratio, end, sizes)

    usual = float(np.quantile(ratio[n - max(8, n // 5) :], 0.25)) - 1.0
    if burst:
        # Between the episodes it is as fast as ever, or both are there and nobody is asked which.
        step = False if max(usual, end) < STEP_NULL else None
    elif step and onset is not None and onset < 0.8 * n and usual < STEP_NULL:
        # As fast as before for more than a quarter of the time is not lasting.
        step = None
    elif step is False and float(faulty.seconds[tail].sum() / clean.seconds[tail].sum()) - 1.0 >= STEP_NULL:
        # Slow on average but not step by step: a few long waits, which may be pauses, or one hang.
        step = None if float(np.mean(faulty.seconds[tail] > 1.05 * clean.seconds[tail])) >= 0.05 else False
    # One cause a symptom: who names the cause need not name what follows from it.
    if straggler is not False or comm is not False or gpu is not False:
        step = None if step is not False else False
        burst = None if burst is not False else False
    if not shown.loss:
        loss = None if loss else loss
    if not shown.workers:
        straggler, culprits = (None if straggler else straggler), ()
    if not (shown.workers or shown.comm):
        comm = None if comm else comm
    if not (shown.util or shown.memory):
        gpu = None if gpu else gpu
    if len(set(faulty.stages)) > 1 and not shown.stages and shown.workers:
        # A long stage and slow machines look the same from outside.
        straggler = None if straggler is False and _uneven(clean) else straggler
    drift: Flag = True if loss or step else None if loss is None or step is None else False
    found: dict[str, Flag] = {
        "drift_loss": loss,
        "drift_step": step,
        "burst": burst,
        "straggler": straggler,
        "gpu_saturated": gpu,
        "comm_congestion": comm,
        "near_hang": hang,
    }
    incident: Flag = True if any(found.values()) else None if None in found.values() else False
    return Labels(
        drift=drift,
        drift_loss=loss,
        drift_step=step,
        burst=burst,
        straggler=straggler,
        gpu_saturated=gpu,
        comm_congestion=comm,
        near_hang=hang,
        incident=incident,
        severity=_severity([sizes[name] for name, flag in found.items() if flag], n, onset) if incident else None,
        onset=int(faulty.step[onset]) if incident and onset is not None else None,
        culprits=culprits if straggler else (),
        pr_ok=pr_ok,
    )


def _severity(sizes: list[float], n: int, onset: int | None) -> Severity:
    size = min(sizes, default=1.0)
    if onset is not None and n - onset < 0.15 * n:
        size *= 0.5
    return "hard" if size < 0.15 else "mid" if size < 0.35 else "easy"


def _stragglers(faulty: Run, clean: Run, tail: slice, sizes: dict[str, float]) -> tuple[Flag, tuple[int, ...]]:
    slower = faulty.workers / clean.workers
    workers = slower.shape[1]
    if workers < 2:
        return False, ()
    peers = np.sort(slower, axis=1)[:, (workers - 1) // 2]
    slower = slower / peers[:, None]
    often = (slower >= PEER_TRUE).mean(axis=0)
    lately = (slower[tail] >= PEER_TRUE).mean(axis=0)
    blamed = (often >= SHARE_TRUE) | (lately >= 0.8)
    guilty = blamed & _stands_out(faulty.workers, slower >= PEER_TRUE)
    if guilty.any():
        hit = slower[:, guilty]
        sizes["straggler"] = float(np.median(hit[hit >= PEER_TRUE])) - 1.0
        doubt = (blamed | (often >= SHARE_NULL) | (lately >= 0.3)) & ~guilty
        return True, () if doubt.any() else tuple(int(i) for i in np.flatnonzero(guilty))
    maybe = blamed | (often >= SHARE_NULL) | ((slower >= PEER_NULL).mean(axis=0) >= SHARE_TRUE) | (lately >= 0.3)
    return (None if maybe.any() else False), ()


def _stands_out(workers: Floats, hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which workers are that far over their peers while they are hit: one that was faster by nature may not be."""
    over = workers / np.sort(workers, axis=1)[:, (workers.shape[1] - 1) // 2][:, None]
    return np.array([bool(h.any()) and float(np.median(o[h])) >= PEER_TRUE for o, h in zip(over.T, hit.T, strict=True)])


def _uneven(run: Run) -> bool:
    typical = np.median(run.workers, axis=0)
    return bool(typical.max() > 1.06 * np.median(typical))


def _comm(faulty: Run, clean: Run, tail: slice, sizes: dict[str, float]) -> Flag:
    rise = (faulty.comm - clean.comm) / clean.seconds
    lately = float(np.median(rise[tail]))
    hit = rise >= STEP_TRUE
    if hit.mean() >= SHARE_TRUE or lately >= STEP_TRUE:
        sizes["comm_congestion"] = float(np.median(rise[hit]))
        return True
    return None if lately >= STEP_NULL / 2 or (rise >= STEP_NULL / 2).mean() >= 0.02 else False


def _gpu(faulty: Run, clean: Run, tail: slice, end: float, sizes: dict[str, float]) -> Flag:
    start = slice(0, max(8, len(faulty.step) // 5))
    util = float(np.median(faulty.util[tail]))
    memory = float(np.median(faulty.memory[tail]))
    pinned = util >= 99.0 and float(np.median(clean.util)) < 97.0 and float(np.median(faulty.util[start])) < 97.0
    filled = memory >= 98.0 and float(np.median(clean.memory)) < 96.0 and float(np.median(faulty.memory[start])) < 96.0
    sizes["gpu_saturated"] = end
    if (pinned and end >= GPU_STEP_TRUE) or (filled and end >= MEMORY_STEP_TRUE):
        return True
    near = memory >= 96.5 and memory - float(np.median(clean.memory)) > 2.0
    return None if (pinned and end >= STEP_NULL) or ((filled or near) and end >= 0.03) else False


def _hang(faulty: Run, ratio: Floats, sizes: dict[str, float]) -> Flag:
    caused = ratio >= 2.0
    if not caused.any():
        return False
    worst = float((faulty.seconds[caused] / np.median(faulty.seconds)).max())
    sizes["near_hang"] = worst
    return grade(worst, HANG_TRUE, HANG_NULL)


def _step(faulty: Run, clean: Run, shown: Shown, tail: slice, end: float, sizes: dict[str, float]) -> Flag:
    sizes["drift_step"] = end
    less = 1.0 - float(np.median(faulty.throughput[tail] / clean.throughput[tail]))
    answer = grade(min(end, 1.2 * less), STEP_TRUE, STEP_NULL)
    if answer is False:
        # A slow-down by plan that the log doesn't explain, or one that came by chance: nobody can tell from the log.
        early = slice(0, max(8, len(clean.seconds) * 6 // 10))
        by_plan = float(np.median(clean.seconds[tail]) / np.median(clean.seconds[early])) - 1.0
        lost = 1.0 - float(np.median(clean.throughput[tail]) / np.median(clean.throughput[early]))
        return None if (by_plan if not shown.throughput else min(by_plan, lost)) >= STEP_NULL else False
    return answer if shown.throughput else None


def _loss(faulty: Run, clean: Run, tail: slice, sizes: dict[str, float]) -> Flag:
    broken = ~np.isfinite(faulty.loss)
    sizes["drift_loss"] = 1.0
    if broken[-1]:
        run = len(broken) - 1 - int(np.flatnonzero(~broken)[-1]) if (~broken).any() else len(broken)
        # Few last steps show it plainly, yet a reader may want more of them before it believes in it.
        return True if run >= max(5, 0.03 * len(broken)) else None
    rise = {}
    for name, curve in (("faulty", faulty.curve), ("clean", clean.curve)):
        blocks = [float(np.median(block)) for block in np.array_split(curve[: tail.start], 40) if len(block)]
        rise[name] = float(np.median(curve[tail])) / min(blocks, default=float("inf")) - 1.0
    sizes["drift_loss"] = rise["faulty"]
    answer = grade(rise["faulty"], LOSS_TRUE, LOSS_NULL)
    if answer and rise["clean"] >= LOSS_NULL:
        return None
    first, last = np.array_split(faulty.curve[tail], 2)
    falling = float(np.median(last)) < 0.98 * float(np.median(first))
    return None if answer and falling else answer


def _burst(faulty: Run, clean: Run, ratio: Floats, end: float, sizes: dict[str, float]) -> Flag:
    # A lasting change of level is no burst: where there is one, slow means slow against the level around it.
    n = len(ratio)
    blocks = np.array_split(ratio, max(1, min(48, n // 12)))
    levels = np.array([np.median(block) for block in blocks])
    around = np.maximum(levels, np.maximum(np.r_[levels[1:], levels[-1]], np.r_[levels[0], levels[:-1]]))
    around = np.minimum(around, 1.05 * (1.0 + end))
    level = np.maximum(np.repeat(around, [len(b) for b in blocks]) if end >= STEP_NULL else np.ones(n), 1.0)
    slow = (ratio >= BURST_STEP * level) & (ratio < HANG_NULL)
    cost = float((faulty.seconds - level * clean.seconds)[slow].sum() / clean.seconds.sum())
    sizes["burst"] = 2.0 * cost
    if cost < BURST_NULL:
        return False
    joined = slow.copy()
    joined[1:-1] |= slow[:-2] & slow[2:]
    edges = np.flatnonzero(np.diff(np.r_[0, joined.astype(np.int8), 0]))
    lengths = edges[1::2] - edges[::2]
    between = edges[2::2] - edges[1:-1:2]
    apart = len(between) > 0 and float(np.median(between)) >= BURST_APART
    enough = int((lengths >= 2).sum()) >= 3 and cost >= BURST_TRUE and apart
    return True if enough and float(slow.mean()) <= BURST_MOST else None
