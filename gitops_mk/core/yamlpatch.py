"""Adds our one entry to `components:` of a user's kustomization.yaml and keeps every other byte of it.

Method: the parser only tells places; the text is spliced, parsed again, and taken only when its events are the old ones
plus exactly the new entry. Several places may be right, some of them only in some files (a block scalar without a last
newline takes no line after it): they are tried in order of looks, and the proof decides.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from gitops_mk.core.yamltree import Document, Event, Shape, Stream, read_stream
from gitops_mk.errors import InputError

KEY = "components"

_ENTRY = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/-]{0,199}")
# Plain scalars that no version of YAML takes for anything but text.
_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)(?:[A-Za-z_]|\.{1,2}/)[A-Za-z0-9._/-]*", re.IGNORECASE)
_BREAK = re.compile(r"\r\n|\n|\r")
_BLANK = " \t\r\n"

_MAP: Shape = ("map", "", None, None, "", False)
_END: Shape = ("end", "", None, None, "", False)


@dataclass(frozen=True)
class _Splice:
    """Put `insert` in place of the `removed` characters at `at`; events `first` to `last` then read `shapes`."""

    at: int
    insert: str
    first: int
    last: int
    shapes: tuple[Shape, ...]
    removed: int = 0


def add_component(text: bytes, entry: str, *, what: str = "kustomization.yaml") -> bytes:
    """The file with `entry` as the last item of `components:`; the same bytes when it is there already.

    Nothing else changes, but for an explicit null (`components: null` or `~`), which gives way to the list. Raises
    InputError, naming `what` and the place, for what is not one YAML mapping of at most 256 KiB, for keys that stand
    twice, and for a `components` that is no list of paths or comes from an alias or a merge key.
    """
    if not _ENTRY.fullmatch(entry) or ".." in entry.split("/"):
        raise InputError(f"component {entry!r}, expected a plain relative path below the overlay")
    stream = read_stream(text, what=what)
    document = _only_document(stream, what)
    if _present(document, entry, what):
        return text
    for splice in _splices(stream.text, document, entry, what):
        patched = stream.text[: splice.at] + splice.insert + stream.text[splice.at + splice.removed :]
        raw = patched.encode()
        if _proved(raw, document, len(stream.documents), splice, what):
            return raw
    raise InputError(
        f"{what}: found no place where {entry!r} can be added to `{KEY}` without changing anything else",
        hint=f"add `- {entry}` under `{KEY}:` by hand, then run the same command again",
    )


def _only_document(stream: Stream, what: str) -> Document:
    """The document that counts. Empty ones after it (a last `---`) are harmless: kustomize reads the first."""
    if not stream.documents:
        end = len(stream.text)
        return Document(explicit_start=False, start=0, end=end)
    for extra in stream.documents[1:]:
        if not _is_empty(extra.events[0]):
            raise InputError(f"{what}: a second document at {extra.events[0].where}, expected one")
    document = stream.documents[0]
    root = document.events[0]
    if root.kind != "map" and not _is_empty(root):
        raise InputError(f"{what}: a {_called(root)} at {root.where}, expected a mapping")
    return document


def _is_empty(event: Event) -> bool:
    return event.shape == ("scalar", "", None, None, "", False)


def _called(event: Event) -> str:
    return {"map": "mapping", "str": "string", "plain": "string"}.get(event.type, event.type)


def _is_ours(document: Document, key: int) -> bool:
    """Whether that key means `components` to kustomize, which reads field names in any case (as Go reads JSON)."""
    event = document.events[document.resolve(key)]
    return event.kind == "scalar" and event.value.casefold() == KEY


def _value_index(document: Document, what: str) -> int | None:
    """Where the value of `components` stands among the events of the root mapping."""
    at = document.children(0)
    found = [(key, value) for key, value in zip(at[::2], at[1::2], strict=True) if _is_ours(document, key)]
    if len(found) > 1:
        raise InputError(f"{what}: `{KEY}` at {document.events[found[1][0]].where} stands twice, expected once")
    return found[0][1] if found else None


def _present(document: Document, entry: str, what: str) -> bool:
    """True when the entry is there. Raises InputError for a `components` that can't take one."""
    if not document.events or document.events[0].kind != "map":
        return False
    events = document.events
    index = _value_index(document, what)
    if index is None:
        _refuse_merged(document, what)
        return False
    value = events[index]
    wrong = None
    if value.kind == "alias":
        wrong = f"the alias *{value.value}"
    elif value.anchor is not None and (value.kind == "scalar" or value.anchor in document.aliased):
        wrong = f"a value that is shared as &{value.anchor}"
    elif value.kind == "map" or (value.kind == "scalar" and value.type != "null"):
        wrong = f"a {_called(value)}"
    elif value.tag not in (None, "tag:yaml.org,2002:seq"):
        wrong = f"a value with the tag {value.tag}"
    if wrong is not None:
        raise InputError(f"{what}: `{KEY}` is {wrong} at {value.where}, expected a list of its own")
    if value.kind == "scalar":
        return False
    wanted = posixpath.normpath(entry)
    found = False
    for at in document.children(index):
        item = events[document.resolve(at)]
        if item.kind != "scalar" or item.type not in ("str", "plain"):
            raise InputError(f"{what}: `{KEY}` holds a {_called(item)} at {events[at].where}, expected paths")
        found = found or posixpath.normpath(item.value) == wanted
    return found


