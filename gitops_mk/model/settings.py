"""The configuration of a GitOps repository, `.modekeeper/config.yaml`: which workloads, where they live, what may be done.

The JSON Schema and the reference page in `docs/` are made from these classes.
"""

from __future__ import annotations

import posixpath
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from gitops_mk.model.base import Frozen
from gitops_mk.model.canonical import digest
from gitops_mk.model.workload import Delivery, DnsLabel, DnsName, WorkloadKind, WorkloadRef

CONFIG_DIR = ".modekeeper"
CONFIG_PATH = f"{CONFIG_DIR}/config.yaml"
KILL_SWITCH_PATH = f"{CONFIG_DIR}/kill-switch"

MAX_PROMETHEUS_STEP_S = 3600.0
MAX_PROMETHEUS_DURATION_S = 30 * 86400.0

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNSAFE = frozenset('\\\0\n\r\t*?"<>|:')


def safe_repo_path(value: str) -> str:
    """A relative path inside a repository, in its simplest form. Raises ValueError for anything that could leave it."""
    if not value or value.startswith(("/", "-", "~")) or _UNSAFE & set(value):
        raise ValueError(f"{value!r} is not a plain relative path")
    parts = value.split("/")
    if value != "." and posixpath.normpath(value) != value.rstrip("/"):
        raise ValueError(f"{value!r} is not in its simplest form, expected {posixpath.normpath(value)!r}")
    if ".." in parts or any(part.lower() == ".git" for part in parts):
        raise ValueError(f"{value!r} leaves the repository's tree")
    return value.rstrip("/")


def a_time(value: str) -> str:
    """A date, or a date and a time of day. Raises ValueError for one that no calendar has."""
    datetime.fromisoformat(value)
    return value


def a_time_zone(value: str) -> str:
    """A time zone of the IANA database. Raises ValueError for any other name."""
    # Few name one, and it takes a while to load.
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(f"{value!r} is no time zone, expected one such as UTC or Europe/Berlin") from exc
    return value


def at_most(most: str) -> AfterValidator:
    """For a Duration: one longer than `most` is refused with a ValueError."""

    def checked(value: str) -> str:
        if _seconds(value) > _seconds(most):
            raise ValueError(f"{value!r} is too long, expected at most {most}")
        return value

    return AfterValidator(checked)


def _seconds(duration: str) -> float:
    number = duration.rstrip("mshd")
    return int(number) * _UNITS[duration.removeprefix(number)]


RepoPath = Annotated[str, StringConstraints(max_length=512), AfterValidator(safe_repo_path)]
BranchName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$")]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DayTime = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
LocalTime = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T([01][0-9]|2[0-3]):[0-5][0-9])?$"),
    AfterValidator(a_time),
]
TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(a_time_zone)]
LabelName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f,]{1,50}$")]
Login = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}(\[bot\])?$")]
PassportName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][-a-z0-9]{0,62}$")]


Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}(ms|s|m|h|d)$")]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class PlannedEvent(Frozen):
    """Something that slows steps down on purpose, and that no line of the telemetry announces."""

    step: Annotated[int, Field(ge=0, le=10**15)] = Field(description="The step at which it happens.")
    what: Literal["checkpoint", "eval", "resume", "schedule"] = Field(
        description="What happens: a pause, or with `schedule` a change that lasts, such as of the batch size."
    )


