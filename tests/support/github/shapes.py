"""Records as GitHub's JSON."""

from __future__ import annotations

import base64
from urllib.parse import quote

from tests.support.github.gitdir import Commit, Who
from tests.support.github.records import (
    Account,
    App,
    CheckRun,
    CheckSuite,
    Comment,
    Installation,
    Issue,
    Json,
    Label,
    Pull,
    Reaction,
    Repo,
    Review,
    Ruleset,
    Status,
    iso,
)

_USER_URLS = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}
_REPO_URLS = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}


def node_id(kind: str, number: int | str) -> str:
    """The global id that GraphQL knows a record by."""
    return f"{kind}_{base64.urlsafe_b64encode(str(number).encode()).decode().rstrip('=')}"


def node_number(text: str, kind: str) -> int | None:
    """The record's number in a global id of that kind."""
    found, _, rest = text.partition("_")
    if found != kind:
        return None
    try:
        return int(base64.urlsafe_b64decode(rest + "=" * (-len(rest) % 4)))
    except ValueError:
        return None


def login_of(account: Account | None) -> str:
    """The login of an account; that of nobody when it was deleted."""
    return "ghost" if account is None or account.deleted else account.login


def email_of(account: Account) -> str:
    """The address that commits made on GitHub carry."""
    return f"{account.id}+{account.login}@users.noreply.github.com"


def user(hub_api: str, account: Account | None) -> Json | None:
    """An account; None for nobody and for one that was deleted."""
    if account is None or account.deleted:
        return None
    kind = {"Bot": "BOT", "Organization": "O", "User": "U"}[account.type]
    top, name = hub_api.removesuffix("/api/v3"), quote(account.login)
    url = f"{hub_api}/users/{name}"
    page = f"{top}/apps/{account.login.removesuffix('[bot]')}" if account.type == "Bot" else f"{top}/{account.login}"
    return {
        "login": account.login,
        "id": account.id,
        "node_id": node_id(kind, account.id),
        "avatar_url": f"{top}/avatars/u/{account.id}?",
        "gravatar_id": "",
        "url": url,
        "html_url": page,
        **{name: url + rest for name, rest in _USER_URLS.items()},
        "type": account.type,
        "user_view_type": "public",
        "site_admin": False,
    }


def public_user(hub_api: str, account: Account) -> Json:
    """An account as its own page has it."""
    return {
        **(user(hub_api, account) or {}),
        "name": None,
        "company": None,
        "blog": "",
        "location": None,
        "email": None,
        "hireable": None,
        "bio": None,
        "twitter_username": None,
        "public_repos": 0,
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "created_at": iso(account.created_at),
        "updated_at": iso(account.created_at),
    }


def minimal_repo(repo: Repo) -> Json:
    """A repository as other records name it."""
    return {
        "id": repo.id,
        "node_id": node_id("R", repo.id),
        "name": repo.name,
        "full_name": repo.full_name,
        "private": repo.private,
        "owner": user(repo.hub.api, repo.owner),
        "html_url": repo.html,
        "description": None,
        "fork": repo.parent is not None,
        "url": repo.api,
        **{name: repo.api + rest for name, rest in _REPO_URLS.items()},
    }


def full_repo(repo: Repo, permissions: Json | None = None) -> Json:
    """A repository with its settings."""
    top = repo.hub.url.removeprefix("http://")
    opened = sum(issue.state == "open" for issue in repo.issues.values())
    made = {
        **minimal_repo(repo),
        "created_at": iso(repo.created_at),
        "updated_at": iso(repo.pushed_at or repo.created_at),
        "pushed_at": iso(repo.pushed_at or repo.created_at),
        "git_url": f"git://{top}/{repo.full_name}.git",
        "ssh_url": f"git@{top.partition(':')[0]}:{repo.full_name}.git",
        "clone_url": repo.url,
        "svn_url": repo.html,
        "homepage": None,
        "size": 0,
        "stargazers_count": 0,
        "watchers_count": 0,
        "language": None,
        "has_issues": True,
        "has_projects": True,
        "has_downloads": True,
        "has_wiki": False,
        "has_pages": False,
        "has_discussions": False,
        "forks_count": sum(one.parent is repo for one in repo.hub.repos.values()),
        "mirror_url": None,
        "archived": repo.archived,
        "disabled": False,
        "open_issues_count": opened,
        "license": None,
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": [],
        "visibility": "private" if repo.private else "public",
        "forks": 0,
        "open_issues": opened,
        "watchers": 0,
        "default_branch": repo.default_branch,
        "allow_squash_merge": repo.allow["squash"],
        "allow_merge_commit": repo.allow["merge"],
        "allow_rebase_merge": repo.allow["rebase"],
        "allow_auto_merge": repo.allow_auto_merge,
        "delete_branch_on_merge": repo.delete_branch_on_merge,
        "allow_update_branch": False,
        "use_squash_pr_title_as_default": False,
        "squash_merge_commit_message": "COMMIT_MESSAGES",
        "squash_merge_commit_title": "COMMIT_OR_PR_TITLE",
        "merge_commit_message": "PR_TITLE",
        "merge_commit_title": "MERGE_MESSAGE",
        "network_count": 0,
        "subscribers_count": 0,
    }
    if permissions is not None:
        made["permissions"] = permissions
    if repo.parent is not None:
        made["parent"] = made["source"] = full_repo(repo.parent)
    return made


