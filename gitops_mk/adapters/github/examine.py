"""Look at what GitHub lets us do, and at the rules of the base branch: what `mk doctor` says, and what `strict` refuses."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from gitops_mk.adapters.github.api import Api, Refused
from gitops_mk.adapters.github.rules import branch_rules
from gitops_mk.adapters.github.wire import Bag
from gitops_mk.errors import ForgeError
from gitops_mk.model.change import GATE_CHECK, VERIFY_CHECK, Person
from gitops_mk.model.finding import Finding

RULES_HINT = "Settings, Rules, Rulesets: require it, from the App that gives it"


def bypasses(api: Api, repo: str, branch: str, identity: Person) -> tuple[str, ...]:
    """The ways in which our own identity could pass the branch's rules by. Raises ForgeError."""
    found = []
    for row in api.pages(f"/repos/{repo}/rulesets", {"includes_parents": "true"}):
        ruleset = Bag(row, "ruleset")
        if ruleset.maybe("target") not in (None, "branch") or ruleset.maybe("enforcement") != "active":
            continue
        whole = Bag(api.get(f"/repos/{repo}/rulesets/{ruleset.number('id')}"), "ruleset")
        if whole.maybe("current_user_can_bypass") not in (None, "never"):
            found.append(f"ruleset {whole.text('name')!r} lets {identity.name} bypass it")
    try:
        data = api.find(f"/repos/{repo}/branches/{quote(branch, safe='')}/protection")
    except Refused as exc:
        if exc.status != 403:
            raise
        # Who may not even read the protection is no administrator.
        return tuple(found)
    if data is not None:
        protection = Bag(data, "protection")
        admins = protection.has("enforce_admins") and protection.bag("enforce_admins").flag("enabled")
        repository = Bag(api.get(f"/repos/{repo}"), "repository")
        is_admin = repository.has("permissions") and repository.bag("permissions").flag("admin")
        if is_admin and not admins:
            found.append(f"{identity.name} is an administrator, and the protection of {branch} does not hold for those")
        if protection.has("required_pull_request_reviews"):
            found += _allowances(protection.bag("required_pull_request_reviews"), identity, api.credentials.app)
    return tuple(found)


def _allowances(reviews: Bag, identity: Person, app: str | None) -> list[str]:
    if not reviews.has("bypass_pull_request_allowances"):
        return []
    allowed = reviews.bag("bypass_pull_request_allowances")
    users = {str(Bag(row, "user").number("id")) for row in allowed.rows("users")}
    apps = {str(Bag(row, "app").number("id")) for row in allowed.rows("apps")}
    if identity.account in users or app in apps:
        return [f"{identity.name} may merge without a review"]
    return []


def examine(api: Api, repo: str, branch: str, identity: Person, *, strict: bool) -> Iterator[Finding]:
    """Everything there is to say, a line each. Never raises ForgeError."""
    who = "the App" if api.credentials.app is not None else "the token of"
    yield Finding("github", ok=True, detail=f"{api.url}, {repo}, as {who} {identity.name}")
    yield from _permissions(api, repo, branch)
    try:
        rules, unread = branch_rules(api, repo, branch)
        passed_by = bypasses(api, repo, branch, identity)
    except ForgeError as exc:
        yield Finding("github, rules", ok=False, detail=exc.message, hint=exc.hint)
        return
    if unread:
        yield Finding(
            "github, rules", ok=False, detail=unread, hint="give the App `Administration: read-only`", needed=True
        )
    app = api.credentials.app
    for name, by, why in (
        (GATE_CHECK, app, "without it a person's click merges what the gate would not"),
        (VERIFY_CHECK.partition("/")[2], None, "CI's own word on the same question"),
    ):
        required = [c for c in rules.required_checks if c.name in (name, VERIFY_CHECK if by is None else name)]
        pinned = by is None or any(c.app == by for c in required)
        detail = (
            f"{name} is required on {branch}" if required and pinned else f"{name} is not required on {branch}: {why}"
        )
        if required and not pinned:
            detail = f"{name} is required on {branch} from any App: whoever may write checks could give it"
        yield Finding(f"github, {name}", ok=bool(required) and pinned, detail=detail, hint=RULES_HINT)
    yield Finding(
        "github, reviews",
        ok=rules.approvals > 0,
        detail=f"{rules.approvals} approvals are required on {branch}",
        hint="require one at least",
    )
    yield Finding(
        "github, stale reviews",
        ok=rules.stale_dismissed or rules.last_push_approval,
        detail="approvals of earlier commits are dismissed" if rules.stale_dismissed else "approvals outlive a push",
        hint="switch on: dismiss stale approvals when new commits are pushed",
    )
    yield Finding(
        "github, up to date",
        ok=rules.up_to_date,
        detail="branches must be up to date" if rules.up_to_date else "a check may be of an older base",
        hint="require branches to be up to date, and set forge.up_to_date; what was merged is looked at either way",
    )
    if rules.merge_queue:
        yield Finding(
            "github, merge queue",
            ok=False,
            detail=f"{branch} has one: nothing is merged by mk",
            hint="see docs/github.md",
        )
    yield Finding(
        "github, bypass",
        ok=not passed_by,
        detail="; ".join(passed_by) or "our identity can't pass the rules by",
        hint="take it off the bypass list, and use an account that is no administrator",
        needed=strict,
    )


def _permissions(api: Api, repo: str, branch: str) -> Iterator[Finding]:
    """What a call to each corner says; nothing is written."""
    corners = (
        ("contents", f"/repos/{repo}/branches", True),
        ("pull requests", f"/repos/{repo}/pulls", True),
        ("issues", f"/repos/{repo}/labels", False),
        ("checks", f"/repos/{repo}/commits/{quote(branch, safe='')}/check-runs", True),
    )
    for name, path, needed in corners:
        try:
            api.get(path, {"per_page": 1})
        except ForgeError as exc:
            yield Finding(f"github, {name}", ok=False, detail=exc.message, hint=exc.hint, needed=needed)
    try:
        data = Bag(api.get(f"/repos/{repo}"), "repository")
    except ForgeError as exc:
        yield Finding("github, push", ok=False, detail=exc.message, hint=exc.hint, needed=True)
        return
    may = data.bag("permissions").flag("push") if data.has("permissions") else True
    yield Finding(
        "github, push", ok=may, detail="we may push" if may else "we may not push", hint="contents: write", needed=True
    )
