"""After a merge was asked for: look at what came of it, and stop everything where it is not what was verified."""

from __future__ import annotations

from datetime import datetime

from gitops_mk.controller.rollback import propose_rollback
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.errors import IntegrityError, MkError
from gitops_mk.model.change import PrState, PullRequest
from gitops_mk.model.intent import MergeIntent
from gitops_mk.model.permit import Permit
from gitops_mk.model.times import format_time


def intent_of(permit: Permit, pr: PullRequest, now: datetime) -> MergeIntent:
    """What the permit is about to be used for."""
    return MergeIntent(
        pr=permit.pr,
        workload=pr.workload,
        branch=pr.branch,
        head=permit.head_sha,
        base=permit.base_sha,
        tree=permit.tree,
        plan_digest=permit.plan_digest,
        at=format_time(now),
    )


def finish_merge(place: Workplace, tools: Tools) -> str | None:
    """Account for the merge that was asked for last, if one was; gives its commit, None where nothing was merged.

    Raises IntegrityError when something else than what was verified was merged: then the kill switch is thrown and the way
    back is proposed, in that run or, should it be killed, in the next one. Raises ForgeError when it can't be told.
    """
    intent = place.intents.read()
    if intent is None:
        return None
    forge = place.forge
    forge.refresh()
    pr = forge.live(intent.pr)
    if pr is None or pr.state is not PrState.MERGED or pr.merge_sha is None:
        place.intents.clear()
        return None
    if forge.repo.resolve(pr.merge_sha) is None:
        # Merged since the last fetch.
        forge.refresh()
    wrong = _differs(place, intent, pr.merge_sha)
    if wrong:
        undone = _undo(place, pr, tools)
        forge.stop(pr.number, f"#{pr.number} was merged as {pr.merge_sha}, {wrong}. {undone}")
        place.intents.clear()
        raise IntegrityError(
            f"merge {pr.merge_sha[:12]} of #{pr.number} is not what was verified: {wrong}. The kill switch is on; {undone}",
            hint="look at the merge, then clear the switch: `mk kill-switch status`",
        )
    place.intents.clear()
    return pr.merge_sha


def _differs(place: Workplace, intent: MergeIntent, merge_sha: str) -> str:
    """Why a merge is not what was verified; empty where it is."""
    merged = place.forge.repo.commit(merge_sha)
    if merged.parents[:1] != (intent.base,):
        found = merged.parents[0][:12] if merged.parents else "nothing"
        return f"onto {found}, verified was onto {intent.base[:12]}"
    if len(merged.parents) > 1 and merged.parents[1:] != (intent.head,):
        return f"of {merged.parents[1][:12]}, verified was {intent.head[:12]}"
    if merged.tree != intent.tree:
        return f"with tree {merged.tree[:12]}, verified was {intent.tree[:12]}"
    return ""


def _undo(place: Workplace, pr: PullRequest, tools: Tools) -> str:
    """Propose the way back; a pull request still takes people to merge."""
    try:
        _, proposal = propose_rollback(place, pr, tools)
    except MkError as exc:
        return f"the way back could not be proposed: {exc.message}"
    return f"#{proposal.pr.number} takes it back" if proposal.pr is not None else f"no way back: {proposal.message}"
