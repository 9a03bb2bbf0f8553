"""`mk propose`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.files import read_beside, read_file
from gitops_mk.cli.options import PATH, json_option, license_option, out_option, repo_options
from gitops_mk.errors import EXIT_BAD_INPUT


@click.command(epilog="Example: mk propose --plan report/cl/k8s_plan.json --repo ~/gitops")
@click.option(
    "--plan", "plan_path", type=PATH, required=True, help="A k8s_plan.json with its records beside it, or a record."
)
@repo_options
@license_option
@out_option
@json_option
def propose(
    plan_path: Path,
    repo: Path | None,
    forge: str | None,
    base_branch: str | None,
    license_path: Path | None,
    out: Path,
    as_json: bool,
) -> int:
    """Bring a plan onto its workload's branch and open, or update, its one pull request.

    Without a licence the pull request is a draft. The same plan again is not one write.
    """
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.config import Access
    from gitops_mk.controller.plan import RECORDS_FILE, read_records
    from gitops_mk.controller.proposing import propose_plan
    from gitops_mk.model.gate import first_active
    from gitops_mk.model.report import report
    from gitops_mk.wiring import make_tools, open_workplace

    tools = make_tools()
    plans = read_records(read_file(plan_path), read_beside(plan_path, RECORDS_FILE), what=str(plan_path))
    artifacts = FolderStore(out)
    started = tools.clock.now()
    with open_workplace(Access(repo, forge, base_branch, license_path, out=out), tools, writes=True) as place:
        killed = first_active(place.kill_switch.read())
        results = [] if killed else [propose_plan(place, plan, tools) for plan in plans]
    payload = report(
        {
            "ok": killed is None and all(r.reason is None for r in results),
            "kill_switch_active": killed is not None,
            "items": [
                {
                    "workload": plan.workload.key,
                    "outcome": result.outcome,
                    "pr": result.pr.number if result.pr else None,
                    "branch": plan.workload.branch,
                    "draft": result.pr.draft if result.pr else None,
                    "reason": result.reason,
                    "message": result.message,
                    "writes": result.writes,
                    "plan_digest": plan.digest,
                }
                for plan, result in zip(plans, results, strict=False)
            ],
        },
        started=started,
        finished=tools.clock.now(),
        out_dir=artifacts.out_dir,
    )
    artifacts.report("propose", payload, at=started)
    artifacts.explain("propose_report", {"items": payload["items"], "killed": killed is not None}, at=tools.clock.now())
    if as_json:
        output.print_json(payload)
    if killed is not None:
        output.fixed_error(output.kill_line(killed.source, killed.detail))
        return EXIT_BAD_INPUT
    for plan, result in zip(plans, results, strict=True):
        number = f"#{result.pr.number}" if result.pr else "no pull request"
        if not as_json:
            draft = ", draft" if result.pr and result.pr.draft else ""
            output.say(f"{plan.workload}: {number} {result.outcome}{draft} ({result.writes} writes)")
        if result.reason is not None:
            output.explain_block(result.reason, result.message)
    if not plans and not as_json:
        output.say("the plan is empty: nothing to propose")
    return EXIT_BAD_INPUT if any(r.reason is not None for r in results) else 0
