"""Configuration to adapters to controller. The only module that knows both sides; no logic of its own.

What needs models is imported where it is wired: a command that is just starting has children to start before it loads them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gitops_mk._version import __version__
from gitops_mk.adapters import git
from gitops_mk.adapters.children import end_all
from gitops_mk.adapters.clock import SystemClock
from gitops_mk.adapters.kustomize import Kustomize
from gitops_mk.controller.builds import CachingBuilder
from gitops_mk.controller.reading import ReadAhead
from gitops_mk.errors import ConfigError, InputError

if TYPE_CHECKING:
    from gitops_mk.adapters.clone import Clone
    from gitops_mk.adapters.cluster.client import HttpCluster
    from gitops_mk.adapters.github.auth import Credentials
    from gitops_mk.config import Access
    from gitops_mk.controller.tools import Tools, Workplace
    from gitops_mk.core.inventory import Home
    from gitops_mk.model.change import Person
    from gitops_mk.model.settings import RepoSettings, WorkloadSettings
    from gitops_mk.model.workload import WorkloadRef
    from gitops_mk.ports import Board, Cluster, Forge, Inbox, ManifestBuilder, TelemetrySource

# How long pods' logs are followed when nothing says so.
POD_LOGS_S = 120.0


@contextmanager
def early_builder() -> Iterator[ManifestBuilder]:
    """The builder of this machine, its program looked for in the background; nothing that it runs outlives the block."""
    builder = CachingBuilder(Kustomize())
    builder.warm()
    try:
        yield builder
    finally:
        end_all()


@contextmanager
def read_ahead(repo: Path | None, base: str, head: str, builder: ManifestBuilder) -> Iterator[ReadAhead]:
    """Two commits of a repository, read in the background as long as the block lasts; nothing runs on after it."""
    ahead = ReadAhead(lambda: open_objects(repo), builder, base, head, end_children=end_all)
    try:
        yield ahead
    finally:
        ahead.close()


def make_tools(cluster: Cluster | None = None, builder: ManifestBuilder | None = None) -> Tools:
    """The peers that need no repository."""
    from gitops_mk.adapters.resources import built_in, wording
    from gitops_mk.config import provenance
    from gitops_mk.controller.tools import Tools

    return Tools(
        clock=SystemClock(),
        builder=builder or CachingBuilder(Kustomize()),
        built_in=built_in(),
        wording=wording(),
        mk_version=__version__,
        provenance=provenance,
        cluster=cluster,
    )


def open_cluster(kubeconfig: str | None = None, context: str | None = None) -> HttpCluster:
    """The cluster that options, or else the environment, name. Connects at the first use, which may raise ConfigError."""
    from gitops_mk.adapters.cluster.client import HttpCluster
    from gitops_mk.adapters.cluster.credentials import connect

    return HttpCluster(lambda: connect(kubeconfig=kubeconfig, context=context))


def find_cluster(kubeconfig: str | None = None, context: str | None = None) -> HttpCluster | None:
    """The same, where there is one: None without a kubeconfig and outside of a pod, unless a context is asked for."""
    from gitops_mk.adapters.cluster.credentials import available

    return open_cluster(kubeconfig, context) if context or available(kubeconfig) else None


def is_configured(path: Path) -> bool:
    """True when `path` is in a git repository whose HEAD carries a configuration."""
    from gitops_mk.model.settings import CONFIG_PATH

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
    from gitops_mk.adapters.clone import Clone, own_refspecs
    from gitops_mk.adapters.forge_local import PR_REFS
    from gitops_mk.adapters.intents import IntentFile
    from gitops_mk.adapters.killswitch import GateKillSwitch
    from gitops_mk.adapters.license_files import read_status
    from gitops_mk.controller.state import check_base_branch
    from gitops_mk.controller.tools import Workplace
    from gitops_mk.core.policy import load_policy

    git_dir: Path | None = None
    work_tree: Path | None = None
    if access.url is None:
        git_dir, work_tree = git.find_git_dir(access.repo or Path())
    if writes and git_dir is not None and work_tree is not None:
        problem = git.checkout_problem(git_dir, work_tree)
        if problem is not None:
            raise InputError(
                f"the checkout {work_tree}: {problem}",
                hint="commit, stash or discard your changes: plans are made from the base branch, not from the checkout",
            )
    remote = access.url or access.forge
    if remote is None and git_dir is not None:
        remote = str(git_dir) if work_tree is None else git.remote_url(git_dir)
    if remote is None:
        raise ConfigError(
            f"{work_tree} has no remote `origin`, expected the git server of the team",
            hint="add one (git remote add origin …), or name it with --forge",
        )
    # From afar only the server can say what its configuration names; it is held against this below.
    base_branch = access.base_branch or (_base_branch(git_dir, tools) if git_dir is not None else "main")
    credentials = _credentials(remote, tools)
    specs = (*own_refspecs(base_branch), f"+{PR_REFS}*:{PR_REFS}*")
    clone = Clone(remote, specs, borrow=git_dir, token=credentials.token if credentials is not None else None)
    try:
        tip = clone.base_tip(base_branch)
        policy = load_policy(lambda path: clone.repo.read(tip, path), tools.built_in)
        check_base_branch(policy.settings, base_branch)
        forge = _forge(clone, policy.settings, credentials, tools, strict=writes)
        inbox, board = _talk(forge, policy.settings)
        bindings = {"repository": remote, "root_commit": clone.repo.root(tip)}
        yield Workplace(
            forge=forge,
            kill_switch=GateKillSwitch(forge, tools.cluster),
            license_status=lambda: read_status(access.license_path, now=tools.clock.now(), bindings=bindings),
            intents=IntentFile(access.out),
            inbox=inbox,
            board=board,
            remote=remote,
        )
    finally:
        clone.close()


def _credentials(remote: str, tools: Tools) -> Credentials | None:
    """What the environment gives for a GitHub that the remote may be on. Raises ConfigError for what is given by halves."""
    if not any(name.startswith("MODEKEEPER_GITHUB_") for name in os.environ):
        return None
    from gitops_mk.adapters.github.api import minter
    from gitops_mk.adapters.github.auth import address_of, find_credentials

    try:
        address = address_of(remote)
    except ConfigError:
        # A server of another kind; the configuration on its base branch will say so.
        return None
    return find_credentials(address, mint=minter(address.api), now=tools.clock.now)


def _talk(forge: Forge, settings: RepoSettings) -> tuple[Inbox | None, Board | None]:
    """Where people are talked with, on a forge that has it."""
    if settings.forge.kind == "local":
        return None, None
    from gitops_mk.adapters.github.forge import GitHubForge
    from gitops_mk.adapters.github.talk import GitHubBoard, GitHubInbox

    if not isinstance(forge, GitHubForge):
        return None, None
    return GitHubInbox(forge), GitHubBoard(forge) if settings.forge.dashboard else None


def _forge(
    clone: Clone, settings: RepoSettings, credentials: Credentials | None, tools: Tools, *, strict: bool
) -> Forge:
    """The forge that the base branch's configuration names. `strict`: refuse an identity that could pass its rules by.

    Raises ConfigError.
    """
    from gitops_mk.controller.state import identity_of

    if settings.forge.kind == "local":
        from gitops_mk.adapters.forge_local import LocalForge

        return LocalForge(
            clone.remote,
            base_branch=settings.base_branch,
            identity=identity_of(settings),
            clock=tools.clock,
            clone=clone,
        )
    from gitops_mk.adapters.github.api import Api
    from gitops_mk.adapters.github.auth import address_of
    from gitops_mk.adapters.github.forge import GitHubForge

    address = address_of(clone.remote)
    if credentials is None:
        raise ConfigError(
            "forge.kind is github, and nothing says who we are there",
            hint="set MODEKEEPER_GITHUB_APP_ID and MODEKEEPER_GITHUB_APP_KEY_PATH, or MODEKEEPER_GITHUB_TOKEN",
        )
    forge = GitHubForge(
        Api(address.api, credentials, tools.clock),
        address.name,
        clone,
        base_branch=settings.base_branch,
        author=identity_of(settings),
        settings=settings.forge,
        clock=tools.clock,
    )
    passed_by = forge.bypasses() if settings.forge.strict and strict else ()
    if passed_by:
        raise ConfigError(
            f"forge.strict is set, and {'; '.join(passed_by)}",
            hint="take our identity off the bypass list, or out of the administrators",
        )
    return forge


def home_of(place: Workplace, tools: Tools) -> Home:
    """The repository as the cluster's sync tools may know it. Raises ConfigError."""
    from gitops_mk.core.inventory import Home
    from gitops_mk.core.policy import load_policy

    forge = place.forge
    tip = forge.base_tip()
    policy = load_policy(lambda path: forge.repo.read(tip, path), tools.built_in)
    urls = (place.remote, *policy.settings.forge.urls)
    return Home(urls=urls, branch=forge.base_branch, settings=policy.settings)


