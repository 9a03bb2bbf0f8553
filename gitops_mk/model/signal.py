"""Signals: what telemetry shows, each classified, with the evidence that says so."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from gitops_mk.model.base import Frozen
from gitops_mk.model.telemetry import Environment, IngestCounts, Pace, Window

Finite = Annotated[float, Field(allow_inf_nan=False)]


class SignalName(StrEnum):
    """The signals a detector may raise. `drift` (either of the two), `incident` and `stable` are derived, never detected."""

    DRIFT = "drift"
    DRIFT_LOSS = "drift_loss"
    DRIFT_STEP = "drift_step"
    BURST = "burst"
    STRAGGLER = "straggler"
    GPU_SATURATED = "gpu_saturated"
    COMM_CONGESTION = "comm_congestion"
    NEAR_HANG = "near_hang"


DRIFTS = (SignalName.DRIFT_LOSS, SignalName.DRIFT_STEP)
INCIDENT = "incident"
STABLE = "stable"
SIGNAL_WORDS = (*(str(name) for name in SignalName), INCIDENT, STABLE)


class Classification(StrEnum):
    """The three answers a detector may give. Absence of evidence is never `no_actionable_signal`."""

    SIGNAL_FOUND = "signal_found"
    NO_ACTIONABLE_SIGNAL = "no_actionable_signal"
    INSUFFICIENT_EVIDENCE = "insufficient_evidence"


class Evidence(Frozen):
    """Why a detector said what it said.

    `effect` and `threshold` are fractions (0.31 = 31 %) of the quiet level, `noise` the robust relative spread of it.
    `onset_step` and `duration_steps` are in steps; `series` is the metric over the steps from the first to the last of
    `series_steps`, oldest first, at most 64 points in `unit`; `cause` is where the time is lost (`input`, `memory`, `clock`,
    `compute`), where other columns locate it; `values` holds the further numbers a reader may want to check.
    """

    summary: str
    metric: str
    unit: str = "ms"
    effect: Finite | None = None
    noise: Finite | None = None
    threshold: Finite | None = None
    onset_step: int | None = None
    duration_steps: int | None = None
    culprits: tuple[str, ...] = ()
    cause: str | None = None
    series: tuple[float, ...] = ()
    series_steps: tuple[int, int] | None = None
    values: dict[str, float] = {}


class Signal(Frozen):
    """One detector's answer. `actionable`: a chord may answer to it, on this evidence alone; else it is for people to read."""

    name: SignalName
    classification: Classification
    evidence: Evidence
    actionable: bool = False

    @property
    def found(self) -> bool:
        """True when the signal is there."""
        return self.classification is Classification.SIGNAL_FOUND


class Observation(Frozen):
    """All detectors' answers over one stretch of telemetry; one entry a registered detector."""

    signals: tuple[Signal, ...]
    environment: Environment
    ingest: IngestCounts
    window: Window
    source: str
    format: str
    pace: Pace | None = None

    @property
    def found(self) -> tuple[SignalName, ...]:
        """The signals that are there, in registry order."""
        return tuple(s.name for s in self.signals if s.found)

    @property
    def seen(self) -> dict[SignalName, Evidence]:
        """The evidence of the signals that are there."""
        return {s.name: s.evidence for s in self.signals if s.found}

    @property
    def pr_worthy(self) -> bool:
        """True when a found signal is one that a chord may answer to: this observation alone would carry a pull request.

        Whether one is opened depends on more: confirmation, knobs and their limits, what it costs, and what was tried.
        """
        return any(s.found and s.actionable for s in self.signals)

    @property
    def classification(self) -> Classification:
        """All answers as one."""
        if self.incident:
            return Classification.SIGNAL_FOUND
        return Classification.INSUFFICIENT_EVIDENCE if self.insufficient else Classification.NO_ACTIONABLE_SIGNAL

    @property
    def incident(self) -> bool:
        """True when any signal is there."""
        return bool(self.found)

    @property
    def insufficient(self) -> bool:
        """True when nothing was found and not one detector had the evidence to say so."""
        return not self.incident and not any(
            s.classification is Classification.NO_ACTIONABLE_SIGNAL for s in self.signals
        )

    @property
    def stable(self) -> bool:
        """True when there was enough evidence and no signal in it."""
        return not self.incident and not self.insufficient

    def words(self) -> frozenset[str]:
        """What a chord's `required_signals` may be met by: the found signals, `incident`, `stable`."""
        words = {str(name) for name in self.found}
        if words & set(DRIFTS):
            words.add(str(SignalName.DRIFT))
        if self.incident:
            words.add(INCIDENT)
        if self.stable:
            words.add(STABLE)
        return frozenset(words)

    def facets(self) -> dict[str, bool]:
        """Every word of `SIGNAL_WORDS`, and whether it holds."""
        words = self.words()
        return {word: word in words for word in SIGNAL_WORDS}

    def signal(self, name: SignalName) -> Signal | None:
        """The answer of the detector for `name`, if one was run."""
        return next((s for s in self.signals if s.name is name), None)