def _refuse_merged(document: Document, what: str) -> None:
    """Refuse a merge key at the root that may bring a `components` along: a list of ours would hide that one."""
    at = document.children(0)
    merge = next((document.events[k] for k in at[::2] if document.events[k].value == "<<"), None)
    if merge is None:
        return
    for index, event in enumerate(document.events):
        if index and event.kind == "map":
            keys = document.children(index)[::2]
            if any(_is_ours(document, k) for k in keys):
                raise InputError(
                    f"{what}: `{KEY}` comes from the merge key at {merge.where}, expected a list of its own"
                )


def _splices(text: str, document: Document, entry: str, what: str) -> list[_Splice]:
    """Where the entry may go, best looks first."""
    events = document.events
    if not events or events[0].kind == "scalar":
        shapes = (_MAP, _scalar(KEY), _seq(flow=False), _scalar(entry, _style(entry)), _END, _END)
        return [_Splice(at, put, 0, len(events), shapes) for at, put in _at_end(text, document, _lines(entry, "", ""))]
    index = _value_index(document, what)
    if index is None:
        return _new_pair(text, document, entry) if events[0].flow else _new_key(text, document, entry)
    if events[index].kind == "scalar":
        return _fill(text, document, index, entry)
    return (
        _append_flow(text, document, index, entry)
        if events[index].flow
        else _append_block(text, document, index, entry)
    )


def _new_key(text: str, document: Document, entry: str) -> list[_Splice]:
    """A file of lines gains the key as its last, or where nothing may follow its last value, as its first."""
    last = len(document.events) - 1
    shapes = (_scalar(KEY), _seq(flow=False), _scalar(entry, _style(entry)), _END)
    indent = _root_indent(text, document)
    lines = _lines(entry, indent, indent + _list_indent(text, document))
    top = _line_start(text, document.events[1].start)
    return [
        *(_Splice(at, put, last, last, shapes) for at, put in _at_end(text, document, lines)),
        _Splice(top, _joined(lines, _break_near(text, top)), 1, 1, shapes),
    ]


def _new_pair(text: str, document: Document, entry: str) -> list[_Splice]:
    """A file that is one flow mapping, perhaps JSON, gains the pair as its last."""
    events = document.events
    last = len(events) - 1
    children = document.children(0)
    quote = '"' if children and events[children[-2]].style == '"' else ""
    style = _style(entry, quote)
    shapes = (_scalar(KEY, quote), _seq(flow=True), _scalar(entry, style), _END)
    pair = f"{quote}{KEY}{quote}: [{_written(entry, style)}]"
    if not children:
        return [_Splice(events[0].end, pair, last, last, shapes)]
    tail = events[document.after(children[-1]) - 1]
    own_line = _own_line(text, events[children[-2]].start)
    return [
        _Splice(tail.end, f",{' ' if own_line is None else own_line}{pair}", last, last, shapes),
        _Splice(events[last].start, f", {pair}", last, last, shapes),
    ]


def _fill(text: str, document: Document, index: int, entry: str) -> list[_Splice]:
    """`components:` with nothing, `null` or `~` behind it."""
    key, value = document.events[index - 1], document.events[index]
    style = _style(entry, '"' if key.style == '"' else "")
    shapes = (_seq(flow=True), _scalar(entry, style), _END)
    written = f"[{_written(entry, style)}]"
    if value.value:
        return [_Splice(value.start, written, index, index + 1, shapes, removed=value.end - value.start)]
    # The parser places an empty value at the next token, which may be lines below its key.
    colon = re.compile(r"[ \t]*:").match(text, key.end)
    behind = value.start if colon is None else colon.end()
    found = [_Splice(behind, lead + written, index, index + 1, shapes) for lead in (" ", ": ")]
    if not document.events[0].flow:
        indent = _root_indent(text, document) + _list_indent(text, document)
        at, put = _line_after(text, behind, [f"{indent}- {_written(entry, style)}"])
        found.insert(0, _Splice(at, put, index, index + 1, (_seq(flow=False), _scalar(entry, style), _END)))
    return found


def _append_flow(text: str, document: Document, index: int, entry: str) -> list[_Splice]:
    events = document.events
    end = document.ends[index]
    items = document.children(index)
    last = events[items[-1]] if items else None
    style = _style(entry, '"' if last is not None and last.style == '"' else "")
    shapes = (_scalar(entry, style),)
    written = _written(entry, style)
    if last is None:
        return [_Splice(events[index].end, written, end, end, shapes)]
    found = [_Splice(last.end, f", {written}", end, end, shapes)]
    own_line = _own_line(text, last.start)
    comma = re.compile(r"[ \t]*,[ \t]*(#[^\r\n]*)?(?=[\r\n])").match(text, last.end)
    if own_line is not None and comma is not None:
        found.insert(0, _Splice(comma.end(), f"{own_line}{written},", end, end, shapes))
    elif own_line is not None and re.compile(r"[ \t]*[\r\n]").match(text, last.end):
        found.insert(0, _Splice(last.end, f",{own_line}{written}", end, end, shapes))
    return found


