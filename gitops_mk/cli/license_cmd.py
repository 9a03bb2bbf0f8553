"""`mk license`."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import click

from gitops_mk.adapters.license_files import mint, new_payload
from gitops_mk.cli import output
from gitops_mk.cli.files import read_file
from gitops_mk.cli.options import PATH, json_option, out_option
from gitops_mk.errors import EXIT_BAD_INPUT, InputError

keyring_option = click.option(
    "--keyring", type=PATH, help="Keyring: JSON {kid: base64 public key}. Default: the variable, then the packaged one."
)


@click.group("license", epilog="Example: mk license mint-dev --out report/license")
def license_group() -> None:
    """Licences: what merging needs, besides a verified pull request.

    Looked for in this order: --license-path, MODEKEEPER_LICENSE_PATH, ./modekeeper.license.json. The keyring:
    MODEKEEPER_LICENSE_PUBLIC_KEYS_PATH, or the packaged one.
    """


@license_group.command(epilog="Example: mk license verify --license license.json --out report/license")
@click.option("--license", "path", type=PATH, help="The licence file. Default: the usual order.")
@keyring_option
@click.option("--bind", "bindings", multiple=True, metavar="NAME=VALUE", help="A live value that a binding must match.")
@out_option
@json_option
def verify(path: Path | None, keyring: Path | None, bindings: tuple[str, ...], out: Path, as_json: bool) -> int:
    """Check a licence; exit 0 when it would open the gate, 2 when not."""
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.adapters.clock import SystemClock
    from gitops_mk.adapters.license_files import find_license, keyring_text, read_status, read_status_of
    from gitops_mk.model.report import report

    clock = SystemClock()
    started = clock.now()
    live = _pairs(bindings)
    named, _ = find_license(path)
    if named is None:
        status = read_status(None, now=started, bindings=live)
    else:
        status = read_status_of(named, keyring_text(keyring), now=started, bindings=live)
    artifacts = FolderStore(out)
    payload = report(
        {**status.plain(), "license_ok": status.ok}, started=started, finished=clock.now(), out_dir=artifacts.out_dir
    )
    artifacts.report("license_verify", payload, at=started)
    if as_json:
        output.print_json(payload)
    elif status.ok:
        output.say(f"valid: {status.org}, {', '.join(status.entitlements)}, key {status.kid}", ok=True)
    if not status.ok:
        from gitops_mk.cli.main import tell

        code = f" ({status.failure_code})" if status.failure_code else ""
        tell(f"{status.reason}{code}: {status.message}", f"docs/reasons.md says what to do about {status.reason}")
        return EXIT_BAD_INPUT
    return 0


@license_group.command(epilog="Example: mk license show --license license.json")
@click.option("--license", "path", type=PATH, required=True, help="The licence file.")
@json_option
def show(path: Path, as_json: bool) -> None:
    """Print what a licence says. Its signature is not checked here: see `mk license verify`."""
    from gitops_mk.core.licensing import LIMITS
    from gitops_mk.model.canonical import loads_strict
    from gitops_mk.model.license import LicensePayload
    from gitops_mk.model.times import from_epoch

    data = loads_strict(read_file(path), what=str(path), limits=LIMITS)
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object")
    payload = LicensePayload.parse({k: v for k, v in data.items() if k != "signature"}, what=str(path))
    if as_json:
        output.print_json({**payload.plain(), "signature_checked": False})
        return
    output.say(f"{payload.org}: {', '.join(payload.entitlements) or 'no entitlements'}")
    output.say(f"  issued   {from_epoch(payload.issued_at)}")
    output.say(f"  expires  {from_epoch(payload.expires_at)}")
    output.say(f"  key      {payload.kid or 'any of the keyring'}")
    for name, value in (payload.bindings or {}).items():
        output.say(f"  bound    {name} = {value}")
    output.say("  signature not checked")


@license_group.command(epilog="Example: mk license keygen --kid team-2026 --seed seed.key --keyring keyring.json")
@click.option("--kid", required=True, help="The key's id, as licences will name it.")
@click.option("--seed", type=PATH, required=True, help="Where the private seed goes; readable by you alone.")
@click.option("--keyring", type=PATH, required=True, help="The keyring to add the public key to; made when missing.")
def keygen(kid: str, seed: Path, keyring: Path) -> None:
    """Make a signing key: the seed for whoever issues licences, the public key into a keyring."""
    from gitops_mk.core.licensing import Keyring, public_key
    from gitops_mk.model.canonical import dumps_pretty, loads_strict

    _check_kid(kid)
    keys: dict[str, Any] = {}
    if keyring.exists():
        text = read_file(keyring)
        Keyring.parse(text, what=str(keyring))
        keys = loads_strict(text, what=str(keyring))
    if kid in keys:
        raise InputError(f"{keyring} has a key {kid!r} already", hint="rotate by adding another kid; keep the old one")
    secret = os.urandom(32)
    _write_secret(seed, base64.b64encode(secret) + b"\n")
    keys[kid] = public_key(secret)
    _write(keyring, dumps_pretty(keys))
    output.say(f"seed {seed} (keep it secret), public key {kid} in {keyring}")


@license_group.command(
    epilog="Example: mk license issue --seed seed.key --kid team-2026 --org Acme --days 365 --output license.json"
)
@click.option("--seed", type=PATH, required=True, help="The private seed, as keygen wrote it.")
@click.option("--kid", required=True, help="The key's id in the keyring.")
@click.option("--org", required=True, help="Who it is for.")
@click.option("--issuer", help="Who issues it.")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it is valid.")
@click.option("--entitlement", "entitlements", multiple=True, default=("apply",), show_default=True)
@click.option(
    "--bind", "bindings", multiple=True, metavar="NAME=VALUE", help="Bind it to a repository or a root_commit."
)
@click.option("--output", "path", type=PATH, required=True, help="The licence file to write.")
def issue(
    seed: Path,
    kid: str,
    org: str,
    issuer: str | None,
    days: int,
    entitlements: tuple[str, ...],
    bindings: tuple[str, ...],
    path: Path,
) -> None:
    """Issue a licence."""
    from gitops_mk.core.licensing import decode_base64, sign_license
    from gitops_mk.model.canonical import dumps_pretty

    secret = decode_base64(read_file(seed).decode("ascii", "replace").strip(), 32, what=str(seed))
    payload = new_payload(org, issuer, kid, days, entitlements, _pairs(bindings))
    _write(path, dumps_pretty(sign_license(payload, secret)))
    output.say(f"licence {path}: {org}, {', '.join(entitlements)}, {days} days, key {kid}")


@license_group.command("mint-dev", epilog="Example: mk license mint-dev --out report/license")
@click.option("--org", default="development", show_default=True, help="Who it is for.")
@click.option("--days", type=click.IntRange(1, 30), default=7, show_default=True, help="How long it is valid.")
@out_option
@json_option
def mint_dev(org: str, days: int, out: Path, as_json: bool) -> None:
    """Mint a development licence with a fresh key and a keyring of its own; the key is forgotten at once."""
    from gitops_mk.adapters.license_files import KEYRING_VARIABLE, LICENSE_VARIABLE

    license_path, keyring_path = mint(out, org=org, days=days)
    if as_json:
        output.print_json({"license": str(license_path), "keyring": str(keyring_path), "days": days})
        return
    import shlex

    output.say(f"export {LICENSE_VARIABLE}={shlex.quote(str(license_path.resolve()))}")
    output.say(f"export {KEYRING_VARIABLE}={shlex.quote(str(keyring_path.resolve()))}")


def _check_kid(kid: str) -> None:
    new_payload("x", None, kid, 1, (), {})


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise InputError(f"binding {text!r}, expected NAME=VALUE")
        pairs[name] = value
    return pairs


def _write(path: Path, text: str) -> None:
    from gitops_mk.adapters.artifacts import FolderStore

    FolderStore(path.parent).text(path.name, text)


def _write_secret(path: Path, data: bytes) -> None:
    """Create the file for its owner alone; never over one that is there."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except FileExistsError as exc:
        raise InputError(f"{path} is there already; a seed is never overwritten", hint="choose another name") from exc
    except OSError as exc:
        raise InputError(f"{path} can't be written: {exc.strerror}") from exc
