"""Step 12, dry_run: the API server takes base and head, and exactly the planned leaves differ in what it would store."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts, planned_places
from gitops_mk.core.dryrun import unplanned
from gitops_mk.core.places import knob_path
from gitops_mk.model.verdict import Reason, Verdict

ID = "dry_run"


def check(facts: Facts) -> Verdict:
    """Judge the two server-side dry-runs by their difference."""
    plan, compared = facts.plan, facts.compared
    if plan is None or compared is None:
        return Verdict.block(ID, Reason.DRY_RUN_FAILED, "not judged: there is no plan, or no dry-run")
    told = compared.head
    if not told.ok:
        by = f" by {told.by}" if told.by else ""
        return Verdict.block(
            ID,
            Reason.DRY_RUN_FAILED,
            f"{told.refusal or 'none'}{by}: {told.message}; {told.remedy or 'see the steps above'}",
        )
    places = planned_places(plan)
    stray = unplanned(compared.differences, places, plan.knobs)
    if stray is not None:
        return Verdict.block(ID, Reason.UNPLANNED_CHANGE, f"in what the API server would store, {stray}")
    moved = {one.path for one in compared.differences}
    for change in plan.changes:
        if change.delta and knob_path(places[-1], change.knob) not in moved:
            return Verdict.block(ID, Reason.UNPLANNED_CHANGE, f"{change.knob} stays as it is in what would be stored")
    return Verdict.allow(ID, f"{len(moved)} leaves change in what would be stored, all planned")
