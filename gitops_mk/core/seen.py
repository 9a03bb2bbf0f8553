"""A cluster's word on one workload, cut down to what reports tell."""

from __future__ import annotations

from gitops_mk.core.dryrun import Compared
from gitops_mk.core.objects import number, part, text
from gitops_mk.model.cluster import ClusterSeen, ClusterWord, DryRun


def seen_of(word: ClusterWord, compared: Compared | None) -> ClusterSeen:
    """The word for reports. What was not asked stays null."""
    meta = part(word.live, "metadata")
    return ClusterSeen(
        context=word.context,
        server=word.server,
        error=word.error,
        namespace_exists=word.namespace_exists,
        # What we may not read may well be there.
        workload_exists=None if word.error or not word.can_get else word.live is not None,
        uid=text(meta, "uid") or None,
        generation=number(meta, "generation") or None,
        can_get=word.can_get,
        can_patch=word.can_patch,
        dry_run=compared.head if compared is not None else DryRun(message="not attempted"),
    )
