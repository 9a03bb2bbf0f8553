"""Examine a cluster for `mk doctor`: what is there, what this identity may do, and what would be left alone."""

from __future__ import annotations

from collections.abc import Iterator

from gitops_mk.controller.inventory import take_inventory
from gitops_mk.core.inventory import Home
from gitops_mk.errors import MkError
from gitops_mk.model.finding import Finding
from gitops_mk.model.workload import KnobMap
from gitops_mk.ports import Cluster


def examine_cluster(cluster: Cluster | None, home: Home) -> Iterator[Finding]:
    """What there is to say of the cluster. Never raises MkError."""
    consult = home.settings.cluster.consult
    if consult == "never":
        yield Finding("cluster", ok=True, detail="the configuration says that none is consulted")
        return
    if cluster is None:
        yield Finding(
            "cluster",
            ok=consult != "required",
            detail="no kubeconfig and no in-cluster identity: verify judges without it",
            hint="set KUBECONFIG, or name one with --kubeconfig",
            needed=consult == "required",
        )
        return
    try:
        yield Finding("cluster", ok=True, detail=f"context {cluster.context}, {cluster.server}, {cluster.version()}")
        inventory = take_inventory(cluster, home)
    except MkError as exc:
        yield Finding("cluster", ok=False, detail=exc.message, hint=exc.hint, needed=True)
        return
    for text in inventory.notes:
        yield Finding("cluster, rights", ok=False, detail=text, hint="see kustomize/workload-namespace")
    for found in inventory.found:
        name = f"{found.ref}, live"
        if found.not_now is not None:
            yield Finding(
                name, ok=False, detail=f"{found.not_now.reason}: {found.not_now.message}", hint="see docs/reasons.md"
            )
            continue
        try:
            kind: str = found.ref.kind
            name_of: str = found.ref.name
            if found.delivery == "configmap":
                # Without a name of its own in the configuration: any of the namespace.
                kind, name_of = KnobMap.kind, (found.settings.config_map if found.settings else None) or ""
            may = cluster.can_i("patch", kind, namespace=found.ref.namespace, name=name_of)
        except MkError as exc:
            yield Finding(name, ok=False, detail=exc.message, hint=exc.hint)
            continue
        yield Finding(
            name,
            ok=may,
            detail="at rest, and what Git says" if may else "this identity may not dry-run a patch of it",
            hint="add kustomize/components/verify-dry-run",
        )