@contextmanager
def open_objects(repo: Path | None) -> Iterator[git.GitRepo]:
    """The objects of a repository, to read from; what has to be computed goes to a folder that is thrown away."""
    git_dir, _ = git.find_git_dir(repo or Path())
    with tempfile.TemporaryDirectory(prefix="mk-objects-", ignore_cleanup_errors=True) as scratch:
        yield git.GitRepo(git_dir, scratch=Path(scratch))


def _base_branch(git_dir: Path, tools: Tools) -> str:
    """The base branch that the configuration at HEAD names."""
    from gitops_mk.core.policy import load_policy

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


class PodsAsked(NamedTuple):
    """Which pods' logs options ask for. Without a name: those of the workload in question."""

    namespace: str | None = None
    name: str | None = None
    kind: str = "Deployment"
    container: str | None = None
    kubeconfig: str | None = None
    context: str | None = None


class PrometheusAsked(NamedTuple):
    """What options ask of a Prometheus; None and nothing where they don't say. `queries` are `ROLE=EXPRESSION`."""

    url: str | None = None
    queries: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()
    step: str | None = None
    worker_label: str | None = None
    token_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None

    @property
    def implied(self) -> bool:
        """True where a Prometheus is asked for without being named as the source."""
        return bool(self.url or self.queries or self.presets)


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
    pods: PodsAsked = PodsAsked(),  # noqa: B008 - a value
    prometheus: PrometheusAsked = PrometheusAsked(),  # noqa: B008 - a value
    workload: WorkloadSettings | None = None,
) -> TelemetrySource:
    """The telemetry source that options ask for, or else the workload's own. Raises InputError when neither says."""
    asked = prometheus.implied or any(given is not None for given in (source, path, scenario, pods.name))
    if not asked and workload is not None:
        defaults = workload.telemetry
        source, path, scenario = defaults.source, defaults.path, defaults.scenario
    implied = {"file": path, "synthetic": scenario, "prometheus": prometheus.implied or None, "k8s": pods.name}
    kind = source or next((name for name, given in implied.items() if given is not None), None)
    if kind == "k8s":
        # Without an end that somebody asked for, or Ctrl-C to come, there has to be one.
        seconds = POD_LOGS_S if duration_s is None and not follow else duration_s
        opened: TelemetrySource = _pod_logs(pods, workload, duration_s=seconds, fmt=fmt)
    elif kind == "prometheus":
        if follow:
            raise InputError(
                "--follow is for logs: a Prometheus is asked for what it holds",
                hint="leave it out, or ask again and again with mk closed-loop watch",
            )
        opened = _prometheus(prometheus, pods, workload, duration_s=duration_s)
    elif kind == "file" and path is not None:
        from gitops_mk.adapters.telemetry.files import FileSource

        opened = FileSource(path, follow=follow, duration=duration_s, format_=fmt)
    elif kind == "synthetic" and scenario is not None:
        from gitops_mk.adapters.telemetry.synthetic import SyntheticSource

        opened = SyntheticSource(scenario, seed=seed)
    else:
        missing = {"file": "--path", "synthetic": "--scenario"}.get(
            kind or "", "--k8s-deployment, --prometheus-url, --path or --scenario"
        )
        raise InputError(f"no telemetry to read: {missing} is missing", hint="for example --path train.jsonl")
    if workload is not None and kind != "synthetic":
        opened = _configured(opened, workload)
    if record_raw is not None:
        from gitops_mk.adapters.telemetry.recording import RecordingSource

        opened = RecordingSource(opened, str(record_raw))
    return opened


