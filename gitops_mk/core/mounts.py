"""Where a workload's pods use a ConfigMap, and whether a change of it would reach them while they run.

The kubelet renews the files of a volume that is mounted whole (Kubernetes docs, "Mounted ConfigMaps are updated
automatically"); never those mounted by `subPath`, nor environment variables. The pod specs of each kind stand where its CRD
has them: see `core.places`; a TrainJob v1alpha1 has its own in overrides, and for the rest those of its runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from gitops_mk.core.objects import items, part, text
from gitops_mk.core.yamldocs import Leaves, documents
from gitops_mk.model.workload import API_VERSIONS

_ANY: Final = "*"
_POD: Final = ("template", "spec")
_JOBS: Final = ("spec", "replicatedJobs", _ANY, "template", "spec", *_POD)
_SPECS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "Deployment": (("spec", *_POD),),
    "StatefulSet": (("spec", *_POD),),
    "DaemonSet": (("spec", *_POD),),
    "Job": (("spec", *_POD),),
    "JobSet": (_JOBS,),
    "PyTorchJob": (("spec", "pytorchReplicaSpecs", _ANY, *_POD),),
    "RayJob": (
        ("spec", "rayClusterSpec", "headGroupSpec", *_POD),
        ("spec", "rayClusterSpec", "workerGroupSpecs", _ANY, *_POD),
    ),
    "TrainJob": (
        ("spec", "podTemplateOverrides", _ANY, "spec"),
        ("spec", "runtimePatches", _ANY, "trainingRuntimeSpec", "template", *_JOBS),
    ),
}
_RUNTIME: Final = ("spec", "template", *_JOBS)
_RUNTIMES: Final = ("ClusterTrainingRuntime", "TrainingRuntime")


class Use(NamedTuple):
    """One way in which a pod uses a ConfigMap: `how` is None where a volume of it is mounted whole, else why that is not live.

    `ended`: by a container that has ended when the others begin, so that no change reaches it.
    """

    config_map: str
    how: str | None
    ended: bool = False


def uses(workload: Leaves, build: str) -> tuple[Use, ...]:
    """Every use of a ConfigMap by a workload's pods, as `build` has it; a volume that no container mounts is none."""
    found = [use for spec in _pod_specs(workload, build) for use in _of_spec(spec)]
    if workload.id.kind == "TrainJob":
        # The environment of its trainer stands outside of any pod spec.
        found += _of_environment(part(nested(workload), "spec", "trainer"))
    return tuple(found)


def _pod_specs(workload: Leaves, build: str) -> Iterator[Any]:
    kind = workload.id.kind
    body = nested(workload)
    for pattern in _SPECS.get(kind, ()):
        yield from _at(body, pattern)
    if kind == "TrainJob":
        wanted = part(body, "spec", "runtimeRef")
        name, runtime = text(wanted, "name"), text(wanted, "kind") or _RUNTIMES[0]
        for found in documents(build, kind=runtime) if runtime in _RUNTIMES else ():
            if found.id.name == name and found.id.api_version == API_VERSIONS[kind]:
                yield from _at(nested(found), _RUNTIME)


def _of_spec(spec: Any) -> Iterator[Use]:
    volumes = {text(volume, "name"): tuple(_sources(volume)) for volume in items(spec, "volumes")}
    for container in items(spec, "containers"):
        yield from _of_container(container, volumes)
    for container in items(spec, "initContainers"):
        # One that is restarted always is a sidecar, and goes on.
        sidecar = text(container, "restartPolicy") == "Always"
        for use in _of_container(container, volumes):
            yield use if sidecar else use._replace(ended=True)


def _of_container(container: Any, volumes: Mapping[str, tuple[Use, ...]]) -> Iterator[Use]:
    yield from _of_environment(container)
    for mount in items(container, "volumeMounts"):
        by_path = text(mount, "subPath") or text(mount, "subPathExpr")
        for use in volumes.get(text(mount, "name"), ()):
            yield use._replace(how="by subPath") if by_path else use


def _of_environment(container: Any) -> Iterator[Use]:
    for entry in items(container, "envFrom"):
        yield Use(text(part(entry, "configMapRef"), "name"), "by envFrom")
    for entry in items(container, "env"):
        yield Use(text(part(entry, "valueFrom", "configMapKeyRef"), "name"), "by env")


def _sources(volume: Mapping[str, Any]) -> Iterator[Use]:
    projected = (part(source, "configMap") for source in items(part(volume, "projected"), "sources"))
    for source in (part(volume, "configMap"), *projected):
        if source:
            yield Use(text(source, "name"), "by chosen items" if items(source, "items") else None)


def _at(value: Any, pattern: tuple[str, ...]) -> Iterator[Any]:
    if not pattern:
        yield value
    elif pattern[0] != _ANY:
        yield from _at(part(value).get(pattern[0]), pattern[1:])
    else:
        for child in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
            yield from _at(child, pattern[1:])


def nested(document: Leaves) -> Any:
    """The maps, lists and texts that leaves were flattened from; every scalar as its text."""
    root: dict[str | int, Any] = {}
    for path, leaf in document.leaves.items():
        here = root
        for key in path[:-1]:
            here = here.setdefault(key, {})
        here[path[-1]] = {"map": {}, "list": []}.get(leaf.type, leaf.text)
    return _listed(root)


def _listed(value: Any) -> Any:
    """Maps by index, which no key is, become lists. As deep as the document is allowed to be."""
    if not isinstance(value, dict):
        return value
    children = {key: _listed(child) for key, child in value.items()}
    if children and all(isinstance(key, int) for key in children):
        return [children[key] for key in sorted(children)]
    return children
