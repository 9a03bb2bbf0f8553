"""The test cluster is a real one: what the controller's tests lean on holds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.audit import EVERY, counts, position, requests
from tests.cluster.control_plane import Cluster
from tests.cluster.kube import Json, Kube, KubeError, wait_for
from tests.cluster.kubelet import PodRunner, restart_container, write_logs
from tests.support.githttp import GitServer, git_server

if TYPE_CHECKING:
    from tests.cluster.flux import Flux

ROOT = Path(__file__).resolve().parents[2]
KNOB = "modekeeper/knob.dataloader_num_workers"


def deployment(name: str = "web", *, replicas: int = 2, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    pod = {"containers": [{"name": "main", "image": "example.invalid/web:1"}], **spec}
    template = {"metadata": {"labels": {"app": name}, "annotations": annotations or {}}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def names(objects: list[Json]) -> set[str]:
    return {one["metadata"]["name"] for one in objects}


@pytest.fixture
def pod(kube: Kube, namespace: str) -> str:
    """The pod of a Deployment that is out."""
    kube.apply(deployment(replicas=1), namespace)
    kube.wait_rollout("web", namespace)
    (only,) = names(kube.objects("Pod", namespace))
    return only


def test_nodes_have_labels_and_devices(cluster: Cluster, kube: Kube) -> None:
    nodes = {node["metadata"]["name"]: node for node in kube.objects("Node")}
    assert set(cluster.nodes) <= set(nodes)
    products = {node["metadata"]["labels"]["nvidia.com/gpu.product"] for node in nodes.values()}
    assert len(products) == 2
    assert "NVIDIA-H100-80GB-HBM3" in products
    for name, node in nodes.items():
        assert node["metadata"]["labels"]["kubernetes.io/hostname"] == name
        assert node["metadata"]["labels"]["node.kubernetes.io/instance-type"]
        assert node["status"]["capacity"]["nvidia.com/gpu"] == "8"


def test_a_changed_annotation_rolls_a_deployment_out(kube: Kube, namespace: str) -> None:
    kube.apply(deployment(annotations={KNOB: "2"}), namespace)
    kube.wait_rollout("web", namespace)
    before = names(kube.objects("Pod", namespace))
    assert len(before) == 2

    patch = {"spec": {"template": {"metadata": {"annotations": {KNOB: "4"}}}}}
    kube.patch("Deployment", "web", patch, namespace)
    kube.wait_rollout("web", namespace)

    pods = kube.objects("Pod", namespace, labels="app=web")
    assert len(pods) == 2
    assert not before & names(pods)
    assert len(kube.objects("ReplicaSet", namespace)) == 2
    for one in pods:
        assert one["metadata"]["annotations"][KNOB] == "4"
        assert one["status"]["phase"] == "Running"
        assert {"type": "Ready", "status": "True"}.items() <= next(
            c for c in one["status"]["conditions"] if c["type"] == "Ready"
        ).items()


def test_pods_go_where_their_devices_are(kube: Kube, namespace: str) -> None:
    container = {"name": "main", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "8"}}}
    selector = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    kube.apply(deployment(replicas=2, containers=[container], nodeSelector=selector), namespace)

    def split() -> list[Json] | None:
        pods = kube.objects("Pod", namespace)
        waits = [p for p in pods if any(c.get("reason") == "Unschedulable" for c in p["status"].get("conditions", ()))]
        return waits if len(pods) == 2 and len(waits) == 1 else None

    (waits,) = wait_for(split, 30, "one pod to run and one to wait")
    assert "Insufficient nvidia.com/gpu" in json.dumps(waits["status"])


def test_logs_are_served_as_a_kubelet_serves_them(kube: Kube, cluster: Cluster, namespace: str, pod: str) -> None:
    at = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    assert kube.log(namespace, pod) == b""
    write_logs(cluster, namespace, pod, ["one", "two", "drei \N{SNOWMAN}"], at=at, every=timedelta(seconds=1))
    assert kube.log(namespace, pod) == "one\ntwo\ndrei \N{SNOWMAN}\n".encode()
    assert kube.log(namespace, pod, timestamps=True).splitlines()[1] == b"2026-03-01T12:00:01.000000000Z two"
    assert kube.log(namespace, pod, sinceTime="2026-03-01T12:00:01Z").splitlines()[0] == b"two"
    assert kube.log(namespace, pod, tailLines=1, limitBytes=4) == b"drei"
    assert kube.log(namespace, pod, container="main", tailLines=2).startswith(b"two\n")


@pytest.mark.parametrize("content", [b"", b"\n", b"a\r\nb\rc\n", b"\xff\x00\n", b"x" * 40_000 + b"\ny\n", b"cut of"])
def test_logs_keep_every_byte(kube: Kube, cluster: Cluster, namespace: str, pod: str, content: bytes) -> None:
    write_logs(cluster, namespace, pod, content)
    assert kube.log(namespace, pod) == content


def test_a_restart_leaves_the_previous_log(kube: Kube, cluster: Cluster, namespace: str, pod: str) -> None:
    write_logs(cluster, namespace, pod, "first\n")
    with pytest.raises(KubeError) as caught:
        kube.log(namespace, pod, previous=True)
    assert caught.value.status == 400
    assert restart_container(cluster, namespace, pod, exit_code=137, reason="OOMKilled") == 1
    write_logs(cluster, namespace, pod, "second\n")
    assert kube.log(namespace, pod, previous=True) == b"first\n"
    assert kube.log(namespace, pod) == b"second\n"
    (status,) = kube.get("Pod", pod, namespace)["status"]["containerStatuses"]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert restart_container(cluster, namespace, pod) == 2
    assert kube.log(namespace, pod, previous=True) == b"second\n"


def test_logs_are_followed(kube: Kube, cluster: Cluster, namespace: str, pod: str) -> None:
    write_logs(cluster, namespace, pod, "before\n")
    with kube.follow(namespace, pod) as lines:
        assert next(lines) == b"before\n"
        write_logs(cluster, namespace, pod, "after\n")
        assert next(lines) == b"after\n"


def test_a_service_account_may_only_what_it_was_given(kube: Kube, cluster: Cluster, namespace: str, pod: str) -> None:
    start = position(cluster.audit_log)
    stranger = kube.service_account(namespace, "stranger")
    rule = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}
    tuner = kube.service_account(namespace, "tuner", rules=[rule])
    patch = {"spec": {"template": {"metadata": {"annotations": {KNOB: "8"}}}}}
    with pytest.raises(KubeError) as caught:
        cluster.kube(f"{namespace}/stranger").patch("Deployment", "web", patch, namespace, dry_run=True)
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")

    def allowed() -> Json | None:
        try:
            return cluster.kube(f"{namespace}/tuner").patch("Deployment", "web", patch, namespace, dry_run=True)
        except KubeError as exc:
            if exc.status == 403:
                return None
            raise

    wait_for(allowed, 15, "RBAC to hear of the role")
    assert KNOB not in json.dumps(kube.get("Deployment", "web", namespace)["spec"])

    mine = f"system:serviceaccount:{namespace}:"
    found = counts(r for r in requests(cluster.audit_log, mine, start=start) if r.code < 300)
    assert found == {(tuner, "patch", "deployments.apps", True): 1}
    (denied,) = requests(cluster.audit_log, stranger, start=start)
    assert (denied.verb, denied.name, denied.namespace, denied.dry_run) == ("patch", "web", namespace, True)
    assert denied.code == 403
    (made,) = [
        r
        for r in requests(cluster.audit_log, "admin", start=start, verbs=EVERY)
        if (r.verb, r.resource, r.name, r.namespace) == ("patch", "serviceaccounts", "stranger", namespace)
    ]
    assert not made.dry_run


def test_kubectl_with_a_token(kube: Kube, cluster: Cluster, namespace: str, pod: str) -> None:
    kube.service_account(namespace, "reader", role="view")
    config = cluster.kubeconfig_for(f"{namespace}/reader")
    write_logs(cluster, namespace, pod, "hello\n")

    def read() -> str | None:
        done = cluster.kubectl("logs", pod, kubeconfig=config, check=False)
        return None if "forbidden" in done.stderr else done.stdout

    assert wait_for(read, 15, "RBAC to hear of the role") == "hello\n"
    refused = cluster.kubectl("delete", "pod", pod, kubeconfig=config, check=False)
    assert refused.returncode != 0
    assert "forbidden" in refused.stderr


def test_the_trainer_runs_in_its_pod(kube: Kube, cluster: Cluster, namespace: str) -> None:
    kube.apply((ROOT / "templates" / "embedded" / "base" / "deployment.yaml").read_text(), namespace)
    with PodRunner(cluster, namespace) as runner:

        def schedule(pod: str) -> dict[str, Any]:
            runner.wait_lines(pod, 3)
            lines = [json.loads(line) for line in kube.log(namespace, pod).splitlines()]
            assert any("step_time_ms" in line for line in lines)
            started: dict[str, Any] = next(line["knobs"] for line in lines if "knobs" in line)
            return started

        kube.wait_rollout("trainer", namespace)
        (first,) = names(kube.objects("Pod", namespace))
        assert schedule(first)["dataloader_num_workers"] == 2
        pid = runner.pids[first]

        patch = {"spec": {"template": {"metadata": {"annotations": {KNOB: "3"}}}}}
        kube.patch("Deployment", "trainer", patch, namespace)
        kube.wait_rollout("trainer", namespace)
        (second,) = names(kube.objects("Pod", namespace))
        assert schedule(second)["dataloader_num_workers"] == 3
        wait_for(lambda: True if first not in runner.pids else None, 15, "the first trainer's end")
        assert not Path(f"/proc/{pid}").exists()

        subprocess.run(["kill", "-KILL", str(runner.pids[second])], check=True)
        wait_for(
            lambda: kube.get("Pod", second, namespace)["status"]["containerStatuses"][0]["restartCount"] or None,
            15,
            "restart",
        )
        assert b"step_time_ms" in kube.log(namespace, second, previous=True)


# -- Flux ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "served") as found:
        yield found


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=Alice", "-c", "user.email=alice@example.invalid", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *args], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_flux_applies_what_is_pushed(flux: Flux, kube: Kube, namespace: str, server: GitServer, tmp_path: Path) -> None:
    bare, work = server.root / "gitops.git", tmp_path / "work"
    bare.mkdir(parents=True)
    git(bare, "init", "--bare", "--initial-branch=main")
    git(tmp_path, "clone", server.remote("gitops.git"), str(work))

    def push(value: str) -> str:
        (work / "demo").mkdir(exist_ok=True)
        (work / "demo" / "kustomization.yaml").write_text("resources: [deployment.yaml]\n")
        (work / "demo" / "deployment.yaml").write_text(json.dumps(deployment(annotations={KNOB: value})))
        git(work, "add", ".")
        git(work, "commit", "-m", f"set {value}")
        git(work, "push", "origin", "HEAD:main")
        return git(work, "rev-parse", "HEAD")

    first = push("2")
    flux.git_repository("gitops", server.remote("gitops.git"))
    flux.kustomization("demo", source="gitops", path="./demo", target_namespace=namespace)
    flux.wait_applied("demo", first)
    kube.wait_rollout("web", namespace)

    second = push("4")
    status = flux.sync("gitops", "demo", second)["status"]
    assert status["lastAppliedRevision"] == f"main@sha1:{second}"
    kube.wait_rollout("web", namespace)
    assert {p["metadata"]["annotations"][KNOB] for p in kube.objects("Pod", namespace)} == {"4"}
