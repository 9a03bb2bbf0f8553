"""`/api/v1/query_range` over HTTP: bounded answers, no redirects, no proxy, and questions asked again where the server was busy.

Queries go by POST, in the body: no proxy cuts them, and no access log keeps them.
"""

from __future__ import annotations

import math
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
# An answer, headers and all, may come for so long beyond what its evaluation may take.
TRANSFER_S: Final = 15.0


class TooMuch(Exception):  # noqa: N818 - what became of the question
    """The server would not, or we will not, take so much at once: ask for less. `why` is told where there is no less."""

    def __init__(self, why: TelemetryError) -> None:
        super().__init__(why.message)
        self.why = why


class OutOfTime(Exception):  # noqa: N818 - what became of the question
    """The time for all questions together is over. `why` is told where nothing was answered before."""

    def __init__(self, why: TelemetryError) -> None:
        super().__init__(why.message)
        self.why = why


class _Reply(NamedTuple):
    status: int
    retry_after: str | None
    data: bytes


class PrometheusClient:
    """One Prometheus, asked as one identity. `timeout_s` is for how long it may evaluate one query.

    `clock` is seconds that never go back.
    """

    def __init__(
        self,
        access: PrometheusAccess,
        *,
        timeout_s: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._clock = clock
        self._pool: urllib3.PoolManager | None = None
        # Of all questions, and of the one that is being asked.
        self._total_s = math.inf
        self._until = self._end = math.inf

    def limit(self, total_s: float) -> None:
        """From now on all questions together may take so many seconds."""
        self._total_s, self._until = total_s, self._clock() + total_s

    def query_range(self, role: str, query: str, *, start_ms: int, end_ms: int, step_ms: int) -> Answer:
        """The samples of one role. Raises TooMuch where a shorter span may do, OutOfTime, TelemetryError and ConfigError."""
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
                self._wait(_pause(None, attempt))
                continue
            if 200 <= reply.status < 300:
                return read_answer(reply.data, role=role)
            error = refusal(reply.status, reply.data, role=role)
            if asks_for_less(reply.status, reply.data):
                raise TooMuch(error)
            if last or not error.retryable:
                raise error
            self._wait(_pause(reply.retry_after, attempt))
        raise AssertionError("unreachable")

    def _wait(self, pause_s: float) -> None:
        self._sleep(max(0.0, min(pause_s, self._until - self._clock())))

    def _left(self) -> float:
        return self._end - self._clock()

    def _out_of_time(self, role: str) -> OutOfTime:
        return OutOfTime(
            TelemetryError(
                f"{role}: {self._access.address.url} gave no answer in the {self._total_s:.0f} s that all queries may take",
                hint="ask for a shorter --duration, a longer step, or fewer and simpler queries",
                retryable=True,
            )
        )

    def _ask(self, role: str, body: bytes) -> _Reply:
        import urllib3

        limit_s = self._timeout_s + TRANSFER_S
        now = self._clock()
        if now >= self._until:
            raise self._out_of_time(role)
        # Before the first byte goes out: headers count as well.
        self._end = min(now + limit_s, self._until)
        most = max(0.001, self._until - now)
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
                timeout=urllib3.Timeout(connect=min(CONNECT_S, most), read=min(self._timeout_s + CONNECT_S, most)),
            )
            return _Reply(int(response.status), response.headers.get("Retry-After"), self._whole(response, role))
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            if self._clock() >= self._until:
                raise self._out_of_time(role) from exc
            if self._left() <= 0:
                raise TelemetryError(
                    f"{role}: an answer that did not end in {limit_s:.0f} s",
                    hint="ask for a shorter --duration or a longer step, or allow a longer timeout",
                ) from exc
            raise self._unreachable(role, exc) from exc
        finally:
            if response is not None:
                response.release_conn()

    def _whole(self, response: urllib3.BaseHTTPResponse, role: str) -> bytes:
        blocks, size = [], 0
        while block := response.read1(BLOCK, decode_content=False):
            blocks.append(block)
            size += len(block)
            if size <= MAX_ANSWER:
                continue
            # What is left of it must not come before the next answer.
            response.close()
            raise TooMuch(
                TelemetryError(
                    f"{role}: an answer of over {MAX_ANSWER // 1_048_576} MiB",
                    hint="aggregate the series: max(…), avg by (pod) (…)",
                )
            )
        return b"".join(blocks)

    def _connections(self) -> urllib3.PoolManager:
        from gitops_mk.adapters.telemetry.prometheus_pool import make_pool

        if self._pool is None:
            context = self._tls() if self._access.address.origin[0] == "https" else None
            self._pool = make_pool(self._left, tls=context)
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
