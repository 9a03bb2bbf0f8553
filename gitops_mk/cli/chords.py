"""`mk chords`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mk.cli import output
from gitops_mk.cli.files import read_file
from gitops_mk.cli.options import PATH, json_option, out_option
from gitops_mk.errors import EXIT_BAD_INPUT, InputError

if TYPE_CHECKING:
    from gitops_mk.model.chord import ChordCatalog


@click.group(epilog="Example: mk chords show DRIFT-RETUNE")
def chords() -> None:
    """Chords: macro-operations with invariants, and the catalog that holds their guardrails."""


catalog_option = click.option("--catalog", type=PATH, help="A chord_catalog.v1 file. Default: the built-in one.")


def _load(path: Path | None) -> ChordCatalog:
    from gitops_mk.adapters.resources import read_template
    from gitops_mk.core.documents import parse_json
    from gitops_mk.model.chord import ChordCatalog

    if path is None:
        return parse_json(ChordCatalog, read_template("chord_catalog.json"), what="the built-in chord catalog")
    return parse_json(ChordCatalog, read_file(path), what=str(path))


@chords.command("list", epilog="Example: mk chords list --json")
@catalog_option
@json_option
def list_(catalog: Path | None, as_json: bool) -> None:
    """List the chords of a catalog."""
    loaded = _load(catalog)
    if as_json:
        output.print_json([chord.plain() for chord in loaded.chords])
        return
    rows = [
        (c.id, c.risk_tier, ", ".join(c.required_signals) or "-", ", ".join(c.knobs_touched) or "-")
        for c in loaded.chords
    ]
    output.table(("chord", "risk", "signals", "knobs"), rows)


@chords.command(epilog="Example: mk chords show INPUT-STRAGGLER")
@click.argument("chord_id", metavar="ID")
@catalog_option
@json_option
def show(chord_id: str, catalog: Path | None, as_json: bool) -> None:
    """Show one chord."""
    loaded = _load(catalog)
    chord = loaded.get(chord_id)
    if chord is None:
        raise InputError(
            f"no chord {chord_id!r} in the catalog", hint=f"it has {', '.join(c.id for c in loaded.chords)}"
        )
    if as_json:
        output.print_json(chord.plain())
        return
    output.say(f"{chord.id} ({chord.risk_tier})")
    output.say(f"  {chord.intent}")
    output.say(f"  signals     {', '.join(chord.required_signals) or 'none'}")
    output.say(f"  invariants  {', '.join(chord.invariants) or 'none'}")
    output.say(f"  knobs       {', '.join(chord.knobs_touched) or 'none'}")
    if chord.cooldown_ms is not None:
        output.say(f"  cooldown    {chord.cooldown_ms // 1000} s")
    if chord.budget is not None:
        output.say(f"  budget      {chord.budget.max_changes} in {chord.budget.window_ms // 1000} s")


@chords.command(epilog="Example: mk chords validate --catalog catalog.json --out report/chords")
@click.option("--catalog", type=PATH, required=True, help="The chord_catalog.v1 file to validate.")
@out_option
@json_option
def validate(catalog: Path, out: Path, as_json: bool) -> int:
    """Validate a catalog; exit 0 when it is valid, 2 when not."""
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.adapters.clock import SystemClock
    from gitops_mk.cli.main import tell
    from gitops_mk.model.report import report

    clock = SystemClock()
    started = clock.now()
    artifacts = FolderStore(out)
    error: InputError | None = None
    ids: list[str] = []
    try:
        ids = [chord.id for chord in _load(catalog).chords]
    except InputError as exc:
        error = exc
    payload = report(
        {
            "ok": error is None,
            "catalog": str(catalog),
            "chords": ids,
            "errors": [error.message] if error else [],
        },
        started=started,
        finished=clock.now(),
        out_dir=artifacts.out_dir,
    )
    artifacts.report("chords_validate", payload, at=started)
    if as_json:
        output.print_json(payload)
    elif error is None:
        output.say(f"valid: {len(ids)} chords", ok=True)
    if error is not None:
        tell(error.message, error.hint)
        return EXIT_BAD_INPUT
    return 0
