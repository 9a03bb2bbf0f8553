"""`mk apply`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli.options import cluster_options, json_option, license_option, out_option, repo_options


@click.command(epilog="Example: mk apply --pr 3 --license-path license.json")
@click.option("--pr", "number", type=click.IntRange(min=1), required=True, help="The pull request to merge.")
@repo_options
@cluster_options
@license_option
@out_option
@json_option
def apply(
    number: int,
    repo: Path | None,
    forge: str | None,
    base_branch: str | None,
    kubeconfig: str | None,
    context: str | None,
    license_path: Path | None,
    out: Path,
    as_json: bool,
) -> int:
    """Ask the gate, then merge; exit 0 applied, 1 failed, 2 blocked. Nothing else applies anything."""
    from gitops_mk.cli.applying import apply_command
    from gitops_mk.config import Access

    access = Access(repo, forge, base_branch, license_path, out=out)
    return apply_command(access, out, as_json=as_json, number=number, cluster=(kubeconfig, context))
