"""`mk k8s`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.files import read_beside, read_file
from gitops_mk.cli.options import PATH, cluster_options, json_option, license_option, out_option, repo_options
from gitops_mk.errors import EXIT_FAILED, InputError

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


@k8s.command("verify", epilog="Example: mk k8s verify --plan report/cl/k8s_plan.json --out report/cl")
@plan_option
@cluster_options
@out_option
@json_option
def verify_plan(plan_path: Path, kubeconfig: str | None, context: str | None, out: Path, as_json: bool) -> int:
    """Check a plan against the live cluster, which changes nothing there; exit 0 ok, 1 not ok, 2 bad input."""
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.adapters.clock import SystemClock
    from gitops_mk.controller.k8s_verify import verify_items
    from gitops_mk.controller.plan import RECORDS_FILE, read_items, read_records
    from gitops_mk.model.report import report
    from gitops_mk.wiring import open_cluster

    clock = SystemClock()
    started = clock.now()
    text = read_file(plan_path)
    items = read_items(text, what=str(plan_path))
    beside = read_beside(plan_path, RECORDS_FILE)
    records = read_records(text, beside, what=str(plan_path)) if beside is not None else ()
    if kubeconfig is not None and not Path(kubeconfig).is_file():
        raise InputError(f"{kubeconfig}: no such kubeconfig", hint="name one with --kubeconfig, or set KUBECONFIG")
    cluster = open_cluster(kubeconfig, context)
    artifacts = FolderStore(out)
    artifacts.explain("k8s_verify_start", {"plan": str(plan_path), "items": len(items)}, at=started)
    with output.progress("asking the cluster"):
        payload = verify_items(cluster, items, records)
    payload = report(payload, started=started, finished=clock.now(), out_dir=artifacts.out_dir)
    path = artifacts.report("k8s_verify", payload, at=started)
    blocker = payload["verify_blocker"]
    artifacts.explain("k8s_verify_report", {"ok": payload["ok"], "blocker": blocker, "path": path}, at=clock.now())
    if as_json:
        output.print_json(payload)
    else:
        said = "ok" if payload["ok"] else f"not ok: {blocker['kind']}: {blocker['detail']}"
        context = payload["checks"]["current_context"] or "none"
        output.say(f"{len(items)} items against context {context}: {said}; report {path}", ok=payload["ok"])
    return 0 if payload["ok"] else EXIT_FAILED


@k8s.command("apply", epilog="Example: mk k8s apply --plan report/cl/k8s_plan.json --repo ~/gitops")
@plan_option
@repo_options
@cluster_options
@license_option
@out_option
@json_option
def apply_plan(
    plan_path: Path,
    repo: Path | None,
    forge: str | None,
    base_branch: str | None,
    kubeconfig: str | None,
    context: str | None,
    license_path: Path | None,
    out: Path,
    as_json: bool,
) -> int:
    """Merge the pull request that proposes this plan, through the gate; exit 0 applied, 1 failed, 2 blocked."""
    from gitops_mk.cli.applying import apply_command
    from gitops_mk.config import Access

    access = Access(repo, forge, base_branch, license_path, out=out)
    return apply_command(access, out, as_json=as_json, plan_path=plan_path, cluster=(kubeconfig, context))
