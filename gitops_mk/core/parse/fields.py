"""Which names a field goes by and in which unit; the unit follows from the name and is never guessed from values.

Names: the conventions of torchtitan, Megatron-LM, DeepSpeed, Hugging Face, Lightning, Composer, Ray and the DCGM
exporter, beside our own. `a/b`, `a.b` and `{"a": {"b": …}}` are one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from gitops_mk.errors import InputError

PLANNED_EVENTS = frozenset({"checkpoint", "eval", "resume", "schedule"})
# Objects whose members are read as if they stood in the record itself.
CONTAINERS: Final = ("metrics", "train_metrics", "train", "data", "extra")


class Alias(NamedTuple):
    """What a name stands for: the role it fills, its rank among the names of that role, the factor to the role's
    unit.
    """

    role: str
    rank: int
    scale: float = 1.0


Aliases = Mapping[str, Alias]


def _names(role: str, *names: str, scale: float = 1.0, first: int = 0) -> dict[str, Alias]:
    return {name: Alias(role, first + i, scale) for i, name in enumerate(names)}


def _dotted(names: dict[str, Alias]) -> dict[str, Alias]:
    return names | {name.replace("/", "."): alias for name, alias in names.items() if "/" in name}


ALIASES: Final[Aliases] = _dotted(
    {
        **_names("ts", "ts", "timestamp", "time", "@timestamp", "t", "_timestamp"),
        **_names(
            "step", "step", "global_step", "iteration", "iter", "training_iteration", "_step", "trainer/global_step"
        ),
        **_names(
            "step_ms",
            "step_time_ms",
            "latency_ms",
            "duration_ms",
            "iter_time_ms",
            "iteration_time_ms",
            "elapsed time per iteration (ms)",
            "elapsed_time_per_iteration_ms",
        ),
        **_names(
            "step_ms",
            "step_time_s",
            "step_time",
            "iter_time_s",
            "iter_time",
            "time_this_iter_s",
            "time_metrics/end_to_end(s)",
            "elapsed time per iteration (s)",
            "iter time (s)",
            scale=1000.0,
            first=20,
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
            "train_loss_step",
            "train/loss_step",
            "loss/train/total",
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
            "throughput/samples_per_sec",
            "samples per second",
            "tokens_per_second",
            "samples_per_second",
        ),
        **_names("util", "gpu_util_pct", "gpu_utilization_pct", "gpu_util", "gpu_utilization", "DCGM_FI_DEV_GPU_UTIL"),
        **_names("mem", "gpu_mem_util_pct", "gpu_mem_pct", "memory/max_reserved(%)"),
        **_names(
            "mem_used",
            "gpu_mem_used_mb",
            "gpu_mem_used_mib",
            "gpu_mem_used",
            "gpu_mem_used_bytes",
            "DCGM_FI_DEV_FB_USED",
        ),
        **_names("mem_total", "gpu_mem_total_mb", "gpu_mem_total_mib", "gpu_mem_total", "gpu_mem_total_bytes"),
        **_names("mem_free", "DCGM_FI_DEV_FB_FREE", "gpu_mem_free_mb", "gpu_mem_free_mib", "gpu_mem_free"),
        **_names("comm_ms", "comm_ms", "comm_time_ms", "allreduce_ms"),
        **_names("comm_ms", "comm_s", "comm_time_s", scale=1000.0, first=10),
        **_names(
            "wait_ms",
            "wait_ms",
            "input_wait_ms",
            "data_wait_ms",
            "data_time_ms",
            "data_loading_ms",
            "dataloader_wait_ms",
            "batch_load_ms",
        ),
        **_names(
            "wait_ms",
            "wait_s",
            "input_wait_s",
            "data_wait_s",
            "data_time_s",
            "data_time",
            "data_loading_s",
            "dataloader_wait_s",
            "batch_load_s",
            "time_metrics/data_loading(s)",
            scale=1000.0,
            first=20,
        ),
        **_names("retries", "memory/num_alloc_retries", "num_alloc_retries", "alloc_retries", "cuda_alloc_retries"),
        **_names("clock_mhz", "gpu_sm_clock_mhz", "sm_clock_mhz", "gpu_clock_mhz", "DCGM_FI_DEV_SM_CLOCK"),
        **_names("own_ms", "compute_ms", "worker_latency_ms", "compute_time_ms"),
        **_names("own_ms", "compute_s", "compute_time_s", scale=1000.0, first=10),
        **_names("rank", "rank", "global_rank", "worker", "worker_id", "node_rank"),
        **_names("workers", "worker_latencies_ms"),
        **_names("worker_ids", "worker_ids"),
        **_names("worker_nodes", "worker_nodes"),
        **_names("worker_ranks", "worker_ranks"),
        **_names("worker_stages", "worker_stages", "pp_stages", "pp_stage"),
        **_names("node", "node", "hostname", "Hostname"),
        **_names("gpu_model", "gpu_model", "modelName"),
        **_names("event", "event"),
    }
)

# Roles whose values are plain numbers.
NUMBERS = frozenset(
    {
        "step",
        "step_ms",
        "throughput",
        "util",
        "mem",
        "mem_used",
        "mem_total",
        "mem_free",
        "comm_ms",
        "wait_ms",
        "retries",
        "clock_mhz",
        "own_ms",
    }
)
TEXTS = frozenset({"node", "gpu_model"})
LISTS = frozenset({"workers", "worker_ids", "worker_nodes", "worker_ranks", "worker_stages"})
# What tells a record of a training step from any other line.
STEP_ROLES = frozenset({"step", "step_ms", "loss", "throughput", "event"})

_VALIDATION = re.compile(r"(?:eval|val|valid|validation)[_/.]")
_REQUEST = frozenset({"path", "http_method", "url", "uri", "route", "endpoint", "status_code", "http_status"})
_VALIDATION_ALIAS: Final = Alias("validation", 0)
_REQUEST_ALIAS: Final = Alias("request", 0)


def known(name: str, aliases: Aliases) -> Alias | None:
    """What a name stands for, None for one that means nothing to us.

    Beside the fields there are two roles that say what a line is not: `validation` (a row of an evaluation) and
    `request` (a line of an access log).
    """
    found = aliases.get(name)
    if found is not None:
        return found
    if _VALIDATION.match(name):
        return _VALIDATION_ALIAS
    return _REQUEST_ALIAS if name in _REQUEST else None


def outers(aliases: Aliases) -> frozenset[str]:
    """Names of objects whose members may be fields."""
    split = (re.split(r"[/.]", name, maxsplit=1) for name in aliases)
    return frozenset({*CONTAINERS, "eval", "val", "validation", *(p[0] for p in split if len(p) == 2)})


def flattened(record: Mapping[str, Any], aliases: Aliases, outside: frozenset[str]) -> dict[str, Any]:
    """The record with the known members of its objects, one level deep, under their own names.

    A member of an object is known as `object/member`, or by its own name in one of the CONTAINERS; what stands in the
    record itself goes before it.
    """
    out = dict(record)
    for outer, inside in record.items():
        if not isinstance(inside, dict) or outer not in outside:
            continue
        out[outer] = None
        for inner, value in inside.items():
            name = f"{outer}/{inner}"
            if known(name, aliases) is None:
                if outer not in CONTAINERS or known(inner, aliases) is None:
                    continue
                name = inner
            if out.get(name) is None:
                out[name] = value
    return out


def with_fields(fields: Mapping[str, str]) -> Aliases:
    """The known names, and beside them a job's own: role to the job's name. The role is any name of ours and says the unit.

    Raises InputError for a role that there is none of, and for a name that is given twice.
    """
    if not fields:
        return ALIASES
    own: dict[str, Alias] = {}
    for role, name in fields.items():
        alias = ALIASES.get(role)
        if alias is None:
            raise InputError(
                f"field {role!r}, expected one of ours",
                hint=f"for example {', '.join(EXAMPLES)}; docs/telemetry.md has them all",
            )
        if name in own or not name:
            raise InputError(f"fields: {name!r} can't stand for {role}", hint="each name stands for one field")
        own[name] = Alias(alias.role, -1, alias.scale)
    return {**ALIASES, **_dotted({name.replace(".", "/"): alias for name, alias in own.items()}), **own}


EXAMPLES: Final[Iterable[str]] = ("step_time_s", "step_time_ms", "loss", "step", "ts", "throughput", "data_time_s")
