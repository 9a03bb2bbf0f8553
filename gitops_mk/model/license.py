"""The licence file `license.v1` and the keyring it is checked with: shapes only; `core.licensing` judges them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gitops_mk.model.base import Frozen
from gitops_mk.model.canonical import MAX_SAFE_INTEGER

APPLY = "apply"

Epoch = Annotated[int, Field(strict=True, ge=0, le=MAX_SAFE_INTEGER)]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Kid = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class LicensePayload(Frozen):
    """What is signed. Times are seconds since the epoch; `bindings` name what the licence is for."""

    schema_version: Literal["license.v1"]
    org: ShortText
    issuer: ShortText | None = None
    kid: Kid | None = None
    issued_at: Epoch
    expires_at: Epoch
    entitlements: tuple[ShortText, ...]
    bindings: dict[ShortText, ShortText | tuple[ShortText, ...]] | None = None


class FailureCode(StrEnum):
    """Why a licence is invalid, in the order the checks are made."""

    FILE_MISSING = "file_missing"
    FILE_UNREADABLE = "file_unreadable"
    TOO_LARGE = "too_large"
    MALFORMED_JSON = "malformed_json"
    SCHEMA_INVALID = "schema_invalid"
    SIGNATURE_MALFORMED = "signature_malformed"
    KEYRING_INVALID = "keyring_invalid"
    UNKNOWN_KID = "unknown_kid"
    SIGNATURE_INVALID = "signature_invalid"
    NOT_YET_VALID = "not_yet_valid"


class LicenseStatus(Frozen):
    """The outcome of a licence check. `reason` is null exactly when `ok`; `kid` is the key that verified it."""

    ok: bool
    reason: str | None = None
    failure_code: FailureCode | None = None
    message: str = ""
    path: str | None = None
    org: str | None = None
    kid: str | None = None
    expires_at: int | None = None
    entitlements: tuple[str, ...] = ()
