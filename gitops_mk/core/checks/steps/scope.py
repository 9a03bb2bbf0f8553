"""Step 1, scope: the change touches the files of exactly one configured workload, as regular files, and nothing else."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.enrolment import LABEL_ENABLED, is_enrolled, refused_place
from gitops_mk.core.render.component import allowed_paths, overlay_kustomization
from gitops_mk.errors import InputError
from gitops_mk.model.git import ABSENT_MODE, REGULAR_MODE
from gitops_mk.model.verdict import Reason, Verdict

ID = "scope"


def check(facts: Facts) -> Verdict:
    """Judge the paths and modes that the merge would change."""
    if facts.tree is None:
        return Verdict.block(ID, Reason.MERGE_CONFLICT, "head does not merge into base without a conflict")
    if not facts.changes:
        return Verdict.block(ID, Reason.SCOPE_VIOLATION, "the merge would change nothing, expected a decision record")
    if facts.policy is None:
        return Verdict.block(ID, Reason.SCOPE_VIOLATION, f"the base names no workloads: {facts.policy_error}")
    workload = facts.workload
    if workload is None:
        paths = ", ".join(sorted(change.path for change in facts.changes)[:3])
        return Verdict.block(
            ID,
            Reason.SCOPE_VIOLATION,
            f"it changes {paths}; expected the files of exactly one workload that the base configures",
        )
    try:
        if not is_enrolled(facts.policy.settings, workload.ref, facts.base_build):
            return Verdict.block(
                ID,
                Reason.SCOPE_VIOLATION,
                f"{workload.ref} is neither listed on the base, nor does the base build it with {LABEL_ENABLED}: true",
            )
        refused = refused_place(facts.policy.settings, workload, facts.base_files, facts.base_build)
        if refused:
            return Verdict.block(ID, Reason.SCOPE_VIOLATION, refused)
        if isinstance(facts.carrier_or_error, str):
            return Verdict.block(ID, Reason.SCOPE_VIOLATION, facts.carrier_or_error)
        kustomization = overlay_kustomization(frozenset(facts.base_files), workload.overlay)
    except InputError as exc:
        return Verdict.block(ID, Reason.SCOPE_VIOLATION, exc.message)
    allowed = allowed_paths(workload.overlay, workload.ref.slug, kustomization)
    for change in facts.changes:
        if change.path not in allowed:
            return Verdict.block(ID, Reason.SCOPE_VIOLATION, f"{change.path} is none of the workload's files")
        if change.old_mode not in (ABSENT_MODE, REGULAR_MODE) or change.new_mode != REGULAR_MODE:
            return Verdict.block(
                ID,
                Reason.SCOPE_VIOLATION,
                f"{change.path} goes from mode {change.old_mode} to {change.new_mode}, expected a regular file",
            )
    for path in sorted(allowed):
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            if "/".join(parts[:depth]) in facts.special:
                where = "/".join(parts[:depth])
                return Verdict.block(
                    ID, Reason.SCOPE_VIOLATION, f"{where} is a link or a submodule on the way to {path}"
                )
    return Verdict.allow(ID, f"{len(facts.changes)} files of {workload.ref}")
