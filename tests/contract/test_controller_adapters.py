"""Logs, metrics and health of the controller: real HTTP, what a scraper parses, and streams that break."""

from __future__ import annotations

import http.client
import io
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import parser

from gitops_mk.adapters.health import HealthServer
from gitops_mk.adapters.journal import StderrJournal
from gitops_mk.adapters.metrics import Metrics
from gitops_mk.errors import ConfigError

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A stream that fails where it is told to."""

    def __init__(self, where: str, error: Exception) -> None:
        super().__init__()
        self._where, self._error = where, error

    def _fail(self, where: str) -> None:
        if where == self._where:
            raise self._error

    def isatty(self) -> bool:
        self._fail("isatty")
        return False

    def write(self, text: str) -> int:
        self._fail("write")
        return len(text)

    def flush(self) -> None:
        self._fail("flush")


class TestJournal:
    def lines(self, stream: io.StringIO, **fields: object) -> str:
        StderrJournal(lambda: NOW, stream).log("proposed", **fields)  # type: ignore[arg-type]
        return stream.getvalue()

    def record(self, **fields: object) -> dict[str, object]:
        text = self.lines(io.StringIO(), **fields)
        assert text.count("\n") == 1
        assert text.endswith("\n")
        found: dict[str, object] = json.loads(text)
        return found

    def test_one_object_a_line(self) -> None:
        found = self.record(level="warning", workload="ml/trainer", pr=7, note=None, words="a\nb")
        assert found == {
            "ts": "2026-03-01T12:00:00.123+00:00", "level": "warning", "event": "proposed", "workload": "ml/trainer", "pr": 7,
            "note": None, "words": "a\nb",
        }  # fmt: skip

    def test_no_field_takes_the_place_of_ours(self) -> None:
        assert self.record(ts="never")["ts"] == "2026-03-01T12:00:00.123+00:00"

    @pytest.mark.parametrize("value", [math.nan, object(), {1, 2}, NOW, b"bytes", "half \ud800", ValueError("torn")])
    def test_what_is_no_json(self, value: object) -> None:
        found = self.record(value=value, pr=7)
        assert (found["value"], found["event"]) == (ascii(value), "proposed")

    def test_on_a_terminal(self) -> None:
        assert self.lines(Terminal(), pr=7, note=None, words="", ok=False) == "12:00:00 proposed: pr=7 ok=False\n"
        assert self.lines(Terminal()) == "12:00:00 proposed\n"

    def test_a_terminal_is_told_and_not_moved(self) -> None:
        assert self.lines(Terminal(), words="\x1b[2Ja\r\nb é") == "12:00:00 proposed: words=\\x1b[2Ja\\r\\nb é\n"

    @pytest.mark.parametrize("where", ["isatty", "write", "flush"])
    @pytest.mark.parametrize(
        "error", [BrokenPipeError(), OSError(28, "no space"), ValueError("I/O operation on closed file")]
    )
    def test_a_broken_stream(self, where: str, error: Exception) -> None:
        self.lines(Broken(where, error), pr=7)

    def test_a_closed_stream(self) -> None:
        stream = io.StringIO()
        stream.close()
        StderrJournal(lambda: NOW, stream).log("proposed")

    def test_a_pipe_that_nobody_reads(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        stream = os.fdopen(writer, "w")
        try:
            journal = StderrJournal(lambda: NOW, stream)
            journal.log("proposed")
            journal.log("proposed")
        finally:
            with pytest.raises(BrokenPipeError):
                stream.close()

    def test_a_stream_of_few_letters(self, tmp_path: Path) -> None:
        with (tmp_path / "log").open("w", encoding="ascii") as stream:
            StderrJournal(lambda: NOW, stream).log("proposed", words="é")
            StderrJournal(lambda: NOW, stream).log("merged")
        assert json.loads((tmp_path / "log").read_text().splitlines()[-1])["event"] == "merged"

    def test_on_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        StderrJournal(lambda: NOW).log("proposed")
        captured = capsys.readouterr()
        assert (captured.out, json.loads(captured.err)["event"]) == ("", "proposed")

    def test_lines_of_several_threads_stay_whole(self) -> None:
        stream = io.StringIO()
        journal = StderrJournal(lambda: NOW, stream)

        def work(number: int) -> None:
            for _ in range(50):
                journal.log("proposed", number=number, words="x" * 200)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(json.loads(line)["number"] for line in stream.getvalue().splitlines()) == sorted(
            [0, 1, 2, 3] * 50
        )


def samples(text: bytes) -> dict[tuple[str, str], float]:
    """What a scraper reads: by name and label value."""
    found = {}
    for family in parser.text_string_to_metric_families(text.decode()):
        assert family.documentation
        for sample in family.samples:
            found[sample.name, ",".join(sample.labels.values())] = sample.value
    return found


class TestMetrics:
    def test_counted(self) -> None:
        calls = 7
        metrics = Metrics(lambda: calls)
        metrics.planned("INPUT-STRAGGLER")
        metrics.planned("INPUT-STRAGGLER")
        metrics.proposed("created")
        metrics.gate("review_required")
        metrics.lines(1000)
        metrics.failed()
        metrics.reconciled(0.2)
        metrics.rolled_out(90.0)
        metrics.state(prs={"open": 2}, workloads={"ready": 1, "suspended": 3}, leader=True)
        found = samples(metrics.text())
        expected = {
            ("mk_plans_total", "INPUT-STRAGGLER"): 2, ("mk_proposals_total", "created"): 1,
            ("mk_gate_decisions_total", "review_required"): 1, ("mk_log_lines_total", ""): 1000, ("mk_reconcile_errors_total", ""): 1,
            ("mk_reconcile_duration_seconds_count", ""): 1, ("mk_reconcile_duration_seconds_sum", ""): 0.2,
            ("mk_reconcile_duration_seconds_bucket", "0.1"): 0, ("mk_reconcile_duration_seconds_bucket", "0.5"): 1,
            ("mk_merge_to_rollout_seconds_bucket", "60.0"): 0, ("mk_merge_to_rollout_seconds_bucket", "120.0"): 1,
            ("mk_pull_requests", "open"): 2, ("mk_workloads", "suspended"): 3, ("mk_leader", ""): 1, ("mk_api_calls_total", ""): 7,
        }  # fmt: skip
        assert {key: found[key] for key in expected} == expected
        calls = 9
        assert samples(metrics.text())["mk_api_calls_total", ""] == 9

    def test_a_state_takes_the_place_of_the_last(self) -> None:
        metrics = Metrics(lambda: 0)
        metrics.state(prs={"open": 2, "merged": 1}, workloads={"suspended": 3}, leader=True)
        metrics.state(prs={"open": 1}, workloads={}, leader=False)
        found = samples(metrics.text())
        assert found["mk_pull_requests", "open"] == 1
        assert found["mk_leader", ""] == 0
        assert ("mk_pull_requests", "merged") not in found
        assert ("mk_workloads", "suspended") not in found

    def test_nothing_yet(self) -> None:
        found = samples(Metrics(lambda: 0).text())
        assert found["mk_log_lines_total", ""] == 0
        assert not any(name.startswith("mk_plans") for name, _ in found)

    def test_each_has_its_own_registry(self) -> None:
        one, two = Metrics(lambda: 0), Metrics(lambda: 0)
        one.failed()
        assert samples(two.text())["mk_reconcile_errors_total", ""] == 0


class Health:
    """A server whose answers a test moves."""

    def __init__(self, listen: str = "127.0.0.1:0") -> None:
        self.alive: str | None = None
        self.ready: str | None = None
        self.metrics: Callable[[], bytes] = lambda: b"mk_leader 1.0\n"
        self.server = HealthServer(
            listen, alive=lambda: self.alive, ready=lambda: self.ready, metrics=lambda: self.metrics()
        )

    def ask(self, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str, str]:
        connection = http.client.HTTPConnection(host, self.server.port, timeout=30)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Health]:
    found = Health()
    yield found
    found.server.close()


@pytest.fixture
def health(server: Health) -> Health:
    server.alive = server.ready = None
    server.metrics = lambda: b"mk_leader 1.0\n"
    return server


class TestHealth:
    def test_all_is_well(self, health: Health) -> None:
        assert health.ask("/healthz") == (200, "text/plain", "ok\n")
        assert health.ask("/readyz") == (200, "text/plain", "ok\n")

    def test_what_is_not(self, health: Health) -> None:
        health.ready = "the cluster's caches are not filled"
        assert health.ask("/readyz") == (503, "text/plain", "the cluster's caches are not filled\n")
        assert health.ask("/healthz")[0] == 200
        health.alive = "no reconcile for 600 s — stuck"
        assert health.ask("/healthz") == (503, "text/plain", "no reconcile for 600 s — stuck\n")

    def test_metrics(self, health: Health) -> None:
        metrics = Metrics(lambda: 3)
        health.metrics = metrics.text
        status, kind, text = health.ask("/metrics")
        assert (status, kind) == (200, "text/plain")
        assert samples(text.encode())["mk_api_calls_total", ""] == 3

    @pytest.mark.parametrize(
        "path", ["/", "/metrics/", "/healthz?full=1", "/../etc/passwd", "/debug/pprof", "//healthz/x"]
    )
    def test_no_other_path(self, health: Health, path: str) -> None:
        assert health.ask(path)[0] == 404

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_nothing_but_reading(self, health: Health, method: str) -> None:
        assert health.ask("/healthz", method)[0] == 501

    def test_it_says_nothing(self, health: Health, capfd: pytest.CaptureFixture[str]) -> None:
        health.ask("/healthz")
        health.ask("/nothing")
        assert capfd.readouterr() == ("", "")

    def test_a_client_that_hangs_up(self, health: Health, capfd: pytest.CaptureFixture[str]) -> None:
        others = serving()
        health.metrics = lambda: b"x" * 50_000_000
        with socket.create_connection(("127.0.0.1", health.server.port), timeout=30) as raw:
            raw.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert raw.recv(10)
        assert health.ask("/healthz")[0] == 200
        until(lambda: serving() <= others)
        assert capfd.readouterr() == ("", "")

    def test_a_fault_of_ours_is_told(self, health: Health, capfd: pytest.CaptureFixture[str]) -> None:
        def torn() -> bytes:
            raise KeyError("torn")

        others = serving()
        health.metrics = torn
        with pytest.raises(http.client.HTTPException):
            health.ask("/metrics")
        until(lambda: serving() <= others)
        assert "KeyError: 'torn'" in capfd.readouterr().err
        assert health.ask("/healthz")[0] == 200

    def test_one_slow_client_keeps_no_other_waiting(self, health: Health) -> None:
        with socket.create_connection(("127.0.0.1", health.server.port), timeout=30) as raw:
            raw.sendall(b"GET /healthz HT")
            assert health.ask("/healthz")[0] == 200

    def test_the_end(self) -> None:
        health = Health()
        port = health.server.port
        health.server.close()
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=30):
            pass

    @pytest.mark.parametrize(
        "listen", ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", ":-1", ":65536", ":" + "9" * 5000, "::1:x"]
    )
    def test_no_address(self, listen: str) -> None:
        with pytest.raises(ConfigError, match="expected HOST:PORT"):
            Health(listen)

    def test_an_address_that_is_taken(self, health: Health) -> None:
        with pytest.raises(ConfigError, match="can't listen on") as caught:
            Health(f"127.0.0.1:{health.server.port}")
        assert "--listen" in (caught.value.hint or "")

    def test_an_address_of_another_machine(self) -> None:
        with pytest.raises(ConfigError, match=r"can't listen on 192\.0\.2\.1:0"):
            Health("192.0.2.1:0")

    @pytest.mark.parametrize("listen", [":0", "0.0.0.0:0"])
    def test_all_addresses(self, listen: str) -> None:
        health = Health(listen)
        try:
            assert health.ask("/healthz")[0] == 200
        finally:
            health.server.close()

    def test_ipv6(self) -> None:
        if not has_ipv6():
            with pytest.raises(ConfigError, match=r"can't listen on \[::1\]:0"):
                Health("[::1]:0")
            return
        health = Health("[::1]:0")
        try:
            assert health.ask("/healthz", host="::1")[0] == 200
        finally:
            health.server.close()


def has_ipv6() -> bool:
    """Whether this machine has a loopback of that kind."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def serving() -> set[int | None]:
    """The threads that answer somebody, of whatever server in this process."""
    return {one.ident for one in threading.enumerate() if "process_request_thread" in one.name}


def until(done: Callable[[], bool]) -> None:
    """Wait for it, half a minute at most."""
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end, serving()
        time.sleep(0.01)
