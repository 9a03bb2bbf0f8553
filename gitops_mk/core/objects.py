"""Reading of live objects, which others made: what is not of the expected kind counts as not there, and nothing raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def part(value: Any, *path: str) -> Mapping[str, Any]:
    """The map at `path`; an empty one where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def items(value: Any, key: str) -> tuple[Mapping[str, Any], ...]:
    """The maps of the list at `key`, each in its place: an empty one stands for what is no map."""
    found = part(value).get(key)
    return tuple(part(item) for item in found) if isinstance(found, (list, tuple)) else ()


def text(value: Any, key: str) -> str:
    """The text at `key`; empty where there is none."""
    found = part(value).get(key)
    return found if isinstance(found, str) else ""


def number(value: Any, key: str, default: int = 0) -> int:
    """The integer at `key`, else `default`."""
    found = part(value).get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else default
