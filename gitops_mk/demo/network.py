"""What is trained: a small classifier in numpy, its data, and stochastic gradient descent with accumulation.

Double precision throughout, so that gradients summed over any split of a batch agree to rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

FEATURES = 32
HIDDEN = 256
CLASSES = 10
SAMPLES = 8192
# Bytes of activations that a sample's forward pass keeps for the backward pass.
ACTIVATION_BYTES = (FEATURES + 2 * HIDDEN + CLASSES) * 8


class Data:
    """A fixed set of samples in an endless, reproducible order; a sample has a place in the stream, not in a batch."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        centres = rng.normal(size=(CLASSES, FEATURES))
        self._y: Labels = rng.integers(0, CLASSES, size=SAMPLES)
        self._x: Array = centres[self._y] + rng.normal(scale=2.0, size=(SAMPLES, FEATURES))
        self._seed = seed
        self._epoch = -1
        self._order: Labels = np.arange(SAMPLES)

    def batch(self, start: int, size: int) -> tuple[Array, Labels]:
        """The samples from place `start` on: (size, FEATURES) and (size,)."""
        places = np.array([self._at(start + i) for i in range(size)])
        return self._x[places], self._y[places]

    def _at(self, place: int) -> int:
        epoch, index = divmod(place, SAMPLES)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, 2, epoch]).permutation(SAMPLES)
        return int(self._order[index])


class Kept(NamedTuple):
    """What the forward pass keeps for the backward pass: (samples, width) each."""

    x: Array
    h1: Array
    h2: Array
    p: Array


class Network:
    """Two hidden layers of rectified units and a softmax; parameters in one list: w1, b1, w2, b2, w3, b3."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 3])
        widths = (FEATURES, HIDDEN, HIDDEN, CLASSES)
        self.parameters: list[Array] = []
        for fan_in, fan_out in zip(widths, widths[1:], strict=False):
            self.parameters += [rng.normal(scale=np.sqrt(2.0 / fan_in), size=(fan_in, fan_out)), np.zeros(fan_out)]

    def forward(self, x: Array) -> Kept:
        """Class probabilities and what led to them."""
        w1, b1, w2, b2, w3, b3 = self.parameters
        h1 = np.maximum(x @ w1 + b1, 0.0)
        h2 = np.maximum(h1 @ w2 + b2, 0.0)
        z = h2 @ w3 + b3
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z)
        p /= p.sum(axis=1, keepdims=True)
        return Kept(x, h1, h2, p)

    def backward(self, kept: Kept, y: Labels) -> tuple[float, list[Array]]:
        """The cross-entropy summed over the samples, and its gradient, parameter by parameter."""
        _, _, w2, _, w3, _ = self.parameters
        rows = np.arange(len(y))
        loss = float(-np.log(kept.p[rows, y] + 1e-300).sum())
        dz = kept.p.copy()
        dz[rows, y] -= 1.0
        dh2 = (dz @ w3.T) * (kept.h2 > 0)
        dh1 = (dh2 @ w2.T) * (kept.h1 > 0)
        return loss, [
            kept.x.T @ dh1,
            dh1.sum(axis=0),
            kept.h1.T @ dh2,
            dh2.sum(axis=0),
            kept.h2.T @ dz,
            dz.sum(axis=0),
        ]


class Accumulator:
    """Sums microbatches up to one batch: mean loss and mean gradient do not depend on how the batch was split."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._count = 0
        self._sums: list[Array] = []

    def add(self, loss: float, gradients: list[Array], samples: int) -> None:
        """Take in a microbatch's sums."""
        self._loss += loss
        self._count += samples
        self._sums = [a + b for a, b in zip(self._sums, gradients, strict=True)] if self._sums else gradients

    @property
    def loss(self) -> float:
        """The mean loss of the samples so far."""
        return self._loss / self._count

    @property
    def gradients(self) -> list[Array]:
        """The mean gradient of the samples so far."""
        return [total / self._count for total in self._sums]


class Momentum:
    """Stochastic gradient descent with momentum (Polyak 1964)."""

    def __init__(self, network: Network, rate: float = 0.02, momentum: float = 0.9) -> None:
        self._network = network
        self._rate = rate
        self._momentum = momentum
        self._velocity = [np.zeros_like(p) for p in network.parameters]

    def step(self, gradients: Iterable[Array]) -> None:
        """Move the parameters once."""
        for parameter, velocity, gradient in zip(self._network.parameters, self._velocity, gradients, strict=True):
            velocity *= self._momentum
            velocity -= self._rate * gradient
            parameter += velocity
