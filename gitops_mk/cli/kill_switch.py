"""`mk kill-switch`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import json_option, repo_options
from gitops_mk.errors import InputError


@click.group("kill-switch", epilog="Example: mk kill-switch status --repo ~/gitops")
def kill_switch() -> None:
    """The kill switch: any one source stops every merge, none can clear another."""


@kill_switch.command(epilog="Example: mk kill-switch status --json")
@repo_options
@json_option
def status(repo: Path | None, forge: str | None, base_branch: str | None, as_json: bool) -> None:
    """Show every source. Outside a configured repository: the environment's alone."""
    from gitops_mk.adapters.killswitch import GateKillSwitch
    from gitops_mk.config import Access
    from gitops_mk.wiring import is_configured, make_tools, open_workplace

    if repo is None and forge is None and not is_configured(Path()):
        readings = GateKillSwitch(None).read()
    else:
        with open_workplace(Access(repo, forge, base_branch), make_tools(), writes=False) as place:
            readings = place.kill_switch.read()
    active = any(reading.active for reading in readings)
    if as_json:
        output.print_json({"active": active, "sources": [reading.plain() for reading in readings]})
        return
    rows = [(r.source, "ACTIVE" if r.active else "clear" if r.configured else "not in use", r.detail) for r in readings]
    output.table(("source", "state", "detail"), rows)
    output.say("merges are stopped" if active else "merges may pass this gate", ok=not active)


@kill_switch.command(epilog='Example: mk kill-switch on --reason "benchmark week" --repo ~/gitops')
@click.option("--reason", default="", help="Why; kept in the file.")
@repo_options
def on(reason: str, repo: Path | None, forge: str | None, base_branch: str | None) -> None:
    """Throw the repository's switch: a file on the base branch."""
    _throw(True, reason, repo, forge, base_branch)


@kill_switch.command(epilog="Example: mk kill-switch off --repo ~/gitops")
@repo_options
def off(repo: Path | None, forge: str | None, base_branch: str | None) -> None:
    """Clear the repository's switch. Other sources stay as they are."""
    _throw(False, "", repo, forge, base_branch)


def _throw(active: bool, reason: str, repo: Path | None, forge: str | None, base_branch: str | None) -> None:
    from gitops_mk.config import Access
    from gitops_mk.controller.killing import throw
    from gitops_mk.wiring import make_tools, open_workplace

    tools = make_tools()
    with open_workplace(Access(repo, forge, base_branch), tools, writes=False) as place:
        sha = throw(place, active=active, reason=reason, clock=tools.clock)
        left = [reading for reading in place.kill_switch.read() if reading.active]
    word = "on" if active else "off"
    output.say(f"the repository's kill switch is {word}" + (f" ({sha[:12]})" if sha else " already"))
    if not active and left:
        raise InputError(f"merges are still stopped: {'; '.join(f'{r.source}: {r.detail}' for r in left)}")
