"""`mk workloads`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import cluster_options, json_option, repo_options

if TYPE_CHECKING:
    from gitops_mk.core.inventory import Found


@click.command(epilog="Example: mk workloads --repo ~/gitops --context training")
@repo_options
@cluster_options
@json_option
def workloads(
    repo: Path | None,
    forge: str | None,
    base_branch: str | None,
    kubeconfig: str | None,
    context: str | None,
    as_json: bool,
) -> None:
    """List the workloads of a cluster: where each comes from, its knobs, and why it is left alone where it is."""
    from gitops_mk.config import Access
    from gitops_mk.controller.inventory import confirmed, take_inventory
    from gitops_mk.wiring import home_of, make_tools, open_cluster, open_workplace

    cluster = open_cluster(kubeconfig, context)
    tools = make_tools(cluster)
    access = Access(repo, forge, base_branch)
    with open_workplace(access, tools, writes=False) as place:
        home = home_of(place, tools)
        with output.progress("asking the cluster"):
            inventory = take_inventory(cluster, home)
            files = place.forge.repo.files(place.forge.base_tip())
            inventory = confirmed(inventory, files, home.settings, tools.builder, cluster)
    rows = [_told(found) for found in inventory.found]
    if as_json:
        output.print_json({"context": cluster.context, "workloads": rows, "notes": list(inventory.notes)})
        return
    output.table(
        ("workload", "source", "knobs", "state", "reason"),
        [(row["workload"], row["source"], row["knobs_text"], row["state"], row["reason"] or "") for row in rows],
    )
    for row in rows:
        if row["message"]:
            output.say(f"{row['workload']}: {row['message']}")
    for note in inventory.notes:
        output.hint(note)
    if not rows:
        output.hint('none: list them in .modekeeper/config.yaml, or label them modekeeper.dev/enabled: "true"')


def _told(found: Found) -> dict[str, Any]:
    from gitops_mk.core.source import Source

    source = found.source
    knobs = found.knobs
    return {
        "workload": found.ref.key,
        "kind": found.ref.kind,
        "namespace": found.ref.namespace,
        "name": found.ref.name,
        "source": f"{source.tool} {source.overlay}@{source.branch}" if isinstance(source, Source) else "none",
        "source_detail": source.plain(),
        "knobs": knobs,
        "knobs_text": " ".join(f"{name}={value}" for name, value in knobs.items()) or "none",
        "state": "ready" if found.not_now is None else "left alone",
        "reason": found.not_now.reason if found.not_now else None,
        "message": found.not_now.message if found.not_now else "",
        "delivery": "configmap"
        if found.delivery == "configmap"
        else "in place"
        if found.ref.in_place
        else "propose_only",
    }
