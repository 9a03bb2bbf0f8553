"""The most common kubeconfigs, read without the kubernetes package: one file, a token or a client certificate, nothing to run.

What is any different is left to the package, whose import takes longer than all requests of a verify together.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from gitops_mk.core.yamldocs import Leaves, parse_document
from gitops_mk.errors import InputError

_CLUSTER: Final = frozenset({"server", "certificate-authority", "certificate-authority-data", "tls-server-name"})
_USER: Final = frozenset(
    {"token", "tokenFile", "client-certificate-data", "client-key-data", "client-certificate", "client-key"}
)
MAX_BYTES = 1_048_576


class Plain(NamedTuple):
    """What a connection is made of."""

    server: str
    context: str
    tls: ssl.SSLContext
    server_name: str | None
    headers: Callable[[], Mapping[str, str]]


def read_plain(path: Path, context: str | None) -> Plain | None:
    """The connection that a kubeconfig names; None for one that needs more than is known here, or can't be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        leaves = parse_document(path.read_text(encoding="utf-8"), what=str(path))
        return None if leaves is None else _plain(leaves, path.parent, context)
    except (OSError, UnicodeDecodeError, InputError, binascii.Error, ssl.SSLError, ValueError):
        # The package tells what is wrong with it, in words that people know.
        return None


def token_headers(path: Path) -> Callable[[], Mapping[str, str]]:
    """Headers with the token in a file, read again whenever it is written anew: such tokens rotate."""
    read: tuple[float, str] = (-1.0, "")

    def headers() -> dict[str, str]:
        nonlocal read
        at = path.stat().st_mtime
        if at != read[0]:
            read = (at, path.read_text(encoding="ascii").strip())
        return {"Authorization": f"Bearer {read[1]}"}

    return headers


def _plain(leaves: Leaves, folder: Path, context: str | None) -> Plain | None:
    current = leaves.at("current-context")
    name = context or (current.text if current is not None else "")
    chosen = _entry(leaves, "contexts", "context", name)
    if chosen is None:
        return None
    cluster = _entry(leaves, "clusters", "cluster", chosen.get("cluster", ""))
    user = _entry(leaves, "users", "user", chosen.get("user", ""))
    if cluster is None or user is None or not cluster.keys() <= _CLUSTER or not user.keys() <= _USER:
        return None
    if not cluster.get("server", "").startswith("https://") or _proxied():
        return None
    headers = _headers(user, folder)
    if headers is None:
        return None
    tls = ssl.create_default_context(cadata=_authority(cluster, folder))
    if not _present_certificate(tls, user, folder):
        return None
    return Plain(cluster["server"].rstrip("/"), name, tls, cluster.get("tls-server-name"), headers)


def _entry(leaves: Leaves, group: str, kind: str, name: str) -> dict[str, str] | None:
    """The fields of the one entry of that name; None where there is none, or it holds more than text."""
    index = [
        path[1]
        for path, leaf in leaves.leaves.items()
        if path[:1] == (group,) and path[2:] == ("name",) and leaf.text == name
    ]
    if len(index) != 1 or not name:
        return None
    here = (group, index[0], kind)
    inner = {path[3:]: leaf.text for path, leaf in leaves.leaves.items() if path[:3] == here}
    return {str(path[0]): text for path, text in inner.items()} if all(len(path) == 1 for path in inner) else None


def _headers(user: Mapping[str, str], folder: Path) -> Callable[[], Mapping[str, str]] | None:
    if "tokenFile" in user:
        path = folder / user["tokenFile"]
        return token_headers(path) if path.is_file() else None
    token = user.get("token")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        return None
    fixed = {"Authorization": f"Bearer {token}"} if token else {}
    return lambda: fixed


def _authority(cluster: Mapping[str, str], folder: Path) -> str | None:
    if "certificate-authority-data" in cluster:
        return base64.b64decode(cluster["certificate-authority-data"], validate=True).decode("ascii")
    if "certificate-authority" in cluster:
        return (folder / cluster["certificate-authority"]).read_text(encoding="ascii")
    return None


def _present_certificate(tls: ssl.SSLContext, user: Mapping[str, str], folder: Path) -> bool:
    """Load the client's certificate, where there is one. False for half of one."""
    if "client-certificate-data" in user and "client-key-data" in user:
        pem = b"\n".join(
            base64.b64decode(user[name], validate=True) for name in ("client-certificate-data", "client-key-data")
        )
        # OpenSSL takes a private key from a file only: one that nobody else can read, for as long as that takes.
        handle, scratch = tempfile.mkstemp(prefix="mk-key-")
        try:
            os.write(handle, pem)
            tls.load_cert_chain(scratch, password=_no_password)
        finally:
            os.close(handle)
            Path(scratch).unlink()
        return True
    if "client-certificate" in user and "client-key" in user:
        tls.load_cert_chain(folder / user["client-certificate"], folder / user["client-key"], password=_no_password)
        return True
    return not any(name.startswith("client-") for name in user)


def _no_password() -> str:
    # OpenSSL would ask at the terminal, and nobody may sit there.
    return ""


def _proxied() -> bool:
    return any(name.lower() in ("https_proxy", "all_proxy") and value for name, value in os.environ.items())
