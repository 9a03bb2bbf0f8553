"""Branch protection and rulesets: what they ask of a push and of a merge, and who is above them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from tests.support.github import auth, owners, shapes
from tests.support.github.records import Account, CheckRun, Json, Protection, Pull, Repo, Review, Ruleset, role_at_least
from tests.support.github.web import Actor, Answer, Call, Refused, not_found, paged, route

_PASSED = ("success", "neutral", "skipped")
_ROLE_IDS = {1: "maintain", 2: "maintain", 4: "write", 5: "admin"}


class Objection(NamedTuple):
    """One thing that stands in the way; `kind` is `reviews`, `checks`, `behind`, `queue`, `method` or `push`."""

    kind: str
    text: str
    ruleset: bool


# -- which apply ---------------------------------------------------------------------------------------------------------


def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern of a ref name: `*` stays within a part, `**/` spans parts."""
    out, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out, at = out + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            out, at = out + ".*", at + 2
        elif pattern[at] == "*":
            out, at = out + "[^/]*", at + 1
        elif pattern[at] == "?":
            out, at = out + "[^/]", at + 1
        else:
            out, at = out + re.escape(pattern[at]), at + 1
    return re.compile(out + r"\Z")


def _meant(repo: Repo, pattern: str, branch: str) -> bool:
    if pattern == "~ALL":
        return True
    if pattern == "~DEFAULT_BRANCH":
        return branch == repo.default_branch
    return _glob(pattern.removeprefix("refs/heads/")).match(branch) is not None


def protection_of(repo: Repo, branch: str) -> Protection | None:
    """The classic protection of a branch: an exact name goes before a pattern."""
    exact = repo.protections.get(branch)
    return exact or next((one for one in repo.protections.values() if _meant(repo, one.pattern, branch)), None)


def rulesets_of(repo: Repo, branch: str) -> list[Ruleset]:
    """The rulesets in force on a branch."""
    found = [
        one
        for one in repo.rulesets.values()
        if one.enforcement == "active"
        and any(_meant(repo, pattern, branch) for pattern in one.branches)
        and not any(_meant(repo, pattern, branch) for pattern in one.exclude)
    ]
    if repo.queue and branch == repo.default_branch:
        queue = {
            "type": "merge_queue",
            "parameters": {
                "check_response_timeout_minutes": 60,
                "grouping_strategy": "ALLGREEN",
                "max_entries_to_build": 5,
                "max_entries_to_merge": 5,
                "merge_method": "MERGE",
                "min_entries_to_merge": 1,
                "min_entries_to_merge_wait_minutes": 5,
            },
        }
        found.append(Ruleset(repo.id, "merge queue", [queue], [branch], [], "active", 0, 0))
    return found


def above(ruleset: Ruleset, repo: Repo, actor: Actor | None, *, pull: bool) -> bool:
    """True for an actor who may bypass a ruleset; `pull`: by merging a pull request."""
    if actor is None:
        return False
    for one in ruleset.bypass:
        if one.get("bypass_mode", "always") == "pull_request" and not pull:
            continue
        kind, number = one["actor_type"], one.get("actor_id")
        if kind == "Integration" and actor.app is not None and number == actor.app.id:
            return True
        if actor.account is None or actor.app is not None:
            continue
        if kind == "User" and number == actor.account.id:
            return True
        if kind == "OrganizationAdmin" and repo.role(actor.account) == "admin":
            return True
        if kind == "RepositoryRole" and role_at_least(repo.role(actor.account), _ROLE_IDS.get(number or 0, "admin")):
            return True
    return False


def _exempt(protection: Protection, repo: Repo, actor: Actor | None) -> bool:
    """True for an administrator where protection isn't enforced on them."""
    if protection.enforce_admins or actor is None or actor.account is None:
        return False
    if actor.installation is not None:
        return auth.may(actor, repo, "administration:write")
    return repo.role(actor.account) == "admin"


def _named(actor: Actor | None, names: Iterable[str]) -> bool:
    if actor is None or actor.account is None:
        return False
    mine = {actor.account.login.casefold()} | ({actor.app.slug.casefold()} if actor.app is not None else set())
    return not mine.isdisjoint(name.casefold() for name in names)


# -- pushes --------------------------------------------------------------------------------------------------------------


