"""The controller's own processes against a real API server: what it finds, who writes, how it ends, and what it tells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gitops_mk.adapters.cluster.events import EventAnnouncer
from gitops_mk.adapters.cluster.lease import Lease
from gitops_mk.adapters.git import GitRepo, init_bare
from gitops_mk.model.change import Person
from gitops_mk.model.knob import annotation_key
from gitops_mk.wiring import open_cluster
from tests.cluster.audit import EVERY, position, requests
from tests.cluster.certificates import write_kubeconfig
from tests.cluster.control_plane import Cluster
from tests.cluster.flux import GIT_REPOSITORY, KUSTOMIZATION, Flux
from tests.cluster.kube import Json, Kube, wait_for
from tests.cluster.process import free_port
from tests.cluster.proxy import proxied

TEAM = Person(name="Platform Team", email="platform@gitops.invalid")
URL = "https://git.example.invalid/team/gitops.git"
ENABLED = {"modekeeper.dev/enabled": "true"}
KNOBS = {"dataloader_num_workers": 2, "dataloader_prefetch_factor": 2, "concurrency": 8}
READ = ["get", "list", "watch"]
RULES: list[Json] = [
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets", "replicasets"], "verbs": READ},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": READ},
    {"apiGroups": [""], "resources": ["pods"], "verbs": READ},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
]
CLUSTER_RULES: list[Json] = [
    {"apiGroups": ["kustomize.toolkit.fluxcd.io"], "resources": ["kustomizations"], "verbs": READ},
    {"apiGroups": ["source.toolkit.fluxcd.io"], "resources": ["gitrepositories"], "verbs": READ},
    {"apiGroups": ["argoproj.io"], "resources": ["applications"], "verbs": READ},
]
START_S = 60.0
# Field managers of others are foreign owners of the knobs.
SYNCER = "argocd-controller"


# -- what stands in Git and in the cluster -----------------------------------------------------------------------------


def deployment(
    name: str,
    *,
    knobs: dict[str, int] | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    replicas: int = 0,
) -> Json:
    """A Deployment with knobs. Without replicas it is at rest as soon as it was looked at."""
    values = KNOBS if knobs is None else knobs
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {
                    "labels": {"app": name},
                    "annotations": {annotation_key(knob): str(value) for knob, value in values.items()},
                },
                "spec": {"containers": [{"name": "trainer", "image": "example.invalid/trainer:1"}]},
            },
        },
    }


def overlay(namespace: str, *made: Json) -> dict[str, bytes]:
    files = {f"{one['metadata']['name']}.yaml": json.dumps(one).encode() for one in made}
    files["kustomization.yaml"] = json.dumps({"namespace": namespace, "resources": sorted(files)}).encode()
    return files


def config(**fields: Any) -> bytes:
    return json.dumps({
        "version": "v1",
        "base_branch": "main",
        "defaults": {"passport": "pilot"},
        "forge": {"kind": "local", "required_approvals": 1, "urls": [URL]},
        "cluster": {"consult": "never"},
        **fields,
    }).encode()  # fmt: skip


def repository(path: Path, files: dict[str, bytes]) -> GitRepo:
    repo = init_bare(path)
    commit(repo, files, first=True)
    return repo


def commit(repo: GitRepo, files: dict[str, bytes], *, first: bool = False) -> str:
    old = None if first else repo.resolve("main")
    tree = repo.write_tree(old, dict(files))
    sha = repo.write_commit(
        tree=tree, parents=[old] if old else [], message="By hand\n", author=TEAM, time=int(time.time())
    )
    repo.run("update-ref", "refs/heads/main", sha)
    return sha


@dataclass
class Site:
    """A namespace with one Deployment that the configuration lists, its repository, and an identity that may only read."""

    cluster: Cluster
    kube: Kube
    namespace: str
    repo: GitRepo
    kubeconfig: Path
    user: str
    folder: Path
    telemetry: Json = field(default_factory=dict)

    def run(self, *args: str, code: int | None = 0, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "gitops_mk", *args],
            capture_output=True, text=True, env=self.env(kubeconfig), timeout=120, check=False,
        )  # fmt: skip
        assert code is None or done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def env(self, kubeconfig: Path | None = None) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(kubeconfig or self.kubeconfig), "PYTHONUNBUFFERED": "1"}

    def refs(self) -> dict[str, str]:
        return self.repo.refs("refs/")

    def prs(self) -> list[Json]:
        found: list[Json] = json.loads(self.run("pr", "list", "--repo", str(self.repo.git_dir), "--json").stdout)
        return found


@pytest.fixture
def site(cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path) -> Site:
    return made_site(cluster, kube, namespace, tmp_path, {"source": "synthetic", "scenario": "straggler"})


def made_site(cluster: Cluster, kube: Kube, namespace: str, folder: Path, telemetry: Json) -> Site:
    listed = {"namespace": namespace, "name": "trainer", "overlay": "overlays/trainer", "telemetry": telemetry}
    built = overlay(namespace, deployment("trainer"))
    repo = repository(
        folder / "gitops.git",
        {".modekeeper/config.yaml": config(workloads=[listed]), **{f"overlays/trainer/{k}": v for k, v in built.items()}},
    )  # fmt: skip
    user = kube.service_account(namespace, "mk", rules=RULES, cluster_rules=CLUSTER_RULES)
    kube.apply(deployment("trainer"), namespace, manager=SYNCER)
    kube.wait_rollout("trainer", namespace)
    return Site(cluster, kube, namespace, repo, cluster.kubeconfig_for(f"{namespace}/mk"), user, folder, telemetry)


# -- the process -------------------------------------------------------------------------------------------------------


@dataclass
class Running:
    """A controller that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self, event: str) -> list[Json]:
        told = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in told if line["event"] == event]

    def wait(self, event: str, timeout: float = START_S) -> Json:
        def found() -> Json | None:
            lines = self.lines(event)
            assert lines or self.process.poll() is None, self.log.read_text()
            return lines[0] if lines else None

        return wait_for(found, timeout, f"{event} in the log")

    def stop(self) -> int:
        """SIGTERM; the exit code, within 10 s."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def fetch(self, path: str) -> tuple[int, str]:
        port = self.wait("listening")["port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()


@contextmanager
def controller(site: Site, name: str, *more: str, kubeconfig: Path | None = None) -> Iterator[Running]:
    log = site.folder / f"{name}.log"
    argv = [
        sys.executable, "-m", "gitops_mk", "controller", "run", "--repo", str(site.repo.git_dir), "--interval", "2s",
        "--listen", "127.0.0.1:0", "--out", str(site.folder / name), *more,
    ]  # fmt: skip
    with log.open("wb") as sink, subprocess.Popen(argv, stdout=sink, stderr=sink, env=site.env(kubeconfig)) as process:
        try:
            yield Running(process, log)
        finally:
            if process.poll() is None:
                process.kill()
            print(f"--- {name}\n{log.read_text()[-3000:]}")


# -- one leads ---------------------------------------------------------------------------------------------------------


def test_one_of_two_writes_and_the_other_takes_over_where_it_was_killed(site: Site) -> None:
    lease = ("--lease", f"{site.namespace}/mk")
    start = position(site.cluster.audit_log)
    with controller(site, "first", *lease) as first:
        first.wait("leading")
        with controller(site, "second", *lease) as second:
            second.wait("listening")
            # In the midst of it: the branch is pushed, and what follows from it maybe not.
            wait_for(
                lambda: any("heads/modekeeper/" in ref for ref in site.refs()) or None, 60, "the branch", every=0.002
            )
            first.process.kill()
            assert first.process.wait(10) == -signal.SIGKILL
            assert second.lines("leading") == []
            assert second.lines("reconciled") == []
            second.wait("leading", 40)
            wait_for(lambda: site.prs() or None, 60, "the pull request")
            second.wait("reconciled")
            assert second.stop() == 0
    (pr,) = site.prs()
    assert (pr["number"], pr["state"]) == (1, "open")
    assert [ref for ref in site.refs() if "heads/modekeeper/" in ref] == [f"refs/heads/{pr['branch']}"]
    holder = site.kube.get("Lease", "mk", site.namespace)["spec"]
    assert holder["holderIdentity"] == "", "given up at the end"
    wrote = {r.what for r in requests(site.cluster.audit_log, site.user, start=start) if not r.dry_run}
    assert wrote <= {"leases.coordination.k8s.io", "events", "selfsubjectaccessreviews.authorization.k8s.io"}


def test_cut_off_from_the_server_the_leader_ends_with_1(cluster: Cluster, site: Site) -> None:
    with proxied(cluster) as proxy:
        through = proxy.kubeconfig(site.kubeconfig, site.folder / "through", cluster)
        with controller(site, "cut", "--lease", f"{site.namespace}/mk", kubeconfig=through) as running:
            running.wait("leading")
            wait_for(lambda: site.prs() or None, 60, "the pull request")
            proxy.down.set()
            assert running.process.wait(40) == 1
            assert running.lines("lease_lost")
            assert running.lines("stopped")


def test_twenty_real_candidates_one_leads(cluster: Cluster, namespace: str) -> None:
    http = open_cluster(str(cluster.kubeconfig))
    clock = [100.0]
    crowd = [Lease(http, namespace, "mk", identity=f"c{n}", monotonic=lambda: clock[0]) for n in range(20)]
    assert _leaders(crowd) == 1
    assert _leaders(crowd) <= 1, "renewed, or nothing"
    clock[0] += 15.0
    assert _leaders(crowd) == 1
    leader = next(one for one in crowd if one.lead())
    leader.stop()
    assert not any(one.lead() for one in crowd)
    other = next(one for one in crowd if one is not leader)
    assert other.attempt(), "released it is free at once"


def _leaders(crowd: list[Lease]) -> int:
    ready = threading.Barrier(len(crowd))

    def attempt(one: Lease) -> None:
        ready.wait(30)
        one.attempt()

    threads = [threading.Thread(target=attempt, args=(one,)) for one in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return sum(one.lead() for one in crowd)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_sigterm_while_a_log_is_read_that_does_not_come(
    cluster: Cluster, kube: Kube, namespace: str, tmp_path: Path
) -> None:
    site = made_site(cluster, kube, namespace, tmp_path, {"source": "k8s"})
    kube.apply(deployment("trainer", replicas=1), namespace, manager=SYNCER)
    files = overlay(namespace, deployment("trainer", replicas=1))
    commit(site.repo, {f"overlays/trainer/{name}": text for name, text in files.items()})
    kube.wait_rollout("trainer", namespace)
    before = site.refs()
    with proxied(cluster) as proxy:
        proxy.hangs = lambda method, path: path.partition("?")[0].endswith("/log")
        through = proxy.kubeconfig(site.kubeconfig, tmp_path / "through", cluster)
        with controller(site, "stopped", "--lease", f"{namespace}/mk", kubeconfig=through) as running:
            wait_for(lambda: proxy.hung.is_set() or None, START_S, "the request for a log")
            assert running.stop() == 0
            assert running.lines("stopping")[0]["signal"] == "SIGTERM"
            assert running.lines("stopped")
    assert site.refs() == before
    assert kube.get("Lease", "mk", namespace)["spec"]["holderIdentity"] == ""


def test_sigterm_while_nothing_answers_any_more(cluster: Cluster, site: Site) -> None:
    with proxied(cluster) as proxy:
        through = proxy.kubeconfig(site.kubeconfig, site.folder / "through", cluster)
        with controller(site, "silent", "--lease", f"{site.namespace}/mk", kubeconfig=through) as running:
            running.wait("leading")
            proxy.hangs = lambda method, path: True
            wait_for(lambda: proxy.hung.is_set() or None, START_S, "a request that hangs")
            assert running.stop() == 0


def test_sigterm_while_the_word_of_the_cluster_on_a_change_does_not_come(cluster: Cluster, site: Site) -> None:
    before = site.refs()
    with proxied(cluster) as proxy:
        through = proxy.kubeconfig(site.kubeconfig, site.folder / "through", cluster)
        # Dry-runs, questions of rights and Events: what the thread that decides asks for, and waits for.
        proxy.hangs = lambda method, path: method != "GET" and "/leases" not in path
        with controller(site, "unheard", "--lease", f"{site.namespace}/mk", kubeconfig=through) as running:
            wait_for(lambda: proxy.hung.is_set() or None, START_S, "a request that hangs")
            assert running.stop() == 0
            assert running.lines("stopped")
    assert site.refs()["refs/heads/main"] == before["refs/heads/main"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after", ["listening", "leading", "reconciled"])
def test_told_to_stop_at_any_moment(site: Site, number: signal.Signals, after: str) -> None:
    with controller(site, "ended") as running:
        running.wait(after)
        running.process.send_signal(number)
        assert running.process.wait(10) == 0
    assert len(site.prs()) <= 1


def test_once_tells_and_ends(site: Site) -> None:
    done = site.run(
        "controller", "run", "--once", "--json", "--repo", str(site.repo.git_dir), "--out", str(site.folder / "once")
    )
    (row,) = json.loads(done.stdout)["workloads"]
    assert (row["workload"], row["state"]) == (f"{site.namespace}/deployment-trainer", "pull request #1 open")
    site.kube.patch("Deployment", "trainer", {"spec": {"paused": True}}, site.namespace)
    done = site.run("controller", "run", "--once", "--repo", str(site.repo.git_dir), "--out", str(site.folder / "once"))
    assert "left alone; suspended" in done.stdout + done.stderr


# -- probes and metrics ------------------------------------------------------------------------------------------------


def test_metrics_and_probes(site: Site) -> None:
    with controller(site, "probed") as running:
        wait_for(lambda: running.fetch("/readyz")[0] == 200 or None, START_S, "/readyz")
        running.wait("reconciled")
        wait_for(lambda: "mk_pull_requests{" in running.fetch("/metrics")[1] or None, START_S, "the pull request")
        assert running.fetch("/healthz") == (200, "ok\n")
        assert running.fetch("/nothing")[0] == 404
        families = {one.name: one for one in text_string_to_metric_families(running.fetch("/metrics")[1])}
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for one in families.values()
            for sample in one.samples
        }
        assert samples["mk_pull_requests", ("state", "open")] == 1
        assert samples["mk_workloads", ("reason", "ready")] == 1
        assert samples["mk_proposals_total", ("outcome", "created")] == 1
        assert samples["mk_leader",] == 1
        assert samples["mk_api_calls_total",] > 5
        assert samples["mk_reconcile_errors_total",] == 0
        assert running.stop() == 0
    events = [e for e in site.kube.objects("Event", site.namespace) if e.get("reportingComponent") == "modekeeper"]
    assert [(e["reason"], e["count"], e["involvedObject"]["name"]) for e in events] == [("ChordProposed", 1, "trainer")]
    report = json.loads((site.folder / "probed" / "controller_latest.json").read_text())
    assert [row["state"] for row in report["workloads"]] == ["pull request #1 open"]


def test_a_server_that_can_not_be_reached(site: Site) -> None:
    closed = write_kubeconfig(site.folder / "closed", f"https://127.0.0.1:{free_port()}", site.cluster.ca, token="none")
    done = site.run(
        "controller", "run", "--once", "--repo", str(site.repo.git_dir), "--out", str(site.folder / "once"),
        code=1, kubeconfig=closed,
    )  # fmt: skip
    assert done.stderr.startswith("ERROR: https://127.0.0.1:")
    assert "can't be reached" in done.stderr
    assert "hint: " in done.stderr
    with controller(site, "alone", kubeconfig=closed) as running:
        running.wait("cluster_trouble")

        def unready() -> str | None:
            # Until the first round it only says that it is starting.
            status, text = running.fetch("/readyz")
            assert status == 503
            return text if "is not listed yet" in text else None

        wait_for(unready, 30, "/readyz that names the list")
        assert running.fetch("/healthz")[0] == 200
        assert running.stop() == 0
    assert site.prs() == []


def test_a_kubeconfig_that_is_not_there_ends_it_at_once(site: Site) -> None:
    done = site.run(
        "controller", "run", "--kubeconfig", str(site.folder / "none"), "--repo", str(site.repo.git_dir),
        "--out", str(site.folder / "out"), code=2,
    )  # fmt: skip
    assert "no such kubeconfig" in done.stderr


def test_the_configuration_changes_under_it(site: Site) -> None:
    with controller(site, "changing") as running:
        running.wait("reconciled")
        listed = {"namespace": site.namespace, "name": "other", "overlay": "overlays/other"}
        files = {f"overlays/other/{k}": v for k, v in overlay(site.namespace, deployment("other")).items()}
        commit(site.repo, {".modekeeper/config.yaml": config(workloads=[listed]), **files})
        running.wait("configuration_changed")
        report = site.folder / "changing" / "controller_latest.json"
        rows = wait_for(
            lambda: _rows(report) if f"{site.namespace}/deployment-other" in _rows(report) else None, 30, "the report"
        )
        assert list(rows) == [f"{site.namespace}/deployment-other"]
        assert rows[f"{site.namespace}/deployment-other"]["reason"] == "deployment_missing"
        assert running.stop() == 0


def _rows(report: Path) -> dict[str, Json]:
    return {row["workload"]: row for row in json.loads(report.read_text())["workloads"] if row["reason"]}


# -- Events ------------------------------------------------------------------------------------------------------------


def counted(kube: Kube, namespace: str) -> dict[tuple[str, str], int]:
    return {
        (e["reason"], e["type"]): e["count"]
        for e in kube.objects("Event", namespace)
        if e.get("reportingComponent") == "modekeeper"
    }


def test_events_are_recorded_and_counted_up(site: Site) -> None:
    live = {**deployment("trainer"), **site.kube.get("Deployment", "trainer", site.namespace)}
    told: list[str] = []
    http = open_cluster(str(site.kubeconfig))
    ours = EventAnnouncer(http, tell=told.append)
    for _ in range(3):
        ours.announce(live, reason="VerifyFailed", message="it does not build", warning=True)
    ours.announce(live, reason="ChordProposed", message="#1")
    assert counted(site.kube, site.namespace) == {("VerifyFailed", "Warning"): 3, ("ChordProposed", "Normal"): 1}
    # A controller that was started again counts on, though it may not read Events.
    again = EventAnnouncer(http, tell=told.append)
    again.announce(live, reason="VerifyFailed", message="it does not build", warning=True)
    again.announce(live, reason="VerifyFailed", message="it does not build", warning=True)
    assert counted(site.kube, site.namespace)["VerifyFailed", "Warning"] == 5
    # The server keeps them for an hour.
    for event in site.kube.objects("Event", site.namespace):
        site.kube.delete("Event", event["metadata"]["name"], site.namespace)
    again.announce(live, reason="VerifyFailed", message="it does not build", warning=True)
    assert counted(site.kube, site.namespace) == {("VerifyFailed", "Warning"): 1}
    assert told == []


def test_an_event_that_is_refused_is_told_and_made_later(site: Site) -> None:
    live = {**deployment("trainer"), **site.kube.get("Deployment", "trainer", site.namespace)}
    told: list[str] = []
    site.kube.service_account(site.namespace, "stranger")
    stranger = EventAnnouncer(
        open_cluster(str(site.cluster.kubeconfig_for(f"{site.namespace}/stranger"))), tell=told.append
    )
    stranger.announce(live, reason="ChordProposed", message="#1")
    stranger.announce(live, reason="ChordProposed", message="#1")
    assert len(told) == 2
    assert all("403" in text for text in told)
    site.kube.service_account(site.namespace, "stranger", rules=RULES)
    wait_for(lambda: _announced(stranger, live, site), 10, "the Event")


def _announced(announcer: EventAnnouncer, live: Json, site: Site) -> bool | None:
    announcer.announce(live, reason="ChordProposed", message="#1")
    return counted(site.kube, site.namespace).get(("ChordProposed", "Normal"), 0) >= 1 or None


@pytest.mark.parametrize("length", [1, 199, 200, 201, 253])
def test_an_event_of_any_name(site: Site, length: int) -> None:
    told: list[str] = []
    # The cut comes right at a dash.
    name = ("a" * 199 + "-" + "b" * 60)[:length]
    made = deployment("x")
    made["metadata"] = {"name": name, "namespace": site.namespace, "uid": str(uuid.uuid4())}
    EventAnnouncer(open_cluster(str(site.kubeconfig)), tell=told.append).announce(
        made, reason="ChordProposed", message="m" * 5000
    )
    assert told == []
    assert counted(site.kube, site.namespace) == {("ChordProposed", "Normal"): 1}


# -- discovery ---------------------------------------------------------------------------------------------------------

APPLICATIONS: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "applications.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "scope": "Namespaced",
        "names": {"kind": "Application", "plural": "applications", "singular": "application", "listKind": "ApplicationList"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}  # fmt: skip
COMMIT = "4" * 40


@pytest.fixture
def argo(kube: Kube) -> str:
    """Argo CD's kind alone, without its controllers: what they would write is written here."""
    kube.apply(APPLICATIONS)
    kube.resource("argoproj.io/v1alpha1/Application", timeout=15)
    return "argoproj.io/v1alpha1"


