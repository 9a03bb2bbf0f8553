"""What all values share: frozen, strict, unknown fields refused; and one way to read untrusted JSON into them."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from gitops_mk.errors import InputError
from gitops_mk.model.canonical import JsonLimits, dumps_canonical, loads_strict


class Frozen(BaseModel):
    """Base of all values: immutable, strictly typed, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="null", defer_build=True)

    @classmethod
    def parse(cls, data: Any, *, what: str, error: type[InputError] = InputError) -> Self:
        """Validate plain data. Raises `error` naming `what`, the field, what was found and what was expected."""
        try:
            # By way of JSON: strict types, while arrays may still fill tuples and strings enums.
            return cls.model_validate_json(dumps_canonical(data))
        except ValidationError as exc:
            raise error(f"{what}: {describe_validation(exc)}") from exc

    @classmethod
    def parse_json(cls, text: bytes | str, *, what: str, limits: JsonLimits | None = None) -> Self:
        """Read strict JSON (no duplicate keys, NaN or infinities) and validate it. Raises InputError."""
        return cls.parse(loads_strict(text, what=what, limits=limits), what=what)

    def plain(self) -> dict[str, Any]:
        """The value as plain JSON data, keys by field name."""
        return self.model_dump(mode="json")


def describe_validation(exc: ValidationError, *, most: int = 3) -> str:
    """A validation error as one line: `field: what is wrong (found …)`, the first few of them."""
    parts = []
    errors = exc.errors(include_url=False)
    for item in errors[:most]:
        where = ".".join(str(p) for p in item["loc"]) or "document"
        found = repr(item.get("input"))
        if len(found) > 60:
            found = found[:57] + "..."
        # What a missing field was found in says nothing that its name doesn't.
        suffix = "" if item["type"] == "missing" else f" (found {found})"
        parts.append(f"{where}: {item['msg'][0].lower()}{item['msg'][1:]}{suffix}")
    if len(errors) > most:
        parts.append(f"and {len(errors) - most} more")
    return "; ".join(parts)
