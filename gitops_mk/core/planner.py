"""From an observation and the state of a workload to judged actions and, where one is allowed, a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gitops_mk.core.chords.registry import RECIPES
from gitops_mk.core.chords.solve import State
from gitops_mk.core.confirm import Sightings, confirmed
from gitops_mk.core.enrolment import Reach
from gitops_mk.core.envelope.context import Context
from gitops_mk.core.envelope.registry import decide, judge, may_propose
from gitops_mk.core.invariants import invariant_states
from gitops_mk.core.ledger import in_force
from gitops_mk.core.recommend import Policy, recommend
from gitops_mk.core.weigh.weighing import weigh
from gitops_mk.errors import InputError
from gitops_mk.model.change import AppliedChange, Hold
from gitops_mk.model.chord import ChordCatalog, Intent
from gitops_mk.model.passport import Passport
from gitops_mk.model.plan import Action, PatchTarget, Plan, PolicyDigests
from gitops_mk.model.signal import Observation, SignalName
from gitops_mk.model.times import format_time
from gitops_mk.model.verdict import Verdict
from gitops_mk.model.weighing import Lesson, Weighing
from gitops_mk.model.workload import Carrier, WorkloadRef


@dataclass(frozen=True)
class WorkloadState:
    """What is known of a workload besides its telemetry; `pinned` are the knobs its component already holds."""

    ref: WorkloadRef
    overlay: str
    target: PatchTarget
    knobs: Mapping[str, int]
    pinned: frozenset[str]
    world_size: int
    catalog: ChordCatalog
    passport: Passport
    config_sha256: str
    applied: tuple[AppliedChange, ...] = ()
    holds: tuple[Hold, ...] = ()
    stable_profile: Mapping[str, int] | None = None
    reach: Reach | None = None
    total_steps: int | None = None
    lessons: tuple[Lesson, ...] = ()

    @property
    def carrier(self) -> Carrier:
        """The object that carries its knobs: the workload itself, or a ConfigMap."""
        return self.target.carrier(self.ref)

    @property
    def policy(self) -> PolicyDigests:
        """What the plan is made under."""
        return PolicyDigests(
            catalog_sha256=self.catalog.sha256,
            passport_id=self.passport.id,
            passport_sha256=self.passport.sha256,
            config_sha256=self.config_sha256,
        )


@dataclass(frozen=True)
class Options:
    """What the person who runs it chose, and what was seen in a row: how many stable observations, and each signal how often,
    this observation included (`sightings`: without it). `confirm`: how often a signal must be, but for those that count as
    confirmed `already`.
    """

    policy: Policy = "chord"
    approve_advanced: bool = False
    stable_intervals: int = 0
    confirm: int = 1
    sightings: Sightings = field(default_factory=Sightings)
    sighted: Mapping[SignalName, int] = field(default_factory=dict)
    already: frozenset[SignalName] = frozenset()


@dataclass(frozen=True)
class Judged:
    """One action and what the envelope says of it."""

    action: Action
    verdicts: tuple[Verdict, ...]
    verdict: Verdict
    weighing: Weighing | None = None


@dataclass(frozen=True)
class Decision:
    """All actions that were considered, in order; `chosen` is the one that becomes the plan, None for a hold.

    `waiting`: in how many windows in a row, of those `needed`, a signal was seen that is not acted on yet; 0 without any.
    """

    judged: tuple[Judged, ...]
    chosen: Judged | None
    waiting: int = 0
    needed: int = 1


def decide_actions(state: WorkloadState, observation: Observation, options: Options, now: datetime) -> Decision:
    """Compute and judge the chords the observation calls for; the first that may be proposed is chosen.

    One workload, one chord at a time: later ones wait for the outcome of the first.
    """
    ready, waiting = confirmed(observation, options.sighted, options.confirm, already=options.already)
    away = state.stable_profile is not None and dict(state.stable_profile) != dict(state.knobs)
    proven = {lesson.commit for lesson in state.lessons if lesson.came > 0}
    # What waits, or is for people to read, is no stability either.
    chords = (
        (Intent.NORMAL_HOLD,)
        if observation.incident and not ready.incident
        else recommend(
            ready,
            policy=options.policy,
            away_from_stable=away,
            since_change=_since_change(state, observation),
            proven=any(change.commit in proven for change in state.applied),
            stable_intervals=options.stable_intervals,
            intervals_needed=state.passport.recovery.stable_intervals,
        )
    )
    judged = tuple(
        judge_action(state, compute_action(state, chord, observation), observation, options, now) for chord in chords
    )
    chosen = next((j for j in judged if may_propose(j.verdict) and j.action.changes), None)
    return Decision(judged=judged, chosen=chosen, waiting=waiting, needed=options.confirm)


def _since_change(state: WorkloadState, observation: Observation) -> bool:
    """True when all that was seen is from after the newest change."""
    if not state.applied:
        return False
    return observation.window.begins_after(in_force(state.applied[-1], state.target.delivery))


def compute_action(state: WorkloadState, chord: Intent, observation: Observation) -> Action:
    """The chord's moves from where the workload stands, by what was seen, with what they do to the invariants."""
    solution = RECIPES[chord](
        State(
            knobs=state.knobs,
            limits=state.passport.knobs,
            stable_profile=state.stable_profile,
            allowed=_allowed(state),
            seen=observation.seen,
        )
    )
    entry = state.catalog.get(chord)
    after = {**state.knobs, **{c.knob: c.after for c in solution.changes}}
    return Action(
        workload=state.ref,
        chord=chord,
        changes=solution.changes,
        invariants=invariant_states(
            entry.invariants if entry else (),
            before=state.knobs,
            after=after,
            world_size=state.world_size,
            passport=state.passport,
        )
        if solution.changes
        else (),
        rationale=solution.rationale,
        unsolved=solution.unsolved,
        unsolved_reason=solution.reason,
    )