def application(name: str, path: str, *, source: Json | None = None, spec: Json | None = None, **status: Any) -> Json:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name},
        "spec": {"source": {"repoURL": URL, "path": path, "targetRevision": "main", **(source or {})}, **(spec or {})},
        "status": {
            "sync": {"status": "Synced", "revision": COMMIT},
            "health": {"status": "Healthy"},
            "sourceType": "Kustomize",
            "operationState": {"phase": "Succeeded"},
            **status,
        },
    }


def tracked(app: str, namespace: str, name: str) -> dict[str, str]:
    return {"argocd.argoproj.io/tracking-id": f"{namespace}_{app}:apps/Deployment:{namespace}/{name}"}


@dataclass
class Case:
    """A labelled Deployment, the Application that claims it, and what is to be said of it."""

    reason: str | None
    app: Json | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    knobs: dict[str, int] | None = None
    in_git: bool = True
    paused: bool = False


def cases(namespace: str) -> dict[str, Case]:
    def app(name: str, **over: Any) -> Json:
        return application(name, f"overlays/{name}", **over)

    return {
        "ready": Case(None, app("ready")),
        "by-hand": Case("not_enabled", app("by-hand"), in_git=False),
        "out-of-sync": Case("out_of_sync", app("out-of-sync", sync={"status": "OutOfSync", "revision": COMMIT})),
        "syncing": Case("out_of_sync", app("syncing", operationState={"phase": "Running"})),
        "failed": Case("out_of_sync", app("failed", operationState={"phase": "Failed", "message": "no such field"})),
        "degraded": Case("degraded", app("degraded", health={"status": "Degraded"})),
        "resting": Case("suspended", app("resting", health={"status": "Suspended"})),
        "paused": Case("suspended", app("paused"), paused=True),
        "charted": Case("helm_only", app("charted", source={"chart": "trainer", "path": ""})),
        "helm": Case("helm_only", annotations={"meta.helm.sh/release-name": "helm"}),
        "rendered": Case("rendered_source", app("rendered", source={"plugin": {"name": "x"}})),
        "hydrated": Case("rendered_source", app("hydrated", spec={"sourceHydrator": {"drySource": {}}})),
        "pinned": Case("pinned_source", app("pinned", source={"targetRevision": "v1.*"})),
        "elsewhere": Case("other_repository", app("elsewhere", source={"repoURL": "https://git.example.invalid/other"})),
        "branch": Case("other_repository", app("branch", source={"targetRevision": "release"})),
        "unclaimed": Case("no_source"),
        "no-knobs": Case("unknown_knob", app("no-knobs"), knobs={}),
        "two-sources": Case(
            "ambiguous_source",
            app("two-sources", spec={"sources": [{"repoURL": URL, "path": "a"}, {"repoURL": URL, "path": "b"}]}),
        ),
    }  # fmt: skip


