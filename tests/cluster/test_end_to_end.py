"""The whole story on a real cluster: real trainer, real API server, real Flux, git over HTTP, and the product's own binary.

What stands of each run (deploy_before.json, deploy_after.json, the reports) is kept in MODEKEEPER_E2E_OUT, where that is set.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.git import GitRepo, init_bare
from gitops_mk.demo.embedded import embedded_files
from gitops_mk.model.change import Person
from gitops_mk.model.settings import CONFIG_PATH
from gitops_mk.model.workload import Delivery
from tests.cluster.audit import counts, position, requests
from tests.cluster.control_plane import Cluster
from tests.cluster.flux import Flux
from tests.cluster.kube import Json, Kube, wait_for
from tests.cluster.kubelet import PodRunner
from tests.support.githttp import GitServer, git_server

TEAM = Person(name="Platform Team", email="platform@gitops.invalid")
LINES = 160
READ = ["get", "list", "watch"]
RULES: list[Json] = [
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets", "replicasets"], "verbs": READ},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": READ},
    {"apiGroups": [""], "resources": ["pods"], "verbs": READ},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    # For dry-runs: the policy of kustomize/components/verify-dry-run keeps it to that.
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]},
]
CLUSTER_RULES: list[Json] = [
    {"apiGroups": [""], "resources": ["nodes", "namespaces"], "verbs": READ},
    {"apiGroups": ["kustomize.toolkit.fluxcd.io"], "resources": ["kustomizations"], "verbs": READ},
    {"apiGroups": ["source.toolkit.fluxcd.io"], "resources": ["gitrepositories"], "verbs": READ},
    {"apiGroups": ["argoproj.io"], "resources": ["applications"], "verbs": READ},
]


@dataclass
class Stage:
    """A namespace with the demo trainer in it, synced by Flux from a repository on a git server."""

    cluster: Cluster
    kube: Kube
    flux: Flux
    namespace: str
    repo: GitRepo
    url: str
    kubeconfig: Path
    user: str
    out: Path
    licence: dict[str, str]
    runner: PodRunner
    source: str

    def mk(self, *args: str, code: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "gitops_mk", *args],
            capture_output=True,
            text=True,
            env=self.env(env),
            timeout=180,
            check=False,
        )
        assert done.returncode == code, f"mk {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def env(self, more: dict[str, str] | None = None) -> dict[str, str]:
        # Plain HTTP on loopback is for tests of git servers only, and has to be asked for.
        return {
            **os.environ,
            "MODEKEEPER_GIT_ALLOW_HTTP": "1",
            "KUBECONFIG": str(self.kubeconfig),
            **self.licence,
            **(more or {}),
        }

    def tip(self) -> str:
        sha = self.repo.resolve("main")
        assert sha is not None
        return sha

    def sync(self) -> None:
        self.flux.sync(self.source, self.source, self.tip())

    def live(self) -> Json:
        return self.kube.get("Deployment", "trainer", self.namespace)

    def keep(self, name: str) -> Json:
        found = self.live()
        (self.out / name).write_text(json.dumps(found, indent=2, sort_keys=True))
        return found

    def pod(self) -> str:
        """The one pod that is not going away."""

        def only() -> str | None:
            # Between a pod that goes and the next there may be none, or two.
            pods = [p for p in self.kube.objects("Pod", self.namespace) if "deletionTimestamp" not in p["metadata"]]
            return str(pods[0]["metadata"]["name"]) if len(pods) == 1 else None

        return wait_for(only, 30, "the one pod")

    def wait_seen(self, knob: str, value: int, timeout: float = 60.0) -> str:
        """Wait until a pod's own log says that it runs the value, whatever pods come and go; gives the pod's name."""

        def seen() -> str | None:
            for pod in self.kube.objects("Pod", self.namespace):
                name = pod["metadata"]["name"]
                if f"modekeeper/knob.{knob}={value}" in self.kube.log(self.namespace, name).decode():
                    return str(name)
            return None

        return wait_for(seen, timeout, f"modekeeper/knob.{knob}={value} in a pod's log")


def knobs(live: Json) -> dict[str, str]:
    annotations = live["spec"]["template"]["metadata"]["annotations"]
    return {k: v for k, v in annotations.items() if k.startswith("modekeeper/knob.")}


def tree(namespace: str, fault: str, delivery: Delivery = "annotation") -> dict[str, bytes]:
    files = embedded_files(approvals=1, delivery=delivery)
    files[CONFIG_PATH] = files[CONFIG_PATH].replace(b"namespace: ml", f"namespace: {namespace}".encode())
    files[CONFIG_PATH] = files[CONFIG_PATH].replace(b"consult: never", b"consult: required")
    overlay = "overlays/demo/kustomization.yaml"
    files[overlay] = files[overlay].replace(b"namespace: ml", f"namespace: {namespace}".encode())
    base = "base/deployment.yaml"
    for path in ("/etc/podinfo/annotations", "/etc/modekeeper/knobs"):
        files[base] = files[base].replace(f'"{path}"]'.encode(), f'"{path}", "--fault", "{fault}"]'.encode())
    files[base] = files[base].replace(
        b"          volumeMounts:",
        b"          env:\n            - name: NODE_NAME\n              valueFrom: {fieldRef: {fieldPath: spec.nodeName}}\n"
        b"          volumeMounts:",
    )
    return files


@contextmanager
def staged(
    cluster: Cluster,
    kube: Kube,
    flux: Flux,
    namespace: str,
    server: GitServer,
    out: Path,
    fault: str,
    delivery: Delivery = "annotation",
) -> Iterator[Stage]:
    out.mkdir(parents=True, exist_ok=True)
    name = f"gitops-{namespace}"
    repo = init_bare(server.root / f"{name}.git")
    made = repo.write_tree(None, dict(tree(namespace, fault, delivery)))
    commit = repo.write_commit(
        tree=made, parents=[], message="Add the demo trainer\n", author=TEAM, time=int(time.time()) - 3600
    )
    repo.run("update-ref", "refs/heads/main", commit)
    url = server.remote(f"{name}.git")
    user = kube.service_account(namespace, "modekeeper", rules=RULES, cluster_rules=CLUSTER_RULES)
    licence = minted(out)
    with PodRunner(cluster, namespace) as runner:
        stage = Stage(
            cluster, kube, flux, namespace, repo, url, cluster.kubeconfig_for(f"{namespace}/modekeeper"), user, out,
            licence, runner, name,
        )  # fmt: skip
        flux.git_repository(name, url)
        flux.kustomization(name, source=name, path="./overlays/demo")
        stage.sync()
        kube.wait_rollout("trainer", namespace)
        wait_for(lambda: None if not kube.objects("Pod", namespace) else True, 30, "the trainer's pod")
        runner.wait_lines(stage.pod(), LINES, timeout=90)
        yield stage


def minted(out: Path) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "gitops_mk", "license", "mint-dev", "--out", str(out / "license"), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    made: dict[str, Any] = json.loads(done.stdout)
    return {
        "MODEKEEPER_LICENSE_PATH": made["license"],
        "MODEKEEPER_LICENSE_PUBLIC_KEYS_PATH": made["keyring"],
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "git") as started:
        yield started


@pytest.fixture
def out(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    kept = os.environ.get("MODEKEEPER_E2E_OUT")
    folder = Path(kept) / request.node.name if kept else tmp_path / "out"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def test_smoke_and_paid_apply(
    cluster: Cluster, kube: Kube, flux: Flux, namespace: str, server: GitServer, out: Path
) -> None:
    """The two runs of old: with the kill switch on nothing changes; licensed, the new value runs in a new pod."""
    with staged(cluster, kube, flux, namespace, server, out, "straggler") as stage:
        before = stage.keep("deploy_before.json")
        start = position(cluster.audit_log)
        observe = (
            "closed-loop",
            "run",
            "--apply",
            "--repo",
            str(stage.repo.git_dir),
            "--observe-source",
            "k8s",
            "--duration",
            "3s",
        )

        killed = stage.mk(*observe, "--out", str(out / "smoke"), code=2, env={"MODEKEEPER_KILL_SWITCH": "1"})
        assert killed.stderr == "ERROR: MODEKEEPER_KILL_SWITCH=1 blocks apply/mutate operations\n"
        smoke = json.loads((out / "smoke/closed_loop_latest.json").read_text())
        assert smoke["kill_switch_active"] is True
        assert smoke["apply_blocked_reason"] == "kill_switch"
        assert knobs(stage.live()) == knobs(before)
        assert stage.repo.resolve("main") == stage.tip()

        # The first run opens the pull request, and waits for a reviewer.
        stage.mk(*observe, "--out", str(out / "proposed"), code=2)
        proposed = json.loads((out / "proposed/closed_loop_latest.json").read_text())
        assert proposed["apply_blocked_reason"] == "review_required", proposed["apply_blocked_message"]
        verified = json.loads((out / "proposed/k8s_verify_latest.json").read_text())
        assert verified["ok"] is True
        assert verified["checks"]["items"][0]["dry_run"]["ok"] is True
        assert verified["checks"]["items"][0]["uid"] == before["metadata"]["uid"]
        approve(stage, proposed["pr"]["number"])
        applied = stage.mk(
            "apply",
            "--pr",
            str(proposed["pr"]["number"]),
            "--repo",
            str(stage.repo.git_dir),
            "--out",
            str(out / "paid"),
            "--json",
        )
        assert json.loads(applied.stdout)["ok"] is True

        stage.sync()
        kube.wait_rollout("trainer", namespace)
        after = stage.keep("deploy_after.json")
        assert after["metadata"]["generation"] > before["metadata"]["generation"]
        moved = {k: v for k, v in knobs(after).items() if knobs(before)[k] != v}
        assert set(moved) == {"modekeeper/knob.dataloader_num_workers"}
        pod = stage.wait_seen("dataloader_num_workers", int(moved["modekeeper/knob.dataloader_num_workers"]))
        # A pod that is replaced comes back with the same value.
        kube.delete("Pod", pod, namespace)
        wait_for(lambda: stage.pod() != pod or None, 30, "another pod")
        assert stage.wait_seen("dataloader_num_workers", int(moved["modekeeper/knob.dataloader_num_workers"])) != ""
        assert_no_write(cluster, stage, start)


def test_the_controller_closes_the_loop(
    cluster: Cluster, kube: Kube, flux: Flux, namespace: str, server: GitServer, out: Path
) -> None:
    """It sees the straggler in the pods' logs, proposes, verifies, merges what was approved, and sees it roll out."""
    with staged(cluster, kube, flux, namespace, server, out, "straggler") as stage:
        before = stage.keep("deploy_before.json")
        start = position(cluster.audit_log)
        told: list[tuple[float, str]] = []
        began = time.monotonic()

        def tell(what: str) -> None:
            told.append((round(time.monotonic() - began, 1), what))

        with running_controller(stage, out) as (process, port):
            wait_for(lambda: ready(port), 30, "/readyz")
            tell("ready")
            number = wait_for(lambda: open_number(stage), 90, "a pull request")
            tell("pull request open")
            approve(stage, number)
            tell("approved")
            merged = wait_for(lambda: stage.tip() if stage.tip() != root(stage) else None, 60, "a merge")
            tell("merged")
            stage.sync()
            kube.wait_rollout("trainer", namespace)
            tell("synced and rolled out")
            value = int(knobs(stage.live())["modekeeper/knob.dataloader_num_workers"])
            assert value > int(knobs(before)["modekeeper/knob.dataloader_num_workers"])
            stage.wait_seen("dataloader_num_workers", value)
            tell("the new value in the new pod's log")
            wait_for(lambda: rolled_out(stage, number) or None, 60, "the rollout on record")
            tell("applied, says the pull request")
            stage.keep("deploy_after.json")
            # The pull request tells it a moment before the counter does.
            metrics = wait_for(lambda: told_of_rollout(port), 10, "the rollout's metric")
            for name in ("mk_plans_total", "mk_pull_requests", "mk_gate_decisions_total", "mk_reconcile_duration_seconds",
                         "mk_api_calls_total", "mk_log_lines_total"):  # fmt: skip
                assert name in metrics, name
            began_stop = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - began_stop < 10
        events = {
            event["reason"]
            for event in kube.objects("Event", namespace)
            if event.get("reportingComponent") == "modekeeper"
        }
        assert {"ChordProposed", "ChordMerged", "ChordRolledOut"} <= events
        assert merged == stage.tip()
        (out / "story.json").write_text(json.dumps(told, indent=1))
        print(json.dumps(told))
        assert_no_write(cluster, stage, start)


