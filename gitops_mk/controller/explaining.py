"""The record a pull request carries: the plan, with what it was made on."""

from __future__ import annotations

from gitops_mk.core.render.paths import PLAN_SUFFIX
from gitops_mk.errors import InputError
from gitops_mk.model.change import PullRequest
from gitops_mk.model.plan import Plan
from gitops_mk.ports import Forge


def plan_of(forge: Forge, pr: PullRequest) -> Plan:
    """The plan of a pull request, open or merged, by its digest. Raises InputError where no commit of it holds one."""
    for commit in (pr.head_sha, pr.merge_sha):
        if commit is None or forge.repo.resolve(commit) is None:
            continue
        for entry in forge.repo.tree(commit):
            if not entry.path.endswith(PLAN_SUFFIX):
                continue
            text = forge.repo.read(commit, entry.path)
            if text is not None and pr.plan_digest.encode() in text:
                plan = Plan.parse_json(text, what=entry.path)
                if plan.digest == pr.plan_digest:
                    return plan
    raise InputError(
        f"#{pr.number}: no commit of it holds the plan {pr.plan_digest[:12]}",
        hint="`mk pr show` prints what the pull request says of itself",
    )
