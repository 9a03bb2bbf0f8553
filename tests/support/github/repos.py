"""Repositories, branches, collaborators, accounts, and what the site says of itself."""

from __future__ import annotations

from urllib.parse import quote

from tests.support.github import auth, rules, shapes
from tests.support.github.records import Account, Json, Repo, role_at_least
from tests.support.github.rest_limits import limits
from tests.support.github.web import Answer, Call, Refused, not_found, paged, route

_SITE = {
    "authorizations_url": "/authorizations",
    "code_search_url": "/search/code?q={query}{&page,per_page,sort,order}",
    "commit_search_url": "/search/commits?q={query}{&page,per_page,sort,order}",
    "current_user_authorizations_html_url": "/settings/connections/applications{/client_id}",
    "current_user_repositories_url": "/user/repos{?type,page,per_page,sort}",
    "current_user_url": "/user",
    "emails_url": "/user/emails",
    "emojis_url": "/emojis",
    "events_url": "/events",
    "feeds_url": "/feeds",
    "followers_url": "/user/followers",
    "following_url": "/user/following{/target}",
    "gists_url": "/gists{/gist_id}",
    "issue_search_url": "/search/issues?q={query}{&page,per_page,sort,order}",
    "issues_url": "/issues",
    "keys_url": "/user/keys",
    "label_search_url": "/search/labels?q={query}&repository_id={repository_id}{&page,per_page}",
    "notifications_url": "/notifications",
    "organization_repositories_url": "/orgs/{org}/repos{?type,page,per_page,sort}",
    "organization_teams_url": "/orgs/{org}/teams",
    "organization_url": "/orgs/{org}",
    "public_gists_url": "/gists/public",
    "rate_limit_url": "/rate_limit",
    "repository_search_url": "/search/repositories?q={query}{&page,per_page,sort,order}",
    "repository_url": "/repos/{owner}/{repo}",
    "starred_gists_url": "/gists/starred",
    "starred_url": "/user/starred{/owner}{/repo}",
    "user_organizations_url": "/user/orgs",
    "user_repositories_url": "/users/{user}/repos{?type,page,per_page,sort}",
    "user_search_url": "/search/users?q={query}{&page,per_page,sort,order}",
    "user_url": "/users/{user}",
}
_LEVELS = ("pull", "triage", "push", "maintain", "admin")
_RANK = {"read": 1, "triage": 2, "write": 3, "maintain": 4, "admin": 5}


@route("GET", "/")
def root(call: Call) -> Answer:
    return Answer(200, {name: call.hub.api + path for name, path in _SITE.items()})


@route("GET", "/meta")
def meta(call: Call) -> Answer:
    return Answer(200, {"verifiable_password_authentication": True, "installed_version": "3.19.0"})


@route("GET", "/rate_limit")
def rate_limit(call: Call) -> Answer:
    return Answer(200, limits(call.hub, call.actor))


@route("GET", "/user")
def get_me(call: Call) -> Answer:
    if call.actor.installation is not None:
        raise Refused(403, "Resource not accessible by integration")
    return Answer(200, shapes.public_user(call.hub.api, call.me))


@route("GET", "/users/{username}")
def get_user(call: Call) -> Answer:
    found = call.hub.by_login.get(call.params["username"].casefold())
    if found is None:
        raise not_found()
    return Answer(200, shapes.public_user(call.hub.api, found))


@route("GET", "/repos/{owner}/{repo}", "metadata:read")
def get_repo(call: Call) -> Answer:
    return Answer(200, shapes.full_repo(call.repo, _permissions(call)))


def _permissions(call: Call) -> Json:
    actor, repo = call.actor, call.repo
    if actor.installation is not None:
        write = auth.may(actor, repo, "contents:write")
        rank = 3 if write else 1
        if auth.may(actor, repo, "administration:write"):
            rank = 5
    else:
        rank = _RANK.get(repo.role(actor.account), 1) if actor.account is not None else 1
    return {name: rank > place for place, name in enumerate(_LEVELS)}


