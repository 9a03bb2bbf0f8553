"""A workload's pods, as a reader of their logs sees them: which are its own, which come first, which container, which machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from gitops_mk.errors import InputError
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.telemetry import Environment
from gitops_mk.model.workload import WorkloadRef

CONTAINER_ANNOTATION: Final = "modekeeper.dev/container"
# NVIDIA's feature discovery, GKE, EKS: the first that a node has names its GPU model.
GPU_LABELS: Final = ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "k8s.amazonaws.com/accelerator")

# What makes jobs of several roles labels their pods, as their controllers document it: JobSet (which TrainJob makes one of,
# under its own name), the training operator, KubeRay.
_JOB_LABELS: Final = {
    "JobSet": "jobset.sigs.k8s.io/jobset-name",
    "TrainJob": "jobset.sigs.k8s.io/jobset-name",
    "PyTorchJob": "training.kubeflow.org/job-name",
    "RayJob": "ray.io/cluster",
}
_OPERATORS: Final = {"In": "{key} in ({values})", "NotIn": "{key} notin ({values})", "Exists": "{key}"}


class ContainerState(NamedTuple):
    """How a container stands. Its log is that of run number `restarts`; `previous=true` gives the run before, if there is one.

    readable: there is a log. ended: that run is over, nothing will be added. previous: the log of the run before is
    still kept. started_at: when the run that goes on now began, RFC 3339.
    """

    restarts: int
    readable: bool
    ended: bool
    previous: bool
    started_at: str | None


def choose_container(
    source: LiveObject, annotations: Mapping[str, str], workload: str, wanted: str | None = None
) -> str:
    """The container whose log is read, in a pod or a workload with a pod template.

    By rule: the one that is `wanted`, else that of the annotation (of the workload, or of the pod), else the one that is called
    like the workload, else the only one. Init containers are none, sidecars among them. Raises InputError that lists the
    containers.
    """
    pod = pod_template(source)
    spec = _part(pod, "spec")
    names = [str(one.get("name")) for one in spec.get("containers") or ()]
    listed = ", ".join(names) or "none"
    noted = annotations.get(CONTAINER_ANNOTATION) or _part(_part(pod, "metadata"), "annotations").get(
        CONTAINER_ANNOTATION
    )
    for name, said in ((wanted, "asked for"), (noted, f"the annotation {CONTAINER_ANNOTATION} says")):
        if name:
            if name in names:
                return str(name)
            raise InputError(
                f"{workload} has no container {name!r} ({said}), it has: {listed}",
                hint="name one of them with --container; init containers and sidecars are no candidates",
            )
    if workload in names:
        return workload
    if len(names) == 1:
        return names[0]
    raise InputError(
        f"{workload} has {len(names)} containers, and none is called like it: {listed}",
        hint=f"name one with --container, or in the workload's annotation {CONTAINER_ANNOTATION}",
    )


def pod_template(source: LiveObject) -> LiveObject:
    """The pod itself, or the template of a workload's pods."""
    template = _part(source, "spec").get("template")
    return template if isinstance(template, Mapping) else source


def selector_text(workload: LiveObject) -> str:
    """The label selector of a workload's pods as a query has it. Raises InputError for a workload without one."""
    if str(workload.get("kind")) in _JOB_LABELS:
        return _job_selector(workload)
    selector = _part(_part(workload, "spec"), "selector")
    terms = [f"{key}={value}" for key, value in sorted(_part(selector, "matchLabels").items())]
    for term in selector.get("matchExpressions") or ():
        shape = _OPERATORS.get(str(term.get("operator")), "!{key}")
        terms.append(shape.format(key=term.get("key"), values=",".join(term.get("values") or ())))
    if not terms:
        # An empty selector would be every pod of the namespace.
        raise InputError(
            f"{workload.get('kind')} {_part(workload, 'metadata').get('name')} selects no pods: spec.selector is empty",
            hint="name a workload with a selector, such as a Deployment",
        )
    return ",".join(terms)


