"""A log over HTTP: silence is no end, an end is no silence, with TLS and without."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme
import urllib3

from gitops_mk.adapters.cluster import client
from gitops_mk.adapters.cluster.client import HttpCluster
from gitops_mk.adapters.cluster.credentials import Connection
from gitops_mk.errors import ClusterError

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@contextmanager
def serving(folder: Path, *, tls: bool, answer: Callable[[socket.socket], None]) -> Iterator[HttpCluster]:
    """A server that gives this answer to one request, and ends it as a polite TLS server does: it says so, and waits."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) if tls else plain as connection:
            while not connection.recv(65_536).endswith(b"\r\n\r\n"):
                pass
            answer(connection)
            if isinstance(connection, ssl.SSLSocket):
                connection.settimeout(0.05)
                with suppress(OSError):
                    connection.unwrap()
                done.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        pool = urllib3.PoolManager(ca_certs=str(folder / "ca.crt"), retries=False)
        address = f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        yield HttpCluster(lambda: Connection(server=address, context="test", pool=pool, headers=dict))
        done.set()
        thread.join()
        pool.clear()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_silence_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool, ended: bool) -> None:
    monkeypatch.setattr(client, "POLL_S", 0.02)
    silent = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(b"one\n") + chunk(b"two\r\n"))
        # Silence between two chunks, and within one.
        for part in (chunk(b"three\n")[:5], chunk(b"three\n")[5:]):
            silent.wait(30)
            silent.clear()
            connection.sendall(part)
        connection.sendall(b"0\r\n\r\n" if ended else b"ff\r\n2026")

    with serving(tmp_path, tls=tls, answer=answer) as cluster:
        with cluster.logs("ml", "p", "c", follow=True) as blocks:
            got = b""
            while not got.endswith(b"three\n"):
                block = next(blocks)
                got += block
                if not block:
                    silent.set()
            assert got == b"one\ntwo\r\nthree\n"
            if ended:
                assert next(blocks, None) is None
            else:
                with pytest.raises(ClusterError) as caught:
                    got += b"".join(blocks)
                assert caught.value.retryable
        assert cluster.calls == 1


def test_an_answer_that_stops_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_S", 0.05)
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(b"one\n"))
        over.wait(30)

    with serving(tmp_path, tls=True, answer=answer) as cluster, cluster.logs("ml", "p", "c") as blocks:
        assert next(blocks) == b"one\n"
        with pytest.raises(ClusterError, match="silent for too long"):
            next(blocks)
        over.set()
