"""Licences: strict reading, Ed25519 verification with PyNaCl, and what one is good for. Also issuing them.

The order is fixed, the first failure gives the answer: size, JSON, shape, key, signature, validity, entitlement, bindings.
Signed bytes are the canonical JSON of the licence without `signature` (`model.canonical`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from nacl import bindings as sodium
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from gitops_mk.errors import InputError
from gitops_mk.model.canonical import JsonLimits, dumps_canonical, loads_strict
from gitops_mk.model.license import APPLY, FailureCode, LicensePayload, LicenseStatus
from gitops_mk.model.verdict import Reason

LIMITS = JsonLimits(max_bytes=16 * 1024, max_depth=8, floats=False)
MAX_KEYS = 64


class Keyring:
    """Public keys by `kid`, each checked to be a canonical point of the large prime-order subgroup."""

    def __init__(self, keys: Mapping[str, VerifyKey]) -> None:
        self.keys = dict(keys)

    @classmethod
    def parse(cls, text: bytes, *, what: str) -> Keyring:
        """Read `{kid: base64 of the raw 32-byte key}`. Raises InputError for anything else, small-order keys included."""
        data = loads_strict(text, what=what, limits=LIMITS)
        if not isinstance(data, dict) or len(data) > MAX_KEYS:
            raise InputError(f"{what}: expected a JSON object of at most {MAX_KEYS} keys")
        keys = {}
        for kid, encoded in data.items():
            raw = decode_base64(encoded, 32, what=f"{what}: key {kid!r}")
            # VerifyKey() takes any 32 bytes; under a small-order key one signature can fit many messages.
            if not sodium.crypto_core_ed25519_is_valid_point(raw):
                raise InputError(f"{what}: key {kid!r} is not a valid Ed25519 public key")
            keys[kid] = VerifyKey(raw)
        return cls(keys)


def decode_base64(text: Any, size: int, *, what: str) -> bytes:
    """Canonical base64 of exactly `size` bytes. Raises InputError; an encoding with stray bits is refused."""
    if not isinstance(text, str):
        raise InputError(f"{what}: expected base64 text, found {type(text).__name__}")
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as exc:
        raise InputError(f"{what}: expected base64") from exc
    if len(raw) != size:
        raise InputError(f"{what}: {len(raw)} bytes, expected {size}")
    if base64.b64encode(raw).decode() != text:
        raise InputError(f"{what}: not canonical base64")
    return raw


def check_license(
    text: bytes, keyring: Keyring, *, now: int, bindings: Mapping[str, str], path: str | None = None
) -> LicenseStatus:
    """Judge a licence file. `now` in epoch seconds; `bindings` are the live values its own bindings must match."""

    def invalid(code: FailureCode, message: str) -> LicenseStatus:
        return LicenseStatus(ok=False, reason=Reason.LICENSE_INVALID, failure_code=code, message=message, path=path)

    if len(text) > LIMITS.max_bytes:
        return invalid(FailureCode.TOO_LARGE, f"{len(text)} bytes, expected at most {LIMITS.max_bytes}")
    try:
        data = loads_strict(text, what="licence", limits=LIMITS)
    except InputError as exc:
        return invalid(FailureCode.MALFORMED_JSON, exc.message)
    if not isinstance(data, dict):
        return invalid(FailureCode.SCHEMA_INVALID, "expected a JSON object")
    signed = {key: value for key, value in data.items() if key != "signature"}
    try:
        payload = LicensePayload.parse(signed, what="licence")
    except InputError as exc:
        return invalid(FailureCode.SCHEMA_INVALID, exc.message)
    try:
        signature = decode_base64(data.get("signature"), 64, what="signature")
    except InputError as exc:
        return invalid(FailureCode.SIGNATURE_MALFORMED, exc.message)
    if payload.kid is not None and payload.kid not in keyring.keys:
        return invalid(FailureCode.UNKNOWN_KID, f"kid {payload.kid!r} is not in the keyring")
    candidates = keyring.keys if payload.kid is None else {payload.kid: keyring.keys[payload.kid]}
    message = dumps_canonical(signed)
    kid = next((k for k, key in candidates.items() if _verifies(key, message, signature)), None)
    if kid is None:
        return invalid(FailureCode.SIGNATURE_INVALID, "the signature fits no key it may be made with")
    if now < payload.issued_at:
        return invalid(FailureCode.NOT_YET_VALID, f"issued {payload.issued_at - now} s from now")
    return _standing(payload, kid, now=now, bindings=bindings, path=path)


def _verifies(key: VerifyKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except BadSignatureError:
        return False
    return True


def _standing(
    payload: LicensePayload, kid: str, *, now: int, bindings: Mapping[str, str], path: str | None
) -> LicenseStatus:
    """What a licence with a good signature is worth now."""
    reason, message = None, "valid"
    wanted = payload.bindings or {}
    unmet = [
        name
        for name, values in wanted.items()
        if bindings.get(name) not in ((values,) if isinstance(values, str) else values)
    ]
    if now >= payload.expires_at:
        reason, message = Reason.LICENSE_EXPIRED, f"expired {now - payload.expires_at} s ago"
    elif unmet:
        reason = Reason.BINDING_MISMATCH
        message = f"it is bound to another {unmet[0]} than {bindings.get(unmet[0], 'what is known here')!r}"
    elif APPLY not in payload.entitlements:
        reason = Reason.ENTITLEMENT_MISSING
        message = f"it entitles to {', '.join(payload.entitlements) or 'nothing'}, not to {APPLY!r}"
    return LicenseStatus(
        ok=reason is None,
        reason=reason,
        message=message,
        path=path,
        org=payload.org,
        kid=kid,
        expires_at=payload.expires_at,
        entitlements=payload.entitlements,
    )


def sign_license(payload: LicensePayload, seed: bytes) -> dict[str, Any]:
    """The licence file's content, signed with the key of that 32-byte seed."""
    body = payload.model_dump(mode="json", exclude_none=True)
    signature = SigningKey(seed).sign(dumps_canonical(body)).signature
    return {**body, "signature": base64.b64encode(signature).decode()}


def public_key(seed: bytes) -> str:
    """The keyring entry for a seed: base64 of the raw public key."""
    return base64.b64encode(bytes(SigningKey(seed).verify_key)).decode()
