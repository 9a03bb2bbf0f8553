"""Plan: observe's answer and the workload's state become judged actions, a plan, and the files people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitops_mk.controller.tools import Tools
from gitops_mk.core.bundle import policy_bundle, rollback_plan
from gitops_mk.core.planner import Decision, Judged, Options, WorkloadState, decide_actions, make_plan
from gitops_mk.core.render.kubectl import kubectl_script
from gitops_mk.core.render.text import plain
from gitops_mk.core.target import overridden
from gitops_mk.core.trace import trace_events, trace_lines
from gitops_mk.errors import ConfigError, InputError
from gitops_mk.model.canonical import dumps_pretty, loads_strict
from gitops_mk.model.knob import annotation_key
from gitops_mk.model.plan import Plan, PlanItem, plan_item
from gitops_mk.model.signal import Observation
from gitops_mk.model.times import format_time
from gitops_mk.model.verdict import Verdict
from gitops_mk.ports import ArtifactStore

PLAN_FILE = "k8s_plan.json"
RECORDS_FILE = "k8s_plan.records.json"
SCRIPT_FILE = "k8s_plan.kubectl.sh"


@dataclass(frozen=True)
class Planned:
    """A decision and, unless it is a hold, its plan with the judged action behind it."""

    decision: Decision
    plan: Plan | None
    items: tuple[PlanItem, ...]

    @property
    def blocked(self) -> Verdict | None:
        """The envelope's first no, when it said no to everything that would have changed something."""
        said = [j.verdict for j in self.decision.judged if not j.verdict.allowed]
        return said[0] if said and self.plan is None else None

    @property
    def results(self) -> list[dict[str, Any]]:
        """One entry a proposed action, in order; `applied` is filled in by whoever applies."""
        return [_result(judged, judged is self.decision.chosen) for judged in self.decision.judged]

    @property
    def proposed(self) -> list[dict[str, Any]]:
        """The actions as proposed."""
        return [judged.action.plain() for judged in self.decision.judged]


def _result(judged: Judged, chosen: bool) -> dict[str, Any]:  # noqa: FBT001
    verdict, action = judged.verdict, judged.action
    if chosen:
        status = "planned"
    elif not verdict.allowed:
        status = "blocked"
    else:
        status = "hold" if action.is_hold else "deferred"
    return {
        "chord": action.chord,
        "workload": action.workload.key,
        "status": status,
        "allowed": verdict.allowed,
        "reason": verdict.reason,
        "message": verdict.message,
        "applied": False,
        "verdicts": [v.plain() for v in judged.verdicts],
    }


def plan_workload(state: WorkloadState, observation: Observation, options: Options, tools: Tools) -> Planned:
    """Decide, and make the plan of what was chosen."""
    now = tools.clock.now()
    decision = decide_actions(state, observation, options, now)
    if decision.chosen is None:
        return Planned(decision, None, ())
    chosen = decision.chosen
    plan = make_plan(
        state, chosen.action, observation, options, now=now, mk_version=tools.mk_version, weighing=chosen.weighing
    )
    reason = plain(f"{plan.chord}: {plan.rationale} (plan {plan.digest})", most=400)
    item = plan_item(chosen.action, reason, plan.carrier)
    return Planned(decision, plan, (item,))


def refuse_overridden(state: WorkloadState, files: Mapping[str, bytes], tools: Tools, plan: Plan) -> None:
    """Raises InputError when the overlay's own patches, which run after components, would undo what the plan sets.

    Told before anything is written: the pull request could never pass verify.
    """
    moved = [change.knob for change in plan.changes]
    lost = overridden(tools.builder, files, state.overlay, state.carrier, state.target, moved)
    if lost and state.target.config_map is not None:
        raise InputError(
            f"{state.overlay} sets {', '.join(lost)} of {state.carrier} in a patch of its own, after the component",
            hint="take the key out of that patch and leave it in the ConfigMap: then a component can set it",
        )
    if lost:
        raise InputError(
            f"{state.overlay} sets {', '.join(annotation_key(k) for k in lost)} in a patch of its own, after the component",
            hint="take the annotation out of that patch and leave it on the pod template: then a component can set it",
        )


def write_plan(
    artifacts: ArtifactStore,
    state: WorkloadState,
    observation: Observation,
    planned: Planned,
    options: Options,
    tools: Tools,
) -> str:
    """`k8s_plan.json`, its records, its script, the trace and the policy bundle; gives the path of the first."""
    artifacts.text("decision_trace_latest.jsonl", _trace(state, observation, planned, tools))
    write_bundle(artifacts, state, planned.plan, options, tools, verify_report=None)
    records = [planned.plan.plain()] if planned.plan else []
    artifacts.text(RECORDS_FILE, dumps_pretty(records))
    artifacts.text(SCRIPT_FILE, kubectl_script(planned.items))
    return artifacts.text(PLAN_FILE, dumps_pretty([item.plain() for item in planned.items]))


