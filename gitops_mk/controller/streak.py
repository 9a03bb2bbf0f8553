"""How often in a row a workload was seen stable, which RECOVER-RELOCK waits for, or with a signal, which the others do."""

from __future__ import annotations

from dataclasses import dataclass, field

from gitops_mk.core.confirm import Sightings
from gitops_mk.core.envelope.rules.telemetry_is_new import TIMELESS
from gitops_mk.model.signal import Observation
from gitops_mk.model.telemetry import Window


def moved_on(seen: Observation, before: Window | None) -> bool:
    """True where there are newer steps than `before` had: what was counted is no further interval, though a window slides."""
    if before is None or seen.source == TIMELESS:
        return True
    return (seen.window.last_step, seen.window.last_ts) != (before.last_step, before.last_ts)


@dataclass
class Streak:
    """`stable_intervals` counts stable observations in a row, `sightings` those that show a signal; `window` is the last one's."""

    stable_intervals: int = 0
    window: Window | None = None
    sightings: Sightings = field(default_factory=Sightings)

    def add(self, seen: Observation) -> None:
        """Count one observation."""
        if moved_on(seen, self.window):
            self.sightings.add(seen)
        self.stable_intervals = self.stable_intervals + moved_on(seen, self.window) if seen.stable else 0
        self.window = seen.window

    def broken(self) -> None:
        """A turn failed: what comes next is not consecutive to what was seen."""
        self.stable_intervals = 0
        self.sightings.clear()