def _allowed(state: WorkloadState) -> frozenset[str]:
    """The knobs that a recipe may choose among: in a ConfigMap only what a running trainer takes up."""
    allowed = frozenset(state.passport.allowed_knobs)
    return allowed & frozenset(state.passport.actuators.hot) if state.target.delivery == "configmap" else allowed


def judge_action(
    state: WorkloadState,
    action: Action,
    observation: Observation,
    options: Options,
    now: datetime,
    *,
    rollback: AppliedChange | None = None,
) -> Judged:
    """Ask every rule of the envelope: the same question whether one plans, proposes, verifies or rolls back."""
    weighing = None
    if action.changes and rollback is None:
        weighing = weigh(
            action,
            state.knobs,
            observation,
            state.passport.economics,
            delivery=state.target.delivery,
            total_steps=state.total_steps,
            lessons=state.lessons,
        )
    verdicts = judge(
        Context(
            action=action,
            catalog=state.catalog,
            passport=state.passport,
            knobs=state.knobs,
            observation=observation,
            now=now,
            world_size=state.world_size,
            stable_intervals=options.stable_intervals,
            approve_advanced=options.approve_advanced,
            applied=state.applied,
            holds=state.holds,
            rollback=rollback,
            weighing=weighing,
            delivery=state.target.delivery,
        )
    )
    return Judged(action=action, verdicts=verdicts, verdict=decide(verdicts), weighing=weighing)


def make_plan(
    state: WorkloadState,
    action: Action,
    observation: Observation,
    options: Options,
    *,
    now: datetime,
    mk_version: str,
    rollback_of: str | None = None,
    weighing: Weighing | None = None,
) -> Plan:
    """The plan that carries out `action`. Raises InputError for an action without changes."""
    if not action.changes:
        raise InputError(f"{action.chord} on {state.ref} changes nothing: there is no plan to make")
    after = {c.knob: c.after for c in action.changes}
    knobs = {k: v for k, v in {**state.knobs, **after}.items() if k in state.pinned or k in after}
    return Plan.make(
        workload=state.ref,
        overlay=state.overlay,
        target=state.target,
        chord=action.chord,
        approved_advanced=options.approve_advanced,
        changes=action.changes,
        knobs=dict(sorted(knobs.items())),
        invariants=action.invariants,
        policy=state.policy,
        rollback_of=rollback_of,
        world_size=state.world_size,
        stable_intervals=options.stable_intervals,
        rationale=action.rationale,
        observation=observation,
        weighing=weighing,
        lessons=state.lessons,
        created_at=format_time(now),
        mk_version=mk_version,
    )
