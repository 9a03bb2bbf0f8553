"""A batch of step records as columns: what the readers make and detection eats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]


def _not_given() -> F64:
    return np.empty(0)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Step records, one a row. NaN means "not given" everywhere.

    ts: epoch milliseconds. step_ms: milliseconds, NaN where it is still to be derived. loss: `inf` stands for a loss
    that was given and is not finite. util, mem: percent. comm_ms: milliseconds. wait_ms: milliseconds a step waited for
    input. retries: allocations retried since the start. clock_mhz: clock of the GPU's multiprocessors, MHz.
    segment: how often the job had resumed by then. workers: rows x workers, milliseconds. The three columns that most
    jobs do not give may be left out.
    """

    ts: F64
    step: F64
    step_ms: F64
    loss: F64
    throughput: F64
    util: F64
    mem: F64
    comm_ms: F64
    wait_ms: F64 = field(default_factory=_not_given)
    retries: F64 = field(default_factory=_not_given)
    clock_mhz: F64 = field(default_factory=_not_given)
    segment: F64
    workers: F64

    def __post_init__(self) -> None:
        rows = len(self.step_ms)
        for name in ("wait_ms", "retries", "clock_mhz"):
            if len(getattr(self, name)) != rows:
                object.__setattr__(self, name, np.full(rows, np.nan))

    def __len__(self) -> int:
        return len(self.step_ms)

    def take(self, rows: slice | Indices | Bools) -> Columns:
        """The rows that a slice, an index or a mask names."""
        return Columns(**{name: getattr(self, name)[rows] for name in NAMES})


NAMES = tuple(f.name for f in fields(Columns))
EMPTY = Columns(**dict.fromkeys(NAMES[:-1], np.empty(0)), workers=np.empty((0, 0)))


def concat(parts: Sequence[Columns]) -> Columns:
    """The batches below each other; a batch with fewer workers is padded with NaN."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return EMPTY
    width = max(p.workers.shape[1] for p in parts)
    plain = {name: np.concatenate([getattr(p, name) for p in parts]) for name in NAMES[:-1]}
    return Columns(**plain, workers=np.concatenate([pad(p.workers, width) for p in parts]))


def pad(matrix: F64, width: int) -> F64:
    """The matrix with NaN columns added until it has `width` of them."""
    rows, have = matrix.shape
    if have >= width:
        return matrix
    wide = np.full((rows, width), np.nan)
    wide[:, :have] = matrix
    return wide
