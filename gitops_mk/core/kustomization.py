"""What a kustomization refers to, and which references are refused before kustomize starts. No file is touched here.

kustomize would fetch remote bases (http, git), inflate Helm charts and, when allowed to, run plugins. None of that is
needed to plan or to verify, so it never gets that far: every path a build may open is found here, must lie in the tree,
and only those files are handed to kustomize. Field names are compared as Go's JSON decoder does, without case.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from gitops_mk.core.yamltree import Document, YamlLimits, read_stream
from gitops_mk.errors import InputError

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")

_MAX_KUSTOMIZATIONS = 1000
_MAX_DEPTH = 64
_PLUGIN_LIMITS = YamlLimits(max_bytes=1024 * 1024)
_TAGS = frozenset({"str", "map", "seq", "int", "float", "bool", "null"})
_HOSTS = ("github.com", "www.github.com", "gitlab.com", "bitbucket.org", "dev.azure.com")
_REMOTE = re.compile(
    r"""
      \s*.*://                      # any scheme
    | [a-z][a-z0-9+.-]*:(?!$)       # scp style, gh:, git::
    | [^/]*@[^/]+[:/]               # user@host
    | .*\?                          # ?ref=, ?timeout=
    | .*(\.git|_git)(/|$)           # a repository inside a URL without scheme
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_HELM = {
    "helmcharts": "inflates Helm charts",
    "helmchartinflationgenerator": "inflates Helm charts",
    "helmglobals": "inflates Helm charts",
}
_FILE_LISTS = ("crds", "configurations")
_TREE_LISTS = ("resources", "bases", "components")
_PLUGIN_LISTS = ("generators", "transformers", "validators")
_FUNCTION_KEYS = ("config.kubernetes.io/function", "config.k8s.io/function")
# Fields of built-in plugins that name files; `path` may also be a field path, so such a file need not exist.
_PLUGIN_FILE_KEYS = frozenset({"path", "paths", "file", "files", "env", "envs", "valuesfile", "additionalvaluesfiles"})
_HINT = "ModeKeeper builds offline: keep everything the overlay needs in the repository, and run no plugins"


@dataclass(frozen=True)
class Closure:
    """Everything a build of `overlay` reads: file paths, and the folders that hold a kustomization."""

    overlay: str
    files: frozenset[str]
    directories: frozenset[str]


def kustomization_path(files: Mapping[str, bytes], directory: str) -> str | None:
    """The kustomization file of a folder. Raises InputError when there are several, as kustomize does."""
    found = [path for path in (_join(directory, name) for name in NAMES) if path in files]
    if len(found) > 1:
        raise InputError(f"{directory}: {' and '.join(found)}, expected one kustomization file")
    return found[0] if found else None


def closure(files: Mapping[str, bytes], overlay: str) -> Closure:
    """What building `overlay` from `files` (path -> bytes) reads.

    Raises InputError for remote references, Helm charts, plugins that are not built in, and whatever is missing or
    outside the tree.
    """
    return _Scan(files, overlay).run()


def fields(files: Mapping[str, bytes], path: str) -> dict[str, Any]:
    """A kustomization as plain data, top-level field names in lower case; scalars are text, null is None.

    Raises InputError.
    """
    documents = read_stream(files[path], what=path).documents
    for extra in documents[1:]:
        if extra.events[0].type != "null":
            raise InputError(f"{path}: a second document at {extra.events[0].where}, expected one")
    data = _plain(documents[0], 0, path) if documents else None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError(f"{path}: not a mapping, expected a kustomization")
    return _lower(data, path)


def built_on_by(files: Mapping[str, bytes], folder: str) -> tuple[str, ...]:
    """The folders whose kustomization lists `folder` as a resource, base or component: what changes there reaches them too.

    One that can't be read, and holds the folder's name, counts.
    """
    wanted = posixpath.normpath(folder)
    found = []
    for path in sorted(files):
        here = posixpath.dirname(path) or "."
        if posixpath.basename(path) not in NAMES or here == wanted:
            continue
        # However the way there is spelt, its last part stands in it: most files need not be parsed.
        if posixpath.basename(posixpath.relpath(wanted, here)).encode() not in files[path]:
            continue
        try:
            data = fields(files, path)
            listed = [entry for name in _TREE_LISTS for entry in _texts(data, name, path)]
        except InputError:
            listed = [posixpath.relpath(wanted, here)]
        if any(_join(here, entry) == wanted for entry in listed):
            found.append(here)
    return tuple(found)


