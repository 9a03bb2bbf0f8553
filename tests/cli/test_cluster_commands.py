"""The commands that ask a cluster: bad input is told in a line, and nothing secret is ever told."""

from __future__ import annotations

import base64
import json
import logging
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml  # type: ignore[import-untyped]

from tests.cli.conftest import Mk

GOOD = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [], "contexts": [], "users": []}
BROKEN: dict[str, bytes] = {
    "no yaml": b"server: {",
    "empty": b"",
    "no text": b"\xff\xfe\x00",
    "no current context": b"apiVersion: v1\nkind: Config\n",
    "a list": b"- 1\n",
    "a context of nothing": yaml.safe_dump(GOOD).encode(),
    "users of another kind": b"contexts: 3\ncurrent-context: c\n",
    "names no server": yaml.safe_dump({
        **GOOD, "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "clusters": [{"name": "c", "cluster": {}}],
        "users": [{"name": "u", "user": {}}],
    }).encode(),
}  # fmt: skip


def asking(repo: Path, config: Path | str) -> dict[str, tuple[object, ...]]:
    named = ("--kubeconfig", config)
    return {
        "workloads": ("workloads", "--repo", repo, *named),
        "observe": ("observe", "--source", "k8s", "--k8s-namespace", "ml", "--k8s-deployment", "x", *named),
        "controller": ("controller", "run", "--once", "--repo", repo, *named),
    }


def open_to_a_cluster(checkout: Path) -> Path:
    from tests.cli.conftest import commit_all

    path = checkout / ".modekeeper/config.yaml"
    path.write_text(path.read_text().replace("consult: never", "consult: auto"))
    commit_all(checkout)
    return checkout


@pytest.mark.parametrize("content", BROKEN)
def test_a_kubeconfig_that_is_none(mk: Mk, checkout: Path, tmp_path: Path, content: str) -> None:
    config = tmp_path / "config"
    config.write_bytes(BROKEN[content])
    for name, words in asking(checkout, config).items():
        said = mk(*words)
        assert said.code == 2, (name, said.err)
        assert said.error
        assert "hint: " in said.err
    plan = tmp_path / "k8s_plan.json"
    plan.write_text("[]")
    said = mk("k8s", "verify", "--plan", plan, "--kubeconfig", config, "--json")
    assert said.code == 1
    assert said.json["verify_blocker"]["kind"] == "cluster_unreachable"
    doctor = mk("doctor", "--repo", open_to_a_cluster(checkout), "--kubeconfig", config)
    assert doctor.code == 1
    assert "MISS cluster" in doctor.out


def test_a_kubeconfig_that_is_not_there(mk: Mk, checkout: Path, tmp_path: Path) -> None:
    plan = tmp_path / "k8s_plan.json"
    plan.write_text("[]")
    words = {**asking(checkout, "nowhere"), "k8s verify": ("k8s", "verify", "--plan", plan, "--kubeconfig", "nowhere")}
    for name, one in words.items():
        said = mk(*one)
        assert (said.code, said.error) == (2, "nowhere: no such kubeconfig"), name


def test_a_context_that_is_asked_for_is_not_passed_over(mk: Mk, checkout: Path) -> None:
    """Who names a context means a cluster: that there is no kubeconfig for it is told, and never a reason to go without."""
    said = mk("doctor", "--repo", open_to_a_cluster(checkout), "--context", "production")
    assert said.code == 1
    assert "there is no kubeconfig" in said.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--source", "k8s"), "--k8s-deployment is missing"),
        (("--source", "k8s", "--k8s-deployment", "x"), "--k8s-namespace is missing"),
        (("--source", "k8s", "--k8s-deployment", "X_x", "--k8s-namespace", "ml"), "is no Kubernetes name"),
        (("--source", "k8s", "--k8s-deployment", "x", "--k8s-namespace", "../x"), "is no Kubernetes name"),
        (
            ("--source", "k8s", "--k8s-deployment", "x", "--k8s-namespace", "ml", "--duration", "soon"),
            "duration 'soon'",
        ),
        (("--k8s-kind", "Pod"), "Pod"),
    ],
)
def test_bad_words_for_pods(mk: Mk, words: tuple[str, ...], told: str) -> None:
    said = mk("observe", *words)
    assert said.code == 2
    assert told in said.error
    assert not Path("report").exists()


