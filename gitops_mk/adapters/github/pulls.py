"""A pull request of GitHub's as ours: what GitHub says of it, what is kept in its text, and where its branch stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from gitops_mk.adapters.clone import PREFIX
from gitops_mk.adapters.github.record import Record, split
from gitops_mk.adapters.github.wire import Bag, moment, person
from gitops_mk.core.ledger import applied_change
from gitops_mk.core.render.text import plain
from gitops_mk.errors import ForgeError
from gitops_mk.model.change import (
    LABEL,
    LABEL_KILL_SWITCH,
    LABEL_PAUSED,
    LABEL_RELEASED,
    LABEL_REVERT,
    Check,
    Person,
    PrState,
    PullRequest,
    Review,
)
from gitops_mk.model.settings import BranchName
from gitops_mk.model.times import parse_time

if TYPE_CHECKING:
    from gitops_mk.adapters.clone import Clone

# What stands for a base branch whose name no configuration could give: it is another one than ours, and that is what counts.
ODD_BASE: Final = "a-branch-with-another-name"
# What our clock and GitHub's may differ by, and how long a write may take.
SKEW: Final = timedelta(minutes=10)
_BRANCH: Final = TypeAdapter(BranchName)
_STATES: Final = ("open", "closed")
_LABELS: Final = (LABEL, LABEL_PAUSED, LABEL_RELEASED, LABEL_KILL_SWITCH, LABEL_REVERT)


class Pulls:
    """How pull requests of one repository are read. `repo_id` is its number, which no rename changes."""

    def __init__(self, clone: Clone, repo_id: int, identity: Person, labels: tuple[str, ...] = ()) -> None:
        self._clone = clone
        self._labels = labels
        self._repo_id = repo_id
        self._identity = identity
        self._known: dict[int, tuple[Bag, tuple[object, ...], PullRequest | None]] = {}

    def is_home(self, end: Bag) -> bool:
        """True for the head or base of a pull request that lies in this very repository."""
        return end.has("repo") and end.bag("repo").number("id") == self._repo_id

    def read(
        self, pull: Bag, reviews: tuple[Review, ...], checks: tuple[Check, ...], *, head: str | None = None
    ) -> PullRequest | None:
        """A pull request as ours; None for one from another branch than ours, or another repository's.

        `head`: where the branch stood when this was asked for; else where the clone has it. Raises ForgeError.
        """
        number = pull.number("number")
        tip = self._clone.tip(pull.bag("head").text("ref"))
        given = (tip, head, reviews, checks)
        known = self._known.get(number)
        # A listing of hundreds is gone through again and again within a turn.
        if known is None or known[0] is not pull or known[1] != given:
            known = self._known[number] = (pull, given, self._read(pull, reviews, checks, head))
        return known[2]

    def _read(
        self, pull: Bag, reviews: tuple[Review, ...], checks: Sequence[Check], head: str | None
    ) -> PullRequest | None:
        end, number = pull.bag("head"), pull.number("number")
        branch = end.text("ref")
        if not branch.startswith(PREFIX) or not self.is_home(end):
            return None
        text, record = split(pull.maybe("body") or "")
        state = state_of(pull)
        is_open = state is PrState.OPEN
        at_end = end.text("sha")
        sha = head or self._clone.tip(branch) or at_end if is_open else at_end
        record = record or self._from_commit(sha)
        if record is None:
            return None
        fields: dict[str, Any] = {
            "number": number,
            "title": plain(pull.text("title"), most=500),
            "body": text,
            "state": state,
            "draft": pull.flag("draft"),
            "base": base_of(pull),
            "branch": branch,
            "head_sha": sha,
            "author": person(pull.raw.get("user")),
            "workload": record.workload,
            "chord": record.chord,
            "plan_digest": record.plan_digest,
            "labels": labels_of(pull, self._labels),
            "reviews": reviews,
            "checks": (*checks, *record.rollouts),
            "created_at": moment(pull.text("created_at")),
            "updated_at": moment(pull.text("updated_at")),
            "closed_by": _closed_by(state, self._identity if _by_us(pull, record) else None),
            "close_reason": record.close_reason,
            "merge_sha": pull.text("merge_commit_sha") if state is PrState.MERGED else None,
            "rollback_of": record.rollback_of,
            "held_until": record.held_until,
            "changes": record.changes,
        }
        try:
            return PullRequest(**fields)
        except ValidationError as exc:
            where = ".".join(map(str, exc.errors()[0]["loc"]))
            raise ForgeError(f"pull request #{number}: GitHub's answer has no {where} that can be one") from exc

    def _from_commit(self, sha: str) -> Record | None:
        """What a spoiled text was about, by the trailers of the branch's commit; None for a commit that was never fetched."""
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", sha) or self._clone.repo.resolve(sha) is None:
            return None
        change = applied_change(self._clone.repo.commit(sha))
        if change is None:
            return None
        return Record(
            workload=change.workload, chord=change.chord, plan_digest=change.plan_digest, changes=change.changes
        )


def state_of(pull: Bag) -> PrState:
    """Where it stands. Raises ForgeError for a word that GitHub does not document."""
    state = pull.text("state")
    if state not in _STATES:
        raise ForgeError(f"pull request #{pull.number('number')}: GitHub's answer says {plain(state, most=40)!r}")
    if state == "open":
        return PrState.OPEN
    merged_at = pull.maybe("merged_at")
    return PrState.MERGED if merged_at is not None and moment(merged_at) else PrState.CLOSED


def base_of(pull: Bag) -> str:
    """The branch it goes to."""
    name = pull.bag("base").text("ref")
    try:
        return _BRANCH.validate_python(name)
    except ValidationError:
        return ODD_BASE


def labels_of(issue: Bag, known: Iterable[str] = ()) -> tuple[str, ...]:
    """Its labels: ours, and those `known`, as we write them. For GitHub a name in other letters, small or large, is the same."""
    ours = {name.casefold(): name for name in (*_LABELS, *known)}
    names = (Bag(row, "label").text("name") for row in issue.rows("labels"))
    return tuple(dict.fromkeys(ours.get(name.casefold(), name) for name in names))


def _by_us(pull: Bag, record: Record) -> bool:
    """True when what is kept of our closing it is about the time it was closed at last: a person may have opened it again."""
    closed_at = pull.maybe("closed_at")
    if record.ours_at is None or closed_at is None:
        return False
    return abs(parse_time(moment(closed_at)) - parse_time(record.ours_at)) <= SKEW


def _closed_by(state: PrState, us: Person | None) -> Person | None:
    if state is not PrState.CLOSED:
        return None
    return us or Person(name="a person on GitHub", email="noreply@github.com")
