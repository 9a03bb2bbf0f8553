"""Step 10, live: the workload, or its ConfigMap, is there with the values that the plan starts from, and nobody else turns them."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.live import foreign_owner, live_knobs
from gitops_mk.core.objects import part
from gitops_mk.model.verdict import Reason, Verdict

ID = "live"


def check(facts: Facts) -> Verdict:
    """Judge the live object. A kind that takes new values at its next run only may be between two runs."""
    plan, word = facts.plan, facts.cluster
    if plan is None or word is None or word.error:
        return Verdict.block(ID, Reason.CLUSTER_UNREACHABLE, "not judged: the cluster was not asked")
    ref = plan.carrier
    if word.namespace_exists is False:
        return Verdict.block(ID, Reason.NAMESPACE_MISSING, f"there is no namespace {ref.namespace} in {word.context}")
    if word.live is None:
        if not ref.in_place:
            return Verdict.allow(ID, f"no {ref} runs now; its next run takes the values")
        return Verdict.block(ID, Reason.DEPLOYMENT_MISSING, f"there is no {ref} in {word.context}")
    meta = part(word.live, "metadata")
    named = f"UID {meta.get('uid')}, generation {meta.get('generation')}"
    if not ref.in_place:
        return Verdict.allow(ID, f"{named}; its next run takes the values")
    stands = live_knobs(word.live)
    for change in plan.changes:
        if stands.get(change.knob) != change.before:
            return Verdict.block(
                ID,
                Reason.VERIFY_STALE,
                f"{change.knob} runs at {stands.get(change.knob)}, the plan starts from {change.before}; {named}",
            )
    extra = facts.policy.settings.cluster.field_managers if facts.policy else ()
    owner = foreign_owner(word.live, (c.knob for c in plan.changes), extra)
    if owner is not None:
        return Verdict.block(ID, owner.reason, owner.message)
    return Verdict.allow(ID, named)