@pytest.mark.parametrize("option", [("--interval", "soon"), ("--window", "-3s"), ("--interval", "")])
def test_bad_words_for_the_controller(mk: Mk, checkout: Path, option: tuple[str, str]) -> None:
    said = mk("controller", "run", "--once", "--repo", checkout, *option)
    assert said.code == 2
    assert "duration" in said.error
    assert not Path("report").exists()


@pytest.mark.parametrize(
    "command",
    [("workloads",), ("k8s", "verify"), ("k8s", "apply"), ("verify",), ("observe",), ("controller", "run"), ("doctor",), ("apply",)],
)  # fmt: skip
def test_help_has_an_example(mk: Mk, command: tuple[str, ...]) -> None:
    said = mk(*command, "--help")
    assert said.code == 0
    assert f"Example: mk {' '.join(command)} " in " ".join(said.out.split())


# -- secrets -----------------------------------------------------------------------------------------------------------

CANARIES = {name: f"canary-{number}-{name}" for number, name in enumerate((
    "token", "file-token", "git-token", "license", "user-password", "exec-env", "proxy-password", "key-password", "prefix", "bearer",
))}  # fmt: skip


class Refusing(BaseHTTPRequestHandler):
    """Says no to everything, as an API server does."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps({"kind": "Status", "reason": "Forbidden", "message": "you may not", "code": 403}).encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PATCH = do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture(params=["closed port", "refusing server", "plain text over TLS"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "closed port":
        yield "https://127.0.0.1:9"
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"{'http' if request.param == 'refusing server' else 'https'}://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def users(folder: Path) -> dict[str, dict[str, Any]]:
    issued = trustme.CA().issue_cert("me")
    (folder / "token").write_text(CANARIES["file-token"])
    return {
        "token": {"token": CANARIES["token"]},
        "token of two lines": {"token": f"{CANARIES['bearer']}\nX-Remote-User: admin"},
        "token file": {"tokenFile": str(folder / "token")},
        "password": {"username": "admin", "password": CANARIES["user-password"]},
        "program": {"exec": {"command": "false", "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
                             "env": [{"name": "X", "value": CANARIES["exec-env"]}]}},
        "half a key": {"client-key-data": base64.b64encode(CANARIES["key-password"].encode()).decode()},
        "no key": {"client-key-data": base64.b64encode(CANARIES["key-password"].encode()).decode(),
                   "client-certificate-data": base64.b64encode(issued.cert_chain_pems[0].bytes()).decode()},
    }  # fmt: skip


def test_no_secret_is_told(
    mk: Mk,
    checkout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    open_to_a_cluster(checkout)
    monkeypatch.setenv("MODEKEEPER_GIT_TOKEN", CANARIES["git-token"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    license_path = tmp_path / "license.json"
    license_path.write_text(json.dumps({"schema_version": "license.v1", "signature": CANARIES["license"], "org": "x"}))
    told = ""
    for name, user in users(tmp_path).items():
        proxied = {"proxy-url": f"http://me:{CANARIES['proxy-password']}@127.0.0.1:9"}
        for more in ({}, proxied) if name == "token" else ({},):
            config = tmp_path / "config"
            config.write_text(yaml.safe_dump({
                **GOOD, "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": address, "insecure-skip-tls-verify": True, **more}}],
                "users": [{"name": "u", "user": user}],
            }))  # fmt: skip
            licensed = ("--license-path", license_path)
            for key, words in asking(checkout, config).items():
                said = mk(*words, *(licensed if key == "controller" else ()))
                told += said.out + said.err
            for words in (
                ("doctor", "--repo", checkout, *licensed),
                ("apply", "--pr", "1", "--repo", checkout, *licensed),
            ):
                said = mk(*words, "--kubeconfig", config)
                told += said.out + said.err
            config.unlink()
    written = b"".join(path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file())
    left = list(tmp_path.glob("mk-*"))
    everything = told + caplog.text + written.decode("utf-8", "replace")
    assert told
    assert [name for name, canary in CANARIES.items() if canary in everything] == []
    assert left == []