def test_a_config_map_closes_the_loop_without_a_restart(
    cluster: Cluster, kube: Kube, flux: Flux, namespace: str, server: GitServer, out: Path
) -> None:
    """The very pod, and the very process in it, go on with the merged values; the Deployment is not touched."""
    with staged(cluster, kube, flux, namespace, server, out, "straggler", "configmap") as stage:
        before, pod, pids = stage.live(), stage.pod(), dict(stage.runner.pids)
        start = position(cluster.audit_log)
        with running_controller(stage, out) as (process, port):
            wait_for(lambda: ready(port), 30, "/readyz")
            number = wait_for(lambda: open_number(stage), 90, "a pull request")
            approve(stage, number)
            wait_for(lambda: stage.tip() != root(stage) or None, 60, "a merge")
            stage.sync()
            values = kube.get("ConfigMap", "trainer-knobs", namespace)["data"]
            assert values == {
                "grad_accum_steps": "4", "microbatch_size": "32", "dataloader_num_workers": "4",
                "dataloader_prefetch_factor": "2",
            }  # fmt: skip
            wait_for(lambda: b'"event":"schedule"' in kube.log(namespace, pod) or None, 60, "the trainer to take it up")
            wait_for(lambda: rolled_out(stage, number) or None, 60, "the rollout on record")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        lines = [json.loads(line) for line in kube.log(namespace, pod).splitlines()]
        events = [(line["event"], line.get("changed")) for line in lines if "event" in line]
        assert events == [
            ("resume", None),
            ("schedule", {"dataloader_num_workers": [2, 4]}),
        ]
        assert (stage.pod(), stage.runner.pids) == (pod, pids)
        after = stage.live()
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert_no_write(cluster, stage, start)


