"""`mk passport`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.files import read_file
from gitops_mk.cli.options import PATH, json_option
from gitops_mk.errors import InputError


@click.group(epilog="Example: mk passport show --template pilot")
def passport() -> None:
    """Passports: the limits a team gives its workload."""


@passport.command(epilog="Example: mk passport templates")
@json_option
def templates(as_json: bool) -> None:
    """List the built-in passports."""
    from gitops_mk.adapters.resources import built_in
    from gitops_mk.core.documents import parse_json
    from gitops_mk.model.passport import Passport

    loaded = [parse_json(Passport, text, what=name) for name, text in built_in().passports.items()]
    if as_json:
        output.print_json([{"id": p.id, "description": p.description} for p in loaded])
        return
    output.table(("passport", "what for"), [(p.id, p.description) for p in loaded])


@passport.command(epilog="Example: mk passport show --template safe > .modekeeper/passports/mine.json")
@click.option("--template", required=True, help="A built-in passport.")
def show(template: str) -> None:
    """Print a built-in passport as JSON: a start for one of your own."""
    from gitops_mk.adapters.resources import built_in

    texts = built_in().passports
    if template not in texts:
        raise InputError(f"no built-in passport {template!r}", hint=f"there are {', '.join(texts)}")
    click.echo(texts[template].decode(), nl=False)


@passport.command(epilog="Example: mk passport validate --file .modekeeper/passports/mine.json")
@click.option("--file", "path", type=PATH, required=True, help="The passport.v0 file to validate.")
@json_option
def validate(path: Path, as_json: bool) -> None:
    """Validate a passport; exit 0 when it is valid, 2 when not."""
    from gitops_mk.core.documents import parse_json
    from gitops_mk.model.passport import Passport

    loaded = parse_json(Passport, read_file(path), what=str(path))
    if as_json:
        output.print_json({"ok": True, "id": loaded.id, "sha256": loaded.sha256})
        return
    output.say(
        f"valid: passport {loaded.id}, {len(loaded.allowed_chords)} chords, {len(loaded.allowed_knobs)} knobs", ok=True
    )
