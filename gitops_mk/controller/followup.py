"""After a change runs: tell its pull request what came of it, and propose the way back where things got worse."""

from __future__ import annotations

from gitops_mk.controller.rollback import propose_rollback
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.core.outcome import Outcome, judge_outcome
from gitops_mk.core.render.paths import plan_path
from gitops_mk.core.render.text import markdown
from gitops_mk.errors import MkError
from gitops_mk.model.change import OUTCOME_CHECK, ROLLOUT_CHECK, AppliedChange, Check, Comment, PullRequest
from gitops_mk.model.plan import Plan
from gitops_mk.model.settings import WorkloadSettings
from gitops_mk.model.signal import Observation
from gitops_mk.model.times import format_time

WORDS = {
    "kept": "What it was for is not seen any more.",
    "no_effect": "What it was for is still seen.",
    "regressed": "It is worse than before.",
}


def tell_outcome(
    place: Workplace,
    pr: PullRequest,
    change: AppliedChange,
    workload: WorkloadSettings,
    after: Observation,
    tools: Tools,
) -> Outcome | None:
    """Record once what came of a change that was rolled out; None while it can't be told, or was told already.

    `after` is what is seen since it runs. Raises MkError for a forge that can't be written to.
    """
    rolled_out = pr.newest_check(ROLLOUT_CHECK, change.commit) is not None
    if not rolled_out or change.rollback_of is not None or pr.newest_check(OUTCOME_CHECK, change.commit) is not None:
        return None
    before = _seen_before(place, change, workload)
    outcome = judge_outcome(before, after) if before is not None else None
    if outcome is None:
        return None
    text = [f"**{outcome.verdict}**. {WORDS[outcome.verdict]}", "", *(f"- {markdown(line)}" for line in outcome.lines)]
    text += ["", f"Steps {after.window.first_step} to {after.window.last_step}, since it runs."]
    if outcome.verdict == "regressed":
        text += ["", _way_back(place, pr, tools)]
    now = format_time(tools.clock.now())
    place.forge.add_comment(pr.number, Comment(by=place.forge.identity, at=now, text="\n".join(text)))
    check = Check(
        name=OUTCOME_CHECK,
        commit=change.commit,
        base=change.commit,
        plan_digest=change.plan_digest,
        conclusion="failure" if outcome.verdict == "regressed" else "success",
        summary=f"{outcome.verdict}: {'; '.join(outcome.lines)}"[:500],
        at=now,
    )
    place.forge.add_check(pr.number, check)
    return outcome


def _seen_before(place: Workplace, change: AppliedChange, workload: WorkloadSettings) -> Observation | None:
    """What the plan was made on, from the record that was merged with it."""
    path = plan_path(workload.overlay, workload.ref.slug)
    text = place.forge.repo.read(change.commit, path)
    plan = Plan.parse_json(text, what=path) if text is not None else None
    return plan.observation if plan is not None and plan.digest == change.plan_digest else None


def _way_back(place: Workplace, pr: PullRequest, tools: Tools) -> str:
    try:
        _, proposal = propose_rollback(place, pr, tools)
    except MkError as exc:
        return f"The way back could not be proposed: {markdown(exc.message, most=300)}"
    return f"#{proposal.pr.number} takes it back." if proposal.pr is not None else markdown(proposal.message, most=300)
