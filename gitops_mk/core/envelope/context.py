"""All that a rule may look at: the action, the policy, and the state it would act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gitops_mk.model.change import AppliedChange, Hold
from gitops_mk.model.chord import Chord, ChordCatalog
from gitops_mk.model.passport import Passport
from gitops_mk.model.plan import Action
from gitops_mk.model.signal import Observation
from gitops_mk.model.weighing import Weighing
from gitops_mk.model.workload import Delivery


@dataclass(frozen=True)
class Context:
    """One action before its judges. `applied` and `holds` are the workload's own, `knobs` what the base branch builds.

    `weighing`: what the change should bring against its cost.

    `rollback`: the action undoes this merged change; what guards against doing too much does not guard against undoing.
    `delivery`: how a merged change reaches the workload.
    """

    action: Action
    catalog: ChordCatalog
    passport: Passport
    knobs: Mapping[str, int]
    observation: Observation
    now: datetime
    world_size: int = 1
    stable_intervals: int = 0
    approve_advanced: bool = False
    applied: tuple[AppliedChange, ...] = ()
    holds: tuple[Hold, ...] = ()
    rollback: AppliedChange | None = None
    weighing: Weighing | None = None
    delivery: Delivery = "annotation"

    @property
    def chord(self) -> Chord | None:
        """The chord's entry in the catalog."""
        return self.catalog.get(self.action.chord)

    @property
    def after(self) -> dict[str, int]:
        """The knob values after the action."""
        return {**self.knobs, **{c.knob: c.after for c in self.action.changes}}
