"""Propose: one workload, one branch, one pull request, whatever happens in between.

Each step reads before it writes and writes by compare-and-swap, so that a run killed anywhere, run again, or run twice at
once ends in the same single pull request. The same plan again is not one write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gitops_mk.core.calendar import judge_time
from gitops_mk.core.enrolment import Reach
from gitops_mk.core.ledger import trailers
from gitops_mk.core.limits import judge_limits
from gitops_mk.core.origin import foreign_commits
from gitops_mk.core.render.component import render
from gitops_mk.core.render.describe import Wording, commit_message, pr_body, pr_title
from gitops_mk.core.render.paths import plan_path
from gitops_mk.errors import ConflictError, GitError, InputError
from gitops_mk.model.change import (
    LABEL,
    LABEL_PAUSED,
    LABEL_REVERT,
    TRAILER_DIGEST,
    Comment,
    Person,
    PrState,
    PullRequest,
)
from gitops_mk.model.git import CommitInfo
from gitops_mk.model.passport import Passport
from gitops_mk.model.plan import Plan
from gitops_mk.model.settings import RepoSettings
from gitops_mk.model.times import format_time
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.ports import Clock, Forge

TRIES = 3
STOOD_AT_MOST = 10_000
# Base, tip and plan that were seen to fit together: commits don't change, so they will. A cache, and nothing else.
_STOOD: dict[tuple[str, str, str], None] = {}


class Outcome(StrEnum):
    """What proposing came to."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    PAUSED = "paused"
    CLOSED = "closed"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Proposal:
    """The outcome, the pull request (if there is one), and how many writes it took."""

    outcome: Outcome
    pr: PullRequest | None
    reason: Reason | None = None
    message: str = ""
    writes: int = 0


@dataclass(frozen=True)
class Proposed:
    """Everything a pull request is made of."""

    plan: Plan
    passport: Passport
    tier: str
    verdicts: Sequence[Verdict]
    draft: bool
    settings: RepoSettings
    rollback_of: int | None = None
    reach: Reach | None = None


def propose(
    forge: Forge,
    wanted: Proposed,
    files: Mapping[str, bytes],
    base: str,
    *,
    identity: Person,
    wording: Wording,
    clock: Clock,
) -> Proposal:
    """Make the workload's branch and pull request say `wanted`. `files` is the tree of `base`.

    Raises ConflictError when the base moved, so that the caller plans again, or when races were lost again and again.
    """
    for attempt in range(TRIES):
        try:
            return _propose_once(forge, wanted, files, base, identity=identity, wording=wording, clock=clock)
        except ConflictError:
            forge.refresh()
            if attempt == TRIES - 1 or forge.base_tip() != base:
                raise
    raise AssertionError("unreachable")


def _propose_once(
    forge: Forge,
    wanted: Proposed,
    files: Mapping[str, bytes],
    base: str,
    *,
    identity: Person,
    wording: Wording,
    clock: Clock,
) -> Proposal:
    plan = wanted.plan
    branch = plan.workload.branch
    tip = forge.branch_tip(branch)
    pr = open_pr(forge, branch)
    paused = hands_off(forge, tip, pr, base, identity=identity, workload=plan.workload.key, clock=clock)
    if paused is not None:
        return paused
    if pr is not None and pr.author.key != forge.identity.key:
        message = f"#{pr.number} on {branch} was opened by {pr.author.name}, not by us: nothing is written to it"
        return Proposal(Outcome.PAUSED, pr, reason=Reason.NOT_OURS, message=message)
    if pr is None:
        room = may_open(forge, wanted, clock)
        if not room.allowed:
            return Proposal(Outcome.NOTHING, None, reason=room.reason, message=room.message)
    if pr is not None and pr.rollback_of is not None and wanted.rollback_of is None:
        message = f"#{pr.number} takes #{pr.rollback_of} back, as a person asked: it is merged or closed first"
        return Proposal(Outcome.PAUSED, pr, reason=Reason.PAUSED_BY_HUMAN, message=message)
    writes = 0
    if not standing_well(forge, wanted, files, base, tip):
        forge.push_branch(branch, old=tip, new=commit_of(forge, plan, files, base, identity=identity, wording=wording))
        writes += 1
    resumed = pr is not None and LABEL_PAUSED in pr.labels
    same = pr is not None and pr.plan_digest == plan.digest and pr.base == forge.base_branch
    # A run that was killed in between opened it without its labels.
    same = same and set(_labels(pr, wanted)) <= set(pr.labels if pr is not None else ())
    if pr is not None and same and (wanted.draft or not pr.draft) and not resumed:
        outcome = Outcome.UPDATED if writes else Outcome.UNCHANGED
        live = forge.get_pr(pr.number)
        return Proposal(outcome, live, writes=writes)
    now = format_time(clock.now())
    record = PullRequest(
        number=pr.number if pr else 1,
        title=pr_title(plan),
        body=pr_body(plan, wanted.passport, wanted.verdicts, wording, tier=wanted.tier, reach=wanted.reach),
        state=PrState.OPEN,
        draft=wanted.draft and (pr is None or pr.draft),
        base=forge.base_branch,
        branch=branch,
        head_sha=None,
        author=forge.identity,
        workload=plan.workload.key,
        chord=plan.chord,
        plan_digest=plan.digest,
        labels=_labels(pr, wanted),
        reviews=pr.reviews if pr else (),
        checks=pr.checks if pr else (),
        comments=pr.comments if pr else (),
        created_at=pr.created_at if pr else now,
        updated_at=now,
        rollback_of=wanted.rollback_of,
        changes={c.knob: (c.before, c.after) for c in plan.changes},
    )
    if pr is None:
        created = forge.create_pr(record)
        if created.plan_digest != plan.digest:
            raise ConflictError(f"#{created.number} was opened for {branch} at the same time", ref=branch)
        return Proposal(Outcome.CREATED, created, writes=writes + 1)
    return Proposal(Outcome.UPDATED, forge.update_pr(pr, record), writes=writes + 1)