def _trace(state: WorkloadState, observation: Observation, planned: Planned, tools: Tools) -> str:
    chosen = planned.decision.chosen
    outcome = {
        "planned": chosen.action.chord if chosen else None,
        "plan_digest": planned.plan.digest if planned.plan else None,
        "considered": [j.action.chord for j in planned.decision.judged],
    }
    return trace_lines(trace_events(state, observation, planned.decision, outcome, ts=format_time(tools.clock.now())))


def write_bundle(
    artifacts: ArtifactStore,
    state: WorkloadState,
    plan: Plan | None,
    options: Options,
    tools: Tools,
    *,
    verify_report: str | None,
) -> str:
    """`policy_bundle_latest.json`; with a verify report also `rollback_plan_latest.json`, linked from it."""
    rollback = None
    if verify_report is not None:
        body = rollback_plan((plan,) if plan else (), verify_report=verify_report)
        rollback = artifacts.text("rollback_plan_latest.json", dumps_pretty(body))
    bundle = policy_bundle(
        policy_id=options.policy,
        policy_version="v1",
        params={"approve_advanced": options.approve_advanced, "stable_intervals": options.stable_intervals},
        digests=state.policy,
        provenance=tools.provenance(),
        verify_report=verify_report,
        rollback_plan=rollback,
    )
    return artifacts.text("policy_bundle_latest.json", dumps_pretty(bundle))


def read_items(text: bytes, *, what: str) -> tuple[PlanItem, ...]:
    """The items of a `k8s_plan.json`. Raises InputError naming the item and the field."""
    data = loads_strict(text, what=what)
    if not isinstance(data, list):
        raise InputError(f"{what}: expected a JSON list of plan items, found {type(data).__name__}")
    items = tuple(PlanItem.parse(item, what=f"{what} item {number}") for number, item in enumerate(data))
    seen: set[str] = set()
    for item in items:
        if item.ref().key in seen:
            raise InputError(f"{what}: {item.ref()} stands twice, expected one item a workload")
        seen.add(item.ref().key)
    return items


def read_records(plan_text: bytes, records_text: bytes | None, *, what: str) -> tuple[Plan, ...]:
    """The decision records of a plan file: the file itself when it is one, else those beside it. Raises InputError.

    Items and records must say the same: a plan edited by hand has no decision behind it.
    """
    data = loads_strict(plan_text, what=what)
    if isinstance(data, dict):
        return (_checked(Plan.parse(data, what=what), what),)
    items = read_items(plan_text, what=what)
    if not items:
        return ()
    if records_text is None:
        raise InputError(
            f"{what}: no {RECORDS_FILE} beside it, which says why these values",
            hint="run `mk closed-loop run --dry-run` again and use the folder it writes",
        )
    raw = loads_strict(records_text, what=RECORDS_FILE)
    if not isinstance(raw, list):
        raise InputError(f"{RECORDS_FILE}: expected a JSON list")
    plans = tuple(_checked(Plan.parse(item, what=RECORDS_FILE), RECORDS_FILE) for item in raw)
    said = {item.ref().key: item.knobs() for item in items}
    meant = {plan.carrier.key: {c.knob: c.after for c in plan.changes} for plan in plans}
    if said != meant:
        raise InputError(
            f"{what} and {RECORDS_FILE} differ: the plan was changed after it was made",
            hint="run `mk closed-loop run --dry-run` again; values are not edited by hand",
        )
    return plans


def _checked(plan: Plan, what: str) -> Plan:
    if plan.compute_digest() != plan.digest:
        raise InputError(f"{what}: the digest of the plan for {plan.workload} is not that of its decision")
    return plan


def require_same_policy(state: WorkloadState, plan: Plan) -> None:
    """Raises ConfigError when a plan was made under another policy than the base's."""
    if state.policy != plan.policy:
        raise ConfigError(
            f"the plan for {plan.workload} was made under another catalog, passport or configuration",
            hint="plan again: the policy on the base branch has changed since",
        )


def summary_lines(
    observation: Observation, planned: Planned, extra: Sequence[str] = (), outcome: Mapping[str, Any] | None = None
) -> str:
    """`summary.md`: what was seen, what is planned, what came of it."""
    found = ", ".join(observation.found) or ("stable" if observation.stable else "insufficient evidence")
    lines = ["# ModeKeeper summary", "", f"- seen: {found} ({observation.window.steps} steps, {observation.source})"]
    lines += [f"- {s.name}: {plain(s.evidence.summary, most=300)}" for s in observation.signals if s.found]
    for result in planned.results:
        why = f" ({result['reason']}: {plain(str(result['message']), most=200)})" if result["reason"] else ""
        lines.append(f"- {result['chord']}: {result['status']}{why}")
    if planned.plan:
        lines += [f"- {change.knob}: {change.before} to {change.after}" for change in planned.plan.changes]
    lines += [f"- {text}" for text in extra]
    for key, value in (outcome or {}).items():
        lines.append(f"- {key}: {value}")
    return "\n".join(lines) + "\n"
