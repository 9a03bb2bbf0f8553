"""Knobs in a ConfigMap on a real API server: `mk k8s verify`, the controller's record of a merge, and rights that are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from gitops_mk.adapters.git import GitRepo, init_bare
from gitops_mk.model.change import Person
from gitops_mk.model.plan import data_patch
from tests.cluster.audit import MUTATING, position, requests
from tests.cluster.control_plane import Cluster
from tests.cluster.kube import Json, Kube, wait_for

TEAM = Person(name="Platform Team", email="platform@gitops.invalid")
VALUES = {"dataloader_num_workers": "2", "dataloader_prefetch_factor": "2", "grad_accum_steps": "4"}
READ = ["get", "list", "watch"]
RULES: list[Json] = [
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets", "replicasets"], "verbs": READ},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": READ},
    {"apiGroups": [""], "resources": ["pods"], "verbs": READ},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
]
KNOB_MAPS: list[Json] = [
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]},
]
CLUSTER_RULES: list[Json] = [
    {"apiGroups": ["kustomize.toolkit.fluxcd.io"], "resources": ["kustomizations"], "verbs": READ},
    {"apiGroups": ["source.toolkit.fluxcd.io"], "resources": ["gitrepositories"], "verbs": READ},
    {"apiGroups": ["argoproj.io"], "resources": ["applications"], "verbs": READ},
]


def config_map(**values: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "knobs"}, "data": {**VALUES, **values}}


def job() -> Json:
    """A kind whose pod template no merge can change."""
    mounts = [{"name": "knobs", "mountPath": "/etc/knobs"}]
    spec = {
        "restartPolicy": "Never",
        "containers": [{"name": "trainer", "image": "example.invalid/trainer:1", "volumeMounts": mounts}],
        "volumes": [{"name": "knobs", "configMap": {"name": "knobs"}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train"},
        "spec": {"template": {"spec": spec}},
    }


def mk(
    kubeconfig: Path, *args: str, code: int | None = 0, licence: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "gitops_mk", *args],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "KUBECONFIG": str(kubeconfig), **(licence or {})},
    )  # fmt: skip
    assert code is None or done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


# -- a plan of its own ---------------------------------------------------------------------------------------------------


def verify(kubeconfig: Path, folder: Path, namespace: str, **values: int) -> Json:
    item = {
        "apiVersion": "v1", "kind": "ConfigMap", "namespace": namespace, "name": "knobs", "patch": data_patch(values), "reason": "r",
    }  # fmt: skip
    path = folder / "k8s_plan.json"
    path.write_text(json.dumps([item]))
    told = mk(kubeconfig, "k8s", "verify", "--plan", str(path), "--out", str(folder / "out"), "--json", code=None)
    report: Json = json.loads(told.stdout)
    return report


def test_a_plan_that_fits(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> None:
    kube.apply(config_map(), namespace, manager="kustomize-controller")
    start = position(cluster.audit_log)
    report = verify(cluster.kubeconfig, tmp_path, namespace, grad_accum_steps=8)
    assert report["ok"], report["verify_blocker"]
    (item,) = report["checks"]["items"]
    assert (item["kind"], item["name"], item["deployment_exists"]) == ("ConfigMap", "knobs", True)
    assert (item["auth_can_i_get_deployments"], item["auth_can_i_patch_deployments"]) == (True, True)
    assert (item["dry_run"]["attempted"], item["dry_run"]["ok"], item["dry_run"]["mode"]) == (True, True, "server")
    patches = [r for r in requests(cluster.audit_log, start=start) if r.verb == "patch" and r.namespace == namespace]
    assert patches
    assert all(r.dry_run for r in patches)
    assert kube.get("ConfigMap", "knobs", namespace)["data"] == VALUES
    script = mk(
        cluster.kubeconfig, "k8s", "render", "--plan", str(tmp_path / "k8s_plan.json"), "--out", str(tmp_path / "r")
    )
    assert script.returncode == 0
    assert "configmap/knobs" in (tmp_path / "r" / "k8s_plan.kubectl.sh").read_text()


def test_what_is_missing_is_told_apart(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> None:
    gone = verify(cluster.kubeconfig, tmp_path, namespace, grad_accum_steps=8)
    assert gone["verify_blocker"]["kind"] == "deployment_missing"
    assert f"there is no ConfigMap {namespace}/knobs" in gone["verify_blocker"]["detail"]
    kube.apply(config_map(), namespace, manager="batch-tuner")
    foreign = verify(cluster.kubeconfig, tmp_path, namespace, grad_accum_steps=8)
    assert "batch-tuner" in foreign["verify_blocker"]["detail"]
    fixed = {**config_map(), "immutable": True}
    kube.delete("ConfigMap", "knobs", namespace)
    kube.apply(fixed, namespace, manager="kustomize-controller")
    refused = verify(cluster.kubeconfig, tmp_path, namespace, grad_accum_steps=8)
    assert refused["verify_blocker"]["kind"] == "dry_run_failed"
    assert "immutable" in refused["verify_blocker"]["detail"]


def test_rights(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> None:
    kube.apply(config_map(), namespace, manager="kustomize-controller")
    for name, rules, can_get in (("nobody", (), False), ("reader", KNOB_MAPS[:1], True)):
        kube.service_account(namespace, name, rules=rules)
        kubeconfig = cluster.kubeconfig_for(f"{namespace}/{name}")

        def seen(kubeconfig: Path = kubeconfig, can_get: bool = can_get) -> Json | None:
            report = verify(kubeconfig, tmp_path, namespace, grad_accum_steps=8)
            return report if report["checks"]["items"][0]["auth_can_i_get_deployments"] is can_get else None

        report = wait_for(seen, 15, f"the rights of {name}")
        assert report["verify_blocker"]["kind"] == "rbac_denied"
        assert report["checks"]["items"][0]["dry_run"]["attempted"] is False


# -- the loop ------------------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """A Job that runs, the ConfigMap it has mounted, and the repository both come from."""

    cluster: Cluster
    kube: Kube
    namespace: str
    repo: GitRepo
    kubeconfig: Path
    user: str
    folder: Path
    licence: dict[str, str]

    def once(self) -> Json:
        args = (
            "controller",
            "run",
            "--once",
            "--repo",
            str(self.repo.git_dir),
            "--out",
            str(self.folder / "out"),
            "--json",
        )
        (row,) = json.loads(mk(self.kubeconfig, *args, licence=self.licence).stdout)["workloads"]
        found: Json = row
        return found

    def sync(self) -> None:
        """What Flux would do with the base branch's ConfigMap."""
        built = subprocess.run(
            ["kubectl", "kustomize", str(self.checkout())], capture_output=True, text=True, check=True
        ).stdout
        from ruamel.yaml import YAML

        for document in YAML(typ="safe").load_all(built):
            if document["kind"] == "ConfigMap":
                del document["metadata"]["namespace"]
                self.kube.apply(document, self.namespace, manager="kustomize-controller")

    def checkout(self) -> Path:
        folder = self.folder / f"checkout-{time.monotonic_ns()}"
        for name, text in self.repo.files(self.repo.resolve("main") or "").items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        return folder / "overlay"


