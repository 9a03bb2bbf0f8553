"""Which workloads are ours to look at: those the configuration lists, and those that enrol themselves by a label.

The label counts only in namespaces that the base branch allows, and only as the overlay builds it on the base branch: a label
put on a live object by hand, or by the pull request itself, enrols nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from gitops_mk.core import yamldocs
from gitops_mk.core.kustomization import built_on_by
from gitops_mk.core.render.paths import plan_path
from gitops_mk.errors import InputError
from gitops_mk.model.passport import Passport
from gitops_mk.model.plan import Plan
from gitops_mk.model.settings import RepoSettings, WorkloadSettings
from gitops_mk.model.workload import API_VERSIONS, WorkloadRef

LABEL_ENABLED: Final = "modekeeper.dev/enabled"
WORLD_SIZE: Final = "modekeeper.dev/world-size"
GPU_RESOURCES: Final = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915")

_LABELS: Final = ("metadata", "labels")
_PLACES: Final = (("metadata", "annotations"), ("spec", "template", "metadata", "annotations"))
_CONTAINERS: Final = ("spec", "template", "spec", "containers")


def admitted(settings: RepoSettings, ref: WorkloadRef, overlay: str) -> WorkloadSettings | None:
    """The settings of a workload: its own entry, else the defaults where its namespace is open to discovery.

    For the latter, `is_enrolled` must also say yes to what the base branch builds. None, too, for a folder that no
    configuration could name (`RepoPath`).
    """
    listed = settings.workload(ref)
    if listed is not None:
        return listed
    if ref.namespace not in settings.discovery.namespaces:
        return None
    try:
        return WorkloadSettings(namespace=ref.namespace, name=ref.name, kind=ref.kind, overlay=overlay)
    except ValidationError:
        return None


def by_key(
    settings: RepoSettings,
    key: str,
    paths: Iterable[str],
    read: Callable[[str], bytes | None],
    *,
    digest: str | None = None,
) -> WorkloadSettings | None:
    """The workload of a key (`namespace/kind-name`): listed, or with a decision record of its own among `paths` of a tree.

    `read` gives the bytes of a path. Workloads of one name in two namespaces have records of one name, each in its overlay; one
    that moved to another overlay may have left an old one behind: then it is the record with that plan's `digest`.
    """
    listed = next((w for w in settings.workloads if w.ref.key == key), None)
    if listed is not None:
        return listed
    ref = ref_of_key(key)
    if ref is None or ref.namespace not in settings.discovery.namespaces:
        return None
    name = plan_path(".", ref.slug)
    named = (path for path in sorted(paths) if path == name or path.endswith("/" + name))
    plans = [plan for path in named if (plan := _record_of(ref, path, read(path))) is not None]
    if len(plans) > 1:
        plans = [plan for plan in plans if plan.digest == digest]
    return admitted(settings, ref, plans[0].overlay) if len(plans) == 1 else None


def _record_of(ref: WorkloadRef, path: str, record: bytes | None) -> Plan | None:
    """The decision record at `path`, where it is one of `ref`."""
    try:
        plan = Plan.parse_json(record or b"", what=path)
    except InputError:
        return None
    return plan if plan.workload == ref and plan_path(plan.overlay, ref.slug) == path else None


def ref_of_key(key: str) -> WorkloadRef | None:
    """The workload that a key means; None for text that is no key."""
    namespace, _, rest = key.partition("/")
    kinds = {kind.lower(): kind for kind in API_VERSIONS}
    kind, _, name = rest.partition("-")
    try:
        return WorkloadRef.model_validate({"namespace": namespace, "kind": kinds.get(kind), "name": name})
    except ValidationError:
        return None


def is_enrolled(settings: RepoSettings, ref: WorkloadRef, build: str | None) -> bool:
    """True when the workload is listed, or carries the label in what the base branch builds."""
    if settings.workload(ref) is not None:
        return True
    leaves = _built(ref, build)
    label = leaves.at(*_LABELS, LABEL_ENABLED) if leaves is not None else None
    return label is not None and label.text == "true"


def refused_place(
    settings: RepoSettings, workload: WorkloadSettings, files: Mapping[str, bytes], build: str | None
) -> str:
    """Why the component of that overlay is no place for the workload's values; empty where it is one.

    `files` and `build` are those of the base branch. Which overlay a listed workload has is its team's own choice; one that was
    discovered must have no other workloads behind it, which no plan names. Raises InputError for a record that can't be read.
    """
    ref, overlay = workload.ref, workload.overlay
    others = built_on_by(files, overlay) if settings.workload(ref) is None else ()
    if others:
        return f"{others[0]} builds on {overlay}: a change there reaches further than {ref}; list it, or sync an overlay of its own"
    path = plan_path(overlay, ref.slug)
    if path not in files:
        return ""
    owner = Plan.parse_json(files[path], what=path).workload
    if owner == ref or _built(owner, build) is None:
        return ""
    return f"{path} is the record of {owner}; give one of the two another name, or an overlay of its own"


def world_size(workload: WorkloadSettings, passport: Passport, build: str | None) -> int:
    """The number of data-parallel workers: configured, annotated, from the passport, or pods times GPUs; at least 1.

    Raises InputError when two documents of the build have the workload's identity.
    """
    if workload.world_size is not None:
        return workload.world_size
    leaves = _built(workload.ref, build)
    if leaves is not None:
        for place in _PLACES:
            said = leaves.at(*place, WORLD_SIZE)
            if said is not None and _number(said.text):
                return _number(said.text)
    if passport.world_size is not None:
        return passport.world_size
    return _from_template(leaves) if leaves is not None else 1


@dataclass(frozen=True)
class Reach:
    """What a restart of the workload takes down, as its overlay builds it. `gpus` are those of all pods together."""

    pods: int
    gpus: int


def reach(ref: WorkloadRef, build: str | None) -> Reach | None:
    """The pods and GPUs behind a pod template; None where the build does not say (a list of roles, say)."""
    leaves = _built(ref, build)
    if leaves is None or not ref.templated:
        return None
    pods, gpus = _pods_and_gpus(leaves)
    return Reach(pods=pods, gpus=pods * gpus)


def _from_template(leaves: yamldocs.Leaves) -> int:
    pods, gpus = _pods_and_gpus(leaves)
    return max(1, pods) * max(1, gpus)


def _pods_and_gpus(leaves: yamldocs.Leaves) -> tuple[int, int]:
    # A Job tells its pods by `parallelism`.
    replicas = leaves.at("spec", "replicas") or leaves.at("spec", "parallelism")
    pods = _number(replicas.text) if replicas is not None else 1
    gpus = 0
    for path, leaf in leaves.leaves.items():
        if (
            path[: len(_CONTAINERS)] == _CONTAINERS
            and path[-3:-1] == ("resources", "limits")
            and path[-1] in GPU_RESOURCES
        ):
            gpus += _number(leaf.text)
    return pods, gpus


def _built(ref: WorkloadRef, build: str | None) -> yamldocs.Leaves | None:
    return None if build is None else yamldocs.find_document(build, ref.api_version, ref.kind, ref.namespace, ref.name)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 7 else 0
