"""Addresses of a Prometheus: what may be one, and what must not be told."""

from __future__ import annotations

import math

import pytest

from gitops_mk.core.prometheus.address import address
from gitops_mk.core.prometheus.grid import LONGEST, grid, points, seconds
from gitops_mk.errors import ConfigError, InputError


@pytest.mark.parametrize(
    ("text", "url", "origin"),
    [
        ("http://p:9090", "http://p:9090", ("http", "p", 9090)),
        ("https://P.example.org/prefix/", "https://P.example.org/prefix", ("https", "p.example.org", 443)),
        ("http://[::1]:9090/x", "http://[::1]:9090/x", ("http", "::1", 9090)),
        ("HTTP://p", "HTTP://p", ("http", "p", 80)),
        ("http://[::1]", "http://[::1]", ("http", "::1", 80)),
    ],
)
def test_an_address(text: str, url: str, origin: tuple[str, str, int]) -> None:
    assert address(text) == (url, origin)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://me:secret@p", "a user or a password"),
        ("https://secret@p/x", "a user or a password"),
        ("https://p?token=secret", "a query or a fragment"),
        ("https://p/#secret", "a query or a fragment"),
        ("https://p?", "a query or a fragment"),
        ("ftp://p", "no http:// or https:// URL"),
        ("prometheus:9090", "no http:// or https:// URL"),
        ("https://", "no http:// or https:// URL"),
        ("https://p:0", "no http:// or https:// URL"),
        ("https://p/a/../b", "no http:// or https:// URL"),
        ("https://p:99999", "no URL"),
        ("http://secret.com[::1]:9090", "no URL|in two ways"),
        ("http://[::1]secret.com:9090", "no URL|in two ways"),
        ("http://[::1%25secret]:9090", "in two ways"),
        ("http://a%2esecret:9090", "in two ways"),
        ("http://[v1.secret]", "in two ways"),
        ("http://p:", "in two ways"),
        ("http://p:09090", "in two ways"),
        ("https://[::1", "no URL"),
        ("https://p\nx-secret: 1", "characters that no URL has"),
        ("https://p/ secret", "characters that no URL has"),
        ("https://p\\@secret", "characters that no URL has"),
        ("https://prömetheus", "characters that no URL has"),
        ("https://" + "p" * 2000, "characters that no URL has"),
    ],
)
def test_what_is_no_address(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        address(text)
    assert caught.value.hint
    assert "secret" not in caught.value.message + caught.value.hint


def test_samples_are_at_whole_steps() -> None:
    found = grid(now_s=1_000_007.9, duration_s=60, step_s=15)
    assert found == (999_945_000, 15_000, 5)
    assert [found.at(i) for i in (0, 4)] == [999_945_000, 1_000_005_000]
    assert found == grid(now_s=1_000_019.9, duration_s=74, step_s=15)
    assert grid(now_s=1_000_007.9, duration_s=1, step_s=15) == (1_000_005_000, 15_000, 1)
    assert seconds(found.at(0) + 7) == "999945.007"


@pytest.mark.parametrize(
    ("duration", "step", "says"),
    [
        (0, 15, "are no window"),
        (60, 0, "are no window"),
        (LONGEST, 1, "1,000,001 samples, expected at most"),
        (7200, 3601, "a step of 3601 s, expected at most 1h"),
        (30 * 86400 + 1, 60, "s, expected at most 30d"),
        (math.inf, 60, "a duration of inf s"),
        (60, math.nan, "a step of nan s"),
    ],
)
def test_windows_that_are_none(duration: float, step: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        grid(now_s=1e9, duration_s=duration, step_s=step)


def test_wide_answers_are_asked_for_in_short_spans() -> None:
    assert [points(series) for series in (0, 1, 100, 100_000)] == [10_000, 10_000, 1000, 20]
