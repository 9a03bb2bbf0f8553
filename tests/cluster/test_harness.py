"""The harness around the test cluster, as far as it needs none: programs, processes, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import build, control_plane
from tests.cluster.audit import EVERY, counts, requests
from tests.cluster.build import BINARIES, CONTROL_PLANE, TOOLS, binary
from tests.cluster.control_plane import Cluster
from tests.cluster.kubelet import cri_lines
from tests.cluster.process import Components, PortTakenError, StartError, free_port
from tests.support.unavailable import Unavailable

ROOT = Path(__file__).resolve().parents[2]
AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.26; exit; fi
echo run >> "$RUNS"
while [ "$1" != -o ]; do shift; done
mkdir -p "$(dirname "$2")"
[ -z "$BROKEN" ] || { echo "no required module" >&2; exit 1; }
echo "#!/bin/sh" > "$2"; chmod +x "$2"
"""


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `go` that builds at once; gives the file with a line for each build."""
    (tmp_path / "bin").mkdir()
    go = tmp_path / "bin" / "go"
    go.write_text(GO)
    go.chmod(0o755)
    runs = tmp_path / "runs"
    runs.touch()
    monkeypatch.setenv("PATH", f"{go.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("RUNS", str(runs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    build._key.cache_clear()
    return runs


@pytest.fixture(autouse=True)
def _fresh_keys() -> Iterator[None]:
    yield
    build._key.cache_clear()


# -- programs --------------------------------------------------------------------------------------------------------


def test_every_program_is_pinned() -> None:
    for name, tool in BINARIES.items():
        text = (TOOLS / tool.module / "go.mod").read_text()
        assert tool.package in text, name
        assert (TOOLS / tool.module / "go.sum").exists()


def test_a_program_is_built_once(fake_go: Path, capfd: pytest.CaptureFixture[str]) -> None:
    threads = [threading.Thread(target=binary, args=("etcd",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.access(binary("etcd"), os.X_OK)
    assert fake_go.read_text() == "run\n"
    assert "building etcd (about half a minute, once) ..." in capfd.readouterr().err
    assert [p.name for p in build.cache_folder().iterdir() if p.name != ".lock"] == [binary("etcd").parent.name]


def test_a_failed_build_says_why_and_leaves_nothing(fake_go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(Unavailable, match="no required module"):
        binary("etcd")
    monkeypatch.delenv("BROKEN")
    assert binary("etcd").exists()
    assert fake_go.read_text() == "run\nrun\n"


def test_assets_come_first(fake_go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    (assets / "etcd").write_text("not to be run")
    assert binary("etcd").is_relative_to(build.cache_folder())
    (assets / "etcd").chmod(0o755)
    assert binary("etcd") == assets / "etcd"
    assert fake_go.read_text() == "run\n"
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets / "none"))
    with pytest.raises(Unavailable, match="which is no folder"):
        binary("etcd")


def outcome(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A run of a test that needs the cluster, where there is neither Go nor a built program."""
    test = tmp_path / "test_one.py"
    test.write_text("def test_one(cluster): raise AssertionError\n")
    kept = {k: v for k, v in os.environ.items() if k not in {"CI", "MODEKEEPER_REQUIRE_CLUSTER", "KUBEBUILDER_ASSETS"}}
    kept = {k: v for k, v in kept.items() if not k.startswith(("PYTEST", "MODEKEEPER", "COV"))}
    argv = [sys.executable, "-m", "pytest", "-p", "tests.cluster.fixtures", "-p", "no:cacheprovider", str(test)]
    full = {**kept, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(argv, cwd=tmp_path, env=full, capture_output=True, text=True, check=False)


def test_without_a_cluster_the_summary_says_what_was_not_tested(tmp_path: Path) -> None:
    done = outcome(tmp_path)
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("NOT TESTED: ")]
    assert line.startswith("NOT TESTED: no test cluster: the programs of the test cluster are built with Go")
    assert line.endswith("(1 test)")
    for name in CONTROL_PLANE:
        assert name in line


@pytest.mark.parametrize("name", ["CI", "MODEKEEPER_REQUIRE_CLUSTER"])
def test_where_a_cluster_is_required_its_absence_fails(tmp_path: Path, name: str) -> None:
    done = outcome(tmp_path, **{name: "true" if name == "CI" else "1"})
    assert done.returncode == 1
    assert "no test cluster: the programs" in done.stdout


# -- processes -------------------------------------------------------------------------------------------------------


def test_a_component_that_ends_is_told_with_its_log(tmp_path: Path) -> None:
    with Components(tmp_path) as components:
        components.start("etcd", ["sh", "-c", "echo what is wrong; exit 5"])
        with pytest.raises(StartError, match=r"etcd ended with status 5.*\nwhat is wrong"):
            components.wait_until(lambda: False, "answer", 30)


