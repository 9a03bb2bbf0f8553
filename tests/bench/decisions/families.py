"""A family of runs: a kind of thing that happens to training jobs, made from a seed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tests.bench.decisions.lines import Dirt, Layout, write
from tests.bench.decisions.truth import MIN_STEPS, UNKNOWN, Flag, Labels, Run, judge

TRIES = 10
CLEAN = Dirt()


@dataclass(frozen=True)
class Draft:
    """What a builder hands over: the run with its fault, the run without, how it is logged, and where the fault begins."""

    faulty: Run
    clean: Run
    layout: Layout
    dirt: Dirt = CLEAN
    onset: int | None = None
    pr_ok: Flag = None
    usable: bool = True


@dataclass(frozen=True)
class Trace:
    """One labelled log."""

    ident: str
    family: str
    lines: list[bytes]
    labels: Labels
    steps: int
    workers: int


@dataclass(frozen=True)
class Family:
    """A builder, how many of it a run at scale 1 takes, and the labels it is meant to end with.

    A draft whose measured labels are others is drawn anew, a few times over; after that it is kept as what it is.
    """

    name: str
    count: int
    build: Callable[[np.random.Generator], Draft]
    want: Mapping[str, Flag]

    def make(self, generator: str, seed: int, number: int) -> Trace:
        """The trace with this number; the same for the same seed, on any machine and in any order."""
        for attempt in range(TRIES):
            rng = np.random.default_rng([seed, zlib.crc32(f"{generator}/{self.name}".encode()), number, attempt])
            draft = self.build(rng)
            labels = labels_of(draft)
            if all(getattr(labels, name) is flag for name, flag in self.want.items()):
                break
        lines = write(draft.faulty, draft.layout, draft.dirt, rng)
        ident = f"{generator}_{self.name}_{number:03d}"
        return Trace(ident, self.name, lines, labels, len(draft.faulty.step), draft.faulty.workers.shape[1])


def labels_of(draft: Draft) -> Labels:
    """Measured, unless there is too little to measure."""
    lost = draft.dirt.cut + draft.dirt.garbage + draft.dirt.missing
    if len(draft.faulty.step) < MIN_STEPS or lost > 0.2 or not draft.usable:
        return UNKNOWN
    return judge(draft.faulty, draft.clean, draft.layout.shown(), draft.onset, draft.pr_ok)


def registry(*families: Family) -> dict[str, Family]:
    """By name; a name taken twice is a mistake."""
    made = {family.name: family for family in families}
    if len(made) != len(families):
        raise ValueError("two families share a name")
    return made
