"""The policy as it stands at one commit: configuration, catalog and passports, read through a function that gives bytes.

What a repository does not bring itself comes from the built-in ones, handed in as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gitops_mk.core.documents import parse_json, parse_yaml
from gitops_mk.core.telemetry import check_telemetry
from gitops_mk.errors import ConfigError
from gitops_mk.model.chord import ChordCatalog
from gitops_mk.model.passport import Passport
from gitops_mk.model.settings import CONFIG_DIR, CONFIG_PATH, RepoSettings, WorkloadSettings

Read = Callable[[str], bytes | None]


@dataclass(frozen=True)
class BuiltIn:
    """What ships with the product."""

    catalog: bytes
    passports: Mapping[str, bytes]


@dataclass(frozen=True)
class Policy:
    """Who may do what to which workload."""

    settings: RepoSettings
    catalog: ChordCatalog
    _read: Read = field(repr=False)
    _built_in: BuiltIn = field(repr=False)

    def passport(self, workload: WorkloadSettings) -> Passport:
        """The passport that judges a workload. Raises ConfigError."""
        return load_passport(self.settings.passport_of(workload), self._read, self._built_in)


def load_policy(read: Read, built_in: BuiltIn) -> Policy:
    """The policy of a repository. Raises ConfigError naming file, line and field."""
    text = read(CONFIG_PATH)
    if text is None:
        raise ConfigError(
            f"{CONFIG_PATH} is not on the base branch", hint="run `mk init` in the repository and commit what it writes"
        )
    settings = parse_yaml(RepoSettings, text, what=CONFIG_PATH)
    check_telemetry(settings, what=CONFIG_PATH)
    if settings.catalog is None:
        catalog = parse_json(ChordCatalog, built_in.catalog, what="the built-in chord catalog")
    else:
        raw = read(settings.catalog)
        if raw is None:
            raise ConfigError(f"{CONFIG_PATH}: catalog {settings.catalog!r} is not on the base branch")
        catalog = parse_json(ChordCatalog, raw, what=settings.catalog)
    return Policy(settings=settings, catalog=catalog, _read=read, _built_in=built_in)


def load_passport(name: str, read: Read, built_in: BuiltIn) -> Passport:
    """The repository's own passport of that name, else the built-in one. Raises ConfigError."""
    path = f"{CONFIG_DIR}/passports/{name}.json"
    raw = read(path)
    if raw is not None:
        return parse_json(Passport, raw, what=path)
    if name not in built_in.passports:
        raise ConfigError(
            f"passport {name!r} is neither built in nor at {path}",
            hint=f"built in are {', '.join(sorted(built_in.passports))}",
        )
    return parse_json(Passport, built_in.passports[name], what=f"the built-in passport {name}")
