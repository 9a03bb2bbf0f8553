"""`/healthz`, `/readyz` and `/metrics` over HTTP: read-only, no other path, no argument looked at."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gitops_mk.errors import ConfigError

TIMEOUT_S = 10


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A probe that hangs up early is no news; anything else is told as ever."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _SixServer(_Server):
    address_family = socket.AF_INET6


class HealthServer:
    """Serves in threads of its own until `close`."""

    def __init__(
        self,
        listen: str,
        *,
        alive: Callable[[], str | None],
        ready: Callable[[], str | None],
        metrics: Callable[[], bytes],
    ) -> None:
        """`alive` and `ready` give None when all is well, else what is not. Raises ConfigError for an unusable address."""
        host, _, port = listen.rpartition(":")
        if not port.isdecimal() or len(port) > 5 or int(port) > 65_535:
            raise ConfigError(
                f"--listen {listen!r}, expected HOST:PORT", hint="for example 127.0.0.1:8080; port 0 picks one"
            )

        class Handler(BaseHTTPRequestHandler):
            timeout = TIMEOUT_S

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, metrics(), "text/plain; version=0.0.4; charset=utf-8")
                elif self.path in ("/healthz", "/readyz"):
                    trouble = alive() if self.path == "/healthz" else ready()
                    self._answer(200 if trouble is None else 503, (trouble or "ok").encode() + b"\n", "text/plain")
                else:
                    self._answer(404, b"not found\n", "text/plain")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server has
                """Probes are no news."""

        try:
            kind = _SixServer if ":" in host else _Server
            self._server = kind((host.strip("[]") or "0.0.0.0", int(port)), Handler)  # noqa: S104 - a pod's probes come from outside
        except OSError as exc:
            raise ConfigError(
                f"can't listen on {listen}: {exc.strerror or exc}", hint="name another with --listen"
            ) from exc
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that was taken."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
