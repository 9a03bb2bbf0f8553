"""Generator one: a training cluster, simulated. Nothing here draws a time series; step times, utilisation and loss follow from
machines that wait for each other.

A step of a rank is: wait for the data loader, compute, meet the others at the barrier, all-reduce. The loader is `producers`
workers per rank that fill a queue of bounded depth (as PyTorch's DataLoader does), so a slow loader shows only once the queue is
empty. All-reduce is a ring, bounded by its slowest link, and partly hidden behind the backward pass (the cost model of Patarasuk and
Yuan, 2009). The loss is the expected loss of stochastic gradient descent on a quadratic with a power-law spectrum under the job's own
schedule, so too high a learning rate raises the noise floor and a higher one diverges. Faults are causes (a fan fails, a neighbour
steals processors, a link is congested, a filesystem fills up), and a label is what they did to the run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from tests.bench.decisions.families import Draft, Family, registry
from tests.bench.decisions.lines import Dirt, Layout, mild
from tests.bench.decisions.truth import Floats, Ints, Run

Rng = np.random.Generator
MODES = 14
EPOCH = 1_735_689_600.0


@dataclass
class World:
    """Everything that decides how a run goes; arrays are `(steps, ranks)` or `(steps,)`, times in seconds.

    `service` is how long one loader worker takes for one batch of a rank, `transfer` how long the storage that
    all of a rank's loader workers share takes for it, `base` the time that a step's computation is planned to take, `link` the share of its bandwidth that the slowest link
    gives, `pause` what the whole job waits after a step, `sharp` the growth of the loss surface's curvature, `floor` the part of the
    loss that no training removes.
    """

    service: Floats
    transfer: Floats
    compute: Floats
    link: Floats
    pause: Floats
    tokens: Floats
    rate: Floats
    sharp: Floats
    floor: Floats
    memory: Floats
    foreign: Floats
    step: Ints
    base: float
    producers: int = 4
    depth: int = 8
    wire: float = 0.1
    overlap: float = 0.7
    noise: float = 0.01
    spread: float = 0.3
    ceiling: float = math.inf
    busy: float = 0.94
    wall_every: float = 0.0
    wall_pause: float = 0.0
    gap: dict[int, float] = field(default_factory=dict)
    stages: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    events: tuple[tuple[int, str], ...] = ()
    batch_noise: Floats = field(default_factory=lambda: np.zeros(0))
    jitter: Floats = field(default_factory=lambda: np.zeros(0))
    logged: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def n(self) -> int:
        """Steps."""
        return len(self.pause)

    @property
    def ranks(self) -> int:
        """Workers."""
        return len(self.compute[0])


def train(world: World) -> Run:
    """The run that this world makes."""
    n, ranks, producers, depth = world.n, world.ranks, world.producers, world.depth
    wire = world.wire * world.base * 2.0 * (ranks - 1) / max(1, ranks) / np.maximum(world.link, 1e-3)
    comm = np.maximum(wire - world.overlap * world.compute.mean(axis=1), 0.0) + 0.01 * world.base / world.link
    done = np.zeros((producers, ranks))
    taken = np.zeros((depth, ranks))
    workers = np.empty((n, ranks))
    at = np.empty(n)
    seconds = np.empty(n)
    now, due, fetched = 0.0, world.wall_every, 0.0
    service, transfer, compute, pause = world.service, world.transfer, world.compute, world.pause.copy()
    slow = (transfer.max(axis=1) > 0.0).tolist()
    for i in range(n):
        if i in world.gap:
            now += world.gap[i]
            done[:] = taken[:] = now
        # A producer begins its next batch when it has handed over its last one and the queue has room.
        lane = i % producers
        ready = np.maximum(done[lane], taken[i % depth]) + service[i]
        if slow[i]:
            # One storage serves these ranks one after the other, so they get their batches together.
            waits = transfer[i] > 0.0
            fetched = max(fetched + float(transfer[i].max()), float(ready[waits].max()))
            ready = np.where(waits, fetched, ready)
        done[lane] = ready
        work = np.maximum(ready - now, 0.0) + compute[i]
        taken[i % depth] = np.maximum(ready, now)
        length = float(work.max()) + comm[i] + pause[i]
        if world.wall_every and now >= due:
            length += world.wall_pause
            due = now + world.wall_every
        workers[i] = work
        now += length
        seconds[i] = length
        at[i] = now
    curve = descend(world)
    loss = curve * np.exp(world.batch_noise)
    if len(world.logged):
        loss = loss * world.logged
    with np.errstate(invalid="ignore"):
        loss = np.where(curve > 1e6, np.inf if world.noise > 0.02 else np.nan, loss)
    util = 100.0 * world.busy * world.compute.mean(axis=1) / seconds + 100.0 * world.foreign
    return Run(
        step=world.step,
        at=EPOCH + at,
        seconds=seconds,
        loss=loss[world.step - world.step.min()],
        curve=np.minimum(curve, 1e9)[world.step - world.step.min()],
        throughput=world.tokens.sum(axis=1) / seconds,
        workers=workers,
        comm=comm,
        util=np.clip(util + world.jitter, 0.0, 100.0),
        memory=np.clip(world.memory, 0.0, 100.0),
        stages=world.stages,
        nodes=world.nodes,
        events=world.events,
    )


def descend(world: World) -> Floats:
    """Expected loss by step: second moments of each mode's error under gradient noise (as in Bordelon and Pehlevan, 2021)."""
    curvature = (1.0 + np.arange(MODES)) ** -2.2
    error = 9.0 / curvature / (1.0 + np.arange(MODES)) ** 1.15
    drive = world.spread * curvature
    curve = np.empty(world.n)
    for i in range(world.n):
        pull = world.rate[i] * curvature * world.sharp[i]
        error = (1.0 - pull) ** 2 * error + world.rate[i] ** 2 * drive
        size = float(curvature @ error) / 2.0
        if size > world.ceiling:
            # Clipped gradients: it wanders about up here instead of leaving for good.
            error *= world.ceiling / size
            size = world.ceiling
        curve[i] = world.floor[i] + size
        if size > 1e9:
            curve[i:] = 1e9
            break
    return curve


