"""Step 4, envelope: the safety envelope is asked again, with the policy, the values and the history of the base."""

from __future__ import annotations

from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.chords.registry import RECIPES
from gitops_mk.core.documents import parse_json
from gitops_mk.core.enrolment import admitted
from gitops_mk.core.envelope.registry import may_propose
from gitops_mk.core.ledger import holds, stable_profile
from gitops_mk.core.planner import Options, WorkloadState, compute_action, judge_action
from gitops_mk.core.policy import Policy
from gitops_mk.core.render.paths import plan_path
from gitops_mk.core.weigh.weighing import MOST_LESSONS
from gitops_mk.model.change import AppliedChange, Person
from gitops_mk.model.chord import Intent
from gitops_mk.model.passport import Passport
from gitops_mk.model.plan import Plan
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.model.weighing import Weighing

ID = "envelope"


def check(facts: Facts) -> Verdict:
    """Judge the plan's action by every rule; a rollback must undo a change that is really on the base."""
    plan, policy, passport = facts.plan, facts.policy, facts.passport
    if plan is None or policy is None or passport is None:
        return Verdict.block(ID, Reason.PLAN_INVALID, "not judged: there is no plan, or no policy to judge it by")
    if facts.base_build is None:
        return Verdict.block(ID, Reason.BUILD_FAILED, f"not judged: base does not build: {facts.base_build_error}")
    rollback = undone(plan, facts.applied)
    if plan.rollback_of is not None and rollback is None:
        return Verdict.block(
            ID,
            Reason.PLAN_INVALID,
            f"it says it undoes {plan.rollback_of[:12]}, which is not merged or not its opposite",
        )
    state = on_base(facts, plan, policy, passport)
    options = Options(approve_advanced=plan.approved_advanced, stable_intervals=plan.stable_intervals)
    judged = judge_action(state, plan.action(), plan.observation, options, facts.now, rollback=rollback)
    verdict = judged.verdict
    if not may_propose(verdict):
        reason = verdict.reason or Reason.NO_CHECKS_RUN
        return Verdict.block(ID, reason, f"{verdict.rule}: {verdict.message}")
    wrong = ""
    if rollback is None:
        wrong = other_targets(plan, state) or other_promise(plan, judged.weighing) or forgotten(plan, facts)
    if wrong:
        return Verdict.block(ID, Reason.PLAN_INVALID, wrong)
    return Verdict.allow(ID, "undoes a merged change" if rollback else verdict.message)


def on_base(facts: Facts, plan: Plan, policy: Policy, passport: Passport) -> WorkloadState:
    """The workload as the base has it. Whether a hold was released, pull requests alone can tell: without them, none is."""
    mine = tuple(change for change in facts.applied if change.workload == plan.workload.key)
    identity = Person(name=policy.settings.identity.name, email=policy.settings.identity.email)
    knobs = facts.base_knobs
    settings = admitted(policy.settings, plan.workload, plan.overlay)
    return WorkloadState(
        ref=plan.workload,
        overlay=plan.overlay,
        target=plan.target,
        knobs=knobs,
        pinned=frozenset(),
        world_size=plan.world_size,
        catalog=policy.catalog,
        passport=passport,
        config_sha256=policy.settings.sha256,
        applied=mine,
        holds=() if facts.prs is None else holds(facts.prs, mine, {plan.workload.key: knobs}, identity=identity),
        stable_profile=stable_profile(mine, knobs),
        total_steps=settings.total_steps if settings is not None else None,
        lessons=plan.lessons,
    )


def other_targets(plan: Plan, state: WorkloadState) -> str:
    """How the plan's moves differ from what its chord computes from the base's values; empty when they don't."""
    # Made from other values than the base's: freshness says so. Without a recipe nothing can be computed.
    if plan.chord not in RECIPES or any(state.knobs.get(c.knob) != c.before for c in plan.changes):
        return ""
    action = compute_action(state, Intent(plan.chord), plan.observation)
    if action.changes == plan.changes:
        return ""
    computed = ", ".join(f"{c.knob} {c.before} to {c.after}" for c in action.changes) or action.unsolved or "no move"
    return f"{plan.chord} computes {computed} from the base's values, the plan says otherwise"


def other_promise(plan: Plan, weighing: Weighing | None) -> str:
    """How what the record promises reviewers differs from what is computed of its evidence; empty when it doesn't."""
    told = plan.weighing
    if told is None or weighing is None or _figures(told) == _figures(weighing):
        return ""
    return f"the record promises {_figures(told)}, computed is {_figures(weighing)} (share of time, seconds of cost, seconds left)"


def forgotten(plan: Plan, facts: Facts) -> str:
    """Which lessons of the record on the base the plan leaves out: they make its promise more careful. Empty for none."""
    path = plan_path(plan.overlay, plan.workload.slug)
    text = facts.base_files.get(path)
    known = parse_json(Plan, text, what=path).lessons if text is not None else ()
    missing = [lesson for lesson in known if lesson not in plan.lessons]
    if not missing or len(plan.lessons) >= MOST_LESSONS:
        return ""
    return f"the record leaves out what came of {missing[0].chord}, merged as {missing[0].commit[:12]}"


def _figures(weighing: Weighing) -> tuple[float | None, float, float]:
    share = None if weighing.share is None else round(weighing.share, 6)
    return share, round(weighing.cost.total_s, 3), round(weighing.remaining_s, 3)


def undone(plan: Plan, applied: tuple[AppliedChange, ...]) -> AppliedChange | None:
    """The merged change that the plan takes back exactly; None when it takes back none."""
    if plan.rollback_of is None:
        return None
    opposite = {c.knob: (c.after, c.before) for c in plan.changes}
    return next(
        (
            change
            for change in reversed(applied)
            if change.plan_digest == plan.rollback_of
            and change.rollback_of is None
            and change.workload == plan.workload.key
            and change.changes == opposite
        ),
        None,
    )