def push_objections(repo: Repo, actor: Actor, ref: str, change: str) -> list[str]:
    """Why a ref may not be made, moved or deleted by a push, or by the endpoints that do as a push does."""
    if not ref.startswith("refs/heads/"):
        return []
    branch, found = ref.removeprefix("refs/heads/"), []
    for one in rulesets_of(repo, branch):
        if above(one, repo, actor, pull=False):
            continue
        kinds = {rule["type"] for rule in one.rules}
        if change in kinds:
            found.append(
                {
                    "creation": "Cannot create ref due to creations being restricted.",
                    "update": "Cannot update this protected ref.",
                    "deletion": "Cannot delete this branch",
                }[change]
            )
        if change == "update" and "pull_request" in kinds:
            found.append("Changes must be made through a pull request.")
        if change == "update" and "merge_queue" in kinds:
            found.append("Changes must be made through the merge queue")
        if change == "update" and "pull_request" not in kinds:
            found += [f'Required status check "{name}" is expected.' for name, _ in _wanted(one)[0]]
    protection = protection_of(repo, branch)
    if protection is not None and not _exempt(protection, repo, actor):
        if protection.lock:
            found.append("Cannot change this locked branch")
        if change == "deletion" and not protection.allow_deletions:
            found.append("Cannot delete this protected branch")
        if change == "update":
            if protection.restrictions is not None and not _named(actor, protection.restrictions):
                found.append("You're not authorized to push to this branch.")
            if protection.approvals is not None and not _named(actor, protection.bypass_reviews):
                found.append("Changes must be made through a pull request.")
            found += [f'Required status check "{name}" is expected.' for name, _ in protection.required_checks or []]
    return list(dict.fromkeys(found))


def forward_only(repo: Repo, actor: Actor, ref: str) -> bool:
    """True when the branch may not be forced."""
    branch = ref.removeprefix("refs/heads/")
    if branch == ref:
        return False
    protection = protection_of(repo, branch)
    if protection is not None and not protection.allow_force_pushes and not _exempt(protection, repo, actor):
        return True
    return any(
        rule["type"] == "non_fast_forward" and not above(one, repo, actor, pull=False)
        for one in rulesets_of(repo, branch)
        for rule in one.rules
    )


# -- merges --------------------------------------------------------------------------------------------------------------


def objections(pull: Pull, actor: Actor | None, method: str | None = None) -> list[Objection]:
    """What stands between a pull request and its merge by that actor (None: by anyone without privileges)."""
    repo, branch, found = pull.repo, pull.base_ref, []
    protection = protection_of(repo, branch)
    if protection is not None and not _exempt(protection, repo, actor):
        if protection.lock:
            found.append(Objection("push", "Cannot change this locked branch.", ruleset=False))
        if protection.restrictions is not None and actor is not None and not _named(actor, protection.restrictions):
            found.append(Objection("push", "You're not authorized to push to this branch.", ruleset=False))
        if protection.linear and method == "merge":
            found.append(Objection("method", "Merge commits are not allowed on this branch.", ruleset=False))
        if protection.approvals is not None and not _named(actor, protection.bypass_reviews):
            texts = _reviews(pull, protection.approvals, protection.code_owners, protection.last_push)
            found += [Objection("reviews", text, ruleset=False) for text in texts]
        if protection.required_checks is not None:
            found += _checks(pull, protection.required_checks, strict=protection.strict, ruleset=False)
    for one in rulesets_of(repo, branch):
        if above(one, repo, actor, pull=True):
            continue
        for rule in one.rules:
            asked = rule.get("parameters") or {}
            if rule["type"] == "pull_request":
                texts = _reviews(
                    pull,
                    asked.get("required_approving_review_count", 0),
                    asked.get("require_code_owner_review", False),
                    asked.get("require_last_push_approval", False),
                )
                found += [Objection("reviews", text, ruleset=True) for text in texts]
                allowed = asked.get("allowed_merge_methods")
                if method is not None and allowed is not None and method not in allowed:
                    found.append(Objection("method", f"Merge method {method} is not allowed.", ruleset=True))
            elif rule["type"] == "merge_queue":
                found.append(Objection("queue", "Changes must be made through the merge queue", ruleset=True))
            elif rule["type"] == "update":
                found.append(Objection("push", "Cannot update this protected ref.", ruleset=True))
            elif rule["type"] == "required_linear_history" and method == "merge":
                found.append(Objection("method", "This branch must not contain merge commits.", ruleset=True))
        wanted, strict = _wanted(one)
        found += _checks(pull, wanted, strict=strict, ruleset=True)
    return list(dict.fromkeys(found))


def _wanted(ruleset: Ruleset) -> tuple[list[tuple[str, int | None]], bool]:
    wanted: list[tuple[str, int | None]] = []
    strict = False
    for rule in ruleset.rules:
        if rule["type"] == "required_status_checks":
            asked = rule["parameters"]
            strict = strict or asked.get("strict_required_status_checks_policy", False)
            wanted += [(one["context"], one.get("integration_id")) for one in asked["required_status_checks"]]
    return wanted, strict


