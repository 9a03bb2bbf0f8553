"""Documents people write, JSON or YAML, into values; an error names the file, the line and the field."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gitops_mk.errors import ConfigError, InputError
from gitops_mk.model.base import Frozen, describe_validation
from gitops_mk.model.canonical import dumps_canonical, loads_strict

T = TypeVar("T", bound=Frozen)

MAX_BYTES = 256 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 32

_TAG = "tag:yaml.org,2002:"


def parse_json(model: type[T], text: bytes, *, what: str) -> T:
    """Read strict JSON into `model`. Raises ConfigError."""
    try:
        data = loads_strict(text, what=what)
    except InputError as exc:
        raise ConfigError(exc.message) from exc
    return _validate(model, data, text, what)


def parse_yaml(model: type[T], text: bytes, *, what: str) -> T:
    """Read plain YAML (one document, no tags, anchors or duplicate keys) into `model`. Raises ConfigError."""
    node = _compose(text, what)
    return _validate(model, {} if node is None else _plain(node, what, MAX_DEPTH, [0]), text, what)


def _validate(model: type[T], data: Any, text: bytes, what: str) -> T:
    try:
        return model.model_validate_json(dumps_canonical(data))
    except ValidationError as exc:
        line = _line(_compose(text, what), exc.errors(include_url=False)[0]["loc"])
        raise ConfigError(f"{what}{line}: {describe_validation(exc)}") from exc


def _compose(text: bytes, what: str) -> Node | None:
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{what}: {len(text)} bytes, expected at most {MAX_BYTES}")
    try:
        node: Node | None = YAML(typ="rt", pure=True).compose(text.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{what}: not UTF-8 at byte {exc.start}, expected text") from exc
    except (YAMLError, RecursionError, ValueError) as exc:
        where, problem = "", "no valid YAML"
        if isinstance(exc, MarkedYAMLError):
            problem = exc.problem or problem
            where = f" line {exc.problem_mark.line + 1}" if exc.problem_mark else ""
        raise ConfigError(f"{what}{where}: {problem}") from exc
    return node


def _plain(node: Node, what: str, depth: int, count: list[int]) -> Any:
    """Plain data by the JSON schema of YAML 1.2 (section 10.2): what both readers of the file must agree on."""
    count[0] += 1
    at = f"{what} line {node.start_mark.line + 1}"
    if depth < 0 or count[0] > MAX_NODES:
        raise ConfigError(f"{at}: too deep or too large, expected at most {MAX_DEPTH} levels and {MAX_NODES} values")
    if node.anchor is not None:
        raise ConfigError(f"{at}: anchors and aliases are not read here, expected plain values")
    if isinstance(node, MappingNode):
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise ConfigError(f"{at}: a key that is no text")
            if key.value in data:
                raise ConfigError(f"{what} line {key.start_mark.line + 1}: key {key.value!r} stands twice")
            data[key.value] = _plain(value, what, depth - 1, count)
        return data
    if isinstance(node, SequenceNode):
        return [_plain(item, what, depth - 1, count) for item in node.value]
    if not isinstance(node, ScalarNode):
        raise ConfigError(f"{at}: expected a value, a list or a mapping")
    return _scalar(str(node.tag), node.value, node.style, at)


def _scalar(tag: str, text: str, style: str | None, at: str) -> Any:
    if style is not None or tag == f"{_TAG}str":
        if not tag.startswith(f"{_TAG}str"):
            raise ConfigError(f"{at}: tag {tag!r} is not read here")
        return text
    if tag == f"{_TAG}null":
        return None
    if tag == f"{_TAG}bool" and text in ("true", "false"):
        return text == "true"
    if tag == f"{_TAG}int" and text.lstrip("-").isdecimal() and str(int(text)) == text:
        return int(text)
    if tag == f"{_TAG}float":
        try:
            return float(text)
        except ValueError:
            pass
    raise ConfigError(f"{at}: {text!r} can be read in more than one way; put it in quotes or write it plainly")


def _line(node: Node | None, loc: tuple[int | str, ...]) -> str:
    """` line N` of the deepest part of `loc` that stands in the file."""
    if node is None:
        return ""
    line = node.start_mark.line
    for part in loc:
        child: Node | None = None
        if isinstance(node, MappingNode):
            child = next((v for k, v in node.value if k.value == part), None)
            line = next((k.start_mark.line for k, v in node.value if k.value == part), line)
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            child = node.value[part]
            line = child.start_mark.line
        if child is None:
            break
        node = child
    return f" line {line + 1}"
