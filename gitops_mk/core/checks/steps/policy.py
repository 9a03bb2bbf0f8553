"""Step 3, policy: the plan was made under the configuration, catalog and passport that stand on the base branch."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts
from gitops_mk.errors import InputError
from gitops_mk.model.plan import PolicyDigests
from gitops_mk.model.verdict import Reason, Verdict

ID = "policy"


def check(facts: Facts) -> Verdict:
    """Judge the digests in the plan against the base's own; the change itself can bring no policy."""
    plan, policy, workload = facts.plan, facts.policy, facts.workload
    if plan is None or policy is None or workload is None:
        return Verdict.block(ID, Reason.POLICY_CHANGED, f"not judged: {facts.policy_error or 'no plan'}")
    try:
        passport = policy.passport(workload)
    except InputError as exc:
        return Verdict.block(ID, Reason.POLICY_CHANGED, exc.message)
    stands = PolicyDigests(
        catalog_sha256=policy.catalog.sha256,
        passport_id=passport.id,
        passport_sha256=passport.sha256,
        config_sha256=policy.settings.sha256,
    )
    for name in PolicyDigests.model_fields:
        if getattr(plan.policy, name) != getattr(stands, name):
            return Verdict.block(
                ID,
                Reason.POLICY_CHANGED,
                f"{name}: planned under {str(getattr(plan.policy, name))[:16]}, "
                f"the base has {str(getattr(stands, name))[:16]}",
            )
    if plan.world_size != facts.world_size:
        return Verdict.block(
            ID, Reason.POLICY_CHANGED, f"world_size: planned with {plan.world_size}, the base has {facts.world_size}"
        )
    return Verdict.allow(ID, f"passport {passport.id}")
