"""The ConfigMap that carries a workload's knobs: which one, and whether a change in it reaches the running pods (ADR 0019)."""

from __future__ import annotations

import re
from typing import Final

from gitops_mk.core import yamldocs
from gitops_mk.core.mounts import uses
from gitops_mk.errors import InputError
from gitops_mk.model.knob import KNOWN_KNOBS
from gitops_mk.model.settings import RepoSettings, WorkloadSettings
from gitops_mk.model.workload import API_VERSIONS, Carrier, KnobMap, WorkloadRef

# On the workload: the name of its ConfigMap, where the configuration does not name it.
CONFIG_MAP: Final = "modekeeper.dev/config-map"

# What kustomize appends to the names that it makes of contents: ten of its own sixteen digits.
_HASHED: Final = re.compile(r"-[2456789bcdfghkmt]{10}\Z")
_ANNOTATION: Final = ("metadata", "annotations", CONFIG_MAP)


def carrier_of(settings: RepoSettings, workload: WorkloadSettings, build: str | None) -> Carrier:
    """The object that carries the workload's knobs, as the overlay builds it: the workload itself, or a ConfigMap.

    `settings` and `build` are those of the base branch. Raises InputError for a ConfigMap that is not there, or whose change
    would not reach the running pods, or would reach another workload's.
    """
    ref = workload.ref
    doc = None if build is None else yamldocs.find_document(build, ref.api_version, ref.kind, ref.namespace, ref.name)
    said = None if doc is None else doc.at(*_ANNOTATION)
    by_annotation = said is not None and settings.workload(ref) is None
    if doc is None or build is None or (workload.delivery == "annotation" and not by_annotation):
        return ref
    name = workload.config_map or (said.text if said is not None else _mounted(doc, build))
    carrier = KnobMap.parse({"namespace": ref.namespace, "name": name}, what=f"{ref}: its ConfigMap")
    _refuse(settings, ref, doc, carrier, build)
    return carrier


def may_deliver(settings: RepoSettings, workload: WorkloadSettings, annotation: object) -> bool:
    """True when a ConfigMap carries the knobs, as far as the configuration and the workload's annotation say."""
    return workload.delivery == "configmap" or (annotation is not None and settings.workload(workload.ref) is None)


def _mounted(doc: yamldocs.Leaves, build: str) -> str:
    """The one mounted ConfigMap that holds a built-in knob."""
    ref = doc.id.whole
    found_uses = uses(doc, build)
    # Where none is mounted whole, what is used in another way is told apart by the refusal.
    names = sorted({use.config_map for use in found_uses if use.how is None} or {use.config_map for use in found_uses})
    carrying = []
    for name in names:
        found = yamldocs.find_document(build, KnobMap.api_version, KnobMap.kind, ref.namespace, name)
        if found is not None and any(found.at("data", knob) is not None for knob in KNOWN_KNOBS):
            carrying.append(name)
    if len(carrying) != 1:
        raise InputError(
            f"{ref}: {len(carrying)} mounted ConfigMaps hold a built-in knob ({', '.join(carrying) or 'none'}), expected one",
            hint="name it: `config_map` of the workload in .modekeeper/config.yaml, or its annotation " + CONFIG_MAP,
        )
    return carrying[0]


def _refuse(settings: RepoSettings, ref: WorkloadRef, doc: yamldocs.Leaves, carrier: KnobMap, build: str) -> None:
    """Raises InputError where the ConfigMap is no way to the running pods of this workload alone."""
    found = yamldocs.find_document(build, carrier.api_version, carrier.kind, carrier.namespace, carrier.name)
    if found is None:
        raise absent(carrier, build)
    immutable = found.at("immutable")
    if immutable is not None and immutable.text == "true":
        raise InputError(f"{carrier} is immutable: its values can't change", hint="take `immutable` out of it")
    all_uses = [use for use in uses(doc, build) if use.config_map == carrier.name]
    mine = [use.how for use in all_uses if not use.ended]
    if all_uses and not mine:
        raise InputError(
            f"{ref} uses {carrier} in init containers alone: they have ended when a change comes",
            hint="mount the whole ConfigMap as a directory in the container that reads the knobs",
        )
    if not mine:
        raise InputError(
            f"{ref} does not mount {carrier} as the overlay builds it",
            hint="mount it whole, as a volume; where kustomize renames it, the reference of a CRD's volume stays as it was",
        )
    for how in mine:
        if how is not None:
            raise InputError(
                f"{ref} uses {carrier} {how}: a change would not reach the running pods",
                hint="mount the whole ConfigMap as a directory, and read the knobs from there only",
            )
    for other in (doc for kind in API_VERSIONS for doc in yamldocs.documents(build, kind=kind)):
        owner = _workload(other)
        if owner is None or owner == ref or owner.namespace != carrier.namespace:
            continue
        if any(use.config_map == carrier.name for use in uses(other, build)):
            raise InputError(
                f"{owner} uses {carrier}, too: one change would move the knobs of both",
                hint="give the workload a ConfigMap of its own",
            )


def absent(carrier: KnobMap, build: str) -> InputError:
    """Why a build holds no such ConfigMap."""
    names = [doc.id.name for doc in yamldocs.documents(build, kind=carrier.kind)]
    hashed = [name for name in names if _HASHED.sub("", name) == carrier.name and name != carrier.name]
    return suffixed(carrier, hashed[0]) if hashed else _unbuilt(carrier, names)


def suffixed(carrier: KnobMap, built: str) -> InputError:
    """The refusal of a ConfigMap whose name kustomize makes of its contents."""
    return InputError(
        f"{carrier} is made by a generator that appends a hash of its contents ({built}): each change would be another "
        "ConfigMap, and restart the pods",
        hint="make it a plain resource, or set `options: {disableNameSuffixHash: true}` on the generator in the base",
    )


def _unbuilt(carrier: KnobMap, names: list[str]) -> InputError:
    return InputError(
        f"the overlay builds no {carrier}; it builds {', '.join(sorted(names)[:8]) or 'no ConfigMap at all'}",
        hint="name it as the overlay builds it, prefix and suffix included",
    )


def _workload(doc: yamldocs.Leaves) -> WorkloadRef | None:
    key = doc.id.whole
    if API_VERSIONS.get(key.kind) != key.api_version:
        return None
    try:
        return WorkloadRef.parse({"namespace": key.namespace, "kind": key.kind, "name": key.name}, what="its identity")
    except InputError:
        return None