def app(hub_api: str, one: App) -> Json:
    """A GitHub App."""
    top = hub_api.removesuffix("/api/v3")
    return {
        "id": one.id,
        "slug": one.slug,
        "client_id": f"Iv23{one.id:016d}",
        "node_id": node_id("A", one.id),
        "owner": user(hub_api, one.owner),
        "name": one.name,
        "description": None,
        "external_url": f"{top}/{one.slug}",
        "html_url": f"{top}/apps/{one.slug}",
        "created_at": iso(one.created_at),
        "updated_at": iso(one.created_at),
        "permissions": dict(one.permissions),
        "events": [],
    }


def installation(hub_api: str, one: Installation) -> Json:
    """An App's installation."""
    return {
        "id": one.id,
        "account": user(hub_api, one.account),
        "repository_selection": "selected",
        "access_tokens_url": f"{hub_api}/app/installations/{one.id}/access_tokens",
        "repositories_url": f"{hub_api}/installation/repositories",
        "html_url": f"{hub_api.removesuffix('/api/v3')}/settings/installations/{one.id}",
        "app_id": one.app.id,
        "app_slug": one.app.slug,
        "client_id": f"Iv23{one.app.id:016d}",
        "target_id": one.account.id,
        "target_type": one.account.type,
        "permissions": dict(one.permissions),
        "events": [],
        "created_at": iso(one.created_at),
        "updated_at": iso(one.created_at),
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": None if one.suspended_at is None else user(hub_api, one.account),
        "suspended_at": None if one.suspended_at is None else iso(one.suspended_at),
    }


# -- git -----------------------------------------------------------------------------------------------------------------


def ref(repo: Repo, name: str, sha: str) -> Json:
    """A ref; name is the full one."""
    kind = repo.git.kind(sha) or "commit"
    return {
        "ref": name,
        "node_id": node_id("REF", f"{repo.id}:{name}"),
        "url": f"{repo.api}/git/{quote(name)}",
        "object": {"type": kind, "sha": sha, "url": f"{repo.api}/git/{kind}s/{sha}"},
    }


_UNSIGNED = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}


def _person(who: Who) -> Json:
    return {"name": who.name, "email": who.email, "date": iso(who.time)}


def git_commit(repo: Repo, one: Commit) -> Json:
    """A commit as git has it."""
    return {
        "sha": one.sha,
        "node_id": node_id("C", f"{repo.id}:{one.sha}"),
        "url": f"{repo.api}/git/commits/{one.sha}",
        "html_url": f"{repo.html}/commit/{one.sha}",
        "author": _person(one.author),
        "committer": _person(one.committer),
        "tree": {"sha": one.tree, "url": f"{repo.api}/git/trees/{one.tree}"},
        "message": one.message.rstrip("\n"),
        "parents": [
            {"sha": sha, "url": f"{repo.api}/git/commits/{sha}", "html_url": f"{repo.html}/commit/{sha}"}
            for sha in one.parents
        ],
        "verification": dict(_UNSIGNED),
    }


def _account_of(repo: Repo, who: Who) -> Json | None:
    number, _, rest = who.email.partition("+")
    if number.isdecimal() and rest.endswith("@users.noreply.github.com"):
        return user(repo.hub.api, repo.hub.accounts.get(int(number)))
    return None


