"""Makers of values: valid as they come, each field to be replaced by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gitops_mk.adapters.resources import built_in
from gitops_mk.core.documents import parse_json
from gitops_mk.core.envelope.context import Context
from gitops_mk.core.planner import WorkloadState
from gitops_mk.model.change import AppliedChange, Person, PrState, PullRequest
from gitops_mk.model.chord import ChordCatalog, InvariantName
from gitops_mk.model.knob import KnobChange
from gitops_mk.model.passport import Passport
from gitops_mk.model.plan import Action, InvariantState, PatchTarget, Plan, PolicyDigests
from gitops_mk.model.signal import Classification, Evidence, Observation, Signal, SignalName
from gitops_mk.model.telemetry import Environment, IngestCounts, Window
from gitops_mk.model.times import format_time
from gitops_mk.model.workload import WorkloadRef

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
REF = WorkloadRef(namespace="ml", kind="Deployment", name="trainer")
KNOBS = {
    "grad_accum_steps": 4,
    "microbatch_size": 32,
    "dataloader_num_workers": 2,
    "dataloader_prefetch_factor": 2,
    "concurrency": 8,
    "timeout_ms": 60_000,
    "comm_bucket_mb": 25,
}
IDENTITY = Person(name="ModeKeeper GitOps", email="modekeeper@gitops.invalid")
ALICE = Person(name="Alice", email="alice@example.invalid")
BOB = Person(name="Bob", email="bob@example.invalid")
SHA_A, SHA_B, SHA_C = "a" * 40, "b" * 40, "c" * 40
TREE = "d" * 40


def catalog(**over: Any) -> ChordCatalog:
    loaded = parse_json(ChordCatalog, built_in().catalog, what="catalog")
    return loaded.model_copy(update=over)


def passport(name: str = "perf", **over: Any) -> Passport:
    loaded = parse_json(Passport, built_in().passports[name], what="passport")
    return loaded.model_copy(update=over)


def signal(name: SignalName, found: bool = True, **evidence: Any) -> Signal:
    return Signal(
        name=name,
        classification=Classification.SIGNAL_FOUND if found else Classification.NO_ACTIONABLE_SIGNAL,
        evidence=Evidence(**{"summary": f"{name} seen", "metric": "step_time_ms", "effect": 1.0, **evidence}),
        actionable=found,
    )


def observation(*found: SignalName, steps: int = 400, insufficient: bool = False, **over: Any) -> Observation:
    signals = []
    for name in [n for n in SignalName if n is not SignalName.DRIFT]:
        one = signal(name, name in found)
        if insufficient:
            one = one.model_copy(update={"classification": Classification.INSUFFICIENT_EVIDENCE})
        signals.append(one)
    fields: dict[str, Any] = {
        "signals": tuple(signals),
        "environment": Environment(),
        "ingest": IngestCounts(lines=steps, records=steps),
        "window": Window(first_step=0, last_step=steps - 1, steps=steps),
        "source": "synthetic",
        "format": "jsonl",
    }
    return Observation(**{**fields, **over})


def change(knob: str, before: int, after: int) -> KnobChange:
    return KnobChange(knob=knob, before=before, after=after)


def action(chord: str = "INPUT-STRAGGLER", *changes: KnobChange, **over: Any) -> Action:
    moved = changes or (change("dataloader_num_workers", 2, 4),)
    return Action(**{"workload": REF, "chord": chord, "changes": moved, "rationale": "because", **over})


def applied(
    chord: str = "INPUT-STRAGGLER",
    changes: Mapping[str, tuple[int, int]] | None = None,
    *,
    age_s: int = 0,
    commit: str = SHA_A,
    digest: str = "1" * 64,
    workload: str = REF.key,
) -> AppliedChange:
    return AppliedChange(
        commit=commit,
        at=format_time(NOW - timedelta(seconds=age_s)),
        workload=workload,
        chord=chord,
        plan_digest=digest,
        changes=dict(changes or {"dataloader_num_workers": (2, 4)}),
    )


def context(act: Action | None = None, **over: Any) -> Context:
    fields: dict[str, Any] = {
        "action": act or action(),
        "catalog": catalog(),
        "passport": passport(),
        "knobs": KNOBS,
        "observation": observation(SignalName.STRAGGLER),
        "now": NOW,
    }
    return Context(**{**fields, **over})


def state(**over: Any) -> WorkloadState:
    fields: dict[str, Any] = {
        "ref": REF,
        "overlay": "overlays/demo",
        "target": PatchTarget(api_version="apps/v1", kind="Deployment", name="trainer"),
        "knobs": KNOBS,
        "pinned": frozenset(),
        "world_size": 1,
        "catalog": catalog(),
        "passport": passport(),
        "config_sha256": "c" * 64,
    }
    return WorkloadState(**{**fields, **over})


def digests(**over: str) -> PolicyDigests:
    fields = {
        "catalog_sha256": "a" * 64,
        "passport_id": "pilot",
        "passport_sha256": "b" * 64,
        "config_sha256": "c" * 64,
    }
    return PolicyDigests(**{**fields, **over})


def plan(**over: Any) -> Plan:
    fields: dict[str, Any] = {
        "workload": REF,
        "overlay": "overlays/demo",
        "target": PatchTarget(api_version="apps/v1", kind="Deployment", name="trainer"),
        "chord": "INPUT-STRAGGLER",
        "changes": (change("dataloader_num_workers", 2, 4),),
        "knobs": {"dataloader_num_workers": 4},
        "invariants": (InvariantState(name=InvariantName.GLOBAL_BATCH, before=128, after=128, formula="f"),),
        "policy": digests(),
        "rationale": "because",
        "observation": observation(SignalName.STRAGGLER),
        "created_at": format_time(NOW),
        "mk_version": "0.0.0",
    }
    return Plan.make(**{**fields, **over})


def pull_request(**over: Any) -> PullRequest:
    fields: dict[str, Any] = {
        "number": 1,
        "title": "t",
        "body": "b",
        "state": PrState.OPEN,
        "draft": False,
        "base": "main",
        "branch": REF.branch,
        "head_sha": SHA_B,
        "author": IDENTITY,
        "workload": REF.key,
        "chord": "INPUT-STRAGGLER",
        "plan_digest": "1" * 64,
        "created_at": format_time(NOW),
        "updated_at": format_time(NOW),
        "changes": {"dataloader_num_workers": (2, 4)},
    }
    return PullRequest(**{**fields, **over})


@dataclass
class StandingClock:
    """A clock that moves when told to; sleeping moves it."""

    at: datetime = NOW
    ticks: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.ticks

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.ticks += seconds


def words(items: Iterable[object]) -> list[str]:
    return [str(item) for item in items]