def _lower(data: Any, path: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        return {}
    lowered: dict[str, Any] = {}
    for key, value in data.items():
        name = key.casefold()
        if name in lowered:
            raise InputError(f"{path}: field {key!r} stands twice, expected once (kustomize ignores case)")
        lowered[name] = value
    return lowered


def _plain(document: Document, at: int, what: str, depth: int = 0) -> Any:
    """A node as dicts, lists, text and None; aliases followed and merge keys merged, as kustomize's parser does."""
    index = document.resolve(at)
    event = document.events[index]
    if depth > _MAX_DEPTH:
        raise InputError(f"{what}: aliases nest deeper than {_MAX_DEPTH} levels at {event.where}")
    if event.tag is not None and event.type not in _TAGS:
        raise InputError(f"{what}: tag {event.tag} at {event.where}, expected plain values")
    if event.kind == "scalar":
        return None if event.type == "null" else event.value
    children = document.children(index)
    if event.kind == "seq":
        return [_plain(document, child, what, depth + 1) for child in children]
    own: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key, value in zip(children[::2], children[1::2], strict=True):
        name = _plain(document, key, what, depth + 1)
        found = _plain(document, value, what, depth + 1)
        if name == "<<":
            for source in found if isinstance(found, list) else [found]:
                merged = (source if isinstance(source, dict) else {}) | merged
        elif name is None or isinstance(name, str):
            own[name or "null"] = found
        else:
            raise InputError(f"{what}: a key at {document.events[key].where} is no text")
    return merged | own


def _join(directory: str, entry: str) -> str:
    return posixpath.normpath(posixpath.join(directory, entry))


@dataclass(frozen=True)
class _Visit:
    """A folder to scan. `plugin`: what it yields is plugin configuration."""

    directory: str
    plugin: bool
    origin: str


class _Scan:
    """One walk over the kustomizations that an overlay reaches."""

    def __init__(self, files: Mapping[str, bytes], overlay: str) -> None:
        self.files = files
        self.overlay = overlay
        self.read: set[str] = set()
        self.done: set[tuple[str, bool]] = set()
        self.todo: list[_Visit] = []
        self.folders = {"."}
        for path in files:
            folder = posixpath.dirname(path)
            while folder and folder not in self.folders:
                self.folders.add(folder)
                folder = posixpath.dirname(folder)

    def run(self) -> Closure:
        self._visit(_Visit(posixpath.normpath(self.overlay), plugin=False, origin="the overlay"))
        while self.todo:
            self._visit(self.todo.pop())
        return Closure(self.overlay, frozenset(self.read), frozenset(folder for folder, _ in self.done))

    def _visit(self, visit: _Visit) -> None:
        key = (visit.directory, visit.plugin)
        if key in self.done:
            return
        self.done.add(key)
        if len(self.done) > _MAX_KUSTOMIZATIONS:
            raise InputError(f"{visit.origin}: reaches more than {_MAX_KUSTOMIZATIONS} kustomizations")
        path = kustomization_path(self.files, visit.directory)
        if path is None:
            raise InputError(
                f"{visit.origin}: folder {visit.directory!r} has no kustomization, expected one of {', '.join(NAMES)}"
            )
        self.read.add(path)
        data = fields(self.files, path)
        for name, what in _HELM.items():
            if data.get(name):
                raise InputError(f"{path}: `{name}` {what}, which is not allowed", hint=_HINT)
        for name in _TREE_LISTS:
            for entry in _texts(data, name, path):
                self._tree(visit, path, name, entry)
        for name in _FILE_LISTS:
            for entry in _texts(data, name, path):
                self._file(visit, path, name, entry)
        for name, entry in _file_references(data, path):
            self._file(visit, path, name, entry)
        for name in _PLUGIN_LISTS:
            for entry in _texts(data, name, path):
                if _is_inline(entry):
                    self._plugin(visit, path, f"inline entry of `{name}`", entry.encode())
                else:
                    self._tree(_Visit(visit.directory, plugin=True, origin=visit.origin), path, name, entry)

    def _place(self, visit: _Visit, path: str, name: str, entry: str) -> str:
        _refuse_remote(path, name, entry)
        place = _join(visit.directory, entry)
        if entry.startswith("/") or place == ".." or place.startswith("../"):
            raise InputError(f"{path}: `{name}` names {entry!r}, which leaves the repository", hint=_HINT)
        return place

    def _tree(self, visit: _Visit, path: str, name: str, entry: str) -> None:
        place = self._place(visit, path, name, entry)
        if place in self.files and name != "components":
            self.read.add(place)
            if visit.plugin:
                self._plugin(visit, path, place, self.files[place])
        elif place in self.folders:
            self.todo.append(_Visit(place, visit.plugin, origin=path))
        else:
            self._missing(path, name, entry, place)

    def _file(self, visit: _Visit, path: str, name: str, entry: str) -> None:
        place = self._place(visit, path, name, entry)
        if place not in self.files:
            self._missing(path, name, entry, place)
        self.read.add(place)

    def _missing(self, path: str, name: str, entry: str, place: str) -> NoReturn:
        raise InputError(
            f"{path}: `{name}` names {entry!r}, and {place!r} is not in the repository",
            hint="a path that is not in the tree would be taken for a remote one; add the file or fix the path",
        )

    def _plugin(self, visit: _Visit, path: str, what: str, text: bytes) -> None:
        """Check the configuration of generators, transformers or validators: built in, and with files in the tree."""
        where = what if what in self.files else f"{path}: {what}"
        for document in read_stream(text, what=where, limits=_PLUGIN_LIMITS).documents:
            data = _plain(document, 0, where)
            if data is None:
                continue
            top = _lower(data, where)
            kind = str(top.get("kind"))
            notes = _lower(_lower(top.get("metadata"), where).get("annotations"), where)
            if any(key in notes for key in _FUNCTION_KEYS):
                raise InputError(f"{where}: {kind} runs a function, which is not allowed", hint=_HINT)
            if top.get("apiversion") != "builtin" or "helm" in kind.lower():
                raise InputError(f"{where}: {kind} of {top.get('apiversion')} is not a built-in plugin", hint=_HINT)
            for name, entry in _plugin_files(top):
                _refuse_remote(where, name, entry)
                place = _join(visit.directory, entry)
                if place in self.files:
                    self.read.add(place)


def _is_inline(entry: str) -> bool:
    """Whether a list entry is YAML itself. What starts like a URL never is: kustomize tries to open an entry first."""
    return not re.match(r"\s*https?:", entry, re.IGNORECASE) and bool(re.search(r"\n|:\s|^\s*\{", entry))


def _refuse_remote(path: str, name: str, entry: str) -> None:
    host = entry.split("/", 1)[0].lower()
    if _REMOTE.match(entry) or host in _HOSTS or ("//" in entry and "." in host.strip(".")):
        raise InputError(f"{path}: `{name}` names the remote {entry!r}, expected a path in the repository", hint=_HINT)


def _texts(data: Mapping[str, Any], name: str, path: str) -> list[str]:
    """The entries of a list field; raises InputError where it is no list of text."""
    entries = data.get(name)
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise InputError(f"{path}: `{name}` is not a list of paths")
    return entries


def _maps(data: Mapping[str, Any], name: str, path: str) -> list[dict[str, Any]]:
    """The entries of a list field, each a mapping; raises InputError where it is something else."""
    entries = data.get(name)
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: `{name}` is not a list of mappings")
    return [_lower(entry, path) for entry in entries]


def _file_references(data: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """(field, path) of every file that a kustomization names outside its lists of trees."""
    for entry in _texts(data, "patchesstrategicmerge", path):
        if not _is_inline(entry):
            yield "patchesStrategicMerge", entry
    for name in ("patches", "patchesjson6902", "replacements"):
        for item in _maps(data, name, path):
            if item.get("path"):
                yield f"{name}.path", str(item["path"])
    for name in ("configmapgenerator", "secretgenerator"):
        for item in _maps(data, name, path):
            for entry in _texts(item, "files", path):
                yield f"{name}.files", entry.split("=", 1)[-1]
            for entry in _texts(item, "envs", path):
                yield f"{name}.envs", entry
            if item.get("env"):
                yield f"{name}.env", str(item["env"])
    if (openapi := _lower(data.get("openapi"), path)).get("path"):
        yield "openapi.path", str(openapi["path"])


def _plugin_files(data: Any) -> Iterator[tuple[str, str]]:
    """(field, text) of everything in a plugin's configuration that may name a file."""
    todo: list[tuple[str, Any]] = [("", data)]
    while todo:
        name, value = todo.pop()
        if isinstance(value, dict):
            todo.extend((key.casefold(), item) for key, item in value.items())
        elif isinstance(value, list):
            todo.extend((name, item) for item in value)
        elif isinstance(value, str) and name in _PLUGIN_FILE_KEYS and "\n" not in value:
            yield name, value.split("=", 1)[-1]
