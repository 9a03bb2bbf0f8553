"""Canonical JSON and strict reading of it: the bytes that digests and signatures are made over.

Canonical form: keys sorted, no spaces, UTF-8, no floats where a digest is signed. For ASCII keys, strings, integers and
arrays this equals RFC 8785 (JSON Canonicalization Scheme).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any, NoReturn

from gitops_mk.errors import InputError

MAX_SAFE_INTEGER = 2**53 - 1


@dataclass(frozen=True)
class JsonLimits:
    """Bounds on untrusted JSON: size in bytes, nesting depth, and whether floats are allowed at all."""

    max_bytes: int = 8 * 1024 * 1024
    max_depth: int = 64
    floats: bool = True


def dumps_canonical(value: Any) -> bytes:
    """The canonical bytes of plain JSON data. Raises ValueError on NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def dumps_pretty(value: Any) -> str:
    """Readable JSON with sorted keys and a last newline: what stands in files that people read.

    A list of plain values stays on one line, so that a diff is about fields. Raises ValueError on NaN and infinities.
    """
    return _pretty(value, "\n") + "\n"


def _pretty(value: Any, newline: str) -> str:
    if isinstance(value, dict) and value:
        inner = newline + "  "
        items = (f"{inner}{_scalar(str(key))}: {_pretty(value[key], inner)}" for key in sorted(value))
        return "{" + ",".join(items) + newline + "}"
    if isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value):
        inner = newline + "  "
        return "[" + ",".join(inner + _pretty(item, inner) for item in value) + newline + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    # The whole machinery of json.dumps, once for every value of a long report, would be most of its time.
    if isinstance(value, str):
        return encode_basestring(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """The SHA-256 of the canonical form of `value`."""
    return sha256_hex(dumps_canonical(value))


def loads_strict(text: bytes | str, *, what: str, limits: JsonLimits | None = None) -> Any:
    """Read JSON as I-JSON (RFC 7493): no duplicate keys, no NaN or infinities, no lone surrogates, bounded size and depth.

    Raises InputError that names `what`.
    """
    limits = limits or JsonLimits()
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > limits.max_bytes:
        raise InputError(f"{what}: {len(raw)} bytes, expected at most {limits.max_bytes}")
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InputError(f"{what}: not UTF-8 at byte {exc.start}, expected JSON in UTF-8") from exc

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise InputError(f"{what}: key {key!r} stands twice, expected once")
            seen[key] = value
        return seen

    def no_constant(token: str) -> NoReturn:
        raise InputError(f"{what}: {token} is not JSON, expected a finite number")

    def checked_float(token: str) -> float:
        value = float(token)
        if not limits.floats:
            raise InputError(f"{what}: number {token}, expected an integer")
        if not math.isfinite(value):
            raise InputError(f"{what}: number {token} is out of range")
        return value

    def checked_int(token: str) -> int:
        if len(token) > 17 or abs(int(token)) > MAX_SAFE_INTEGER:
            raise InputError(f"{what}: integer {token[:24]} is out of range, expected at most 2^53-1")
        return int(token)

    try:
        value = json.loads(
            decoded,
            object_pairs_hook=no_duplicates,
            parse_constant=no_constant,
            parse_float=checked_float,
            parse_int=checked_int,
        )
    except json.JSONDecodeError as exc:
        raise InputError(f"{what}: no valid JSON at line {exc.lineno} column {exc.colno}: {exc.msg}") from exc
    except RecursionError as exc:
        raise InputError(f"{what}: nested deeper than {limits.max_depth} levels") from exc
    _check_tree(value, what, limits.max_depth)
    return value


def _check_tree(value: Any, what: str, depth: int) -> None:
    if depth < 0:
        raise InputError(f"{what}: nested too deep")
    if isinstance(value, str):
        if any("\ud800" <= ch <= "\udfff" for ch in value):
            raise InputError(f"{what}: a lone surrogate in a string, expected valid Unicode")
    elif isinstance(value, list):
        for item in value:
            _check_tree(item, what, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_tree(key, what, depth - 1)
            _check_tree(item, what, depth - 1)
