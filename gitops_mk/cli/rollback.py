"""`mk rollback`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import json_option, license_option, out_option, repo_options
from gitops_mk.errors import EXIT_BAD_INPUT, InputError


@click.command(epilog="Example: mk rollback --pr 3 --repo ~/gitops")
@click.option("--pr", "number", type=click.IntRange(min=1), required=True, help="The merged pull request to undo.")
@repo_options
@license_option
@out_option
@json_option
def rollback(
    number: int,
    repo: Path | None,
    forge: str | None,
    base_branch: str | None,
    license_path: Path | None,
    out: Path,
    as_json: bool,
) -> int:
    """Open the pull request that takes a merged one back. It is verified, gated and merged like any other."""
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.config import Access
    from gitops_mk.controller.rollback import propose_rollback
    from gitops_mk.model.gate import first_active
    from gitops_mk.model.report import report
    from gitops_mk.wiring import make_tools, open_workplace

    tools = make_tools()
    artifacts = FolderStore(out)
    started = tools.clock.now()
    with open_workplace(Access(repo, forge, base_branch, license_path, out=out), tools, writes=True) as place:
        killed = first_active(place.kill_switch.read())
        if killed is not None:
            output.fixed_error(output.kill_line(killed.source, killed.detail))
            return EXIT_BAD_INPUT
        pr = place.forge.get_pr(number)
        if pr is None:
            raise InputError(f"there is no pull request #{number}", hint="`mk pr list` shows those there are")
        plan, proposal = propose_rollback(place, pr, tools)
    payload = report(
        {
            "rollback_of": number,
            "plan": plan.plain(),
            "outcome": proposal.outcome,
            "pr": proposal.pr.number if proposal.pr else None,
            "reason": proposal.reason,
            "message": proposal.message,
        },
        started=started,
        finished=tools.clock.now(),
        out_dir=artifacts.out_dir,
    )
    artifacts.report("rollback_plan", payload, at=started)
    if as_json:
        output.print_json(payload)
    elif proposal.pr is not None:
        output.say(f"#{proposal.pr.number} {proposal.outcome}: undoes #{number}")
    if proposal.reason is not None:
        output.explain_block(proposal.reason, proposal.message)
        return EXIT_BAD_INPUT
    return 0