def commit(repo: Repo, one: Commit) -> Json:
    """A commit as GitHub has it, with accounts."""
    return {
        "sha": one.sha,
        "node_id": node_id("C", f"{repo.id}:{one.sha}"),
        "commit": {
            "author": _person(one.author),
            "committer": _person(one.committer),
            "message": one.message.rstrip("\n"),
            "tree": {"sha": one.tree, "url": f"{repo.api}/git/trees/{one.tree}"},
            "url": f"{repo.api}/git/commits/{one.sha}",
            "comment_count": 0,
            "verification": dict(_UNSIGNED),
        },
        "url": f"{repo.api}/commits/{one.sha}",
        "html_url": f"{repo.html}/commit/{one.sha}",
        "comments_url": f"{repo.api}/commits/{one.sha}/comments",
        "author": _account_of(repo, one.author),
        "committer": _account_of(repo, one.committer),
        "parents": [
            {"sha": sha, "url": f"{repo.api}/commits/{sha}", "html_url": f"{repo.html}/commit/{sha}"}
            for sha in one.parents
        ],
    }


# -- issues and pull requests --------------------------------------------------------------------------------------------


def label(repo: Repo, one: Label) -> Json:
    """A label."""
    return {
        "id": one.id,
        "node_id": node_id("LA", one.id),
        "url": f"{repo.api}/labels/{quote(one.name)}",
        "name": one.name,
        "color": one.color,
        "default": False,
        "description": one.description,
    }


def association(repo: Repo, account: Account) -> str:
    """What someone is to a repository."""
    if account is repo.owner:
        return "OWNER"
    return "COLLABORATOR" if account.id in repo.collaborators else "NONE"


def issue(one: Issue) -> Json:
    """An issue, or a pull request as one."""
    repo, api = one.repo, one.repo.hub.api
    url, pull = f"{repo.api}/issues/{one.number}", one.pull
    assignees = [user(api, who) for who in one.assignees]
    made: Json = {
        "url": url,
        "repository_url": repo.api,
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "html_url": f"{repo.html}/{'pull' if pull else 'issues'}/{one.number}",
        "id": one.id,
        "node_id": node_id("PR" if pull else "I", pull.id if pull else one.id),
        "number": one.number,
        "title": one.title,
        "user": user(api, one.user),
        "labels": [label(repo, each) for each in one.labels],
        "state": one.state,
        "locked": one.locked,
        "assignee": assignees[0] if assignees else None,
        "assignees": assignees,
        "milestone": None,
        "comments": len(one.comments),
        "created_at": iso(one.created_at),
        "updated_at": iso(one.updated_at),
        "closed_at": None if one.closed_at is None else iso(one.closed_at),
        "author_association": association(repo, one.user),
        "active_lock_reason": None,
        "body": one.body,
        "closed_by": user(api, one.closed_by),
        "reactions": reactions_of(url, []),
        "timeline_url": f"{url}/timeline",
        "performed_via_github_app": app(api, one.app) if one.app else None,
        "state_reason": one.state_reason,
    }
    if pull is not None:
        page = f"{repo.html}/pull/{one.number}"
        made["draft"] = pull.draft
        made["pull_request"] = {
            "url": f"{repo.api}/pulls/{one.number}",
            "html_url": page,
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            "merged_at": None if pull.merged_at is None else iso(pull.merged_at),
        }
    return made


def reactions_of(url: str, found: list[Reaction]) -> Json:
    """How often each emoji was given."""
    kinds = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")
    counts = {kind: sum(one.content == kind for one in found) for kind in kinds}
    return {"url": f"{url}/reactions", "total_count": len(found), **counts}


def reaction(hub_api: str, one: Reaction) -> Json:
    """One emoji."""
    return {
        "id": one.id,
        "node_id": node_id("REA", one.id),
        "user": user(hub_api, one.user),
        "content": one.content,
        "created_at": iso(one.created_at),
    }


def comment(one: Comment) -> Json:
    """A remark."""
    repo = one.issue.repo
    url = f"{repo.api}/issues/comments/{one.id}"
    kind = "pull" if one.issue.pull else "issues"
    return {
        "url": url,
        "html_url": f"{repo.html}/{kind}/{one.issue.number}#issuecomment-{one.id}",
        "issue_url": f"{repo.api}/issues/{one.issue.number}",
        "id": one.id,
        "node_id": node_id("IC", one.id),
        "user": user(repo.hub.api, one.user),
        "created_at": iso(one.created_at),
        "updated_at": iso(one.updated_at),
        "body": one.body,
        "author_association": association(repo, one.user),
        "reactions": reactions_of(url, one.reactions),
        "performed_via_github_app": app(repo.hub.api, one.app) if one.app else None,
    }