def standing(pull: Pull) -> dict[int, Review]:
    """The review that counts of each person: the newest that approves, objects or was dismissed."""
    found: dict[int, Review] = {}
    for one in pull.reviews:
        if one.state in ("APPROVED", "CHANGES_REQUESTED", "DISMISSED"):
            found[one.user.id] = one
    return found


def has_write(repo: Repo, account: Account) -> bool:
    """True for whose approval counts."""
    if account.deleted:
        return False
    if account.type != "Bot":
        return role_at_least(repo.role(account), "write")
    return any(
        one.app.bot is account and repo in one.repos and one.permissions.get("contents") == "write"
        for one in repo.hub.installations.values()
        if not one.removed
    )


def approvals(pull: Pull) -> list[Review]:
    """The approvals that count towards a required number."""
    author = pull.issue.user
    return [
        one
        for one in standing(pull).values()
        if one.state == "APPROVED" and one.user is not author and has_write(pull.repo, one.user)
    ]


def changes_requested(pull: Pull) -> bool:
    """True while someone with write access objects."""
    return any(one.state == "CHANGES_REQUESTED" and has_write(pull.repo, one.user) for one in standing(pull).values())


def decision(pull: Pull) -> str | None:
    """`reviewDecision` as GraphQL has it; None where no review is required."""
    branch, repo = pull.base_ref, pull.repo
    protection = protection_of(repo, branch)
    required = (protection is not None and protection.approvals is not None) or any(
        rule["type"] == "pull_request" for one in rulesets_of(repo, branch) for rule in one.rules
    )
    if changes_requested(pull):
        return "CHANGES_REQUESTED"
    if not required:
        return None
    missing = any(one.kind == "reviews" for one in objections(pull, None))
    return "REVIEW_REQUIRED" if missing else "APPROVED"


def dismisses_stale(repo: Repo, branch: str) -> bool:
    """True when a push takes approvals away."""
    protection = protection_of(repo, branch)
    if protection is not None and protection.approvals is not None and protection.dismiss_stale:
        return True
    return any(
        rule["type"] == "pull_request" and (rule.get("parameters") or {}).get("dismiss_stale_reviews_on_push")
        for one in rulesets_of(repo, branch)
        for rule in one.rules
    )


def _reviews(pull: Pull, count: int, code_owners: bool, last_push: bool) -> list[str]:
    given, found = approvals(pull), []
    if len(given) < count:
        plural = "s are" if count > 1 else " is"
        found.append(f"At least {count} approving review{plural} required by reviewers with write access.")
    if changes_requested(pull) and count:
        found.append("Changes have been requested by reviewers with write access.")
    if code_owners:
        approved = {one.user.login.casefold() for one in given}
        waiting = [names for names in owners.of(pull) if not {name.casefold() for name in names} & approved]
        if waiting:
            found.append(f"Waiting on code owner review from {' and/or '.join(waiting[0])}.")
    if last_push and not any(one.user is not pull.last_pusher and one.commit_id == pull.head_sha for one in given):
        found.append("New changes require approval from someone other than the last pusher.")
    return found


def _checks(pull: Pull, wanted: Sequence[tuple[str, int | None]], *, strict: bool, ruleset: bool) -> list[Objection]:
    if not wanted:
        return []
    words = [(name, _standing(pull, name, app)) for name, app in wanted]
    bad = [(name, word) for name, word in words if word is not None]
    kind = "checks"
    tip = pull.repo.tip(pull.base_ref)
    if not bad and strict and tip is not None and not pull.repo.git.is_ancestor(tip, pull.head_sha):
        # GitHub doesn't say that the branch is out of date: it expects all checks once more.
        kind, bad = "behind", [(name, "expected") for name, _ in wanted]
    if not bad:
        return []
    if len(wanted) == 1:
        name, word = bad[0]
        return [Objection(kind, f'Required status check "{name}" is {word}.', ruleset)]
    counts = Counter(word for _, word in bad)
    total = f"{len(bad)} of {len(wanted)} required status checks"
    if len(counts) == 1:
        return [Objection(kind, f"{total} are {bad[0][1]}.", ruleset)]
    parts = [f"{count} {word}" for word, count in sorted(counts.items())]
    said = f"{', '.join(parts[:-1])} and {parts[-1]}"
    return [Objection(kind, f"{total} have not succeeded: {said}.", ruleset)]


def _standing(pull: Pull, name: str, app: int | None) -> str | None:
    """What is wrong with a required check on the head: `expected`, `pending` or `failing`; None when it passed."""
    repo, sha = pull.repo, pull.head_sha
    any_app = app is None or app == -1
    words = []
    for run in latest_runs(repo, sha):
        if run.name == name and (any_app or run.app.id == app):
            words.append("pending" if run.status != "completed" else None if run.conclusion in _PASSED else "failing")
    status = next((one for one in reversed(repo.statuses.get(sha, [])) if one.context == name), None)
    if status is not None and (any_app or _by_app(repo, status.creator, app)):
        words.append({"success": None, "pending": "pending"}.get(status.state, "failing"))
    if not words:
        return "expected"
    return "failing" if "failing" in words else "pending" if "pending" in words else None