def told_of_rollout(port: int) -> str | None:
    metrics = fetch(port, "/metrics")
    return metrics if "mk_merge_to_rollout_seconds_count 1.0" in metrics else None


@contextmanager
def running_controller(stage: Stage, out: Path, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    log = out / "controller.log"
    argv = [
        sys.executable, "-m", "gitops_mk", "controller", "run", "--apply", "--repo", stage.url, "--interval", "2s",
        "--window", "60s", "--listen", "127.0.0.1:0", "--lease", f"{stage.namespace}/modekeeper", "--out", str(out / "controller"), *more,
    ]  # fmt: skip
    with log.open("wb") as sink, subprocess.Popen(argv, stdout=sink, stderr=sink, env=stage.env()) as process:
        try:

            def port() -> int | None:
                assert process.poll() is None, log.read_text()
                found = [json.loads(line) for line in log.read_text().splitlines() if '"listening"' in line]
                return int(found[0]["port"]) if found else None

            yield process, wait_for(port, 30, "the controller's port")
        finally:
            if process.poll() is None:
                process.kill()
            print(log.read_text()[-4000:])


def approve(stage: Stage, number: int) -> None:
    """Alice approves, from a clone of her own."""
    clone = stage.out / "alice"
    if not clone.exists():
        subprocess.run(["git", "clone", "-q", stage.url, str(clone)], check=True, capture_output=True)
        subprocess.run(["git", "-C", str(clone), "config", "user.name", "Alice"], check=True)
        subprocess.run(["git", "-C", str(clone), "config", "user.email", "alice@example.com"], check=True)
    stage.mk("pr", "approve", str(number), "--repo", str(clone))


def open_number(stage: Stage) -> int | None:
    done = stage.mk("pr", "list", "--repo", str(stage.repo.git_dir), "--json")
    rows: list[Json] = json.loads(done.stdout)
    return int(rows[0]["number"]) if rows else None


def rolled_out(stage: Stage, number: int) -> bool:
    shown = json.loads(stage.mk("pr", "show", str(number), "--repo", str(stage.repo.git_dir), "--json").stdout)
    return any(check["name"] == "modekeeper/rollout" for check in shown["checks"])


def root(stage: Stage) -> str:
    return stage.repo.log("main")[-1].sha


def ready(port: int) -> bool | None:
    try:
        return fetch(port, "/readyz").strip() == "ok" or None
    except OSError:
        return None


def fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        body: bytes = answer.read()
    return body.decode()


def assert_no_write(cluster: Cluster, stage: Stage, start: int) -> None:
    """The API server's own word: nothing mutating but dry-runs, Leases, Events, and questions."""
    seen = list(requests(cluster.audit_log, stage.user, start=start))
    writes = [r for r in seen if not r.dry_run and r.resource not in ("leases", "events", "selfsubjectaccessreviews")]
    assert not writes, [r.what for r in writes]
    assert any(r.dry_run for r in seen), counts(seen)
