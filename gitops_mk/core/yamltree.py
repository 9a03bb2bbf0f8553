"""Untrusted YAML as a flat list of parse events, within bounds: what every reader of YAML in `core` starts from.

Nothing is constructed and no alias is followed: no value here depends on one library's idea of a type, and no
document grows in memory beyond its text. Events are those of the YAML 1.2 specification, section 3.1; equal event lists
mean equal node graphs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.reader import ReaderError

from gitops_mk.errors import InputError

Kind = Literal["map", "seq", "scalar", "alias", "end"]
Shape = tuple[str, str, str | None, str | None, str, bool]

_CORE = "tag:yaml.org,2002:"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# What one version of YAML reads as a number, date or boolean and another as text.
_AMBIGUOUS = re.compile(r"[-+.]*[0-9].*|[-+]?\.(inf|nan)|y|n|yes|no|on|off|=", re.IGNORECASE | re.DOTALL)
# Characters that may be scanned again because of tabs that separate tokens.
_TAB_BUDGET = 4_000_000


@dataclass(frozen=True)
class YamlLimits:
    """Bounds on one text: bytes, nesting depth, nodes as written, and nodes with every alias followed."""

    max_bytes: int = 256 * 1024
    max_depth: int = 32
    max_nodes: int = 20_000
    max_expanded: int = 100_000


@dataclass(frozen=True, slots=True)
class Event:
    """One parse event. `start` and `end` are offsets in characters; `line` and `column` count from 1.

    `value` is a scalar's text or an alias' name. `style` is empty for a plain scalar, else the character that opens it.
    """

    kind: Kind
    value: str
    tag: str | None
    anchor: str | None
    style: str
    flow: bool
    start: int
    end: int
    line: int
    column: int

    @property
    def shape(self) -> Shape:
        """All of it but the place."""
        return (self.kind, self.value, self.tag, self.anchor, self.style, self.flow)

    @property
    def where(self) -> str:
        """The place, for messages."""
        return f"line {self.line} column {self.column}"

    @property
    def type(self) -> str:
        """What the node is: `map`, `list`, `str`, `null`, `bool`, `int`, `float`, an own tag in full, or `plain`.

        `plain` is a scalar about which the versions of YAML in use disagree.
        """
        if self.tag is not None and self.tag != "!":
            return self.tag.removeprefix(_CORE)
        if self.kind != "scalar":
            return "list" if self.kind == "seq" else self.kind
        text = self.value
        if self.style or self.tag == "!":
            found = "str"
        elif text in _NULL:
            found = "null"
        elif text in _BOOL:
            found = "bool"
        elif _INT.fullmatch(text):
            found = "int"
        elif _FLOAT.fullmatch(text) and not re.fullmatch(r"[-+]?[0-9]+", text):
            found = "float"
        else:
            found = "plain" if _AMBIGUOUS.fullmatch(text) else "str"
        return found


@dataclass
class Document:
    """One document: its events, root first, and for each opening event the index of its `end`.

    `start` and `end` are offsets in characters; a document ends where its `...`, the next `---` or the text's end is.
    """

    explicit_start: bool
    explicit_end: bool = False
    start: int = 0
    end: int = 0
    events: list[Event] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    aliased: set[str] = field(default_factory=set)

    def after(self, index: int) -> int:
        """The index of the event that follows the node which starts at `index`."""
        return self.ends.get(index, index) + 1

    def children(self, index: int) -> list[int]:
        """The indices at which the direct children of the collection at `index` start; keys and values alternate."""
        found = []
        at = index + 1
        while self.events[at].kind != "end":
            found.append(at)
            at = self.after(at)
        return found

    def resolve(self, index: int) -> int:
        """The index of the node that the event at `index` stands for: itself, or what an alias names."""
        event = self.events[index]
        if event.kind != "alias":
            return index
        return next(i for i in range(index - 1, -1, -1) if self.events[i].anchor == event.value)

    def shapes(self) -> list[Shape]:
        """All events without their places."""
        return [event.shape for event in self.events]


@dataclass(frozen=True)
class Stream:
    """A whole text and its documents. `text` keeps a byte order mark."""

    text: str
    documents: tuple[Document, ...]


def read_stream(raw: bytes | str, *, what: str, limits: YamlLimits | None = None) -> Stream:
    """Parse a YAML text into events. Raises InputError that names `what`, with line and column where known.

    Refused besides what is no YAML: keys that stand twice in a mapping, and whatever exceeds `limits`.
    """
    limits = limits or YamlLimits()
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    if len(data) > limits.max_bytes:
        raise InputError(f"{what}: {len(data)} bytes, expected at most {limits.max_bytes}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InputError(f"{what}: not UTF-8 at byte {exc.start}, expected YAML in UTF-8") from exc
    readable = text
    budget = _TAB_BUDGET
    while True:
        budget -= len(text) + 1
        try:
            return Stream(text, tuple(_documents(readable, what, limits)))
        except MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            relaxed = _without_tabs(readable, mark.index) if mark is not None and budget > 0 else None
            if relaxed is None:
                where = "" if mark is None else f" at line {mark.line + 1} column {mark.column + 1}"
                problem = exc.problem or exc.context or "unreadable"
                raise InputError(f"{what}: not valid YAML{where}: {problem}") from exc
            readable = relaxed
        except ReaderError as exc:
            line, column = _place(text, exc.position)
            raise InputError(
                f"{what}: not valid YAML at line {line} column {column}: character U+{ord(text[exc.position]):04X}"
            ) from exc
        except (YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as exc:
            # What the parser itself trips over, such as an escape beyond Unicode.
            raise InputError(f"{what}: not valid YAML: {exc}") from exc


def _place(text: str, index: int) -> tuple[int, int]:
    before = text[:index]
    return before.count("\n") + 1, index - before.rfind("\n")


def _without_tabs(text: str, index: int) -> str | None:
    """The text with the run of tabs at `index` read as spaces, where they separate tokens; None where they indent.

    YAML allows tabs there (1.2.2, section 6.2) and so does kustomize's parser; ruamel's scanner does not.
    """
    run = re.compile(r"[ \t]*").match(text, index)
    if run is None or "\t" not in run.group():
        return None
    line_start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    indents = not text[line_start:index].strip(" \t\ufeff")
    if indents and text[run.end() : run.end() + 1] not in ("", "#", "\r", "\n"):
        return None
    return text[:index] + " " * (run.end() - index) + text[run.end() :]


@dataclass
class _Open:
    index: int
    anchor: str | None
    keys: set[str] | None
    key_next: bool
    size: int = 1


def _documents(text: str, what: str, limits: YamlLimits) -> Iterator[Document]:
    document = Document(explicit_start=False)
    builder = _Builder(document, what, limits)
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, StreamStartEvent | StreamEndEvent):
            continue
        if isinstance(event, DocumentStartEvent):
            document = Document(explicit_start=bool(event.explicit), start=event.start_mark.index)
            builder = _Builder(document, what, limits, nodes=builder.nodes)
        elif isinstance(event, DocumentEndEvent):
            document.explicit_end = bool(event.explicit)
            document.end = event.start_mark.index
            yield document
        else:
            builder.add(_event(event))


def _event(raw: object) -> Event:
    kind: Kind = "end"
    value, style, flow = "", "", False
    if isinstance(raw, AliasEvent):
        kind, value = "alias", str(raw.anchor)
    elif isinstance(raw, ScalarEvent):
        kind, value, style = "scalar", raw.value, raw.style or ""
    elif isinstance(raw, MappingStartEvent | SequenceStartEvent):
        kind, flow = "map" if isinstance(raw, MappingStartEvent) else "seq", bool(raw.flow_style)
    tag = getattr(raw, "tag", None)
    anchor = getattr(raw, "anchor", None) if kind != "alias" else None
    start, end = raw.start_mark, raw.end_mark  # type: ignore[attr-defined]
    return Event(
        kind=kind,
        value=value,
        tag=None if tag is None else str(tag),
        anchor=anchor,
        style=style,
        flow=flow,
        start=start.index,
        end=end.index,
        line=start.line + 1,
        column=start.column + 1,
    )


class _Builder:
    """Collects a document's events and holds the bounds as they come in."""

    def __init__(self, document: Document, what: str, limits: YamlLimits, nodes: int = 0) -> None:
        self.document = document
        self.what = what
        self.limits = limits
        self.nodes = nodes
        self._open: list[_Open] = []
        # Size of each anchored node with its aliases followed; None while it is still open.
        self._sizes: dict[str, int | None] = {}
        self._texts: dict[str, str] = {}

    def add(self, event: Event) -> None:
        index = len(self.document.events)
        self.document.events.append(event)
        if event.kind == "end":
            closed = self._open.pop()
            self.document.ends[closed.index] = index
            if closed.anchor is not None:
                self._sizes[closed.anchor] = closed.size
            self._count(event, closed.size)
            return
        self.nodes += 1
        if self.nodes > self.limits.max_nodes:
            raise InputError(f"{self.what}: more than {self.limits.max_nodes} nodes at {event.where}")
        self._key(event)
        if event.kind in ("map", "seq"):
            if len(self._open) >= self.limits.max_depth:
                raise InputError(f"{self.what}: nested deeper than {self.limits.max_depth} levels at {event.where}")
            if event.anchor is not None:
                self._sizes[event.anchor] = None
                self._texts.pop(event.anchor, None)
            keys: set[str] | None = set() if event.kind == "map" else None
            self._open.append(_Open(index, event.anchor, keys, key_next=event.kind == "map"))
        elif event.kind == "alias":
            self._count(event, self._alias(event))
        else:
            if event.anchor is not None:
                self._sizes[event.anchor] = 1
                self._texts[event.anchor] = event.value
            self._count(event, 1)

    def _alias(self, event: Event) -> int:
        if event.value not in self._sizes:
            raise InputError(f"{self.what}: alias *{event.value} at {event.where} names no anchor before it")
        size = self._sizes[event.value]
        if size is None:
            raise InputError(f"{self.what}: alias *{event.value} at {event.where} stands inside the node it names")
        self.document.aliased.add(event.value)
        return size

    def _count(self, event: Event, size: int) -> None:
        if self._open:
            self._open[-1].size += size
            if self._open[-1].size > self.limits.max_expanded:
                most = self.limits.max_expanded
                raise InputError(f"{self.what}: aliases grow it to more than {most} nodes at {event.where}")

    def _key(self, event: Event) -> None:
        if not self._open:
            return
        holder = self._open[-1]
        if holder.keys is None:
            return
        if holder.key_next and event.kind in ("scalar", "alias"):
            text = self._texts.get(event.value) if event.kind == "alias" else event.value
            if text in holder.keys:
                raise InputError(f"{self.what}: key {text!r} at {event.where} stands twice, expected once in a mapping")
            if text is not None:
                holder.keys.add(text)
        holder.key_next = not holder.key_next
