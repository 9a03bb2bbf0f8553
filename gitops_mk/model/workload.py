"""Workloads: the training jobs a team put under ModeKeeper, by Kubernetes identity."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from gitops_mk.model.base import Frozen

# RFC 1123, as the API server enforces it on namespaces and on names of workloads.
DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
# At most 200 characters, so that a file name or a ref made of it stays under the 255 bytes a file system allows.
DnsName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=200),
]
WorkloadKind = Literal["Deployment", "StatefulSet", "DaemonSet", "Job", "JobSet", "PyTorchJob", "TrainJob", "RayJob"]

# How knobs reach the trainer: annotations of the pod template, or a mounted ConfigMap that it re-reads.
Delivery = Literal["annotation", "configmap"]

API_VERSIONS: dict[str, str] = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "JobSet": "jobset.x-k8s.io/v1alpha2",
    "PyTorchJob": "kubeflow.org/v1",
    "TrainJob": "trainer.kubeflow.org/v1alpha1",
    "RayJob": "ray.io/v1",
}
# Kinds with one pod template, at `spec.template`; the others hold theirs in lists and maps of roles (`core.places`).
TEMPLATED_KINDS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job"})
# Kinds whose pod template may change in a live object; for the others a merge means "the next run".
IN_PLACE_KINDS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})

BRANCH_PREFIX = "modekeeper/"


class WorkloadRef(Frozen):
    """Which workload: what its key, its branch and the file names in the repository are made of."""

    namespace: DnsLabel
    kind: WorkloadKind
    name: DnsName

    @property
    def api_version(self) -> str:
        """The API group and version that kustomize and kubectl know the kind by."""
        return API_VERSIONS[self.kind]

    @property
    def key(self) -> str:
        """`namespace/kind-name`, unique in a repository; what the `ModeKeeper-Workload` trailer holds."""
        return f"{self.namespace}/{self.kind.lower()}-{self.name}"

    @property
    def branch(self) -> str:
        """The one branch of this workload. Git refuses refs that end in `.lock`; no Kubernetes name ends in a dash."""
        return BRANCH_PREFIX + self.key + ("-" if self.key.endswith(".lock") else "")

    @property
    def slug(self) -> str:
        """The stem of its files in the component: kind and name, so that two kinds of one name don't collide."""
        return self.name if self.kind == "Deployment" else f"{self.kind.lower()}-{self.name}"

    @property
    def templated(self) -> bool:
        """True when its one pod template stands at `spec.template`."""
        return self.kind in TEMPLATED_KINDS

    @property
    def in_place(self) -> bool:
        """True when a merged change reaches the live object by a rollout."""
        return self.kind in IN_PLACE_KINDS

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class KnobMap(Frozen):
    """A ConfigMap that carries a workload's knobs, in the workload's namespace; a merged change reaches running pods in place."""

    namespace: DnsLabel
    name: DnsName

    kind: ClassVar[Literal["ConfigMap"]] = "ConfigMap"
    api_version: ClassVar[str] = "v1"
    in_place: ClassVar[bool] = True

    @property
    def key(self) -> str:
        """`namespace/configmap-name`: no workload's, for none is of that kind."""
        return f"{self.namespace}/{self.slug}"

    @property
    def slug(self) -> str:
        """What files about it are called."""
        return f"configmap-{self.name}"

    def __str__(self) -> str:
        return f"ConfigMap {self.namespace}/{self.name}"


# The object that a plan patches: the workload itself, or the ConfigMap that carries its knobs.
Carrier = WorkloadRef | KnobMap