def review(pull: Pull, one: Review) -> Json:
    """A review."""
    repo = pull.repo
    url = f"{repo.api}/pulls/{pull.number}"
    page = f"{repo.html}/pull/{pull.number}#pullrequestreview-{one.id}"
    return {
        "id": one.id,
        "node_id": node_id("PRR", one.id),
        "user": user(repo.hub.api, one.user),
        "body": one.body,
        "state": one.state,
        "html_url": page,
        "pull_request_url": url,
        "author_association": association(repo, one.user),
        "_links": {"html": {"href": page}, "pull_request": {"href": url}},
        "submitted_at": iso(one.submitted_at),
        "commit_id": one.commit_id,
    }


def _side(pull: Pull, repo: Repo | None, owner: str, name: str, sha: str) -> Json:
    hub_api = pull.repo.hub.api
    return {
        "label": f"{owner}:{name}",
        "ref": name,
        "sha": sha,
        "user": user(hub_api, repo.owner) if repo is not None else None,
        "repo": full_repo(repo) if repo is not None else None,
    }


def pull_simple(one: Pull) -> Json:
    """A pull request as listings have it; its head is to be in step already."""
    issue_, repo, api = one.issue, one.repo, one.repo.hub.api
    url, page = f"{repo.api}/pulls/{one.number}", f"{repo.html}/pull/{one.number}"
    statuses = f"{repo.api}/statuses/{one.head_sha}"
    links = {
        "self": url,
        "html": page,
        "issue": f"{repo.api}/issues/{one.number}",
        "comments": f"{repo.api}/issues/{one.number}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{repo.api}/pulls/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": statuses,
    }
    assignees = [user(api, who) for who in issue_.assignees]
    return {
        "url": url,
        "id": one.id,
        "node_id": node_id("PR", one.id),
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "issue_url": links["issue"],
        "number": one.number,
        "state": one.state,
        "locked": issue_.locked,
        "title": issue_.title,
        "user": user(api, issue_.user),
        "body": issue_.body,
        "created_at": iso(issue_.created_at),
        "updated_at": iso(issue_.updated_at),
        "closed_at": None if issue_.closed_at is None else iso(issue_.closed_at),
        "merged_at": None if one.merged_at is None else iso(one.merged_at),
        "merge_commit_sha": one.merge_commit_sha,
        "assignee": assignees[0] if assignees else None,
        "assignees": assignees,
        "requested_reviewers": [user(api, who) for who in one.requested],
        "requested_teams": [],
        "labels": [label(repo, each) for each in issue_.labels],
        "milestone": None,
        "draft": one.draft,
        "commits_url": links["commits"],
        "review_comments_url": links["review_comments"],
        "review_comment_url": links["review_comment"],
        "comments_url": links["comments"],
        "statuses_url": statuses,
        "head": _side(one, one.head_repo, one.head_owner, one.head_ref, one.head_sha),
        "base": _side(one, repo, repo.owner.login, one.base_ref, one.base_sha),
        "_links": {name: {"href": where} for name, where in links.items()},
        "author_association": association(repo, issue_.user),
        "auto_merge": _auto_merge(one),
        "active_lock_reason": None,
    }


def _auto_merge(one: Pull) -> Json | None:
    if one.auto_merge is None:
        return None
    return {
        "enabled_by": user(one.repo.hub.api, one.auto_merge["by"]),
        "merge_method": one.auto_merge["method"],
        "commit_title": None,
        "commit_message": None,
    }


# -- checks --------------------------------------------------------------------------------------------------------------


def check_run(repo: Repo, one: CheckRun) -> Json:
    """A check run."""
    url = f"{repo.api}/check-runs/{one.id}"
    return {
        "id": one.id,
        "name": one.name,
        "node_id": node_id("CR", one.id),
        "head_sha": one.head_sha,
        "external_id": one.external_id,
        "url": url,
        "html_url": f"{repo.html}/runs/{one.id}",
        "details_url": one.details_url or f"{repo.hub.url}/{one.app.slug}",
        "status": one.status,
        "conclusion": one.conclusion,
        "started_at": None if one.started_at is None else iso(one.started_at),
        "completed_at": None if one.completed_at is None else iso(one.completed_at),
        "output": {
            "title": one.title,
            "summary": one.summary,
            "text": one.text,
            "annotations_count": len(one.annotations),
            "annotations_url": f"{url}/annotations",
        },
        "check_suite": {"id": one.suite.id},
        "app": app(repo.hub.api, one.app),
        "pull_requests": [_pull_minimal(pull) for pull in _pulls_at(repo, one.head_sha)],
    }


