"""Licences: only what was signed with a key of the ring, whole and unchanged, is ever worth anything."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from gitops_mk.adapters.resources import read_template
from gitops_mk.core.licensing import LIMITS, Keyring, check_license, decode_base64, public_key, sign_license
from gitops_mk.errors import InputError
from gitops_mk.model.canonical import dumps_canonical, dumps_pretty
from gitops_mk.model.license import FailureCode, LicensePayload, LicenseStatus
from gitops_mk.model.verdict import Reason

NOW = 1_800_000_000
SEED, OTHER = bytes([7]) * 32, bytes([9]) * 32
RING = Keyring.parse(json.dumps({"k1": public_key(SEED), "k2": public_key(OTHER)}).encode(), what="ring")

# The points of small order on edwards25519, in all their encodings (RFC 8032 arithmetic; "Taming the many EdDSAs", 2020, table 1).
SMALL_ORDER = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
)


def payload(**over: Any) -> LicensePayload:
    values: dict[str, Any] = {
        "schema_version": "license.v1", "org": "Acme", "kid": "k1", "issued_at": NOW - 10, "expires_at": NOW + 10, "entitlements": ["apply"],
    }  # fmt: skip
    return LicensePayload.parse({**values, **over}, what="licence")


def text(seed: bytes = SEED, **over: Any) -> bytes:
    return dumps_pretty(sign_license(payload(**over), seed)).encode()


def judge(raw: bytes, ring: Keyring = RING, now: int = NOW, **bindings: str) -> LicenseStatus:
    return check_license(raw, ring, now=now, bindings=bindings, path="l.json")


def test_valid() -> None:
    status = judge(text())
    assert status.ok
    assert (status.reason, status.kid, status.org, status.path) == (None, "k1", "Acme", "l.json")


def test_without_kid_any_key_may_match() -> None:
    assert judge(text(OTHER, kid=None)).kid == "k2"
    assert judge(text(bytes(32), kid=None)).failure_code is FailureCode.SIGNATURE_INVALID


def test_kid_means_that_key_alone() -> None:
    assert judge(text(OTHER)).failure_code is FailureCode.SIGNATURE_INVALID
    assert judge(text(kid="k3")).failure_code is FailureCode.UNKNOWN_KID
    assert judge(text(), Keyring({})).failure_code is FailureCode.UNKNOWN_KID


def test_rotation() -> None:
    old = Keyring.parse(json.dumps({"k1": public_key(SEED)}).encode(), what="r")
    new = Keyring.parse(json.dumps({"k2": public_key(OTHER)}).encode(), what="r")
    assert judge(text(), old).ok
    assert judge(text(OTHER, kid="k2"), old).failure_code is FailureCode.UNKNOWN_KID
    assert judge(text(), RING).ok
    assert judge(text(OTHER, kid="k2"), RING).ok
    assert judge(text(), new).failure_code is FailureCode.UNKNOWN_KID


@pytest.mark.parametrize(
    ("now", "reason", "code"),
    [
        (NOW - 11, Reason.LICENSE_INVALID, FailureCode.NOT_YET_VALID),
        (NOW - 10, None, None),
        (NOW + 9, None, None),
        (NOW + 10, Reason.LICENSE_EXPIRED, None),
    ],
)
def test_validity(now: int, reason: Reason | None, code: FailureCode | None) -> None:
    status = judge(text(), now=now)
    assert (status.reason, status.failure_code) == (reason, code)


def test_entitlement() -> None:
    for entitlements in ([], ["observe"], ["APPLY"], ["apply "]):
        assert judge(text(entitlements=entitlements)).reason == Reason.ENTITLEMENT_MISSING
    assert judge(text(entitlements=["observe", "apply"])).ok


def test_bindings() -> None:
    bound = text(bindings={"repository": "/srv/a"})
    assert judge(bound, repository="/srv/a").ok
    assert judge(bound, repository="/srv/b").reason == Reason.BINDING_MISMATCH
    assert judge(bound).reason == Reason.BINDING_MISMATCH
    several = text(bindings={"repository": ["/srv/a", "/srv/b"]})
    assert judge(several, repository="/srv/b").ok
    assert judge(text(bindings={"repository": []})).reason == Reason.BINDING_MISMATCH


def test_first_failure_wins() -> None:
    late = text(entitlements=[], bindings={"x": "y"}, expires_at=NOW - 5)
    assert judge(late).reason == Reason.LICENSE_EXPIRED
    assert judge(text(entitlements=[], bindings={"x": "y"})).reason == Reason.BINDING_MISMATCH


def broken(**over: Any) -> bytes:
    body = {**json.loads(text()), **over}
    return json.dumps({k: v for k, v in body.items() if v is not ...}).encode()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", FailureCode.MALFORMED_JSON),
        (b"{}", FailureCode.SCHEMA_INVALID),
        (b"null", FailureCode.SCHEMA_INVALID),
        (b'"x"', FailureCode.SCHEMA_INVALID),
        (b"[]", FailureCode.SCHEMA_INVALID),
        (b"\xff\xfe", FailureCode.MALFORMED_JSON),
        (text() + b" " * LIMITS.max_bytes, FailureCode.TOO_LARGE),
        (text().replace(b'"org"', b'"org": "x", "org"'), FailureCode.MALFORMED_JSON),
        (text().replace(str(NOW + 10).encode(), b"1.8e9"), FailureCode.MALFORMED_JSON),
        (broken(expires_at=str(NOW)), FailureCode.SCHEMA_INVALID),
        (broken(expires_at=True), FailureCode.SCHEMA_INVALID),
        (broken(expires_at=-1), FailureCode.SCHEMA_INVALID),
        (broken(surprise=1), FailureCode.SCHEMA_INVALID),
        (broken(schema_version="license.v2"), FailureCode.SCHEMA_INVALID),
        (broken(kid="../x"), FailureCode.SCHEMA_INVALID),
        (broken(entitlements="apply"), FailureCode.SCHEMA_INVALID),
        (broken(org=...), FailureCode.SCHEMA_INVALID),
        (broken(signature=...), FailureCode.SIGNATURE_MALFORMED),
        (broken(signature=5), FailureCode.SIGNATURE_MALFORMED),
        (broken(signature=""), FailureCode.SIGNATURE_MALFORMED),
        (broken(signature="é"), FailureCode.SIGNATURE_MALFORMED),
        (broken(signature="A" * 86 + "=="), FailureCode.SIGNATURE_INVALID),
        (broken(signature=base64.b64encode(bytes(63)).decode()), FailureCode.SIGNATURE_MALFORMED),
        (broken(org="Evil"), FailureCode.SIGNATURE_INVALID),
        (broken(kid="k2"), FailureCode.SIGNATURE_INVALID),
        (broken(kid=...), FailureCode.SIGNATURE_INVALID),
        (broken(kid=None), FailureCode.SIGNATURE_INVALID),
        (broken(issuer="me"), FailureCode.SIGNATURE_INVALID),
    ],
)
def test_refused(raw: bytes, code: FailureCode) -> None:
    status = judge(raw)
    assert not status.ok
    assert status.reason == Reason.LICENSE_INVALID
    assert status.failure_code is code
    assert status.message


def test_base64_must_be_canonical() -> None:
    good = json.loads(text())["signature"]
    # The last character before the padding carries bits that decode to nothing.
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = letters[letters.index(good[-3]) ^ 1]
    assert judge(broken(signature=good[:-3] + spare + "==")).failure_code is FailureCode.SIGNATURE_MALFORMED
    for variant in (good.rstrip("="), good + "\n", good.replace("A", " A", 1), good + "="):
        if variant != good:
            assert judge(broken(signature=variant)).failure_code is FailureCode.SIGNATURE_MALFORMED


def test_signature_with_a_larger_s_is_refused() -> None:
    """S + L verifies under a careless verifier (RFC 8032, section 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    raw = base64.b64decode(json.loads(text())["signature"])
    shifted = raw[:32] + (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    assert judge(broken(signature=base64.b64encode(shifted).decode())).failure_code is FailureCode.SIGNATURE_INVALID


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_small_order_keys_never_enter_a_keyring(point: str) -> None:
    encoded = base64.b64encode(bytes.fromhex(point)).decode()
    with pytest.raises(InputError, match="not a valid Ed25519 public key"):
        Keyring.parse(json.dumps({"k": encoded}).encode(), what="ring")


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"{",
        b'{"a": 1}',
        b'{"a": "AAAA"}',
        b'{"a": "x", "a": "y"}',
        json.dumps({str(i): "" for i in range(65)}).encode(),
    ],
)
def test_bad_keyrings(raw: bytes) -> None:
    with pytest.raises(InputError, match="ring"):
        Keyring.parse(raw, what="ring")