@pytest.fixture
def found(cluster: Cluster, kube: Kube, namespace: str, argo: str, tmp_path: Path) -> Site:
    made = cases(namespace)
    files = {
        ".modekeeper/config.yaml": config(
            discovery={"namespaces": [namespace]},
            workloads=[{"namespace": namespace, "name": "gone", "overlay": "overlays/gone"}],
        )
    }
    for name, case in made.items():
        labels = {**ENABLED, **case.labels}
        annotations = {**case.annotations, **(tracked(name, namespace, name) if case.app is not None else {})}
        one = deployment(name, knobs=case.knobs, labels=labels, annotations=annotations)
        built = deployment(name, knobs=case.knobs, labels=labels if case.in_git else {})
        files |= {f"overlays/{name}/{path}": text for path, text in overlay(namespace, built).items()}
        if case.paused:
            one["spec"]["paused"] = True
        kube.apply(one, namespace, manager=SYNCER)
        if case.app is not None:
            kube.apply(case.app, namespace)
    kube.apply(deployment("unlabelled"), namespace)
    repo = repository(tmp_path / "gitops.git", files)
    user = kube.service_account(namespace, "mk", rules=RULES, cluster_rules=CLUSTER_RULES)

    def settled() -> bool | None:
        return all("observedGeneration" in d.get("status", {}) for d in kube.objects("Deployment", namespace)) or None

    wait_for(settled, 30, "the Deployments to be looked at")
    return Site(cluster, kube, namespace, repo, cluster.kubeconfig_for(f"{namespace}/mk"), user, tmp_path)


