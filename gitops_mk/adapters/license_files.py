"""Where licences and keyrings lie: read afresh at every decision, never remembered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from gitops_mk.adapters.artifacts import FolderStore
from gitops_mk.adapters.resources import read_template
from gitops_mk.errors import InputError
from gitops_mk.model.canonical import dumps_pretty
from gitops_mk.model.license import FailureCode, LicensePayload, LicenseStatus
from gitops_mk.model.verdict import Reason

LICENSE_VARIABLE = "MODEKEEPER_LICENSE_PATH"
KEYRING_VARIABLE = "MODEKEEPER_LICENSE_PUBLIC_KEYS_PATH"
DAY = 86_400
DEFAULT_NAME = "modekeeper.license.json"


def find_license(option: Path | None) -> tuple[Path | None, bool]:
    """The licence file and whether it was named: `--license-path`, then the variable, then `./modekeeper.license.json`."""
    if option is not None:
        return option, True
    named = os.environ.get(LICENSE_VARIABLE)
    if named:
        return Path(named), True
    default = Path(DEFAULT_NAME)
    return (default, False) if default.exists() else (None, False)


def read_status(option: Path | None, *, now: datetime, bindings: Mapping[str, str]) -> LicenseStatus:
    """Find, read and judge the licence. Never raises for a bad one: that is an answer."""
    path, _ = find_license(option)
    if path is None:
        return LicenseStatus(
            ok=False,
            reason=Reason.LICENSE_MISSING,
            message=f"no licence: none named, and no ./{DEFAULT_NAME}",
        )
    return read_status_of(path, keyring_text(), now=now, bindings=bindings)


def read_status_of(
    path: Path, keyring: tuple[str, bytes | None], *, now: datetime, bindings: Mapping[str, str]
) -> LicenseStatus:
    """Judge the licence at `path` with a keyring given as (its name, its text)."""
    from gitops_mk.core.licensing import LIMITS, Keyring, check_license

    def invalid(code: FailureCode, message: str) -> LicenseStatus:
        return LicenseStatus(
            ok=False, reason=Reason.LICENSE_INVALID, failure_code=code, message=message, path=str(path)
        )

    try:
        with path.open("rb") as file:
            text = file.read(LIMITS.max_bytes + 1)
    except FileNotFoundError:
        return invalid(FailureCode.FILE_MISSING, f"{path} does not exist")
    except OSError as exc:
        return invalid(FailureCode.FILE_UNREADABLE, f"{path} can't be read: {exc.strerror}")
    name, raw = keyring
    if raw is None:
        return invalid(FailureCode.KEYRING_INVALID, f"the keyring {name} can't be read")
    try:
        keys = Keyring.parse(raw, what=name)
    except InputError as exc:
        return invalid(FailureCode.KEYRING_INVALID, exc.message)
    return check_license(text, keys, now=int(now.timestamp()), bindings=bindings, path=str(path))


def keyring_text(option: Path | None = None) -> tuple[str, bytes | None]:
    """The keyring: `--keyring`, then the variable, then the packaged one; its text is None when it can't be read."""
    named = option or (Path(os.environ[KEYRING_VARIABLE]) if os.environ.get(KEYRING_VARIABLE) else None)
    if named is None:
        return "the packaged keyring", read_template("license_keyring.json")
    try:
        return str(named), named.read_bytes()
    except OSError:
        return str(named), None


def new_payload(
    org: str, issuer: str | None, kid: str, days: int, entitlements: tuple[str, ...], bindings: Mapping[str, str]
) -> LicensePayload:
    """What a licence issued now would say. Raises InputError for values it can't hold."""
    now = int(datetime.now(UTC).timestamp())
    return LicensePayload.parse(
        {
            "schema_version": "license.v1",
            "org": org,
            "issuer": issuer,
            "kid": kid,
            "issued_at": now,
            "expires_at": now + days * DAY,
            "entitlements": list(entitlements),
            "bindings": dict(bindings) or None,
        },
        what="licence",
    )


def mint(folder: Path, *, org: str, days: int) -> tuple[Path, Path]:
    """A development licence and its keyring in `folder`, made with a fresh key that is forgotten; gives their paths."""
    from gitops_mk.core.licensing import public_key, sign_license

    secret = os.urandom(32)
    kid = f"dev-{os.urandom(4).hex()}"
    store = FolderStore(folder)
    signed = sign_license(new_payload(org, "mint-dev", kid, days, ("apply",), {}), secret)
    return (
        Path(store.text("license_dev.json", dumps_pretty(signed))),
        Path(store.text("license_dev_public_keys.json", dumps_pretty({kid: public_key(secret)}))),
    )
