"""What a branch asks of a merge: classic protection and rulesets read together, the stricter of two counting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from gitops_mk.adapters.github.api import Api, Refused
from gitops_mk.adapters.github.wire import Bag
from gitops_mk.model.standing import BranchRules, RequiredCheck

# What GitHub writes where any App will do.
ANY_APP = -1


def branch_rules(api: Api, repo: str, branch: str) -> tuple[BranchRules, str]:
    """The rules of a branch, and what of them could not be read, empty where all was. Raises ForgeError.

    Rulesets can be read by whoever can read the repository; classic protection takes `administration: read`. Without that the
    required checks are still told with the branch, but nothing about reviews is: then it can't be said what the branch asks for.
    """
    name = quote(branch, safe="")
    rules = from_rulesets(api.pages(f"/repos/{repo}/rules/branches/{name}", urgent=True))
    unread = ""
    try:
        found = api.find(f"/repos/{repo}/branches/{name}/protection", urgent=True)
    except Refused as exc:
        if exc.status != 403:
            raise
        found = None
        head = Bag(api.get(f"/repos/{repo}/branches/{name}", urgent=True), "branch")
        # A branch with rulesets only is `protected`, too; its classic protection then is switched off.
        if head.flag("protected") and head.has("protection") and head.bag("protection").flag("enabled"):
            unread = f"the protection of {branch} can't be read: {exc.message}"
    return (stricter(rules, from_protection(found)) if found is not None else rules), unread


def from_protection(data: Any) -> BranchRules:
    """Classic branch protection."""
    found = Bag(data, "protection")
    required: list[RequiredCheck] = []
    strict = False
    if found.has("required_status_checks"):
        checks = found.bag("required_status_checks")
        strict = checks.flag("strict")
        required = [_required(row, "context", "app_id") for row in checks.rows("checks")]
        named = {check.name for check in required}
        contexts = [Bag({"context": one}, "required check").text("context") for one in checks.rows("contexts")]
        required += [RequiredCheck(name=one) for one in contexts if one not in named]
    reviews = found.bag("required_pull_request_reviews") if found.has("required_pull_request_reviews") else Bag({}, "")
    count = "required_approving_review_count"
    return BranchRules(
        required_checks=tuple(required),
        approvals=reviews.number(count) if reviews.has(count) else 0,
        code_owners=reviews.flag("require_code_owner_reviews"),
        up_to_date=strict,
        stale_dismissed=reviews.flag("dismiss_stale_reviews"),
        last_push_approval=reviews.flag("require_last_push_approval"),
        signatures=found.has("required_signatures") and found.bag("required_signatures").flag("enabled"),
    )


def from_rulesets(rows: Iterable[Any]) -> BranchRules:
    """The rules that all rulesets together lay on a branch."""
    rules = BranchRules()
    for row in rows:
        rule = Bag(row, "rule")
        says = rule.bag("parameters") if rule.has("parameters") else Bag({}, "parameters")
        match rule.text("type"):
            case "required_status_checks":
                checks = tuple(
                    _required(one, "context", "integration_id") for one in says.rows("required_status_checks")
                )
                more = BranchRules(required_checks=checks, up_to_date=says.flag("strict_required_status_checks_policy"))
            case "pull_request":
                more = BranchRules(
                    approvals=says.number("required_approving_review_count"),
                    code_owners=says.flag("require_code_owner_review"),
                    stale_dismissed=says.flag("dismiss_stale_reviews_on_push"),
                    last_push_approval=says.flag("require_last_push_approval"),
                )
            case "merge_queue":
                more = BranchRules(merge_queue=True)
            case "required_signatures":
                more = BranchRules(signatures=True)
            case _:
                # Its own server holds GitHub to the others.
                continue
        rules = stricter(rules, more)
    return rules


def stricter(one: BranchRules, other: BranchRules) -> BranchRules:
    """Both at once."""
    flags = ("code_owners", "up_to_date", "stale_dismissed", "last_push_approval", "signatures", "merge_queue")
    return BranchRules(
        required_checks=tuple(dict.fromkeys((*one.required_checks, *other.required_checks))),
        approvals=max(one.approvals, other.approvals),
        **{flag: getattr(one, flag) or getattr(other, flag) for flag in flags},
    )


def _required(row: Any, name: str, app: str) -> RequiredCheck:
    found = Bag(row, "required check")
    anybody = not found.has(app) or found.raw[app] == ANY_APP
    return RequiredCheck(name=found.text(name), app=None if anybody else str(found.number(app)))
