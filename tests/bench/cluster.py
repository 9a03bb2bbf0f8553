"""Against a real control plane: verify of one pull request beside the bare commands it stands for, and a reconcile that finds
nothing to do over 5,000 Deployments beside a raw list of them.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gitops_mk.adapters.git import GitRepo, init_bare
from gitops_mk.demo.embedded import embedded_files
from gitops_mk.model.change import Person
from gitops_mk.model.settings import CONFIG_PATH
from tests.cluster.control_plane import Cluster, started

VERIFY_AT_MOST = 1.3
RECONCILE_AT_MOST = 1.5
PEAK_MIB = 250.0
DEPLOYMENTS = 5_000
PADDING = 4_600

Say = Callable[[str], None]
# What a program without any judgement does: read every page, parse it.
LIST = """
import json, sys
from kubernetes import client, config
config.load_kube_config(config_file=sys.argv[1])
api, token, seen, calls = client.AppsV1Api(), None, 0, 0
while True:
    page = api.list_namespaced_deployment(
        sys.argv[2], limit=500, label_selector="modekeeper.dev/enabled=true", _continue=token, _preload_content=False)
    body = json.loads(page.data)
    seen, calls, token = seen + len(body["items"]), calls + 1, body["metadata"].get("continue")
    if not token:
        break