def workloads(site: Site) -> dict[str, Json]:
    told = json.loads(site.run("workloads", "--repo", str(site.repo.git_dir), "--json").stdout)
    return {row["name"]: row for row in told["workloads"] if row["namespace"] == site.namespace}


def test_what_is_found_and_why_it_is_left_alone(found: Site) -> None:
    rows = workloads(found)
    assert {name: row["reason"] for name, row in rows.items()} == {
        **{name: case.reason for name, case in cases(found.namespace).items()},
        "gone": "deployment_missing",
    }
    ready = rows["ready"]
    assert ready["state"] == "ready"
    assert ready["knobs"] == KNOBS
    assert ready["source"] == "argocd overlays/ready@main"
    assert ready["source_detail"]["revision"] == COMMIT
    assert ready["message"] == ""
    assert all(row["message"] for row in rows.values() if row["reason"])
    assert {row["state"] for row in rows.values() if row["reason"]} == {"left alone"}
    # For people, too.
    assert "helm_only" in found.run("workloads", "--repo", str(found.repo.git_dir)).stdout


def test_once_over_all_of_them_makes_no_pull_request_and_is_0(found: Site) -> None:
    """Only one is ready, and its telemetry is a file that nobody names: take it out, and all are left alone."""
    found.kube.delete("Deployment", "ready", found.namespace)
    before = found.refs()
    done = found.run(
        "controller", "run", "--once", "--json", "--repo", str(found.repo.git_dir), "--out", str(found.folder / "out")
    )
    states = {row["state"] for row in json.loads(done.stdout)["workloads"]}
    assert states == {"left alone"}
    assert found.refs() == before


