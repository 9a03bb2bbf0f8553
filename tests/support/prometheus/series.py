"""Metrics of made-up training jobs, as an exporter would have shown them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from gitops_mk.adapters.telemetry.synthetic import SyntheticSource

STEP_S = 15
NAMESPACE = "ml"
HOUR = 3600


class Metrics:
    """Samples by metric and labels. `end` is the time of the newest one, in epoch seconds."""

    def __init__(self, end: int | None = None) -> None:
        self.end = int(time.time()) // STEP_S * STEP_S if end is None else end
        self._families: dict[str, list[str]] = {}

    def add(self, metric: str, labels: dict[str, str], samples: Iterable[tuple[float, float]]) -> None:
        """A series: (epoch seconds, value)."""
        written = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        family = self._families.setdefault(metric, [])
        family += [f"{metric}{{{written}}} {_number(value)} {at:.3f}" for at, value in samples]

    def times(self, count: int, *, step_s: int = STEP_S) -> list[int]:
        """The times of the last `count` samples."""
        return [self.end - (count - 1 - i) * step_s for i in range(count)]

    def openmetrics(self) -> str:
        """Text for `promtool tsdb create-blocks-from openmetrics`."""
        parts = [f"# TYPE {name} gauge\n" + "\n".join(lines) for name, lines in self._families.items()]
        return "\n".join((*parts, "# EOF\n"))


def pod(job: str, number: int = 0) -> str:
    """The name of a pod of a Deployment, as its ReplicaSet makes them."""
    return f"{job}-5d7f9c8b6d-x{'bcdfghjkl'[number]}4q{'mnpqrstvw'[number]}"


def records(scenario: str, steps: int = 480) -> Iterator[dict[str, Any]]:
    """The records of a synthetic scenario."""
    for block in SyntheticSource(scenario, steps=steps).chunks():
        for line in block.splitlines():
            yield json.loads(line)


def train(metrics: Metrics, scenario: str, *, steps_a_sample: int = 30) -> None:
    """A job called like its scenario, one sample of its exporter every 15 s, with a GPU that DCGM watches."""
    told = list(records(scenario))
    times = metrics.times(len(told))
    labels = {"namespace": NAMESPACE, "pod": pod(scenario)}
    for metric, name, scale in (
        ("train_step_seconds", "step_time_ms", 0.001),
        ("train_loss", "loss", 1.0),
        ("train_tokens_per_second", "throughput", 1.0),
        ("train_step", "step", float(steps_a_sample)),
    ):
        metrics.add(metric, labels, [(t, r[name] * scale) for t, r in zip(times, told, strict=True)])
    for rank in range(len(told[0]["worker_latencies_ms"])):
        series = [(t, r["worker_latencies_ms"][rank] / 1000) for t, r in zip(times, told, strict=True)]
        metrics.add("train_rank_step_seconds", {**labels, "pod": pod(scenario, rank)}, series)
        dcgm(metrics, scenario, rank, [(t, r["gpu_util_pct"]) for t, r in zip(times, told, strict=True)])


def dcgm(metrics: Metrics, job: str, number: int, util: list[tuple[int, float]]) -> None:
    """A GPU as the DCGM exporter shows it; scraped without honorLabels, so that `pod` is the exporter's own."""
    labels = {
        "gpu": "0", "UUID": f"GPU-{job}-{number}", "Hostname": f"node-{number}", "modelName": "NVIDIA H100 80GB HBM3",
        "namespace": "gpu-operator", "pod": "nvidia-dcgm-exporter-x7k2p", "exported_namespace": NAMESPACE,
        "exported_pod": pod(job, number), "exported_container": "trainer",
    }  # fmt: skip
    metrics.add("DCGM_FI_DEV_GPU_UTIL", labels, util)
    metrics.add("DCGM_FI_DEV_FB_USED", labels, [(t, 57_000) for t, _ in util])
    metrics.add("DCGM_FI_DEV_FB_FREE", labels, [(t, 23_000) for t, _ in util])
    metrics.add("DCGM_FI_DEV_SM_CLOCK", labels, [(t, 1980) for t, _ in util])


LONG = 9000
# Label values that would mean something else if they were not escaped.
ODD_NAMES = ("a.b", 'a"b', "a'b", "a\\b", "a|b", "(a", "$a", "a`b", "é ", "a\nb", "a\tb", 'x"} or vector(1) #')


def oddities(metrics: Metrics) -> None:
    """What else the tests of the source ask for."""
    metrics.add("long_step_seconds", {}, [(t, 0.4) for t in metrics.times(LONG)])
    times = metrics.times(100)
    # Restarted at 60 of 100, silent for 10 minutes before that, and diverging at the end.
    steps = [(t, float(i * 10 if i < 60 else (i - 50) * 10)) for i, t in enumerate(times) if not 20 <= i < 60]
    metrics.add("odd_step", {"job": "odd"}, steps)
    metrics.add("odd_loss", {"job": "odd"}, [(t, 2.0 if i < 90 else float("nan")) for i, t in enumerate(times)])
    for number, name in enumerate(ODD_NAMES):
        metrics.add("odd_name", {"name": name}, [(t, float(number)) for t in times])
    for number in range(2):
        labels = {"namespace": NAMESPACE, "pod": pod("titan", number)}
        for metric, value in (
            ("time_metrics_end_to_end_s_", 0.5 + number),
            ("time_metrics_data_loading_s_", 0.01),
            ("loss_metrics_global_avg_loss", 2.5),
            ("throughput_tps_", 5000.0),
            ("memory_max_reserved___", 51.0),
            ("memory_max_reserved_GiB_", 40.1),
            ("memory_num_alloc_retries", 0.0),
        ):
            metrics.add(metric, labels, [(t, value) for t in times])
    for gpu in range(2):
        labels = {"instance": "10.0.0.1:8080", "GpuIndex": str(gpu), "GpuDeviceName": "NVIDIA A10G"}
        where = {"namespace": NAMESPACE, "pod": "rayjob-x7k2p-worker-small-z8f4b"}
        for metric, value in (
            ("ray_node_gpus_utilization", 80.0 + gpu),
            ("ray_node_gram_used", 1000.0 + gpu * 500),
            ("ray_node_gram_available", 1000.0),
        ):
            metrics.add(metric, labels | where, [(t, value) for t in times])


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    return "+Inf" if value == float("inf") else repr(float(value))
