"""Check runs, check suites and commit statuses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.support.github import merging, shapes
from tests.support.github.records import Account, App, CheckRun, CheckSuite, Json, Repo, Status
from tests.support.github.web import Answer, Call, Refused, invalid, not_found, paged, route

_MOST_ANNOTATIONS = 50
_STATUS = ("queued", "in_progress", "completed")
_CONCLUSIONS = ("success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required", "stale")
_STATES = ("error", "failure", "pending", "success")


def add_run(repo: Repo, app: App, name: str, sha: str, status: str, conclusion: str | None, **fields: Any) -> CheckRun:
    """A check run, in its App's suite on that commit; with `new_suite`, in another one."""
    hub, now = repo.hub, repo.hub.now()
    another = fields.pop("new_suite", False)
    suite = next((one for one in repo.suites if one.app is app and one.head_sha == sha), None)
    if suite is None or another:
        suite = CheckSuite(hub.next_id(), app, sha, now, now)
        repo.suites.append(suite)
    done = now if status == "completed" else None
    made = CheckRun(hub.next_id(), app, suite, name, sha, status, conclusion, now, done)
    for field, value in fields.items():
        setattr(made, field, value)
    repo.runs[made.id] = made
    repo.runs_of.setdefault(sha, []).append(made)
    _settle(repo, sha)
    return made


def add_status(
    repo: Repo,
    sha: str,
    context: str,
    state: str,
    by: Account,
    description: str | None = None,
    target_url: str | None = None,
) -> Status:
    """A commit status."""
    hub = repo.hub
    made = Status(hub.next_id(), sha, context, state, description, target_url, by, hub.now())
    repo.statuses.setdefault(sha, []).append(made)
    _settle(repo, sha)
    return made


def _settle(repo: Repo, sha: str) -> None:
    for pull in repo.hub.open_pulls(repo):
        if pull.auto_merge is not None and pull.head_sha == sha:
            merging.settle(pull)


# -- check runs ----------------------------------------------------------------------------------------------------------


def _sha(call: Call, text: str) -> str:
    found = call.repo.git.resolve(text)
    if found is None:
        raise Refused(422, f"No commit found for SHA: {text}")
    return found


def _apps_only(call: Call) -> App:
    if call.actor.installation is None or call.actor.app is None:
        raise Refused(403, "You must authenticate via a GitHub App.")
    return call.actor.app


def _time(call: Call, name: str) -> float | None:
    text = call.get(name)
    try:
        return datetime.fromisoformat(text).timestamp() if text is not None else None
    except ValueError:
        raise Refused(422, f"Invalid request.\n\n{text} is not a valid date-time.") from None


def _fill(call: Call, run: CheckRun) -> None:
    """What the request says of a run. Raises Refused before anything is changed."""
    status, conclusion, output = call.get("status"), call.get("conclusion"), call.get("output")
    if status not in (None, *_STATUS) or conclusion not in (None, *_CONCLUSIONS):
        raise Refused(422, f"Invalid request.\n\n{status or conclusion} is not a member of the allowed values.")
    if status == "completed" and conclusion is None and run.conclusion is None:
        raise invalid("CheckRun", "conclusion", "missing_field")
    started, completed = _time(call, "started_at"), _time(call, "completed_at")
    if output is not None:
        for name in ("title", "summary"):
            if output.get(name) is None and (name == "summary" or getattr(run, name) is None):
                raise Refused(422, f'Invalid request.\n\n"{name}" wasn\'t supplied.')
            if len(output.get(name) or "") > 65_535:
                raise invalid("CheckRun", name, "too_long")
        given = output.get("annotations") or []
        if len(given) > _MOST_ANNOTATIONS:
            text = f"Only {_MOST_ANNOTATIONS} items are allowed; {len(given)} were supplied."
            raise Refused(422, f"Invalid request.\n\n{text}")
        run.title = output.get("title") or run.title
        run.summary, run.text = output.get("summary"), output.get("text", run.text)
        run.annotations += [_annotation(call, run, one) for one in given]
    for name in ("name", "external_id", "details_url"):
        if call.get(name) is not None:
            setattr(run, name, call.get(name))
    run.started_at = started or run.started_at
    if conclusion is not None:
        run.status, run.conclusion = "completed", conclusion
        run.completed_at = completed or call.hub.now()
    elif status is not None:
        run.status = status
        if status != "completed":
            run.conclusion = run.completed_at = None
    run.suite.updated_at = call.hub.now()


def _annotation(call: Call, run: CheckRun, given: Json) -> Json:
    made = {name: given.get(name) for name in ("path", "start_line", "end_line", "start_column", "end_column")}
    made |= {name: given.get(name) for name in ("annotation_level", "title", "message", "raw_details")}
    made["blob_href"] = f"{call.repo.html}/blob/{run.head_sha}/{given.get('path')}"
    return made