def _job_selector(workload: LiveObject) -> str:
    kind = str(workload.get("kind"))
    name = _part(workload, "metadata").get("name")
    if kind == "RayJob":
        # Its pods are those of the cluster that KubeRay made for it.
        name = _part(workload, "status").get("rayClusterName")
        if not name:
            raise InputError(
                "the RayJob has no cluster yet: its status names none", hint="wait until KubeRay has started it"
            )
    return f"{_JOB_LABELS[kind]}={name}"


def owned(pods: Iterable[LiveObject], workload: LiveObject, ref: WorkloadRef) -> list[LiveObject]:
    """Those of the pods that the workload controls; a Deployment does so by its ReplicaSets, whose names begin with its own."""
    if not ref.templated:
        # Their pods belong to Jobs or clusters in between, and carry the label of the whole.
        return list(pods)
    uid = _part(workload, "metadata").get("uid")

    def is_owner(owner: LiveObject) -> bool:
        if ref.kind == "Deployment":
            # The API server makes no two ReplicaSets of one name, and their last part (a hash) has no dash.
            return owner.get("kind") == "ReplicaSet" and str(owner.get("name")).rpartition("-")[0] == ref.name
        return owner.get("uid") == uid

    return [
        pod
        for pod in pods
        if any(
            owner.get("controller") is True and is_owner(owner)
            for owner in _part(pod, "metadata").get("ownerReferences") or ()
        )
    ]


def candidates(pods: Iterable[LiveObject]) -> list[LiveObject]:
    """The pods that have or had a container: ready ones first, then running ones, then those that are over; each by name."""

    def rank(pod: LiveObject) -> int:
        phase = _part(pod, "status").get("phase")
        if phase == "Running":
            return 0 if _is_ready(pod) else 1
        return 2 if phase in {"Succeeded", "Failed"} else 3

    return sorted(pods, key=lambda pod: (rank(pod), str(_part(pod, "metadata").get("name"))))


def container_state(pod: LiveObject, container: str) -> ContainerState:
    """How that container of the pod stands; one that the kubelet has not told of yet has nothing to read.

    While a container waits for its next start, the kubelet gives the log of the run that is over as the current one and as
    the previous one alike, and has not counted the restart yet (kubelet, `validateContainerLogStatus`).
    """
    statuses = _part(pod, "status").get("containerStatuses") or ()
    status: LiveObject = next((one for one in statuses if one.get("name") == container), {})
    state, last = _part(status, "state"), _part(_part(status, "lastState"), "terminated")
    running, terminated = state.get("running"), state.get("terminated")
    begun = running is not None or terminated is not None
    return ContainerState(
        restarts=int(status.get("restartCount") or 0),
        readable=begun or bool(last),
        ended=running is None,
        previous=begun and bool(last),
        started_at=_part(state, "running").get("startedAt"),
    )


def is_over(pod: LiveObject) -> bool:
    """True when no container of it will start again."""
    return _part(pod, "status").get("phase") in {"Succeeded", "Failed"}


def environment_of(pods: Iterable[LiveObject], nodes: Mapping[str, LiveObject]) -> Environment:
    """The machines that these pods run on, as far as `nodes` (by name) are known."""
    names = sorted({name for name in map(node_of, pods) if name})
    models = sorted({model for model in (_gpu(nodes[name]) for name in names if name in nodes) if model})
    return Environment(
        nodes_seen=tuple(names), gpu_models_seen=tuple(models), unstable=len(names) > 1 or len(models) > 1
    )


def node_of(pod: LiveObject) -> str:
    """The name of the pod's node; empty while it has none."""
    return str(_part(pod, "spec").get("nodeName") or "")


def _gpu(node: LiveObject) -> str:
    labels = _part(_part(node, "metadata"), "labels")
    return next((str(labels[label]) for label in GPU_LABELS if labels.get(label)), "")


def _is_ready(pod: LiveObject) -> bool:
    conditions = _part(pod, "status").get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _part(value: LiveObject, key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}
