"""Who we are on GitHub: a token, or an App whose installation tokens are minted as narrow as they can be, and kept in memory.

Which host they are for comes from the repository's own address, never from a file in the repository.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from github.Auth import AppAuth, Auth, Token
from jwt import PyJWTError

from gitops_mk.adapters.git import HTTP_VARIABLE, TOKEN_VARIABLE
from gitops_mk.adapters.github.wire import Bag, moment
from gitops_mk.errors import ConfigError, ForgeError
from gitops_mk.model.times import parse_time

APP_ID: Final = "MODEKEEPER_GITHUB_APP_ID"
APP_KEY_PATH: Final = "MODEKEEPER_GITHUB_APP_KEY_PATH"
API_TOKEN: Final = "MODEKEEPER_GITHUB_TOKEN"  # noqa: S105 - the variable's name
# An hour is what GitHub gives; a call must not outlive its token.
MARGIN: Final = timedelta(minutes=5)
# What an installation token is asked for, where the App itself has it.
PERMISSIONS: Final[Mapping[str, str]] = {
    "contents": "write",
    "pull_requests": "write",
    "checks": "write",
    "statuses": "read",
    "issues": "write",
    "administration": "read",
    "metadata": "read",
}
_RANK = {"read": 1, "write": 2, "admin": 3}
_REMOTE = re.compile(r"^/(?P<name>[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+?)(\.git)?/?\Z")
_SCP = re.compile(r"^[A-Za-z0-9._-]+@(?P<host>[A-Za-z0-9.-]+):(?P<path>.+)\Z")
MAX_KEY = 64 * 1024


class Mint(Protocol):
    """How a token is asked for: with the App's own signature, and nothing else."""

    def __call__(self, auth: Auth, verb: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """The answer's JSON. Raises ForgeError."""
        ...


@dataclass(frozen=True)
class Address:
    """A repository on a GitHub: the API's address, the host, and `owner/name`."""

    api: str
    host: str
    name: str


def address_of(remote: str) -> Address:
    """Where the API of a repository's remote is. Raises ConfigError for a remote that is on no GitHub.

    github.com has its API on a host of its own; an Enterprise Server has it under `/api/v3`.
    """
    scp = _SCP.match(remote)
    if scp is not None and "://" not in remote:
        scheme, netloc, path = "https", scp["host"], "/" + scp["path"].lstrip("/")
    else:
        parts = urlsplit(remote)
        scheme, netloc, path = parts.scheme, parts.netloc.rpartition("@")[2], parts.path
        if scheme == "ssh":
            scheme, netloc = "https", netloc.partition(":")[0]
    found = _REMOTE.match(path)
    plain = scheme == "http" and os.environ.get(HTTP_VARIABLE) == "1" and netloc.partition(":")[0] in _LOOPBACK
    if not netloc or found is None or not (scheme == "https" or plain):
        raise ConfigError(
            f"forge.kind is github, and the remote {_without_user(remote)!r} is no repository on one",
            hint="expected such as https://github.com/team/gitops",
        )
    host = netloc.lower()
    api = "https://api.github.com" if host in ("github.com", "www.github.com") else f"{scheme}://{netloc}/api/v3"
    return Address(api=api, host=host, name=found["name"])


_LOOPBACK = ("127.0.0.1", "localhost")


def _without_user(remote: str) -> str:
    return re.sub(r"(\w+://)[^/\s]*@", r"\1", remote)


class Credentials:
    """What a call is signed with. `app` is the App's number; None for a token."""

    def __init__(self, app: str | None) -> None:
        self.app = app

    def auth(self) -> Auth:
        """What PyGithub puts on a call; a token that is good for minutes to come. Raises ForgeError."""
        raise NotImplementedError

    def token(self) -> str:
        """The same for git."""
        return self.auth().token

    def renew(self) -> bool:
        """The server knows this token no more: forget it. False when there is no other to be had."""
        return False


class TokenCredentials(Credentials):
    """A token that somebody made by hand."""

    def __init__(self, token: str) -> None:
        super().__init__(None)
        self._auth = Token(token)

    def auth(self) -> Auth:
        """The token."""
        return self._auth


class AppCredentials(Credentials):
    """An App installed on the repository. Its key signs one request a token, and nothing else ever."""

    def __init__(self, app: str, key: str, address: Address, *, mint: Mint, now: Callable[[], datetime]) -> None:
        super().__init__(app)
        try:
            self._signer = AppAuth(int(app), key)
        except (ValueError, TypeError, AssertionError) as exc:
            raise ConfigError(f"{APP_ID} is {app[:40]!r}, expected the App's number") from exc
        self._address = address
        self._mint = mint
        self._now = now
        self._auth: Token | None = None
        self._expires = datetime.min.replace(tzinfo=UTC)

    def auth(self) -> Auth:
        """An installation token, minted anew when the last one has little time left. Raises ForgeError."""
        if self._auth is None or self._now() + MARGIN >= self._expires:
            self._auth, self._expires = self._minted()
        return self._auth

    def renew(self) -> bool:
        """Mint another at the next call."""
        self._auth = None
        return True

    def whoami(self) -> Any:
        """The App as GitHub knows it. Raises ForgeError."""
        return self._ask("GET", "/app", None)

    def _minted(self) -> tuple[Token, datetime]:
        installed = Bag(self._ask("GET", f"/repos/{self._address.name}/installation", None), "installation")
        has = installed.bag("permissions").raw if installed.has("permissions") else {}
        asked = {
            name: min(level, str(has[name]), key=lambda one: _RANK.get(one, 0))
            for name, level in PERMISSIONS.items()
            if name in has
        }
        body = {"repositories": [self._address.name.partition("/")[2]], "permissions": asked}
        made = Bag(self._ask("POST", f"/app/installations/{installed.number('id')}/access_tokens", body), "token")
        token = made.text("token")
        if not _is_token(token):
            raise ForgeError("GitHub's answer has a token that is none")
        return Token(token), parse_time(moment(made.text("expires_at")))

    def _ask(self, verb: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            return self._mint(self._signer, verb, path, body)
        except (ValueError, TypeError, AttributeError, PyJWTError, UnsupportedAlgorithm) as exc:
            # What is wrong with a key is said without a word of it.
            raise ConfigError(f"the key in {APP_KEY_PATH} signs nothing: {type(exc).__name__}") from exc


def find_credentials(address: Address, *, mint: Mint, now: Callable[[], datetime]) -> Credentials | None:
    """What the environment gives: an App, else a token; None where there is neither. Raises ConfigError."""
    app, key_path = os.environ.get(APP_ID, "").strip(), os.environ.get(APP_KEY_PATH, "").strip()
    if app or key_path:
        if not (app and key_path):
            missing = APP_KEY_PATH if app else APP_ID
            raise ConfigError(f"{missing} is not set", hint=f"an App takes both {APP_ID} and {APP_KEY_PATH}")
        return AppCredentials(app, _key(Path(key_path)), address, mint=mint, now=now)
    token = os.environ.get(API_TOKEN, "").strip() or os.environ.get(TOKEN_VARIABLE, "").strip()
    if token:
        if not _is_token(token):
            raise ConfigError(f"{API_TOKEN} holds what no token has in it: a space, a control character or another")
        return TokenCredentials(token)
    return None


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _key(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY + 1)
    except OSError as exc:
        raise ConfigError(f"{APP_KEY_PATH}: {path} can't be read: {exc.strerror}") from exc
    if len(data) > MAX_KEY or b"PRIVATE KEY-----" not in data:
        raise ConfigError(
            f"{APP_KEY_PATH}: {path} holds no private key in PEM", hint="GitHub gives it for download, once"
        )
    return data.decode("ascii", "replace")