def cluster(
    rng: Rng,
    steps: int | None = None,
    ranks: tuple[int, ...] = (4, 8, 8, 16, 32),
    per_node: int = 4,
    mix: float | None = None,
    schedule: str | None = None,
    plain: bool = False,
) -> World:
    """A healthy job of some size on some cluster. `mix` is the spread of sequence lengths; `plain` leaves out checkpoints, warm-up
    and evaluations.
    """
    n = steps or round(math.exp(rng.uniform(math.log(260), math.log(3200))))
    count = int(rng.choice(ranks))
    base = float(math.exp(rng.uniform(math.log(0.15), math.log(3.0))))
    accumulate = int(rng.choice([1, 1, 2, 4, 8]))
    spread = float(rng.uniform(0.0, 0.015)) if mix is None else mix
    tokens = np.exp(rng.normal(0.0, spread, (n, count, accumulate))).mean(axis=2) if spread > 0 else np.ones((n, count))
    speed = 1.0 + np.clip(rng.normal(0.0, rng.uniform(0.002, 0.01), count), -0.02, 0.02)
    compute = base * tokens / speed * np.exp(rng.normal(0.0, rng.uniform(0.003, 0.025), (n, count)))
    producers = int(rng.choice([2, 4, 8]))
    shape = float(rng.uniform(5, 25))
    service = rng.gamma(shape, 1.0 / shape, (n, count)) * base * producers * rng.uniform(0.3, 0.7)
    world = World(
        service=service,
        transfer=np.zeros((n, count)),
        compute=compute,
        link=np.exp(rng.normal(0.0, 0.03, n)).clip(0.5, 1.2),
        pause=np.abs(rng.normal(0.0, 0.003 * base, n)),
        tokens=tokens * 4096.0 * accumulate,
        rate=plan_rate(n, rng, schedule),
        sharp=np.ones(n),
        floor=np.full(n, rng.uniform(1.2, 3.0)),
        memory=rng.uniform(55, 90) + rng.normal(0.0, 0.25, n),
        foreign=np.zeros(n),
        step=np.arange(n, dtype=np.int64) + int(rng.choice([0, 1, 1, 5000])),
        base=base * float(tokens.mean()),
        producers=producers,
        depth=int(rng.choice([2, 4, 8])) * producers,
        wire=float(rng.uniform(0.03, 0.12)),
        overlap=float(rng.uniform(0.02, 0.06)),
        noise=float(np.exp(rng.uniform(np.log(0.003), np.log(0.06)))),
        busy=float(rng.uniform(0.82, 0.97)),
        nodes=tuple(f"node-{r // per_node}" for r in range(count)),
    )
    world.batch_noise = rng.normal(0.0, world.noise, n)
    world.jitter = rng.normal(0.0, 0.4, n)
    if not plain:
        habits(world, rng)
    return world


def plan_rate(n: int, rng: Rng, schedule: str | None = None) -> Floats:
    """Learning rate by step: warm-up, then cosine, warm-up-stable-decay, constant, or cosine with restarts."""
    kind = schedule or str(rng.choice(["cosine", "cosine", "stable", "constant"]))
    x = np.arange(n) / n
    peak = rng.uniform(0.25, 0.8)
    if kind == "cosine":
        shape = 0.1 + 0.45 * (1 + np.cos(np.pi * x))
    elif kind == "stable":
        shape = np.clip((1.0 - x) / 0.2, 0.08, 1.0)
    elif kind == "restarts":
        periods = int(rng.integers(3, 6))
        shape = (0.05 + 0.45 * (1 + np.cos(np.pi * ((x * periods) % 1.0)))) * 0.6 ** np.floor(x * periods)
    else:
        shape = np.ones(n)
    return peak * shape * np.clip(x / rng.uniform(0.005, 0.03), 0.02, 1.0)


