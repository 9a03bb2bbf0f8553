"""Where a Prometheus is: an address that holds no secret, and the origin that decides who may be told one."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from gitops_mk.errors import ConfigError

MAX_URL = 2000
_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """`url` without a slash at its end; `origin` is scheme, host and port (RFC 6454)."""

    url: str
    origin: tuple[str, str, int]


def address(url: str) -> Address:
    """An address from its text. Raises ConfigError, with no word of what a URL with a user or a query may hold."""
    hint = "expected such as https://prometheus.example.org or http://prometheus.monitoring:9090/prefix"
    if len(url) > MAX_URL or not url.isascii() or any(not char.isprintable() or char in ' \\"<>`{}' for char in url):
        raise ConfigError("the address of Prometheus has characters that no URL has, or over 2,000 of them", hint=hint)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigError("the address of Prometheus is no URL", hint=hint) from exc
    if "@" in parts.netloc:
        raise ConfigError(
            "the address of Prometheus holds a user or a password",
            hint="give them with --prometheus-username and --prometheus-password-file, or in the environment",
        )
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ConfigError("the address of Prometheus holds a query or a fragment", hint=hint)
    if parts.scheme not in _PORTS or not host or port == 0 or ".." in parts.path.split("/"):
        raise ConfigError("the address of Prometheus is no http:// or https:// URL", hint=hint)
    shown = f"[{host}]" if ":" in host else host
    # `urlsplit` takes a host from the middle of `a[::1]b`, and clients decode what has a percent sign: credentials would be sent
    # to another host than the one that was compared.
    if parts.netloc.lower() not in {shown, f"{shown}:{port}"} or "%" in parts.netloc:
        raise ConfigError("the address of Prometheus has a host or a port that can be read in two ways", hint=hint)
    return Address(url.rstrip("/"), (parts.scheme, host, port or _PORTS[parts.scheme]))