class PrometheusSettings(Frozen):
    """What is asked of a Prometheus for a workload. Credentials are no part of it: the process that asks brings them."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)] | None = Field(
        None,
        description="Its address, with the path prefix where it has one, and without a user. Default: that of the environment. "
        "Credentials are sent to it only where the environment or an option names the same origin.",
    )
    step: Annotated[Duration, at_most("1h")] = Field(
        "15s", description="Time between two samples: `15s`, `1m`; at most `1h`."
    )
    duration: Annotated[Duration, at_most("30d")] = Field(
        "1h", description="How far back is asked for when nothing else says so; at most `30d`."
    )
    presets: tuple[Literal["dcgm", "ray", "torchtitan"], ...] = Field(
        (), description="Queries for metrics with known names."
    )
    queries: dict[ShortText, Annotated[str, StringConstraints(min_length=1, max_length=10_000)]] = Field(
        {},
        description="PromQL expressions by role, which go before those of presets. `docs/telemetry.md` names the roles.",
    )
    worker_label: ShortText | None = Field(
        None,
        description="The label that tells workers apart. Default: the first of `pod`, `rank`, `Hostname` and the like that does.",
    )
    timeout: Annotated[Duration, at_most("60s")] = Field(
        "30s",
        description="How long the server may evaluate one query; at most `60s`. Together, queries take three minutes at most.",
    )


class TelemetrySettings(Frozen):
    """Where a workload's telemetry comes from when no option says so, and what its own names mean."""

    source: Literal["file", "k8s", "prometheus", "synthetic"] = Field(
        "file",
        description="`file`; `k8s`, the logs of the workload's own pods; `prometheus`; or `synthetic` for a dry start.",
    )
    path: str | None = Field(None, description="For `file`: a JSONL or CSV file, readable where `mk` runs.")
    scenario: str | None = Field(None, description="For `synthetic`: the scenario's name.")
    container: DnsLabel | None = Field(
        None,
        description="For `k8s`: the container whose log is read. Default: that of the annotation `modekeeper.dev/container`, else "
        "the one called like the workload, else the only one.",
    )
    fields: dict[ShortText, ShortText] = Field(
        {},
        description="The job's own names of fields, by ours, which says the unit: `step_time_s: my/step_seconds`. "
        "`docs/telemetry.md` lists ours.",
    )
    planned: Annotated[tuple[PlannedEvent, ...], Field(max_length=1000)] = Field(
        (), description="Events that no line announces."
    )
    prometheus: PrometheusSettings | None = Field(None, description="For `prometheus`: what is asked.")


class WorkloadSettings(Frozen):
    """One workload under ModeKeeper."""

    namespace: DnsLabel = Field(description="Namespace of the live object, as the overlay builds it.")
    name: DnsName = Field(description="Name of the live object, as the overlay builds it (prefix and suffix included).")
    kind: WorkloadKind = Field("Deployment", description="Kind of the live object.")
    overlay: RepoPath = Field(description="Folder whose `kustomization.yaml` Argo CD or Flux syncs.")
    passport: PassportName | None = Field(
        None,
        description="A built-in passport or one in `.modekeeper/passports/NAME.json`. Default: `defaults.passport`.",
    )
    world_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None,
        description="Data-parallel workers; a factor of the global batch. Default: the annotation "
        "`modekeeper.dev/world-size`, else the passport's, else replicas times GPUs as the overlay builds them.",
    )
    total_steps: Annotated[int, Field(ge=1, le=2**53)] | None = Field(
        None,
        description="How many steps the job takes in all, so that a gain is weighed over what remains; for telemetry that tells "
        "the step. Default: the passport's `economics.horizon_s`.",
    )
    delivery: Delivery = Field(
        "annotation",
        description="How its knobs reach it: `annotation`, on the pod template, where a merge restarts the pods; or `configmap`, a "
        "mounted ConfigMap that a trainer reads again, where nothing restarts.",
    )
    config_map: DnsName | None = Field(
        None,
        description="For `configmap`: the ConfigMap's name, as the overlay builds it, in the workload's namespace. Default: that "
        "of the annotation `modekeeper.dev/config-map`, else the only mounted one that holds a built-in knob.",
    )
    telemetry: TelemetrySettings = Field(TelemetrySettings(), description="Default telemetry of this workload.")

    @model_validator(mode="after")
    def _delivered(self) -> Self:
        if self.config_map is not None and self.delivery != "configmap":
            raise ValueError(f"config_map {self.config_map!r} is for `delivery: configmap`, which is not set")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A configuration that does not use them has the digest it had before there were such fields.
        plain: dict[str, Any] = handler(self)
        if self.delivery == "annotation":
            del plain["delivery"], plain["config_map"]
        return plain

    @property
    def ref(self) -> WorkloadRef:
        """Its Kubernetes identity."""
        return WorkloadRef(namespace=self.namespace, kind=self.kind, name=self.name)


