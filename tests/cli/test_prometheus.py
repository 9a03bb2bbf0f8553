"""Telemetry from a Prometheus at the command line, and what the configuration says of telemetry: from the words to the report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops_mk.adapters.telemetry.prometheus import WITHHELD
from gitops_mk.model.settings import CONFIG_PATH
from tests.cli.conftest import Mk, commit_all, load
from tests.support.prometheus import faulty as broken
from tests.support.prometheus.faulty import Faulty, Reply
from tests.support.prometheus.series import records
from tests.support.prometheus.server import PASSWORD, USER, Prometheus

TOKEN = "canary-token-7f3a"
QUERIES = (
    "step=train_step{pod=~\"$pods\"}",
    "step_time_s=train_step_seconds{pod=~\"$pods\"}",
    "throughput=train_tokens_per_second{pod=~\"$pods\"}",
    "worker_step_time_s=train_rank_step_seconds{namespace=\"$namespace\",pod=~\"$name-.*\"}",
)  # fmt: skip
ASKED = [word for query in QUERIES for word in ("--prometheus-query", query)]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MODEKEEPER_PROMETHEUS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    with broken.serving() as server:
        yield server


def configure(checkout: Path, telemetry: str) -> None:
    config = checkout / CONFIG_PATH
    config.write_text(config.read_text().rstrip() + f"\n    telemetry: {telemetry}\n")
    commit_all(checkout)


@pytest.mark.parametrize(
    ("job", "found", "classification"),
    [
        ("stable", [], "no_actionable_signal"),
        ("drift", ["drift", "drift_step"], "signal_found"),
        ("straggler", ["straggler"], "signal_found"),
    ],
)
def test_observe(mk: Mk, prometheus: Prometheus, job: str, found: list[str], classification: str) -> None:
    workload = ("--k8s-namespace", "ml", "--k8s-deployment", job)
    said = mk(
        "observe", "--source", "prometheus", "--prometheus-url", prometheus.url, *ASKED, *workload,
        "--prometheus-preset", "dcgm", "--duration", "6h", "--record-raw", "raw", "--out", "o", "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    body = said.json
    assert body["source"] == "prometheus"
    assert (
        sorted(name for name, seen in body["signals"].items() if seen and name in {"drift", "drift_step", "straggler"})
        == found
    )
    assert body["classification"] == classification
    assert body["stable"] == (not found)
    assert body["ingest"]["records"] == 480
    assert body["ingest"]["dropped_total"] == 0
    assert body["environment"]["gpu_models_seen"] == ["NVIDIA H100 80GB HBM3"]
    if job == "straggler":
        assert len(body["evidence"]["straggler"]["culprits"]) == 1
    assert json.loads(Path("raw").read_text().splitlines()[-1])["gpu_mem_util_pct"] == 71.25
    assert load(Path("o/observe_latest.json"))["signals"] == body["signals"]


def test_gaps_are_told(mk: Mk, prometheus: Prometheus) -> None:
    said = mk(
        "observe", "--prometheus-url", prometheus.url, "--prometheus-query", "step=odd_step",
        "--prometheus-query", "loss=no_such_metric", "--duration", "6h", "--out", "o",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "note: loss: no series has a sample: no_such_metric" in said.out
    assert "a restart" in said.out


def test_a_guarded_server(
    mk: Mk, guarded_prometheus: Prometheus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = guarded_prometheus
    (tmp_path / "password").write_text(PASSWORD)
    # A query implies the source.
    asked = ("observe", "--prometheus-query", "step_time_s=train_step_seconds", "--duration", "6h", "--out", "o")
    monkeypatch.setenv("MODEKEEPER_PROMETHEUS_URL", server.url)
    monkeypatch.setenv("MODEKEEPER_PROMETHEUS_CA_FILE", str(server.ca))
    said = mk(*asked)
    assert said.code == 2
    assert "Prometheus answers 401" in said.error
    monkeypatch.setenv("MODEKEEPER_PROMETHEUS_USERNAME", USER)
    monkeypatch.setenv("MODEKEEPER_PROMETHEUS_PASSWORD_FILE", str(tmp_path / "password"))
    said = mk(*asked)
    assert said.code == 0, said.err
    assert not any(PASSWORD.encode() in path.read_bytes() for path in Path("o").iterdir())


def test_the_loop_reads_what_the_configuration_names(mk: Mk, prometheus: Prometheus, checkout: Path) -> None:
    configure(
        checkout,
        "{source: prometheus, prometheus: {url: 'URL', duration: \"6h\", worker_label: rank, queries: {step: 'max(train_step{pod=~\"drift-.*\"})', "
        "step_time_s: 'max(train_step_seconds{pod=~\"drift-.*\"})', throughput: 'avg(train_tokens_per_second{pod=~\"drift-.*\"})'}}}".replace(
            "URL", prometheus.url
        ),
    )
    said = mk("closed-loop", "run", "--repo", checkout, "--out", "o")
    assert said.code == 0, said.err
    body = load(Path("o/closed_loop_latest.json"))
    assert "drift_step" in said.out
    assert body["signals"]["drift"]
    # An option goes before the configuration, role by role.
    said = mk(
        "closed-loop", "run", "--repo", checkout, "--out", "p", "--observe-source", "prometheus",
        "--prometheus-query", 'step_time_s=max(train_step_seconds{pod=~"stable-.*"})',
        "--prometheus-query", 'throughput=avg(train_tokens_per_second{pod=~"stable-.*"})',
    )  # fmt: skip
    assert said.code == 0, said.err
    assert not load(Path("p/closed_loop_latest.json"))["signals"]["drift"]


def test_a_repository_gets_no_credentials_sent_to_a_server_of_its_own(
    mk: Mk, faulty: Faulty, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(
        checkout, "{source: prometheus, prometheus: {url: 'URL', queries: {step_time_s: x}}}".replace("URL", faulty.url)
    )
    monkeypatch.setenv("MODEKEEPER_PROMETHEUS_URL", "https://prometheus.example.org")
    monkeypatch.setenv("MODEKEEPER_PROMETHEUS_TOKEN", TOKEN)
    said = mk("closed-loop", "run", "--repo", checkout, "--out", "o")
    assert said.code == 0, said.err
    assert faulty.seen
    assert not any("Authorization" in question.headers for question in faulty.seen)
    assert WITHHELD in load(Path("o/closed_loop_latest.json"))["environment"]["notes"]
    monkeypatch.delenv("MODEKEEPER_PROMETHEUS_URL")
    said = mk("closed-loop", "run", "--repo", checkout)
    assert said.code == 2
    assert "nothing but the repository says where it is" in said.error


def test_no_secret_is_told(mk: Mk, faulty: Faulty, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    faulty.answer = lambda question: Reply(401, TOKEN.encode())
    asked = ("observe", "--prometheus-url", faulty.url, "--prometheus-query", "step=x", "--out", "o")
    said = mk(*asked, "--prometheus-token-file", tmp_path / "token")
    assert said.code == 2
    assert faulty.seen[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in said.out + said.err
    assert not any(TOKEN.encode() in path.read_bytes() for path in Path("o").iterdir())
    said = mk("observe", "--prometheus-url", f"http://me:{TOKEN}@127.0.0.1", "--prometheus-query", "step=x")
    assert said.code == 2
    assert TOKEN not in said.out + said.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "nothing says how long a step takes (no query)"),
        (("--prometheus-query", "step"), "--prometheus-query 'step', expected NAME=VALUE"),
        (("--prometheus-query", "=x"), "expected NAME=VALUE"),
        (("--prometheus-query", "step= "), "expected NAME=VALUE"),
        (("--prometheus-query", "step=a", "--prometheus-query", "step=b"), "--prometheus-query gives step twice"),
        (("--prometheus-query", "speed=a"), "role 'speed', expected one of step"),
        (("--prometheus-query", 'step=a{x="$name"}'), "$name stands for a workload, and none is named"),
        (("--prometheus-query", "step=a", "--prometheus-step", "0s"), "are no window"),
        (("--prometheus-query", "step=a", "--prometheus-step", "often"), "duration 'often'"),
        (("--prometheus-query", "step=a", "--prometheus-step", "61m"), "a step of 3660 s, expected at most 1h"),
        (("--prometheus-query", "step=a", "--prometheus-step", "9" * 5000 + "s"), "expected a number with a unit"),
        (("--prometheus-query", "step=a", "--duration", "31d"), "expected at most 30d"),
        (("--prometheus-query", "step=a", "--duration", "999999999d"), "expected at most 30d"),
        (("--prometheus-query", "step=a", "--follow"), "--follow is for logs"),
        (("--prometheus-preset", "nvidia"), "nvidia"),
    ],
)
def test_options_that_make_no_sense(mk: Mk, args: tuple[str, ...], says: str) -> None:
    said = mk("observe", "--prometheus-url", "http://127.0.0.1:1", *args)
    assert said.code == 2
    assert says in said.err
    assert "Traceback" not in said.err


# What the configuration says of lines, whatever the source.


def test_the_jobs_own_names_of_fields(mk: Mk, checkout: Path) -> None:
    lines = [
        {"when": r["ts"], "nr": r["step"], "secs": r["step_time_ms"] / 1000, "nll": r["loss"]} for r in records("drift")
    ]
    Path("t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = mk("closed-loop", "run", "--repo", checkout, "--path", "t.jsonl", "--out", "o")
    assert said.code == 0, said.err
    assert not load(Path("o/closed_loop_latest.json"))["signals"]["drift"]
    configure(checkout, "{fields: {ts: when, step: nr, step_time_s: secs, loss: nll}}")
    said = mk("closed-loop", "run", "--repo", checkout, "--path", "t.jsonl", "--out", "p")
    assert said.code == 0, said.err
    assert load(Path("p/closed_loop_latest.json"))["signals"]["drift"]


def test_a_declared_schedule_silences_step_drift(mk: Mk, checkout: Path) -> None:
    lines = []
    for step in range(400):
        slow = 1.0 if step < 200 else 1.5
        noise = 1 + (step * 7919 % 13 - 6) / 1000
        lines.append(
            {
                "ts": 1_767_225_600_000 + step * 1000,
                "step": step,
                "step_time_ms": 400 * slow * noise,
                "throughput": 100 / slow,
            }
        )
    Path("t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    configure(checkout, f"{{path: {Path('t.jsonl').resolve()}}}")
    assert mk("closed-loop", "run", "--repo", checkout, "--out", "o").code == 0
    assert load(Path("o/closed_loop_latest.json"))["signals"]["drift"]
    config = checkout / CONFIG_PATH
    config.write_text(config.read_text().replace("t.jsonl}", "t.jsonl, planned: [{step: 200, what: schedule}]}"))
    commit_all(checkout)
    assert mk("closed-loop", "run", "--repo", checkout, "--out", "p").code == 0
    assert not load(Path("p/closed_loop_latest.json"))["signals"]["drift"]


def test_a_configuration_that_can_not_be_is_said_at_once(mk: Mk, checkout: Path) -> None:
    config = checkout / CONFIG_PATH
    config.write_text(config.read_text().rstrip() + "\n    telemetry: {fields: {speed: x}}\n")
    said = mk("config", "validate", "--file", config)
    assert said.code == 2
    assert "field 'speed', expected one of ours" in said.error
    assert "docs/telemetry.md" in said.err
