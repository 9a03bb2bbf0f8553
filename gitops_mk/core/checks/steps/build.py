"""Step 6, build: kustomize builds both trees, and exactly the planned leaves differ in what it built."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts, planned_places
from gitops_mk.core.places import knob_path
from gitops_mk.core.yamldocs import DocumentId, Leaf, Path, changed_leaves
from gitops_mk.errors import InputError
from gitops_mk.model.verdict import Reason, Verdict

ID = "build"


def check(facts: Facts) -> Verdict:
    """Judge kustomize's output alone: nobody's reading of the YAML but its own."""
    plan = facts.plan
    for name, build, error in (
        ("base", facts.base_build, facts.base_build_error),
        ("head", facts.head_build, facts.head_build_error),
    ):
        if build is None:
            return Verdict.block(ID, Reason.BUILD_FAILED, f"{name} does not build: {error or 'it was not built'}")
    if plan is None or facts.base_build is None or facts.head_build is None:
        return Verdict.block(ID, Reason.BUILD_FAILED, "not judged: there is no plan")
    try:
        changes = changed_leaves(facts.base_build, facts.head_build)
    except InputError as exc:
        return Verdict.block(ID, Reason.BUILD_FAILED, exc.message)
    if changes.added or changes.removed:
        what = (*changes.added, *changes.removed)[0]
        return Verdict.block(ID, Reason.UNPLANNED_CHANGE, f"{what} appears or goes, expected no such change")
    ref = plan.carrier
    identity = DocumentId(ref.api_version, ref.kind, ref.namespace, ref.name).whole
    places = planned_places(plan)
    planned: dict[Path, str] = {knob_path(place, k): str(v) for place in places for k, v in plan.knobs.items()}
    moved = set()
    for document in changes.changed:
        ours = document.id.whole == identity
        for leaf in document.leaves:
            # An empty annotations map gives way to the first annotation put into it.
            if ours and leaf.path in places and leaf.after is None:
                continue
            if not ours or leaf.path not in planned:
                return Verdict.block(
                    ID,
                    Reason.UNPLANNED_CHANGE,
                    f"{document.id}: {leaf.dotted} goes from {leaf.before} to {leaf.after}, and the plan does not say so",
                )
            if leaf.after != Leaf("str", planned[leaf.path]):
                return Verdict.block(
                    ID,
                    Reason.UNPLANNED_CHANGE,
                    f"{leaf.dotted} becomes {leaf.after}, planned is {planned[leaf.path]!r}",
                )
            moved.add(leaf.path)
    for change in plan.changes:
        # The last place is a pod template's, or the ConfigMap's data.
        if change.delta and knob_path(places[-1], change.knob) not in moved:
            return Verdict.block(
                ID,
                Reason.UNPLANNED_CHANGE,
                f"{change.knob} stays as it is in what kustomize builds: the patch has no effect",
            )
    if facts.head_knobs != {**facts.base_knobs, **{c.knob: c.after for c in plan.changes}}:
        return Verdict.block(ID, Reason.UNPLANNED_CHANGE, "other knobs than the planned ones move")
    return Verdict.allow(ID, f"{len(moved)} leaves change, all planned")
