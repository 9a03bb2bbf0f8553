"""`mk k8s verify`: every field and blocker of the contract, against a real API server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.model.plan import knob_patch
from tests.cluster.audit import position, requests
from tests.cluster.control_plane import Cluster
from tests.cluster.kube import Json, Kube, wait_for

KNOB = "modekeeper/knob.grad_accum_steps"
ITEM = {
    "namespace", "name", "kind", "namespace_exists", "deployment_exists", "uid", "generation",
    "auth_can_i_get_deployments", "auth_can_i_patch_deployments", "dry_run",
}  # fmt: skip


def deployment(value: str = "4", **spec: Any) -> Json:
    template: Json = {
        "metadata": {"labels": {"app": "t"}, "annotations": {KNOB: value}},
        "spec": {"containers": [{"name": "t", "image": "example.invalid/t:1"}]},
    }
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "trainer"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "t"}}, "template": template, **spec},
    }  # fmt: skip


def plan(folder: Path, namespace: str, *, name: str = "trainer", value: int = 8) -> Path:
    item = {
        "apiVersion": "apps/v1", "kind": "Deployment", "namespace": namespace, "name": name,
        "patch": knob_patch({"grad_accum_steps": value}), "reason": "a test",
    }  # fmt: skip
    path = folder / "k8s_plan.json"
    path.write_text(json.dumps([item]))
    return path


def verify(path: Path, kubeconfig: Path | str, *more: str) -> tuple[int, Any]:
    out = path.parent / "out"
    done = subprocess.run(
        [sys.executable, "-m", "gitops_mk", "k8s", "verify", "--plan", str(path), "--out", str(out), "--json", *more],
        capture_output=True, text=True, env={**os.environ, "KUBECONFIG": str(kubeconfig)}, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((out / "k8s_verify_latest.json").read_text())
    assert report["ok"] == report["verify_ok"] == (done.returncode == 0)
    assert (report["verify_blocker"] is None) == report["ok"]
    assert {"cluster_reachable", "current_context", "items"} == set(report["checks"])
    return done.returncode, report


def test_a_plan_that_fits(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> None:
    kube.apply(deployment(), namespace, manager="kustomize-controller")
    start = position(cluster.audit_log)
    code, report = verify(plan(tmp_path, namespace), cluster.kubeconfig)
    assert code == 0, report["verify_blocker"]
    assert report["checks"]["cluster_reachable"] is True
    assert report["checks"]["current_context"] == "test"
    (item,) = report["checks"]["items"]
    assert set(item) == ITEM
    assert [item[key] for key in sorted(ITEM - {"dry_run", "name", "namespace", "kind", "uid", "generation"})] == [
        True
    ] * 4
    assert item["uid"] == kube.get("Deployment", "trainer", namespace)["metadata"]["uid"]
    assert {"attempted", "mode", "ok", "status", "reason", "message"} <= set(item["dry_run"])
    assert (item["dry_run"]["attempted"], item["dry_run"]["mode"], item["dry_run"]["ok"]) == (True, "server", True)
    patches = [
        r
        for r in requests(cluster.audit_log, start=start)
        if r.verb == "patch" and r.namespace == namespace and r.agent.startswith("modekeeper/")
    ]
    assert patches
    assert all(r.dry_run for r in patches)
    assert kube.get("Deployment", "trainer", namespace)["spec"]["template"]["metadata"]["annotations"][KNOB] == "4"


def test_an_empty_plan_asks_only_whether_the_cluster_answers(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "k8s_plan.json").write_text("[]")
    code, report = verify(tmp_path / "k8s_plan.json", cluster.kubeconfig)
    assert code == 0
    assert "nothing to try" in report["diagnostics"]["note"]


def test_missing_things_are_told_apart(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    _, report = verify(plan(tmp_path, namespace), cluster.kubeconfig)
    assert report["verify_blocker"]["kind"] == "deployment_missing"
    assert {"kind", "index", "namespace", "name", "detail"} == set(report["verify_blocker"])
    assert report["checks"]["items"][0]["deployment_exists"] is False
    _, report = verify(plan(tmp_path, "no-such-namespace"), cluster.kubeconfig)
    assert report["verify_blocker"]["kind"] == "namespace_missing"
    assert report["checks"]["items"][0]["namespace_exists"] is False


def test_rights(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> None:
    kube.apply(deployment(), namespace, manager="kustomize-controller")
    read = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]
    for name, rules, can_get in (("nobody", (), False), ("reader", read, True)):
        kube.service_account(namespace, name, rules=rules)
        config = cluster.kubeconfig_for(f"{namespace}/{name}")

        def seen(config: Path = config, can_get: bool = can_get) -> Any:
            _, report = verify(plan(tmp_path, namespace), config)
            return report if report["checks"]["items"][0]["auth_can_i_get_deployments"] is can_get else None

        # A new binding reaches the authoriser after a moment.
        report = wait_for(seen, 15, f"the rights of {name}")
        assert report["verify_blocker"]["kind"] == "rbac_denied"
        item = report["checks"]["items"][0]
        assert item["auth_can_i_patch_deployments"] is False
        assert item["deployment_exists"] is (True if can_get else None)
        assert item["dry_run"]["attempted"] is False


def test_a_foreign_owner_and_a_stale_value(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> None:
    kube.apply(deployment(), namespace, manager="kustomize-controller")
    kube.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "trainer"},
         "spec": {"template": {"metadata": {"annotations": {KNOB: "4"}}}}},
        namespace, manager="batch-tuner",
    )  # fmt: skip
    _, report = verify(plan(tmp_path, namespace), cluster.kubeconfig)
    assert report["verify_blocker"]["kind"] in ("dry_run_failed", "unknown")
    assert "batch-tuner" in report["verify_blocker"]["detail"]


@pytest.mark.parametrize("kubeconfig", ["closed port", "none at all", "nonsense"])
def test_no_cluster_is_a_report_too(kubeconfig: str, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    if kubeconfig == "closed port":
        path.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: far\ncontexts: [{name: far, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:9'}}]\nusers: [{name: u, user: {token: secret-token}}]\n"
        )
    elif kubeconfig == "nonsense":
        path.write_text("{]")
    code, report = verify(plan(tmp_path, "ml"), path)
    assert code == 1
    assert report["verify_blocker"]["kind"] == "cluster_unreachable"
    assert report["checks"]["cluster_reachable"] is False
    assert report["checks"]["items"][0]["namespace_exists"] is None
    assert "secret-token" not in json.dumps(report)


def test_bad_input_is_exit_2(tmp_path: Path) -> None:
    mk = [sys.executable, "-m", "gitops_mk", "k8s", "verify", "--out", str(tmp_path / "o")]
    for args in (
        ["--plan", str(tmp_path / "none.json")],
        ["--plan", str(plan(tmp_path, "ml")), "--kubeconfig", str(tmp_path / "none")],
    ):
        done = subprocess.run([*mk, *args], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("ERROR: ")
        assert "hint: " in done.stderr


def test_a_kubeconfig_that_runs_a_program_is_refused_unasked(cluster: Cluster, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    path = tmp_path / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: far\ncontexts: [{name: far, context: {cluster: c, user: u}}]\n"
        f"clusters: [{{name: c, cluster: {{server: '{cluster.server}'}}}}]\n"
        "users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: touch, "
        f"args: ['{canary}']}}}}}}]\n"
    )
    _, report = verify(plan(tmp_path, "ml"), path)
    assert "is not run unasked" in report["verify_blocker"]["detail"]
    assert not canary.exists()