def _append_block(text: str, document: Document, index: int, entry: str) -> list[_Splice]:
    events = document.events
    end = document.ends[index]
    items = document.children(index)
    first, last = events[items[0]], events[items[-1]]
    dash = re.compile(r"(?:^|(?<=\r))( *)-(?=[ \t\r\n])", re.MULTILINE)
    lead = dash.search(text, _line_start(text, events[index].start), first.start)
    indent = lead.group(1) if lead is not None else ""
    gap = re.fullmatch(r"-( {1,8})", text[_line_start(text, first.start) + len(indent) : first.start])
    style = _style(entry)
    line = f"{indent}-{gap.group(1) if gap is not None else ' '}{_written(entry, style)}"
    shapes = (_scalar(entry, style),)
    at, put = _line_after(text, len(text[: last.end].rstrip(_BLANK)), [line])
    return [
        _Splice(at, put, end, end, shapes),
        # A block scalar that keeps its last blank lines ends below them, at the start of a line.
        _Splice(last.end, _joined([line], _break_near(text, last.end)), end, end, shapes),
    ]


def _proved(raw: bytes, before: Document, documents: int, splice: _Splice, what: str) -> bool:
    """True when the patched text parses to the old events with exactly the splice's shapes put in."""
    try:
        after = read_stream(raw, what=what).documents
    except InputError:
        return False
    old = before.shapes()
    expected = [*old[: splice.first], *splice.shapes, *old[splice.last :]]
    return (
        len(after) == max(documents, 1)
        and after[0].shapes() == expected
        and (after[0].explicit_start, after[0].explicit_end) == (before.explicit_start, before.explicit_end)
        and all(_is_empty(extra.events[0]) for extra in after[1:])
    )


def _scalar(value: str, style: str = "") -> Shape:
    return ("scalar", value, None, None, style, False)


def _seq(*, flow: bool) -> Shape:
    return ("seq", "", None, None, "", flow)


def _style(entry: str, wanted: str = "") -> str:
    return wanted if wanted or _PLAIN.fullmatch(entry) else '"'


def _written(entry: str, style: str) -> str:
    return f"{style}{entry}{style}"


def _lines(entry: str, indent: str, list_indent: str) -> list[str]:
    return [f"{indent}{KEY}:", f"{list_indent}- {_written(entry, _style(entry))}"]


def _joined(lines: list[str], newline: str) -> str:
    return "".join(line + newline for line in lines)


def _list_indent(text: str, document: Document) -> str:
    """How far the file's own lists stand in from their keys; nothing, as kustomize writes it, where there are none."""
    root = len(_root_indent(text, document))
    for value in document.children(0)[1::2]:
        event = document.events[value]
        if event.kind == "seq" and not event.flow and event.tag is None and event.anchor is None:
            return " " * (event.column - 1 - root)
    return ""


def _root_indent(text: str, document: Document) -> str:
    start = _line_start(text, document.events[1].start)
    return text[start : len(text) - len(text[start:].lstrip(" "))]


def _line_start(text: str, index: int) -> int:
    start = max(text.rfind("\n", 0, index), text.rfind("\r", 0, index)) + 1
    return start + (1 if text.startswith("\ufeff", start) else 0)


def _break_near(text: str, index: int) -> str:
    """The kind of line break the file uses just before `index`, else just after it, else a newline."""
    before = text[: _line_start(text, index)]
    found = next((b for b in ("\r\n", "\n", "\r") if before.endswith(b)), None)
    if found is None:
        after = _BREAK.search(text, index)
        found = after.group() if after is not None else "\n"
    return found


def _own_line(text: str, index: int) -> str | None:
    """The line break and indent that lead to the token at `index`, where it is the first of its line."""
    start = _line_start(text, index)
    indent = text[start:index]
    if start == 0 or indent.strip(" \t"):
        return None
    return _break_near(text, start) + indent


def _line_after(text: str, index: int, lines: list[str]) -> tuple[int, str]:
    """Where and what to insert to have `lines` follow the line that `index` is in; the last newline stays as it is."""
    found = _BREAK.search(text, index)
    if found is not None:
        return found.end(), _joined(lines, found.group())
    newline = _break_near(text, len(text))
    return len(text), "".join(newline + line for line in lines)


def _at_end(text: str, document: Document, lines: list[str]) -> list[tuple[int, str]]:
    """After the last line that is not blank, else (where blank lines count) at the very end of the document."""
    content = text[: document.end].rstrip(_BLANK)
    if not content.strip("\ufeff"):
        return [(len(content), _joined(lines, _break_near(text, len(content))))]
    last = (document.end, _joined(lines, _break_near(text, document.end)))
    return [_line_after(text, len(content), lines), last]
