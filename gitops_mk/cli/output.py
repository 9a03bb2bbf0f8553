"""How commands print: JSON for machines, lines for people, colour only on a terminal, progress only where it is looked at."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

HINTS = {
    "pr_draft": "propose it again with the licence: `mk propose --plan …`",
    "review_required": "`mk pr approve N`, by somebody else than the controller",
    "held_by_reviewer": "`mk hold list` shows who; `mk hold release N` ends it",
    "base_moved": "`mk verify --pr N`, then apply again",
    "head_moved": "`mk verify --pr N`, then apply again",
}
VERIFY_LINE = "ERROR: verify_ok=true is required for apply/mutate operations"


def kill_line(source: str, detail: str) -> str:
    """The fixed line of a thrown kill switch; sources other than the variable name themselves in its place."""
    what = "MODEKEEPER_KILL_SWITCH=1" if source == "environment" else detail
    return f"ERROR: {what} blocks apply/mutate operations"


def print_json(value: Any) -> None:
    """One JSON document on stdout, keys sorted."""
    from gitops_mk.model.canonical import dumps_pretty

    click.echo(dumps_pretty(value), nl=False)


def say(text: str = "", *, ok: bool | None = None) -> None:
    """One line for people; green or red when `ok` says which, on a terminal that shows colour."""
    click.secho(text, fg=None if ok is None else "green" if ok else "red")


def fixed_error(line: str) -> None:
    """One of the contract's fixed lines, alone on stderr."""
    sys.stderr.write(line + "\n")


def hint(text: str) -> None:
    """One `hint:` line on stderr."""
    sys.stderr.write(f"hint: {text}\n")


def table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as their content; nothing when there are no rows."""
    if not rows:
        return
    widths = [max(len(str(row[i])) for row in (headers, *rows)) for i in range(len(headers))]
    for number, row in enumerate((headers, *rows)):
        line = "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.secho(line, bold=number == 0)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], None] | None]:
    """A counter on stderr that moves while something long runs; None where nobody looks at it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda count: status.update(f"{what}: {count:,}")


def explain_block(reason: str | None, message: str) -> None:
    """The stderr line of a closed gate: the contract's fixed one for verify, ours with the reason for the others."""
    if reason is None:
        return
    if reason.startswith("verify_"):
        fixed_error(VERIFY_LINE)
        return
    from gitops_mk.cli.main import tell

    tell(f"{reason}: {message}", HINTS.get(reason, f"docs/reasons.md says what to do about {reason}"))
