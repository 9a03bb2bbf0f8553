"""How much of a trouble is left when knobs stand elsewhere: small models that recipes solve and promises are made by.

Each gives what is left as a share: of the slow worker's excess, of the bursts' time, of the memory a step needs at once.
"""

from __future__ import annotations

from typing import Final

GRAD_ACCUM: Final = "grad_accum_steps"
MICROBATCH: Final = "microbatch_size"
WORKERS: Final = "dataloader_num_workers"
PREFETCH: Final = "dataloader_prefetch_factor"


def slow_loader(excess: float, slow_share: float, loaders: tuple[int, int], queue: tuple[int, int]) -> float:
    """What is left of a slow loader's excess over its peers, both as fractions; knobs as (before, after).

    Batches are taken in turn: of n loaders one that needs 1 + e times as long can hand over one in n steps, so a step
    waits (1 + e) / n of a batch's time for it. A queue averages its last batches: of a loader that is slow in a share of
    steps only, a deeper one hides the more.
    """
    share = min(max(slow_share, 0.0), 1.0)

    def seen_through(depth: int) -> float:
        return share + (1.0 - share) / max(1, depth)

    behind = excess * seen_through(queue[1]) / seen_through(queue[0])
    return max(0.0, (1.0 + behind) * loaders[0] / max(1, loaders[1]) - 1.0)


def bursts(batches: float, loaders: tuple[int, int], queue: tuple[int, int]) -> float:
    """The part of each stall of `batches` that more batches kept ready do not cover."""
    more = loaders[1] * queue[1] - loaders[0] * queue[0]
    return max(0.0, 1.0 - more / max(batches, 1e-9))


def memory(before: int, after: int) -> float:
    """The share of a microbatch's activations that one of another size needs: they grow with it."""
    return after / max(1, before)
