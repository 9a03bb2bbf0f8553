"""Pull requests: opening, following their branch, closing, and the endpoints that read and edit them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.github import issues, shapes
from tests.support.github.gitdir import Change, Commit
from tests.support.github.records import Account, Issue, Json, Pull, Repo
from tests.support.github.web import Answer, Call, Refused, invalid, not_found, paged, route

if TYPE_CHECKING:
    from tests.support.github.hub import GitHub


def touch(issue: Issue) -> None:
    """It was changed now."""
    issue.updated_at = issue.repo.hub.now()


# -- the life of a pull request ------------------------------------------------------------------------------------------


def open_pull(
    repo: Repo,
    by: Account,
    title: str,
    head: str,
    base: str,
    *,
    body: str | None = None,
    draft: bool = False,
    head_repo: Repo | None = None,
) -> Pull:
    """Open one, or say as GitHub does why not. Raises Refused."""
    hub = repo.hub
    owner, _, branch = head.rpartition(":")
    source = head_repo or _source(repo, owner)
    base_tip, tip = repo.tip(base), source.tip(branch) if source is not None else None
    if base_tip is None:
        raise invalid("PullRequest", "base")
    if source is None or tip is None:
        raise invalid("PullRequest", "head")
    label = f"{source.owner.login}:{branch}"
    for other in repo.hub.open_pulls(repo):
        if other.head_repo is source and other.head_ref == branch and other.base_ref == base:
            sync(other)
            if other.state == "open":
                raise _no(f"A pull request already exists for {label}.")
    if source is not repo:
        repo.git.run("fetch", "--quiet", "--no-tags", str(source.git_dir), f"refs/heads/{branch}")
    if repo.git.merge_base(base_tip, tip) is None:
        raise _no(f"The {base} branch has no history in common with {label}")
    if repo.git.is_ancestor(tip, base_tip):
        raise _no(f"No commits between {base} and {branch if source is repo else label}")
    issue = issues.new_issue(repo, by, title, body)
    made = Pull(hub.next_id(), issue, source, branch, tip, base, base_tip, draft, by)
    made.head_owner_was = source.owner.login
    issue.pull = made
    hub.opened(made)
    repo.git.put_ref(f"refs/pull/{made.number}/head", tip)
    return made


def _source(repo: Repo, owner: str) -> Repo | None:
    if not owner or owner.casefold() == repo.owner.login.casefold():
        return repo
    for other in repo.hub.repos.values():
        if other.parent is repo and other.owner.login.casefold() == owner.casefold() and not other.deleted:
            return other
    return None


def _no(message: str) -> Refused:
    return Refused(422, "Validation Failed", [{"resource": "PullRequest", "code": "custom", "message": message}])


def sync(pull: Pull, by: Account | None = None) -> None:
    """Bring an open pull request in step with its branches: a moved head, a deleted one, a base that has it all."""
    from tests.support.github import rules

    if pull.state != "open":
        return
    repo, source = pull.repo, pull.head_repo
    if source is not None and not source.deleted:
        tip = source.tip(pull.head_ref)
        if tip is None:
            close(pull, by)
            return
        if tip != pull.head_sha:
            if source is not repo:
                repo.git.run("fetch", "--quiet", "--no-tags", str(source.git_dir), f"refs/heads/{pull.head_ref}")
            repo.hub.head_moves(pull, tip)
            repo.git.put_ref(f"refs/pull/{pull.number}/head", tip)
            pull.base_sha = repo.tip(pull.base_ref) or pull.base_sha
            pull.last_pusher = by
            touch(pull.issue)
            if rules.dismisses_stale(repo, pull.base_ref):
                for review in pull.reviews:
                    if review.state == "APPROVED":
                        review.state = "DISMISSED"
            if repo.git.is_ancestor(tip, pull.base_sha):
                close(pull, by)
                return
    base_tip = repo.tip(pull.base_ref)
    if base_tip is not None and base_tip != pull.base_sha and repo.git.is_ancestor(pull.head_sha, base_tip):
        # Someone pushed what was proposed: GitHub counts it as merged.
        first = next((one for one in repo.git.log(base_tip, 200) if pull.head_sha in one.parents), None)
        merged(pull, by, first.sha if first is not None else pull.head_sha, base=pull.base_sha)


def ref_moved(repo: Repo, name: str, old: str | None, new: str | None, by: Account) -> None:
    """A branch was moved by a push or by an endpoint."""
    repo.pushed_at = repo.hub.now()
    branch = name.removeprefix("refs/heads/")
    for pull in repo.hub.open_pulls():
        ours = pull.head_repo is repo and pull.head_ref == branch
        if ours or (pull.repo is repo and pull.base_ref == branch):
            if pull.repo is repo and pull.base_ref == branch and new is None:
                close(pull, by)
            sync(pull, by)


def close(pull: Pull, by: Account | None) -> None:
    """Close without merging: the head stays as it is from now on."""
    issue, now = pull.issue, pull.repo.hub.now()
    _freeze(pull)
    issue.state, issue.closed_at, issue.closed_by, issue.updated_at = "closed", now, by, now
    pull.auto_merge, pull.queued = None, False
    pull.repo.hub.closed(pull)


def merged(pull: Pull, by: Account | None, sha: str, *, base: str) -> None:
    """It was merged as that commit; `base` is what the base branch was before."""
    pull.merged_at, pull.merged_by, pull.merge_commit_sha = pull.repo.hub.now(), by, sha
    _freeze(pull, base)
    pull.base_sha = base
    issue = pull.issue
    issue.state, issue.closed_at, issue.closed_by = "closed", pull.merged_at, by
    issue.updated_at = pull.merged_at
    pull.auto_merge, pull.queued = None, False
    pull.repo.hub.closed(pull)


def _freeze(pull: Pull, base: str | None = None) -> None:
    pull.final = {"base": base or pull.repo.tip(pull.base_ref) or pull.base_sha}


def reopen(pull: Pull, by: Account) -> None:
    """Open it again. Raises Refused where GitHub does."""
    if pull.merged or pull.state == "open":
        raise invalid("PullRequest", "state", message="state cannot be changed.")
    source = pull.head_repo
    tip = source.tip(pull.head_ref) if source is not None and not source.deleted else None
    if tip is None:
        text = f"state cannot be changed. The {pull.head_ref} branch has been deleted."
        raise invalid("PullRequest", "state", message=text)
    if not pull.repo.git.is_ancestor(pull.head_sha, tip):
        text = f"state cannot be changed. The {pull.head_ref} branch was force-pushed or recreated."
        raise invalid("PullRequest", "state", message=text)
    for other in pull.repo.hub.open_pulls(pull.repo):
        if other.head_repo is source and other.head_ref == pull.head_ref and other.base_ref == pull.base_ref:
            label = f"{pull.head_owner}:{pull.head_ref}"
            raise _no(f"state cannot be changed. There is already an open pull request from {label}.")
    issue = pull.issue
    issue.state, issue.closed_at, issue.closed_by, pull.final = "open", None, None, None
    touch(issue)
    pull.repo.hub.opened(pull)
    sync(pull, by)


# -- what it consists of -------------------------------------------------------------------------------------------------


def _ends(pull: Pull) -> tuple[str, str]:
    base = pull.final["base"] if pull.final is not None else pull.repo.tip(pull.base_ref)
    return base or pull.base_sha, pull.head_sha


def commits(pull: Pull) -> list[Commit]:
    """Its commits, oldest first."""
    return pull.repo.git.between(*_ends(pull))


def changes(pull: Pull) -> list[Change]:
    """The paths it changes, seen from where it left its base."""
    git = pull.repo.git
    base, head = _ends(pull)
    start = git.merge_base(base, head)
    return git.diff(git.commit(start).tree if start is not None else None, git.commit(head).tree)


def full(pull: Pull, *, fresh: bool = False) -> Json:
    """A pull request with what takes work to know. `fresh`: just opened, so that nothing was tried yet."""
    from tests.support.github import merging

    if fresh:
        mergeable, state = None, "unknown"
    else:
        mergeable, state = merging.mergeability(pull)
    changed = changes(pull)
    lines = [pull.repo.git.lines(one) for one in changed]
    return {
        **shapes.pull_simple(pull),
        "merged": pull.merged,
        "mergeable": mergeable,
        "rebaseable": mergeable,
        "mergeable_state": state,
        "merged_by": shapes.user(pull.repo.hub.api, pull.merged_by),
        "comments": len(pull.issue.comments),
        "review_comments": 0,
        "maintainer_can_modify": pull.maintainer_can_modify,
        "commits": len(commits(pull)),
        "additions": sum(one[0] for one in lines),
        "deletions": sum(one[1] for one in lines),
        "changed_files": len(changed),
    }


# -- endpoints -----------------------------------------------------------------------------------------------------------


def pull_of(call: Call, name: str = "pull_number") -> Pull:
    """The pull request in the path, in step with its branch. Raises Refused."""
    issue = call.repo.issues.get(call.number(name))
    if issue is None or issue.pull is None:
        raise not_found()
    sync(issue.pull)
    return issue.pull


@route("GET", "/repos/{owner}/{repo}/pulls", "pull_requests:read", listing=True)
def list_pulls(call: Call) -> Answer:
    query = call.query
    state, head, base = query.get("state", "open"), query.get("head"), query.get("base")
    for pull in call.hub.open_pulls(call.repo):
        sync(pull)
    found = [
        pull
        for pull in call.repo.pulls
        if state in ("all", pull.state)
        and (head is None or f"{pull.head_owner}:{pull.head_ref}".casefold() == head.casefold() or ":" not in head)
        and (base is None or pull.base_ref == base)
    ]
    by = query.get("sort", "created")
    if by in ("updated", "long-running", "popularity"):
        found.sort(key=lambda pull: (pull.issue.updated_at, pull.number))
    down = query.get("direction", "desc" if by == "created" else "asc") == "desc"
    return Answer(200, paged(call, reversed(found) if down else found, shapes.pull_simple))


@route("POST", "/repos/{owner}/{repo}/pulls", "pull_requests:write")
def create_pull(call: Call) -> Answer:
    head, base = call.want("head", "PullRequest"), call.want("base", "PullRequest")
    title = call.get("title")
    if not title:
        raise invalid("PullRequest", "title", "missing_field")
    named = call.get("head_repo")
    head_repo = None
    if named is not None:
        owner = head.rpartition(":")[0] or call.repo.owner.login
        head_repo = call.hub.repos.get(call.hub.names.get(f"{owner}/{named}".casefold(), 0))
        if head_repo is None:
            raise invalid("PullRequest", "head")
    pull = open_pull(
        call.repo,
        call.me,
        title,
        head,
        base,
        body=call.get("body"),
        draft=bool(call.get("draft")),
        head_repo=head_repo,
    )
    pull.issue.app = call.actor.app
    pull.maintainer_can_modify = bool(call.get("maintainer_can_modify", pull.head_repo is not pull.repo))
    return Answer(201, full(pull, fresh=True), {"Location": f"{call.repo.api}/pulls/{pull.number}"})


@route("GET", "/repos/{owner}/{repo}/pulls/{pull_number}", "pull_requests:read")
def get_pull(call: Call) -> Answer:
    return Answer(200, full(pull_of(call)))


@route("PATCH", "/repos/{owner}/{repo}/pulls/{pull_number}", "pull_requests:write")
def edit_pull(call: Call) -> Answer:
    pull = pull_of(call)
    state, base = call.get("state"), call.get("base")
    if state is not None and state != pull.state:
        if state == "closed":
            close(pull, call.me)
        elif state == "open":
            reopen(pull, call.me)
        else:
            raise invalid("PullRequest", "state")
    if base is not None and base != pull.base_ref:
        tip = call.repo.tip(base)
        if tip is None or pull.state != "open":
            raise invalid("PullRequest", "base")
        if call.repo.git.is_ancestor(pull.head_sha, tip):
            raise _no(f"There are no new commits between base branch '{base}' and head branch '{pull.head_ref}'")
        pull.base_ref, pull.base_sha = base, tip
    issues.edit_texts(call, pull.issue)
    if "maintainer_can_modify" in (call.body or {}):
        pull.maintainer_can_modify = bool(call.get("maintainer_can_modify"))
    touch(pull.issue)
    return Answer(200, full(pull))


@route("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/commits", "pull_requests:read", listing=True)
def list_commits(call: Call) -> Answer:
    found = commits(pull_of(call))[:250]
    return Answer(200, paged(call, found, lambda one: shapes.commit(call.repo, one)))


@route("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/files", "pull_requests:read", listing=True)
def list_files(call: Call) -> Answer:
    pull = pull_of(call)
    return Answer(200, paged(call, changes(pull)[:3000], lambda one: _file(pull, one)))


def _file(pull: Pull, one: Change) -> Json:
    repo, sha = pull.repo, pull.head_sha
    plus, minus, patch = repo.git.lines(one)
    status = "added" if one.old_sha is None else "removed" if one.new_sha is None else "modified"
    if one.old_sha == one.new_sha:
        status = "changed"
    made: dict[str, Any] = {
        "sha": one.new_sha or one.old_sha,
        "filename": one.path,
        "status": status,
        "additions": plus,
        "deletions": minus,
        "changes": plus + minus,
        "blob_url": f"{repo.html}/blob/{sha}/{one.path}",
        "raw_url": f"{repo.html}/raw/{sha}/{one.path}",
        "contents_url": f"{repo.api}/contents/{one.path}?ref={sha}",
    }
    if patch:
        made["patch"] = patch
    return made


@route("POST", "/repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers", "pull_requests:write")
def request_reviewers(call: Call) -> Answer:
    pull = pull_of(call)
    for login in call.get("reviewers") or []:
        account = call.hub.by_login.get(login.casefold())
        if account is None or call.repo.role(account) == "none":
            raise Refused(
                422,
                "Reviews may only be requested from collaborators. One or more of the users or teams you specified "
                f"is not a collaborator of the {call.repo.full_name} repository.",
            )
        if account is pull.issue.user:
            raise Refused(422, "Review cannot be requested from pull request author.")
        if account not in pull.requested:
            pull.requested.append(account)
    touch(pull.issue)
    return Answer(201, shapes.pull_simple(pull))


def of_node(hub: GitHub, text: str) -> Pull | None:
    """The pull request with that global id."""
    number = shapes.node_number(text, "PR")
    for repo in hub.repos.values():
        for pull in repo.pulls:
            if pull.id == number:
                return pull
    return None
