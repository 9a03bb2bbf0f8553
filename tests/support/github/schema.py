"""JSON against OpenAPI 3.0 schemas: each schema is turned into a function once, as thousands of answers are checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

Found = Iterable[str]
Check = Callable[[Any, str], Found]
Schema = Mapping[str, Any]

_KNOWN = {
    "$ref", "additionalProperties", "allOf", "anyOf", "default", "deprecated", "description", "discriminator", "enum",
    "example", "examples", "externalDocs", "format", "items", "maxItems", "maxLength", "maximum", "minItems",
    "minLength", "minimum", "nullable", "oneOf", "pattern", "properties", "readOnly", "required", "title", "type",
    "uniqueItems", "writeOnly", "x-github-breaking-changes",
}  # fmt: skip
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def _is_uri(text: str) -> bool:
    try:
        return bool(urlsplit(text).scheme)
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


_FORMATS: dict[str, Callable[[str], bool]] = {"uri": _is_uri, "date-time": _is_time}


class Schemas:
    """The schemas that a description names, by their `$ref`."""

    def __init__(self, named: Mapping[str, Schema], *, formats: bool = True) -> None:
        self._named = named
        self._formats = formats
        self._made: dict[str, Check] = {}

    def check(self, schema: Schema) -> Check:
        """A function that gives what is wrong with a value; the second argument says where the value is."""
        if "$ref" in schema:
            return self._by_name(schema["$ref"])
        unknown = schema.keys() - _KNOWN
        if unknown:
            raise NotImplementedError(f"schema keywords {sorted(unknown)}")
        parts = [*self._simple(schema), *self._object(schema), *self._list(schema), *self._several(schema)]
        nullable = schema.get("nullable", False)

        def run(value: Any, at: str) -> Found:
            if value is None and nullable:
                return ()
            return [text for part in parts for text in part(value, at)]

        return run

    def _by_name(self, name: str) -> Check:
        def run(value: Any, at: str) -> Found:
            made = self._made.get(name)
            if made is None:
                made = self._made[name] = self.check(self._named[name])
            return made(value, at)

        return run

    def _simple(self, schema: Schema) -> list[Check]:
        parts: list[Check] = []
        kind = schema.get("type")
        if kind is not None:
            fits = _TYPES[kind]
            parts.append(lambda value, at: () if fits(value) else (f"{at}: {_short(value)} is no {kind}",))
        if "enum" in schema:
            allowed = schema["enum"]
            parts.append(lambda value, at: () if value in allowed else (f"{at}: {_short(value)} is none of {allowed}",))
        fine = _FORMATS.get(schema.get("format", "")) if self._formats else None
        if fine is not None:
            parts.append(
                lambda value, at: (
                    () if not isinstance(value, str) or fine(value) else (f"{at}: {value!r} is no {schema['format']}",)
                )
            )
        if "pattern" in schema:
            pattern = re.compile(schema["pattern"])
            parts.append(
                lambda value, at: (
                    () if not isinstance(value, str) or pattern.search(value) else (f"{at}: {value!r} doesn't match",)
                )
            )
        bounds = {key: schema[key] for key in ("minimum", "maximum", "minLength", "maxLength") if key in schema}
        if bounds:
            parts.append(lambda value, at: _bounds(value, at, bounds))
        return parts

    def _object(self, schema: Schema) -> list[Check]:
        parts: list[Check] = []
        required = schema.get("required")
        if required:
            parts.append(
                lambda value, at: (
                    [f"{at}: no {name}" for name in required if name not in value] if isinstance(value, dict) else ()
                )
            )
        inside = {name: self.check(one) for name, one in schema.get("properties", {}).items()}
        more = schema.get("additionalProperties", True)
        others = self.check(more) if isinstance(more, dict) and more else None
        if inside or others is not None or more is False:

            def fields(value: Any, at: str) -> Found:
                if not isinstance(value, dict):
                    return ()
                found: list[str] = []
                for name, one in value.items():
                    check = inside.get(name, others)
                    if check is not None:
                        found += check(one, f"{at}.{name}")
                    elif more is False:
                        found.append(f"{at}: {name} isn't foreseen")
                return found

            parts.append(fields)
        return parts

    def _list(self, schema: Schema) -> list[Check]:
        parts: list[Check] = []
        if schema.get("items"):
            each = self.check(schema["items"])
            parts.append(
                lambda value, at: (
                    [text for place, one in enumerate(value) for text in each(one, f"{at}[{place}]")]
                    if isinstance(value, list)
                    else ()
                )
            )
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if least or most is not None:
            parts.append(
                lambda value, at: (
                    (f"{at}: {len(value)} items",)
                    if isinstance(value, list) and not least <= len(value) <= (len(value) if most is None else most)
                    else ()
                )
            )
        return parts

    def _several(self, schema: Schema) -> list[Check]:
        parts: list[Check] = []
        for one in schema.get("allOf", ()):
            parts.append(self.check(one))
        # With `oneOf` more than one may fit here: GitHub's own alternatives overlap.
        for kind in ("anyOf", "oneOf"):
            choices = [self.check(one) for one in schema.get(kind, ())]
            if choices:
                parts.append(lambda value, at, choices=choices: _any_of(value, at, choices))  # type: ignore[misc]
        return parts


def _any_of(value: Any, at: str, choices: list[Check]) -> Found:
    fewest: list[str] | None = None
    for choice in choices:
        found = list(choice(value, at))
        if not found:
            return ()
        if fewest is None or len(found) < len(fewest):
            fewest = found
    return fewest or ()


def _bounds(value: Any, at: str, bounds: Mapping[str, float]) -> Found:
    found = []
    for key, bound in bounds.items():
        if key.endswith("Length"):
            if not isinstance(value, str):
                continue
            size: float = len(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            size = value
        else:
            continue
        if (key.startswith("min") and size < bound) or (key.startswith("max") and size > bound):
            found.append(f"{at}: {key} is {bound}")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
