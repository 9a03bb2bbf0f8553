"""Pull requests and what hangs on them, as every forge must be able to tell them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gitops_mk.model.base import Frozen
from gitops_mk.model.plan import Sha256, Timestamp
from gitops_mk.model.settings import BranchName

GitSha = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]

VERIFY_CHECK = "modekeeper/verify"
# On the merge commit: the cluster was seen to run it.
ROLLOUT_CHECK = "modekeeper/rollout"
# On the merge commit: what is seen since, held against what was seen before.
OUTCOME_CHECK = "modekeeper/outcome"
# On a head: success only while the gate would open, so that a person's click meets the same conditions.
GATE_CHECK = "modekeeper/gate"
LABEL = "modekeeper"
LABEL_PAUSED = "modekeeper/paused-by-human"
LABEL_RELEASED = "modekeeper/released"
LABEL_KILL_SWITCH = "modekeeper/kill-switch"
LABEL_REVERT = "modekeeper/revert"

TRAILER_WORKLOAD = "ModeKeeper-Workload"
TRAILER_CHORD = "ModeKeeper-Chord"
TRAILER_DIGEST = "ModeKeeper-Plan-Digest"
TRAILER_CHANGE = "ModeKeeper-Change"
TRAILER_ROLLBACK = "ModeKeeper-Rollback-Of"


class PrState(StrEnum):
    """Where a pull request stands."""

    OPEN = "open"
    CLOSED = "closed"
    MERGED = "merged"


class Person(Frozen):
    """Who did something, as git knows them; `account` is the forge's own number, which outlives any name.

    `bot`: an account that no person sits behind.
    """

    name: Annotated[str, StringConstraints(max_length=200)]
    email: Annotated[str, StringConstraints(max_length=200)]
    account: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}$")] | None = None
    bot: bool = False

    @property
    def key(self) -> str:
        """What tells people apart: the account where there is one, else the address."""
        return f"account {self.account}" if self.account is not None else self.email.lower()


class Review(Frozen):
    """One review, bound to the commit that was looked at. One that was `dismissed` speaks neither for nor against."""

    by: Person
    verdict: Literal["approved", "changes_requested", "dismissed"]
    commit: GitSha
    at: Timestamp
    comment: str = ""


class Check(Frozen):
    """One check run, bound to the head it judged, the base it judged it against, and the plan it found."""

    name: str
    commit: GitSha
    base: GitSha
    plan_digest: Sha256 | None
    conclusion: Literal["success", "failure"]
    summary: str
    tree: GitSha | None = None
    at: Timestamp


class Comment(Frozen):
    """A remark on a pull request."""

    by: Person
    at: Timestamp
    text: str


class PullRequest(Frozen):
    """One pull request. `head_sha` is the branch as it stood when the record was read, null once it is gone."""

    number: Annotated[int, Field(ge=1)]
    title: str
    body: str
    state: PrState
    draft: bool
    base: BranchName
    branch: str
    head_sha: GitSha | None
    author: Person
    workload: str
    chord: str
    plan_digest: Sha256
    labels: tuple[str, ...] = ()
    reviews: tuple[Review, ...] = ()
    checks: tuple[Check, ...] = ()
    comments: tuple[Comment, ...] = ()
    created_at: Timestamp
    updated_at: Timestamp
    closed_by: Person | None = None
    close_reason: str | None = None
    merge_sha: GitSha | None = None
    rollback_of: Annotated[int, Field(ge=1)] | None = None
    # A person asked for a pause until then: it stays open, and is not merged.
    held_until: Timestamp | None = None
    # The values the pull request moves, so that holds can be told from closed ones without their branch.
    changes: dict[str, tuple[int, int]] = {}

    def newest_check(self, name: str, commit: str) -> Check | None:
        """The newest check of that name on exactly that commit."""
        return next((c for c in reversed(self.checks) if c.name == name and c.commit == commit), None)


class AppliedChange(Frozen):
    """A merged chord, as the trailers of a commit on the base branch tell it. `at` is when it was merged.

    `rollback_of`: it took back the chord with that plan digest; a person's decision, not the product's.
    """

    commit: GitSha
    at: Timestamp
    workload: str
    chord: str
    plan_digest: Sha256
    changes: dict[str, tuple[int, int]]
    rollback_of: Sha256 | None = None


class Hold(Frozen):
    """A workload's knobs that a person said no to; nothing proposes them again until released."""

    workload: str
    knobs: tuple[str, ...]
    source: Literal["closed", "reverted"]
    pr: int | None
    by: str
    at: Timestamp
    detail: str = ""
