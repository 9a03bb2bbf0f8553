"""After a change runs: tell its pull request what came of it, and propose the way back where things got worse."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gitops_mk.controller.rollback import propose_rollback
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.core.effect import LEVEL, METHOD
from gitops_mk.core.ledger import in_force
from gitops_mk.core.outcome import Outcome, is_from, judge_outcome, untold
from gitops_mk.core.render.paths import plan_path
from gitops_mk.core.render.text import markdown
from gitops_mk.errors import MkError
from gitops_mk.model.change import OUTCOME_CHECK, ROLLOUT_CHECK, AppliedChange, Check, Comment, PullRequest
from gitops_mk.model.plan import Plan
from gitops_mk.model.report import report
from gitops_mk.model.settings import WorkloadSettings
from gitops_mk.model.signal import Observation, SignalName
from gitops_mk.model.times import format_time
from gitops_mk.ports import ArtifactStore

WORDS = {
    "kept": "It keeps what it promised.",
    "no_effect": "It does not bring what it promised.",
    "regressed": "It is worse than before.",
    "inconclusive": "What was seen can't tell whether it helped.",
}
WORDS_WITHOUT_PROMISE = {
    **WORDS,
    "kept": "What it was for is not seen any more.",
    "no_effect": "What it was for is still seen.",
}
# So long after a rollout it is said that nothing can be said.
PATIENCE_S = 6 * 3600.0


def tell_outcome(
    place: Workplace,
    pr: PullRequest,
    change: AppliedChange,
    workload: WorkloadSettings,
    after: Observation,
    tools: Tools,
    artifacts: ArtifactStore,
    *,
    sure: Collection[SignalName] | None = None,
    superseded: bool = False,
) -> Outcome | None:
    """Record once what came of a change that was rolled out; None while it can't be told, or was told already.

    `after` is what is seen since it runs; of its signals only those that are `sure` count as new (None: all of them).
    `superseded`: another change was merged since, so that nothing can be told of this one any more. It goes to the pull
    request and to `outcome_latest.json`. Raises MkError for a forge that can't be written to.
    """
    rollout = pr.newest_check(ROLLOUT_CHECK, change.commit)
    if rollout is None or change.rollback_of is not None or pr.newest_check(OUTCOME_CHECK, change.commit) is not None:
        return None
    plan = _plan_of(place, change, workload)
    if plan is None:
        return None
    since = in_force(change.model_copy(update={"at": rollout.at}), plan.target.delivery)
    last_call = (tools.clock.now() - since).total_seconds() > PATIENCE_S
    if superseded:
        outcome: Outcome | None = untold(plan, "another change was merged before it could be told")
    elif is_from(after, since):
        outcome = judge_outcome(plan, after, sure=sure, last_call=last_call)
    else:
        # Steps that may be from before the change would be held against themselves.
        outcome = untold(plan, "nothing was seen of which it is sure that it is from since then") if last_call else None
    if outcome is None:
        return None
    text = [f"**{outcome.verdict}**. {_words(plan, outcome)}", "", *(f"- {markdown(line)}" for line in outcome.lines)]
    text += ["", f"Steps {after.window.first_step} to {after.window.last_step}, since it runs."]
    way_back = None
    if outcome.verdict == "regressed":
        way_back, said = _way_back(place, pr, tools)
        text += ["", said]
    now = format_time(tools.clock.now())
    check = Check(
        name=OUTCOME_CHECK,
        commit=change.commit,
        base=change.commit,
        plan_digest=change.plan_digest,
        conclusion="failure" if outcome.verdict == "regressed" else "success",
        summary=f"{outcome.verdict}: {'; '.join(outcome.lines)}"[:500],
        at=now,
    )
    # First, so that a process that dies in between says it once.
    place.forge.add_check(pr.number, check)
    place.forge.add_comment(pr.number, Comment(by=place.forge.identity, at=now, text="\n".join(text)))
    artifacts.report(
        "outcome", _payload(pr, change, plan, after, outcome, way_back, tools, artifacts), at=tools.clock.now()
    )
    return outcome


def _words(plan: Plan, outcome: Outcome) -> str:
    promises = plan.weighing is not None and plan.weighing.gain.weighed
    return (WORDS if promises else WORDS_WITHOUT_PROMISE)[outcome.verdict]


def _payload(
    pr: PullRequest,
    change: AppliedChange,
    plan: Plan,
    after: Observation,
    outcome: Outcome,
    way_back: int | None,
    tools: Tools,
    artifacts: ArtifactStore,
) -> dict[str, Any]:
    """`outcome_latest.json`."""
    effect, now = outcome.effect, tools.clock.now()
    body = {
        "workload": change.workload,
        "pr": pr.number,
        "merge_sha": change.commit,
        "plan_digest": change.plan_digest,
        "chord": change.chord,
        "verdict": outcome.verdict,
        "promised": outcome.promised,
        "came": None
        if effect is None
        else {"share": effect.saved, "low": effect.low, "high": effect.high, "level": LEVEL, "method": METHOD},
        "compared": None
        if effect is None
        else {"steps": effect.steps, "before_ms": effect.before_ms, "after_ms": effect.after_ms},
        "before": plan.observation.window.plain(),
        "after": after.window.plain(),
        "lines": list(outcome.lines),
        "rollback_pr": way_back,
    }
    return report(body, started=now, finished=now, out_dir=artifacts.out_dir)


def _plan_of(place: Workplace, change: AppliedChange, workload: WorkloadSettings) -> Plan | None:
    """The plan, from the record that was merged with it."""
    path = plan_path(workload.overlay, workload.ref.slug)
    text = place.forge.repo.read(change.commit, path)
    plan = Plan.parse_json(text, what=path) if text is not None else None
    return plan if plan is not None and plan.digest == change.plan_digest else None


def _way_back(place: Workplace, pr: PullRequest, tools: Tools) -> tuple[int | None, str]:
    try:
        _, proposal = propose_rollback(place, pr, tools)
    except MkError as exc:
        return None, f"The way back could not be proposed: {markdown(exc.message, most=300)}"
    if proposal.pr is None:
        return None, markdown(proposal.message, most=300)
    return proposal.pr.number, f"#{proposal.pr.number} takes it back."
