"""The way to an API server that lies, drips, or is none at all: nothing of it reads as a yes, and no token is told."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme
import urllib3
import yaml  # type: ignore[import-untyped]

from gitops_mk.adapters.cluster import client
from gitops_mk.adapters.cluster.client import HttpCluster, path_of
from gitops_mk.adapters.cluster.credentials import Connection, connect
from gitops_mk.adapters.killswitch import GateKillSwitch
from gitops_mk.controller.consult import ask, look
from gitops_mk.core.dryrun import compare
from gitops_mk.core.refusals import GITOPS_MANAGERS
from gitops_mk.errors import ClusterError, ConfigError, MkError, StoppedError
from gitops_mk.model.cluster import ApplyAnswer, Trial
from gitops_mk.model.settings import CONFIG_PATH
from tests.support.make import REF
from tests.support.world import World, template

TOKEN = "canary-token-4711"


class Server(BaseHTTPRequestHandler):
    """Answers everything with `answer`, and keeps what it was asked."""

    answer: ClassVar[tuple[int, dict[str, str], bytes]] = (200, {}, b"{}")
    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(size)
        self.asked.append((self.path, dict(self.headers)))
        status, headers, body = self.answer
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if "Content-Length" not in headers:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PATCH = do_GET

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[str]:
    Server.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


@pytest.fixture
def cluster(server: str) -> HttpCluster:
    pool = urllib3.PoolManager(retries=False)
    return HttpCluster(lambda: Connection(server, "test", pool, lambda: {"Authorization": f"Bearer {TOKEN}"}))


def says(body: bytes | dict[str, Any] | list[Any] | None, status: int = 200, **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    Server.answer = (status, {key.replace("_", "-"): value for key, value in headers.items()}, data)


PAGES = [b"<html>Please log in</html>", b"", b"null", b"[]", b"{", b'"text"', gzip.compress(b'{"items": []}', mtime=0)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_is_no_object_is_no_answer(cluster: HttpCluster, page: bytes) -> None:
    says(page)
    with pytest.raises(ClusterError):
        list(cluster.pages("Application"))
    with pytest.raises(ClusterError):
        cluster.get("ConfigMap", "kill", namespace="ops")
    with pytest.raises(ClusterError):
        cluster.dry_run_apply("Deployment", "ml", "x", b"{}", force=False)
    with pytest.raises(ClusterError):
        cluster.can_i("patch", "Deployment")
    assert look(cluster, REF).error


@pytest.mark.parametrize(
    "body", [{}, {"items": 3}, {"items": "abc"}, {"items": [1]}, {"items": {"a": 1}}, {"kind": "Status", "status": "Success"}]
)  # fmt: skip
def test_a_list_without_a_list(cluster: HttpCluster, body: dict[str, Any]) -> None:
    says(body)
    with pytest.raises(ClusterError):
        list(cluster.pages("Pod"))


def test_lists_and_reviews_of_odd_shape_do_not_raise_anything_else(cluster: HttpCluster) -> None:
    says({"items": None, "metadata": []})
    assert [page.items for page in cluster.pages("Pod")] == [()]
    odd: list[Any] = [[], "yes", {"allowed": "true"}, {"allowed": 1}, None]
    for status in odd:
        says({"status": status})
        assert cluster.can_i("patch", "Deployment") is False


@pytest.mark.parametrize(
    "line",
    [b"<html>", b"[]", b"null", b"3", b'{"type":"ADDED"}', b'{"type":"ADDED","object":[1]}',
     b'{"type":"ERROR","object":{"code":"x","message":"m"}}', b'{"type":"ERROR","object":{"code":410}}'],
)  # fmt: skip
def test_a_watch_that_is_garbled(cluster: HttpCluster, line: bytes) -> None:
    says(line + b"\n")
    with pytest.raises(ClusterError):
        list(cluster.watch("Pod", resource_version="1"))


@pytest.mark.parametrize("length", [True, False])
def test_a_body_without_end(cluster: HttpCluster, monkeypatch: pytest.MonkeyPatch, length: bool) -> None:
    monkeypatch.setattr(client, "MAX_BODY", 10_000)
    body = json.dumps({"metadata": {}, "items": ["x" * 20_000]}).encode()
    headers = {"Content-Length": str(len(body))} if length else {}
    for status in (200, 403):
        Server.answer = (status, headers, body)
        with pytest.raises(ClusterError, match="answer of over"):
            cluster.get("Pod", "p", namespace="ml")
    with pytest.raises(ClusterError, match="answer of over"), cluster.logs("ml", "p", "c") as blocks:
        list(blocks)


def test_a_bomb_is_not_unpacked(cluster: HttpCluster) -> None:
    body = gzip.compress(json.dumps({"metadata": {"name": "x" * 50_000_000}}).encode())
    says(body, Content_Encoding="gzip", Content_Length=str(len(body)))
    with pytest.raises(ClusterError, match="no JSON object"):
        cluster.get("Pod", "p", namespace="ml")


def test_no_answer_in_time_is_told_from_no_server(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def over(address: str, timeout: urllib3.Timeout) -> HttpCluster:
        pool = urllib3.PoolManager(retries=False, timeout=timeout)
        return HttpCluster(lambda: Connection(address, "test", pool, dict))

    def late(address: str, timeout: urllib3.Timeout | None = None) -> bool:
        with pytest.raises(ClusterError) as raised:
            over(address, timeout or urllib3.Timeout(60)).get("Pod", "p", namespace="ml")
        return raised.value.timed_out

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        nowhere = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        assert late(nowhere, urllib3.Timeout(connect=60, read=0.05))
    assert not late(nowhere)
    says({"message": "oops"}, 500)
    assert not late(server)
    monkeypatch.setattr(client, "ANSWER_S", -1.0)
    says({})
    assert late(server)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(cluster: HttpCluster, status: int) -> None:
    says({"message": "over there"}, status, Location="http://127.0.0.1:9/elsewhere", Content_Length="25")
    with pytest.raises(ClusterError, match=str(status)):
        cluster.get("Pod", "p", namespace="ml")
    answer = cluster.dry_run_apply("Deployment", "ml", "x", b"{}", force=False)
    assert not answer.ok
    assert len(Server.asked) == 2


@pytest.mark.parametrize("name", [".", ".."])
def test_names_that_would_climb(cluster: HttpCluster, name: str) -> None:
    for kind, namespace, one in (("Pod", "ml", name), ("Pod", name, "p")):
        with pytest.raises(ClusterError):
            cluster.get(kind, one, namespace=namespace)
    assert not Server.asked


@pytest.mark.parametrize("name", ["../../secrets/x", "a?dryRun=", "a#b", "a b", "a\r\nX: y", "ä", "%2e%2e"])
def test_names_stay_one_part_of_the_path(cluster: HttpCluster, name: str) -> None:
    says({})
    cluster.get("Pod", name, namespace="ml")
    [(path, _)] = Server.asked
    prefix, _, last = path.rpartition("/")
    assert prefix == path_of("Pod", "ml")
    assert not set("?# \r\n") & set(last)
    assert last != ".."


@pytest.mark.parametrize("token", ["a\nX-Remote-User: admin", "a\r\nb", "ä", "a\0b", "a\u2028b"])
def test_a_token_that_is_no_header_is_not_told(server: str, token: str) -> None:
    pool = urllib3.PoolManager(retries=False)
    found = HttpCluster(lambda: Connection(server, "test", pool, lambda: {"Authorization": f"Bearer {token}-{TOKEN}"}))
    with pytest.raises(ClusterError) as caught:
        found.get("Pod", "p", namespace="ml")
    assert TOKEN not in f"{caught.value} {caught.value.hint} {caught.value.__cause__!r}"
    assert not Server.asked


# -- kubeconfigs -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)


def kubeconfig(folder: Path, *, user: dict[str, Any], name: str = "config", **cluster: Any) -> Path:
    authority = trustme.CA()
    data = base64.b64encode(authority.cert_pem.bytes()).decode()
    whole = {
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9", "certificate-authority-data": data, **cluster}}],
        "users": [{"name": "u", "user": user}],
    }  # fmt: skip
    path = folder / name
    path.write_text(yaml.safe_dump(whole))
    return path


@pytest.mark.parametrize("extra", [{}, {"insecure-skip-tls-verify": False}])
def test_a_token_file_that_goes_or_rots_is_an_error_of_ours(tmp_path: Path, extra: dict[str, Any]) -> None:
    (tmp_path / "token").write_text(TOKEN)
    config = kubeconfig(tmp_path, user={"tokenFile": str(tmp_path / "token")}, **extra)
    found = HttpCluster(lambda: connect(kubeconfig=str(config)))
    with pytest.raises(ClusterError, match="can't be reached"):
        found.get("Pod", "p", namespace="ml")
    for broken in (f"{TOKEN}\nX: y".encode(), f"{TOKEN}ä".encode(), None):
        if broken is None:
            (tmp_path / "token").unlink()
        else:
            (tmp_path / "token").write_bytes(broken)
        fresh = HttpCluster(lambda: connect(kubeconfig=str(config)))
        for one in (found, fresh):
            with pytest.raises(MkError) as caught:
                one.get("Pod", "p", namespace="ml")
            assert TOKEN not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("extra", [{}, {"insecure-skip-tls-verify": False}])
def test_an_address_with_a_password_is_refused_and_not_told(tmp_path: Path, extra: dict[str, Any]) -> None:
    config = kubeconfig(tmp_path, user={"token": "x"}, server=f"https://admin:{TOKEN}@127.0.0.1:9", **extra)
    with pytest.raises(ConfigError) as caught:
        connect(kubeconfig=str(config))
    assert TOKEN not in f"{caught.value} {caught.value.hint}"


def test_hosts_that_need_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    config = str(kubeconfig(tmp_path, user={"token": "x"}))
    assert isinstance(connect(kubeconfig=config).pool, urllib3.ProxyManager)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,127.0.0.1")
    assert not isinstance(connect(kubeconfig=config).pool, urllib3.ProxyManager)


def test_an_encrypted_key_is_not_asked_for_at_the_terminal(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    issued = trustme.CA().issue_cert("me")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"word")
    )  # fmt: skip
    data = {
        "client-certificate-data": base64.b64encode(issued.cert_chain_pems[0].bytes()).decode(),
        "client-key-data": base64.b64encode(locked).decode(),
    }
    found = HttpCluster(lambda: connect(kubeconfig=str(kubeconfig(tmp_path, user=data))))
    with pytest.raises(MkError):
        found.get("Pod", "p", namespace="ml")


# -- what is made of the answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [[], "0", 0, {"kill": 0}, {"kill": ["0"]}, {"kill": "0 "}, {"Kill": "0"}, None])
def test_a_config_map_of_any_shape_can_be_read_and_only_a_zero_clears(
    cluster: HttpCluster, tmp_path: Path, data: Any
) -> None:
    world = World(template(tmp_path))
    text = world.file(CONFIG_PATH).replace(b"cluster:\n", b"cluster:\n  kill_switch: {namespace: ops, name: kill}\n")
    world.commit({CONFIG_PATH: text})
    switch = GateKillSwitch(world.forge(), cluster)
    try:
        says({"metadata": {"name": "kill"}, "data": data})
        assert [r.active for r in switch.read() if r.source == "ConfigMap"] == [True]
        says({"data": {"kill": "0"}})
        assert [r.active for r in switch.read() if r.source == "ConfigMap"] == [False]
    finally:
        world.close()


def conflict(*causes: dict[str, str]) -> ApplyAnswer:
    return ApplyAnswer(409, {"reason": "Conflict", "message": "conflicts", "details": {"causes": list(causes)}})


def test_a_conflict_with_a_manager_without_a_name_is_not_hidden_by_force() -> None:
    field = {"reason": "FieldManagerConflict", "field": ".spec.x"}
    known = {**field, "message": 'conflict with "kustomize-controller"'}
    nameless = {**field, "message": 'conflict with ""'}
    yes = ApplyAnswer(200, {})
    told = compare(Trial(conflict(known), yes), Trial(conflict(known, nameless), yes), managers=GITOPS_MANAGERS).head
    assert told.ok is False
    assert told.by == "unknown"


def test_a_name_in_quotes_stays_in_quotes() -> None:
    """A Deployment may be called 123; without quotes that is a number, which the server refuses."""
    from tests.support.cluster import SimCluster

    seen: list[bytes] = []

    class Seeing(SimCluster):
        def dry_run_apply(self, kind: str, namespace: str, name: str, document: bytes, *, force: bool) -> ApplyAnswer:
            seen.append(document)
            return super().dry_run_apply(kind, namespace, name, document, force=force)

    sim = Seeing()
    sim.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}})
    sim.deployment("123")
    text = b'apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: "123"\n  namespace: ml\n'
    ask(sim, REF.model_copy(update={"name": "123"}), text, text)
    assert seen == [text, text]


def test_a_webhook_that_sets_the_knob_back_is_no_yes() -> None:
    """Base and head would be stored alike: nothing stray, and nothing done either."""
    from gitops_mk.controller.k8s_verify import verify_items
    from gitops_mk.model.plan import PlanItem, knob_patch
    from tests.support.cluster import SimCluster

    class Resetting(SimCluster):
        def dry_run_apply(self, kind: str, namespace: str, name: str, document: bytes, *, force: bool) -> ApplyAnswer:
            return ApplyAnswer(200, self.get(kind, name, namespace=namespace) or {})

    item = PlanItem(
        apiVersion="apps/v1", kind="Deployment", namespace="ml", name="trainer", patch=knob_patch({"concurrency": 9}), reason="x"
    )  # fmt: skip
    for sim, ok in ((SimCluster(), True), (Resetting(), False)):
        sim.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}})
        sim.deployment("trainer")
        payload = verify_items(sim, [item], [])
        assert payload["ok"] is ok, payload["verify_blocker"]


def test_who_is_told_to_stop_does_not_wait_for_a_silent_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        pool = urllib3.PoolManager(retries=False)
        stopping = threading.Event()
        patient = HttpCluster(lambda: Connection(address, "test", pool, dict))
        threading.Timer(0.3, stopping.set).start()
        with pytest.raises(StoppedError):
            patient.until(stopping).get("ConfigMap", "kill", namespace="ops")
        assert patient.calls == 1


def test_who_may_be_told_to_stop_is_answered_like_anybody(cluster: HttpCluster) -> None:
    asked = cluster.until(threading.Event())
    says({"kind": "ConfigMap"})
    assert asked.get("ConfigMap", "kill", namespace="ops") == {"kind": "ConfigMap"}
    says({"message": "no"}, 403)
    with pytest.raises(ClusterError, match="403"):
        asked.get("ConfigMap", "kill", namespace="ops")
    assert asked.calls == cluster.calls == 2


def test_a_server_that_asks_for_patience_keeps_nobody_who_is_to_stop(cluster: HttpCluster) -> None:
    stopping = threading.Event()
    says({"message": "later"}, 429, Retry_After="10")
    threading.Timer(0.2, stopping.set).start()
    with pytest.raises(MkError):
        cluster.until(stopping).get("ConfigMap", "kill", namespace="ops")