def telemetry_of(cluster: Cluster, workload: WorkloadSettings, *, window_s: float) -> TelemetrySource:
    """A workload's own telemetry as the controller reads it: what is there by now, pod logs unless the configuration says else.

    `window_s` is for logs; how far back a Prometheus is asked is the configuration's to say.
    """
    said = workload.telemetry
    if said.path is not None or said.scenario is not None or said.source == "prometheus":
        return make_source(source=None, path=None, scenario=None, workload=workload)
    from gitops_mk.adapters.telemetry.pod_logs import PodLogSource

    logs = PodLogSource(
        cluster, workload.ref, container=said.container, follow=False, since_seconds=max(1, int(window_s))
    )
    return _configured(logs, workload)


def _configured(source: TelemetrySource, workload: WorkloadSettings) -> TelemetrySource:
    """The source, and what the workload's configuration says of its lines."""
    from gitops_mk.adapters.telemetry.configured import ConfiguredSource

    said = workload.telemetry
    return ConfiguredSource(source, said) if said.fields or said.planned else source


def _prometheus(
    asked: PrometheusAsked, pods: PodsAsked, workload: WorkloadSettings | None, *, duration_s: float | None
) -> TelemetrySource:
    from gitops_mk.adapters.telemetry.prometheus import PrometheusSource
    from gitops_mk.adapters.telemetry.prometheus_access import Asked, find_access
    from gitops_mk.config import parse_assignments, parse_duration
    from gitops_mk.core.prometheus.presets import combined
    from gitops_mk.core.prometheus.promql import filled, names_of
    from gitops_mk.model.settings import PrometheusSettings

    said = (workload.telemetry.prometheus if workload is not None else None) or PrometheusSettings()
    options = Asked(asked.url, asked.token_file, asked.username, asked.password_file, asked.ca_file)
    access = find_access(options, said.url)
    ref = _ref_asked(pods) if pods.name is not None else workload.ref if workload is not None else None
    names = names_of(ref) if ref is not None else None
    own = parse_assignments(asked.queries, option="--prometheus-query", example="step_time_s=max(step_seconds)")
    queries = combined((own, said.queries), (*asked.presets, *said.presets))
    return PrometheusSource(
        access,
        {role: filled(query, names, what=f"the query of {role}") for role, query in queries.items()},
        duration_s=parse_duration(said.duration) if duration_s is None else duration_s,
        step_s=parse_duration(asked.step or said.step),
        timeout_s=parse_duration(said.timeout),
        worker_label=asked.worker_label or said.worker_label,
    )


