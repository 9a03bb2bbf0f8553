"""What the gate looks at and what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gitops_mk.model.base import Frozen
from gitops_mk.model.cluster import ClusterSeen
from gitops_mk.model.permit import Permit
from gitops_mk.model.verdict import Reason, Verdict


class KillReading(Frozen):
    """One source of the kill switch, as just read. `configured` is false for a source that is not in use."""

    source: str
    configured: bool
    active: bool
    detail: str


def first_active(readings: Iterable[KillReading]) -> KillReading | None:
    """The source that stops everything, if any does."""
    return next((reading for reading in readings if reading.active), None)


class VerifyOutcome(Frozen):
    """The answer of verify for one pair of commits. `tree` is what a merge would give.

    `cluster` is what a cluster said; None where none was consulted.
    """

    ok: bool
    base: str
    head: str
    tree: str | None
    plan_digest: str | None
    workload: str | None
    steps: tuple[Verdict, ...]
    cluster: ClusterSeen | None = None

    @property
    def reason(self) -> Reason | None:
        """The first step's that said no."""
        return next((s.reason for s in self.steps if not s.allowed), None)

    @property
    def message(self) -> str:
        """What the first step that said no said."""
        return next((s.message for s in self.steps if not s.allowed), "")


@dataclass(frozen=True)
class GateDecision:
    """The gate's answer: every closed gate in the contract's order, and a permit exactly when none is closed."""

    verdicts: tuple[Verdict, ...]
    permit: Permit | None

    @property
    def allowed(self) -> bool:
        """True when there is a permit."""
        return self.permit is not None

    @property
    def closed(self) -> tuple[Verdict, ...]:
        """The gates that said no."""
        return tuple(v for v in self.verdicts if not v.allowed)

    @property
    def first(self) -> Verdict | None:
        """The first closed gate, which gives the reason."""
        return next(iter(self.closed), None)
