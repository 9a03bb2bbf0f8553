"""What kustomize built, read as leaves: which documents there are, and which values differ between two builds.

A leaf is a scalar, or a mapping or list with nothing in it, so that a document is exactly its leaves and no change can
hide. Values are compared as text and type, never constructed: two parsers may disagree about `010`, not about its text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from gitops_mk.core.yamltree import Document, YamlLimits, read_stream
from gitops_mk.errors import InputError

Path = tuple[str | int, ...]

DEFAULT_NAMESPACE = "default"

# Generous for a single object (large CustomResourceDefinitions are near 1 MiB); only documents that matter are parsed.
DOCUMENT_LIMITS = YamlLimits(max_bytes=8 * 1024 * 1024, max_depth=200, max_nodes=500_000, max_expanded=500_000)

# A line that begins with `---` or `...` is a marker wherever it stands: no scalar may hold one (YAML 1.2.2, 9.1.2).
_MARKER = re.compile(r"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)


class Leaf(NamedTuple):
    """A value at a path. `type` as `yamltree.Event.type` says it, or `map` and `list` for an empty one."""

    type: str
    text: str

    def __str__(self) -> str:
        return {"map": "{}", "list": "[]", "str": repr(self.text)}.get(self.type, self.text or self.type)


class DocumentId(NamedTuple):
    """Which object a document is; `namespace` is empty where the document names none."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def whole(self) -> DocumentId:
        """The identity to compare by: an object that names no namespace counts as one of `default`.

        Where Argo CD (destination.namespace) or Flux (targetNamespace) name it, no build holds it.
        """
        return self._replace(namespace=self.namespace or DEFAULT_NAMESPACE)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Leaves:
    """One document, flattened. Path parts are mapping keys and list indices."""

    id: DocumentId
    leaves: Mapping[Path, Leaf]

    def at(self, *path: str | int) -> Leaf | None:
        """The leaf at `path`, if there is one."""
        return self.leaves.get(path)


@dataclass(frozen=True)
class LeafChange:
    """A leaf that differs; None on the side where the path has no leaf."""

    path: Path
    before: Leaf | None
    after: Leaf | None

    @property
    def dotted(self) -> str:
        """The path for people: `spec.template.metadata.annotations[modekeeper/knob.x]`."""
        return dotted(self.path)


@dataclass(frozen=True)
class DocumentChange:
    """A document that both builds have, and its leaves that differ, by path."""

    id: DocumentId
    leaves: tuple[LeafChange, ...]


