"""The merge: asked for once, by a permit, and read back whatever GitHub answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from gitops_mk.adapters.github.api import Api, Refused, Unanswered
from gitops_mk.adapters.github.wire import Bag
from gitops_mk.errors import ConflictError
from gitops_mk.model.permit import Permit

if TYPE_CHECKING:
    from gitops_mk.model.settings import ForgeSettings
    from gitops_mk.ports import Clock

READ_BACK_TRIES = 3


def send_merge(
    api: Api,
    path: str,
    permit: Permit,
    *,
    message: str,
    base_branch: str,
    settings: ForgeSettings,
    clock: Clock,
    read: Callable[[int], Bag],
) -> str:
    """Ask for the merge of exactly the head that the permit names; gives the merge commit.

    GitHub holds the head (`sha`), and nothing holds the base: it is looked at right before, and the merge itself is looked at
    afterwards, by whoever asked. Raises ConflictError when something moved, IntegrityError for a spent permit.
    """
    permit.spend(clock.monotonic())
    _expect_base(api, path, permit, base_branch)
    title, _, text = message.partition("\n")
    body = {
        "sha": permit.head_sha,
        "merge_method": settings.merge_method,
        "commit_title": f"{title} (#{permit.pr})",
        "commit_message": text.strip(),
    }
    try:
        answer = api.send("PUT", f"{path}/pulls/{permit.pr}/merge", body, urgent=True)
        return Bag(answer, "merge").text("sha")
    except (Refused, Unanswered) as exc:
        return _read_back(permit, exc, base_branch=base_branch, clock=clock, read=read)


def _expect_base(api: Api, path: str, permit: Permit, branch: str) -> None:
    found = Bag(api.get(f"{path}/git/ref/heads/{quote(branch)}", urgent=True), "ref")
    if found.bag("object").text("sha") != permit.base_sha:
        raise ConflictError(f"{branch} moved since the gate", ref=f"refs/heads/{branch}")


def _read_back(
    permit: Permit, exc: Refused | Unanswered, *, base_branch: str, clock: Clock, read: Callable[[int], Bag]
) -> str:
    """What came of a merge that GitHub refused, or did not answer. Gives its commit; raises for what merged nothing."""
    for attempt in range(READ_BACK_TRIES):
        pull = read(permit.pr)
        head = pull.bag("head")
        if pull.maybe("merged_at") is not None and head.text("sha") == permit.head_sha:
            return pull.text("merge_commit_sha")
        if isinstance(exc, Refused):
            break
        clock.sleep(0.5 * (attempt + 1))
    if head.text("sha") != permit.head_sha:
        raise ConflictError(f"#{permit.pr} moved since the gate", ref=f"refs/heads/{head.text('ref')}")
    if isinstance(exc, Unanswered):
        raise exc
    if exc.status == 409:
        raise ConflictError(exc.message, ref=f"refs/heads/{head.text('ref')}") from exc
    if exc.status == 405 and "base branch was modified" in exc.message.lower():
        raise ConflictError(exc.message, ref=f"refs/heads/{base_branch}") from exc
    if exc.status in (405, 422):
        raise ConflictError(exc.message, ref=f"pull/{permit.pr}") from exc
    raise exc
