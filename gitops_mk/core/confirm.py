"""Confirmation: a signal is acted on when consecutive windows show it, and not at first sight.

Of healthy windows one in some hundreds shows a signal that is not there; three in a row that agree are rarer than one in a
thousand (docs/decision-quality.md). A window that can't tell neither confirms nor denies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from gitops_mk.core.recommend import ADVANCED
from gitops_mk.model.signal import Classification, Observation, Signal, SignalName


@dataclass
class Sightings:
    """How many windows in a row showed each signal (`seen`), and showed it so that a chord may answer (`asked`)."""

    seen: dict[SignalName, int] = field(default_factory=dict)
    asked: dict[SignalName, int] = field(default_factory=dict)

    def add(self, observation: Observation) -> None:
        """Count one window."""
        for signal in observation.signals:
            if signal.classification is Classification.INSUFFICIENT_EVIDENCE:
                continue
            self.seen[signal.name] = self.seen.get(signal.name, 0) + 1 if signal.found else 0
            self.asked[signal.name] = self.asked.get(signal.name, 0) + 1 if _asks(signal) else 0

    def with_one_more(self, observation: Observation) -> dict[SignalName, int]:
        """How often each was so that a chord may answer, this window included."""
        sightings = Sightings(dict(self.seen), dict(self.asked))
        sightings.add(observation)
        return sightings.asked

    def clear(self) -> None:
        """Begin anew: what comes next is not consecutive to what was seen."""
        self.seen.clear()
        self.asked.clear()


def _asks(signal: Signal) -> bool:
    return signal.found and (signal.actionable or signal.name in ADVANCED)


def confirmed(
    observation: Observation, sighted: Mapping[SignalName, int], need: int, *, already: Collection[SignalName] = ()
) -> tuple[Observation, int]:
    """The observation without those found signals that fewer than `need` windows in a row showed, this one included, and that
    do not count as confirmed `already`; and how many showed the one that is left out and was seen most often, 0 without any.

    `sighted`: in how many windows in a row each was seen, this one counted.
    """
    early = {s.name: sighted.get(s.name, 1) for s in observation.signals if _asks(s) and s.name not in already}
    early = {name: rows for name, rows in early.items() if rows < need}
    kept = tuple(s for s in observation.signals if s.name not in early)
    return observation.model_copy(update={"signals": kept}), max(early.values(), default=0)
