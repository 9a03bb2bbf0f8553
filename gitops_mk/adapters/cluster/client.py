"""`ports.Cluster` over HTTP. GETs are tried again where the server asks for it; nothing else ever is.

Lists and objects stay plain JSON: the typed models of the kubernetes package cost five times the memory (measured on 5,000
Deployments) and drop what they don't know.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson

from gitops_mk._version import __version__
from gitops_mk.adapters.patience import unless_stopped
from gitops_mk.core.objects import part
from gitops_mk.core.render.text import plain
from gitops_mk.errors import ClusterError, ConfigError, ExpiredError
from gitops_mk.model.cluster import FIELD_MANAGER, RESOURCES, ApplyAnswer, LiveObject, Page, WatchEvent

if TYPE_CHECKING:
    import urllib3

    from gitops_mk.adapters.cluster.credentials import Connection

# By this name the API server's audit log knows us.
AGENT = f"modekeeper/{__version__}"
PAGE = 500
TRIES = 4
WATCH_S = 290
# The server bookmarks a watch about once a minute: silence for longer than this is a dead connection.
STALL_S = 90.0
BLOCK = 262_144
MAX_BODY = 256 * 1024 * 1024
MAX_EVENT = 16 * 1024 * 1024
MAX_WORDS = 300
POLL_S = 1.0
READ_S = 30.0
# An answer that drips never times out between two blocks.
ANSWER_S = 120.0


class _Answer(NamedTuple):
    """A whole answer, its body as it came."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _Line:
    """One connection, made at its first use, and how often it was used; shared by all who ask through it."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self.lock = threading.Lock()
        self.calls = 0
        self._connect = connect
        self._connected: Connection | None = None
        self._connecting = threading.Lock()

    @property
    def connection(self) -> Connection:
        with self._connecting:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected


class HttpCluster:
    """One API server, asked as one identity. Safe to use from several threads."""

    def __init__(self, connect: Callable[[], Connection] | _Line, *, stopping: threading.Event | None = None) -> None:
        """`connect` is called at the first use, or by `warm`: reading credentials takes its time, and may raise ConfigError."""
        self._line = connect if isinstance(connect, _Line) else _Line(connect)
        self._stopping = stopping

    def until(self, stopping: threading.Event) -> HttpCluster:
        """The same cluster for one who must not wait for its answers once `stopping` is set: StoppedError then."""
        return HttpCluster(self._line, stopping=stopping)

    @property
    def _connection(self) -> Connection:
        return self._line.connection

    def warm(self) -> None:
        """Connect in the background, while others wait for programs."""

        def connect() -> None:
            # Whoever uses it first is told what went wrong.
            with suppress(ConfigError):
                _ = self._connection

        threading.Thread(target=connect, name="connect", daemon=True).start()

    @property
    def context(self) -> str:
        """The kubeconfig's context, or `in-cluster`."""
        return self._connection.context

    @property
    def server(self) -> str:
        """The server's address."""
        return self._connection.server

    @property
    def calls(self) -> int:
        """Requests sent so far."""
        return self._line.calls

    def version(self) -> str:
        """The server's version. Raises ClusterError."""
        return str(self.request("GET", "/version").get("gitVersion", "unknown"))

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> LiveObject | None:
        """One object; None when it, or its kind, is not there. Raises ClusterError."""
        try:
            return self.request("GET", path_of(kind, namespace, name))
        except ClusterError as exc:
            if exc.status == 404:
                return None
            raise

    def pages(self, kind: str, *, namespace: str | None = None, labels: str = "") -> Iterator[Page]:
        """All objects of a kind, 500 at a time. Raises ClusterError, and ExpiredError when the list grew too old."""
        query = {"limit": str(PAGE), "labelSelector": labels}
        token = ""
        while True:
            try:
                body = self.request("GET", path_of(kind, namespace), query={**query, "continue": token})
            except ClusterError as exc:
                if exc.status == 404 and not token:
                    yield Page((), "")
                    return
                raise
            items = body.get("items", "none")
            if not isinstance(items, list | None) or not all(isinstance(item, dict) for item in items or ()):
                raise ClusterError(f"the API server's list of {kind} holds no list of objects")
            meta = part(body, "metadata")
            yield Page(tuple(items or ()), str(meta.get("resourceVersion", "")))
            token = str(meta.get("continue") or "")
            if not token:
                return

    def watch(
        self, kind: str, *, namespace: str | None = None, labels: str = "", resource_version: str
    ) -> Iterator[WatchEvent]:
        """What changed since that version, as it happens. Raises ClusterError, and ExpiredError on 410."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
            "resourceVersion": resource_version,
            "labelSelector": labels,
        }
        with self._stream(path_of(kind, namespace), query, read_s=STALL_S) as response:
            for line in _lines(self._blocks(response)):
                event = _object(line)
                found = part(event, "object")
                if event is None or not found:
                    raise ClusterError("a watch event that holds no object", retryable=True)
                if event.get("type") == "ERROR":
                    code = found.get("code")
                    raise _error(code if isinstance(code, int) else 500, found)
                yield WatchEvent(str(event.get("type")), found)

    def can_i(self, verb: str, kind: str, *, namespace: str | None = None, name: str = "") -> bool:
        """Ask the server's authoriser, for ourselves. A review is a question: the server stores nothing."""
        resource = RESOURCES[kind]
        attributes = {
            "verb": verb, "group": resource.group, "resource": resource.plural, "namespace": namespace or "", "name": name,
        }  # fmt: skip
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
        return part(answer, "status").get("allowed") is True

    def dry_run_apply(self, kind: str, namespace: str, name: str, document: bytes, *, force: bool) -> ApplyAnswer:
        """Server-side apply with `dryRun=All`: the answer, or the `Status` that says no. Raises ClusterError."""
        query = {
            "dryRun": "All",
            "fieldManager": FIELD_MANAGER,
            "fieldValidation": "Strict",
            "force": "true" if force else "false",
        }
        headers = {"Content-Type": "application/apply-patch+yaml"}
        response = self._send("PATCH", path_of(kind, namespace, name), query, document, headers)
        if 200 <= response.status < 300:
            return ApplyAnswer(response.status, _stored(response, f"the dry-run of {kind} {namespace}/{name}"))
        return ApplyAnswer(response.status, _decoded(response.data))

    @contextmanager
    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        previous: bool = False,
        since_time: str | None = None,
        since_seconds: int | None = None,
        limit_bytes: int | None = None,
    ) -> Iterator[Iterator[bytes]]:
        """A container's log as raw blocks, each line with its time in front. Raises ClusterError."""
        query = {
            "container": container,
            "timestamps": "true",
            "follow": "true" if follow else "",
            "previous": "true" if previous else "",
            "sinceTime": since_time or "",
            "sinceSeconds": str(since_seconds) if since_seconds is not None else "",
            "limitBytes": str(limit_bytes) if limit_bytes is not None else "",
        }
        path = f"{path_of('Pod', namespace, pod)}/log"
        with self._stream(path, query, read_s=READ_S) as response:
            yield self._blocks(response, idle=follow)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> LiveObject:
        """One call, its answer parsed. Raises ClusterError for every answer but a 2xx."""
        data = orjson.dumps(body) if body is not None else None
        sent = {"Content-Type": "application/json", **(headers or {})} if data is not None else {}
        for attempt in range(TRIES):
            response = self._send(method, path, query or {}, data, sent)
            if 200 <= response.status < 300:
                return _stored(response, path)
            # 429 and 503 say that nothing was done; only a read is sent again.
            if method != "GET" or response.status not in (429, 503) or attempt == TRIES - 1:
                raise _error(response.status, _decoded(response.data))
            wait_s = _retry_after(response, attempt)
            if self._stopping is None:
                time.sleep(wait_s)
            else:
                self._stopping.wait(wait_s)
        raise AssertionError("unreachable")

    def _send(
        self, method: str, path: str, query: Mapping[str, str], data: bytes | None, headers: Mapping[str, str]
    ) -> _Answer:
        if self._stopping is None:
            return self._exchange(method, path, query, data, headers)
        return unless_stopped(partial(self._exchange, method, path, query, data, headers), self._stopping)

    def _exchange(
        self, method: str, path: str, query: Mapping[str, str], data: bytes | None, headers: Mapping[str, str]
    ) -> _Answer:
        response = self._open(method, path, query, data, headers, {"preload_content": False})
        try:
            # Read here, so that what breaks in the middle is told like what breaks at the start.
            return _Answer(int(response.status), response.headers, _whole(response, path))
        except _http_errors() as exc:
            raise self._unreachable(exc) from exc
        finally:
            response.release_conn()

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        data: bytes | None,
        headers: Mapping[str, str],
        options: Mapping[str, Any],
    ) -> urllib3.BaseHTTPResponse:
        asked = urlencode({key: value for key, value in query.items() if value})
        url = f"{self._connection.server}{path}" + (f"?{asked}" if asked else "")
        with self._line.lock:
            self._line.calls += 1
            who = self._who()
        try:
            return self._connection.pool.request(
                method,
                url,
                body=data,
                headers={"Accept": "application/json", "User-Agent": AGENT, **headers, **who},
                redirect=False,
                **options,
            )
        except _http_errors() as exc:
            raise self._unreachable(exc) from exc

    def _who(self) -> Mapping[str, str]:
        """The headers that say who asks; no word of a token that can't be sent is told."""
        try:
            who = self._connection.headers()
        except (OSError, ValueError) as exc:
            raise ClusterError(
                f"context {self.context}: its token can't be read: {type(exc).__name__}",
                hint="does `kubectl get ns` work with it?",
            ) from None
        if not all(value.isascii() and value.isprintable() for value in who.values()):
            raise ClusterError(
                f"context {self.context}: its token holds what no header can", hint="a token is one line of plain ASCII"
            )
        return who

    @contextmanager
    def _stream(self, path: str, query: Mapping[str, str], *, read_s: float) -> Iterator[urllib3.BaseHTTPResponse]:
        import urllib3

        timeout = urllib3.Timeout(connect=5.0, read=max(read_s, 10.0))
        response = self._open("GET", path, query, None, {}, {"preload_content": False, "timeout": timeout})
        try:
            if response.status != 200:
                raise _error(response.status, _decoded(_whole(response, path)))
            _read_timeout(response, read_s)
            yield response
        finally:
            # Not given back to the pool: there is more to come that nobody will read.
            response.close()

    def _blocks(self, response: urllib3.BaseHTTPResponse, *, idle: bool = False) -> Iterator[bytes]:
        """Blocks as they come. `idle`: an empty one for every wait that brought nothing."""
        import urllib3

        while True:
            if idle and _is_silent(response, POLL_S):
                yield b""
                continue
            try:
                block = response.read1(BLOCK)
            except (TimeoutError, urllib3.exceptions.ReadTimeoutError) as exc:
                raise ClusterError("the API server was silent for too long", retryable=True, timed_out=True) from exc
            except _http_errors() as exc:
                raise self._unreachable(exc) from exc
            if not block:
                return
            yield block

    def _unreachable(self, exc: BaseException) -> ClusterError:
        return ClusterError(
            f"{self._connection.server} can't be reached: {_words(str(exc))}",
            hint=f"context {self.context}: does `kubectl get ns` work with it?",
            retryable=True,
            timed_out=_is_late(exc),
        )


