"""Checks on a commit: those everybody gave, and our own, as a check run (an App's right) or as a commit status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from gitops_mk.adapters.github.api import Api, Unanswered
from gitops_mk.adapters.github.wire import Bag, head_check, moment, own_check, pack, status_check
from gitops_mk.core.render.text import plain
from gitops_mk.errors import ForgeError
from gitops_mk.model.annotation import Annotation
from gitops_mk.model.change import GATE_CHECK, VERIFY_CHECK, Check, Person
from gitops_mk.model.standing import HeadCheck

OURS: Final = (VERIFY_CHECK, GATE_CHECK)
MAX_DESCRIPTION: Final = 140
MAX_SUMMARY: Final = 60_000
# As many annotations as one call may carry.
BATCH: Final = 50


def on_head(api: Api, path: str, sha: str, *, statuses: bool) -> tuple[HeadCheck, ...]:
    """Every check run on a commit, and every status where those count, too; all pages of them. Raises ForgeError."""
    runs = tuple(head_check(row) for row in _runs(api, path, sha, {}))
    return runs + tuple(status_check(row, sha) for row in (_statuses(api, path, sha) if statuses else ()))


def ours(api: Api, path: str, sha: str, identity: Person) -> tuple[Check, ...]:
    """The checks that we ourselves wrote on a commit, oldest first; nobody else's of that name is looked at."""
    app = api.credentials.app
    if app is not None:
        found = [(run.number("id"), _from_run(run, app)) for run in _bags(_runs(api, path, sha, {"app_id": app}))]
    else:
        rows = _bags(_statuses(api, path, sha))
        found = [(row.number("id"), _from_status(row, sha, identity)) for row in rows]
    return tuple(check for _, check in sorted(found, key=lambda one: one[0]) if check is not None)


def write(api: Api, path: str, check: Check, identity: Person, annotations: Sequence[Annotation] = ()) -> None:
    """Write one, once: after an answer that was lost it is looked up, and written again only where it is not there.

    Annotations are a check run's alone; they go in batches, as many as GitHub takes in one call.
    """
    try:
        run = _write(api, path, check, annotations[:BATCH])
    except Unanswered:
        there = next((c for c in reversed(ours(api, path, check.commit, identity)) if c.name == check.name), None)
        if there is not None and _says(there, check):
            return
        run = _write(api, path, check, annotations[:BATCH])
    for start in range(BATCH, len(annotations) if run is not None else 0, BATCH):
        output = {**_output(check), "annotations": [_remark(one) for one in annotations[start : start + BATCH]]}
        api.send("PATCH", f"{path}/check-runs/{run}", {"output": output})


def tells(api: Api, known: Sequence[Check], check: Check) -> bool:
    """True where the newest status of that name says all that this one would: GitHub takes a thousand of one name."""
    newest = next((c for c in reversed(known) if (c.name, c.commit) == (check.name, check.commit)), None)
    if api.credentials.app is not None or newest is None or not _says(newest, check):
        return False
    return newest.summary in (plain(check.summary, most=500), _short(check))


def _says(one: Check, other: Check) -> bool:
    bound = ("name", "commit", "base", "tree", "plan_digest", "conclusion")
    return all(getattr(one, field) == getattr(other, field) for field in bound)


def _short(check: Check) -> str:
    return plain(check.summary, most=max(MAX_DESCRIPTION - len(pack(check)) - 1, 4))


def _output(check: Check) -> dict[str, Any]:
    return {"title": plain(check.summary, most=120) or check.conclusion, "summary": check.summary[:MAX_SUMMARY]}


def _remark(one: Annotation) -> dict[str, Any]:
    return {
        "path": one.path, "start_line": one.line, "end_line": one.line, "annotation_level": one.level,
        "title": plain(one.title, most=255), "message": plain(one.message, most=4000) or one.title,
    }  # fmt: skip


def _write(api: Api, path: str, check: Check, annotations: Sequence[Annotation]) -> int | None:
    """Gives the check run's number; None for a status."""
    if api.credentials.app is None:
        body = {"state": check.conclusion, "context": check.name, "description": f"{_short(check)} {pack(check)}"}
        api.send("POST", f"{path}/statuses/{check.commit}", body)
        return None
    run = {
        "name": check.name,
        "head_sha": check.commit,
        "status": "completed",
        "conclusion": check.conclusion,
        "completed_at": check.at,
        "external_id": pack(check),
        "output": {**_output(check), **({"annotations": [_remark(one) for one in annotations]} if annotations else {})},
    }
    return Bag(api.send("POST", f"{path}/check-runs", run), "check run").number("id")


def _from_run(run: Bag, app: str) -> Check | None:
    name = run.text("name")
    by = run.raw.get("app")
    if name not in OURS or not isinstance(by, dict) or str(by.get("id")) != app or run.text("status") != "completed":
        return None
    output = run.bag("output") if run.has("output") else Bag({}, "output")
    conclusion, at = run.maybe("conclusion") or "", moment(run.text("completed_at"))
    return own_check(
        name, run.text("head_sha"), conclusion, output.maybe("summary") or "", run.maybe("external_id") or "", at
    )


def _from_status(row: Bag, sha: str, identity: Person) -> Check | None:
    by = row.raw.get("creator")
    if row.text("context") not in OURS or not isinstance(by, dict) or str(by.get("id")) != identity.account:
        return None
    summary, _, packed = (row.maybe("description") or "").rpartition(" ")
    return own_check(row.text("context"), sha, row.text("state"), summary, packed, moment(row.text("created_at")))


def _runs(api: Api, path: str, sha: str, query: dict[str, Any]) -> Iterator[Any]:
    yield from api.pages(f"{path}/commits/{sha}/check-runs", {"filter": "all", **query}, of="check_runs", urgent=True)


def _statuses(api: Api, path: str, sha: str) -> Iterator[Any]:
    yield from api.pages(f"{path}/commits/{sha}/statuses", urgent=True)


def _bags(rows: Iterator[Any]) -> Iterator[Bag]:
    for row in rows:
        if not isinstance(row, dict):
            raise ForgeError("GitHub's listing of checks holds something else")
        yield Bag(row, "check")
