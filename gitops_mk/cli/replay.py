"""`mk replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import format_option, json_option, out_option

if TYPE_CHECKING:
    from gitops_mk.core.recommend import Policy
    from gitops_mk.core.replay import Row, Stretch


@click.command(epilog="Example: mk replay train.jsonl.gz --window 300 --hop 60 --confirm 3")
@click.argument("trace")
@click.option(
    "--window", type=int, default=300, show_default=True, help="Lines that are looked at together, 30 or more."
)
@click.option("--hop", type=int, default=60, show_default=True, help="Lines from one look to the next.")
@click.option("--confirm", type=int, default=3, show_default=True, help="Windows in a row that must agree.")
@click.option("--policy", type=click.Choice(["chord", "scalar"]), default="chord", show_default=True)
@format_option
@out_option
@json_option
def replay(
    trace: str, window: int, hop: int, confirm: int, policy: Policy, fmt: str | None, out: Path, as_json: bool
) -> None:
    """Ask a recorded run again, window by window: what was seen, and when a pull request would have been opened.

    TRACE is a telemetry file: JSON lines, CSV or a trainer's log, maybe .gz; - for stdin.
    """
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.adapters.clock import SystemClock
    from gitops_mk.controller.replay import replay as run
    from gitops_mk.controller.replay import replay_payload
    from gitops_mk.core.replay import Act, check_windows, stretches
    from gitops_mk.model.report import report
    from gitops_mk.wiring import make_source

    check_windows(window=window, hop=hop, confirm=confirm)
    clock = SystemClock()
    source = make_source(source="file", path=trace, scenario=None, fmt=fmt)
    artifacts = FolderStore(out)
    started = clock.now()
    with output.progress("reading lines") as progress:
        done = run(
            source, clock=clock, artifacts=artifacts, window=window, hop=hop, confirm=confirm, policy=policy,
            progress=progress,
        )  # fmt: skip
    body = replay_payload(done, window=window, hop=hop, confirm=confirm, policy=policy)
    payload = report(body, started=started, finished=clock.now(), out_dir=artifacts.out_dir)
    written = artifacts.report("replay", payload, at=started)
    if as_json:
        output.print_json(payload)
        return
    output.table(("STEPS", "UNTIL", "SEEN", "IN A ROW", "POLICY"), [_cells(part) for part in stretches(done.rows)])
    proposed = sum(row.act is Act.PROPOSE for row in done.rows)
    counts = done.whole.ingest
    found = ", ".join(done.whole.found) or ("nothing" if done.whole.stable else "not enough evidence")
    output.say(f"{len(done.rows)} windows, {proposed} proposals; the whole recording at once shows: {found}")
    output.say(f"{counts.lines} lines, {counts.records} records, {counts.dropped_total} dropped; report {written}")


def _cells(part: Stretch) -> tuple[str, ...]:
    first, last = part.first, part.last
    steps = f"{_step(first.window.first_step)}-{_step(last.window.last_step)}"
    says = last.says if len(part.rows) == 1 else f"{last.says} ({len(part.rows)} windows)"
    row_counts = ", ".join(str(s.in_a_row) for s in last.signals)
    return steps, last.window.last_ts or "-", _seen(last), row_counts or "-", says


def _step(step: int | None) -> str:
    return "?" if step is None else str(step)


def _seen(row: Row) -> str:
    from gitops_mk.core.render.text import plain

    if not row.signals:
        return "stable" if row.classification == "no_actionable_signal" else "not enough evidence"
    parts = []
    for signal in row.signals:
        effect = "" if signal.effect is None else f" {signal.effect:+.0%}"
        culprits = f" ({plain(', '.join(signal.culprits), most=60)})" if signal.culprits else ""
        parts.append(f"{signal.name}{effect}{culprits}")
    return ", ".join(parts)