def standing_well(forge: Forge, wanted: Proposed, files: Mapping[str, bytes], base: str, tip: str | None) -> bool:
    """True when the branch needs no push."""
    if tip is None or not _stands(forge, wanted.plan, files, base, tip):
        return False
    return not wanted.settings.forge.up_to_date or forge.repo.merge_base(base, tip) == base


def commit_of(
    forge: Forge, plan: Plan, files: Mapping[str, bytes], base: str, *, identity: Person, wording: Wording
) -> str:
    """The one commit on `base` that carries the plan; signed where the forge is to make it itself."""
    changes = dict(render(plan, files))
    message = commit_message(plan, wording)
    commit = forge.repo.write_commit(
        tree=forge.repo.write_tree(base, changes),
        parents=[base],
        message=message,
        author=identity,
        # The base's own time, so that the same plan on the same base is the same commit wherever it is made.
        time=forge.repo.commit(base).time,
    )
    return forge.signed(commit, base=base, files=changes, message=message)


def may_open(forge: Forge, wanted: Proposed, clock: Clock) -> Verdict:
    """Whether one more pull request is welcome now. What undoes a change takes no room, and waits for a freeze only."""
    undoes, now = wanted.rollback_of is not None, clock.now()
    verdict = judge_time(wanted.settings.schedule, now, undoes=undoes)
    if not verdict.allowed or undoes:
        return verdict
    return judge_limits(wanted.settings.limits, forge.list_prs(), now)


def _stands(forge: Forge, plan: Plan, files: Mapping[str, bytes], base: str, tip: str) -> bool:
    """True when merging the branch into today's base gives what the plan gives there.

    The branch's own record is rendered, not the new plan: the same decision made again differs in its evidence only. A
    merge without a conflict is not enough, for the base may have changed beside the lines that are ours.
    """
    if (base, tip, plan.digest) in _STOOD:
        return True
    repo = forge.repo
    commit = repo.commit(tip)
    if _digest_of(commit) != plan.digest:
        return False
    path = plan_path(plan.overlay, plan.workload.slug)
    try:
        text = repo.read(tip, path)
        record = Plan.parse_json(text or b"", what=path)
        if record.digest != plan.digest or record.compute_digest() != plan.digest:
            return False
        merged = commit.tree if commit.parents == (base,) else repo.merge_tree(base, tip)
        stands = merged == repo.write_tree(base, dict(render(record, files)))
    except (InputError, GitError):
        return False
    if stands:
        while len(_STOOD) >= STOOD_AT_MOST:
            _STOOD.pop(next(iter(_STOOD)), None)
        _STOOD[base, tip, plan.digest] = None
    return stands


def settle(forge: Forge, author: Person) -> None:
    """Close the books on pull requests that somebody merged with plain git: their head is in the base branch already.

    `author` is who our commits are by. Branches that a killed run left behind are deleted, too.
    """
    base = forge.base_tip()
    prs = forge.list_prs()
    _sweep(forge, prs, base, author)
    for pr in prs:
        head = pr.head_sha
        if pr.state is not PrState.OPEN or head is None or pr.author.key != forge.identity.key:
            continue
        if forge.repo.merge_base(base, head) != head:
            continue
        merged = next((c for c in reversed(forge.applied(pr.workload)) if c.plan_digest == pr.plan_digest), None)
        if merged is None:
            continue
        forge.update_pr(pr, pr.model_copy(update={"state": PrState.MERGED, "merge_sha": merged.commit}))
        forge.push_branch(pr.branch, old=head, new=None)


