"""Queries for metrics whose names are known, by where they come from.

Names: NVIDIA's DCGM exporter (https://github.com/NVIDIA/dcgm-exporter, `etc/default-counters.csv`), Ray's system metrics
(https://docs.ray.io/en/latest/ray-observability/reference/system-metrics.html) and torchtitan's metrics
(https://github.com/pytorch/torchtitan, `docs/metrics.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gitops_mk.core.prometheus.roles import ROLES
from gitops_mk.errors import InputError


def _of_pods(metric: str) -> str:
    """A metric of the workload's pods. An exporter that is scraped for others has its own pod under `pod`, theirs under
    `exported_pod`.
    """
    own = f'{metric}{{namespace="$namespace",pod=~"$pods"}}'
    return f'({own} or {metric}{{exported_namespace="$namespace",exported_pod=~"$pods"}})'


def _named(pattern: str) -> str:
    """A metric whose name had characters that Prometheus 2 has no room for: as it is, or with `_` in their place."""
    return f'{{__name__=~"{pattern}",namespace="$namespace",pod=~"$pods"}}'


def _share(used: str, free: str) -> str:
    return f"max(100 * {used} / ({used} + {free}))"


def _per_gpu(metric: str) -> str:
    return f'sum by (instance, GpuIndex) ({metric}{{namespace="$namespace",pod=~"$pods"}})'


PRESETS: Final[Mapping[str, Mapping[str, str]]] = {
    "dcgm": {
        "gpu_util_pct": f"avg by (Hostname, modelName) ({_of_pods('DCGM_FI_DEV_GPU_UTIL')})",
        # Not MEM_COPY_UTIL, which is time of the memory's bandwidth.
        "gpu_mem_util_pct": _share(_of_pods("DCGM_FI_DEV_FB_USED"), _of_pods("DCGM_FI_DEV_FB_FREE")),
        "gpu_sm_clock_mhz": f"min({_of_pods('DCGM_FI_DEV_SM_CLOCK')})",
    },
    # Ray exports no time of a step by itself: a query of the job's own metric has to say it.
    "ray": {
        "gpu_util_pct": 'avg by (GpuDeviceName) (ray_node_gpus_utilization{namespace="$namespace",pod=~"$pods"})',
        "gpu_mem_util_pct": _share(_per_gpu("ray_node_gram_used"), _per_gpu("ray_node_gram_available")),
    },
    "torchtitan": {
        "step_time_s": f"max({_named('time_metrics[/_]end_to_end[(_]s[)_]?')})",
        "wait_s": f"max({_named('time_metrics[/_]data_loading[(_]s[)_]?')})",
        "loss": f"avg({_named('loss_metrics[/_]global_avg_loss')})",
        "throughput": f"avg({_named('throughput[(_]tps[)_]?')})",
        "gpu_mem_util_pct": f"max({_named('memory[/_]max_reserved[(_][%_]?[)_]?')})",
        "alloc_retries": f"max({_named('memory[/_]num_alloc_retries')})",
    },
}


def combined(own: Iterable[Mapping[str, str]], presets: Iterable[str]) -> dict[str, str]:
    """Queries by role: those of one's own, the most particular first, then those of presets, each for what nothing before says.

    Raises InputError for a preset or a role that there is none of, for two roles that say the same in one place, and where
    nothing says how long a step takes.
    """
    layers = list(own)
    for role in (role for layer in layers for role in layer):
        if role not in ROLES:
            raise InputError(f"prometheus: role {role!r}, expected one of {', '.join(ROLES)}")
    for preset in presets:
        if preset not in PRESETS:
            raise InputError(f"prometheus: preset {preset!r}, expected one of {', '.join(PRESETS)}")
        layers.append(PRESETS[preset])
    queries: dict[str, str] = {}
    for layer in layers:
        said = {ROLES[role].group for role in queries}
        queries |= {role: query for role, query in layer.items() if ROLES[role].group not in said}
    _check(queries)
    return queries


def _check(queries: Mapping[str, str]) -> None:
    by_group: dict[str, list[str]] = {}
    for role in queries:
        by_group.setdefault(ROLES[role].group, []).append(role)
    for group, roles in by_group.items():
        if len(roles) > 1 and group != "mem":
            raise InputError(f"prometheus: {' and '.join(roles)} say the same", hint="keep one of them")
    memory = frozenset(by_group.get("mem", ()))
    if memory not in _MEMORY:
        raise InputError(
            f"prometheus: {' and '.join(sorted(memory))} give no percentage",
            hint="give gpu_mem_util_pct, or gpu_mem_used with gpu_mem_free or gpu_mem_total",
        )
    if not {"step", "step_time"} & set(by_group):
        given = ", ".join(queries) or "no query"
        raise InputError(
            f"prometheus: nothing says how long a step takes ({given})",
            hint="add a query for step_time_s, or for step, the number of the last step",
        )


_MEMORY: Final = frozenset(
    {
        frozenset[str](),
        frozenset({"gpu_mem_util_pct"}),
        frozenset({"gpu_mem_used", "gpu_mem_free"}),
        frozenset({"gpu_mem_used", "gpu_mem_total"}),
    }
)
