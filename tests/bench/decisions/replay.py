"""Two questions about one reader that need no labels: does it stay calm while a healthy run passes by, and does it say the same about the
same run told differently?
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np

from tests.bench.decisions.prediction import Prediction
from tests.bench.decisions.reading import COMM, RATES, SECONDS, TIMES, record
from tests.bench.decisions.truth import ACTIONS

Reader = Callable[[bytes], Prediction]
WINDOW, HOP, WINDOWS = 300, 60, 80
LONG = 1_000
FACTOR, LATER = 3.7, 90_061.0


@dataclass(frozen=True)
class Calm:
    """Windows read, how many would raise a pull request at once, and how many pull requests two and three in a row would."""

    windows: int = 0
    once: int = 0
    twice: int = 0
    thrice: int = 0

    def __add__(self, other: Calm) -> Calm:
        return Calm(
            self.windows + other.windows,
            self.once + other.once,
            self.twice + other.twice,
            self.thrice + other.thrice,
        )


def stream(lines: list[bytes], read: Reader, rng: np.random.Generator) -> Calm:
    """A healthy run in sliding windows; of a long one, a stretch of so many windows at a random place."""
    places = range(0, len(lines) - WINDOW + 1, HOP)
    first = int(rng.integers(0, max(1, len(places) - WINDOWS + 1)))
    fires = [read(b"\n".join(lines[at : at + WINDOW]) + b"\n").pr for at in places[first : first + WINDOWS]]
    return Calm(
        len(fires),
        sum(fires),
        _opened(fires, 2),
        _opened(fires, 3),
    )


def _opened(fires: list[bool], confirm: int) -> int:
    """How many pull requests: one for each unbroken run of windows that is long enough."""
    return sum(fire and len(list(run)) >= confirm for fire, run in groupby(fires))


def scaled(lines: list[bytes], _: np.random.Generator) -> list[bytes]:
    """A machine that is so many times slower in everything."""
    start: list[Any] = []

    def change(found: dict[str, Any]) -> None:
        for name in (*SECONDS, *COMM):
            _times(found, name, FACTOR)
        for name in RATES:
            _times(found, name, 1.0 / FACTOR)
        if isinstance(found.get("worker_latencies_ms"), list):
            found["worker_latencies_ms"] = [
                w * FACTOR if isinstance(w, int | float) else w for w in found["worker_latencies_ms"]
            ]
        name = _clock(found)
        if name:
            start.append(found[name])
            found[name] = _moved(found[name], start[0], FACTOR, 0.0)

    return _each(lines, change)


def shifted(lines: list[bytes], _: np.random.Generator) -> list[bytes]:
    """The same run on another day."""

    def change(found: dict[str, Any]) -> None:
        name = _clock(found)
        if name:
            found[name] = _moved(found[name], found[name], 1.0, LATER)

    return _each(lines, change)


def shuffled(lines: list[bytes], rng: np.random.Generator) -> list[bytes]:
    """Lines that arrive up to three places off."""
    order = np.argsort(np.arange(len(lines)) + rng.uniform(0.0, 4.0, len(lines)), kind="stable")
    return [lines[i] for i in order]


def thinned(lines: list[bytes], rng: np.random.Generator) -> list[bytes]:
    """One line in ten never arrives."""
    keep = rng.random(len(lines)) >= 0.1
    return [line for line, kept in zip(lines, keep.tolist(), strict=True) if kept]


def permuted(lines: list[bytes], rng: np.random.Generator) -> tuple[list[bytes], list[int]]:
    """The workers in another order; the second value says where each new place's worker stood before."""
    count = next(
        (
            len(f["worker_latencies_ms"])
            for f in map(record, lines)
            if f and isinstance(f.get("worker_latencies_ms"), list)
        ),
        0,
    )
    order = [int(i) for i in rng.permutation(count)]

    def change(found: dict[str, Any]) -> None:
        for name in ("worker_latencies_ms", "pp_stage"):
            if isinstance(found.get(name), list) and len(found[name]) == count:
                found[name] = [found[name][i] for i in order]

    return _each(lines, change), order


CHANGES: Mapping[str, Callable[[list[bytes], np.random.Generator], list[bytes]]] = {
    "scaled": scaled,
    "shifted": shifted,
    "shuffled": shuffled,
    "thinned": thinned,
}


def invariances(lines: list[bytes], read: Reader, rng: np.random.Generator) -> dict[str, bool]:
    """Whether the same is said (signals that lead to action, and culprits) about the run told in each other way."""
    before = read(b"\n".join(lines) + b"\n")
    out: dict[str, bool] = {}
    for name, change in CHANGES.items():
        after = read(b"\n".join(change(lines, rng)) + b"\n")
        out[name] = _same(before, after) and before.culprits == after.culprits
    moved, order = permuted(lines, rng)
    if order:
        after = read(b"\n".join(moved) + b"\n")
        back = tuple(sorted(order[i] for i in after.culprits if i < len(order)))
        out["permuted"] = _same(before, after) and back == tuple(sorted(before.culprits))
    return out


def _same(a: Prediction, b: Prediction) -> bool:
    return a.signals & set(ACTIONS) == b.signals & set(ACTIONS) and a.insufficient == b.insufficient


def _clock(found: dict[str, Any]) -> str:
    """The field with the time; none when nothing can be told from it."""
    name = next((name for name in TIMES if isinstance(found.get(name), int | float | str)), "")
    if name and isinstance(found[name], str):
        try:
            datetime.fromisoformat(found[name])
        except ValueError:
            return ""
    return name


def _moved(value: Any, origin: Any, factor: float, later: float) -> Any:
    if isinstance(value, str) != isinstance(origin, str):
        return value
    if isinstance(value, str):
        at, zero = datetime.fromisoformat(value), datetime.fromisoformat(origin)
        return (zero + (at - zero) * factor + timedelta(seconds=later)).isoformat(timespec="milliseconds")
    # Nobody trains in the year 5138: what is larger counts milliseconds.
    return origin + (value - origin) * factor + later * (1000.0 if value > 1e11 else 1.0)


def _times(found: dict[str, Any], name: str, factor: float) -> None:
    if isinstance(found.get(name), int | float):
        found[name] *= factor


def _each(lines: list[bytes], change: Callable[[dict[str, Any]], None]) -> list[bytes]:
    out: list[bytes] = []
    for line in lines:
        found = record(line)
        if found is None or "event" in found:
            out.append(line)
            continue
        change(found)
        out.append(json.dumps(found).encode())
    return out