@pytest.fixture
def site(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> Site:
    listed = {
        "namespace": namespace, "name": "train", "kind": "Job", "overlay": "overlay", "delivery": "configmap", "world_size": 1,
        "telemetry": {"source": "synthetic", "scenario": "straggler"},
    }  # fmt: skip
    config = {
        "version": "v1", "forge": {"kind": "local", "required_approvals": 0}, "cluster": {"consult": "required"},
        "workloads": [listed],
    }  # fmt: skip
    files = {
        ".modekeeper/config.yaml": json.dumps(config).encode(),
        "overlay/all.yaml": "\n---\n".join(json.dumps(one) for one in (config_map(), job())).encode(),
        "overlay/kustomization.yaml": json.dumps({"namespace": namespace, "resources": ["all.yaml"]}).encode(),
    }
    repo = init_bare(tmp_path / "gitops.git")
    commit = repo.write_commit(
        tree=repo.write_tree(None, dict(files)),
        parents=[],
        message="A job\n",
        author=TEAM,
        time=int(time.time()) - 3600,
    )
    repo.run("update-ref", "refs/heads/main", commit)
    for one in (config_map(), job()):
        kube.apply(one, namespace, manager="kustomize-controller")
    user = kube.service_account(namespace, "mk", rules=[*RULES, *KNOB_MAPS], cluster_rules=CLUSTER_RULES)
    kubeconfig = cluster.kubeconfig_for(f"{namespace}/mk")
    made = json.loads(mk(kubeconfig, "license", "mint-dev", "--out", str(tmp_path / "license"), "--json").stdout)
    licence = {
        "MODEKEEPER_LICENSE_PATH": made["license"], "MODEKEEPER_LICENSE_PUBLIC_KEYS_PATH": made["keyring"],
    }  # fmt: skip
    return Site(cluster, kube, namespace, repo, kubeconfig, user, tmp_path, licence)


def test_a_merge_is_on_record_once_the_config_map_has_it_and_the_job_runs_on(site: Site) -> None:
    start = position(site.cluster.audit_log)
    before = site.kube.get("Job", "train", site.namespace)
    row = site.once()
    assert row["state"] == "pull request #1 open", row
    assert "verify: ok" in row["message"]
    assert row["knobs"] == {}, "a ConfigMap is asked for where its workload is looked at"
    args = ("apply", "--pr", "1", "--repo", str(site.repo.git_dir), "--out", str(site.folder / "a"))
    mk(site.kubeconfig, *args, licence=site.licence)

    waiting = site.once()
    assert (waiting["state"], waiting["reason"]) == ("waiting", "out_of_sync")
    assert "dataloader_num_workers runs at 2" in waiting["message"]
    site.sync()
    done = site.once()
    assert done["state"] == "rolled out", done
    after = site.kube.get("Job", "train", site.namespace)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert site.kube.get("ConfigMap", "knobs", site.namespace)["data"]["dataloader_num_workers"] == "6"
    wrote = {
        (r.verb, r.what, r.dry_run) for r in requests(site.cluster.audit_log, site.user, verbs=MUTATING, start=start)
    }
    assert ("patch", "configmaps", True) in wrote
    assert wrote <= {
        ("patch", "configmaps", True),
        ("create", "selfsubjectaccessreviews.authorization.k8s.io", False),
        ("create", "events", False),
        ("patch", "events", False),
    }


def test_without_the_right_to_try_it_verify_says_so(site: Site) -> None:
    user = site.kube.service_account(
        site.namespace, "reader", rules=[*RULES, *KNOB_MAPS[:1]], cluster_rules=CLUSTER_RULES
    )
    assert user
    site.kubeconfig = site.cluster.kubeconfig_for(f"{site.namespace}/reader")

    def refused() -> Json | None:
        row = site.once()
        return row if f"may not patch ConfigMap {site.namespace}/knobs" in row["message"] else None

    row = wait_for(refused, 30, "verify's refusal")
    assert "rbac_denied" in row["message"] or row["reason"] == "rbac_denied"
