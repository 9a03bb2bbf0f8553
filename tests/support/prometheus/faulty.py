"""A server that answers a range query as no Prometheus should, or as a busy one does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs


@dataclass(frozen=True)
class Reply:
    """What is sent. `length`: what the header says of the body; more than there is means that the connection breaks off."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    length: int | None = None
    hang: bool = False
    # A header that goes on and on, a byte at a time.
    drip: bool = False


@dataclass(frozen=True)
class Question:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class Faulty:
    """`answer` is asked for each request; `seen` is what came in."""

    url: str = ""
    answer: Callable[[Question], Reply] = lambda question: matrix(question, {"": 1.0})
    seen: list[Question] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)


def matrix(question: Question, values: dict[str, float], **more: object) -> Reply:
    """A good answer: a constant series for each pod."""
    start, end, step = (float(question.form[name]) for name in ("start", "end", "step"))
    times = [start + i * step for i in range(round((end - start) / step) + 1)]
    result = [{"metric": {"pod": pod}, "values": [[t, str(value)] for t in times]} for pod, value in values.items()]
    return Reply(
        body=json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **more}).encode()
    )


def error(status: int, kind: str, words: str, *headers: tuple[str, str]) -> Reply:
    """A no, as Prometheus says it."""
    return Reply(status, json.dumps({"status": "error", "errorType": kind, "error": words}).encode(), headers)


@contextmanager
def serving() -> Iterator[Faulty]:
    """One on loopback."""
    faulty = Faulty()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # A connection that is kept open keeps a thread: it ends with the test, give or take.
        timeout = 5

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            form = {name: values[-1] for name, values in parse_qs(text).items()}
            question = Question(self.command, self.path, dict(self.headers), form)
            faulty.seen.append(question)
            reply = faulty.answer(question)
            if reply.hang:
                faulty.stopping.wait(30)
                self.close_connection = True
                return
            if reply.drip:
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                for _ in range(1000):
                    if faulty.stopping.wait(0.01):
                        return
                    try:
                        self.wfile.write(b"x")
                    except OSError:
                        return
                return
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
            self.end_headers()
            self.wfile.write(reply.body)
            if reply.length is not None:
                self.close_connection = True

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    faulty.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield faulty
    finally:
        faulty.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
