"""What GitHub has no field for stands in the pull request's own text, as a comment that is not shown.

It says what the pull request is about, and carries no authority: the gate believes the commits alone.
"""

from __future__ import annotations

import re

from gitops_mk.errors import InputError
from gitops_mk.model.base import Frozen
from gitops_mk.model.canonical import dumps_canonical
from gitops_mk.model.change import Check, PullRequest
from gitops_mk.model.plan import Sha256, Timestamp

_MARK = re.compile(r"\n*<!-- modekeeper:v1 (\{[^\n]*\}) -->\s*\Z")
MAX_BODY = 65_000


class Record(Frozen):
    """The fields of a `PullRequest` that GitHub does not keep. `ours_at`: when it was us who closed it."""

    workload: str
    chord: str
    plan_digest: Sha256
    rollback_of: int | None = None
    changes: dict[str, tuple[int, int]] = {}
    held_until: Timestamp | None = None
    rollouts: tuple[Check, ...] = ()
    ours_at: Timestamp | None = None
    close_reason: str | None = None


def record_of(pr: PullRequest, *, rollouts: tuple[Check, ...], ours_at: str | None = None) -> Record:
    """What is to be kept of it."""
    return Record(
        workload=pr.workload,
        chord=pr.chord,
        plan_digest=pr.plan_digest,
        rollback_of=pr.rollback_of,
        changes=pr.changes,
        held_until=pr.held_until,
        rollouts=rollouts,
        ours_at=ours_at,
        close_reason=pr.close_reason,
    )


def with_record(text: str, record: Record) -> str:
    """The text as GitHub is to have it."""
    # Within a comment of HTML nothing may look like its end.
    kept = dumps_canonical(record.plain()).decode("utf-8", "replace").replace("-", "\\u002d").replace(">", "\\u003e")
    return f"{text.rstrip()}\n\n<!-- modekeeper:v1 {kept} -->\n"


def split(body: str) -> tuple[str, Record | None]:
    """The text as people see it, and what is kept in it; None where that is missing or spoiled."""
    text = body.replace("\r\n", "\n")
    found = _MARK.search(text)
    if found is None:
        return text, None
    try:
        return text[: found.start()].rstrip() + "\n", Record.parse_json(found[1], what="the pull request's record")
    except InputError:
        return text[: found.start()].rstrip() + "\n", None