def path_of(kind: str, namespace: str | None, name: str | None = None) -> str:
    """The path of a collection, or of one object in it."""
    resource = RESOURCES[kind]
    if {namespace, name} & {".", ".."}:
        # As the last part of a URL they would mean another one.
        raise ClusterError(f"{kind} {namespace}/{name}: no such name can be")
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    where = f"/namespaces/{quote(namespace, safe='')}" if namespace and resource.namespaced else ""
    return f"{root}{where}/{resource.plural}" + (f"/{quote(name, safe='')}" if name else "")


def _http_errors() -> tuple[type[BaseException], ...]:
    import urllib3

    return (urllib3.exceptions.HTTPError, OSError)


def _is_late(exc: BaseException) -> bool:
    """True where time ran out, there or below. To urllib3 a refused connection is of that family: it is none."""
    from urllib3.exceptions import NewConnectionError
    from urllib3.exceptions import TimeoutError as LateError

    return any(
        isinstance(one, (TimeoutError, LateError)) and not isinstance(one, NewConnectionError)
        for one in (exc, exc.__cause__, *exc.args)
    )


def _read_timeout(response: urllib3.BaseHTTPResponse, seconds: float) -> None:
    """Wait for each block at most so long, once the answer has begun."""
    sock = _socket_of(response)
    if sock is not None:
        sock.settimeout(seconds)