def _pulls_at(repo: Repo, sha: str) -> list[Pull]:
    return [pull for pull in repo.hub.heads.get((repo.id, sha), []) if pull.state == "open" and pull.head_sha == sha]


def _pull_minimal(one: Pull) -> Json:
    def side(repo: Repo, name: str, sha: str) -> Json:
        return {"ref": name, "sha": sha, "repo": {"id": repo.id, "url": repo.api, "name": repo.name}}

    return {
        "id": one.id,
        "number": one.number,
        "url": f"{one.repo.api}/pulls/{one.number}",
        "head": side(one.head_repo or one.repo, one.head_ref, one.head_sha),
        "base": side(one.repo, one.base_ref, one.base_sha),
    }


def check_suite(repo: Repo, one: CheckSuite, runs: list[CheckRun]) -> Json:
    """All runs of one App on one commit; `runs` are those."""
    made = repo.git.commit(one.head_sha)
    done = all(run.status == "completed" for run in runs)
    worst = next(
        (run.conclusion for run in runs if run.conclusion not in (None, "success", "neutral", "skipped")), None
    )
    url = f"{repo.api}/check-suites/{one.id}"
    return {
        "id": one.id,
        "node_id": node_id("CS", one.id),
        "head_branch": None,
        "head_sha": one.head_sha,
        "status": "completed" if done else "in_progress",
        "conclusion": (worst or "success") if done else None,
        "url": url,
        "before": None,
        "after": one.head_sha,
        "pull_requests": [],
        "app": app(repo.hub.api, one.app),
        "repository": minimal_repo(repo),
        "created_at": iso(one.created_at),
        "updated_at": iso(one.updated_at),
        "head_commit": {
            "id": made.sha,
            "tree_id": made.tree,
            "message": made.message,
            "timestamp": iso(made.committer.time),
            "author": {"name": made.author.name, "email": made.author.email},
            "committer": {"name": made.committer.name, "email": made.committer.email},
        },
        "latest_check_runs_count": len(runs),
        "check_runs_url": f"{url}/check-runs",
    }


def status(repo: Repo, one: Status, *, creator: bool = True) -> Json:
    """A commit status; the combined answer has it without its creator."""
    made: Json = {
        "url": f"{repo.api}/statuses/{one.sha}",
        "avatar_url": f"{repo.hub.url}/avatars/u/{one.creator.id}?",
        "id": one.id,
        "node_id": node_id("SC", one.id),
        "state": one.state,
        "description": one.description,
        "target_url": one.target_url,
        "context": one.context,
        "created_at": iso(one.created_at),
        "updated_at": iso(one.created_at),
    }
    if creator:
        made["creator"] = user(repo.hub.api, one.creator)
    return made


# -- rules ---------------------------------------------------------------------------------------------------------------


def ruleset(repo: Repo, one: Ruleset, *, full: bool, bypass: bool) -> Json:
    """A ruleset; who may bypass it is told only to its administrators."""
    made: Json = {
        "id": one.id,
        "name": one.name,
        "target": "branch",
        "source_type": "Repository",
        "source": repo.full_name,
        "enforcement": one.enforcement,
        "node_id": node_id("RRS", one.id),
        "_links": {
            "self": {"href": f"{repo.api}/rulesets/{one.id}"},
            "html": {"href": f"{repo.html}/rules/{one.id}"},
        },
        "created_at": iso(one.created_at),
        "updated_at": iso(one.updated_at),
    }
    if full:
        made["conditions"] = {
            "ref_name": {
                "include": [_full(name) for name in one.branches],
                "exclude": [_full(name) for name in one.exclude],
            }
        }
        made["rules"] = [dict(rule) for rule in one.rules]
        made["current_user_can_bypass"] = "never"
        if bypass:
            made["bypass_actors"] = [dict(each) for each in one.bypass]
    return made


def _full(name: str) -> str:
    return name if name.startswith(("~", "refs/")) else f"refs/heads/{name}"
