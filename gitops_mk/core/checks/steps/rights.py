"""Step 11, rights: we may read the workload, and ask what a patch of it would do."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.refusals import REMEDIES
from gitops_mk.model.cluster import Refusal
from gitops_mk.model.verdict import Reason, Verdict

ID = "rights"


def check(facts: Facts) -> Verdict:
    """Judge the answers of the server's authoriser. A server-side dry-run is authorised like the patch itself."""
    word = facts.cluster
    if word is None or word.error:
        return Verdict.block(ID, Reason.CLUSTER_UNREACHABLE, "not judged: the cluster was not asked")
    what = "the workload" if facts.plan is None or facts.plan.target.config_map is None else str(facts.plan.carrier)
    for verb, allowed in (("get", word.can_get), ("patch", word.can_patch)):
        if allowed is not True:
            return Verdict.block(
                ID, Reason.RBAC_DENIED, f"this identity may not {verb} {what}; {REMEDIES[Refusal.RBAC]}"
            )
    return Verdict.allow(ID, "get, and patch for dry-runs")