def habits(world: World, rng: Rng) -> None:
    """What healthy jobs do beside training: some warm up, some write checkpoints, some evaluate."""
    if rng.random() < 0.45:
        warm_up(world, rng)
    if rng.random() < 0.45:
        checkpoints(world, rng)
    if rng.random() < 0.3:
        evaluations(world, rng)


def warm_up(world: World, rng: Rng) -> None:
    """Compilation in the first steps, kernels tuned over the next, a cold cache behind the loader."""
    base, n = world.base, world.n
    world.pause[: int(rng.integers(1, 4))] += base * rng.uniform(4, 25)
    tuned = min(n // 12, int(rng.integers(5, 30)))
    world.compute[:tuned] *= 1.0 + rng.uniform(0.1, 0.5) * np.linspace(1, 0, tuned)[:, None]
    world.service[: n // 14] *= rng.uniform(1.0, 2.2)


def checkpoints(world: World, rng: Rng, size: float | None = None) -> None:
    """Every so many steps, and the job waits."""
    every = int(rng.integers(20, max(30, world.n // 6)))
    world.pause[every - 1 :: every] += world.base * (size or rng.uniform(1.0, 15)) * rng.uniform(0.9, 1.1)
    if rng.random() < 0.25:
        world.events = tuple((i, "checkpoint") for i in range(every - 1, world.n, every))


def evaluations(world: World, rng: Rng) -> None:
    """A pass over held-out data every so often."""
    every = int(rng.integers(30, max(40, world.n // 4)))
    world.pause[every - 1 :: every] += world.base * rng.uniform(2, 20)


def restart(world: World, rng: Rng) -> None:
    """The job dies and goes on from its last checkpoint: steps repeat, the clock has a hole, kernels are compiled again."""
    at = int(rng.uniform(0.3, 0.7) * world.n)
    back = int(rng.integers(5, max(6, world.n // 12)))
    world.step = world.step.copy()
    world.step[at:] -= back
    world.gap[at] = float(rng.uniform(60, 900))
    world.pause[at] += world.base * rng.uniform(3, 20)


# Faults. Each changes a world in place, from a step on.


def slow_loader(world: World, ranks: list[int], at: slice, times: float) -> None:
    """The storage of these ranks hands out a batch in so many times the time that the job computes on one."""
    sway = (world.service[at][:, ranks].mean(axis=1) / np.mean(world.service)) ** 0.3
    world.transfer[at][:, ranks] = (times * world.base * sway)[:, None]


def slow_producers(world: World, at: slice, times: float) -> None:
    """Every loader worker is slow on its own: they deliver together, then nothing comes for a while."""
    have = float(np.median(world.service)) / world.producers / world.base
    world.service[at] *= times / have


def throttle(world: World, rank: int, at: slice, clock: float) -> None:
    """One device runs at this share of its clock."""
    world.compute[at, rank] /= clock


def failing_fan(world: World, rank: int, start: int, low: float, rng: Rng) -> None:
    """A device that heats up, throttles, cools down and speeds up again, by hysteresis."""
    limit, ambient, heat, clock = 88.0, 30.0, 62.0, 1.0
    lag = rng.uniform(6, 40)
    temperature = heat
    target = {1.0: rng.uniform(92, 105), low: rng.uniform(60, 78)}
    for i in range(start, world.n):
        temperature += (target[clock] - temperature) / lag
        if temperature > limit:
            clock = low
        elif temperature < limit - 6.0:
            clock = 1.0
        temperature = max(ambient, temperature)
        world.compute[i, rank] /= clock


def theft(world: World, rng: Rng, start: int, busy: tuple[int, int], quiet: tuple[int, int], times: float) -> None:
    """A neighbour takes the processors of every loader for a while, again and again, at no fixed time."""
    i = start + int(rng.integers(*quiet)) // 2
    while i < world.n:
        length = int(rng.integers(*busy))
        world.compute[i : i + length] *= times
        i += length + int(rng.integers(*quiet))


def congestion(world: World, at: slice, share: float) -> None:
    """Others use the network: so much of the slowest link is left."""
    world.link[at] *= share


def fill(world: World, start: int, end: float) -> None:
    """Something fills up bit by bit, and every step takes longer for it: `end` is the share added by the end."""
    ramp = np.clip((np.arange(world.n) - start) / max(1, world.n - start), 0, 1)
    world.compute *= (1.0 + end * ramp)[:, None]


def slower(world: World, at: slice, by: float) -> None:
    """All devices lose speed: a power cap, a driver, a co-tenant."""
    world.compute[at] *= 1.0 + by


# Families.

Change = Callable[[World, Rng], int | None]


def job(change: Change, **options: object) -> Callable[[Rng], Draft]:
    """A builder: a healthy cluster, and the same with `change` made to it (which says at which place it began)."""

    def build(rng: Rng) -> Draft:
        world = cluster(rng, **options)  # type: ignore[arg-type]
        return compare(world, change, rng)

    return build


def compare(
    world: World,
    change: Change,
    rng: Rng,
    layout: Layout | None = None,
    dirt: Dirt | None = None,
    pr_ok: bool | None = None,
) -> Draft:
    """Both runs of a world."""
    other = copy.deepcopy(world)
    onset = change(other, rng)
    shape = layout or usual(rng)
    how = dirt if dirt is not None else mild(rng) if rng.random() < 0.25 else Dirt()
    return Draft(train(other), train(world), shape, how, onset, pr_ok)


def usual(rng: Rng) -> Layout:
    """How such a job logs: nearly always everything."""
    return Layout(
        time="iso" if rng.random() < 0.4 else "ms",
        seconds_name="step_time_s" if rng.random() < 0.2 else "step_time_ms",
        throughput_name="tokens_per_sec" if rng.random() < 0.4 else "throughput",
        comm_name="comm_ms" if rng.random() < 0.3 else None,
        extra=bool(rng.random() < 0.3),
    )


def nothing(_: World, __: Rng) -> int | None:
    """No fault."""
    return None


def healthy(prepare: Callable[[World, Rng], None], **options: object) -> Callable[[Rng], Draft]:
    """A builder of jobs that do something odd and are well."""

    def build(rng: Rng) -> Draft:
        world = cluster(rng, **options)  # type: ignore[arg-type]
        prepare(world, rng)
        return compare(world, nothing, rng)

    return build


def when(world: World, rng: Rng, low: float = 0.25, high: float = 0.7) -> int:
    """A place to begin, by share of the run."""
    return int(rng.uniform(low, high) * world.n)


def amount(rng: Rng, low: float = 0.105, high: float = 0.9) -> float:
    """An effect size, small ones as likely as large ones."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _clock_checkpoints(world: World, rng: Rng) -> None:
    world.wall_every = world.base * rng.uniform(25, 110)
    world.wall_pause = world.base * rng.uniform(1.5, 12)


def _async_checkpoints(world: World, rng: Rng) -> None:
    every, length = int(rng.integers(30, 120)), int(rng.integers(2, 9))
    for i in range(every, world.n, every):
        world.compute[i : i + length] *= 1.0 + rng.uniform(0.05, 0.35)


def _garbage(world: World, rng: Rng) -> None:
    for rank in range(world.ranks):
        every = int(rng.integers(25, 140))
        world.compute[int(rng.integers(0, every)) :: every, rank] += world.base * rng.uniform(0.1, 1.2)


def _curriculum(world: World, rng: Rng) -> None:
    for start in sorted(rng.uniform(0.15, 0.85, int(rng.integers(1, 4)))):
        more = rng.uniform(1.2, 1.8)
        at = slice(int(start * world.n), None)
        world.compute[at] *= more
        world.service[at] *= more
        world.tokens[at] *= more


def _spike(world: World, rng: Rng) -> None:
    at = when(world, rng, 0.2, 0.75)
    width = max(4, world.n // int(rng.integers(30, 120)))
    bump = rng.uniform(0.2, 1.5) * np.exp(-np.clip((np.arange(world.n) - at) / width, 0, None))
    world.floor += np.where(np.arange(world.n) >= at, bump * world.floor, 0.0)


def _mixture(world: World, rng: Rng) -> None:
    at = when(world, rng, 0.3, 0.6)
    width = world.n * rng.uniform(0.05, 0.12)
    since = np.arange(world.n) - at
    world.floor += np.where(
        since >= 0, rng.uniform(0.06, 0.2) * world.floor * np.exp(-np.clip(since, 0, None) / width), 0
    )


def _evaluation_in_loss(world: World, rng: Rng) -> None:
    every = int(rng.choice([20, 50, 100]))
    world.logged = np.ones(world.n)
    world.logged[every - 1 :: every] = rng.uniform(1.05, 1.4)
    evaluations(world, rng)


def _stages(world: World, rng: Rng, count: int | None = None) -> None:
    deep = count or int(rng.choice([2, 4]))
    each = world.ranks // deep
    world.stages = tuple(min(r // max(1, each), deep - 1) for r in range(world.ranks))
    world.compute[:, [s == deep - 1 for s in world.stages]] *= rng.uniform(1.12, 1.65)


def _uneven(world: World, rng: Rng) -> None:
    world.compute *= 1.0 + rng.uniform(-0.025, 0.025, world.ranks)


def _faster_input(world: World, rng: Rng) -> None:
    slow_loader(world, list(range(world.ranks)), slice(0, when(world, rng, 0.3, 0.6)), rng.uniform(1.2, 1.7))


def _full_device(world: World, rng: Rng) -> None:
    world.busy = 1.2
    world.overlap = 0.3
    world.memory = np.full(world.n, rng.uniform(93, 97)) + rng.normal(0, 0.1, world.n)


def _sawtooth(world: World, rng: Rng) -> None:
    every = int(rng.integers(15, 90))
    world.memory = rng.uniform(80, 88) + rng.uniform(6, 11) * (np.arange(world.n) % every) / every


def _hidden_loader(world: World, rng: Rng) -> int:
    at = when(world, rng)
    slow_loader(world, list(range(world.ranks // 2)), slice(at, None), rng.uniform(0.7, 0.85))
    return at


def _hidden_congestion(world: World, rng: Rng) -> int:
    at = when(world, rng)
    congestion(world, slice(at, None), rng.uniform(0.6, 0.85))
    return at


def _hiccup(world: World, rng: Rng) -> None:
    world.pause[rng.integers(world.n // 10, world.n, int(rng.integers(1, 3)))] += world.base * rng.uniform(2, 15)


def _bursty_accumulation(world: World, rng: Rng) -> None:
    at = slice(when(world, rng, 0.2, 0.8), None)
    world.compute[at] *= 2.0
    world.service[at] *= 2.0
    world.tokens[at] *= 2.0


def _planned_blind(rng: Rng) -> Draft:
    world = cluster(rng)
    _curriculum(world, rng)
    return compare(world, nothing, rng, replace(usual(rng), throughput_name=None), pr_ok=False)


def _missing(rng: Rng) -> Draft:
    names = rng.random(5) < 0.5
    layout = Layout(
        loss_name="loss" if names[0] else None,
        throughput_name="throughput" if names[1] else None,
        workers=bool(names[2]),
        util_name="gpu_util_pct" if names[3] else None,
        memory="pct" if names[4] else "none",
        node=False,
    )
    return compare(cluster(rng), nothing, rng, layout)


def _dirty(rng: Rng) -> Draft:
    dirt = Dirt(0.08, 0.08, 0.04, 0.03, 0.04, 0.03, float(rng.choice([0.0, -40.0, 3600.0])))
    return compare(cluster(rng), nothing, rng, dirt=dirt)


def _busy(world: World, rng: Rng) -> None:
    checkpoints(world, rng)
    evaluations(world, rng)
    _garbage(world, rng)
    _uneven(world, rng)
    restart(world, rng)


def _in_a_busy_job(change: Change) -> Callable[[Rng], Draft]:
    def build(rng: Rng) -> Draft:
        world = cluster(rng, mix=float(rng.uniform(0.05, 0.15)))
        _busy(world, rng)
        return compare(world, change, rng, dirt=mild(rng))

    return build


def _dirty_straggler(rng: Rng) -> Draft:
    dirt = Dirt(0.06, 0.06, 0.03, 0.03, 0.03, 0.03)
    return compare(cluster(rng), _throttled, rng, dirt=dirt)


def _short(rng: Rng) -> Draft:
    return compare(cluster(rng, steps=int(rng.integers(3, 29)), plain=True), nothing, rng, dirt=Dirt())


def _garbled(rng: Rng) -> Draft:
    dirt = Dirt(cut=float(rng.uniform(0.16, 0.3)), garbage=float(rng.uniform(0.14, 0.3)), missing=0.02)
    return compare(cluster(rng), nothing, rng, dirt=dirt)


def _unusable(rng: Rng) -> Draft:
    draft = compare(cluster(rng, steps=int(rng.integers(50, 300))), nothing, rng)
    nan = np.full(len(draft.faulty.step), np.nan)
    if rng.random() < 0.5:
        faulty = replace(draft.faulty, seconds=nan, at=draft.faulty.at)
        return replace(draft, faulty=faulty, layout=replace(draft.layout, time="none"), usable=False)
    names = replace(draft.layout, time="none", seconds_name="wibble", step_name="wobble", loss_name="wubble")
    return replace(draft, layout=names, usable=False)


def _throttled(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.0, 0.6)
    throttle(world, int(rng.integers(world.ranks)), slice(at, None), 1.0 / (1.0 + amount(rng, 0.15, 1.0)))
    return at


def _weak_throttle(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.0, 0.4)
    throttle(world, int(rng.integers(world.ranks)), slice(at, None), 1.0 / rng.uniform(1.13, 1.18))
    return at


def _fan(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.05, 0.3)
    failing_fan(world, int(rng.integers(world.ranks)), at, 1.0 / rng.uniform(1.25, 1.9), rng)
    return at


def _slow_node(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.0, 0.6)
    node = int(rng.integers(world.ranks // 4))
    slow_loader(world, list(range(node * 4, node * 4 + 4)), slice(at, None), 1.0 + amount(rng, 0.2, 1.0))
    return at


def _pair(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.0, 0.5)
    for rank in rng.choice(world.ranks, 2, replace=False):
        throttle(world, int(rank), slice(at, None), 1.0 / (1.0 + amount(rng, 0.2, 0.9)))
    return at


def _late_throttle(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.85, 0.89)
    throttle(world, int(rng.integers(world.ranks)), slice(at, None), 1.0 / (1.0 + amount(rng, 0.18, 0.9)))
    return at


def _contended_node(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.0, 0.3)
    rank, i = int(rng.integers(world.ranks)), at
    while i < world.n:
        length = int(rng.integers(4, 25))
        world.compute[i : i + length, rank] *= rng.uniform(1.4, 2.0)
        i += length + int(rng.integers(6, 45))
    return at


def _slow_storage(world: World, rng: Rng) -> int:
    at = when(world, rng)
    slow_loader(world, list(range(world.ranks)), slice(at, None), 1.0 + amount(rng, 0.12))
    return at


def _slow_processors(world: World, rng: Rng) -> int:
    at = when(world, rng)
    slow_producers(world, slice(at, None), 1.0 + amount(rng, 0.12))
    return at


def _fragments(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.0, 0.4)
    fill(world, at, amount(rng, 0.13, 0.9))
    world.memory += 4.0 * np.clip((np.arange(world.n) - at) / world.n, 0, 1)
    world.memory = np.minimum(world.memory, 94.0)
    return at


def _full_disk(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.2, 0.6)
    end = amount(rng, 0.13, 0.9) * world.base
    world.pause += end * np.clip((np.arange(world.n) - at) / max(1, world.n - at), 0, 1) ** 1.5
    return at


def _power_cap(low: float, high: float, least: float = 0.12, most: float = 0.9) -> Change:
    def change(world: World, rng: Rng) -> int:
        at = when(world, rng, low, high)
        slower(world, slice(at, None), amount(rng, least, most))
        return at

    return change


def _amid_checkpoints(rng: Rng) -> Draft:
    world = cluster(rng, plain=True)
    checkpoints(world, rng, size=rng.uniform(2, 20))
    evaluations(world, rng)
    return compare(world, _power_cap(0.2, 0.75), rng)


def _neighbour(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.0, 0.3)
    theft(world, rng, at, (3, 14), (12, max(20, world.n // 14)), rng.uniform(1.5, 3.5))
    return at


def _pairs_of_steps(world: World, rng: Rng) -> int:
    theft(world, rng, 0, (2, 3), (10, 40), rng.uniform(2.0, 5.0))
    return 0


def _storage_episodes(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.0, 0.3)
    i = at + 10
    while i < world.n:
        length = int(rng.integers(6, 25))
        # Long enough to drain the queue, or nobody would notice.
        slow_loader(world, list(range(world.ranks)), slice(i, i + length + world.depth), rng.uniform(2.0, 4.0))
        i += length + world.depth + int(rng.integers(40, max(60, world.n // 8)))
    return at


def _late_neighbour(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.65, 0.75)
    theft(world, rng, at, (3, 10), (8, 30), rng.uniform(1.8, 3.5))
    return at


def _burst_checkpoints(rng: Rng) -> Draft:
    world = cluster(rng, plain=True)
    checkpoints(world, rng, size=rng.uniform(2, 12))
    return compare(world, _neighbour, rng)


def _tenant(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.25, 0.75)
    slower(world, slice(at, None), amount(rng, 0.17, 0.8))
    world.foreign[at:] = 1.0
    world.jitter[at:] = -np.abs(rng.normal(0.0, 0.25, world.n - at))
    return at


def _pressure(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.25, 0.75)
    slower(world, slice(at, None), amount(rng, 0.1, 0.6))
    retried = at + np.flatnonzero(rng.random(world.n - at) < 0.06)
    world.compute[retried] *= rng.uniform(1.1, 1.5)
    world.memory[at:] = np.minimum(99.0 + np.abs(rng.normal(0, 0.3, world.n - at)), 100.0)
    return at


def _congested(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.1, 0.75)
    congestion(world, slice(at, None), rng.uniform(0.08, 0.4))
    return at


def _flap(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.2, 0.8)
    congestion(world, slice(at, at + int(rng.integers(1, 4))), rng.uniform(0.005, 0.03))
    return at


def _hang(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.2, 0.9)
    world.pause[at] += world.base * rng.uniform(75, 600)
    return at


def _hangs(world: World, rng: Rng) -> int:
    places = np.sort(rng.integers(world.n // 5, world.n - 1, int(rng.integers(2, 6))))
    world.pause[places] += world.base * rng.uniform(80, 300, len(places))
    return int(places[0])


def _rate_bug(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.3, 0.7)
    world.ceiling = float(descend(world)[at]) * rng.uniform(0.25, 1.6)
    world.rate[at:] = np.maximum(world.rate[at:], rng.uniform(2.02, 2.12))
    return at


def _sharpening(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.3, 0.6)
    level = float(descend(world)[at])
    ramp = np.clip((np.arange(world.n) - at) / (world.n - at), 0, 1)
    world.floor += level * amount(rng, 0.2, 0.9) * ramp ** rng.uniform(0.8, 1.6)
    return at


def _stays_up(low: float, high: float, least: float, most: float) -> Change:
    def change(world: World, rng: Rng) -> int:
        at = when(world, rng, low, high)
        world.floor[at:] += float(descend(world)[at]) * amount(rng, least, most)
        return at

    return change


def _explodes(low: float, high: float) -> Change:
    def change(world: World, rng: Rng) -> int:
        at = when(world, rng, low, high)
        world.sharp[at:] = 60.0
        world.rate[at:] = np.maximum(world.rate[at:], 0.3)
        return at

    return change


def _corrupt(world: World, rng: Rng) -> int:
    at = when(world, rng, 0.4, 0.7)
    level = float(descend(world)[at])
    world.floor[at:] += level * rng.uniform(0.15, 0.5)
    world.batch_noise[at:] *= 2.0
    return at


def _both(first: Change, second: Change) -> Change:
    def change(world: World, rng: Rng) -> int:
        starts = [at for at in (first(world, rng), second(world, rng)) if at is not None]
        return min(starts)

    return change


def _resumed_drift(rng: Rng) -> Draft:
    world = cluster(rng)
    restart(world, rng)
    return compare(world, _power_cap(0.72, 0.8), rng)


def _staged_straggler(rng: Rng) -> Draft:
    world = cluster(rng, ranks=(8, 16))
    _stages(world, rng, 2)

    def one(other: World, draws: Rng) -> int:
        at = when(other, draws, 0.0, 0.4)
        # Within the first, shorter stage and beyond the longest one, so that it bounds the step.
        longest = float(other.compute.max(axis=1).mean() / other.base)
        throttle(
            other, int(draws.integers(other.ranks // 2)), slice(at, None), 1.0 / (longest * draws.uniform(1.2, 1.8))
        )
        return at

    return compare(world, one, rng, replace(usual(rng), stages=True))


WELL = {"incident": False}
FAMILIES = registry(
    Family("quiet", 12, healthy(lambda w, r: None, plain=True), WELL),
    Family("habits", 14, healthy(lambda w, r: habits(w, r)), WELL),
    Family("warm_up", 8, healthy(warm_up, plain=True), WELL),
    Family("checkpoints", 10, healthy(lambda w, r: checkpoints(w, r), plain=True), WELL),
    Family("clock_checkpoints", 10, healthy(_clock_checkpoints), WELL),
    Family("async_checkpoints", 8, healthy(_async_checkpoints), WELL),
    Family("evaluations", 8, healthy(evaluations, plain=True), WELL),
    Family("garbage_collection", 10, healthy(_garbage), WELL),
    Family("sequence_mix", 10, healthy(lambda w, r: None, mix=0.22), WELL),
    Family("curriculum", 10, healthy(_curriculum), WELL),
    Family("planned_without_throughput", 10, _planned_blind, {"pr_ok": False}),
    Family("accumulation_doubled", 8, healthy(_bursty_accumulation), WELL),
    Family("stage_imbalance", 10, healthy(_stages, ranks=(8, 16, 32)), WELL),
    Family("heterogeneous", 8, healthy(_uneven), WELL),
    Family("rate_restarts", 10, healthy(lambda w, r: None, schedule="restarts"), WELL),
    Family("loss_spike", 8, healthy(_spike), WELL),
    Family("data_mixture", 10, healthy(_mixture), WELL),
    Family("evaluation_in_loss", 8, healthy(_evaluation_in_loss), WELL),
    Family("resumed", 8, healthy(restart), WELL),
    Family("faster_input", 8, healthy(_faster_input, plain=True), WELL),
    Family("full_device", 8, healthy(_full_device), WELL),
    Family("memory_sawtooth", 8, healthy(_sawtooth), WELL),
    Family("hidden_loader", 8, job(_hidden_loader), WELL),
    Family("hidden_congestion", 6, job(_hidden_congestion), WELL),
    Family("hiccup", 8, healthy(_hiccup), WELL),
    Family("missing_fields", 8, _missing, WELL),
    Family("dirty", 8, _dirty, WELL),
    Family("busy", 12, healthy(_busy, mix=0.1), WELL),
    Family("short", 8, _short, {"insufficient": True}),
    Family("garbled", 6, _garbled, {"insufficient": True}),
    Family("unusable", 6, _unusable, {"insufficient": True}),
    Family("throttled", 12, job(_throttled), {"straggler": True}),
    Family("throttled_weak", 8, job(_weak_throttle), {"straggler": True}),
    Family("throttled_of_two", 8, job(_throttled, ranks=(2,)), {"straggler": True}),
    Family("throttled_pair", 8, job(_pair, ranks=(8, 16)), {"straggler": True}),
    Family("throttled_late", 8, job(_late_throttle), {"straggler": True}),
    Family("throttled_dirty", 6, _dirty_straggler, {"straggler": True}),
    Family("throttled_staged", 6, _staged_straggler, {"straggler": True}),
    Family("failing_fan", 8, job(_fan), {"straggler": True}),
    Family("slow_node", 10, job(_slow_node, ranks=(12, 16, 32)), {"straggler": True}),
    Family("contended_node", 8, job(_contended_node), {"straggler": True}),
    Family("slow_storage", 10, job(_slow_storage), {"drift_step": True}),
    Family("slow_producers", 6, job(_slow_processors), {}),
    Family("fragmentation", 10, job(_fragments), {"drift_step": True}),
    Family("full_disk", 8, job(_full_disk), {"drift_step": True}),
    Family("power_cap", 8, job(_power_cap(0.2, 0.7)), {"drift_step": True}),
    Family("power_cap_early", 10, job(_power_cap(0.06, 0.15)), {"drift_step": True}),
    Family("power_cap_late", 10, job(_power_cap(0.85, 0.9)), {"drift_step": True}),
    Family("power_cap_weak", 8, job(_power_cap(0.2, 0.7, 0.115, 0.15)), {"drift_step": True}),
    Family("slower_amid_checkpoints", 10, _amid_checkpoints, {"drift_step": True}),
    Family("slower_after_restart", 6, _resumed_drift, {"drift_step": True}),
    Family("neighbour", 12, job(_neighbour), {"burst": True}),
    Family("neighbour_late", 8, job(_late_neighbour), {"burst": True}),
    Family("bursts_of_two", 8, job(_pairs_of_steps), {"burst": True}),
    Family("bursts_and_checkpoints", 8, _burst_checkpoints, {"burst": True}),
    Family("storage_episodes", 8, job(_storage_episodes), {"burst": True}),
    Family("co_tenant", 12, job(_tenant), {"gpu_saturated": True}),
    Family("memory_pressure", 10, job(_pressure), {"gpu_saturated": True}),
    Family("congestion", 10, job(_congested), {"comm_congestion": True}),
    Family("link_flap", 6, job(_flap), {}),
    Family("hang", 8, job(_hang), {"near_hang": True}),
    Family("hangs", 6, job(_hangs), {"near_hang": True}),
    Family("rate_bug", 10, job(_rate_bug), {"drift_loss": True}),
    Family("slow_divergence", 12, job(_sharpening), {"drift_loss": True}),
    Family("loss_stays_up", 10, job(_stays_up(0.3, 0.75, 0.16, 0.8)), {"drift_loss": True}),
    Family("loss_stays_up_late", 8, job(_stays_up(0.85, 0.9, 0.12, 0.6)), {"drift_loss": True}),
    Family("loss_weak", 8, job(_stays_up(0.5, 0.8, 0.1, 0.15)), {"drift_loss": True, "severity": "hard"}),  # type: ignore[dict-item]
    Family("corrupt_data", 8, job(_corrupt), {"drift_loss": True}),
    Family("nan_tail", 8, job(_explodes(0.4, 0.85)), {"drift_loss": True}),
    Family("nan_short_tail", 8, job(_explodes(0.93, 0.955)), {"drift_loss": True}),
    Family("long_and_late", 4, job(_power_cap(0.9, 0.93), steps=20_000, ranks=(2, 4)), {"drift_step": True}),
    Family("straggler_and_loss", 6, job(_both(_throttled, _stays_up(0.3, 0.7, 0.16, 0.6))), {"straggler": True, "drift_loss": True}),
    Family("busy_throttled", 8, _in_a_busy_job(_throttled), {"straggler": True}),
    Family("busy_power_cap", 8, _in_a_busy_job(_power_cap(0.1, 0.8)), {"drift_step": True}),
    Family("busy_neighbour", 8, _in_a_busy_job(_neighbour), {"burst": True}),
    Family("busy_loss", 8, _in_a_busy_job(_stays_up(0.3, 0.8, 0.12, 0.6)), {"drift_loss": True}),
    Family("bursts_and_loss", 6, job(_both(_neighbour, _stays_up(0.3, 0.7, 0.16, 0.6))), {"burst": True, "drift_loss": True}),
)  # fmt: skip