def _pod_logs(
    pods: PodsAsked, workload: WorkloadSettings | None, *, duration_s: float | None, fmt: str | None
) -> TelemetrySource:
    from gitops_mk.adapters.telemetry.pod_logs import PodLogSource

    ref, container = (workload.ref, workload.telemetry.container) if workload is not None else (None, None)
    if pods.name is not None:
        ref, container = _ref_asked(pods), None
    if ref is None:
        raise InputError(
            "no telemetry to read: --k8s-deployment is missing",
            hint="for example --k8s-namespace ml --k8s-deployment trainer",
        )
    cluster = open_cluster(pods.kubeconfig, pods.context)
    return PodLogSource(cluster, ref, container=pods.container or container, duration_s=duration_s, format_=fmt)


def _ref_asked(pods: PodsAsked) -> WorkloadRef:
    from pydantic import ValidationError

    from gitops_mk.model.workload import WorkloadRef

    if pods.namespace is None:
        raise InputError(
            "--k8s-namespace is missing", hint=f"for example --k8s-namespace ml --k8s-deployment {pods.name}"
        )
    try:
        return WorkloadRef.model_validate({"namespace": pods.namespace, "kind": pods.kind, "name": pods.name})
    except ValidationError as exc:
        field = exc.errors()[0]["loc"][0]
        option = "--k8s-namespace" if field == "namespace" else "--k8s-deployment"
        raise InputError(
            f"{option}: {getattr(pods, str(field))!r} is no Kubernetes name",
            hint="lower-case letters, digits and dashes",
        ) from exc
