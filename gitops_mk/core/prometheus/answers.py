"""What a Prometheus says: a matrix of samples, or that and why it will not.

Format: https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview. A body that is not of that format, or an error
of a kind that Prometheus has not, is never quoted: whatever stands at an address that somebody wrote down need not be a Prometheus.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gitops_mk.core.render.text import plain
from gitops_mk.errors import TelemetryError

MAX_SERIES: Final = 1024
MAX_WORDS: Final = 300
# https://github.com/prometheus/prometheus, `web/api/v1/api.go`.
ERROR_TYPES: Final = frozenset(
    {"timeout", "canceled", "execution", "bad_data", "internal", "unavailable", "not_found", "not_acceptable"}
)
_RESULT_TYPES: Final = frozenset({"vector", "scalar", "string"})
# Nothing was decided: the same question may be answered later.
RETRYABLE: Final = frozenset({408, 429, 500, 502, 503, 504})


class Series(msgspec.Struct):
    """One series: its labels, and (epoch seconds, value as text) for every sample there is."""

    metric: dict[str, str] = {}
    values: list[tuple[float, str]] = []
    histograms: list[msgspec.Raw] = []


class _Data(msgspec.Struct):
    resultType: str = ""  # noqa: N815 - the API's name
    result: msgspec.Raw = msgspec.Raw(b"[]")


class _Body(msgspec.Struct):
    status: str
    data: _Data | None = None
    errorType: str = ""  # noqa: N815 - the API's name
    error: str = ""
    warnings: list[str] = []
    infos: list[str] = []


class Answer(msgspec.Struct):
    """The series, and what the server remarks on them."""

    series: list[Series]
    remarks: list[str]


_BODY: Final = msgspec.json.Decoder(_Body)
# Brackets within brackets, some thousand deep, end in a RecursionError.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SERIES: Final = msgspec.json.Decoder(list[Series])


def read_answer(data: bytes, *, role: str) -> Answer:
    """The answer to a range query. Raises TelemetryError for what is none, and for more than 1,024 series."""
    try:
        body = _BODY.decode(data)
        if body.status != "success" or body.data is None:
            raise TelemetryError(f"{role}: Prometheus says {_words(body) or 'nothing that is an answer'}")
        if body.data.resultType != "matrix":
            kind = f"a {body.data.resultType}" if body.data.resultType in _RESULT_TYPES else "of no known type"
            raise TelemetryError(
                f"{role}: the answer is {kind}, expected a matrix",
                hint="the expression must give numbers over time",
            )
        series = _SERIES.decode(body.data.result)
    except _UNREADABLE as exc:
        raise TelemetryError(
            f"{role}: the answer of {len(data)} bytes is none of Prometheus: it is cut, or no JSON of its API",
            hint="is the address that of a Prometheus, and is there a proxy between?",
        ) from exc
    if len(series) > MAX_SERIES:
        raise TelemetryError(
            f"{role}: over {MAX_SERIES} series, expected at most so many",
            hint="aggregate them: max(…), avg by (pod) (…)",
        )
    return Answer(series, [*body.warnings, *body.infos])


def refusal(status: int, data: bytes, *, role: str) -> TelemetryError:
    """What a status other than 2xx means."""
    words = _error_words(data)
    said = f": {words}" if words else ""
    if 300 <= status < 400:
        return TelemetryError(
            f"{role}: the server answers {status}, a redirect, which is not followed",
            hint="give the address that it redirects to",
        )
    hint = {
        400: f"mend the query of {role}",
        401: "give a token or a password: docs/telemetry.md says how",
        403: "this identity may not query: docs/telemetry.md says who is asked as whom",
        404: "is the address that of a Prometheus? A path prefix belongs to it",
        405: "is the address that of a Prometheus? Queries are sent by POST",
        422: f"the query of {role} can't be executed: try it in Prometheus itself",
        429: "the server is asked too often: try later",
        503: "the server gave up: ask for a shorter --duration, a longer step, or a simpler query",
    }.get(status, "look at the server, and at what stands in front of it")
    return TelemetryError(f"{role}: Prometheus answers {status}{said}", hint=hint, retryable=status in RETRYABLE)


def asks_for_less(status: int, data: bytes) -> bool:
    """True where a shorter span may be answered: too many samples, or a query that timed out."""
    body = _decoded(data)
    if body is None:
        return False
    return (status == 422 and "too many samples" in body.error) or (status == 503 and body.errorType == "timeout")


def _error_words(data: bytes) -> str:
    body = _decoded(data)
    return _words(body) if body is not None else ""


def _decoded(data: bytes) -> _Body | None:
    try:
        body = _BODY.decode(data)
    except _UNREADABLE:
        return None
    return body if body.status == "error" else None


def _words(body: _Body) -> str:
    """What Prometheus itself says of an error; nothing where it is not known to be one of its own."""
    if body.status != "error" or body.errorType not in ERROR_TYPES:
        return ""
    return plain(f"{body.errorType}: {body.error}", most=MAX_WORDS)
