"""Reviews of pull requests."""

from __future__ import annotations

from tests.support.github import merging, shapes
from tests.support.github.pulls import pull_of, sync, touch
from tests.support.github.records import Account, Pull, Review
from tests.support.github.web import Answer, Call, Refused, not_found, paged, route

_STATES = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}


def add_review(pull: Pull, by: Account, state: str, body: str, commit: str | None) -> Review:
    """Add a review at a commit, at the head where none is named."""
    sync(pull)
    hub = pull.repo.hub
    made = Review(hub.next_id(), by, state, body, commit or pull.head_sha, hub.now())
    pull.reviews.append(made)
    if by in pull.requested:
        pull.requested.remove(by)
    touch(pull.issue)
    merging.settle(pull)
    return made


@route("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews", "pull_requests:read", listing=True)
def list_reviews(call: Call) -> Answer:
    pull = pull_of(call)
    seen = [one for one in pull.reviews if one.state != "PENDING" or one.user is call.actor.account]
    return Answer(200, paged(call, seen, lambda one: shapes.review(pull, one)))


@route("POST", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews", "pull_requests:write")
def create_review(call: Call) -> Answer:
    pull, event, body = pull_of(call), call.get("event"), call.get("body") or ""
    if event is not None and event not in _STATES:
        raise Refused(422, "Unprocessable Entity", [f"Variable $event was provided invalid value {event}"])
    if event in ("REQUEST_CHANGES", "COMMENT") and not body:
        raise Refused(422, "Unprocessable Entity", ["Review body is required"])
    if call.me is pull.issue.user and event in ("APPROVE", "REQUEST_CHANGES"):
        verb = "approve" if event == "APPROVE" else "request changes on"
        raise Refused(422, "Unprocessable Entity", [f"Can not {verb} your own pull request"])
    commit = call.get("commit_id")
    if commit is not None and call.repo.git.kind(commit) != "commit":
        raise Refused(422, "Unprocessable Entity", ["commit_id is not part of the pull request"])
    made = add_review(pull, call.me, _STATES[event] if event else "PENDING", body, commit)
    return Answer(200, shapes.review(pull, made))


def _of(call: Call) -> tuple[Pull, Review]:
    pull, number = pull_of(call), call.number("review_id")
    found = next((one for one in pull.reviews if one.id == number), None)
    if found is None:
        raise not_found()
    return pull, found


@route("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}", "pull_requests:read")
def get_review(call: Call) -> Answer:
    pull, found = _of(call)
    return Answer(200, shapes.review(pull, found))


@route("PUT", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}/dismissals", "pull_requests:write")
def dismiss_review(call: Call) -> Answer:
    pull, found = _of(call)
    call.want("message", "PullRequestReview")
    if found.state not in ("APPROVED", "CHANGES_REQUESTED"):
        raise Refused(422, "Unprocessable Entity", [f"Can not dismiss a {found.state.lower()} pull request review"])
    found.state = "DISMISSED"
    touch(pull.issue)
    return Answer(200, shapes.review(pull, found))
