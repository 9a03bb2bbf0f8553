"""Reconcile one workload: from what stands to what should stand, whatever happened before. Level-based: nothing is remembered
that git, the forge and the cluster don't tell, but how often it was stable in a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from gitops_mk.controller.door import Door
from gitops_mk.controller.followup import tell_outcome
from gitops_mk.controller.inventory import unenrolled, with_carrier
from gitops_mk.controller.loop import Begun, LoopResult, Target, begin, finish
from gitops_mk.controller.state import check_base_branch, policy_of
from gitops_mk.controller.streak import Streak
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.core.checks.facts import built_knobs
from gitops_mk.core.config_map import carrier_of
from gitops_mk.core.inventory import Found
from gitops_mk.core.ledger import in_force, since_rollout
from gitops_mk.core.planner import Options
from gitops_mk.core.policy import Policy
from gitops_mk.core.source import Source, at_revision
from gitops_mk.model.change import ROLLOUT_CHECK, AppliedChange, Check, Comment, PullRequest
from gitops_mk.model.knob import KNOWN_KNOBS
from gitops_mk.model.settings import WorkloadSettings
from gitops_mk.model.signal import Observation
from gitops_mk.model.times import format_time, parse_time
from gitops_mk.model.verdict import Reason
from gitops_mk.ports import Announcer, ArtifactStore, Forge, Journal, Meter, TelemetrySource

LEFT_ALONE = "left alone"
WAITING = "waiting"
# Of so many of the newest changes the outcome is told; older ones were told, or never will be.
FOLLOWED = 3


@dataclass
class Memory:
    """What the last reconciles of a workload saw. `uid`: of the live object it is about."""

    uid: str = ""
    streak: Streak = field(default_factory=Streak)


@dataclass(frozen=True)
class Result:
    """How a workload stands after a reconcile. `wrote`: something was written to the forge."""

    state: str
    reason: str | None = None
    message: str = ""
    wrote: bool = False
    killed: bool = False


@dataclass(frozen=True)
class Snapshot:
    """The repository as of one fetch, shared by all reconciles until one of them writes."""

    base: str
    files: dict[str, bytes]
    policy: Policy
    prs: tuple[PullRequest, ...]
    applied: dict[str, AppliedChange] = field(default_factory=dict)

    @classmethod
    def take(cls, place: Workplace, tools: Tools) -> Snapshot:
        """What stands now; `applied` is the newest change of each workload. Raises MkError."""
        forge = place.forge
        base = forge.base_tip()
        files = dict(forge.repo.files(base))
        policy = policy_of(files, tools.built_in)
        check_base_branch(policy.settings, forge.base_branch)
        return cls(
            base=base,
            files=files,
            policy=policy,
            prs=forge.list_prs(),
            applied={change.workload: change for change in forge.applied()},
        )


@dataclass(frozen=True)
class Desk:
    """What a reconcile works with. `source_of` opens a workload's telemetry, `artifacts_of` the folder of its reports.

    `patient`: there will be further looks to confirm what this one sees.
    """

    place: Workplace
    tools: Tools
    meter: Meter
    announcer: Announcer
    journal: Journal
    source_of: Callable[[Found, datetime | None], TelemetrySource]
    artifacts_of: Callable[[Found], ArtifactStore]
    merge: bool
    patient: bool = True
    door: Door = field(default_factory=Door)


@dataclass(frozen=True)
class Undertaking:
    """A workload that was looked at, with what was decided and not carried out yet."""

    found: Found
    begun: Begun
    artifacts: ArtifactStore


def reconcile(found: Found, snapshot: Snapshot, memory: Memory, desk: Desk) -> Result:
    """Look at one workload, and do what is to be done now. Raises MkError for what could not be decided."""
    decided = decide(found, snapshot, memory, desk)
    return decided if isinstance(decided, Result) else carry_out(decided, memory, desk)


def decide(found: Found, snapshot: Snapshot, memory: Memory, desk: Desk) -> Result | Undertaking:
    """Look at one workload, and decide. Nothing is written but the record of a rollout. Raises MkError."""
    decided = _decide(found, snapshot, memory, desk)
    if isinstance(decided, Result):
        # Not looked at: what comes next is not consecutive to what was seen, or is of other values.
        memory.streak.broken()
    return decided


def _decide(found: Found, snapshot: Snapshot, memory: Memory, desk: Desk) -> Result | Undertaking:
    if found.not_now is not None or found.live is None or found.settings is None:
        reason = found.not_now.reason if found.not_now else Reason.NOT_ENABLED
        message = found.not_now.message if found.not_now else "no configuration of this repository is about it"
        return Result(LEFT_ALONE, reason, message)
    settings, tools = found.settings, desk.tools
    alone = unenrolled(found, snapshot.files, snapshot.policy.settings, tools.builder)
    if alone is not None:
        return Result(LEFT_ALONE, alone.reason, alone.message)
    found = with_carrier(found, snapshot.files, snapshot.policy.settings, tools.builder, tools.cluster)
    if found.not_now is not None:
        return Result(LEFT_ALONE, found.not_now.reason, found.not_now.message)
    drifted = _drift(found, settings, snapshot, desk)
    waiting = _settle_rollout(found, snapshot, desk, drifted)
    if waiting is not None:
        return waiting
    if drifted is not None:
        return Result(LEFT_ALONE, Reason.OUT_OF_SYNC, drifted)
    target = Target(
        workload=settings,
        policy=snapshot.policy,
        files=snapshot.files,
        base=snapshot.base,
        workplace=desk.place,
    )
    source = desk.source_of(found, _running_since(found, snapshot))
    artifacts = desk.artifacts_of(found)
    options = Options(
        stable_intervals=memory.streak.stable_intervals,
        confirm=snapshot.policy.settings.limits.confirmations if desk.patient else 1,
        sightings=memory.streak.sightings,
    )
    begun = begin(target, source, options, desk.tools, artifacts, apply=True, seen_before=memory.streak.window)
    return Undertaking(found, begun, artifacts)


def carry_out(undertaking: Undertaking, memory: Memory, desk: Desk) -> Result:
    """Propose, verify and merge what was decided. Raises MkError."""
    found = undertaking.found
    result = finish(undertaking.begun, desk.tools, undertaking.artifacts, merge=desk.merge, door=desk.door)
    memory.streak.add(result.observation)
    told = _told(found, result, desk)
    return replace(told, wrote=told.wrote or _follow_up(undertaking, result.observation, memory, desk))


def _follow_up(undertaking: Undertaking, seen: Observation, memory: Memory, desk: Desk) -> bool:
    """Tell the pull requests of the newest changes what came of them; true when something was written."""
    state, workload = undertaking.begun.state, undertaking.begun.target.workload
    need = undertaking.begun.options.confirm
    sure = {name for name, rows in memory.streak.sightings.seen.items() if rows >= need}
    merged = {pr.merge_sha: pr for pr in desk.place.forge.list_prs() if pr.merge_sha is not None}
    wrote = False
    for change in state.applied[-FOLLOWED:]:
        pr = merged.get(change.commit)
        if pr is None:
            continue
        outcome = tell_outcome(
            desk.place, pr, change, workload, seen, desk.tools, undertaking.artifacts,
            sure=sure, superseded=change is not state.applied[-1],
        )  # fmt: skip
        if outcome is None:
            continue
        wrote = True
        desk.journal.log("outcome", workload=workload.ref.key, pr=pr.number, verdict=outcome.verdict)
        desk.announcer.announce(
            undertaking.found.live or {},
            reason="ChordOutcome",
            message=f"{change.chord} of #{pr.number}: {outcome.verdict}",
            warning=outcome.verdict == "regressed",
        )
    return wrote


def _settle_rollout(found: Found, snapshot: Snapshot, desk: Desk, drifted: str | None) -> Result | None:
    """A merge counts once the cluster runs it: its very revision is synced and rolled out. Until then nothing is planned."""
    change = snapshot.applied.get(found.ref.key)
    if change is None:
        return None
    pr = next((pr for pr in snapshot.prs if pr.merge_sha == change.commit), None)
    if pr is None or pr.newest_check(ROLLOUT_CHECK, change.commit) is not None:
        return None
    if not _synced(found, change, snapshot, desk.place.forge):
        message = f"#{pr.number} was merged as {change.commit[:12]}, which is not synced yet"
        return Result(WAITING, Reason.OUT_OF_SYNC, message)
    if drifted is not None:
        # What syncs it says so before the workload itself is seen to have changed: two watches come in any order. Where
        # no sync tool tells a revision, the values are the only witness.
        return Result(WAITING, Reason.OUT_OF_SYNC, f"#{pr.number} was merged, and is not seen to run yet: {drifted}")
    now = desk.tools.clock.now()
    check = Check(
        name=ROLLOUT_CHECK,
        commit=change.commit,
        base=snapshot.base,
        plan_digest=change.plan_digest,
        conclusion="success",
        summary=f"{found.ref} runs it",
        at=format_time(now),
    )
    desk.place.forge.add_check(pr.number, check)
    said = f"{found.ref} runs it since {check.at}, merged as {change.commit[:12]}."
    desk.place.forge.add_comment(pr.number, Comment(by=desk.place.forge.identity, at=check.at, text=said))
    lag = max(0.0, (now - parse_time(change.at)).total_seconds())
    desk.meter.rolled_out(lag)
    moved = ", ".join(f"{knob} {old} to {new}" for knob, (old, new) in sorted(change.changes.items()))
    desk.announcer.announce(
        found.live or {}, reason="ChordRolledOut", message=f"{change.chord} of #{pr.number} runs: {moved}"
    )
    desk.journal.log("rolled_out", workload=found.ref.key, pr=pr.number, commit=change.commit, lag_s=round(lag, 1))
    return Result("rolled out", None, f"#{pr.number} runs since {check.at}", wrote=True)


def _synced(found: Found, change: AppliedChange, snapshot: Snapshot, forge: Forge) -> bool:
    if not isinstance(found.source, Source):
        return True
    later = forge.repo.log(snapshot.base, exclude=change.commit)
    return at_revision(found.source, change.commit, frozenset(commit.sha for commit in later))


def _drift(found: Found, settings: WorkloadSettings, snapshot: Snapshot, desk: Desk) -> str | None:
    """Live values that are not Git's: somebody turned a knob by hand, or a sync is still to come."""
    build = desk.tools.builder.build(snapshot.files, settings.overlay)
    # Values in a ConfigMap run as soon as it holds them: no pod restarts, and none is waited for.
    built = built_knobs(build, carrier_of(snapshot.policy.settings, settings, build))
    if found.delivery == "configmap":
        # Whatever else looks like a knob in a ConfigMap is nobody's business.
        ours = {*KNOWN_KNOBS, *snapshot.policy.passport(settings).knobs}
        built = {knob: value for knob, value in built.items() if knob in ours}
    differing = sorted(knob for knob, value in built.items() if found.knobs.get(knob) != value)
    if not differing:
        return None
    knob = differing[0]
    return f"{knob} runs at {found.knobs.get(knob)}, {settings.overlay!r} on the base builds {built[knob]}"


