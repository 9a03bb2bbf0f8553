"""What a cluster says: objects, answers to "what if", and the ways it says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from gitops_mk.model.base import Frozen

# Who our server-side dry-runs say they are; nothing is ever stored under it.
FIELD_MANAGER = "modekeeper"

# An object as the API server sends it.
LiveObject = Mapping[str, Any]


class Resource(NamedTuple):
    """Where the API server serves a kind."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As `apiVersion` has it."""
        return f"{self.group}/{self.version}" if self.group else self.version


RESOURCES: Mapping[str, Resource] = {
    "Deployment": Resource("apps", "v1", "deployments"),
    "StatefulSet": Resource("apps", "v1", "statefulsets"),
    "DaemonSet": Resource("apps", "v1", "daemonsets"),
    "ReplicaSet": Resource("apps", "v1", "replicasets"),
    "Job": Resource("batch", "v1", "jobs"),
    "JobSet": Resource("jobset.x-k8s.io", "v1alpha2", "jobsets"),
    "PyTorchJob": Resource("kubeflow.org", "v1", "pytorchjobs"),
    "TrainJob": Resource("trainer.kubeflow.org", "v1alpha1", "trainjobs"),
    "RayJob": Resource("ray.io", "v1", "rayjobs"),
    "Pod": Resource("", "v1", "pods"),
    "Node": Resource("", "v1", "nodes", namespaced=False),
    "Namespace": Resource("", "v1", "namespaces", namespaced=False),
    "ConfigMap": Resource("", "v1", "configmaps"),
    "Event": Resource("", "v1", "events"),
    "Lease": Resource("coordination.k8s.io", "v1", "leases"),
    "Application": Resource("argoproj.io", "v1alpha1", "applications"),
    "Kustomization": Resource("kustomize.toolkit.fluxcd.io", "v1", "kustomizations"),
    "GitRepository": Resource("source.toolkit.fluxcd.io", "v1", "gitrepositories"),
}


class Page(NamedTuple):
    """Part of a list, at most 500 items, and the version of the collection it shows."""

    items: tuple[LiveObject, ...]
    resource_version: str


class WatchEvent(NamedTuple):
    """One change: `ADDED`, `MODIFIED`, `DELETED`, or `BOOKMARK`, which only moves the version on."""

    type: str
    object: LiveObject


class Refusal(StrEnum):
    """Why the API server would not take an object."""

    SCHEMA = "schema"
    ADMISSION = "admission"
    WEBHOOK_NO_DRY_RUN = "webhook_no_dry_run"
    NAMESPACE_MISSING = "namespace_missing"
    KIND_MISSING = "kind_missing"
    RBAC = "rbac"
    FIELD_CONFLICT = "field_conflict"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    OTHER = "other"


class ApplyAnswer(NamedTuple):
    """What a server-side apply with `dryRun=All` came to: the object as it would be stored, or a `Status` that says no."""

    status: int
    body: LiveObject

    @property
    def ok(self) -> bool:
        """True when it would have been stored."""
        return 200 <= self.status < 300


class DryRun(Frozen):
    """One dry-run for reports. `by` names the webhook, policy or field manager that said no, where one did."""

    attempted: bool = False
    mode: str = "none"
    ok: bool | None = None
    status: int | None = None
    refusal: Refusal | None = None
    by: str | None = None
    reason: str | None = None
    message: str = ""
    remedy: str | None = None


@dataclass(frozen=True)
class Trial:
    """The dry-run of one document: without force, which tells of conflicts, and with it where there were some.

    `error` says why there was no answer; `timed_out` that it was for want of time.
    """

    plain: ApplyAnswer | None = None
    forced: ApplyAnswer | None = None
    error: str = ""
    timed_out: bool = False


@dataclass(frozen=True)
class ClusterWord:
    """What a cluster answered about one workload. `error`: it could not be asked at all; None: that was not asked.

    `base` and `head` are the workload's document as the two trees build it.
    """

    context: str
    server: str = ""
    error: str = ""
    namespace_exists: bool | None = None
    live: LiveObject | None = None
    can_get: bool | None = None
    can_patch: bool | None = None
    base: Trial | None = None
    head: Trial | None = None


class ClusterSeen(Frozen):
    """What a cluster said of one workload, for reports."""

    context: str
    server: str = ""
    error: str = ""
    namespace_exists: bool | None = None
    workload_exists: bool | None = None
    uid: str | None = None
    generation: int | None = None
    can_get: bool | None = None
    can_patch: bool | None = None
    dry_run: DryRun = DryRun()
