"""Step 9, cluster: the cluster was asked, or the base's configuration lets it pass that it was not."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts
from gitops_mk.model.verdict import Reason, Verdict

ID = "cluster"


def check(facts: Facts) -> Verdict:
    """Judge whether there is a cluster's word to judge by."""
    word = facts.cluster
    consult = facts.policy.settings.cluster.consult if facts.policy else "required"
    if word is None:
        if consult == "required":
            return Verdict.block(
                ID, Reason.CLUSTER_UNREACHABLE, "cluster: not consulted, and the base's `cluster.consult` is `required`"
            )
        return Verdict.allow(ID, f"cluster: not consulted; the base's `cluster.consult` is `{consult}`")
    if word.error:
        return Verdict.block(ID, Reason.CLUSTER_UNREACHABLE, f"context {word.context}: {word.error}")
    return Verdict.allow(ID, f"context {word.context}")
