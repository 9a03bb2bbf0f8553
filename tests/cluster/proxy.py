"""A way to the API server that a test can block: by path, or altogether."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster.control_plane import Cluster

_ANSWERED = ("Content-Type", "Retry-After")


class ApiProxy:
    """Plain HTTP on loopback in front of the API server. Requests for which `hangs` says yes are never answered."""

    def __init__(self, cluster: Cluster) -> None:
        self.hangs: Callable[[str, str], bool] = lambda method, path: False
        self.hung = threading.Event()
        self.down = threading.Event()
        self.over = threading.Event()
        host = urlsplit(cluster.server).netloc
        tls = ssl.create_default_context(cafile=str(cluster.ca))
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def serve(self) -> None:
                if proxy.down.is_set():
                    return
                if proxy.hangs(self.command, self.path):
                    proxy.hung.set()
                    proxy.over.wait()
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                passed = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                connection = http.client.HTTPSConnection(host, context=tls, timeout=120)
                try:
                    connection.request(self.command, self.path, body or None, passed)
                    self._answer(connection.getresponse())
                finally:
                    connection.close()

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

            def _answer(self, response: http.client.HTTPResponse) -> None:
                self.send_response(response.status)
                for name in _ANSWERED:
                    if response.headers.get(name):
                        self.send_header(name, response.headers[name])
                self.end_headers()
                self.wfile.flush()
                while not proxy.down.is_set() and (block := response.read1(65_536)):
                    self.wfile.write(block)
                    self.wfile.flush()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server has
                """What passes is in the audit log."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def kubeconfig(self, source: Path, target: Path, cluster: Cluster) -> Path:
        """The same kubeconfig by way of the proxy."""
        target.write_text(source.read_text().replace(cluster.server, self.url))
        return target

    def close(self) -> None:
        """Let all go."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Who hangs up early is meant to."""


@contextmanager
def proxied(cluster: Cluster) -> Iterator[ApiProxy]:
    """A proxy for as long as the context lasts."""
    made = ApiProxy(cluster)
    try:
        yield made
    finally:
        made.close()
