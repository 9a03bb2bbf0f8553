"""Where a workload of each kind carries its knobs: the annotation maps of its pod templates.

Deployment, StatefulSet, DaemonSet and Job have one pod template, at `spec.template`. The others hold theirs in lists or maps of
roles, as their CRDs say: JobSet v1alpha2 (`spec.replicatedJobs[]`), PyTorchJob v1 (`spec.pytorchReplicaSpecs`), TrainJob v1alpha1
(`spec.annotations`, which go to what it creates), RayJob v1 (`spec.rayClusterSpec`). For them the knobs are patched where
they stand, and nowhere else: a role that carries none is not tuned. A ConfigMap carries them under its data, by bare name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gitops_mk.model.knob import ANNOTATION_PREFIX, annotation_key, knobs_from_annotations, knobs_from_data
from gitops_mk.model.workload import TEMPLATED_KINDS, KnobMap

Path = tuple[str | int, ...]

OBJECT: Final[Path] = ("metadata", "annotations")
TEMPLATE: Final[Path] = ("spec", "template", "metadata", "annotations")
DATA: Final[Path] = ("data",)
_ANY: Final = "*"
_PATTERNS: Final[Mapping[str, tuple[Path, ...]]] = {
    "JobSet": (("spec", "replicatedJobs", _ANY, "template", "spec", "template", "metadata", "annotations"),),
    "PyTorchJob": (("spec", "pytorchReplicaSpecs", _ANY, "template", "metadata", "annotations"),),
    "TrainJob": (("spec", "annotations"),),
    "RayJob": (
        ("spec", "rayClusterSpec", "headGroupSpec", "template", "metadata", "annotations"),
        ("spec", "rayClusterSpec", "workerGroupSpecs", _ANY, "template", "metadata", "annotations"),
    ),
}


def carriers(kind: str, leaves: Iterable[Path]) -> tuple[Path, ...]:
    """The maps of `kind` in which a knob stands, among the paths of an object's leaves; in order."""
    if kind == KnobMap.kind:
        return (DATA,)
    if kind in TEMPLATED_KINDS:
        return (TEMPLATE,)
    found = {
        path[:-1]
        for path in leaves
        if str(path[-1]).startswith(ANNOTATION_PREFIX) and any(_fits(path[:-1], p) for p in _PATTERNS.get(kind, ()))
    }
    return tuple(sorted(found, key=lambda path: tuple(map(str, path))))


def knobs_at(kind: str, texts: Mapping[Path, str]) -> dict[str, int]:
    """The knobs of an object, given the text of its leaves. One that two roles give different values has none."""
    values: dict[str, set[int]] = {}
    for place in carriers(kind, texts):
        here = {str(path[-1]): text for path, text in texts.items() if path[:-1] == place}
        read = knobs_from_data if place == DATA else knobs_from_annotations
        for knob, value in read(here).items():
            values.setdefault(knob, set()).add(value)
    return {knob: next(iter(found)) for knob, found in sorted(values.items()) if len(found) == 1}


def knob_path(place: Path, knob: str) -> Path:
    """Where a knob stands in one of the maps that carry it."""
    return (*place, knob if place == DATA else annotation_key(knob))


def texts_of(value: Any, at: Path = ()) -> dict[Path, str]:
    """The text leaves of a JSON value that stands at `at`, by path."""
    found: dict[Path, str] = {}
    todo: list[tuple[Path, Any]] = [(at, value)]
    while todo:
        path, item = todo.pop()
        if isinstance(item, Mapping):
            todo.extend(((*path, str(key)), child) for key, child in item.items())
        elif isinstance(item, list):
            todo.extend(((*path, number), child) for number, child in enumerate(item))
        elif isinstance(item, str):
            found[path] = item
    return found


def pointer(path: Path) -> str:
    """A path as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def parse_pointer(text: str) -> Path:
    """The path of a JSON pointer; a whole number is an index."""
    parts = (part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])
    return tuple(int(part) if part.isascii() and part.isdecimal() else part for part in parts)


def _fits(path: Path, pattern: Path) -> bool:
    return len(path) == len(pattern) and all(want in (_ANY, part) for part, want in zip(path, pattern, strict=True))
