"""`/api/v1/query_range` over HTTP: bounded answers, no redirects, no proxy, and questions asked again where the server was busy.

Queries go by POST, in the body: no proxy cuts them, and no access log keeps them.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlencode

from gitops_mk._version import __version__
from gitops_mk.adapters.telemetry.prometheus_access import CA_FILE, PrometheusAccess
from gitops_mk.core.prometheus.answers import MAX_SERIES, Answer, asks_for_less, read_answer, refusal
from gitops_mk.core.prometheus.grid import seconds
from gitops_mk.errors import ConfigError, TelemetryError

if TYPE_CHECKING:
    import urllib3

PATH: Final = "/api/v1/query_range"
AGENT: Final = f"modekeeper/{__version__}"
MAX_ANSWER: Final = 16 * 1024 * 1024
BLOCK: Final = 262_144
TRIES: Final = 3
CONNECT_S: Final = 5.0
LONGEST_PAUSE_S: Final = 10.0
# An answer is on its way for so long beyond what its evaluation may take; one that drips never times out between two blocks.
TRANSFER_S: Final = 15.0


class TooMuch(Exception):  # noqa: N818 - what became of the question
    """The server would not, or we will not, take so much at once: ask for less. `why` is told where there is no less."""

    def __init__(self, why: TelemetryError) -> None:
        super().__init__(why.message)
        self.why = why


class _Reply(NamedTuple):
    status: int
    retry_after: str | None
    data: bytes


class PrometheusClient:
    """One Prometheus, asked as one identity. `timeout_s` is for how long it may evaluate one query."""

    def __init__(
        self, access: PrometheusAccess, *, timeout_s: float = 30.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._access = access
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._pool: urllib3.PoolManager | None = None

    def query_range(self, role: str, query: str, *, start_ms: int, end_ms: int, step_ms: int) -> Answer:
        """The samples of one role. Raises TooMuch where a shorter span may do, TelemetryError and ConfigError."""
        form = {
            "query": query,
            "start": seconds(start_ms),
            "end": seconds(end_ms),
            "step": seconds(step_ms),
            "timeout": f"{self._timeout_s:.3f}",
            # Servers before 2.53 know no limit: what is beyond it is refused here.
            "limit": str(MAX_SERIES + 1),
        }
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            try:
                reply = self._ask(role, urlencode(form).encode())
            except TelemetryError as exc:
                if last or not exc.retryable:
                    raise
                self._sleep(_pause(None, attempt))
                continue
            if 200 <= reply.status < 300:
                return read_answer(reply.data, role=role)
            error = refusal(reply.status, reply.data, role=role)
            if asks_for_less(reply.status, reply.data):
                raise TooMuch(error)
            if last or not error.retryable:
                raise error
            self._sleep(_pause(reply.retry_after, attempt))
        raise AssertionError("unreachable")

    def _ask(self, role: str, body: bytes) -> _Reply:
        import urllib3

        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": AGENT,
            **self._access.headers(),
        }
        response = None
        try:
            response = self._connections().request(
                "POST",
                self._access.address.url + PATH,
                body=body,
                headers=headers,
                redirect=False,
                preload_content=False,
            )
            return _Reply(int(response.status), response.headers.get("Retry-After"), self._whole(response, role))
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            raise self._unreachable(role, exc) from exc
        finally:
            if response is not None:
                response.release_conn()

    def _whole(self, response: urllib3.BaseHTTPResponse, role: str) -> bytes:
        blocks, size, end = [], 0, time.monotonic() + self._timeout_s + TRANSFER_S
        while block := response.read1(BLOCK, decode_content=False):
            blocks.append(block)
            size += len(block)
            if size <= MAX_ANSWER and time.monotonic() <= end:
                continue
            # What is left of it must not come before the next answer.
            response.close()
            if size > MAX_ANSWER:
                raise TooMuch(
                    TelemetryError(
                        f"{role}: an answer of over {MAX_ANSWER // 1_048_576} MiB",
                        hint="aggregate the series: max(…), avg by (pod) (…)",
                    )
                )
            raise TelemetryError(
                f"{role}: an answer that did not end in {self._timeout_s + TRANSFER_S:.0f} s",
                hint="ask for a shorter --duration or a longer step, or allow a longer timeout",
            )
        return b"".join(blocks)

    def _connections(self) -> urllib3.PoolManager:
        import urllib3

        if self._pool is None:
            timeout = urllib3.Timeout(connect=CONNECT_S, read=self._timeout_s + CONNECT_S)
            context = self._tls() if self._access.address.origin[0] == "https" else None
            self._pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=timeout, ssl_context=context)
        return self._pool

    def _tls(self) -> ssl.SSLContext:
        path = self._access.ca_file
        try:
            return ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(
                f"{path}: no certificates of an authority: {type(exc).__name__}",
                hint=f"check --prometheus-ca-file or {CA_FILE}: a PEM file",
            ) from exc

    def _unreachable(self, role: str, exc: Exception) -> TelemetryError:
        import urllib3

        url = self._access.address.url
        if isinstance(exc, urllib3.exceptions.SSLError):
            why = _distrust(exc)
            if why is None:
                return TelemetryError(f"{role}: {url} speaks no TLS that we do", hint="is it http:// there?")
            return TelemetryError(
                f"{role}: {url} can't be trusted: {why}",
                hint=f"is its authority that of --prometheus-ca-file or {CA_FILE}, and is it called so?",
            )
        late = isinstance(exc, (TimeoutError, urllib3.exceptions.ReadTimeoutError))
        said = "did not answer in time" if late else f"can't be reached, or broke off: {type(exc).__name__}"
        return TelemetryError(
            f"{role}: {url} {said}", hint="check the address, and that the server is up", retryable=True
        )


def _distrust(exc: BaseException) -> str | None:
    """What OpenSSL has against a certificate, without addresses and objects; None where it is not that."""
    for one in (exc, exc.__cause__, *exc.args):
        if isinstance(one, ssl.SSLCertVerificationError):
            return one.verify_message
    return None


def _pause(retry_after: str | None, attempt: int) -> float:
    asked = retry_after or ""
    return min(float(asked), LONGEST_PAUSE_S) if asked.isascii() and asked.isdecimal() else 0.5 * 2.0**attempt
