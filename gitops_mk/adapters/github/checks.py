"""Checks on a commit: those everybody gave, and our own, as a check run (an App's right) or as a commit status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gitops_mk.adapters.github.api import Api, Unanswered
from gitops_mk.adapters.github.wire import Bag, head_check, moment, own_check, pack, status_check
from gitops_mk.core.render.text import plain
from gitops_mk.errors import ForgeError
from gitops_mk.model.change import GATE_CHECK, VERIFY_CHECK, Check, Person
from gitops_mk.model.standing import HeadCheck

OURS: Final = (VERIFY_CHECK, GATE_CHECK)
MAX_DESCRIPTION: Final = 140
MAX_SUMMARY: Final = 60_000


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


def write(api: Api, path: str, check: Check, app: str | None) -> None:
    """Write one. An answer that was lost is made up for by looking; a second one of the same kind does no harm."""
    try:
        _write(api, path, check, app)
    except Unanswered:
        _write(api, path, check, app)


def _write(api: Api, path: str, check: Check, app: str | None) -> None:
    if app is None:
        room = MAX_DESCRIPTION - len(pack(check)) - 1
        body = {
            "state": check.conclusion,
            "context": check.name,
            "description": f"{plain(check.summary, most=max(room, 4))} {pack(check)}",
        }
        api.send("POST", f"{path}/statuses/{check.commit}", body)
        return
    run = {
        "name": check.name,
        "head_sha": check.commit,
        "status": "completed",
        "conclusion": check.conclusion,
        "completed_at": check.at,
        "external_id": pack(check),
        "output": {"title": plain(check.summary, most=120) or check.conclusion, "summary": check.summary[:MAX_SUMMARY]},
    }
    api.send("POST", f"{path}/check-runs", run)


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
