"""Telemetry from pods at the command line: options, the configuration's default, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops_mk.model.settings import CONFIG_PATH
from tests.cli.conftest import Mk, commit_all, load
from tests.support.cluster import SimCluster
from tests.support.reading import steps

POD = ("--k8s-namespace", "ml", "--k8s-deployment", "trainer")


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch) -> SimCluster:
    """A cluster with one pod that has logged 50 steps."""
    cluster = SimCluster()
    cluster.deployment("trainer", "ml", containers=("trainer", "side"))
    cluster.pod("trainer", "trainer-0", "ml")
    cluster.write("trainer-0", *steps(*range(50)))
    cluster.write("trainer-0", b"something else\n", container="side")
    monkeypatch.setattr("gitops_mk.wiring.open_cluster", lambda *_: cluster)
    monkeypatch.setattr("gitops_mk.wiring.POD_LOGS_S", 0.5)
    return cluster


def test_observe(mk: Mk, sim: SimCluster) -> None:
    said = mk("observe", *POD, "--record-raw", "raw.jsonl", "--out", "o")
    assert said.code == 0, said.err
    body = load(Path("o/observe_latest.json"))
    assert body["source"] == "k8s"
    assert body["ingest"]["records"] == 50
    assert body["environment"]["nodes_seen"] == ["node-a"]
    assert Path("raw.jsonl").read_bytes() == b"".join(steps(*range(50)))
    assert {request["container"] for request in sim.requests} == {"trainer"}


def test_gaps_are_told(mk: Mk, sim: SimCluster) -> None:
    odd = sim.pod("trainer", "odd", "ml")
    odd["spec"]["containers"] = [{"name": "x"}, {"name": "y"}]
    sim.put(odd)
    said = mk("observe", "--source", "k8s", *POD, "--duration", "500ms", "--out", "o")
    assert "note: gap: odd: trainer has 2 containers" in said.out


def test_the_container_that_is_asked_for(mk: Mk, sim: SimCluster) -> None:
    said = mk("observe", *POD, "--container", "side", "--out", "o", "--json")
    assert said.code == 0, said.err
    assert said.json["ingest"]["lines"] == 1
    said = mk("observe", *POD, "--container", "other")
    assert said.code == 2
    assert "trainer has no container 'other' (asked for), it has: trainer, side" in said.error


def test_the_loop_reads_its_own_workload(mk: Mk, sim: SimCluster, checkout: Path) -> None:
    said = mk("closed-loop", "run", "--repo", checkout, "--observe-source", "k8s", "--out", "o")
    assert said.code == 0, said.err
    assert {request["container"] for request in sim.requests} == {"trainer"}
    assert load(Path("o/closed_loop_latest.json"))["out_dir"] == "o"

    config = checkout / CONFIG_PATH
    config.write_text(config.read_text().rstrip() + "\n    telemetry: {source: k8s, container: side}\n")
    commit_all(checkout)
    sim.requests.clear()
    said = mk("closed-loop", "run", "--repo", checkout, "--out", "p")
    assert said.code == 0, said.err
    assert {request["container"] for request in sim.requests} == {"side"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--k8s-deployment", "trainer"), "--k8s-namespace is missing"),
        (("--source", "k8s", "--k8s-namespace", "ml"), "--k8s-deployment is missing"),
        (("--k8s-deployment", "Trainer", "--k8s-namespace", "ml"), "--k8s-deployment: 'Trainer' is no Kubernetes name"),
        (("--k8s-deployment", "trainer", "--k8s-namespace", "a_b"), "--k8s-namespace: 'a_b' is no Kubernetes name"),
        (("--k8s-deployment", "other", "--k8s-namespace", "ml"), "there is no Deployment ml/other in context sim"),
        ((*POD, "--k8s-kind", "StatefulSet"), "there is no StatefulSet ml/trainer in context sim"),
    ],
)
def test_refusals(mk: Mk, sim: SimCluster, args: tuple[str, ...], says: str) -> None:
    said = mk("observe", *args, "--out", "o")
    assert said.code == 2
    assert says in said.error
    assert not Path("o/observe_latest.json").exists()


def test_no_cluster_at_all(mk: Mk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "there is no kubeconfig" in mk("observe", *POD).error
    assert "no such kubeconfig" in mk("observe", *POD, "--kubeconfig", "missing").error


def test_a_kubeconfig_variable_that_names_no_file_is_no_missing_cluster(
    mk: Mk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/typo:{tmp_path}/another")
    for command in (("observe", *POD), ("verify", "--base", "a", "--head", "b")):
        said = mk(*command)
        assert said.code == 2
        assert f"KUBECONFIG is '{tmp_path}/typo:{tmp_path}/another', and no such file is there" in said.error
    (tmp_path / "another").write_text("{}")
    assert "no such file" not in mk("observe", *POD).error
