"""Documents people write, JSON or YAML, into values; an error names the file, the line and the field."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from gitops_mk.core.yamltree import Document, YamlLimits, read_stream
from gitops_mk.errors import ConfigError, InputError
from gitops_mk.model.base import Frozen, describe_validation
from gitops_mk.model.canonical import dumps_canonical, loads_strict

T = TypeVar("T", bound=Frozen)

LIMITS = YamlLimits()


def parse_json(model: type[T], text: bytes, *, what: str) -> T:
    """Read strict JSON into `model`. Raises ConfigError."""
    try:
        data = loads_strict(text, what=what)
    except InputError as exc:
        raise ConfigError(exc.message) from exc
    try:
        return model.model_validate_json(dumps_canonical(data))
    except ValidationError as exc:
        # JSON is YAML, so the line of a field is found in the same way.
        raise _invalid(exc, _document(text, what), what) from exc


def parse_yaml(model: type[T], text: bytes, *, what: str) -> T:
    """Read plain YAML (one document, no tags, anchors or duplicate keys) into `model`. Raises ConfigError."""
    document = _document(text, what)
    data = {} if document is None else _plain(document, 0, what)
    try:
        return model.model_validate_json(dumps_canonical(data))
    except ValidationError as exc:
        raise _invalid(exc, document, what) from exc


def _document(text: bytes, what: str) -> Document | None:
    try:
        documents = read_stream(text, what=what, limits=LIMITS).documents
    except InputError as exc:
        raise ConfigError(exc.message) from exc
    if len(documents) > 1:
        raise ConfigError(f"{what} line {documents[1].events[0].line}: a second document, expected one")
    return documents[0] if documents else None


def _plain(document: Document, index: int, what: str) -> Any:
    """Plain data by the JSON schema of YAML 1.2 (section 10.2): what every reader of the file must agree on."""
    event = document.events[index]
    at = f"{what} line {event.line}"
    if event.kind == "alias" or event.anchor is not None:
        raise ConfigError(f"{at}: anchors and aliases are not read here, expected plain values")
    if event.tag is not None:
        raise ConfigError(f"{at}: tag {event.tag!r} is not read here, expected plain values")
    children = document.children(index) if event.kind in ("map", "seq") else []
    if event.kind == "seq":
        return [_plain(document, child, what) for child in children]
    if event.kind == "map":
        keys = [_plain(document, child, what) for child in children[::2]]
        if any(not isinstance(key, str) for key in keys):
            raise ConfigError(f"{at}: a key that is no text")
        return dict(zip(keys, (_plain(document, child, what) for child in children[1::2]), strict=True))
    return _scalar(event.type, event.value, at)


def _scalar(kind: str, text: str, at: str) -> Any:
    if kind == "null":
        return None
    if kind == "bool" and text in ("true", "false"):
        return text == "true"
    if kind == "int" and text.lstrip("-").isdecimal():
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "str":
        return text
    raise ConfigError(f"{at}: {text!r} can be read in more than one way; put it in quotes or write it plainly")


def _invalid(exc: ValidationError, document: Document | None, what: str) -> ConfigError:
    line = "" if document is None else f" line {_line(document, exc.errors(include_url=False)[0]['loc'])}"
    return ConfigError(f"{what}{line}: {describe_validation(exc)}")


def _line(document: Document, loc: tuple[int | str, ...]) -> int:
    """The line of the deepest part of `loc` that stands in the file."""
    index, line = 0, document.events[0].line
    for part in loc:
        kind = document.events[index].kind
        children = document.children(index) if kind in ("map", "seq") else []
        if kind == "map":
            pairs = list(zip(children[::2], children[1::2], strict=True))
            found = next((pair for pair in pairs if document.events[pair[0]].value == part), None)
        else:
            found = (children[part],) * 2 if isinstance(part, int) and part < len(children) else None
        if found is None:
            break
        line, index = document.events[found[0]].line, found[1]
    return line