@route("POST", "/repos/{owner}/{repo}/check-runs", "checks:write")
def create_run(call: Call) -> Answer:
    app, repo = _apps_only(call), call.repo
    name, sha = call.want("name", "CheckRun"), _sha(call, call.want("head_sha", "CheckRun"))
    probe = CheckRun(0, app, CheckSuite(0, app, sha, 0, 0), name, sha, "queued", None, None, None)
    _fill(call, probe)
    fields = {name: getattr(probe, name) for name in ("external_id", "details_url", "title", "summary", "text")}
    made = add_run(repo, app, name, sha, probe.status, probe.conclusion, annotations=probe.annotations, **fields)
    made.started_at, made.completed_at = probe.started_at or made.started_at, probe.completed_at
    return Answer(201, shapes.check_run(repo, made), {"Location": f"{repo.api}/check-runs/{made.id}"})


def _run(call: Call) -> CheckRun:
    found = call.repo.runs.get(call.number("check_run_id"))
    if found is None:
        raise not_found()
    return found


@route("PATCH", "/repos/{owner}/{repo}/check-runs/{check_run_id}", "checks:write")
def edit_run(call: Call) -> Answer:
    app, found = _apps_only(call), _run(call)
    if found.app is not app:
        text = f"Invalid app_id `{app.id}` - check run can only be modified by the GitHub App that created it."
        raise Refused(403, text)
    _fill(call, found)
    _settle(call.repo, found.head_sha)
    return Answer(200, shapes.check_run(call.repo, found))


@route("GET", "/repos/{owner}/{repo}/check-runs/{check_run_id}", "checks:read")
def get_run(call: Call) -> Answer:
    return Answer(200, shapes.check_run(call.repo, _run(call)))


@route("GET", "/repos/{owner}/{repo}/check-runs/{check_run_id}/annotations", "checks:read", listing=True)
def list_annotations(call: Call) -> Answer:
    return Answer(200, paged(call, _run(call).annotations, lambda one: one))


@route("GET", "/repos/{owner}/{repo}/commits/{ref}/check-runs", "checks:read", listing=True)
def list_runs(call: Call) -> Answer:
    repo, query, sha = call.repo, call.query, _sha(call, call.params["ref"])
    found = repo.runs_of.get(sha, [])
    if query.get("filter", "latest") == "latest":
        newest = {(run.suite.id, run.name): run for run in found}
        found = list(newest.values())
    found = [
        run
        for run in reversed(found)
        if query.get("check_name") in (None, run.name)
        and query.get("status") in (None, run.status)
        and query.get("app_id") in (None, str(run.app.id))
        and (call.stale is None or run.id <= call.stale)
    ]
    page = paged(call, found, lambda run: shapes.check_run(repo, run))
    return Answer(200, {"total_count": len(found), "check_runs": page})


@route("GET", "/repos/{owner}/{repo}/commits/{ref}/check-suites", "checks:read", listing=True)
def list_suites(call: Call) -> Answer:
    repo, query, sha = call.repo, call.query, _sha(call, call.params["ref"])
    runs = repo.runs_of.get(sha, [])
    found = [
        suite
        for suite in repo.suites
        if suite.head_sha == sha
        and query.get("app_id") in (None, str(suite.app.id))
        and query.get("check_name") in (None, *(run.name for run in runs if run.suite is suite))
    ]

    def shape(suite: CheckSuite) -> Json:
        newest = {run.name: run for run in runs if run.suite is suite}
        return shapes.check_suite(repo, suite, list(newest.values()))

    return Answer(200, {"total_count": len(found), "check_suites": paged(call, found, shape)})


# -- statuses ------------------------------------------------------------------------------------------------------------


@route("POST", "/repos/{owner}/{repo}/statuses/{sha}", "statuses:write")
def create_status(call: Call) -> Answer:
    state = call.want("state", "Status")
    if state not in _STATES:
        raise invalid("Status", "state")
    made = add_status(
        call.repo,
        _sha(call, call.params["sha"]),
        call.get("context") or "default",
        state,
        call.me,
        call.get("description"),
        call.get("target_url"),
    )
    return Answer(201, shapes.status(call.repo, made))


@route("GET", "/repos/{owner}/{repo}/commits/{ref}/status", "statuses:read")
def combined_status(call: Call) -> Answer:
    repo, sha = call.repo, _sha(call, call.params["ref"])
    newest = list({one.context: one for one in repo.statuses.get(sha, [])}.values())
    states = {one.state for one in newest}
    state = "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
    body = {
        "state": state,
        "statuses": paged(call, newest, lambda one: shapes.status(repo, one, creator=False)),
        "sha": sha,
        "total_count": len(newest),
        "repository": shapes.minimal_repo(repo),
        "commit_url": f"{repo.api}/commits/{sha}",
        "url": f"{repo.api}/commits/{sha}/status",
    }
    return Answer(200, body)


@route("GET", "/repos/{owner}/{repo}/commits/{ref}/statuses", "statuses:read", listing=True)
def list_statuses(call: Call) -> Answer:
    found = reversed(call.repo.statuses.get(_sha(call, call.params["ref"]), []))
    return Answer(200, paged(call, found, lambda one: shapes.status(call.repo, one)))
