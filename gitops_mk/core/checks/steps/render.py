"""Step 5, render: the plan is rendered again on the base, and the files are equal byte for byte."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.render.component import render
from gitops_mk.errors import InputError
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.model.workload import KnobMap

ID = "render"


def check(facts: Facts) -> Verdict:
    """Judge the changed files against what the plan gives."""
    plan = facts.plan
    if plan is None:
        return Verdict.block(ID, Reason.RENDER_MISMATCH, "not judged: there is no plan")
    config_map = facts.carrier.name if isinstance(facts.carrier, KnobMap) else None
    if plan.target.config_map != config_map:
        return Verdict.block(
            ID, Reason.RENDER_MISMATCH, f"the patch is for {plan.carrier}, the base has the knobs in {facts.carrier}"
        )
    # Whether the patch hits is step 6's to see, in what kustomize built. Where it may reach into lists and maps of roles, or
    # must hit a name that is not made of contents, the target must also be the one that a build of the base names.
    named = plan.target.config_map is not None or not plan.workload.templated
    if named and facts.target is None:
        return Verdict.block(ID, Reason.RENDER_MISMATCH, f"the patch's target can't be told: {facts.target_error}")
    if named and plan.target != facts.target:
        return Verdict.block(
            ID, Reason.RENDER_MISMATCH, f"the patch is for {plan.target}, the base has {facts.target} there"
        )
    try:
        expected = render(plan, facts.base_files)
    except InputError as exc:
        return Verdict.block(ID, Reason.RENDER_MISMATCH, exc.message)
    changed = {change.path for change in facts.changes}
    if changed != set(expected):
        odd = sorted(changed ^ set(expected))
        return Verdict.block(ID, Reason.RENDER_MISMATCH, f"{odd[0]} differs from what the plan gives")
    for path, data in expected.items():
        if facts.head_files.get(path) != data:
            return Verdict.block(ID, Reason.RENDER_MISMATCH, f"{path} differs from what the plan gives")
    return Verdict.allow(ID, f"{len(expected)} files equal byte for byte")
