"""`mk controller`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import cluster_options, json_option, license_option, out_option


@click.group(epilog="Example: mk controller run --once --repo ~/gitops")
def controller() -> None:
    """The controller: it watches workloads, and proposes. It never writes to one."""


@controller.command(epilog="Example: mk controller run --repo https://git.example.com/team/gitops.git --listen :8080")
@click.option("--once", is_flag=True, help="Reconcile every workload once, and end.")
@click.option("--apply", "merge", is_flag=True, help="Merge what the gate lets through; else a person merges.")
@click.option(
    "--repo", default=".", show_default=True, help="GitOps repository: a checkout, a bare one, or a server's address."
)
@click.option("--forge", help="The git server: a path or URL. Default: the checkout's remote `origin`.")
@click.option("--base-branch", help="Base branch. Default: the configuration's; `main` where only a server is given.")
@click.option("--interval", default="60s", show_default=True, help="How often each workload is looked at.")
@click.option("--window", default="10m", show_default=True, help="How much of a workload's logs is looked at.")
@click.option("--listen", help="HOST:PORT for /healthz, /readyz and /metrics.")
@click.option("--lease", help="NAMESPACE/NAME of the Lease by which one of several controllers leads.")
@cluster_options
@license_option
@out_option
@json_option
def run(
    once: bool,
    merge: bool,
    repo: str,
    forge: str | None,
    base_branch: str | None,
    interval: str,
    window: str,
    listen: str | None,
    lease: str | None,
    kubeconfig: str | None,
    context: str | None,
    license_path: Path | None,
    out: Path,
    as_json: bool,
) -> int:
    """Reconcile every workload of the repository's configuration; exit 0 stopped, 1 failed, 2 blocked or bad input."""
    from gitops_mk.config import Access, parse_duration
    from gitops_mk.daemon import ControllerOptions, run_controller, with_url

    access = with_url(Access(forge=forge, base_branch=base_branch, license_path=license_path, out=out), repo)
    options = ControllerOptions(
        access=access, out=out, kubeconfig=kubeconfig, context=context, once=once, merge=merge,
        interval_s=max(1.0, parse_duration(interval)), window_s=max(1.0, parse_duration(window)),
        listen=listen, lease=lease,
    )  # fmt: skip
    code, payload = run_controller(options)
    if as_json:
        output.print_json(payload)
        return code
    rows = payload["workloads"]
    for row in rows if isinstance(rows, list) else []:
        reason = f"{row['reason']}: " if row["reason"] else ""
        output.say(f"{row['workload']}: {row['state']}; {reason}{row['message']}".rstrip("; "))
    output.say(f"report {payload['out_dir']}/controller_latest.json", ok=code == 0)
    return code
