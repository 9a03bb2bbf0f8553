"""What a Prometheus says, and what only looks as if it did."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.prometheus.answers import MAX_SERIES, asks_for_less, read_answer, refusal
from gitops_mk.errors import TelemetryError

DEEP = b"[" * 200_000 + b"]" * 200_000


def body(result: object, **more: object) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **more}).encode()


def error(kind: str, words: str) -> bytes:
    return json.dumps({"status": "error", "errorType": kind, "error": words}).encode()


def test_a_matrix() -> None:
    data = body(
        [{"metric": {"pod": "a"}, "values": [[1.5, "2"], [2, "NaN"]]}, {"metric": {}, "histograms": [[1, {}]]}],
        warnings=["partial"],
        infos=["maybe"],
        future=1,
    )
    answer = read_answer(data, role="loss")
    assert answer.remarks == ["partial", "maybe"]
    assert [one.values for one in answer.series] == [[(1.5, "2"), (2.0, "NaN")], []]
    assert answer.series[1].histograms


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<html>secret</html>", "none of Prometheus"),
        (b"", "answer of 0 bytes"),
        (body([])[:-5], "none of Prometheus"),
        (b"[]", "none of Prometheus"),
        (b'{"status": "success"}', "nothing that is an answer"),
        (b'{"status": "success", "data": null}', "nothing that is an answer"),
        (b'{"status": "success", "data": {}}', "the answer is of no known type, expected a matrix"),
        (b'{"status": "success", "data": {"resultType": "vector", "result": []}}', "a vector, expected a matrix"),
        (
            b'{"status": "success", "data": {"resultType": "secret", "result": []}}',
            "of no known type, expected a matrix",
        ),
        (b'{"status": "fail", "errorType": "internal", "error": "secret"}', "nothing that is an answer"),
        (error("secret", "secret"), "nothing that is an answer"),
        (body([{"metric": {}, "values": [["x", 1]]}]), "none of Prometheus"),
        (b'{"status": "\xff"}', "none of Prometheus"),
        (DEEP, "none of Prometheus"),
        (b'{"status": "success", "data": {"resultType": "matrix", "result": ' + DEEP + b"}}", "none of Prometheus"),
        (b'{"status": "success", "more": ' + DEEP + b"}", "none of Prometheus"),
        (body([{"metric": {}, "histograms": ["?"]}]).replace(b'"?"', DEEP), "none of Prometheus"),
        (error("timeout", "too \x1b[31mslow"), "Prometheus says timeout: too [31mslow"),
        (body([{"metric": {}}] * (MAX_SERIES + 1)), "over 1024 series"),
    ],
)
def test_what_is_no_answer(data: bytes, says: str) -> None:
    with pytest.raises(TelemetryError) as caught:
        read_answer(data, role="loss")
    assert says in caught.value.message
    assert caught.value.message.startswith("loss: ")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "data", "says", "retryable"),
    [
        (400, error("bad_data", "parse error at 3"), "answers 400: bad_data: parse error at 3", False),
        (401, b"secret", "answers 401", False),
        (302, b"secret", "a redirect, which is not followed", False),
        (404, b"<html>secret", "answers 404", False),
        (422, error("execution", "many-to-many"), "execution: many-to-many", False),
        (429, b"", "answers 429", True),
        (503, error("", "secret"), "answers 503", True),
        (500, error("AccessDenied", "secret"), "answers 500", True),
        (500, b'{"status": "failed", "errorType": "internal", "error": "secret"}', "answers 500", True),
        (503, error("unavailable", "starting"), "answers 503: unavailable: starting", True),
        (500, b'{"status": "success"}', "answers 500", True),
        (418, b"", "answers 418", False),
        (500, b'{"status": ' + DEEP + b"}", "answers 500", True),
    ],
)
def test_a_no(status: int, data: bytes, says: str, *, retryable: bool) -> None:
    found = refusal(status, data, role="loss")
    assert says in found.message
    assert found.retryable == retryable
    assert "secret" not in found.message
    assert found.hint


def test_what_a_shorter_span_may_mend() -> None:
    assert asks_for_less(422, error("execution", "query processing would load too many samples into memory"))
    assert asks_for_less(503, error("timeout", "query timed out"))
    assert not asks_for_less(422, error("execution", "many-to-many"))
    assert not asks_for_less(503, error("unavailable", "starting"))
    assert not asks_for_less(503, b"busy")


@given(st.binary())
def test_no_answer_is_more_than_an_error(data: bytes) -> None:
    with pytest.raises(TelemetryError):
        read_answer(data, role="loss")
    refusal(500, data, role="loss")