def test_a_component_that_hangs_is_told_with_its_log(tmp_path: Path) -> None:
    with Components(tmp_path) as components:
        pid = components.start("etcd", ["sh", "-c", "echo still waiting; exec sleep 100"]).pid
        with pytest.raises(StartError, match=r"no answer within 0.5 s\n.*\nstill waiting"):
            components.wait_until(lambda: False, "answer", 0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_components_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.cluster.process import Components; c = Components(Path(sys.argv[1]))\n"
        "print(c.start('one', ['sleep', '1000']).pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")
        parent.kill()
    for _ in range(1000):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        threading.Event().wait(0.01)
    pytest.fail("it lives on")


def test_a_taken_port_is_tried_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Path] = []

    def start(base: Path, home: Path, *_: object) -> Cluster:
        tries.append(home)
        with Components(home) as components:
            if len(tries) < 3:
                components.start("etcd", ["sh", "-c", "echo bind: address already in use; exit 1"])
                components.wait_until(lambda: False, "answer", 30)
        return made(base)

    monkeypatch.setattr(control_plane, "binaries", lambda *names: {})
    monkeypatch.setattr(control_plane, "_start", start)
    with control_plane.started(folder=tmp_path / "cluster") as cluster:
        assert Cluster.load(tmp_path / "cluster") == cluster
    assert len(set(tries)) == 3
    assert not (tmp_path / "cluster").exists()

    del tries[:]
    monkeypatch.setattr(control_plane, "_ATTEMPTS", 2)
    with pytest.raises(PortTakenError), control_plane.started(folder=tmp_path / "cluster"):
        pytest.fail("it never started")
    assert not (tmp_path / "cluster").exists()


def made(base: Path) -> Cluster:
    facts: dict[str, Any] = {"nodes": ("a",), "programs": {"kubectl": base}, "pids": {"etcd": 1}}
    facts |= dict.fromkeys(("folder", "ca", "cert", "key", "kubeconfig", "audit_log", "logs"), base)
    return Cluster(server="https://127.0.0.1:1", started_s=1.5, **facts)


def test_free_ports_are_free() -> None:
    assert len({free_port() for _ in range(20)}) > 10


# -- files -----------------------------------------------------------------------------------------------------------


def test_lines_of_a_container_log() -> None:
    lines = list(cri_lines(b"one\n\r\n\n" + b"x" * 20_000 + b"\nrest", AT, every=timedelta(milliseconds=1)))
    assert lines[:3] == [
        b"2026-03-01T12:00:00.000000000Z stdout F one\n",
        b"2026-03-01T12:00:00.001000000Z stdout F \r\n",
        b"2026-03-01T12:00:00.002000000Z stdout F \n",
    ]
    assert [line.split(b" ")[2] for line in lines[3:]] == [b"P", b"F", b"P"]
    assert lines[-1] == b"2026-03-01T12:00:00.004000000Z stdout P rest\n"


def event(**over: Any) -> dict[str, Any]:
    ref = {"resource": "deployments", "apiGroup": "apps", "namespace": "ml", "name": "trainer"}
    fields = {
        "stage": "ResponseComplete",
        "stageTimestamp": "2026-03-01T12:00:00.000000Z",
        "verb": "patch",
        "user": {"username": "system:serviceaccount:ml:mk"},
        "requestURI": "/apis/apps/v1/namespaces/ml/deployments/trainer?dryRun=All&fieldManager=x",
        "objectRef": ref,
        "responseStatus": {"code": 200},
        "userAgent": "mk",
    }
    return {**fields, **over}


def test_the_audit_log_is_read_for_what_changes(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    events = [
        event(),
        event(requestURI="/apis/apps/v1/namespaces/ml/deployments/trainer?fieldManager=dryRun"),
        event(verb="get"),
        event(user={"username": "admin"}),
        event(stage="ResponseStarted"),
        event(verb="create", objectRef={"resource": "pods", "subresource": "eviction"}, requestURI="/x"),
        {k: v for k, v in event(verb="create", requestURI="/livez").items() if k != "objectRef"},
    ]
    log.write_text("".join(json.dumps(one) + "\n" for one in events) + '{"half": ')
    mine = "system:serviceaccount:ml:mk"
    found = list(requests(log, "system:serviceaccount:"))
    assert [(one.verb, one.what, one.dry_run) for one in found] == [
        ("patch", "deployments.apps", True),
        ("patch", "deployments.apps", False),
        ("create", "pods/eviction", False),
    ]
    assert counts(found)[mine, "patch", "deployments.apps", True] == 1
    assert len(list(requests(log, mine, verbs=EVERY))) == 4
    assert [one.user for one in requests(log, "admin")] == ["admin"]
    assert list(requests(log, start=log.stat().st_size)) == []
