"""A git server over HTTP on loopback: `git http-backend` behind `http.server`, with faults on demand."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = int | str | None
"""A status to answer with, `drop` (before the request is served), `lost` (after), `hang`, `redirect URL`, or nothing."""


@dataclass
class GitServer:
    """`fault` is asked before each request with its method and path; `seen` is what came in, with the Authorization."""

    root: Path
    url: str = ""
    fault: Callable[[str, str], Fault] = lambda method, path: None
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def remote(self, name: str) -> str:
        """The URL of a repository under `root`."""
        return f"{self.url}/{name}"


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() == "chunked":
        parts = []
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            parts.append(handler.rfile.read(size))
            handler.rfile.readline()
        handler.rfile.readline()
        data = b"".join(parts)
    else:
        data = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    return gzip.decompress(data) if handler.headers.get("Content-Encoding") == "gzip" else data


def _backend(
    server: GitServer, handler: BaseHTTPRequestHandler, body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    path, _, query = handler.path.partition("?")
    env = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(server.root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "http.receivepack",
        "GIT_CONFIG_VALUE_0": "true",
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
        "GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""),
        "REQUEST_METHOD": handler.command,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_USER": "tester",
        "REMOTE_ADDR": "127.0.0.1",
    }
    out = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=True).stdout
    head, _, rest = out.partition(b"\r\n\r\n")
    headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
    status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
    return status, [(name, value) for name, value in headers if name != "Status"], rest


@contextmanager
def git_server(root: Path, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[GitServer]:
    """Serve the repositories under `root`, to read and to push."""
    server = GitServer(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            body = _body(self)
            server.seen.append((self.command, self.path, self.headers.get("Authorization")))
            fault = server.fault(self.command, self.path)
            if isinstance(fault, int):
                self.answer(fault, [("WWW-Authenticate", 'Basic realm="git"')] if fault == 401 else [], b"refused\n")
            elif fault == "drop":
                self.cut()
            elif fault == "hang":
                server.stopping.wait(60)
                self.cut()
            elif fault is not None and fault.startswith("redirect "):
                self.answer(302, [("Location", fault.removeprefix("redirect ") + self.path)], b"")
            else:
                status, headers, data = _backend(server, self, body)
                if fault == "lost":
                    self.cut()
                else:
                    self.answer(status, headers, data)

        do_GET = do_POST = serve

        def answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def cut(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    http = ThreadingHTTPServer((host, port), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        http.shutdown()
        http.server_close()
        thread.join()


if __name__ == "__main__":
    # usage: python -m tests.support.githttp ROOT HOST PORT
    with git_server(Path(sys.argv[1]), host=sys.argv[2], port=int(sys.argv[3])):
        threading.Event().wait()