def _sweep(forge: Forge, prs: Sequence[PullRequest], base: str, author: Person) -> None:
    """Delete branches that a run left behind: with no open pull request on them, and nothing on them but what is ours and done.

    Done is what a pull request of ours was merged or closed by us with, and a push onto a base that has moved on since: its pull
    request was never opened, and would be rebuilt first.
    """
    in_use = {pr.branch for pr in prs if pr.state is PrState.OPEN}
    ours = {pr.branch: pr for pr in prs if pr.author.key == forge.identity.key and pr.branch not in in_use}
    for branch, pr in ours.items():
        tip = forge.branch_tip(branch)
        if tip is None:
            continue
        by_us = pr.closed_by is not None and pr.closed_by.key == forge.identity.key
        done = pr.head_sha == tip and (pr.state is PrState.MERGED or by_us)
        if not done and forge.repo.merge_base(base, tip) == base:
            continue
        commits = forge.repo.log(tip, first_parent=False, exclude=base, limit=50)
        if not foreign_commits(commits, author, forge.identity, pr.workload):
            forge.push_branch(branch, old=tip, new=None)


def open_pr(forge: Forge, branch: str) -> PullRequest | None:
    """The open pull request of a branch."""
    return next((pr for pr in forge.list_prs(open_only=True) if pr.branch == branch), None)


def open_prs(forge: Forge) -> dict[str, PullRequest]:
    """The open pull requests, by branch."""
    return {pr.branch: pr for pr in forge.list_prs(open_only=True)}


def hands_off_commits(
    forge: Forge, tip: str | None, base: str, *, identity: Person, workload: str
) -> Sequence[CommitInfo]:
    """Somebody else's commits on a workload's branch."""
    if tip is None:
        return ()
    commits = forge.repo.log(tip, first_parent=False, exclude=base, limit=50)
    return foreign_commits(commits, identity, forge.identity, workload)


def hands_off(
    forge: Forge, tip: str | None, pr: PullRequest | None, base: str, *, identity: Person, workload: str, clock: Clock
) -> Proposal | None:
    """A pause when somebody else's commit is on the branch: said once on the pull request, then nothing is written."""
    foreign = hands_off_commits(forge, tip, base, identity=identity, workload=workload)
    if not foreign:
        return None
    message = (
        f"{foreign[0].sha[:12]} by {foreign[0].author.name} is on the branch: it is yours now, nothing is written to it"
    )
    writes = 0
    if pr is not None and LABEL_PAUSED not in pr.labels:
        note = Comment(
            by=forge.identity,
            at=format_time(clock.now()),
            text=message + ". Delete the branch, or close the pull request, to hand it back.",
        )
        pr = forge.update_pr(
            pr, pr.model_copy(update={"labels": (*pr.labels, LABEL_PAUSED), "comments": (*pr.comments, note)})
        )
        writes = 1
    return Proposal(Outcome.PAUSED, pr, reason=Reason.PAUSED_BY_HUMAN, message=message, writes=writes)


def withdraw(forge: Forge, branch: str, workload: str, why: str, *, identity: Person, clock: Clock) -> Proposal:
    """Close the workload's pull request with the reason and delete its branch, unless a person has worked on it."""
    pr = open_pr(forge, branch)
    if pr is None:
        return Proposal(Outcome.NOTHING, None)
    tip = forge.branch_tip(branch)
    paused = hands_off(forge, tip, pr, forge.base_tip(), identity=identity, workload=workload, clock=clock)
    if paused is not None:
        return paused
    closed = close_pr(forge, pr, by=forge.identity, why=why, author=identity)
    return Proposal(Outcome.CLOSED, closed, message=why, writes=2 if tip else 1)


def close_pr(forge: Forge, pr: PullRequest, *, by: Person, why: str, author: Person | None = None) -> PullRequest:
    """Close a pull request, then delete its branch, unless there is somebody else's work on it.

    `author` is who our commits are by; the pull request's own where it is not given.

    The record first: killed in between, a person's no has been heard, and the branch is taken up by the next proposal.
    """
    head = pr.head_sha
    closed = forge.update_pr(
        pr, pr.model_copy(update={"state": PrState.CLOSED, "closed_by": by, "close_reason": why, "head_sha": head})
    )
    if head is not None:
        commits = forge.repo.log(head, first_parent=False, exclude=forge.base_tip(), limit=50)
        if not foreign_commits(commits, author or pr.author, forge.identity, pr.workload):
            forge.push_branch(pr.branch, old=head, new=None)
    return closed


def _labels(pr: PullRequest | None, wanted: Proposed) -> tuple[str, ...]:
    own = (LABEL, *wanted.settings.forge.labels)
    kept = (*(label for label in pr.labels if label != LABEL_PAUSED), *own) if pr is not None else own
    kept = tuple(dict.fromkeys(kept))
    return (*kept, LABEL_REVERT) if wanted.rollback_of and LABEL_REVERT not in kept else kept


def _digest_of(commit: CommitInfo) -> str | None:
    found = trailers(commit.message).get(TRAILER_DIGEST)
    return found[0] if found else None