# -- branches ------------------------------------------------------------------------------------------------------------


def _protected(repo: Repo, branch: str) -> bool:
    return rules.protection_of(repo, branch) is not None or bool(rules.rulesets_of(repo, branch))


@route("GET", "/repos/{owner}/{repo}/branches/{branch}", "contents:read")
def get_branch(call: Call) -> Answer:
    repo, name = call.repo, call.params["branch"]
    sha = repo.tip(name)
    if sha is None:
        raise Refused(404, "Branch not found")
    protection = rules.protection_of(repo, name)
    checks = (protection.required_checks if protection is not None else None) or []
    url = f"{repo.api}/branches/{quote(name)}"
    body = {
        "name": name,
        "commit": shapes.commit(repo, repo.git.commit(sha)),
        "_links": {"self": url, "html": f"{repo.html}/tree/{name}"},
        "protected": _protected(repo, name),
        "protection": {
            "enabled": protection is not None,
            "required_status_checks": {
                "enforcement_level": ("everyone" if protection.enforce_admins else "non_admins")
                if protection is not None and checks
                else "off",
                "contexts": [context for context, _ in checks],
                "checks": [{"context": context, "app_id": app} for context, app in checks],
            },
        },
        "protection_url": f"{url}/protection",
    }
    return Answer(200, body)


@route("GET", "/repos/{owner}/{repo}/branches", "contents:read", listing=True)
def list_branches(call: Call) -> Answer:
    repo = call.repo

    def shape(one: tuple[str, str]) -> Json:
        name, sha = one[0].removeprefix("refs/heads/"), one[1]
        commit = {"sha": sha, "url": f"{repo.api}/commits/{sha}"}
        return {"name": name, "commit": commit, "protected": _protected(repo, name)}

    wanted = {"true": True, "false": False}.get(call.query.get("protected", ""))
    found = [
        (name, sha)
        for name, sha in repo.git.refs("refs/heads/").items()
        if wanted is None or _protected(repo, name.removeprefix("refs/heads/")) is wanted
    ]
    return Answer(200, paged(call, found, shape))


# -- collaborators -------------------------------------------------------------------------------------------------------


def _collaborator(repo: Repo, account: Account, role: str) -> Json:
    levels = {name: _RANK[role] > place for place, name in enumerate(_LEVELS)}
    return {**(shapes.user(repo.hub.api, account) or {}), "permissions": levels, "role_name": role}


@route("GET", "/repos/{owner}/{repo}/collaborators", "metadata:read", listing=True)
def list_collaborators(call: Call) -> Answer:
    repo = call.repo
    if call.actor.installation is None and not role_at_least(repo.role(call.me), "write"):
        raise Refused(403, "Must have push access to view repository collaborators.")
    found = [(call.hub.accounts[number], role) for number, role in repo.collaborators.items()]
    if repo.owner.type == "User":
        found.insert(0, (repo.owner, "admin"))
    return Answer(200, paged(call, found, lambda one: _collaborator(repo, *one)))


@route("GET", "/repos/{owner}/{repo}/collaborators/{username}", "metadata:read")
def is_collaborator(call: Call) -> Answer:
    account = call.hub.by_login.get(call.params["username"].casefold())
    if account is None or call.repo.role(account) == "none":
        raise not_found()
    return Answer(204)


@route("GET", "/repos/{owner}/{repo}/collaborators/{username}/permission", "metadata:read")
def get_permission(call: Call) -> Answer:
    account = call.hub.by_login.get(call.params["username"].casefold())
    if account is None:
        raise Refused(404, f"{call.params['username']} is not a user")
    role = call.repo.role(account)
    if role == "none" and not call.repo.private:
        role = "read"
    old = {"triage": "read", "maintain": "write"}.get(role, role)
    user = None if role == "none" else _collaborator(call.repo, account, role)
    return Answer(200, {"permission": old, "role_name": role, "user": user})
