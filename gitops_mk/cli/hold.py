"""`mk hold`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import json_option, repo_options


@click.group(epilog="Example: mk hold list --repo ~/gitops")
def hold() -> None:
    """Holds: what reviewers said no to, by closing a pull request or taking a change back."""


@hold.command("list", epilog="Example: mk hold list --json")
@repo_options
@json_option
def list_(repo: Path | None, forge: str | None, base_branch: str | None, as_json: bool) -> None:
    """List the holds that are in force."""
    from gitops_mk.config import Access
    from gitops_mk.controller.holding import all_holds
    from gitops_mk.wiring import make_tools, open_workplace

    tools = make_tools()
    with open_workplace(Access(repo, forge, base_branch), tools, writes=False) as place:
        found = all_holds(place, tools)
    if as_json:
        output.print_json([item.plain() for item in found])
        return
    rows = [
        (h.workload, ", ".join(h.knobs), h.source, f"#{h.pr}" if h.pr else "-", h.by, h.at[:10], h.detail)
        for h in found
    ]
    output.table(("workload", "knobs", "why", "pr", "by", "since", "detail"), rows)
    if not rows:
        output.say("nothing is on hold")


@hold.command(epilog="Example: mk hold release 3 --repo ~/gitops")
@click.argument("number", type=click.IntRange(min=1))
@repo_options
def release(number: int, repo: Path | None, forge: str | None, base_branch: str | None) -> None:
    """Release the hold that pull request NUMBER left behind."""
    from gitops_mk.config import Access
    from gitops_mk.controller.holding import release_hold
    from gitops_mk.wiring import make_tools, open_workplace, user_identity

    by = user_identity(repo)
    tools = make_tools()
    with open_workplace(Access(repo, forge, base_branch), tools, writes=False) as place:
        released = release_hold(place, number, by, tools)
    output.say(f"released: {', '.join(released.knobs)} of {released.workload}")
