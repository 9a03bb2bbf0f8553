"""Configuration to adapters to controller. The only module that knows both sides; no logic of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitops_mk._version import __version__
from gitops_mk.adapters import git
from gitops_mk.adapters.clock import SystemClock
from gitops_mk.adapters.forge_local import LocalForge
from gitops_mk.adapters.killswitch import GateKillSwitch
from gitops_mk.adapters.kustomize import Kustomize
from gitops_mk.adapters.license_files import read_status
from gitops_mk.adapters.resources import built_in, wording
from gitops_mk.config import Access, provenance
from gitops_mk.controller.state import CachingBuilder, check_base_branch, identity_of
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.core.policy import load_policy
from gitops_mk.errors import ConfigError, InputError
from gitops_mk.model.change import Person
from gitops_mk.model.settings import CONFIG_PATH, Identity, TelemetrySettings
from gitops_mk.ports import TelemetrySource


def make_tools() -> Tools:
    """The peers that need no repository."""
    return Tools(
        clock=SystemClock(),
        builder=CachingBuilder(Kustomize()),
        built_in=built_in(),
        wording=wording(),
        mk_version=__version__,
        provenance=provenance(),
    )


def is_configured(path: Path) -> bool:
    """True when `path` is in a git repository whose HEAD carries a configuration."""
    try:
        git_dir, _ = git.find_git_dir(path)
    except InputError:
        return False
    repo = git.GitRepo(git_dir)
    return repo.resolve("HEAD") is not None and any(e.path == CONFIG_PATH for e in repo.tree("HEAD"))


@contextmanager
def open_workplace(access: Access, tools: Tools, *, writes: bool) -> Iterator[Workplace]:
    """The GitOps repository, by way of a private clone. `writes`: refuse a checkout that is dirty or detached.

    Raises InputError and ConfigError for a repository that can't be used, ForgeError when its server can't be reached.
    """
    git_dir, work_tree = git.find_git_dir(access.repo or Path())
    if writes and work_tree is not None:
        problem = git.checkout_problem(git_dir, work_tree)
        if problem is not None:
            raise InputError(
                f"the checkout {work_tree}: {problem}",
                hint="commit, stash or discard your changes: plans are made from the base branch, not from the checkout",
            )
    remote = access.forge or (str(git_dir) if work_tree is None else git.remote_url(git_dir))
    if remote is None:
        raise ConfigError(
            f"{work_tree} has no remote `origin`, expected the git server of the team",
            hint="add one (git remote add origin …), or name it with --forge",
        )
    base_branch = access.base_branch or _base_branch(git_dir, tools)
    default = Identity()
    forge = LocalForge(
        remote,
        base_branch=base_branch,
        identity=Person(name=default.name, email=default.email),
        clock=tools.clock,
        borrow=git_dir,
    )
    try:
        tip = forge.base_tip()
        policy = load_policy(lambda path: forge.repo.read(tip, path), tools.built_in)
        check_base_branch(policy.settings, base_branch)
        forge.identity = identity_of(policy.settings)
        bindings = {"repository": remote, "root_commit": forge.repo.root(tip)}
        yield Workplace(
            forge=forge,
            kill_switch=GateKillSwitch(forge),
            license_status=lambda: read_status(access.license_path, now=tools.clock.now(), bindings=bindings),
        )
    finally:
        forge.close()


@contextmanager
def open_objects(repo: Path | None) -> Iterator[git.GitRepo]:
    """The objects of a repository, to read from; what has to be computed goes to a folder that is thrown away."""
    git_dir, _ = git.find_git_dir(repo or Path())
    with tempfile.TemporaryDirectory(prefix="mk-objects-", ignore_cleanup_errors=True) as scratch:
        yield git.GitRepo(git_dir, scratch=Path(scratch))


def _base_branch(git_dir: Path, tools: Tools) -> str:
    """The base branch that the configuration at HEAD names."""
    repo = git.GitRepo(git_dir)
    if repo.resolve("HEAD") is None:
        raise ConfigError(f"{git_dir} has no commits yet", hint="commit your overlays, then run `mk init`")
    return load_policy(lambda path: repo.read("HEAD", path), tools.built_in).settings.base_branch


def user_identity(repo: Path | None) -> Person:
    """Who the person at the keyboard is. Raises ConfigError when git doesn't know."""
    git_dir, _ = git.find_git_dir(repo or Path())
    person = git.user_identity(git_dir)
    if person is None:
        raise ConfigError("git does not know who you are", hint="git config user.name and user.email")
    return person


def make_source(
    *,
    source: str | None,
    path: str | None,
    scenario: str | None,
    seed: int = 0,
    follow: bool = False,
    duration_s: float | None = None,
    fmt: str | None = None,
    record_raw: Path | None = None,
    defaults: TelemetrySettings | None = None,
) -> TelemetrySource:
    """The telemetry source that options ask for, or else the workload's own. Raises InputError when neither says."""
    if source is None and path is None and scenario is None and defaults is not None:
        source, path, scenario = defaults.source, defaults.path, defaults.scenario
    kind = source or ("file" if path is not None else "synthetic" if scenario is not None else None)
    if kind in ("k8s", "prometheus"):
        raise InputError(
            f"source {kind!r} is not in this version, which reads file and synthetic",
            hint="write the log to a file, or pipe it: kubectl logs … | mk observe --source file --path -",
        )
    if kind == "file" and path is not None:
        from gitops_mk.adapters.telemetry.files import FileSource

        opened: TelemetrySource = FileSource(path, follow=follow, duration=duration_s, format_=fmt)
    elif kind == "synthetic" and scenario is not None:
        from gitops_mk.adapters.telemetry.synthetic import SyntheticSource

        opened = SyntheticSource(scenario, seed=seed)
    else:
        missing = {"file": "--path", "synthetic": "--scenario"}.get(kind or "", "--path or --scenario")
        raise InputError(f"no telemetry to read: {missing} is missing", hint="for example --path train.jsonl")
    if record_raw is not None:
        from gitops_mk.adapters.telemetry.recording import RecordingSource

        opened = RecordingSource(opened, str(record_raw))
    return opened