def test_a_namespace_that_is_not_open(found: Site) -> None:
    """The label counts only where the base branch allows it. It is seen for the sake of a listed neighbour."""
    listed = {"namespace": found.namespace, "name": "unclaimed", "overlay": "overlays/unclaimed"}
    commit(found.repo, {".modekeeper/config.yaml": config(workloads=[listed])})
    rows = workloads(found)
    assert rows["ready"]["reason"] == "not_enabled"
    assert "discovery.namespaces" in rows["ready"]["message"]
    # Listed, it needs no sync tool to vouch for it.
    assert rows["unclaimed"]["reason"] is None
    commit(found.repo, {".modekeeper/config.yaml": config()})
    assert workloads(found) == {}


def test_the_watch_sees_what_the_list_sees(found: Site) -> None:
    with controller(found, "watching") as running:
        report = found.folder / "watching" / "controller_latest.json"
        expected = {
            **{name: case.reason for name, case in cases(found.namespace).items()},
            "gone": "deployment_missing",
        }
        # Its telemetry is a file that nobody names.
        expected["ready"] = "error"

        def told() -> dict[str, str] | None:
            if not report.exists():
                return None
            rows = json.loads(report.read_text())["workloads"]
            prefix = f"{found.namespace}/deployment-"
            seen = {row["workload"].removeprefix(prefix): row["reason"] or row["state"] for row in rows}
            return seen if "not looked at yet" not in seen.values() else None

        assert wait_for(told, 60, "the report") == expected
        # The label is taken away, and comes back.
        found.kube.patch(
            "Deployment", "helm", {"metadata": {"labels": {"modekeeper.dev/enabled": None}}}, found.namespace
        )
        wait_for(lambda: "helm" not in (told() or expected) or None, 30, "helm to be gone")
        found.kube.patch(
            "Application", "degraded", {"status": {"health": {"status": "Suspended"}}}, found.namespace
        )  # fmt: skip
        wait_for(lambda: (told() or {}).get("degraded") == "suspended" or None, 30, "degraded to be suspended")
        assert running.stop() == 0


