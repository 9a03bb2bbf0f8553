"""Telemetry from a Prometheus: a real one for what it says, and one that is out of order for how it says no."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.telemetry import prometheus_http
from gitops_mk.adapters.telemetry.files import BLOCK, LONGEST
from gitops_mk.adapters.telemetry.prometheus import WITHHELD, PrometheusSource
from gitops_mk.adapters.telemetry.prometheus_access import Asked, PrometheusAccess, find_access
from gitops_mk.adapters.telemetry.prometheus_http import PrometheusClient
from gitops_mk.core.detect.observer import Observer
from gitops_mk.core.prometheus.address import address
from gitops_mk.core.prometheus.presets import PRESETS
from gitops_mk.core.prometheus.promql import filled, names_of
from gitops_mk.errors import ConfigError, TelemetryError
from gitops_mk.model.settings import WorkloadSettings
from gitops_mk.model.signal import Observation
from gitops_mk.model.telemetry import SourceInfo
from gitops_mk.model.workload import WorkloadRef
from gitops_mk.wiring import telemetry_of
from tests.support.cluster import SimCluster
from tests.support.prometheus import faulty as broken
from tests.support.prometheus.faulty import Faulty, Question, Reply
from tests.support.prometheus.series import LONG, NAMESPACE, ODD_NAMES
from tests.support.prometheus.server import PASSWORD, USER, Prometheus

TOKEN = "canary-token-7f3a"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MODEKEEPER_PROMETHEUS_")]:
        monkeypatch.delenv(name)


def source(
    server: Prometheus | Faulty, queries: dict[str, str], *, samples: int = 100, **options: Any
) -> PrometheusSource:
    access = options.pop("access", None) or PrometheusAccess(address(server.url))
    end = server.end if isinstance(server, Prometheus) else 1_767_225_600
    wanted = {"duration_s": (samples - 1) * 15, "step_s": 15, "now": lambda: float(end), **options}
    return PrometheusSource(access, queries, **wanted)


def records(found: PrometheusSource) -> list[dict[str, Any]]:
    return [json.loads(line) for block in found.chunks() for line in block.splitlines()]


def observed(found: PrometheusSource) -> Observation:
    observer = Observer(found.info.kind, found.info.format)
    for block in found.chunks():
        observer.feed(block)
    return observer.finish()


def preset(name: str, job: str, kind: str = "Deployment") -> dict[str, str]:
    names = names_of(WorkloadRef.model_validate({"namespace": NAMESPACE, "kind": kind, "name": job}))
    return {role: filled(query, names, what=role) for role, query in PRESETS[name].items()}


class TestReal:
    """Against Prometheus itself."""

    def test_it_gives_bounded_blocks_of_whole_lines(self, prometheus: Prometheus) -> None:
        found = source(prometheus, {"step_time_s": "long_step_seconds"}, samples=LONG)
        assert found.info == SourceInfo("prometheus", prometheus.url, "jsonl")
        blocks = list(found.chunks())
        assert len(blocks) > 1
        assert all(block.endswith(b"\n") and len(block) <= LONGEST + BLOCK for block in blocks)
        observer = Observer(found.info.kind, found.info.format)
        for block in blocks:
            observer.feed(block)
        assert observer.finish().ingest.records == LONG

    def test_more_points_than_it_gives_at_once(self, prometheus: Prometheus) -> None:
        found = source(prometheus, {"step_time_s": "long_step_seconds"}, duration_s=11_999, step_s=1)
        told = records(found)
        assert len(told) == 12_000
        assert [r["ts"] for r in told] == [(prometheus.end - 11_999 + i) * 1000 for i in range(12_000)]

    @pytest.mark.parametrize(
        ("job", "signals"), [("stable", ()), ("drift", ("drift_step",)), ("straggler", ("straggler",))]
    )
    def test_what_is_wrong_is_told_right(self, prometheus: Prometheus, job: str, signals: tuple[str, ...]) -> None:
        pods = f'pod=~"{job}-.*"'
        queries = {
            "step": f"train_step{{{pods}}}",
            "step_time_s": f"train_step_seconds{{{pods}}}",
            "throughput": f"train_tokens_per_second{{{pods}}}",
            "worker_step_time_s": f"train_rank_step_seconds{{{pods}}}",
            **preset("dcgm", job),
        }
        found = source(prometheus, queries, samples=480)
        seen = observed(found)
        assert tuple(map(str, seen.found)) == signals
        assert seen.ingest.records == 480
        assert found.environment.nodes_seen == ("node-0", "node-1", "node-2", "node-3")
        assert found.environment.gpu_models_seen == ("NVIDIA H100 80GB HBM3",)
        assert found.environment.unstable
        assert [str(note) for note in found.environment.notes] == [
            "gpu_util_pct: up to 4 series, of which the mean counts"
        ]

    def test_restarts_gaps_and_a_loss_that_is_none(self, prometheus: Prometheus) -> None:
        # Prometheus repeats what it saw last for five minutes; the counter shows that nothing happened.
        found = source(prometheus, {"step": "odd_step", "loss": "odd_loss"})
        told = records(found)
        steps = [r["step"] for r in told if "event" not in r]
        assert steps == [*range(0, 200, 10), *range(100, 500, 10)]
        assert [r["step"] for r in told if "event" in r] == [100]
        notes = found.environment.notes
        assert any("the step counter went back from 190 to 100" in note for note in notes)
        assert any(note.startswith("gap: there is nothing between") for note in notes)
        assert sum(r.get("loss") != r.get("loss") for r in told) == 10

    def test_names_mean_themselves(self, prometheus: Prometheus) -> None:
        client = PrometheusClient(PrometheusAccess(address(prometheus.url)))
        at = prometheus.end * 1000
        for number, name in enumerate(ODD_NAMES):
            names = {"name": name, "namespace": "", "pods": ""}
            for query in (
                'odd_name{name="$name"}',
                "odd_name{name='$name'}",
                'odd_name{name=~"$name"}',
                "odd_name{name=~'$name'}",
            ):
                text = filled(query, names, what="it")
                answer = client.query_range("loss", text, start_ms=at, end_ms=at, step_ms=1000)
                assert [(one.metric["name"], float(one.values[0][1])) for one in answer.series] == [(name, number)], (
                    text
                )

    def test_torchtitan(self, prometheus: Prometheus) -> None:
        told = records(source(prometheus, preset("torchtitan", "titan")))
        assert len(told) == 100
        assert {k: v for k, v in told[-1].items() if k not in ("ts", "step")} == {
            "step_time_s": 1.5, "wait_s": 0.01, "loss": 2.5, "throughput": 5000.0, "gpu_mem_util_pct": 51.0, "alloc_retries": 0.0,
        }  # fmt: skip

    def test_ray_and_dcgm(self, prometheus: Prometheus) -> None:
        queries = {"step": "odd_step", **preset("ray", "rayjob", "RayJob")}
        found = source(prometheus, queries)
        last = records(found)[-1]
        assert (last["gpu_util_pct"], last["gpu_mem_util_pct"]) == (80.5, 60.0)
        assert found.environment.gpu_models_seen == ("NVIDIA A10G",)
        last = records(source(prometheus, {"step": "odd_step", **preset("dcgm", "stable")}))[-1]
        assert (last["gpu_mem_util_pct"], last["gpu_sm_clock_mhz"]) == (71.25, 1980.0)
        used = {"gpu_mem_used": "DCGM_FI_DEV_FB_USED", "gpu_mem_free": "DCGM_FI_DEV_FB_FREE"}
        assert records(source(prometheus, {"step": "odd_step", **used}))[-1]["gpu_mem_util_pct"] == 71.25

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("max(", "loss: Prometheus answers 400: bad_data: "),
            ("nope(up)", "unknown function"),
            ("odd_name / on (job) odd_name", "loss: Prometheus answers 422: execution: "),
        ],
    )
    def test_a_query_that_can_not_be(self, prometheus: Prometheus, query: str, says: str) -> None:
        with pytest.raises(TelemetryError) as caught:
            records(source(prometheus, {"step": "odd_step", "loss": query}))
        assert says in caught.value.message
        assert caught.value.hint
        assert not caught.value.retryable

    def test_no_sample_is_no_zero(self, prometheus: Prometheus) -> None:
        found = source(prometheus, {"step": "odd_step", "loss": "there_is_none"})
        assert all("loss" not in r for r in records(found))
        assert "loss: no series has a sample: there_is_none" in found.environment.notes
        with pytest.raises(TelemetryError, match="has no sample for any of step"):
            records(source(prometheus, {"step": "there_is_none"}))

    def test_numbers_over_time_are_expected(self, prometheus: Prometheus) -> None:
        with pytest.raises(TelemetryError, match="answers 400"):
            records(source(prometheus, {"step": '"text"'}))
        assert [r["step"] for r in records(source(prometheus, {"step": "time()"}, samples=2))] == [
            prometheus.end - 15,
            prometheus.end,
        ]

    def test_a_wrong_address(self, prometheus: Prometheus) -> None:
        with pytest.raises(TelemetryError, match="answers 404") as caught:
            records(source(prometheus, {"step": "up"}, access=PrometheusAccess(address(f"{prometheus.url}/nope"))))
        assert "path prefix" in (caught.value.hint or "")


class TestGuarded:
    """Against Prometheus behind TLS and a password."""

    @pytest.fixture
    def password(self, tmp_path: Path) -> Path:
        path = tmp_path / "password"
        path.write_text(f"{PASSWORD}\n")
        return path

    def ask(self, server: Prometheus, **asked: Any) -> list[dict[str, Any]]:
        access = find_access(Asked(server.url, **{name: str(value) for name, value in asked.items()}), None)
        return records(source(server, {"step": "max(train_step)"}, access=access, timeout_s=5))

    def test_who_has_the_password(self, guarded_prometheus: Prometheus, password: Path) -> None:
        server = guarded_prometheus
        assert len(self.ask(server, username=USER, password_file=password, ca_file=server.ca)) == 100

    def test_who_has_not(self, guarded_prometheus: Prometheus, password: Path) -> None:
        server = guarded_prometheus
        with pytest.raises(TelemetryError, match="answers 401") as caught:
            self.ask(server, ca_file=server.ca)
        assert caught.value.hint
        password.write_text("wrong")
        with pytest.raises(TelemetryError, match="answers 401"):
            self.ask(server, username=USER, password_file=password, ca_file=server.ca)

    def test_an_authority_that_nobody_knows(
        self, guarded_prometheus: Prometheus, password: Path, tmp_path: Path
    ) -> None:
        import trustme

        server = guarded_prometheus
        other = tmp_path / "other.crt"
        trustme.CA().cert_pem.write_to_path(other)
        for ca in ({}, {"ca_file": other}):
            with pytest.raises(TelemetryError, match="can't be trusted: .*certificate") as caught:
                self.ask(server, username=USER, password_file=password, **ca)
            assert not caught.value.retryable
        with pytest.raises(ConfigError, match="no certificates of an authority"):
            self.ask(server, ca_file=password)
        with pytest.raises(ConfigError, match="no certificates of an authority"):
            self.ask(server, ca_file=tmp_path / "none")


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    with broken.serving() as server:
        yield server


class TestOutOfOrder:
    """Against a server that misbehaves."""

    def refused(self, server: Faulty, *, samples: int = 10, **options: Any) -> tuple[TelemetryError, list[float]]:
        slept: list[float] = []
        with pytest.raises(TelemetryError) as caught:
            records(source(server, {"step_time_s": "x"}, samples=samples, sleep=slept.append, **options))
        assert caught.value.hint
        return caught.value, slept

    @pytest.mark.parametrize(
        ("reply", "says"),
        [
            (Reply(body=b"<html>canary-page</html>"), "none of Prometheus"),
            (Reply(body=b'{"status":"success","data":{"resultType":"matrix","result":[{"metr'), "none of Prometheus"),
            (Reply(body=b""), "an answer of 0 bytes"),
            (Reply(403, b"canary-page"), "answers 403"),
            (Reply(307, b"canary-page", (("Location", "http://canary-page/"),)), "a redirect, which is not followed"),
            (Reply(204), "an answer of 0 bytes"),
        ],
    )  # fmt: skip
    def test_answers_that_are_none(self, faulty: Faulty, reply: Reply, says: str) -> None:
        faulty.answer = lambda question: reply
        error, slept = self.refused(faulty)
        assert says.replace("an answer of", "the answer of") in error.message
        assert "canary-page" not in f"{error.message} {error.hint}"
        assert slept == []
        assert len(faulty.seen) == 1
        assert faulty.seen[0].method == "POST"
        assert faulty.seen[0].path == "/api/v1/query_range"

    @pytest.mark.parametrize(
        ("reply", "pauses"),
        [
            (broken.error(429, "", "slow down", ("Retry-After", "3")), [3.0, 3.0]),
            (broken.error(503, "unavailable", "starting", ("Retry-After", "9999")), [10.0, 10.0]),
            (Reply(502, b"<html>bad gateway"), [0.5, 1.0]),
            (Reply(body=b"{", length=500), [0.5, 1.0]),
        ],
    )
    def test_a_server_that_is_busy_is_asked_again(self, faulty: Faulty, reply: Reply, pauses: list[float]) -> None:
        faulty.answer = lambda question: reply
        error, slept = self.refused(faulty)
        assert error.retryable
        assert slept == pauses
        faulty.seen.clear()
        faulty.answer = lambda question: reply if len(faulty.seen) < 3 else broken.matrix(question, {"": 0.5})
        assert len(records(source(faulty, {"step_time_s": "x"}, samples=10, sleep=lambda _: None))) == 10

    def test_nobody_there(self) -> None:
        access = PrometheusAccess(address("http://127.0.0.1:1"))
        error, slept = self.refused(Faulty(), access=access)
        assert "can't be reached" in error.message
        assert error.retryable
        assert len(slept) == 2

    def test_no_tls(self, faulty: Faulty) -> None:
        access = PrometheusAccess(address(faulty.url.replace("http:", "https:")))
        error, slept = self.refused(faulty, access=access)
        assert "speaks no TLS that we do" in error.message
        assert slept == []

    def test_a_server_that_is_silent(self, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prometheus_http, "CONNECT_S", 0.1)
        faulty.answer = lambda question: Reply(hang=True)
        error, _ = self.refused(faulty, timeout_s=0.1)
        assert "did not answer in time" in error.message
        assert error.retryable

    def test_an_answer_that_never_ends(self, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prometheus_http, "TRANSFER_S", -60.0)
        error, _ = self.refused(faulty)
        assert "did not end" in error.message

    def test_headers_that_drip(self, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        # Each byte comes long before a socket's own limit of over five seconds.
        monkeypatch.setattr(prometheus_http, "TRANSFER_S", 0.1)
        faulty.answer = lambda question: Reply(drip=True)
        error, slept = self.refused(faulty, timeout_s=0.1)
        assert "did not end" in error.message
        assert slept == []

    def test_all_queries_together_have_an_end(self, faulty: Faulty) -> None:
        now = 0.0

        def answer(question: Question) -> Reply:
            nonlocal now
            now += 30.0
            return broken.matrix(question, {"": 1.0})

        faulty.answer = answer
        queries = {"step_time_s": "a", "loss": "b", "throughput": "c", "wait_s": "d"}
        found = source(faulty, queries, samples=500, clock=lambda: now)
        assert len(records(found)) == 120
        assert len(faulty.seen) == 6
        note = "gap: the read took over 180 s: 380 of 500 samples, those after "
        assert [n for n in found.environment.notes if n.startswith("gap")] == [
            f"{note}2025-12-31T22:25:00Z, were not asked for"
        ]

    def test_no_time_for_a_first_answer(self, faulty: Faulty) -> None:
        now = 0.0

        def sleep(seconds: float) -> None:
            nonlocal now
            slept.append(seconds)
            now += seconds

        def answer(question: Question) -> Reply:
            nonlocal now
            now += 44.0 if question.form["query"] == "x" else 27.0
            if len(faulty.seen) == 3:
                return broken.matrix(question, {"": 1.0})
            return broken.error(503, "unavailable", "starting", ("Retry-After", "9"))

        faulty.answer = answer
        slept: list[float] = []
        with pytest.raises(TelemetryError, match="gave no answer in the 180 s that all queries may take") as caught:
            records(source(faulty, {"step_time_s": "x", "loss": "y"}, sleep=sleep, clock=lambda: now))
        assert caught.value.hint
        assert slept == [9.0, 9.0, 3.0]
        assert len(faulty.seen) == 4

    def test_the_end_of_all_queries_ends_an_answer(self, faulty: Faulty) -> None:
        now = 0.0

        def answer(question: Question) -> Reply:
            nonlocal now
            now += 181.0
            return broken.matrix(question, {"": 1.0})

        faulty.answer = answer
        error, slept = self.refused(faulty, clock=lambda: now)
        assert "that all queries may take" in error.message
        assert slept == []

    @pytest.mark.parametrize("kind", ["samples", "timeout", "size"])
    def test_less_is_asked_for_where_that_helps(
        self, faulty: Faulty, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(prometheus_http, "MAX_ANSWER", 10_000)
        most = 40

        def answer(question: Question) -> Reply:
            count = (float(question.form["end"]) - float(question.form["start"])) / 15 + 1
            if count > most and kind == "samples":
                return broken.error(
                    422, "execution", "query processing would load too many samples into memory in query execution"
                )
            if count > most and kind == "timeout":
                return broken.error(503, "timeout", "query timed out in expression evaluation")
            return broken.matrix(question, {"a": 0.5} if count <= most else {"a" * 9000: 0.5, "b" * 9000: 0.5})

        faulty.answer = answer
        told = records(source(faulty, {"step": "s", "step_time_s": "x"}, samples=500))
        assert [r["ts"] for r in told] == [1_767_225_600_000 - 499 * 15_000]
        told = records(source(faulty, {"step_time_s": "x"}, samples=500))
        assert [r["ts"] for r in told] == [1_767_225_600_000 - (499 - i) * 15_000 for i in range(500)]
        most = 1
        error, _ = self.refused(faulty, samples=500)
        assert error.hint

    def test_too_many_series(self, faulty: Faulty) -> None:
        faulty.answer = lambda question: broken.matrix(question, {f"p{i}": 1.0 for i in range(1025)})
        error, _ = self.refused(faulty, samples=2)
        assert "over 1024 series" in error.message
        assert faulty.seen[0].form["limit"] == "1025"

    def test_what_the_server_remarks_is_told(self, faulty: Faulty) -> None:
        faulty.answer = lambda q: broken.matrix(
            q, {"": 1.0}, warnings=["remote read failed"], infos=["might not be a counter"]
        )
        found = source(faulty, {"step_time_s": "x"})
        records(found)
        assert found.environment.notes[:2] == (
            "step_time_s: Prometheus remarks: remote read failed",
            "step_time_s: Prometheus remarks: might not be a counter",
        )


class TestCredentials:
    """To whom a secret goes, and that it is told to nobody else."""

    def access(self, **asked: Any) -> PrometheusAccess:
        configured = asked.pop("configured", None)
        return find_access(Asked(**{k: str(v) for k, v in asked.items()}), configured)

    def test_a_token_goes_in_a_header_and_is_read_afresh(self, faulty: Faulty, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text(f"{TOKEN}\n")
        faulty.answer = lambda question: Reply(401, TOKEN.encode())
        found = source(faulty, {"step": "x"}, access=self.access(url=faulty.url, token_file=path))
        with pytest.raises(TelemetryError) as caught:
            records(found)
        assert faulty.seen[0].headers["Authorization"] == f"Bearer {TOKEN}"
        assert TOKEN not in faulty.seen[0].path + str(faulty.seen[0].form)
        told = [caught.value.message, caught.value.hint, found.info, found.environment, repr(caught.value.__cause__)]
        assert TOKEN not in str(told)
        path.write_text("another")
        with pytest.raises(TelemetryError):
            records(found)
        assert faulty.seen[1].headers["Authorization"] == "Bearer another"

    def test_a_redirect_takes_no_token_along(self, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODEKEEPER_PROMETHEUS_TOKEN", TOKEN)
        with broken.serving() as other:
            faulty.answer = lambda question: Reply(307, b"", (("Location", f"{other.url}/api/v1/query_range"),))
            with pytest.raises(TelemetryError, match="not followed"):
                records(source(faulty, {"step": "x"}, access=self.access(url=faulty.url)))
            assert other.seen == []

    def test_no_proxy_of_the_environment_is_told(self, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        with broken.serving() as proxy:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            records(source(faulty, {"step": "x"}, access=self.access(url=faulty.url)))
            assert faulty.seen
            assert proxy.seen == []

    def test_a_repository_can_not_have_it_sent_elsewhere(self, faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODEKEEPER_PROMETHEUS_TOKEN", TOKEN)
        monkeypatch.setenv("MODEKEEPER_PROMETHEUS_URL", "http://127.0.0.1:9/prometheus")
        found = source(faulty, {"step": "x"}, access=self.access(configured=faulty.url))
        records(found)
        assert "Authorization" not in faulty.seen[0].headers
        assert found.environment.notes[0] == WITHHELD
        monkeypatch.setenv("MODEKEEPER_PROMETHEUS_URL", f"{faulty.url}/elsewhere")
        found = source(faulty, {"step": "x"}, access=self.access(configured=f"{faulty.url}/tenant"))
        records(found)
        assert faulty.seen[-1].headers["Authorization"] == f"Bearer {TOKEN}"
        assert faulty.seen[-1].path == "/tenant/api/v1/query_range"
        assert WITHHELD not in found.environment.notes

    @pytest.mark.parametrize(
        "url", ["https://p.example:9090", "http://p.example:9091", "http://p.example", "http://q.example:9090"]
    )
    def test_another_scheme_host_or_port_is_another_origin(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODEKEEPER_PROMETHEUS_TOKEN", TOKEN)
        monkeypatch.setenv("MODEKEEPER_PROMETHEUS_URL", url)
        found = self.access(configured="http://p.example:9090")
        assert found.withheld
        assert found.headers() == {}
        assert TOKEN not in repr(found) + repr(self.access(url=url))
        assert self.access(url=url).headers() == {"Authorization": f"Bearer {TOKEN}"}

    def test_an_option_goes_before_the_repository_and_that_before_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MODEKEEPER_PROMETHEUS_URL", "http://env")
        assert self.access().address.url == "http://env"
        assert self.access(configured="http://git").address.url == "http://git"
        assert self.access(configured="http://git", url="http://option").address.url == "http://option"

    def test_what_is_given_by_halves(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def refused(says: str, **asked: Any) -> None:
            with pytest.raises(ConfigError, match=says) as caught:
                self.access(**asked)
            assert caught.value.hint

        refused("nothing says where Prometheus is")
        refused("a username for Prometheus without a password file", url="http://p", username="me")
        refused("a username for Prometheus without a password file", url="http://p", password_file="f")
        refused("nothing but the repository says where it is", configured="http://git", token_file="f")
        refused("both a token and a username", url="http://p", username="me", password_file="f", token_file="f")
        refused("a character that none may have", url="http://p", username="a:b", password_file="f")
        refused("a user or a password", url=f"http://me:{TOKEN}@p")
        for content in (b"", b"\n", b"two\nlines", b"a b", "é".encode(), b"\xff", b"x" * 70_000):
            (tmp_path / "token").write_bytes(content)
            with pytest.raises(ConfigError) as caught:
                self.access(url="http://p", token_file=tmp_path / "token").headers()
            assert "x" * 20 not in caught.value.message
        with pytest.raises(ConfigError, match="the secret for Prometheus can't be read: FileNotFoundError"):
            self.access(url="http://p", token_file=tmp_path / "none").headers()


def test_the_controller_reads_what_the_configuration_names(faulty: Faulty) -> None:
    said = {
        "source": "prometheus",
        "fields": {"loss": "nll"},
        "planned": [{"step": 5, "what": "schedule"}],
        "prometheus": {"url": faulty.url, "duration": "10m", "step": "1m", "queries": {"step": 's{pod=~"$pods"}'}},
    }
    workload = {"namespace": "ml", "kind": "StatefulSet", "name": "trainer", "overlay": "o", "telemetry": said}
    found = telemetry_of(SimCluster(), WorkloadSettings.parse(workload, what="it"), window_s=60)
    assert found.info.fields == (("loss", "nll"),)
    assert found.info.planned == ((5.0, "schedule"),)
    assert list(found.chunks())
    (question,) = faulty.seen
    assert question.form["query"] == 's{pod=~"trainer-[0-9]+"}'
    assert float(question.form["end"]) - float(question.form["start"]) == 600
    assert question.form["step"] == "60.000"


def test_times_are_whole_steps_of_the_clock(faulty: Faulty) -> None:
    at = datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC).timestamp()
    records(source(faulty, {"step_time_s": "x"}, samples=3, now=lambda: at))
    form = faulty.seen[0].form
    assert (form["start"], form["end"], form["step"]) == ("1767225570.000", "1767225600.000", "15.000")