def _by_app(repo: Repo, account: Account, app: int | None) -> bool:
    found = repo.hub.apps.get(app or 0)
    return found is not None and found.bot is account


def latest_runs(repo: Repo, sha: str) -> list[CheckRun]:
    """The newest run of each App and name on a commit."""
    found = {(run.app.id, run.name): run for run in repo.runs_of.get(sha, [])}
    return list(found.values())


# -- endpoints -----------------------------------------------------------------------------------------------------------


@route("GET", "/repos/{owner}/{repo}/branches/{branch}/protection", "administration:read")
def get_protection(call: Call) -> Answer:
    branch = call.params["branch"]
    if call.repo.tip(branch) is None:
        raise Refused(404, "Branch not found")
    found = protection_of(call.repo, branch)
    if found is None:
        raise Refused(404, "Branch not protected")
    return Answer(200, protection_shape(call.repo, branch, found))


def protection_shape(repo: Repo, branch: str, one: Protection) -> Json:
    """Classic protection as GitHub's JSON."""
    url = f"{repo.api}/branches/{quote(branch)}/protection"

    def on(enabled: bool) -> Json:
        return {"enabled": enabled}

    made: Json = {
        "url": url,
        "required_signatures": {"url": f"{url}/required_signatures", "enabled": False},
        "enforce_admins": {"url": f"{url}/enforce_admins", "enabled": one.enforce_admins},
        "required_linear_history": on(one.linear),
        "allow_force_pushes": on(one.allow_force_pushes),
        "allow_deletions": on(one.allow_deletions),
        "block_creations": on(False),
        "required_conversation_resolution": on(one.conversations),
        "lock_branch": on(one.lock),
        "allow_fork_syncing": on(False),
    }
    if one.required_checks is not None:
        checks = f"{url}/required_status_checks"
        made["required_status_checks"] = {
            "url": checks,
            "strict": one.strict,
            "contexts": [name for name, _ in one.required_checks],
            "contexts_url": f"{checks}/contexts",
            "checks": [{"context": name, "app_id": app} for name, app in one.required_checks],
        }
    if one.approvals is not None:
        made["required_pull_request_reviews"] = {
            "url": f"{url}/required_pull_request_reviews",
            "dismiss_stale_reviews": one.dismiss_stale,
            "require_code_owner_reviews": one.code_owners,
            "require_last_push_approval": one.last_push,
            "required_approving_review_count": one.approvals,
        }
        if one.bypass_reviews:
            made["required_pull_request_reviews"]["bypass_pull_request_allowances"] = _people(repo, one.bypass_reviews)
    if one.restrictions is not None:
        where = f"{url}/restrictions"
        made["restrictions"] = {
            "url": where,
            "users_url": f"{where}/users",
            "teams_url": f"{where}/teams",
            "apps_url": f"{where}/apps",
            **_people(repo, one.restrictions),
        }
    return made


def _people(repo: Repo, names: Iterable[str]) -> Json:
    api = repo.hub.api
    slugs = {app.slug: app for app in repo.hub.apps.values()}
    found = list(names)
    return {
        "users": [shapes.user(api, repo.hub.user(name)) for name in found if name not in slugs],
        "teams": [],
        "apps": [shapes.app(api, slugs[name]) for name in found if name in slugs],
    }


@route("GET", "/repos/{owner}/{repo}/rules/branches/{branch}", "metadata:read", listing=True)
def get_branch_rules(call: Call) -> Answer:
    source = {"ruleset_source_type": "Repository", "ruleset_source": call.repo.full_name}
    found = [
        {**rule, **source, "ruleset_id": one.id}
        for one in rulesets_of(call.repo, call.params["branch"])
        for rule in one.rules
    ]
    return Answer(200, paged(call, found, lambda rule: rule))


@route("GET", "/repos/{owner}/{repo}/rulesets", "metadata:read", listing=True)
def list_rulesets(call: Call) -> Answer:
    found = call.repo.rulesets.values()
    return Answer(200, paged(call, found, lambda one: shapes.ruleset(call.repo, one, full=False, bypass=False)))


@route("GET", "/repos/{owner}/{repo}/rulesets/{ruleset_id}", "metadata:read")
def get_ruleset(call: Call) -> Answer:
    found = call.repo.rulesets.get(call.number("ruleset_id"))
    if found is None:
        raise not_found()
    told = auth.may(call.actor, call.repo, "administration:write")
    return Answer(200, shapes.ruleset(call.repo, found, full=True, bypass=told))