class Defaults(Frozen):
    """What holds for every workload that does not say otherwise."""

    passport: PassportName = Field("pilot", description="Passport of workloads that name none.")


class Limits(Frozen):
    """How many pull requests a reviewer is asked to look at. What undoes a change is exempt."""

    max_open_prs: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        3, description="Open pull requests at a time, in the whole repository. `null`: no limit."
    )
    confirmations: Annotated[int, Field(ge=1, le=100)] = Field(
        3,
        description="In how many looks in a row `mk controller run` and `mk closed-loop watch` must see a signal before they act "
        "on it. One look alone (`mk closed-loop run`, `mk controller run --once`) acts on what it sees.",
    )
    max_prs_per_hour: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        2, description="Pull requests opened within an hour. `null`: no limit."
    )


class TimeWindow(Frozen):
    """A stretch of the week, in the schedule's time zone. One that ends before it begins runs past midnight."""

    days: tuple[Weekday, ...] = Field(WEEKDAYS, description="Days on which it begins, `mon` to `sun`.")
    start: DayTime = Field("00:00", description="When it begins, `HH:MM`.")
    end: DayTime = Field("24:00", description="When it ends, `HH:MM`; `24:00` is the end of the day.")


class Freeze(Frozen):
    """A time in which nothing is proposed and nothing is merged."""

    start: LocalTime = Field(description="When it begins, `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM`, quoted.")
    end: LocalTime = Field(description="When it ends, the same way; a date alone means its beginning.")
    reason: Annotated[str, StringConstraints(max_length=200)] = Field("", description="Why; it is told to reviewers.")

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"a freeze from {self.start} to {self.end} has no length")
        return self


class Schedule(Frozen):
    """When pull requests may be opened and merged. What undoes a change is exempt from the windows, not from a freeze."""

    timezone: TimeZone = Field("UTC", description="An IANA time zone, such as `Europe/Berlin`.")
    windows: tuple[TimeWindow, ...] = Field((), description="When proposing and merging is welcome. None: at any time.")
    freezes: tuple[Freeze, ...] = Field((), description="When neither is.")


class ForgeSettings(Frozen):
    """Where pull requests live."""

    kind: Literal["local", "github"] = Field(
        "local",
        description="`local`: pull requests are refs in the git server itself; `github`: GitHub, or GitHub Enterprise Server, "
        "at the host of the repository's own address.",
    )
    merge_method: Literal["merge", "squash"] = Field("merge", description="On GitHub: how a pull request is merged.")
    signed_commits: bool = Field(
        False, description="On GitHub: commits are made by its API, which signs them, instead of being pushed."
    )
    up_to_date: bool = Field(
        False,
        description="Rebuild a branch whenever the base branch moves: for rules that ask for branches to be up to date. "
        "It costs a run of every check each time.",
    )
    strict: bool = Field(
        False, description="On GitHub: refuse to merge where our own identity could pass the branch's rules by."
    )
    dashboard: bool = Field(False, description="On GitHub: keep an issue that shows how everything stands.")
    labels: tuple[LabelName, ...] = Field((), description="Labels for our pull requests, besides `modekeeper`.")
    reviewers: tuple[Login, ...] = Field((), description="On GitHub: accounts that are asked for a review.")
    team_reviewers: tuple[Login, ...] = Field((), description="On GitHub: teams that are asked, by their slug.")
    history_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        90, description="On GitHub: for how many days a closed pull request is remembered, and with it its hold."
    )
    urls: tuple[Annotated[str, StringConstraints(min_length=1, max_length=500)], ...] = Field(
        (), description="Other addresses of this repository, as Argo CD or Flux may name it."
    )
    required_approvals: Annotated[int, Field(ge=0, le=10)] | None = Field(
        None, description="Approving reviews on the head commit. Default: the passport's `gates.approvals`."
    )


class ConfigMapRef(Frozen):
    """A ConfigMap in the cluster."""

    namespace: DnsLabel = Field(description="Its namespace.")
    name: DnsName = Field(description="Its name.")