def _is_silent(response: urllib3.BaseHTTPResponse, seconds: float) -> bool:
    """True when nothing comes for so long. Asked without a read, for a read that times out ends the answer for good."""
    from urllib3.util import wait_for_read

    sock, reader = _socket_of(response), getattr(getattr(response, "_fp", None), "fp", None)
    if sock is None or reader is None:
        return False
    # Between two chunks, the end of the last one (CRLF) is still there, and no news.
    known = 2 if getattr(getattr(response, "_fp", None), "chunk_left", None) == 0 else 0
    end = time.monotonic() + seconds
    while True:
        before = sock.gettimeout()
        sock.settimeout(0.0)
        try:
            found = reader.peek(1)
            if len(found) > known:
                return False
            # TLS without data says so by an exception: nothing at all is its end, and the socket need not tell of it.
            if isinstance(sock, ssl.SSLSocket) and (not found or sock.pending()):
                return False
            is_part = False
        except ssl.SSLWantReadError:
            # What came is no data yet: part of a TLS record, or none of ours (a session ticket).
            is_part = True
        finally:
            sock.settimeout(before)
        if not wait_for_read(sock, max(0.0, end - time.monotonic())):
            return True
        if not is_part:
            return False


def _socket_of(response: urllib3.BaseHTTPResponse) -> Any:
    """The socket below an answer that is being read; None once it is read."""
    return getattr(getattr(getattr(getattr(response, "_fp", None), "fp", None), "raw", None), "_sock", None)


