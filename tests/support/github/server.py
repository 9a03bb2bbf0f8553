"""The HTTP side: one port for REST, GraphQL and git, keep-alive, with the faults planned and a record of every request."""

from __future__ import annotations

import gzip
import json
import socket
import sys
import threading
import traceback
from contextlib import suppress
from email.utils import formatdate
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from tests.support import githttp
from tests.support.github import gitside, rest
from tests.support.github.faults import Fault
from tests.support.github.records import Request
from tests.support.github.web import Answer, Refused

if TYPE_CHECKING:
    from tests.support.github.hub import GitHub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    hub: GitHub

    def serve(self) -> None:
        hub, data = self.hub, githttp._body(self)
        path, _, query = self.path.partition("?")
        record = Request(
            self.command,
            path,
            dict(parse_qsl(query, keep_blank_values=True)),
            0,
            "If-None-Match" in self.headers or "If-Modified-Since" in self.headers,
            None,
            hub.now(),
            None,
            dict(self.headers.items()),
        )
        hub.requests.append(record)
        faults = hub.faults.of(self.command, self.path)
        for fault in faults:
            if fault.kind == "delay":
                hub.faults.stopping.wait(fault.seconds)
            elif fault.kind == "before" and fault.call is not None:
                fault.call()
            elif fault.kind == "drop":
                self.cut()
                return
        early = next((fault for fault in faults if fault.kind == "status"), None)
        answer = _told(early) if early is not None else self.answer_of(path, query, data, record, faults)
        for fault in faults:
            if fault.kind == "after" and fault.call is not None:
                fault.call()
            elif fault.kind == "drop_after":
                self.cut()
                return
            elif fault.kind == "status_after":
                answer = _told(fault)
        record.status = answer.status
        self.send(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = serve

    def answer_of(self, path: str, query: str, data: bytes, record: Request, faults: list[Fault]) -> Answer:
        during = [fault.call for fault in faults if fault.kind == "during" and fault.call is not None]
        try:
            if path.startswith(("/api/v3", "/api/graphql")):
                return rest.answer(self.hub, self, path, data, record, during)
            return gitside.answer(self.hub, self, path, query, data, record)
        except Refused as refused:
            return refused.answer()
        except Exception:  # noqa: BLE001 - the simulator's own mistake: the test is to fail
            self.hub.violations.append(
                f"{self.command} {self.path}: the simulator broke down\n{traceback.format_exc()}"
            )
            return Answer(500, {"message": "Server Error"})

    def send(self, answer: Answer) -> None:
        headers = dict(answer.headers)
        if answer.raw is not None:
            data = answer.raw
        elif answer.body is None or answer.status in (204, 304):
            data = b""
        else:
            data = json.dumps(answer.body, separators=(",", ":")).encode()
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
            if len(data) > 8192 and "gzip" in self.headers.get("Accept-Encoding", ""):
                data = gzip.compress(data, 1)
                headers["Content-Encoding"] = "gzip"
        lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Status')}", "Server: github.com"]
        headers.setdefault("Date", formatdate(self.hub.now(), usegmt=True))
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if answer.status not in (204, 304):
            lines.append(f"Content-Length: {len(data)}")
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


def _told(fault: Fault) -> Answer:
    body: Any = fault.body if fault.body is not None else {"message": responses.get(fault.code, "Status")}
    return Answer(fault.code, body, dict(fault.extra))


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: GitHub) -> None:
        super().__init__(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
        self.hub = hub
        self.open: dict[socket.socket, threading.Thread] = {}

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.open[request] = threading.current_thread()
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A caller that went away is nobody's fault.
        if not isinstance(sys.exception(), ConnectionError):
            self.hub.violations.append(f"a request broke down\n{traceback.format_exc()}")


class Server:
    """The listening socket and its thread."""

    def __init__(self, hub: GitHub) -> None:
        self._http = _Http(hub)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end what is open."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        for connection, thread in list(self._http.open.items()):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(10)
