"""Which Prometheus is asked, and as whom.

A repository may name an address, never a credential: those come from the options and the environment of the process that
asks, and go to the origin that those name and to no other. So nobody who can write to a repository can have a token sent to a
server of their own.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gitops_mk.core.prometheus.address import Address, address
from gitops_mk.errors import ConfigError

URL: Final = "MODEKEEPER_PROMETHEUS_URL"
TOKEN: Final = "MODEKEEPER_PROMETHEUS_TOKEN"  # noqa: S105 - the variable's name
TOKEN_FILE: Final = "MODEKEEPER_PROMETHEUS_TOKEN_FILE"  # noqa: S105 - the variable's name
USERNAME: Final = "MODEKEEPER_PROMETHEUS_USERNAME"
PASSWORD_FILE: Final = "MODEKEEPER_PROMETHEUS_PASSWORD_FILE"  # noqa: S105 - the variable's name
CA_FILE: Final = "MODEKEEPER_PROMETHEUS_CA_FILE"
MAX_SECRET: Final = 64 * 1024


@dataclass(frozen=True)
class Asked:
    """What options say; whatever is None there, the environment may say."""

    url: str | None = None
    token_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None


@dataclass(frozen=True)
class PrometheusAccess:
    """Where, and with which headers. `ca_file` is what TLS trusts instead of the system's authorities.

    `withheld`: there are credentials, and they are for another origin.
    """

    address: Address
    ca_file: str | None = None
    withheld: bool = False
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    username: str | None = None
    password_file: str | None = None

    def headers(self) -> Mapping[str, str]:
        """The header that says who asks, files read afresh: tokens rotate. Raises ConfigError."""
        if self.username is not None and self.password_file is not None:
            pair = f"{self.username}:{_secret(self.password_file, PASSWORD_FILE)}"
            return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        token = _secret(self.token_file, TOKEN_FILE) if self.token_file is not None else self.token
        if token is None:
            return {}
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError("the token for Prometheus is none", hint="a token is one line of plain ASCII, no blanks")
        return {"Authorization": f"Bearer {token}"}


def find_access(asked: Asked, configured: str | None) -> PrometheusAccess:
    """The address that an option, or else the configuration in Git, or else the environment names; and credentials, where they
    are for its origin.

    Raises ConfigError where nobody names an address, for credentials by halves, and for some that are for no origin.
    """
    trusted = asked.url or os.environ.get(URL) or None
    url = asked.url or configured or trusted
    if url is None:
        raise ConfigError(
            "nothing says where Prometheus is",
            hint=f"name it with --prometheus-url, in {URL}, or as telemetry.prometheus.url of the workload",
        )
    where = address(url)
    token_file = asked.token_file or os.environ.get(TOKEN_FILE) or None
    token = None if token_file else os.environ.get(TOKEN) or None
    username = asked.username or os.environ.get(USERNAME) or None
    password_file = asked.password_file or os.environ.get(PASSWORD_FILE) or None
    ca_file = asked.ca_file or os.environ.get(CA_FILE) or None
    if (username is None) != (password_file is None):
        raise ConfigError(
            "a username for Prometheus without a password file, or the other way round",
            hint="give --prometheus-username and --prometheus-password-file, or neither",
        )
    if username is not None and (":" in username or not username.isprintable()):
        raise ConfigError("the username for Prometheus has a character that none may have", hint="no colon is allowed")
    if username is not None and (token or token_file):
        raise ConfigError("both a token and a username for Prometheus", hint="give one of them")
    if not (token or token_file or username):
        return PrometheusAccess(where, ca_file)
    if trusted is None:
        raise ConfigError(
            "there are credentials for Prometheus, and nothing but the repository says where it is",
            hint=f"set {URL}, or give --prometheus-url: credentials are sent to that origin alone",
        )
    if address(trusted).origin != where.origin:
        return PrometheusAccess(where, ca_file, withheld=True)
    return PrometheusAccess(where, ca_file, False, token, token_file, username, password_file)


def _secret(path: str, variable: str) -> str:
    """The content of a file, without the line end. No word of it is ever told."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_SECRET + 1)
        text = data.decode().strip("\r\n")
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"{path}: the secret for Prometheus can't be read: {type(exc).__name__}",
            hint=f"check the option or {variable}, and the file's permissions",
        ) from None
    if not text or len(data) > MAX_SECRET:
        raise ConfigError(
            f"{path}: no secret for Prometheus, expected one line", hint=f"check the option or {variable}"
        )
    return text
