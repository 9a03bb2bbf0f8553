"""Generator two: stochastic processes. No machine is simulated; what a log shows is drawn as time series, from models that share
nothing with the cluster of generator one.

The log of the step time is a sum of what is known of such series: a hidden Markov chain of regimes, long memory (fractional
differencing; Hosking, 1981), a wander that is pulled back, a daily rhythm, a multiplicative cascade, and shocks that come as a renewal
process with heavy tails. The loss is a power law with plateaus and steps, under autocorrelated noise. Incidents are changes of level, slope, renewal rate or
correlation. Runs are 300 to 30,000 steps long (log-uniform), some log every k-th step only, under many names and units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from tests.bench.decisions.families import Draft, Family, registry
from tests.bench.decisions.lines import Dirt, Layout, mild
from tests.bench.decisions.truth import Floats, Run

Rng = np.random.Generator
EPOCH = 1_767_225_600.0
CELLS = 160_000


@dataclass
class Series:
    """A run as time series: logarithms add, so `level` (steps), `apart` (steps x workers) and `wire` (steps) are logarithms of
    factors on the step time, on single workers, and on the time between workers and the end of the step.
    """

    n: int
    pace: float
    level: Floats
    apart: Floats
    wire: Floats
    extra: Floats
    loss: Floats
    loss_noise: Floats
    tokens: Floats
    util: Floats
    memory: Floats
    share: float
    shown: Floats = field(default_factory=lambda: np.zeros(0))

    def run(self) -> Run:
        """The series as a run; the slowest worker bounds the step."""
        workers = self.pace * (1.0 - self.share) * np.exp(self.level[:, None] + self.apart)
        comm = self.pace * self.share * np.exp(self.wire)
        seconds = workers.max(axis=1) + comm + self.pace * self.extra
        shown = self.shown if len(self.shown) else 1.0
        return Run(
            step=np.arange(1, self.n + 1, dtype=np.int64),
            at=EPOCH + np.cumsum(seconds),
            seconds=seconds,
            loss=self.loss * np.exp(self.loss_noise) * shown,
            curve=self.loss,
            throughput=self.tokens / seconds,
            workers=workers,
            comm=comm,
            util=np.clip(self.util, 0.0, 100.0),
            memory=np.clip(self.memory, 0.0, 100.0),
            nodes=("trainer-0",),
        )

    def copy(self) -> Series:
        """One that may be changed."""
        names = ("level", "apart", "wire", "extra", "loss", "loss_noise", "tokens", "util", "memory", "shown")
        return replace(self, **{name: getattr(self, name).copy() for name in names})


def regimes(n: int, rng: Rng, states: int = 3, spread: float = 0.02, dwell: float = 60.0) -> Floats:
    """A hidden Markov chain: a level by state, kept for a geometric time."""
    levels = rng.normal(0.0, spread, states)
    out = np.empty(n)
    i, state = 0, 0
    while i < n:
        length = int(rng.geometric(1.0 / dwell))
        out[i : i + length] = levels[state]
        i += length
        state = int(rng.integers(states))
    return out


def long_memory(n: int, rng: Rng, order: float, sd: float) -> Floats:
    """Fractional noise of this order (0 to 0.5), by its moving-average weights."""
    size = min(n, 2000)
    k = np.arange(1, size)
    weights = np.r_[1.0, np.cumprod((k - 1 + order) / k)]
    white = rng.normal(0.0, 1.0, n + size)
    width = 1 << (n + 2 * size).bit_length()
    made = np.fft.irfft(np.fft.rfft(white, width) * np.fft.rfft(weights, width), width)[size : size + n]
    return np.asarray(sd * made / made.std(), dtype=np.float64)


def wander(n: int, rng: Rng, bound: float) -> Floats:
    """A random walk folded back at the bound."""
    walk = np.cumsum(rng.normal(0.0, bound * 4.0 / math.sqrt(n), n))
    folded = np.abs((walk + bound) % (4 * bound) - 2 * bound) - bound
    width = max(1, n // 60)
    smooth = np.convolve(np.pad(folded, (width, width), mode="edge"), np.ones(width) / width, "same")
    return np.asarray(smooth[width : width + n], dtype=np.float64)


def daily(n: int, pace: float, rng: Rng, size: float) -> Floats:
    """A daily rhythm, compressed for short runs so that it turns at least twice."""
    period = min(86_400.0 / pace, n / rng.uniform(2.0, 5.0))
    return np.asarray(size * np.sin(2 * np.pi * np.arange(n) / period + rng.uniform(0, 2 * np.pi)), dtype=np.float64)


def cascade(n: int, rng: Rng, depth: int = 7, spread: float = 0.008) -> Floats:
    """A multiplicative cascade: each half of each interval gets its own factor (here: logarithms add)."""
    out = np.zeros(n)
    for level in range(1, depth):
        out += np.repeat(rng.normal(0.0, spread, 2**level), math.ceil(n / 2**level))[:n]
    return out


def series(
    rng: Rng,
    steps: int | None = None,
    workers: tuple[int, ...] = (2, 3, 4, 6, 8, 16, 24, 64, 128),
    mood: str | None = None,
) -> Series:
    """A healthy run: some mixture of the processes above."""
    n = steps or int(math.exp(rng.uniform(math.log(300), math.log(30_000))))
    fitting = [w for w in workers if w * n <= CELLS] or [min(workers)]
    count = int(rng.choice(fitting))
    pace = float(math.exp(rng.uniform(math.log(0.04), math.log(12.0))))
    level = rng.normal(0.0, rng.uniform(0.003, 0.02), n)
    mood = mood or str(rng.choice(["regimes", "memory", "daily", "cascade", "plain"]))
    if mood == "regimes":
        level += regimes(n, rng, dwell=float(rng.uniform(5, 120)))
    elif mood == "memory":
        level += long_memory(n, rng, float(rng.uniform(0.15, 0.4)), float(rng.uniform(0.008, 0.03)))
    elif mood == "daily":
        level += daily(n, pace, rng, float(rng.uniform(0.01, 0.03)))
    elif mood == "cascade":
        level += cascade(n, rng)
    elif mood == "tails":
        level += rng.standard_t(2.6, n).clip(-4, 40) * 0.008
    share = float(rng.uniform(0.03, 0.2))
    apart = rng.normal(0.0, rng.uniform(0.003, 0.012), count) + rng.normal(0.0, rng.uniform(0.004, 0.02), (n, count))
    wave = np.repeat(rng.normal(0.0, 0.5, n // 40 + 1), 40)[:n]
    made = Series(
        n=n,
        pace=pace,
        level=level,
        apart=apart,
        wire=rng.normal(0.0, rng.uniform(0.02, 0.1), n),
        extra=np.abs(rng.standard_t(4, n)) * 0.002,
        loss=power_law(n, rng),
        loss_noise=coloured(
            n, rng, float(math.exp(rng.uniform(math.log(0.004), math.log(0.05)))), float(rng.uniform(0, 0.5))
        ),
        tokens=np.full(n, float(rng.integers(8, 4000) * 128)),
        util=rng.uniform(70, 95) + wave + rng.normal(0.0, 0.8, n),
        memory=rng.uniform(40, 92) + rng.normal(0.0, 0.15, n),
        share=share,
    )
    if rng.random() < 0.3:
        _lattice(made, rng)
    return made


def coloured(n: int, rng: Rng, sd: float, rho: float) -> Floats:
    """First-order autoregressive noise, through its spectrum."""
    if rho < 0.02:
        return rng.normal(0.0, sd, n)
    weights = rho ** np.arange(min(n, 60))
    made = np.convolve(rng.normal(0.0, 1.0, n + len(weights)), weights)[len(weights) : len(weights) + n]
    return np.asarray(sd * made / made.std(), dtype=np.float64)


def power_law(n: int, rng: Rng) -> Floats:
    """A falling loss with up to two plateaus, on which the clock of learning all but stands still."""
    clock = np.ones(n)
    for _ in range(int(rng.integers(0, 3))):
        start = int(rng.uniform(0.1, 0.7) * n)
        clock[start : start + int(rng.uniform(0.05, 0.15) * n)] = 0.05
    learned = np.cumsum(clock)
    low, high = rng.uniform(0.4, 2.8), rng.uniform(2.0, 8.0)
    return np.asarray(
        low + high * (1.0 + learned / rng.uniform(3, n / 15)) ** -rng.uniform(0.25, 0.8), dtype=np.float64
    )


def layout(rng: Rng, full: bool = False) -> Layout:
    """How such a run is logged: other names, other units, and often less of it."""
    style = int(rng.integers(6))
    shapes = (
        Layout(time="s", time_name="timestamp", step_name="global_step", seconds_name="step_time", loss_name="train_loss",
               throughput_name="samples_per_sec", memory="used_total", node=False),
        Layout(time="iso", time_name="@timestamp", step_name="iteration", seconds_name="iter_time", loss_name="lm loss",
               throughput_name="tokens_per_sec", util_name="DCGM_FI_DEV_GPU_UTIL", memory="used_free", extra=True),
        Layout(time="iso", time_name="time", step_name="iter", seconds_name="step_time_s", loss_name="loss",
               throughput_name="tps", util_name="gpu_util", memory="pct", comm_name="comm_s"),
        Layout(time="ms", time_name="ts", step_name="step", seconds_name="latency_ms", loss_name="train/loss",
               throughput_name="throughput", memory="none", extra=True),
        Layout(time="s", time_name="_timestamp", step_name="_step", seconds_name="time_this_iter_s", loss_name="reduced_train_loss",
               throughput_name="train_samples_per_second", util_name="gpu_utilization", memory="used_total"),
        Layout(time="ms", time_name="t", step_name="training_iteration", seconds_name="step_time_ms", loss_name="loss",
               throughput_name="samples/sec", comm_name="comm_ms", memory="pct", quoted_nan=True),
    )  # fmt: skip
    made = shapes[style]
    if full:
        return replace(made, memory="pct" if made.memory == "none" else made.memory)
    if rng.random() < 0.2:
        made = replace(made, workers=False)
    if rng.random() < 0.15:
        made = replace(made, throughput_name=None)
    if rng.random() < 0.2:
        made = replace(made, util_name=None)
    return made


# Oddities of healthy runs, and incidents. Each changes a series in place and says at which place it began.

Change = Callable[[Series, Rng], int | None]


def start(s: Series, rng: Rng, low: float = 0.2, high: float = 0.75) -> int:
    """A place, by share of the run."""
    return int(rng.uniform(low, high) * s.n)


def size(rng: Rng, low: float = 0.115, high: float = 0.9) -> float:
    """The logarithm of an effect; small ones are as likely as large ones."""
    return math.log1p(math.exp(rng.uniform(math.log(low), math.log(high))))


def renewals(n: int, rng: Rng, first: int, gap: float, length: float, shape: float = 1.6) -> list[tuple[int, int]]:
    """Episodes with Pareto gaps and lengths of these medians."""
    out: list[tuple[int, int]] = []
    at = first + int(gap * rng.random())
    while at < n:
        long = max(2, min(int(length * (0.6 + 0.4 * rng.pareto(shape))), int(8 * length)))
        out.append((at, min(n, at + long)))
        at += long + 8 + int(min(gap * (0.5 + 0.5 * rng.pareto(shape)), 12 * gap))
    return out


def _lattice(s: Series, rng: Rng) -> None:
    every = int(rng.integers(25, max(40, s.n // 8)))
    s.extra[int(rng.integers(every)) :: every] += rng.lognormal(0.7, 0.8)


def _two_lattices(s: Series, rng: Rng) -> None:
    _lattice(s, rng)
    _lattice(s, rng)


def _timed_pauses(s: Series, rng: Rng) -> None:
    seconds = s.run().at - EPOCH
    period = s.pace * rng.uniform(30, 200)
    due = np.flatnonzero(np.diff(np.floor(seconds / period)) > 0) + 1
    s.extra[due] += rng.uniform(1.0, 9.0)


def _wanders(s: Series, rng: Rng) -> None:
    s.level += wander(s.n, rng, 0.06)


def _days(s: Series, rng: Rng) -> None:
    s.level += daily(s.n, s.pace, rng, 0.05)


def _tails(s: Series, rng: Rng) -> None:
    s.level += rng.standard_t(2.5, s.n).clip(-3, 30) * 0.015


def _singles(s: Series, rng: Rng) -> None:
    at = np.flatnonzero(rng.random(s.n) < 0.012)
    s.extra[at] += np.minimum(rng.pareto(1.8, len(at)), 20)


def _rotating(s: Series, rng: Rng) -> None:
    # In turn, in an order drawn anew each round: within a few hundred steps nobody has been slow much more often than others.
    i, turn = 0, [0]
    while i < s.n:
        turn = turn[1:] or [int(c) for c in rng.permutation(s.apart.shape[1])]
        length = int(rng.integers(3, 12))
        s.apart[i : i + length, turn[0]] += math.log1p(rng.uniform(0.1, 0.45))
        i += length


def _mixed(s: Series, rng: Rng) -> None:
    s.apart += rng.normal(0.0, rng.uniform(0.1, 0.2), s.apart.shape)


def _unequal(s: Series, rng: Rng) -> None:
    s.apart += rng.uniform(-0.025, 0.025, s.apart.shape[1])


def _one_noisy(s: Series, rng: Rng) -> None:
    column = int(rng.integers(s.apart.shape[1]))
    s.apart[:, column] += rng.normal(-0.01, 0.05, s.n)


def _longer_sequences(s: Series, rng: Rng) -> None:
    grown = np.clip((np.arange(s.n) / s.n - rng.uniform(0.1, 0.4)) / 0.4, 0, 1) * rng.uniform(0.2, 0.8)
    s.level += np.log1p(grown)
    s.wire += np.log1p(grown)
    s.extra *= 1.0 + grown
    s.tokens *= 1.0 + grown


def _quicker(s: Series, rng: Rng) -> None:
    at = start(s, rng)
    s.level[:at] += rng.uniform(0.15, 0.6)
    s.util = np.where(np.arange(s.n) >= at, rng.uniform(97, 99.6), rng.uniform(60, 85)) + rng.normal(0, 0.4, s.n)


def _pinned(s: Series, rng: Rng) -> None:
    s.util = np.full(s.n, 100.0) - (rng.random(s.n) < 0.02) * rng.uniform(1, 60, s.n)
    s.memory = np.full(s.n, rng.uniform(95, 99.4))


def _sawtooth(s: Series, rng: Rng) -> None:
    s.memory = 84 + 13.5 * ((np.cumsum(rng.uniform(0.5, 1.5, s.n)) / rng.uniform(20, 300)) % 1.0)


def _util_dips(s: Series, rng: Rng) -> None:
    for a, b in renewals(s.n, rng, 0, s.n / 12, 6):
        s.util[a:b] -= rng.uniform(20, 60)


def _recovers(s: Series, rng: Rng) -> None:
    for _ in range(int(rng.integers(1, 4))):
        at = start(s, rng, 0.1, 0.7)
        since = np.clip(np.arange(s.n) - at, 0, None) / (s.n * rng.uniform(0.01, 0.05))
        s.loss = s.loss * np.where(np.arange(s.n) >= at, 1.0 + rng.uniform(0.15, 1.5) * np.exp(-since), 1.0)


def _restarts(s: Series, rng: Rng) -> None:
    periods = int(rng.integers(3, 7))
    phase = (np.arange(s.n) / s.n * periods) % 1.0
    s.loss = s.loss * (1.0 + rng.uniform(0.04, 0.12) * np.exp(-phase * 8.0) * (np.arange(s.n) > s.n / periods))


def _validation(s: Series, rng: Rng) -> None:
    every = int(rng.integers(15, 200))
    s.shown = np.ones(s.n)
    s.shown[every::every] = rng.uniform(1.04, 1.35)


def _noisy_loss(s: Series, rng: Rng) -> None:
    s.loss_noise = coloured(s.n, rng, float(rng.uniform(0.06, 0.2)), float(rng.uniform(0, 0.7)))


def _slow_start(s: Series, rng: Rng) -> None:
    length = max(3, int(s.n * rng.uniform(0.005, 0.06)))
    s.level[:length] += np.linspace(rng.uniform(0.3, 1.2), 0, length)
    s.extra[: int(rng.integers(1, 5))] += rng.uniform(5, 40)


def _one_hump(s: Series, rng: Rng) -> int:
    at = start(s, rng, 0.2, 0.6)
    s.level[at : at + max(3, s.n // 60)] += rng.uniform(0.1, 0.6)
    return at


def _gets_faster(s: Series, rng: Rng) -> None:
    s.level -= np.linspace(0, rng.uniform(0.1, 0.4), s.n)


def shift(low: float, high: float, least: float = 0.125, most: float = 0.9) -> Change:
    """All workers slower from a place on."""

    def change(s: Series, rng: Rng) -> int:
        at = start(s, rng, low, high)
        by = size(rng, least, most)
        s.level[at:] += by
        s.wire[at:] += by
        s.extra[at:] *= math.exp(by)
        return at

    return change


def slope(s: Series, rng: Rng) -> int:
    """All workers slower bit by bit."""
    at = start(s, rng, 0.0, 0.5)
    ramp = size(rng, 0.14, 1.0) * np.clip((np.arange(s.n) - at) / (s.n - at), 0, 1) ** rng.uniform(0.6, 1.5)
    s.level += ramp
    s.wire += ramp
    return at


def stairs(s: Series, rng: Rng) -> int:
    """Slower in small steps, none of which is large by itself."""
    at = start(s, rng, 0.1, 0.4)
    for place in np.sort(rng.integers(at, int(s.n * 0.9), int(rng.integers(4, 9)))):
        by = rng.uniform(0.03, 0.08)
        s.level[place:] += by
        s.wire[place:] += by
    return at


def _creeping_walk(s: Series, rng: Rng) -> int:
    at = start(s, rng, 0.1, 0.5)
    m = s.n - at
    walk = np.cumsum(rng.normal(size(rng, 0.2, 0.7) / m, 0.04 / math.sqrt(m), m))
    s.level[at:] += walk
    s.wire[at:] += walk
    return at


def _amid_pauses(s: Series, rng: Rng) -> int:
    return shift(0.2, 0.7)(s, rng) or 0


def episodes(low: float, gap: tuple[float, float], length: tuple[float, float], least: float, most: float) -> Change:
    """Slow episodes at the times of a renewal process, from a place on; the gap is a share of the run."""

    def change(s: Series, rng: Rng) -> int:
        first = start(s, rng, low, low + 0.2)
        times = rng.uniform(*gap) * s.n
        for a, b in renewals(s.n, rng, first, max(10.0, times), rng.uniform(*length)):
            s.level[a:b] += math.log(rng.uniform(least, most))
        return first

    return change


def _pairs(s: Series, rng: Rng) -> int:
    at = 5
    while at < s.n:
        s.level[at : at + 2] += math.log(rng.uniform(1.8, 5.0))
        at += 10 + int(rng.exponential(22.0))
    return 0


def slow_worker(
    low: float, high: float, least: float = 0.15, most: float = 1.0, count: int = 1, until: float | None = None
) -> Change:
    """One or more workers slower, from a place on."""

    def change(s: Series, rng: Rng) -> int:
        at = start(s, rng, low, high)
        end = s.n if until is None else at + int(until * s.n)
        for column in rng.choice(s.apart.shape[1], count, replace=False):
            s.apart[at:end, column] += size(rng, least, most)
        return at

    return change


def _comes_and_goes(s: Series, rng: Rng) -> int:
    column = int(rng.integers(s.apart.shape[1]))
    first = start(s, rng, 0.0, 0.2)
    by = size(rng, 0.25, 1.2)
    at = first
    long = rng.uniform(10, 60)
    while at < s.n:
        length = max(3, int(rng.exponential(long)))
        s.apart[at : at + length, column] += by
        at += length + max(3, int(rng.exponential(long * 1.5)))
    return first


def _flickers(s: Series, rng: Rng) -> int:
    column = int(rng.integers(s.apart.shape[1]))
    hit = rng.random(s.n) < rng.uniform(0.28, 0.5)
    s.apart[hit, column] += size(rng, 0.25, 1.0)
    return 0


def _host(s: Series, rng: Rng) -> int:
    at = start(s, rng, 0.0, 0.6)
    per = 4 if s.apart.shape[1] >= 12 else 2
    first = per * int(rng.integers(s.apart.shape[1] // per))
    s.apart[at:, first : first + per] += size(rng, 0.16, 0.9)
    return at


def _changes_places(s: Series, rng: Rng) -> int:
    a, b = (int(c) for c in rng.choice(s.apart.shape[1], 2, replace=False))
    half = start(s, rng, 0.4, 0.6)
    by = size(rng, 0.25, 0.9)
    s.apart[:half, a] += by
    s.apart[half:, b] += by
    return 0


def _getting_worse(s: Series, rng: Rng) -> int:
    at = start(s, rng, 0.0, 0.4)
    column = int(rng.integers(s.apart.shape[1]))
    s.apart[at:, column] += np.linspace(0.0, size(rng, 0.4, 1.2), s.n - at)
    return at


def _contention(s: Series, rng: Rng) -> int:
    at = start(s, rng)
    s.level[at:] += size(rng, 0.22, 0.9)
    s.util[:at] = np.minimum(s.util[:at], 95.0)
    s.util[at:] = 100.0 - np.abs(rng.normal(0.0, 0.3, s.n - at))
    return at


def _memory_full(s: Series, rng: Rng) -> int:
    at = start(s, rng)
    s.level[at:] += size(rng, 0.13, 0.6) + np.where(rng.random(s.n - at) < 0.05, rng.uniform(0.05, 0.3), 0.0)
    s.memory[at:] = 100.0 - np.abs(rng.normal(0.6, 0.3, s.n - at)).clip(0, 1.6)
    return at


def _network(s: Series, rng: Rng) -> int:
    at = start(s, rng, 0.1, 0.75)
    s.wire[at:] += math.log1p(rng.uniform(0.18, 0.9) / s.share)
    return at


def hangs(count: int) -> Change:
    """Single steps that all but hang."""

    def change(s: Series, rng: Rng) -> int:
        places = np.sort(rng.choice(np.arange(s.n // 10, s.n - 5), count, replace=False))
        s.extra[places] += rng.uniform(85, 900, count)
        return int(places[0])

    return change


def loss_up(low: float, high: float, least: float, most: float, shape: str = "step") -> Change:
    """The loss rises over its level at a place and stays, at once, bit by bit, or as a random walk with drift."""

    def change(s: Series, rng: Rng) -> int:
        at = start(s, rng, low, high)
        m = s.n - at
        by = math.exp(rng.uniform(math.log(least), math.log(most)))
        if shape == "step":
            rise = np.full(m, by)
        elif shape == "slope":
            rise = by * np.linspace(0, 1, m) ** rng.uniform(0.7, 1.6)
        else:
            rise = np.cumsum(rng.normal(by / m, 0.1 * by / math.sqrt(m), m))
        s.loss = s.loss.copy()
        s.loss[at:] = s.loss[at] * np.maximum(1.0 + rise, 0.5)
        return at

    return change


def broken_loss(low: float, high: float) -> Change:
    """NaN or infinity to the end, mostly after a few steps of growth."""

    def change(s: Series, rng: Rng) -> int:
        at = start(s, rng, low, high)
        s.loss = s.loss.copy()
        s.loss[at:] *= np.exp(np.minimum(np.arange(s.n - at) * rng.uniform(0.5, 2.0), 13.8))
        s.shown = np.ones(s.n)
        s.shown[at + int(rng.integers(1, 4)) :] = rng.choice([np.nan, np.inf])
        return at

    return change


def both(first: Change, second: Change) -> Change:
    """Two things at once."""

    def change(s: Series, rng: Rng) -> int:
        return min(first(s, rng) or 0, second(s, rng) or 0)

    return change


def nothing(_: Series, __: Rng) -> int | None:
    """No fault."""
    return None


def oddly(
    *prepare: Callable[[Series, Rng], object], change: Change = nothing, full: bool = False, **options: object
) -> Callable[[Rng], Draft]:
    """A builder: a run with these oddities, and the same with a change made to it."""

    def build(rng: Rng) -> Draft:
        s = series(rng, **options)  # type: ignore[arg-type]
        for odd in prepare:
            odd(s, rng)
        return compare(s, change, rng, layout(rng, full))

    return build


def ill(change: Change, **options: object) -> Callable[[Rng], Draft]:
    """A builder of incidents whose log shows what is needed to see them."""
    return oddly(change=change, full=True, **options)


def compare(
    s: Series, change: Change, rng: Rng, shape: Layout, dirt: Dirt | None = None, sparse: float = 0.25
) -> Draft:
    """Both runs; one in four logs every k-th step only."""
    other = s.copy()
    onset = change(other, rng)
    faulty, clean = other.run(), s.run()
    if rng.random() < sparse and s.n >= 600:
        every = int(rng.choice([k for k in (2, 5, 10, 20, 50) if s.n // k >= 200]))
        keep = np.arange(every - 1, s.n, every, dtype=np.int64)
        faulty, clean = faulty.every(keep), clean.every(keep)
        onset = None if onset is None else min(onset // every, len(keep) - 1)
    how = dirt if dirt is not None else mild(rng) if rng.random() < 0.3 else Dirt()
    return Draft(faulty, clean, shape, how, onset)


def _everything(s: Series, rng: Rng) -> None:
    _lattice(s, rng)
    _timed_pauses(s, rng)
    _tails(s, rng)
    _singles(s, rng)
    s.level += wander(s.n, rng, 0.03)
    _unequal(s, rng)
    _noisy_loss(s, rng)
    if s.apart.shape[1] >= 8:
        _rotating(s, rng)


def _rough(s: Series, rng: Rng) -> None:
    s.level += rng.normal(0.0, rng.uniform(0.05, 0.1), s.n)
    s.level += long_memory(s.n, rng, 0.3, 0.015)


def _now_and_then(s: Series, rng: Rng) -> int:
    column = int(rng.integers(s.apart.shape[1]))
    s.apart[rng.random(s.n) < rng.uniform(0.22, 0.27), column] += size(rng, 0.2, 0.6)
    return 0


def _every_step(change: Change, *prepare: Callable[[Series, Rng], object], **options: object) -> Callable[[Rng], Draft]:
    """As `ill`, with every step logged: what lasts two steps is gone from every tenth."""

    def build(rng: Rng) -> Draft:
        s = series(rng, **options)  # type: ignore[arg-type]
        for odd in prepare:
            odd(s, rng)
        return compare(s, change, rng, layout(rng, full=True), sparse=0.0)

    return build


def _planned(rng: Rng) -> Draft:
    s = series(rng)
    _longer_sequences(s, rng)
    return replace(compare(s, nothing, rng, replace(layout(rng), throughput_name=None)), pr_ok=False)


def _only_clock(rng: Rng) -> Draft:
    s = series(rng, steps=int(rng.integers(300, 3000)))
    shape = replace(layout(rng), seconds_name=None, workers=False, comm_name=None)
    return compare(s, nothing, rng, shape, Dirt(), sparse=0.0)


def _clock_drift(rng: Rng) -> Draft:
    s = series(rng, steps=int(rng.integers(300, 3000)))
    shape = replace(layout(rng, full=True), seconds_name=None, workers=False, comm_name=None, time="ms", time_name="ts")
    return compare(s, shift(0.3, 0.7, 0.2), rng, shape, Dirt(), sparse=0.0)


def _bare(rng: Rng) -> Draft:
    s = series(rng)
    shape = Layout(throughput_name=None, util_name=None, memory="none", workers=False, node=False)
    return compare(s, nothing, rng, shape)


def _soiled(change: Change) -> Callable[[Rng], Draft]:
    def build(rng: Rng) -> Draft:
        s = series(rng)
        dirt = Dirt(0.1, 0.12, 0.05, 0.03, 0.03, 0.02, float(rng.choice([0.0, -90.0, 7200.0])))
        return compare(s, change, rng, layout(rng, full=True), dirt)

    return build


def _short(rng: Rng) -> Draft:
    draft = compare(series(rng, steps=300), nothing, rng, layout(rng), Dirt(), sparse=0.0)
    return replace(draft, faulty=draft.faulty.every(np.arange(int(rng.integers(2, 30)))))


def _garbled(rng: Rng) -> Draft:
    s = series(rng, steps=int(rng.integers(100, 3000)))
    return compare(
        s, nothing, rng, layout(rng), Dirt(missing=float(rng.uniform(0.1, 0.3)), garbage=float(rng.uniform(0.2, 0.4)))
    )


def _foreign(rng: Rng) -> Draft:
    s = series(rng, steps=int(rng.integers(100, 600)))
    shape = Layout(time="none", step_name="n", seconds_name="tick_wibbles", loss_name="objective", throughput_name=None,
                   util_name=None, memory="none", workers=False, node=False)  # fmt: skip
    return replace(compare(s, nothing, rng, shape, sparse=0.0), usable=False)


def _nan_times(rng: Rng) -> Draft:
    draft = compare(series(rng, steps=int(rng.integers(100, 600))), nothing, rng, replace(layout(rng), time="none"))
    return replace(draft, faulty=replace(draft.faulty, seconds=np.full(len(draft.faulty.step), np.nan)), usable=False)


WELL = {"incident": False}
STEP = {"drift_step": True}
LOSS = {"drift_loss": True}
SLOW = {"straggler": True}
BURST = {"burst": True}
FAMILIES = registry(
    Family("plain", 10, oddly(mood="plain"), WELL),
    Family("regimes", 10, oddly(mood="regimes"), WELL),
    Family("long_memory", 10, oddly(mood="memory"), WELL),
    Family("cascade", 8, oddly(mood="cascade"), WELL),
    Family("heavy_tails", 8, oddly(_tails, mood="tails"), WELL),
    Family("single_shocks", 10, oddly(_singles), WELL),
    Family("wander", 12, oddly(_wanders), WELL),
    Family("days", 10, oddly(_days, mood="plain"), WELL),
    Family("lattice", 10, oddly(_lattice), WELL),
    Family("two_lattices", 10, oddly(_two_lattices), WELL),
    Family("timed_pauses", 12, oddly(_timed_pauses), WELL),
    Family("slow_start", 8, oddly(_slow_start), WELL),
    Family("one_hump", 8, oddly(change=_one_hump), {}),
    Family("gets_faster", 6, oddly(_gets_faster), WELL),
    Family("longer_sequences", 10, oddly(_longer_sequences, full=True, mood="plain"), WELL),
    Family("planned_without_throughput", 10, _planned, {"pr_ok": False}),
    Family("rotating_worker", 10, oddly(_rotating, workers=(8, 16, 24, 64), full=True), WELL),
    Family("mixed_lengths", 10, oddly(_mixed, full=True), WELL),
    Family("unequal_workers", 8, oddly(_unequal, full=True), WELL),
    Family("one_noisy_worker", 8, oddly(_one_noisy, full=True), WELL),
    Family("quicker_input", 8, oddly(_quicker, full=True), WELL),
    Family("pinned_throughout", 8, oddly(_pinned, full=True), WELL),
    Family("memory_sawtooth", 8, oddly(_sawtooth, full=True), WELL),
    Family("util_dips", 6, oddly(_util_dips, full=True), WELL),
    Family("loss_recovers", 10, oddly(_recovers), WELL),
    Family("loss_restarts", 10, oddly(_restarts), WELL),
    Family("loss_with_validation", 10, oddly(_validation), WELL),
    Family("loss_noisy", 8, oddly(_noisy_loss), WELL),
    Family("bare", 6, _bare, {}),
    Family("only_clock", 6, _only_clock, {}),
    Family("soiled", 8, _soiled(nothing), WELL),
    Family("everything", 14, oddly(_everything, full=True), WELL),
    Family("rough", 10, oddly(_rough, full=True), WELL),
    Family("short", 8, _short, {"insufficient": True}),
    Family("garbled", 6, _garbled, {"insufficient": True}),
    Family("foreign", 4, _foreign, {"insufficient": True}),
    Family("nan_times", 4, _nan_times, {"insufficient": True}),
    Family("shift", 10, ill(shift(0.2, 0.75)), STEP),
    Family("shift_early", 10, ill(shift(0.06, 0.15)), STEP),
    Family("shift_late", 10, ill(shift(0.85, 0.9)), STEP),
    Family("shift_weak", 8, ill(shift(0.2, 0.7, 0.115, 0.15)), STEP),
    Family("shift_amid_pauses", 10, oddly(_two_lattices, _timed_pauses, change=_amid_pauses, full=True), STEP),
    Family("shift_in_long_run", 6, ill(shift(0.88, 0.92), steps=20_000, workers=(2, 4, 8)), STEP),
    Family("slope", 10, ill(slope), STEP),
    Family("stairs", 8, ill(stairs), STEP),
    Family("creeping_walk", 8, ill(_creeping_walk), STEP),
    Family("shift_soiled", 6, _soiled(shift(0.2, 0.7, 0.16)), STEP),
    Family("shift_by_clock", 6, _clock_drift, STEP),
    Family("episodes", 12, _every_step(episodes(0.0, (0.02, 0.06), (4, 20), 1.5, 3.0)), BURST),
    Family("episodes_late", 8, _every_step(episodes(0.6, (0.01, 0.03), (4, 14), 1.6, 3.5)), BURST),
    Family("episodes_weak", 8, _every_step(episodes(0.0, (0.03, 0.06), (6, 20), 1.35, 1.6)), BURST),
    Family("episodes_amid_pauses", 8, _every_step(episodes(0.0, (0.02, 0.06), (4, 20), 1.6, 3.0), _lattice), BURST),
    Family("pairs_of_steps", 8, _every_step(_pairs), BURST),
    Family("slow_worker", 12, ill(slow_worker(0.0, 0.7)), SLOW),
    Family("slow_worker_weak", 8, ill(slow_worker(0.0, 0.4, 0.14, 0.18)), SLOW),
    Family("slow_worker_of_two", 8, ill(slow_worker(0.0, 0.5), workers=(2,)), SLOW),
    Family("slow_worker_late", 8, ill(slow_worker(0.85, 0.89, 0.2)), SLOW),
    Family("slow_worker_for_a_while", 6, ill(slow_worker(0.1, 0.4, 0.3, 1.0, until=0.4)), SLOW),
    Family("slow_workers", 8, ill(slow_worker(0.0, 0.5, 0.18, 0.9, count=2), workers=(6, 8, 16, 64)), SLOW),
    Family("slow_host", 8, ill(_host, workers=(8, 16, 24, 64, 128)), SLOW),
    Family("comes_and_goes", 10, _every_step(_comes_and_goes), SLOW),
    Family("flickers", 8, _every_step(_flickers), SLOW),
    Family("changes_places", 6, ill(_changes_places, workers=(6, 8, 16, 24)), SLOW),
    Family("getting_worse", 6, ill(_getting_worse), SLOW),
    Family("slow_worker_soiled", 6, _soiled(slow_worker(0.0, 0.6, 0.2)), SLOW),
    Family("contention", 12, ill(_contention), {"gpu_saturated": True}),
    Family("memory_full", 10, ill(_memory_full), {"gpu_saturated": True}),
    Family("network", 10, ill(_network), {"comm_congestion": True}),
    Family("hang", 6, _every_step(hangs(1)), {"near_hang": True}),
    Family("hangs", 6, _every_step(hangs(4)), {"near_hang": True}),
    Family("loss_step", 10, ill(loss_up(0.3, 0.75, 0.12, 0.8)), LOSS),
    Family("loss_step_late", 8, ill(loss_up(0.85, 0.9, 0.12, 0.6)), LOSS),
    Family("loss_step_weak", 8, ill(loss_up(0.4, 0.8, 0.095, 0.15)), LOSS),
    Family("loss_slope", 10, ill(loss_up(0.3, 0.7, 0.15, 1.0, "slope")), LOSS),
    Family("loss_walk", 8, ill(loss_up(0.3, 0.7, 0.2, 1.0, "walk")), LOSS),
    Family("loss_broken", 8, ill(broken_loss(0.3, 0.85)), LOSS),
    Family("loss_broken_late", 8, ill(broken_loss(0.93, 0.955)), LOSS),
    Family("shift_in_everything", 8, oddly(_everything, change=shift(0.2, 0.8, 0.15), full=True), STEP),
    Family("shift_in_rough", 8, oddly(_rough, change=shift(0.2, 0.8), full=True), STEP),
    Family("slope_in_rough", 6, oddly(_rough, change=slope, full=True), STEP),
    Family("worker_in_everything", 8, oddly(_everything, change=slow_worker(0.0, 0.7), full=True), SLOW),
    Family("worker_in_mixed_lengths", 8, oddly(_mixed, change=slow_worker(0.0, 0.6, 0.18), full=True), SLOW),
    Family("now_and_then", 6, _every_step(_now_and_then), SLOW),
    Family("episodes_in_rough", 8, _every_step(episodes(0.0, (0.02, 0.06), (4, 16), 1.5, 2.5), _rough), BURST),
    Family("episodes_in_everything", 8, _every_step(episodes(0.0, (0.02, 0.05), (5, 16), 1.6, 2.5), _everything), BURST),
    Family("loss_step_in_noise", 8, oddly(_noisy_loss, change=loss_up(0.3, 0.75, 0.15, 0.6), full=True), LOSS),
    Family("loss_slope_in_noise", 6, oddly(_noisy_loss, change=loss_up(0.3, 0.6, 0.2, 0.8, "slope"), full=True), LOSS),
    Family("worker_and_loss", 6, ill(both(slow_worker(0.1, 0.6, 0.2), loss_up(0.3, 0.7, 0.15, 0.8))), SLOW | LOSS),
    Family("episodes_and_loss", 6, _every_step(both(episodes(0.0, (0.02, 0.05), (4, 20), 1.6, 3.0), loss_up(0.3, 0.7, 0.15, 0.8))), BURST | LOSS),
)  # fmt: skip
