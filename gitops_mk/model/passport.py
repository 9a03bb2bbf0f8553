"""Passports (`passport.v0`): the limits a team gives its workload."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gitops_mk.model.base import Frozen
from gitops_mk.model.canonical import digest
from gitops_mk.model.chord import ChordId, InvariantName
from gitops_mk.model.knob import KNOWN_KNOBS, KnobName, KnobValue

BUILT_IN = ("pilot", "safe", "perf", "cost", "io", "comm", "recovery")

PassportId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


class KnobLimit(Frozen):
    """Where one knob may stand, and how far it may move in one step.

    `max_delta` bounds |after - before|. `description` declares a knob the product does not know.
    """

    min: KnobValue
    max: KnobValue
    max_delta: Annotated[int, Field(ge=1)]
    description: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class PassportBudget(Frozen):
    """At most `max_changes` merged changes of the workload within `window_s` seconds, and of those at most
    `max_same_direction` that move one knob the same way.
    """

    max_changes: Annotated[int, Field(ge=0)] = 6
    window_s: Annotated[int, Field(gt=0)] = 86_400
    max_same_direction: Annotated[int, Field(ge=1)] = 3


class Economics(Frozen):
    """What a delivery costs this workload, in seconds of training, and what a change must bring.

    `restart_s`: from the old pods' end to the first new step. `warm_up_s`: what the first steps take longer in all.
    `checkpoint_every_s` counts where the job does not announce its checkpoints, `horizon_s` where nothing says how long it
    goes on. Time saved must be `min_ratio` times the cost, and at least `min_gain_pct` percent of every step.
    """

    restart_s: Annotated[int, Field(ge=0, le=86_400)] = 300
    warm_up_s: Annotated[int, Field(ge=0, le=86_400)] = 60
    checkpoint_every_s: Annotated[int, Field(ge=0, le=604_800)] = 1_800
    horizon_s: Annotated[int, Field(ge=0, le=31_536_000)] = 86_400
    min_ratio: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 3.0
    min_gain_pct: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0


class InvariantRule(Frozen):
    """An invariant and the corridor it may move in, in percent of its value before (0: exactly)."""

    name: InvariantName
    tolerance_pct: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0


class Observability(Frozen):
    """What telemetry must offer before anything is proposed."""

    min_steps: Annotated[int, Field(ge=1)] = 30
    max_dropped_pct: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 20.0


class Recovery(Frozen):
    """When RECOVER-RELOCK may walk back: after this many stable observations in a row."""

    stable_intervals: Annotated[int, Field(ge=1)] = 3


class Actuators(Frozen):
    """Which knobs a running trainer picks up in place (`hot`: ConfigMap) and which need a restart (`cold`: annotation)."""

    hot: tuple[KnobName, ...] = ()
    cold: tuple[KnobName, ...] = ()


class Gates(Frozen):
    """What a merge needs beyond the gate's own order: approving reviews on the head commit."""

    approvals: Annotated[int, Field(ge=0, le=10)] = 1


class Passport(Frozen):
    """The limits of one workload. `allowed_knobs` need a limit each; `world_size` counts the data-parallel
    workers where neither the configuration nor the workload does.
    """

    schema_version: Literal["passport.v0"]
    id: PassportId
    description: str = ""
    allowed_chords: tuple[ChordId, ...]
    allowed_knobs: tuple[KnobName, ...]
    knobs: dict[KnobName, KnobLimit]
    cooldown_s: Annotated[int, Field(ge=0)] = 1_800
    budget: PassportBudget = PassportBudget()
    economics: Economics = Economics()
    invariants: tuple[InvariantRule, ...] = (InvariantRule(name=InvariantName.GLOBAL_BATCH),)
    observability: Observability = Observability()
    recovery: Recovery = Recovery()
    actuators: Actuators = Actuators()
    gates: Gates = Gates()
    world_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        for knob in self.allowed_knobs:
            if knob not in self.knobs:
                raise ValueError(f"allowed knob {knob!r} has no limits under knobs")
        for knob, limit in self.knobs.items():
            if knob not in KNOWN_KNOBS and not limit.description:
                raise ValueError(f"knob {knob!r} is not a known one: declare it with a description")
        twice = set(self.actuators.hot) & set(self.actuators.cold)
        if twice:
            raise ValueError(f"knob {sorted(twice)[0]!r} is both hot and cold")
        return self

    def knows(self, knob: str) -> bool:
        """True for the built-in knobs and for those declared here."""
        return knob in KNOWN_KNOBS or knob in self.knobs

    def invariant(self, name: InvariantName) -> InvariantRule:
        """The rule for `name`; one the passport does not mention must hold exactly."""
        return next((rule for rule in self.invariants if rule.name is name), InvariantRule(name=name))

    @property
    def sha256(self) -> str:
        """Digest of the passport's meaning, whatever its formatting."""
        return digest(self.plain())
