"""How often in a row a workload was seen stable: what RECOVER-RELOCK waits for."""

from __future__ import annotations

from dataclasses import dataclass

from gitops_mk.core.envelope.rules.telemetry_is_new import TIMELESS
from gitops_mk.model.signal import Observation
from gitops_mk.model.telemetry import Window


def moved_on(seen: Observation, before: Window | None) -> bool:
    """True where the telemetry is not that of `before` again: an interval that was counted is no further one."""
    return seen.window != before or seen.source == TIMELESS


@dataclass
class Streak:
    """`stable_intervals` counts stable observations in a row, `window` is the last one's."""

    stable_intervals: int = 0
    window: Window | None = None

    def add(self, seen: Observation) -> None:
        """Count one observation."""
        self.stable_intervals = self.stable_intervals + moved_on(seen, self.window) if seen.stable else 0
        self.window = seen.window