@dataclass(frozen=True)
class Changes:
    """How one build differs from another. Documents that differ only in comments or layout are not in `changed`."""

    added: tuple[DocumentId, ...]
    removed: tuple[DocumentId, ...]
    changed: tuple[DocumentChange, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def dotted(path: Path) -> str:
    """A path for people; keys with dots or slashes stand in brackets."""
    parts = [str(p) if isinstance(p, str) and re.fullmatch(r"[\w-]+", p) else f"[{p}]" for p in path]
    return ".".join(parts).replace(".[", "[")


def split_documents(text: str) -> list[str]:
    """The documents of a build as text, without their markers; blank ones are left out.

    Each keeps its end: the line breaks there belong to a block scalar that stands last (YAML 1.2.2, 8.1.1.2).
    """
    return [part for part in (p.lstrip("\r\n") for p in _MARKER.split(text)) if part.strip()]


@lru_cache(maxsize=128)
def parse_document(text: str, *, what: str = "built document") -> Leaves | None:
    """Flatten one document; None for one that holds only comments. Raises InputError for anything but one mapping.

    Remembered by its text: several steps of verify look at the same few documents.
    """
    documents = read_stream(text, what=what, limits=DOCUMENT_LIMITS).documents
    if len(documents) > 1:
        raise InputError(f"{what}: {len(documents)} YAML documents, expected one")
    if not documents or documents[0].events[0].type == "null":
        return None
    root = documents[0].events[0]
    if root.kind != "map":
        raise InputError(f"{what}: not a mapping at {root.where}, expected a Kubernetes object")
    leaves: dict[Path, Leaf] = {}
    _flatten(documents[0], what, leaves)
    return Leaves(_identity(leaves), leaves)


def documents(text: str, *, kind: str | None = None) -> list[Leaves]:
    """The parsed documents of a build, those of `kind` where one is given. Raises InputError."""
    parsed = [parse_document(part) for part in split_documents(text) if kind is None or kind in part]
    return [doc for doc in parsed if doc is not None and kind in (None, doc.id.kind)]


def find_document(text: str, api_version: str, kind: str, namespace: str | None, name: str) -> Leaves | None:
    """The one document of a build with that identity; no `namespace`, here or there, is the same as `default`.

    Raises InputError when two documents have it.
    """
    found = _matching(text, api_version, kind, namespace, name)
    return found[0][1] if found else None


def document_text(text: str, api_version: str, kind: str, namespace: str | None, name: str) -> str | None:
    """The same document as it is written. Raises InputError when two documents have that identity."""
    found = _matching(text, api_version, kind, namespace, name)
    return found[0][0] if found else None


def _matching(text: str, api_version: str, kind: str, namespace: str | None, name: str) -> list[tuple[str, Leaves]]:
    wanted = DocumentId(api_version, kind, namespace or "", name).whole
    # kustomize writes such names unescaped; a document without the words can't be it and need not be parsed.
    parts = [part for part in split_documents(text) if name in part and kind in part]
    parsed = [(part, parse_document(part)) for part in parts]
    found = [(part, doc) for part, doc in parsed if doc is not None and doc.id.whole == wanted]
    if len(found) > 1:
        raise _twice(wanted)
    return found


def annotations_of(leaves: Leaves, prefix: Path = ("metadata", "annotations")) -> dict[str, str]:
    """The annotations below `prefix`, by key. Raises InputError for a value that is no text."""
    found = {}
    for path, leaf in leaves.leaves.items():
        if len(path) == len(prefix) + 1 and path[: len(prefix)] == prefix:
            if leaf.type not in ("str", "plain"):
                raise InputError(f"{leaves.id}: {dotted(path)} is {leaf} ({leaf.type}), expected text in quotes")
            found[str(path[-1])] = leaf.text
    return found


def changed_leaves(base_text: str, head_text: str) -> Changes:
    """How the build `head_text` differs from `base_text`. Documents with equal text are not parsed.

    Raises InputError when a build holds two documents of one identity.
    """
    base_parts, head_parts = split_documents(base_text), split_documents(head_text)
    same = Counter(base_parts) & Counter(head_parts)
    base = _by_identity(base_parts, same)
    head = _by_identity(head_parts, same)
    changed = []
    for key in sorted(base.keys() & head.keys()):
        differing = _differing(base[key].leaves, head[key].leaves)
        if differing:
            changed.append(DocumentChange(key, differing))
    return Changes(
        added=tuple(sorted(head.keys() - base.keys())),
        removed=tuple(sorted(base.keys() - head.keys())),
        changed=tuple(changed),
    )


def _by_identity(parts: Iterable[str], same: Counter[str]) -> dict[DocumentId, Leaves]:
    left = Counter(same)
    skipped: list[str] = []
    found: dict[DocumentId, Leaves] = {}
    for part in parts:
        if left[part] > 0:
            left[part] -= 1
            skipped.append(part)
            continue
        doc = parse_document(part)
        if doc is None:
            continue
        if doc.id in found:
            raise _twice(doc.id)
        found[doc.id] = doc
    for part, count in Counter(skipped).items():
        twin = count > 1 or any(key.name in part and key.kind in part for key in found)
        doc = parse_document(part) if twin else None
        if doc is not None and (count > 1 or doc.id in found):
            raise _twice(doc.id)
    return found


def _twice(key: DocumentId) -> InputError:
    return InputError(f"{key} ({key.api_version}) stands twice in the build, expected once")


def _differing(before: Mapping[Path, Leaf], after: Mapping[Path, Leaf]) -> tuple[LeafChange, ...]:
    paths = [p for p in before.keys() | after.keys() if before.get(p) != after.get(p)]
    paths.sort(key=lambda path: [(isinstance(p, str), p if isinstance(p, int) else 0, str(p)) for p in path])
    return tuple(LeafChange(p, before.get(p), after.get(p)) for p in paths)


def _identity(leaves: Mapping[Path, Leaf]) -> DocumentId:
    paths: tuple[Path, ...] = (("apiVersion",), ("kind",), ("metadata", "namespace"), ("metadata", "name"))
    return DocumentId(*(leaves[p].text if p in leaves else "" for p in paths))


def _flatten(document: Document, what: str, leaves: dict[Path, Leaf]) -> None:
    """Fill `leaves`, without recursion: an alias stands for what it names, within the bounds held while parsing."""
    todo: list[tuple[Path, int]] = [((), 0)]
    while todo:
        path, at = todo.pop()
        index = document.resolve(at)
        event = document.events[index]
        if event.kind == "scalar":
            leaves[path] = Leaf(event.type, event.value)
            continue
        children = document.children(index)
        if event.tag is not None:
            raise InputError(f"{what}: tag {event.tag} at {event.where}, expected plain Kubernetes objects")
        if not children:
            leaves[path] = Leaf(event.type, "")
        elif event.kind == "seq":
            todo.extend(((*path, number), child) for number, child in enumerate(children))
        else:
            for key, value in zip(children[::2], children[1::2], strict=True):
                todo.append(((*path, _key(document, key, what)), value))


def _key(document: Document, at: int, what: str) -> str:
    """A mapping key as a part of a path; one that is no text says so, so that `1` and `"1"` differ."""
    event = document.events[document.resolve(at)]
    if event.kind != "scalar" or (event.value == "<<" and not event.style):
        raise InputError(f"{what}: a key at {event.where} is no plain text, expected plain Kubernetes objects")
    return event.value if event.type == "str" and not event.value.startswith("!") else f"!{event.type} {event.value}"
