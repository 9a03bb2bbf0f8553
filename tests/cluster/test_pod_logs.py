"""Pods' logs from a real API server: every line once through broken connections, restarts and rollouts; machines; rights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.cluster.client import HttpCluster
from gitops_mk.adapters.telemetry.container_log import Pace
from gitops_mk.adapters.telemetry.pod_logs import PodLogSource
from gitops_mk.core.podlines import CUT, LONGEST
from gitops_mk.errors import ClusterError, InputError, TelemetryError
from gitops_mk.model.workload import WorkloadRef
from gitops_mk.wiring import open_cluster
from tests.cluster.control_plane import Cluster
from tests.cluster.kube import Json, Kube
from tests.cluster.kubelet import container_log, restart_container, write_logs
from tests.support.reading import Reading, step, steps

PACE = Pace(list_s=0.2, first_retry_s=0.05, last_retry_s=0.2, batch_s=0.02, lag_s=0.5)
H100 = "NVIDIA-H100-80GB-HBM3"


def deployment(replicas: int = 1, *, version: str = "1", containers: tuple[str, ...] = ("trainer",)) -> Json:
    spec = {
        "containers": [{"name": name, "image": f"example.invalid/{name}:{version}"} for name in containers],
        "nodeSelector": {"nvidia.com/gpu.product": H100},
        "terminationGracePeriodSeconds": 1,
    }
    labels = {"app": "trainer"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "trainer"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def pods_of(kube: Kube, namespace: str) -> list[str]:
    return sorted(
        pod["metadata"]["name"] for pod in kube.objects("Pod", namespace) if "deletionTimestamp" not in pod["metadata"]
    )


def out(kube: Kube, namespace: str, manifest: Json) -> list[str]:
    """Roll a Deployment out; gives the names of its pods."""
    kube.apply(manifest, namespace)
    kube.wait_rollout("trainer", namespace)
    return pods_of(kube, namespace)


@pytest.fixture
def http(cluster: Cluster) -> HttpCluster:
    found = open_cluster(str(cluster.kubeconfig), None)
    assert isinstance(found, HttpCluster)
    return found


@pytest.fixture
def ref(namespace: str) -> WorkloadRef:
    return WorkloadRef(namespace=namespace, kind="Deployment", name="trainer")


class Breaking(HttpCluster):
    """Connections that break when a test says so."""

    breaks = 0

    @contextmanager
    def logs(self, *args: Any, **options: Any) -> Iterator[Iterator[bytes]]:
        breaks = self.breaks

        def until_broken(blocks: Iterator[bytes]) -> Iterator[bytes]:
            for block in blocks:
                if self.breaks != breaks:
                    # What was on its way is lost, but for a part of a line.
                    yield block[:40]
                    raise ClusterError("the connection broke", retryable=True)
                yield block

        with super().logs(*args, **options) as blocks:
            yield until_broken(blocks)


def test_what_is_there_and_what_comes(
    cluster: Cluster, kube: Kube, http: HttpCluster, namespace: str, ref: WorkloadRef
) -> None:
    one, two = out(kube, namespace, deployment(2))
    write_logs(cluster, namespace, one, b"".join(steps(1, 2)))
    write_logs(cluster, namespace, two, step(3))

    def script(reading: Reading) -> None:
        reading.seen(3)
        for number in range(4, 24):
            write_logs(cluster, namespace, (one, two)[number % 2], step(number))
        reading.seen(23)

    reading = Reading(http, ref, pace=PACE)
    lines = reading.run(script)
    assert sorted(lines) == sorted(steps(*range(1, 24)))
    assert lines[:3] == steps(1, 2, 3)
    found = reading.source.environment
    assert set(found.nodes_seen) <= set(cluster.nodes)
    assert found.gpu_models_seen == (H100,)
    assert found.notes == ()


def test_broken_connections(cluster: Cluster, kube: Kube, http: HttpCluster, namespace: str, ref: WorkloadRef) -> None:
    (pod,) = out(kube, namespace, deployment())
    write_logs(cluster, namespace, pod, b"".join(steps(*range(10))))
    http.__class__ = Breaking

    def script(reading: Reading) -> None:
        for number in range(10, 60, 5):
            reading.seen(number)
            http.breaks += 1  # type: ignore[attr-defined]
            write_logs(cluster, namespace, pod, b"".join(steps(*range(number, number + 5))))
        reading.seen(60)

    reading = Reading(http, ref, pace=PACE)
    assert reading.run(script) == steps(*range(60))
    assert not [note for note in reading.notes if "gap" in note]


def test_restarts(cluster: Cluster, kube: Kube, http: HttpCluster, namespace: str, ref: WorkloadRef) -> None:
    (pod,) = out(kube, namespace, deployment())
    write_logs(cluster, namespace, pod, b"".join(steps(1, 2)))
    restart_container(cluster, namespace, pod)
    write_logs(cluster, namespace, pod, step(3))

    def script(reading: Reading) -> None:
        reading.seen(3)
        write_logs(cluster, namespace, pod, step(4))
        reading.seen(4)
        restart_container(cluster, namespace, pod)
        write_logs(cluster, namespace, pod, b"".join(steps(5, 6)))
        reading.seen(6)
        restart_container(cluster, namespace, pod)
        write_logs(cluster, namespace, pod, step(7))
        reading.seen(7)

    reading = Reading(http, ref, pace=PACE)
    assert sorted(reading.run(script)) == sorted(steps(*range(1, 8)))
    assert not [note for note in reading.notes if "gap" in note]


def test_a_rollout(cluster: Cluster, kube: Kube, http: HttpCluster, namespace: str, ref: WorkloadRef) -> None:
    (before,) = out(kube, namespace, deployment())
    write_logs(cluster, namespace, before, b"".join(steps(1, 2)))

    def script(reading: Reading) -> None:
        reading.seen(2)
        (after,) = out(kube, namespace, deployment(version="2"))
        assert after != before
        write_logs(cluster, namespace, after, b"".join(steps(3, 4)))
        reading.seen(4)

    reading = Reading(http, ref, pace=PACE)
    assert reading.run(script) == steps(1, 2, 3, 4)
    assert not [note for note in reading.notes if "gap" in note]


def test_odd_bytes(cluster: Cluster, kube: Kube, http: HttpCluster, namespace: str, ref: WorkloadRef) -> None:
    (pod,) = out(kube, namespace, deployment())
    lines = [b"\xff\xfe\x00\n", b"a\r\n", b"\n", b"x" * 50_000 + b"\n"]
    write_logs(cluster, namespace, pod, b"".join(lines))
    write_logs(cluster, namespace, pod, b"y" * 20_000_000 + b"\n")
    write_logs(cluster, namespace, pod, step(1))
    got = b"".join(PodLogSource(http, ref, follow=False, pace=PACE).chunks())
    assert got == b"".join(lines) + b"y" * LONGEST + CUT + b"\n" + step(1)


def test_a_rotated_log(cluster: Cluster, kube: Kube, http: HttpCluster, namespace: str, ref: WorkloadRef) -> None:
    (pod,) = out(kube, namespace, deployment())
    write_logs(cluster, namespace, pod, b"".join(steps(1, 2)))
    log = container_log(cluster, kube.get("Pod", pod, namespace))
    http.__class__ = Breaking

    def script(reading: Reading) -> None:
        reading.seen(2)
        # Rotated and broken at once: nobody was there when it happened.
        log.rotate()
        http.breaks += 1  # type: ignore[attr-defined]
        write_logs(cluster, namespace, pod, step(3))
        reading.seen(3)
        write_logs(cluster, namespace, pod, step(4))
        reading.seen(4)

    reading = Reading(http, ref, pace=PACE)
    assert reading.run(script) == steps(1, 2, 3, 4)
    assert any("may be missing: the log was rotated" in note for note in reading.notes)


def test_who_may_not(cluster: Cluster, kube: Kube, namespace: str, ref: WorkloadRef) -> None:
    (pod,) = out(kube, namespace, deployment(containers=("trainer", "side")))
    write_logs(cluster, namespace, pod, step(1), container="trainer")
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ]
    kube.service_account(namespace, "blind", rules=rules)
    kube.service_account(
        namespace, "reader", rules=[*rules, {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}]
    )
    kube.service_account(namespace, "nobody")

    def source(account: str, container: str | None = None) -> PodLogSource:
        path = cluster.kubeconfig_for(f"{namespace}/{account}")
        return PodLogSource(open_cluster(str(path), None), ref, follow=False, container=container, pace=PACE)

    with pytest.raises(TelemetryError, match="403") as caught:
        list(source("nobody").chunks())
    assert caught.value.hint
    with pytest.raises(TelemetryError, match=f"no log of Deployment {namespace}/trainer could be read: .* 403"):
        list(source("blind").chunks())
    with pytest.raises(InputError, match="it has: trainer, side"):
        list(source("reader", "other").chunks())
    reader = source("reader")
    assert b"".join(reader.chunks()) == step(1)
    (note,) = reader.environment.notes
    assert note.startswith("the GPU model of node-h100 is unknown: the API server says 403")


def mk(cluster: Cluster, folder: Path, *args: object) -> list[str]:
    return [
        sys.executable, "-m", "gitops_mk", "observe", "--kubeconfig", str(cluster.kubeconfig), "--out", str(folder / "out"),
        *map(str, args),
    ]  # fmt: skip


def test_the_command(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> None:
    (pod,) = out(kube, namespace, deployment())
    write_logs(cluster, namespace, pod, b"".join(steps(*range(50))) + b"\xff no record\n")
    asked = ("--source", "k8s", "--k8s-namespace", namespace, "--k8s-deployment", "trainer")
    raw = tmp_path / "raw.jsonl"
    done = subprocess.run(
        mk(cluster, tmp_path, *asked, "--duration", "2s", "--record-raw", raw),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "out" / "observe_latest.json").read_text())
    assert (first["ingest"]["lines"], first["ingest"]["records"]) == (51, 50)
    assert first["environment"]["gpu_models_seen"] == [H100]
    subprocess.run(mk(cluster, tmp_path, "--source", "file", "--path", raw), capture_output=True, check=True)
    again = json.loads((tmp_path / "out" / "observe_latest.json").read_text())
    assert again["ingest"] == first["ingest"]
    assert again["signals"] == first["signals"]


def test_ctrl_c(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> None:
    (pod,) = out(kube, namespace, deployment())
    write_logs(cluster, namespace, pod, b"".join(steps(*range(50))), at=datetime.now(UTC))
    asked = ("--k8s-namespace", namespace, "--k8s-deployment", "trainer", "--duration", "10m")
    raw = tmp_path / "raw.jsonl"
    process = subprocess.Popen(
        mk(cluster, tmp_path, *asked, "--record-raw", raw), env=os.environ, start_new_session=True
    )
    try:
        end = time.monotonic() + 30
        while not (raw.exists() and raw.stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    body = json.loads((tmp_path / "out" / "observe_latest.json").read_text())
    assert body["ingest"]["lines"] == 50
    assert "interrupted" in body["environment"]["notes"][-1]
