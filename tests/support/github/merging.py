"""Merging: whether it can be done, whether it may, and the doing, by git and compare-and-swap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.github import auth, pulls, rules, shapes
from tests.support.github.gitdir import Commit, GitFailed, Who
from tests.support.github.records import Account, Pull, Repo
from tests.support.github.web import Actor, Answer, Call, Refused, route

_HEAD_MOVED = "Head branch was modified. Review and try the merge again."
_BASE_MOVED = "Base branch was modified. Review and try the merge again."
_NOT_MERGEABLE = "Pull Request is not mergeable"
_METHODS = {"merge": "Merge commits", "squash": "Squash merges", "rebase": "Rebase merges"}


def mergeability(pull: Pull) -> tuple[bool | None, str]:
    """`mergeable` and `mergeable_state` of a pull request that is in step."""
    repo, base = pull.repo, pull.repo.tip(pull.base_ref)
    if pull.state != "open" or base is None:
        return None, "unknown"
    if repo.hub.lazy_mergeable and pull.looked_at != (pull.head_sha, base):
        pull.looked_at = (pull.head_sha, base)
        return None, "unknown"
    tree = _merged_tree(repo, base, pull.head_sha)
    if tree is None:
        return False, "dirty"
    _try(pull, base, tree)
    if pull.draft:
        return True, "draft"
    kinds = {one.kind for one in rules.objections(pull, None)}
    if kinds - {"behind"}:
        return True, "blocked"
    if kinds:
        return True, "behind"
    return True, "unstable" if _unstable(repo, pull.head_sha) else "clean"


def _merged_tree(repo: Repo, base: str, head: str) -> str | None:
    try:
        return repo.git.merge_tree(base, head)
    except GitFailed:
        return None


def _try(pull: Pull, base: str, tree: str) -> None:
    """The commit that GitHub makes to try a merge, and shows as `merge_commit_sha` of an open pull request."""
    git = pull.repo.git
    if pull.merge_commit_sha is not None and git.commit(pull.merge_commit_sha).parents == (base, pull.head_sha):
        return
    time = max(git.commit(base).committer.time, git.commit(pull.head_sha).committer.time)
    who = Who("GitHub", "noreply@github.com", time, "+0000")
    text = f"Merge {pull.head_sha} into {base}"
    pull.merge_commit_sha = git.write_commit(tree, [base, pull.head_sha], who, who, text)
    git.put_ref(f"refs/pull/{pull.number}/merge", pull.merge_commit_sha)


def _unstable(repo: Repo, sha: str) -> bool:
    runs = rules.latest_runs(repo, sha)
    if any(run.status != "completed" or run.conclusion not in ("success", "neutral", "skipped") for run in runs):
        return True
    newest = {one.context: one for one in repo.statuses.get(sha, [])}
    return any(one.state != "success" for one in newest.values())


def merge(
    pull: Pull,
    actor: Actor,
    method: str = "merge",
    *,
    sha: str | None = None,
    title: str | None = None,
    message: str | None = None,
    during: Callable[[], object] | None = None,
    force: bool = False,
) -> str:
    """Merge, or say as GitHub does why not; gives the commit. Raises Refused."""
    repo, git, head = pull.repo, pull.repo.git, pull.head_sha
    if pull.state != "open":
        raise Refused(405, _NOT_MERGEABLE)
    if pull.draft:
        raise Refused(405, "Pull Request is still a draft")
    if sha is not None and sha != pull.head_sha:
        raise Refused(409, _HEAD_MOVED)
    if not repo.allow[method]:
        raise Refused(405, f"{_METHODS[method]} are not allowed on this repository.")
    base = repo.tip(pull.base_ref)
    if base is None:
        raise Refused(405, _NOT_MERGEABLE)
    tree = _merged_tree(repo, base, pull.head_sha)
    if tree is None:
        raise Refused(405, _NOT_MERGEABLE)
    if not force:
        _refuse(pull, actor, method)
    assert actor.account is not None
    commit = _made(pull, actor.account, method, base, tree, title, message)
    if during is not None:
        during()
    source = pull.head_repo
    if pull.head_sha != head or (source is not None and not source.deleted and source.tip(pull.head_ref) != head):
        raise Refused(409, _HEAD_MOVED)
    if not git.update_ref(f"refs/heads/{pull.base_ref}", commit, base):
        raise Refused(405, _BASE_MOVED)
    pulls.merged(pull, actor.account, commit, base=base)
    pulls.ref_moved(repo, f"refs/heads/{pull.base_ref}", base, commit, actor.account)
    if repo.delete_branch_on_merge and pull.head_repo is repo:
        git.update_ref(f"refs/heads/{pull.head_ref}", "0" * 40, None)
    return commit


def _refuse(pull: Pull, actor: Actor, method: str) -> None:
    found = rules.objections(pull, actor, method)
    classic = [one.text for one in found if not one.ruleset]
    if classic:
        raise Refused(405, " ".join(classic))
    if found:
        raise Refused(405, "\n\n".join(["Repository rule violations found", *(one.text for one in found)]) + "\n\n")


def _made(pull: Pull, by: Account, method: str, base: str, tree: str, title: str | None, message: str | None) -> str:
    repo, git, issue = pull.repo, pull.repo.git, pull.issue
    now = int(repo.hub.now())
    site = Who("GitHub", "noreply@github.com", now, "+0000")
    if method == "rebase":
        return _rebased(repo, pulls.commits(pull), base, site)
    if method == "merge":
        title = title or f"Merge pull request #{pull.number} from {pull.head_owner}/{pull.head_ref}"
        text = _text(title, message if message is not None else issue.title)
        return git.write_commit(tree, [base, pull.head_sha], _person(by, now), site, text)
    found = pulls.commits(pull)
    if title is None:
        title = f"{found[0].message.splitlines()[0] if len(found) == 1 else issue.title} (#{pull.number})"
    if message is None and len(found) == 1:
        message = found[0].message.partition("\n")[2].strip()
    elif message is None:
        message = "\n\n".join(f"* {one.message.strip()}" for one in found)
    return git.write_commit(tree, [base], _person(issue.user, now), site, _text(title, message))


def _text(title: str, message: str) -> str:
    return f"{title}\n\n{message}" if message else title


def _person(account: Account, now: int) -> Who:
    return Who(account.login, shapes.email_of(account), now, "+0000")


def _rebased(repo: Repo, found: list[Commit], base: str, site: Who) -> str:
    git, tip = repo.git, base
    for one in found:
        if len(one.parents) > 1:
            continue
        before = git.commit(one.parents[0]).tree if one.parents else None
        files: dict[str, tuple[str, str] | None] = {}
        tree = git.commit(tip).tree
        for change in git.diff(before, one.tree):
            now = git.at(tree, change.path)
            if (now and now.sha) == change.new_sha:
                continue
            if (now and now.sha) == change.old_sha:
                put = change.new_sha
            elif now is None or change.old_sha is None or change.new_sha is None:
                raise Refused(405, _NOT_MERGEABLE)
            else:
                put = _merged_file(repo, now.sha, change.old_sha, change.new_sha)
            files[change.path] = (change.new_mode or "100644", put) if put is not None else None
        tree = git.write_tree(tree, files) or git.empty_tree()
        tip = git.write_commit(tree, [tip], one.author, site, one.message)
    return tip


def _merged_file(repo: Repo, now: str, old: str, new: str) -> str:
    with TemporaryDirectory() as folder:
        names = []
        for name, sha in (("now", now), ("old", old), ("new", new)):
            file = Path(folder) / name
            file.write_bytes(repo.git.blob(sha))
            names.append(str(file))
        code, out = repo.git.run("merge-file", "--stdout", *names, ok=range(256))
    if code:
        raise Refused(405, _NOT_MERGEABLE)
    return repo.git.write("blob", out)


def settle(pull: Pull) -> None:
    """Merge a pull request whose auto-merge was waiting for what came now; where nothing was missing, it does nothing."""
    if pull.auto_merge is None or pull.state != "open" or pull.draft:
        return
    actor = Actor(pull.auto_merge["by"])
    if rules.objections(pull, actor):
        pull.auto_merge["waits"] = True
    elif pull.auto_merge.get("waits") and mergeability(pull)[0]:
        merge(pull, actor, pull.auto_merge["method"])


# -- endpoints -----------------------------------------------------------------------------------------------------------


@route("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/merge", "contents:read")
def is_merged(call: Call) -> Answer:
    if not pulls.pull_of(call).merged:
        raise Refused(404, "Not Found")
    return Answer(204)


@route("PUT", "/repos/{owner}/{repo}/pulls/{pull_number}/merge", "contents:write")
def merge_pull(call: Call) -> Answer:
    pull = pulls.pull_of(call)
    method = call.get("merge_method") or "merge"
    if method not in _METHODS:
        raise Refused(422, "Invalid merge_method")
    if not auth.can_write(call.repo, call.actor):
        raise Refused(403, f"Resource not accessible by {call.actor.noun}")

    def during() -> None:
        for one in call.during:
            one()

    commit = merge(
        pull,
        call.actor,
        method,
        sha=call.get("sha"),
        title=call.get("commit_title"),
        message=call.get("commit_message"),
        during=during,
    )
    return Answer(200, {"sha": commit, "merged": True, "message": "Pull Request successfully merged"})


@route("PUT", "/repos/{owner}/{repo}/pulls/{pull_number}/update-branch", "pull_requests:write")
def update_branch(call: Call) -> Answer:
    pull, repo = pulls.pull_of(call), call.repo
    expected = call.get("expected_head_sha")
    if expected is not None and expected != pull.head_sha:
        raise Refused(422, "expected head sha didn't match current head ref.")
    base = repo.tip(pull.base_ref)
    if pull.state != "open" or base is None or pull.head_repo is not repo:
        raise Refused(422, "Cannot update the branch")
    if repo.git.is_ancestor(base, pull.head_sha):
        raise Refused(422, "There are no new commits on the base branch.")
    tree = _merged_tree(repo, base, pull.head_sha)
    if tree is None:
        raise Refused(422, "merge conflict between base and head")
    now = int(call.hub.now())
    text = f"Merge branch '{pull.base_ref}' into {pull.head_ref}"
    site = Who("GitHub", "noreply@github.com", now, "+0000")
    made = repo.git.write_commit(tree, [pull.head_sha, base], _person(call.me, now), site, text)
    repo.git.update_ref(f"refs/heads/{pull.head_ref}", made, pull.head_sha)
    pulls.ref_moved(repo, f"refs/heads/{pull.head_ref}", pull.head_sha, made, call.me)
    return Answer(202, {"message": "Updating pull request branch.", "url": f"{repo.html}/pull/{pull.number}"})