def _retry_after(response: _Answer, attempt: int) -> float:
    text = response.headers.get("Retry-After") or ""
    return min(float(text), 10.0) if text.isascii() and text.isdecimal() else 0.2 * 2.0**attempt


def _whole(response: urllib3.BaseHTTPResponse, path: str) -> bytes:
    """An answer's body, read to its end, as it came: none was asked for in gzip, and a bomb stays as small as it is."""
    blocks, size, end = [], 0, time.monotonic() + ANSWER_S
    while block := response.read1(BLOCK, decode_content=False):
        blocks.append(block)
        size += len(block)
        if size > MAX_BODY or time.monotonic() > end:
            response.close()
            raise ClusterError(
                f"{path}: an answer of over {MAX_BODY} bytes, or over {ANSWER_S:.0f} s", timed_out=size <= MAX_BODY
            )
    return b"".join(blocks)


def _object(data: bytes) -> LiveObject | None:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _stored(answer: _Answer, what: str) -> LiveObject:
    """What a yes holds. Raises ClusterError for one that is no JSON object: a proxy's page is no answer, and no empty list."""
    found = _object(answer.data)
    if found is None:
        said = _words(answer.data[:200].decode("utf-8", "replace")) or "nothing"
        raise ClusterError(
            f"{what}: status {answer.status} with no JSON object, but: {said}", hint="is there a proxy between?"
        )
    return found


def _decoded(data: bytes) -> LiveObject:
    found = _object(data)
    if found is None:
        # A CRD that was just made answers in plain text for a moment; proxies answer in HTML.
        return {"message": _words(data[:2048].decode("utf-8", "replace"))}
    return found


def _error(status: int, body: LiveObject) -> ClusterError:
    words = _words(str(body.get("message") or body.get("reason") or "no reason given"))
    if status == 410:
        return ExpiredError(f"the API server has forgotten that version: {words}", status=status, retryable=True)
    hint = {
        401: "the token is not valid (any more)",
        403: "give this identity the right: see kustomize/base/rbac.yaml, and for workloads kustomize/workload-namespace",
    }.get(status)
    return ClusterError(
        f"the API server says {status}: {words}", status=status, hint=hint, retryable=status in (429, 500, 503, 504)
    )


def _words(text: str) -> str:
    return plain(text, most=MAX_WORDS)


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines without their ends. Raises ClusterError for one that never ends."""
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        yield from (line for line in whole if line)
        if len(rest) > MAX_EVENT:
            raise ClusterError(f"a watch event of over {MAX_EVENT} bytes")
