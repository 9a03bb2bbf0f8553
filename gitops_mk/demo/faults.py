"""The machine that the demo trainer runs on: storage, memory and an accelerator, and what can go wrong with each.

Faults are properties of the machine. None of them knows the knobs: that a chord mends one is the trainer's own doing,
because it then asks for less, asks earlier or asks elsewhere. Times are floors under the real work, so that the demo looks
the same on a fast and on a slow machine.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator
from enum import StrEnum

import numpy as np

from gitops_mk.demo.network import ACTIVATION_BYTES, Array, Kept

NODE = "demo-node-0"
# In a cluster the pod says which node it runs on (Downward API, `spec.nodeName`).
NODE_VARIABLE = "NODE_NAME"
# An accelerator of fixed speed: 14 ms for 32 samples.
DEVICE_S_A_SAMPLE = 0.43e-3
# Healthy storage: 4 ms for 32 samples.
READ_S_A_SAMPLE = 0.125e-3
JITTER = 0.03
SLOW_LOADER = 1
SLOW_READ_S_A_SAMPLE = 1.75e-3
HICCUP_S = (0.31, 0.35)
# At least, more on average, and at most so much apart: off every cadence.
HICCUP_GAP_S = (0.35, 0.4, 4.0)
HICCUP_FACTOR = 11.0
# Room for activations, in microbatches of 32 samples: ample at first, then less and less for more than half of one.
ROOM_AT_FIRST = 1.25
ROOM_AT_LAST = 0.55
SHRINK_FROM_S = 1.5
SHRINK_UNTIL_S = 14.0
SWAP_BYTES_A_S = 7.5e6


class Fault(StrEnum):
    """What goes wrong."""

    NONE = "none"
    STRAGGLER = "straggler"
    DRIFT = "drift"
    BURST = "burst"


class Storage:
    """Where samples are read from. One instance a loader process; `began` is the machine's time zero (monotonic, s)."""

    def __init__(self, fault: Fault, seed: int, loader: int, began: float) -> None:
        self._fault = fault
        self._loader = loader
        self._began = began
        self._rng = np.random.default_rng([seed, 4, loader])
        # All loaders share the storage, so all see the same hiccups.
        self._hiccups = hiccups(seed)
        self._next = next(self._hiccups)

    def read(self, samples: int) -> None:
        """Take as long as reading that many samples takes here and now."""
        a_sample = READ_S_A_SAMPLE
        if self._fault is Fault.STRAGGLER and self._loader == SLOW_LOADER:
            a_sample = SLOW_READ_S_A_SAMPLE
        elif self._fault is Fault.BURST and self._in_hiccup(time.monotonic() - self._began):
            a_sample *= HICCUP_FACTOR
        time.sleep(samples * a_sample * max(0.5, 1.0 + JITTER * float(self._rng.normal())))

    def _in_hiccup(self, now: float) -> bool:
        while self._next[1] <= now:
            self._next = next(self._hiccups)
        return self._next[0] <= now


def hiccups(seed: int) -> Iterator[tuple[float, float]]:
    """When the storage is slow, as (from, until) in seconds since time zero: irregular, the same for equal seeds."""
    rng = np.random.default_rng([seed, 5])
    at = 0.0
    while True:
        least, more, most = HICCUP_GAP_S
        at += min(most, least + float(rng.exponential(more)))
        until = at + float(rng.uniform(*HICCUP_S))
        yield at, until
        at = until


class Memory:
    """Room for activations on the host. What does not fit is written to a file and read back, at the speed of a disk.

    The file has no name, so that nothing is left when the process is killed.
    """

    def __init__(self, fault: Fault, began: float) -> None:
        self._fault = fault
        self._began = began
        self._file = tempfile.TemporaryFile(prefix="mk-demo-swap-")  # noqa: SIM115 (held until `close`)

    def room(self) -> float:
        """Bytes of activations that fit now."""
        share = ROOM_AT_FIRST
        if self._fault is Fault.DRIFT:
            gone = (time.monotonic() - self._began - SHRINK_FROM_S) / (SHRINK_UNTIL_S - SHRINK_FROM_S)
            share -= (ROOM_AT_FIRST - ROOM_AT_LAST) * min(1.0, max(0.0, gone))
        return share * 32 * ACTIVATION_BYTES

    def through(self, kept: Kept) -> Kept:
        """The activations after their wait for the backward pass: the same values, some of them by way of the disk."""
        excess = len(kept.x) * ACTIVATION_BYTES - self.room()
        if excess <= 0:
            return kept
        began = time.monotonic()
        rows = min(len(kept.x), math.ceil(excess / ACTIVATION_BYTES))
        swapped = kept._replace(h1=self._swap(kept.h1, rows, 0), h2=self._swap(kept.h2, rows, kept.h1.nbytes))
        time.sleep(max(0.0, excess / SWAP_BYTES_A_S - (time.monotonic() - began)))
        return swapped

    def _swap(self, values: Array, rows: int, place: int) -> Array:
        part = np.ascontiguousarray(values[:rows])
        os.pwrite(self._file.fileno(), part.tobytes(), place)
        os.fsync(self._file.fileno())
        back = np.frombuffer(os.pread(self._file.fileno(), part.nbytes, place), dtype=part.dtype)
        return np.concatenate([back.reshape(part.shape), values[rows:]])

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


class Device:
    """A stand-in for an accelerator: a microbatch takes at least as long as one of fixed speed would need."""

    def finish(self, samples: int, spent: float) -> None:
        """Wait for the rest of the work on `samples`, of which the host has done `spent` seconds' worth."""
        time.sleep(max(0.0, samples * DEVICE_S_A_SAMPLE - spent))