print(json.dumps({"seen": seen, "calls": calls}))
"""


def measure_cluster(mk: Sequence[str], runs: int, say: Say, *, deployments: int = DEPLOYMENTS) -> dict[str, float]:
    """The figures by name."""
    with started() as cluster, tempfile.TemporaryDirectory(prefix="mk-bench-cluster-") as folder:
        say(f"control plane up in {cluster.started_s:.1f} s")
        return measure_verify(cluster, mk, Path(folder), runs, say) | measure_reconcile(
            cluster, mk, Path(folder), say, deployments
        )


def measure_verify(cluster: Cluster, mk: Sequence[str], folder: Path, runs: int, say: Say) -> dict[str, float]:
    """`mk verify` with the cluster's word, and two builds with two server-side dry-runs."""
    namespace = "bench-verify"
    kube = cluster.kube()
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    repo = repository(folder / "verify", namespace, listed=True)
    kubectl = str(cluster.programs["kubectl"])
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    base = checked_out(repo, "main", folder / "base")
    kube.apply(built(kubectl, base), namespace, manager="kustomize-controller")
    kube.wait_rollout("trainer", namespace)
    out = folder / "out"
    proposed = subprocess.run(
        [*mk, "closed-loop", "run", "--apply", "--scenario", "straggler", "--repo", str(repo.git_dir), "--out", str(out)],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    branch = f"modekeeper/{namespace}/deployment-trainer"
    if repo.resolve(branch) is None:
        raise RuntimeError(f"nothing was proposed: {proposed.stdout}{proposed.stderr}")
    head = checked_out(repo, branch, folder / "head")
    ours = [*mk, "verify", "--base", "main", "--head", branch, "--repo", str(repo.git_dir), "--out", str(out)]
    apply = f"{kubectl} apply --dry-run=server -f -"
    bare = ["sh", "-ec", f"{kubectl} kustomize {base} | {apply}; {kubectl} kustomize {head} | {apply}"]
    pairs = [(timed(ours, env), timed(bare, env)) for _ in range(runs + 1)][1:]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    report: Any = json.loads((out / "verify_latest.json").read_text())
    if not report["ok"] or len(report["steps"]) != 12:
        raise RuntimeError(f"verify says {report['reason']}: {report['message']}")
    times = mine / theirs
    say(
        f"mk verify       {mine * 1000:.0f} ms, two builds and two server-side dry-runs by kubectl {theirs * 1000:.0f} ms: "
        f"{times:.2f}x (at most {VERIFY_AT_MOST}x)"
    )
    return {"verify ratio": times}


def measure_reconcile(
    cluster: Cluster, mk: Sequence[str], folder: Path, say: Say, deployments: int = DEPLOYMENTS
) -> dict[str, float]:
    """`mk controller run --once` over labelled Deployments that no sync tool claims, and a raw paged list of them."""
    namespace = "bench-reconcile"
    cluster.kube().create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    fill(cluster, namespace, deployments)
    repo = repository(folder / "reconcile", namespace, listed=False)
    out = folder / "reconcile-out"
    ours = [
        *mk, "controller", "run", "--once", "--repo", str(repo.git_dir), "--kubeconfig", str(cluster.kubeconfig),
        "--out", str(out),
    ]  # fmt: skip
    bare = [sys.executable, "-c", LIST, str(cluster.kubeconfig), namespace]
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    listed: Any = json.loads(subprocess.run(bare, check=True, capture_output=True, text=True).stdout)
    if listed["seen"] != deployments:
        raise RuntimeError(f"{listed['seen']} Deployments were listed, expected {deployments}")
    pairs = [(timed(ours, env), timed(bare, env)) for _ in range(3)]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    report: Any = json.loads((out / "controller_latest.json").read_text())
    if len(report["workloads"]) != deployments:
        raise RuntimeError(f"{len(report['workloads'])} workloads were looked at, expected {deployments}")
    peak = peak_of(ours, env)
    say(
        f"reconcile       {mine:.2f} s over {deployments} Deployments, a raw paged list {theirs:.2f} s: {mine / theirs:.2f}x "
        f"(at most {RECONCILE_AT_MOST}x); peak {peak:.0f} MiB (at most {PEAK_MIB:.0f}); {report['api_calls']} API calls, "
        f"{listed['calls']} of them pages of the list"
    )
    return {"reconcile ratio": mine / theirs, "reconcile peak MiB": peak, "reconcile calls": float(report["api_calls"])}


def repository(folder: Path, namespace: str, *, listed: bool) -> GitRepo:
    """A GitOps repository with the demo trainer, listed by name or left to discovery."""
    files = embedded_files()
    config = files[CONFIG_PATH].replace(b"namespace: ml", f"namespace: {namespace}".encode())
    config = config.replace(b"consult: never", b"consult: required")
    if not listed:
        config = re.sub(rb"(?s)workloads:.*", f"discovery:\n  namespaces: [{namespace}]\n".encode(), config)
    files[CONFIG_PATH] = config
    overlay = "overlays/demo/kustomization.yaml"
    files[overlay] = files[overlay].replace(b"namespace: ml", f"namespace: {namespace}".encode())
    folder.mkdir()
    repo = init_bare(folder / "gitops.git")
    author = Person(name="Platform Team", email="platform@gitops.invalid")
    tree = repo.write_tree(None, dict(files))
    commit = repo.write_commit(
        tree=tree, parents=[], message="Add the demo trainer\n", author=author, time=1_767_225_600
    )
    repo.run("update-ref", "refs/heads/main", commit)
    return repo


def checked_out(repo: GitRepo, ref: str, folder: Path) -> Path:
    """The tree of a ref as files; gives the overlay's folder."""
    for path, content in repo.files(ref).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder / "overlays/demo"


def built(kubectl: str, overlay: Path) -> str:
    """What the overlay builds."""
    return subprocess.run([kubectl, "kustomize", str(overlay)], check=True, capture_output=True, text=True).stdout


def fill(cluster: Cluster, namespace: str, count: int) -> None:
    """So many Deployments of about 6.6 kB, without pods."""
    kube = cluster.kube()

    def create(number: int) -> None:
        name = f"job-{number:05d}"
        template = {
            "metadata": {
                "labels": {"app": name},
                "annotations": {"modekeeper/knob.grad_accum_steps": "4", "note": "x" * PADDING},
            },
            "spec": {"containers": [{"name": "trainer", "image": "example.invalid/trainer:1"}]},
        }
        kube.create(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "labels": {"modekeeper.dev/enabled": "true"}},
                "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template},
            },
            namespace,
        )

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(count)))
    # The controllers behind the API server must not share the processors with what is measured.
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        items = kube.objects("Deployment", namespace)
        if all(item.get("status", {}).get("observedGeneration") for item in items):
            return
        time.sleep(2)
    raise RuntimeError("the Deployments were not all observed")


def timed(command: Sequence[str], env: Mapping[str, str]) -> float:
    """Wall time of one run, whatever its exit code says."""
    start = time.perf_counter()
    done = subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    took = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr}")
    return took


def peak_of(command: Sequence[str], env: Mapping[str, str]) -> float:
    """The largest resident size of one run, children included, in MiB."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, *command], check=True, capture_output=True, text=True, env=dict(env)
    ).stdout
    return int(out) / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0)
