"""What a query can stand for, and how several series of one query become one value a sample.

Several series are put together as the records of several ranks are (`core.parse.ranks`): a step took as long as its
slowest rank, the loss is their mean.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Take = Literal["max", "min", "mean", "workers", "paired"]


class Role(NamedTuple):
    """`field`: the name of the record's field, which says the unit. `group`: roles of one group say the same in other units.

    `take`: how several series become one value; `workers` keeps them apart, `paired` meets the same series of another role.
    `held`: it is a state at the time of the sample, of which several in a step are averaged; else the step's first value counts.
    """

    field: str
    group: str
    take: Take
    held: bool = False


ROLES: Final[dict[str, Role]] = {
    "step": Role("step", "step", "max"),
    "step_time_s": Role("step_time_s", "step_time", "max"),
    "step_time_ms": Role("step_time_ms", "step_time", "max"),
    "loss": Role("loss", "loss", "mean"),
    "throughput": Role("throughput", "throughput", "mean"),
    "gpu_util_pct": Role("gpu_util_pct", "util", "mean", held=True),
    "gpu_mem_util_pct": Role("gpu_mem_util_pct", "mem", "max", held=True),
    "gpu_mem_used": Role("gpu_mem_util_pct", "mem", "paired", held=True),
    "gpu_mem_free": Role("gpu_mem_util_pct", "mem", "paired", held=True),
    "gpu_mem_total": Role("gpu_mem_util_pct", "mem", "paired", held=True),
    "gpu_sm_clock_mhz": Role("gpu_sm_clock_mhz", "clock", "min", held=True),
    "alloc_retries": Role("alloc_retries", "retries", "max"),
    "wait_s": Role("wait_s", "wait", "max"),
    "wait_ms": Role("wait_ms", "wait", "max"),
    "comm_s": Role("comm_s", "comm", "mean"),
    "comm_ms": Role("comm_ms", "comm", "mean"),
    "worker_step_time_s": Role("worker_latencies_ms", "workers", "workers"),
    "worker_step_time_ms": Role("worker_latencies_ms", "workers", "workers"),
}
# To the milliseconds of the list of workers, whose one name has one unit.
WORKER_SCALE: Final = {"worker_step_time_s": 1000.0, "worker_step_time_ms": 1.0}