class ClusterSettings(Frozen):
    """What the cluster has a say in."""

    consult: Literal["auto", "required", "never"] = Field(
        "auto",
        description="Whether verify asks the cluster: `auto`, where a kubeconfig or an in-cluster identity exists; `required`, "
        "so that verify fails without one; `never`.",
    )
    kill_switch: ConfigMapRef | None = Field(
        None,
        description="A ConfigMap that is a source of the kill switch: any value but `0` under its key `kill` is active.",
    )
    field_managers: tuple[Annotated[str, StringConstraints(min_length=1, max_length=128)], ...] = Field(
        (), description="Field managers that apply what stands in Git, besides those of Argo CD, Flux and kubectl."
    )


class Discovery(Frozen):
    """Workloads that enrol themselves by the label `modekeeper.dev/enabled: "true"`, as the overlay builds it."""

    namespaces: tuple[DnsLabel, ...] = Field(
        (), description="Namespaces in which the label counts. None: only the workloads listed here are looked at."
    )


class Identity(Frozen):
    """Who the controller's commits are by. A commit by anybody else on a workload's branch pauses it."""

    name: Annotated[str, StringConstraints(pattern=r"^[^<>\n\r\x00]{1,100}$")] = "ModeKeeper GitOps"
    email: Annotated[str, StringConstraints(pattern=r"^[^<>\s\x00]{3,200}$")] = "modekeeper@gitops.invalid"


class RepoSettings(Frozen):
    """The whole of `.modekeeper/config.yaml`."""

    version: Literal["v1"] = Field(description="Version of this file's format.")
    base_branch: BranchName = Field("main", description="The branch Argo CD or Flux sync, and pull requests go to.")
    catalog: RepoPath | None = Field(None, description="A chord catalog in this repository. Default: the built-in one.")
    defaults: Defaults = Field(Defaults(), description="Defaults for workloads.")
    forge: ForgeSettings = Field(ForgeSettings(), description="Where pull requests live.")
    limits: Limits = Field(Limits(), description="How many pull requests a reviewer is asked to look at.")
    schedule: Schedule = Field(Schedule(), description="When pull requests may be opened and merged.")
    cluster: ClusterSettings = Field(ClusterSettings(), description="What the cluster has a say in.")
    discovery: Discovery = Field(Discovery(), description="Workloads that are found by their label.")
    identity: Identity = Field(Identity(), description="Author of the controller's commits.")
    workloads: tuple[WorkloadSettings, ...] = Field((), description="The workloads, each in one overlay.")

    @model_validator(mode="after")
    def _claims(self) -> Self:
        by_key: dict[str, str] = {}
        by_file: dict[tuple[str, str], str] = {}
        by_config_map: dict[tuple[str, str], str] = {}
        for workload in self.workloads:
            key = workload.ref.key
            if key in by_key:
                raise ValueError(
                    f"two overlays claim {workload.ref}: {by_key[key]!r} and {workload.overlay!r}; expected one"
                )
            by_key[key] = workload.overlay
            file = (workload.overlay, workload.ref.slug)
            if file in by_file:
                raise ValueError(
                    f"{workload.ref} and {by_file[file]} share the file {file[1]!r} in {file[0]!r}; "
                    "give one of them another name, or an overlay of its own"
                )
            by_file[file] = str(workload.ref)
            if workload.config_map is not None:
                carrier = (workload.namespace, workload.config_map)
                if carrier in by_config_map:
                    raise ValueError(
                        f"{workload.ref} and {by_config_map[carrier]} claim one ConfigMap, {workload.config_map!r}; "
                        "expected one each"
                    )
                by_config_map[carrier] = str(workload.ref)
        return self

    def workload(self, ref: WorkloadRef) -> WorkloadSettings | None:
        """The settings of that workload, if it is listed."""
        return next((w for w in self.workloads if w.ref == ref), None)

    def passport_of(self, workload: WorkloadSettings) -> str:
        """The name of the passport that judges that workload."""
        return workload.passport or self.defaults.passport

    @property
    def sha256(self) -> str:
        """Digest of the configuration's meaning, whatever its formatting."""
        return digest(self.plain())