def _running_since(found: Found, snapshot: Snapshot) -> datetime | None:
    """Since when the newest merge runs; telemetry from before it is of other values."""
    change = snapshot.applied.get(found.ref.key)
    if change is None:
        return None
    return in_force(since_rollout([change], snapshot.prs)[0], found.delivery)


def _told(found: Found, result: LoopResult, desk: Desk) -> Result:
    """Count, announce and sum up one turn of the loop."""
    desk.meter.lines(result.observation.ingest.lines)
    payload = result.payload
    if result.planned.plan is not None:
        desk.meter.planned(result.planned.plan.chord)
    reason = payload["apply_blocked_reason"]
    pr = payload["pr"]
    if result.applied is not None:
        desk.meter.gate(str(result.applied.reason or "open"))
    outcome = payload["propose_outcome"]
    if outcome is not None:
        desk.meter.proposed(outcome)
    live = found.live or {}
    if outcome in ("created", "updated") and pr is not None:
        desk.announcer.announce(live, reason="ChordProposed", message=f"#{pr['number']}: {pr['title']}")
    if result.applied is not None and result.applied.ok and pr is not None:
        desk.announcer.announce(live, reason="ChordMerged", message=f"#{pr['number']} was merged: {pr['title']}")
    if payload["verify_ok"] is False and result.planned.plan is not None:
        desk.announcer.announce(
            live, reason="VerifyFailed", message=str(payload["apply_decision_summary"]), warning=True
        )
    wrote = outcome in ("created", "updated", "closed", "paused") or bool(result.applied and result.applied.ok)
    state = (
        "stable"
        if result.observation.stable
        else "insufficient evidence"
        if result.observation.insufficient
        else "seen"
    )
    if result.planned.decision.waiting and result.planned.plan is None:
        state = "confirming"
    if pr is not None:
        state = f"pull request #{pr['number']} {pr['state']}"
    return Result(
        state,
        reason,
        str(payload["apply_decision_summary"]),
        wrote=wrote,
        killed=result.killed is not None,
    )
