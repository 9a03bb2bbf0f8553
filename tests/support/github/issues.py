"""Issues, and what pull requests have of them: texts, labels, comments and reactions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from tests.support.github import shapes
from tests.support.github.records import Account, Comment, Issue, Label, Reaction, Repo
from tests.support.github.web import Answer, Call, Refused, invalid, not_found, paged, route

_EITHER_READ = ("issues:read", "pull_requests:read")
_EITHER = ("issues:write", "pull_requests:write")
_EMOJI = ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes")


def new_issue(repo: Repo, by: Account, title: str, body: str | None) -> Issue:
    """The next number of a repository."""
    hub, now = repo.hub, repo.hub.now()
    made = Issue(hub.next_id(), repo, len(repo.issues) + 1, title, body, by, now, now)
    repo.issues[made.number] = made
    return made


def open_issue(repo: Repo, by: Account, title: str, body: str | None, labels: list[str]) -> Issue:
    """Open an issue."""
    made = new_issue(repo, by, title, body)
    put_labels(made, labels)
    return made


def put_labels(issue: Issue, names: Iterable[str]) -> None:
    """These labels and no others; one that the repository lacks is made."""
    repo, found = issue.repo, []
    for name in names:
        label = repo.labels.get(name.casefold())
        if label is None:
            label = repo.labels[name.casefold()] = Label(repo.hub.next_id(), name)
        if label not in found:
            found.append(label)
    issue.labels = found
    issue.updated_at = repo.hub.now()


def add_comment(issue: Issue, by: Account, text: str) -> Comment:
    """Comment on an issue or a pull request."""
    repo, now = issue.repo, issue.repo.hub.now()
    made = Comment(repo.hub.next_id(), issue, by, text, now, now)
    issue.comments.append(made)
    repo.comments[made.id] = made
    issue.updated_at = now
    return made


def edit_texts(call: Call, issue: Issue) -> None:
    """The title and the body, where the request has them."""
    title = call.get("title")
    if title is not None:
        if not title:
            raise invalid("Issue", "title", "missing_field")
        issue.title = title
    if "body" in (call.body or {}):
        issue.body = call.get("body")


def _issue(call: Call) -> Issue:
    found = call.repo.issues.get(call.number("issue_number"))
    if found is None:
        raise not_found()
    return found


def _since(call: Call) -> float:
    text = call.query.get("since")
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        raise Refused(422, "since is not a valid time") from None


def _names(values: Any) -> list[str]:
    return [one["name"] if isinstance(one, dict) else one for one in values or []]


# -- issues --------------------------------------------------------------------------------------------------------------


@route("GET", "/repos/{owner}/{repo}/issues", *_EITHER_READ, listing=True)
def list_issues(call: Call) -> Answer:
    query = call.query
    state, creator = query.get("state", "open"), query.get("creator")
    labels = {name.casefold() for name in query.get("labels", "").split(",") if name}
    found = [
        one
        for one in call.repo.issues.values()
        if state in ("all", one.state)
        and labels <= {label.name.casefold() for label in one.labels}
        and (creator is None or one.user.login.casefold() == creator.casefold())
        and one.updated_at >= _since(call)
    ]
    if query.get("sort") == "updated":
        found.sort(key=lambda one: (one.updated_at, one.number))
    down = query.get("direction", "desc") == "desc"
    return Answer(200, paged(call, reversed(found) if down else found, shapes.issue))


@route("POST", "/repos/{owner}/{repo}/issues", "issues:write")
def create_issue(call: Call) -> Answer:
    made = open_issue(call.repo, call.me, call.want("title", "Issue"), call.get("body"), _names(call.get("labels")))
    made.app = call.actor.app
    return Answer(201, shapes.issue(made), {"Location": f"{call.repo.api}/issues/{made.number}"})


@route("GET", "/repos/{owner}/{repo}/issues/{issue_number}", *_EITHER_READ)
def get_issue(call: Call) -> Answer:
    return Answer(200, shapes.issue(_issue(call)))


@route("PATCH", "/repos/{owner}/{repo}/issues/{issue_number}", *_EITHER)
def edit_issue(call: Call) -> Answer:
    from tests.support.github import pulls

    issue, state = _issue(call), call.get("state")
    edit_texts(call, issue)
    if call.get("labels") is not None:
        put_labels(issue, _names(call.get("labels")))
    if state is not None and state != issue.state:
        if issue.pull is not None:
            change = pulls.close if state == "closed" else pulls.reopen
            change(issue.pull, call.me)
        else:
            closed = state == "closed"
            issue.state = state
            issue.state_reason = call.get("state_reason") or ("completed" if closed else "reopened")
            issue.closed_at, issue.closed_by = (call.hub.now(), call.me) if closed else (None, None)
    issue.updated_at = call.hub.now()
    return Answer(200, shapes.issue(issue))


# -- labels --------------------------------------------------------------------------------------------------------------


def _labels(call: Call, issue: Issue) -> Answer:
    return Answer(200, [shapes.label(call.repo, one) for one in issue.labels])


@route("GET", "/repos/{owner}/{repo}/issues/{issue_number}/labels", *_EITHER_READ, listing=True)
def list_issue_labels(call: Call) -> Answer:
    return Answer(200, paged(call, _issue(call).labels, lambda one: shapes.label(call.repo, one)))


@route("POST", "/repos/{owner}/{repo}/issues/{issue_number}/labels", *_EITHER)
def add_issue_labels(call: Call) -> Answer:
    issue = _issue(call)
    names = call.body if isinstance(call.body, list) else call.get("labels")
    put_labels(issue, [*(one.name for one in issue.labels), *_names(names)])
    return _labels(call, issue)


@route("PUT", "/repos/{owner}/{repo}/issues/{issue_number}/labels", *_EITHER)
def set_issue_labels(call: Call) -> Answer:
    issue = _issue(call)
    put_labels(issue, _names(call.body if isinstance(call.body, list) else call.get("labels")))
    return _labels(call, issue)


@route("DELETE", "/repos/{owner}/{repo}/issues/{issue_number}/labels/{name}", *_EITHER)
def remove_issue_label(call: Call) -> Answer:
    issue, name = _issue(call), call.params["name"].casefold()
    if name not in {one.name.casefold() for one in issue.labels}:
        raise Refused(404, "Label does not exist")
    issue.labels = [one for one in issue.labels if one.name.casefold() != name]
    issue.updated_at = call.hub.now()
    return _labels(call, issue)


@route("GET", "/repos/{owner}/{repo}/labels", *_EITHER_READ, listing=True)
def list_labels(call: Call) -> Answer:
    return Answer(200, paged(call, call.repo.labels.values(), lambda one: shapes.label(call.repo, one)))


@route("POST", "/repos/{owner}/{repo}/labels", *_EITHER)
def create_label(call: Call) -> Answer:
    name = call.want("name", "Label")
    if name.casefold() in call.repo.labels:
        raise invalid("Label", "name", "already_exists")
    made = Label(call.hub.next_id(), name, call.get("color") or "ededed", call.get("description"))
    call.repo.labels[name.casefold()] = made
    return Answer(201, shapes.label(call.repo, made), {"Location": f"{call.repo.api}/labels/{name}"})


@route("GET", "/repos/{owner}/{repo}/labels/{name}", *_EITHER_READ)
def get_label(call: Call) -> Answer:
    found = call.repo.labels.get(call.params["name"].casefold())
    if found is None:
        raise not_found()
    return Answer(200, shapes.label(call.repo, found))


# -- comments ------------------------------------------------------------------------------------------------------------


@route("GET", "/repos/{owner}/{repo}/issues/{issue_number}/comments", *_EITHER_READ, listing=True)
def list_comments(call: Call) -> Answer:
    found = [one for one in _issue(call).comments if one.updated_at >= _since(call)]
    return Answer(200, paged(call, found, shapes.comment))


@route("POST", "/repos/{owner}/{repo}/issues/{issue_number}/comments", *_EITHER)
def create_comment(call: Call) -> Answer:
    issue, text = _issue(call), call.get("body")
    if not text:
        raise invalid("IssueComment", "body", "missing_field")
    if len(text) > 65_536:
        raise invalid("IssueComment", "body", "unprocessable", "Body is too long (maximum is 65536 characters)")
    made = add_comment(issue, call.me, text)
    made.app = call.actor.app
    return Answer(201, shapes.comment(made), {"Location": f"{call.repo.api}/issues/comments/{made.id}"})


def _comment(call: Call) -> Comment:
    found = call.repo.comments.get(call.number("comment_id"))
    if found is None:
        raise not_found()
    return found


@route("GET", "/repos/{owner}/{repo}/issues/comments/{comment_id}", *_EITHER_READ)
def get_comment(call: Call) -> Answer:
    return Answer(200, shapes.comment(_comment(call)))


@route("PATCH", "/repos/{owner}/{repo}/issues/comments/{comment_id}", *_EITHER)
def edit_comment(call: Call) -> Answer:
    found = _comment(call)
    found.body, found.updated_at = call.want("body", "IssueComment"), call.hub.now()
    return Answer(200, shapes.comment(found))


@route("DELETE", "/repos/{owner}/{repo}/issues/comments/{comment_id}", *_EITHER)
def delete_comment(call: Call) -> Answer:
    found = _comment(call)
    del call.repo.comments[found.id]
    found.issue.comments.remove(found)
    return Answer(204)


@route("GET", "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions", *_EITHER_READ, listing=True)
def list_reactions(call: Call) -> Answer:
    wanted = call.query.get("content")
    found = [one for one in _comment(call).reactions if wanted in (None, one.content)]
    return Answer(200, paged(call, found, lambda one: shapes.reaction(call.hub.api, one)))


@route("POST", "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions", *_EITHER)
def create_reaction(call: Call) -> Answer:
    comment, content = _comment(call), call.want("content", "Reaction")
    if content not in _EMOJI:
        raise invalid("Reaction", "content")
    for had in comment.reactions:
        if had.user is call.me and had.content == content:
            return Answer(200, shapes.reaction(call.hub.api, had))
    made = Reaction(call.hub.next_id(), call.me, content, call.hub.now())
    comment.reactions.append(made)
    return Answer(201, shapes.reaction(call.hub.api, made))
