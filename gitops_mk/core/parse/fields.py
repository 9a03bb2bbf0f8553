"""Which names a field goes by and in which unit; the unit follows from the name and is never guessed from values.

Names: the conventions of torchtitan, Megatron-LM, DeepSpeed, Hugging Face, Ray and the DCGM exporter, beside our own.
"""

from __future__ import annotations

from typing import NamedTuple

PLANNED_EVENTS = frozenset({"checkpoint", "eval", "resume", "schedule"})


class Alias(NamedTuple):
    """What a name stands for: the role it fills, its rank among the names of that role, the factor to the role's
    unit.
    """

    role: str
    rank: int
    scale: float = 1.0


def _names(role: str, *names: str, scale: float = 1.0, first: int = 0) -> dict[str, Alias]:
    return {name: Alias(role, first + i, scale) for i, name in enumerate(names)}


ALIASES: dict[str, Alias] = {
    **_names("ts", "ts", "timestamp", "time", "@timestamp", "t", "_timestamp"),
    **_names("step", "step", "global_step", "iteration", "iter", "training_iteration", "_step"),
    **_names("step_ms", "step_time_ms", "latency_ms", "duration_ms", "iter_time_ms", "iteration_time_ms"),
    **_names(
        "step_ms",
        "step_time_s",
        "step_time",
        "iter_time_s",
        "iter_time",
        "time_this_iter_s",
        "time_metrics/end_to_end(s)",
        scale=1000.0,
        first=10,
    ),
    **_names(
        "loss",
        "loss",
        "train_loss",
        "train/loss",
        "lm loss",
        "lm_loss",
        "reduced_train_loss",
        "loss_metrics/global_avg_loss",
    ),
    **_names(
        "throughput",
        "throughput",
        "tps",
        "tokens_per_sec",
        "samples_per_sec",
        "samples/sec",
        "train_samples_per_second",
        "throughput(tps)",
        "throughput/batches_per_sec",
        "train/device/samples_per_sec",
    ),
    **_names("util", "gpu_util_pct", "gpu_utilization_pct", "gpu_util", "gpu_utilization", "DCGM_FI_DEV_GPU_UTIL"),
    **_names("mem", "gpu_mem_util_pct", "gpu_mem_pct", "memory/max_reserved(%)"),
    **_names(
        "mem_used", "gpu_mem_used_mb", "gpu_mem_used_mib", "gpu_mem_used", "gpu_mem_used_bytes", "DCGM_FI_DEV_FB_USED"
    ),
    **_names("mem_total", "gpu_mem_total_mb", "gpu_mem_total_mib", "gpu_mem_total", "gpu_mem_total_bytes"),
    **_names("mem_free", "DCGM_FI_DEV_FB_FREE"),
    **_names("comm_ms", "comm_ms", "comm_time_ms", "allreduce_ms"),
    **_names("comm_ms", "comm_s", "comm_time_s", scale=1000.0, first=10),
    **_names("workers", "worker_latencies_ms"),
    **_names("worker_ids", "worker_ids", "worker_ranks", "worker_nodes"),
    **_names("worker_stages", "pp_stage", "pp_stages", "worker_stages"),
    **_names("node", "node", "hostname", "Hostname"),
    **_names("gpu_model", "gpu_model", "modelName"),
    **_names("event", "event"),
}

# Roles whose values are plain numbers.
NUMBERS = frozenset({"step", "step_ms", "throughput", "util", "mem", "mem_used", "mem_total", "mem_free", "comm_ms"})
TEXTS = frozenset({"node", "gpu_model"})
