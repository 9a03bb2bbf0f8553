"""`mk k8s`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.files import read_beside, read_file
from gitops_mk.cli.options import PATH, json_option, license_option, out_option, repo_options

plan_option = click.option("--plan", "plan_path", type=PATH, required=True, help="A k8s_plan.json.")


@click.group(epilog="Example: mk k8s render --plan report/cl/k8s_plan.json --out report/render")
def k8s() -> None:
    """Plans as Kubernetes sees them. Nothing here writes to a cluster."""


@k8s.command(epilog="Example: mk k8s render --plan report/cl/k8s_plan.json --out report/render")
@plan_option
@out_option
@json_option
def render(plan_path: Path, out: Path, as_json: bool) -> None:
    """Render a plan: the kubectl script, which is never executed, and the kustomize files."""
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.adapters.clock import SystemClock
    from gitops_mk.controller.plan import RECORDS_FILE, SCRIPT_FILE
    from gitops_mk.controller.rendering import render_plan
    from gitops_mk.model.report import report

    clock = SystemClock()
    started = clock.now()
    text = read_file(plan_path)
    records = read_beside(plan_path, RECORDS_FILE)
    rendered = render_plan(text, records, what=str(plan_path))
    artifacts = FolderStore(out)
    artifacts.explain("k8s_render_start", {"plan": str(plan_path), "items": len(rendered.items)}, at=started)
    script = artifacts.text(SCRIPT_FILE, rendered.script)
    files = {name: artifacts.text(f"kustomize/{name}", data) for name, data in sorted(rendered.files.items())}
    payload = report(
        {
            "ok": True,
            "plan_path": str(plan_path),
            "items": [item.plain() for item in rendered.items],
            "script_path": script,
            "kustomize_files": files,
        },
        started=started,
        finished=clock.now(),
        out_dir=artifacts.out_dir,
    )
    path = artifacts.report("k8s_render", payload, at=started)
    artifacts.explain("k8s_render_report", {"path": path}, at=clock.now())
    if as_json:
        output.print_json(payload)
        return
    output.say(f"{len(rendered.items)} items; script {script} (not executed)")
    for name in files:
        output.say(f"  kustomize/{name}")


@k8s.command("apply", epilog="Example: mk k8s apply --plan report/cl/k8s_plan.json --repo ~/gitops")
@plan_option
@repo_options
@license_option
@out_option
@json_option
def apply_plan(
    plan_path: Path,
    repo: Path | None,
    forge: str | None,
    base_branch: str | None,
    license_path: Path | None,
    out: Path,
    as_json: bool,
) -> int:
    """Merge the pull request that proposes this plan, through the gate; exit 0 applied, 1 failed, 2 blocked."""
    from gitops_mk.cli.applying import apply_command
    from gitops_mk.config import Access

    return apply_command(Access(repo, forge, base_branch, license_path), out, as_json=as_json, plan_path=plan_path)
