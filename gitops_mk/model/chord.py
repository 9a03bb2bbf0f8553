"""Chords and their catalog (`chord_catalog.v1`): guardrails of each macro-operation, never target values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from gitops_mk.model.base import Frozen
from gitops_mk.model.canonical import digest
from gitops_mk.model.knob import KnobName
from gitops_mk.model.signal import SIGNAL_WORDS

ChordId = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]*([-/][A-Z0-9]+)*$", max_length=64)]


class Intent(StrEnum):
    """The chords that the planner knows how to compute, by id."""

    NORMAL_HOLD = "NORMAL-HOLD"
    DRIFT_RETUNE = "DRIFT-RETUNE"
    BURST_ABSORB = "BURST-ABSORB"
    INPUT_STRAGGLER = "INPUT-STRAGGLER"
    RECOVER_RELOCK = "RECOVER-RELOCK"
    SCALAR = "SCALAR"
    TIMEOUT_GUARD = "TIMEOUT-GUARD"
    COMM_CONGESTION = "COMM-CONGESTION"
    NEAR_HANG = "NEAR-HANG/TIMEOUT-GUARD"


class InvariantName(StrEnum):
    """What a chord may promise to keep."""

    GLOBAL_BATCH = "global_batch"
    TAIL_LATENCY = "tail_latency"


class Budget(Frozen):
    """At most `max_changes` merged changes within `window_ms` milliseconds."""

    max_changes: Annotated[int, Field(ge=0)]
    window_ms: Annotated[int, Field(gt=0)]


class Chord(Frozen):
    """One macro-operation. `required_signals` must all be seen; `cooldown_ms` counts from the last merge of this chord."""

    id: ChordId
    intent: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    risk_tier: Literal["safe", "advanced"]
    required_signals: tuple[str, ...]
    invariants: tuple[InvariantName, ...]
    knobs_touched: tuple[KnobName, ...]
    cooldown_ms: Annotated[int, Field(ge=0)] | None = None
    budget: Budget | None = None

    @field_validator("required_signals")
    @classmethod
    def _known_signals(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [word for word in value if word not in SIGNAL_WORDS]
        if unknown:
            raise ValueError(f"unknown signal {unknown[0]!r}, expected one of {', '.join(SIGNAL_WORDS)}")
        return value


class ChordCatalog(Frozen):
    """The chords a team has: ids are unique."""

    schema_version: Literal["chord_catalog.v1"]
    chords: Annotated[tuple[Chord, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique_ids(self) -> Self:
        seen: set[str] = set()
        for chord in self.chords:
            if chord.id in seen:
                raise ValueError(f"chord id {chord.id!r} stands twice")
            seen.add(chord.id)
        return self

    def get(self, chord_id: str) -> Chord | None:
        """The chord of that id, if the catalog has it."""
        return next((c for c in self.chords if c.id == chord_id), None)

    @property
    def sha256(self) -> str:
        """Digest of the catalog's meaning, whatever its formatting."""
        return digest(self.plain())
