"""GitHub's own description of its API, held against every request and every answer."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.github.npm import OPENAPI, file_of, locked, required
from tests.support.github.records import Json
from tests.support.github.schema import Check, Schemas
from tests.support.github.web import ROUTES
from tests.support.unavailable import Unavailable

_FORM = "3"
"""To be changed with what `_digest` keeps."""
_PAGING = {"page", "per_page"}
_JSON = ("application/json", "application/scim+json")

# Where GitHub gives null (a fork that was deleted, say), or takes a plain list, against its own description.
_NULL = re.compile(
    r"(head\.(user|repo)|auto_merge\.commit_(title|message)|labels\[\d+\]\.description|apps\[\d+\]\.description): None is no"
)
_TAKEN = re.compile(r"body: \['.*'\] is no object\Z")


class Operation:
    """One endpoint as the description has it."""

    def __init__(self, name: str, given: Json, schemas: Schemas) -> None:
        self.name = name
        self.query: dict[str, tuple[Check, str, bool]] = {}
        self.path: dict[str, tuple[Check, str, bool]] = {}
        for one in given["parameters"]:
            kind = one["schema"].get("type", "string")
            entry = (schemas.check(one["schema"]), kind, one.get("required", False))
            if one["in"] in ("query", "path"):
                (self.query if one["in"] == "query" else self.path)[one["name"]] = entry
        self.body = schemas.check(given["body"]) if given["body"] is not None else None
        self.fields = _fields(given["body"])
        self.needs_body: bool = given["needs_body"]
        self.answers = {
            int(status): schemas.check(schema) if schema is not None else None
            for status, schema in given["answers"].items()
        }

    def request(self, params: Mapping[str, str], query: Mapping[str, str], body: Any) -> list[str]:
        """What is wrong with a request."""
        found: list[str] = []
        for where, values, known in (("path", params, self.path), ("query", query, self.query)):
            for name, text in values.items():
                if name in known:
                    check, kind, _ = known[name]
                    found += check(_typed(text, kind), f"{where} {name}")
                elif where == "query" and name not in _PAGING:
                    found.append(f"query {name}: GitHub has no such parameter")
            found += [f"{where} {name} is missing" for name, one in known.items() if one[2] and name not in values]
        if body is None or (body == {} and self.body is None):
            if self.needs_body and self.body is not None:
                found.append("a body is missing")
        elif self.body is None:
            found.append("GitHub takes no body here")
        else:
            found += self.body(body, "body")
            if self.fields is not None and isinstance(body, dict):
                found += [f"body.{name}: GitHub has no such field" for name in body if name not in self.fields]
        return [f"request {self.name}: {text}" for text in found if not _TAKEN.match(text)]

    def response(self, status: int, body: Any) -> list[str]:
        """What is wrong with an answer of the simulator's."""
        if 300 <= status < 400:
            return []
        if status not in self.answers:
            if status >= 400:
                fine = isinstance(body, dict) and isinstance(body.get("message"), str)
                return [] if fine else [f"response {self.name}: {status} without a message"]
            return [f"response {self.name}: GitHub doesn't answer {status}"]
        check = self.answers[status]
        if check is None:
            return []
        return [f"response {self.name} {status}: {text}" for text in check(body, "body") if not _NULL.search(text)]


def _fields(schema: Json | None) -> set[str] | None:
    """The fields of a body that is one plain object."""
    if schema is None or schema.get("type") != "object" or "properties" not in schema:
        return None
    if schema.keys() & {"additionalProperties", "oneOf", "anyOf", "allOf", "$ref"}:
        return None
    return set(schema["properties"])


def _typed(text: str, kind: str) -> Any:
    if kind == "integer":
        return int(text) if text.removeprefix("-").isdecimal() else text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text


class Description:
    """GitHub's description of the endpoints that the simulator has."""

    def __init__(self, digest: Json) -> None:
        self._schemas = Schemas(digest["schemas"])
        self._given: Json = digest["operations"]
        self._made: dict[str, Operation] = {}

    @staticmethod
    def load() -> Description | None:
        """The description; None where it can't be had and a run without it is allowed. Raises Unavailable."""
        try:
            return _loaded()
        except Unavailable:
            if required():
                raise
            return None

    def operation(self, method: str, template: str) -> Operation:
        """One endpoint's."""
        name = f"{method} {template}"
        if name not in self._made:
            self._made[name] = Operation(name, self._given[name], self._schemas)
        return self._made[name]

    def request(
        self, method: str, template: str, params: Mapping[str, str], query: Mapping[str, str], body: Any
    ) -> list[str]:
        """What is wrong with a request."""
        return self.operation(method, template).request(params, query, body)

    def response(self, method: str, template: str, status: int, body: Any) -> list[str]:
        """What is wrong with an answer."""
        return self.operation(method, template).response(status, body)


@cache
def _loaded() -> Description:
    return Description(digest())


def digest() -> Json:
    """What of the description concerns the simulator's endpoints; reading all of it takes a second. Raises Unavailable."""
    names = sorted(f"{one.method} {one.template}" for one in ROUTES)
    key = hashlib.sha256("\n".join([_FORM, *names]).encode()).hexdigest()[:16]
    path = OPENAPI.folder / f"digest-{key}.json"
    if not path.is_file():
        source = file_of(OPENAPI)
        with locked(OPENAPI.folder):
            if not path.is_file():
                made = _digest(json.loads(source.read_bytes()), names)
                with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
                    json.dump(made, file, separators=(",", ":"))
                Path(file.name).rename(path)
    loaded: Json = json.loads(path.read_bytes())
    return loaded


def _digest(whole: Json, names: list[str]) -> Json:
    operations = {name: _operation(whole, *name.split(" ", 1)) for name in names}
    schemas: Json = {}
    _collect(whole, operations, schemas)
    return {"operations": operations, "schemas": schemas}


def _operation(whole: Json, method: str, template: str) -> Json:
    try:
        given = whole["paths"][template][method.lower()]
    except KeyError:
        raise AssertionError(f"GitHub describes no {method} {template}") from None
    body = given.get("requestBody")
    return {
        "parameters": [_followed(whole, one) for one in given.get("parameters", [])],
        "body": body["content"]["application/json"]["schema"] if body else None,
        "needs_body": bool(body and body.get("required")),
        "answers": {
            status: _answer(_followed(whole, one)) for status, one in given["responses"].items() if status.isdecimal()
        },
    }


def _answer(given: Json) -> Json | None:
    for kind in _JSON:
        if kind in given.get("content", {}):
            schema: Json = given["content"][kind]["schema"]
            return schema
    return None


def _followed(whole: Json, given: Json) -> Json:
    while "$ref" in given:
        given = _named(whole, given["$ref"])
    return {key: value for key, value in given.items() if key not in ("description", "example", "examples")}


def _named(whole: Json, name: str) -> Json:
    found: Any = whole
    for part in name.removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


def _collect(whole: Json, value: Any, into: Json) -> None:
    """Add every schema that is named in there, and drop the texts for people."""
    if isinstance(value, list):
        for one in value:
            _collect(whole, one, into)
    elif isinstance(value, dict):
        name = value.get("$ref")
        if isinstance(name, str) and name not in into:
            into[name] = _named(whole, name)
            _collect(whole, into[name], into)
        if [one.get("title") for one in value.get("allOf", [])] == ["Simple User", "Enterprise"]:
            # Nobody is both, whatever the description says there; elsewhere it says `anyOf`.
            value["anyOf"] = value.pop("allOf")
        for one in value.values():
            _collect(whole, one, into)