def test_pages_and_watches_and_no_list_a_turn(found: Site) -> None:
    """What is watched is not listed again and again."""
    start = position(found.cluster.audit_log)
    with controller(found, "counted") as running:
        wait_for(lambda: running.fetch("/readyz")[0] == 200 or None, START_S, "/readyz")
        report = found.folder / "counted" / "controller_latest.json"
        wait_for(lambda: report.exists() or None, 30, "two turns")
        running.stop()
    seen = list(requests(found.cluster.audit_log, found.user, verbs=EVERY, start=start))
    lists = [r.what for r in seen if r.verb == "list"]
    assert len(lists) == len(set(lists)), lists


def test_flux_suspended(cluster: Cluster, kube: Kube, flux: Flux, namespace: str, tmp_path: Path) -> None:
    """Real Flux, which has fetched nothing yet: not ready; then suspended."""
    name = f"mk-{namespace}"
    labels = {
        "kustomize.toolkit.fluxcd.io/name": name,
        "kustomize.toolkit.fluxcd.io/namespace": flux.namespace,
    }
    flux.git_repository(name, URL)
    flux.kustomization(name, source=name, path="./overlays/trainer")
    listed = {"namespace": namespace, "name": "trainer", "overlay": "overlays/trainer"}
    built = overlay(namespace, deployment("trainer"))
    repo = repository(
        tmp_path / "gitops.git",
        {".modekeeper/config.yaml": config(workloads=[listed]), **{f"overlays/trainer/{k}": v for k, v in built.items()}},
    )  # fmt: skip
    kube.apply(deployment("trainer", labels=labels), namespace, manager=SYNCER)
    kube.wait_rollout("trainer", namespace)
    user = kube.service_account(namespace, "mk", rules=RULES, cluster_rules=CLUSTER_RULES)
    site = Site(cluster, kube, namespace, repo, cluster.kubeconfig_for(f"{namespace}/mk"), user, tmp_path)
    try:
        row = workloads(site)["trainer"]
        assert (row["reason"], row["source"]) == ("out_of_sync", "flux overlays/trainer@main")
        kube.patch(KUSTOMIZATION, name, {"spec": {"suspend": True}}, flux.namespace)
        assert workloads(site)["trainer"]["reason"] == "suspended"
        kube.patch(KUSTOMIZATION, name, {"spec": {"suspend": False}}, flux.namespace)
        kube.patch(GIT_REPOSITORY, name, {"spec": {"suspend": True}}, flux.namespace)
        assert workloads(site)["trainer"]["reason"] == "suspended"
    finally:
        kube.delete(KUSTOMIZATION, name, flux.namespace)
        kube.delete(GIT_REPOSITORY, name, flux.namespace)