def test_the_packaged_keyring_holds_no_key_whose_seed_is_known() -> None:
    packaged = Keyring.parse(read_template("license_keyring.json"), what="packaged")
    known = (
        [bytes([n]) * 32 for n in range(256)]
        + [bytes((n + i) % 256 for i in range(32)) for n in range(256)]
        + [SEED, OTHER]
    )
    public = {bytes(SigningKey(seed).verify_key) for seed in known}
    assert not public & {bytes(key) for key in packaged.keys.values()}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    good = text()
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    status = judge(changed)
    if status.ok:
        assert json.loads(changed) == json.loads(good)


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=50),
    st.integers(0, NOW),
    st.integers(NOW + 1, 2**53 - 1),
    st.sampled_from([None, "k1"]),
)
def test_what_is_issued_is_accepted(org: str, issued: int, expires: int, kid: str | None) -> None:
    raw = text(org=org, issued_at=issued, expires_at=expires, kid=kid)
    assert judge(raw).ok
    body = json.loads(raw)
    signature = body.pop("signature")
    # Any layout of the same object carries the same signature.
    assert judge(json.dumps({"signature": signature, **body}, ensure_ascii=True).encode()).ok
    SigningKey(SEED).verify_key.verify(dumps_canonical(body), base64.b64decode(signature))


def test_decode_base64_names_what_it_is() -> None:
    with pytest.raises(InputError, match="thing: expected base64 text, found int"):
        decode_base64(5, 1, what="thing")
