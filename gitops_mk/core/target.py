"""Finds what our patch must be called to hit a workload, by asking builds instead of guessing names.

A component sees resources after their own kustomizations and before the overlay's prefix, suffix and namespace (tried
with kustomize 5.0, 5.5 and 5.8). So the overlay is built twice: once without its own transformers, which lists the
candidates under the names a patch may carry, and once as it is, with a probe in our component's place that puts a number
on each of them. The number that the workload comes out with says which candidate it is.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from gitops_mk.core import kustomization
from gitops_mk.core.config_map import absent, suffixed
from gitops_mk.core.places import OBJECT, carriers, knob_path, pointer
from gitops_mk.core.render.component import selector
from gitops_mk.core.render.paths import COMPONENT_DIR
from gitops_mk.core.yamldocs import DEFAULT_NAMESPACE, DocumentId, Leaf, Leaves, documents
from gitops_mk.core.yamlpatch import add_component
from gitops_mk.errors import InputError, ManifestError
from gitops_mk.model.knob import annotation_key
from gitops_mk.model.plan import PatchTarget
from gitops_mk.model.workload import API_VERSIONS, TEMPLATED_KINDS, Carrier, KnobMap

MARK = "modekeeper/probe"
_KEY = "modekeeper.probe"

_MOST_LISTED = 12


class Builder(Protocol):
    """The part of `ports.ManifestBuilder` that is needed here."""

    def build(self, files: Mapping[str, bytes], overlay: str) -> str:
        """The YAML that `overlay` builds. Raises ManifestError."""
        ...


def find_target(builder: Builder, files: Mapping[str, bytes], overlay: str, workload: Carrier) -> PatchTarget:
    """The name and namespace that a patch in the overlay's component must carry to change `workload`, or the ConfigMap.

    Raises InputError when the overlay builds no such object, or only after our component's turn, or under a name made of its
    contents; ManifestError when it can't be built.
    """
    if isinstance(workload, KnobMap):
        _refuse_suffixed(builder, files, overlay, workload)
    inner = builder.build(probe_inner(files, overlay), overlay)
    of_kind = (doc for doc in documents(inner, kind=workload.kind) if doc.id.api_version == workload.api_version)
    candidates = tuple(found for found in (_target(doc, workload) for doc in of_kind) if found is not None)
    try:
        return candidates[match(builder.build(probe_marked(files, overlay, candidates), overlay), workload, overlay)]
    except ManifestError:
        # One candidate that kustomize can't tell from another must not hide the rest: ask for each alone.
        for candidate in candidates if len(candidates) > 1 else ():
            if _hits(builder, files, overlay, workload, candidate):
                return candidate
        raise


def _refuse_suffixed(builder: Builder, files: Mapping[str, bytes], overlay: str, carrier: KnobMap) -> None:
    """Raises InputError for a ConfigMap that goes by another name as soon as its contents are others."""
    # A patch with a selector needs no names, which such a ConfigMap has none of at that point.
    patch = {"apiVersion": carrier.api_version, "kind": carrier.kind, "metadata": {"name": "any"}, "data": {_KEY: MARK}}
    probe = {"patch": json.dumps(patch), "target": {"version": carrier.api_version, "kind": carrier.kind}}
    if _built(builder, files, overlay, carrier) is None:
        raise absent(carrier, builder.build(files, overlay))
    if _built(builder, _with_component(files, overlay, [probe]), overlay, carrier) is None:
        raise suffixed(carrier, carrier.name)


def _built(builder: Builder, files: Mapping[str, bytes], overlay: str, wanted: Carrier) -> Leaves | None:
    return next((doc for doc in documents(builder.build(files, overlay), kind=wanted.kind) if _is(doc, wanted)), None)


def _target(doc: Leaves, wanted: Carrier) -> PatchTarget | None:
    """What a patch of that object must be called; None for a name that no such object can have."""
    where: tuple[str, ...] = ()
    if doc.id.kind not in TEMPLATED_KINDS and not isinstance(wanted, KnobMap):
        # Without a knob anywhere there is nothing to move; the object's own annotations stand in for the probe.
        where = tuple(pointer(path) for path in carriers(doc.id.kind, doc.leaves) or (OBJECT,))
    found = {"api_version": doc.id.api_version, "kind": doc.id.kind, "name": doc.id.name, "places": where}
    found |= {"config_map": wanted.name} if isinstance(wanted, KnobMap) else {}
    try:
        return PatchTarget.parse(found | {"namespace": doc.id.namespace or None}, what="the patch's target")
    except InputError:
        return None


def probe_inner(files: Mapping[str, bytes], overlay: str) -> dict[str, bytes]:
    """The tree with the overlay cut down to its resources and the components that come before ours.

    Raises InputError when the folder holds no readable kustomization.
    """
    path = _overlay_file(files, overlay)
    data = kustomization.fields(files, path)
    kept: dict[str, Any] = {name: data[name] for name in ("resources", "bases") if data.get(name)}
    before = []
    for entry in data.get("components") or []:
        if posixpath.normpath(str(entry)) == COMPONENT_DIR:
            break
        before.append(entry)
    # A kustomization without any field is an error to kustomize.
    kept |= {"components": before, "kind": "Kustomization"}
    return dict(files) | {path: json.dumps(kept).encode()}


def probe_marked(files: Mapping[str, bytes], overlay: str, candidates: Sequence[PatchTarget]) -> dict[str, bytes]:
    """The tree with our component replaced by one that annotates each candidate with its index.

    Where the overlay does not list our component yet, it does here. Raises InputError as `add_component` does.
    """
    return _with_component(
        files,
        overlay,
        [
            {"patch": json.dumps(_patch(target, {"annotations": {MARK: str(index)}}))}
            for index, target in enumerate(candidates)
        ],
    )


def match(built: str, workload: Carrier, overlay: str = "the overlay") -> int:
    """The number that the workload carries in a marked build.

    Raises InputError when the build holds no such workload, or holds it without a number.
    """
    found = documents(built)
    for doc in found:
        if _is(doc, workload):
            mark = doc.at("metadata", "annotations", MARK)
            if mark is not None:
                return int(mark.text)
            raise InputError(
                f"{overlay}: {workload} is made after the turn of component {COMPONENT_DIR!r}, which can't patch it",
                hint=f"list {COMPONENT_DIR!r} last under `components:`, and make the workload a resource, no generator",
            )
    raise _absent(found, workload, overlay)


def overridden(
    builder: Builder,
    files: Mapping[str, bytes],
    overlay: str,
    workload: Carrier,
    target: PatchTarget,
    knobs: Iterable[str],
) -> tuple[str, ...]:
    """Those of `knobs` that a patch in our component can't move: something that the overlay runs later sets them again.

    `target` is what `find_target` gave for `workload`. Raises InputError and ManifestError as `find_target` does.
    """
    asked = tuple(dict.fromkeys(knobs))
    if not asked:
        return ()
    if target.places:
        probe = json_patch_entry(target, {annotation_key(knob): MARK for knob in asked})
    elif target.config_map is not None:
        probe = {"patch": json.dumps(_patch(target, {}) | {"data": dict.fromkeys(asked, MARK)})}
    else:
        marked = {annotation_key(knob): MARK for knob in asked}
        patch = _patch(target, {}) | {"spec": {"template": {"metadata": {"annotations": marked}}}}
        probe = {"patch": json.dumps(patch)}
    found = documents(builder.build(_with_component(files, overlay, [probe]), overlay))
    built = next((doc for doc in found if _is(doc, workload)), None)
    if built is None:
        raise _absent(found, workload, overlay)
    where = carriers(workload.kind, built.leaves)
    at = {knob: [built.at(*knob_path(place, knob)) for place in where] for knob in asked}
    return tuple(knob for knob, leaves in at.items() if any(leaf is None or leaf.text != MARK for leaf in leaves))


def json_patch_entry(target: PatchTarget, annotations: Mapping[str, str]) -> dict[str, Any]:
    """An entry of `patches:` that sets annotations in all places of a target, as a JSON patch (RFC 6902)."""
    operations = [
        {"op": "add", "path": f"{place}/{key.replace('~', '~0').replace('/', '~1')}", "value": value}
        for place in target.places
        for key, value in sorted(annotations.items())
    ]
    return {"patch": json.dumps(operations), "target": selector(target)}


def _with_component(files: Mapping[str, bytes], overlay: str, entries: Sequence[dict[str, Any]]) -> dict[str, bytes]:
    """The tree with these entries of `patches:` in our component, listed where the overlay does not list it yet."""
    path = _overlay_file(files, overlay)
    folder = posixpath.normpath(posixpath.join(overlay, COMPONENT_DIR))
    component = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": list(entries),
    }
    ours = {posixpath.join(folder, name) for name in kustomization.NAMES}
    probed = {name: content for name, content in files.items() if name not in ours}
    probed[path] = add_component(files[path], COMPONENT_DIR, what=path)
    probed[posixpath.join(folder, kustomization.NAMES[0])] = json.dumps(component).encode()
    return probed


def _overlay_file(files: Mapping[str, bytes], overlay: str) -> str:
    path = kustomization.kustomization_path(files, overlay)
    if path is None:
        raise InputError(
            f"{overlay}: no {kustomization.NAMES[0]}, expected the folder of an overlay",
            hint="set `overlay` of the workload in .modekeeper/config.yaml to the folder that Argo CD or Flux sync",
        )
    return path


def _patch(target: PatchTarget, metadata: dict[str, Any]) -> dict[str, Any]:
    where = {"name": target.name} | ({"namespace": target.namespace} if target.namespace else {})
    return {"apiVersion": target.api_version, "kind": target.kind, "metadata": where | metadata}


def _hits(
    builder: Builder, files: Mapping[str, bytes], overlay: str, workload: Carrier, candidate: PatchTarget
) -> bool:
    try:
        built = builder.build(probe_marked(files, overlay, [candidate]), overlay)
    except ManifestError:
        return False
    return any(
        _is(doc, workload) and doc.at("metadata", "annotations", MARK) == Leaf("str", "0") for doc in documents(built)
    )


def _is(doc: Leaves, workload: Carrier) -> bool:
    wanted = DocumentId(workload.api_version, workload.kind, workload.namespace, workload.name)
    return doc.id.whole == wanted.whole


def _absent(found: Sequence[Leaves], workload: Carrier, overlay: str) -> InputError:
    ids = [doc.id for doc in found if doc.id.kind in API_VERSIONS]
    listed = [f"{key} ({key.api_version})" for key in ids[:_MOST_LISTED]]
    if len(ids) > len(listed):
        listed.append(f"and {len(ids) - len(listed)} more")
    hint = "set namespace, name and kind of the workload in .modekeeper/config.yaml to what the overlay builds"
    if any(key.name == workload.name and key.kind == workload.kind and not key.namespace for key in ids):
        hint = (
            f"the overlay names no namespace for it: add `namespace: {workload.namespace}` to its kustomization, or, "
            f"where Argo CD or Flux name it, write `namespace: {DEFAULT_NAMESPACE}` in .modekeeper/config.yaml"
        )
    return InputError(
        f"{overlay}: builds no {workload} ({workload.api_version}); it builds {', '.join(listed) or 'no workload at all'}",
        hint=hint,
    )
