"""What one call of `mk` was told: options and environment, frozen. The repository's own configuration is `model.settings`."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gitops_mk._version import __version__
from gitops_mk.errors import ConfigError


@dataclass(frozen=True)
class Access:
    """How to reach a GitOps repository. `repo` is a checkout or a bare repository; `forge` overrides its remote.

    `url`: there is no checkout at all, only the server. `out` is where what must outlive the process is kept.
    """

    repo: Path | None = None
    forge: str | None = None
    base_branch: str | None = None
    license_path: Path | None = None
    url: str | None = None
    out: Path = Path("report")


def provenance() -> Mapping[str, object]:
    """Where a decision was made: version, host, and the commit of the working folder, if it is in a checkout."""
    commit, dirty = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return {
        "mk_version": __version__,
        "git_commit": commit or None,
        "git_dirty": bool(dirty) if commit else None,
        "host": socket.gethostname(),
    }


def is_url(text: str) -> bool:
    """True for an address of a git server, false for a path."""
    return "://" in text or (":" in text.partition("/")[0] and not text.startswith((".", "/")))


def parse_duration(text: str) -> float:
    """Seconds of `30s`, `2m`, `1h`, `500ms`, `1d`. Raises ConfigError."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    for unit in sorted(units, key=len, reverse=True):
        number = text.removesuffix(unit)
        if number != text and len(number) <= 15 and number.isascii() and number.isdecimal():
            return int(number) * units[unit]
    raise ConfigError(f"duration {text!r}, expected a number with a unit", hint="for example 30s, 2m or 1h")


def parse_assignments(texts: Iterable[str], *, option: str, example: str) -> dict[str, str]:
    """`NAME=VALUE` of an option that may be given several times. Raises ConfigError for any other text, and a name given twice."""
    out: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value.strip():
            raise ConfigError(f"{option} {text!r}, expected NAME=VALUE", hint=f"for example {option} '{example}'")
        if name in out:
            raise ConfigError(f"{option} gives {name} twice, expected once", hint="leave one of them out")
        out[name] = value
    return out


def _git(*args: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *args],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
