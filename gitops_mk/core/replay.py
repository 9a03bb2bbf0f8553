"""A policy asked again, window by window of a recorded run: what it would have said and done, and when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gitops_mk.core.confirm import Sightings
from gitops_mk.core.recommend import Policy, recommend
from gitops_mk.errors import InputError
from gitops_mk.model.base import Frozen
from gitops_mk.model.chord import Intent
from gitops_mk.model.signal import Classification, Observation, SignalName
from gitops_mk.model.telemetry import Window

FEWEST_LINES: Final = 30
MOST_LINES: Final = 100_000


class Act(StrEnum):
    """What the policy would have done after a window."""

    HOLD = "hold"
    REPORT = "report_only"
    WAIT = "wait"
    PROPOSE = "propose"
    OPEN = "open_already"
    CLOSE = "close"


# What may go on for many windows without being news.
LASTING: Final = frozenset({Act.HOLD, Act.REPORT, Act.OPEN})


class Seen(Frozen):
    """One found signal. `effect` is a fraction of the quiet level; `in_a_row` counts windows, this one included."""

    name: SignalName
    effect: float | None
    culprits: tuple[str, ...]
    summary: str
    actionable: bool
    in_a_row: int


class Row(Frozen):
    """One window: where it stood, what was seen in it, and what the policy would have done. `confirmed` counts the windows
    in a row that asked for a chord; `chord` is the one proposed or open.
    """

    number: int
    window: Window
    classification: Classification
    signals: tuple[Seen, ...]
    pr_worthy: bool
    act: Act
    says: str
    chord: Intent | None
    confirmed: int


def check_windows(*, window: int, hop: int, confirm: int) -> None:
    """Whether these sizes make sense. Raises InputError."""
    if not FEWEST_LINES <= window <= MOST_LINES:
        raise InputError(
            f"--window {window}, expected {FEWEST_LINES} to {MOST_LINES}",
            hint="a detector needs 30 steps to answer; 300 is a good start",
        )
    if not 1 <= hop <= window:
        raise InputError(
            f"--hop {hop}, expected 1 to the window's {window}", hint="a fifth of --window is a good start"
        )
    if confirm < 1:
        raise InputError(f"--confirm {confirm}, expected 1 or more", hint="2 asks for a second window that agrees")


class Replay:
    """The policy's memory over the windows of one run: give it observations, oldest first.

    A signal that asks for a chord in `confirm` windows in a row is proposed; what was proposed stays open until a window
    with enough evidence no longer shows it. A window that can't tell neither confirms nor denies.
    """

    def __init__(self, *, confirm: int = 3, policy: Policy = "chord") -> None:
        self._confirm = confirm
        self._policy: Policy = policy
        self._number = 0
        self._sightings = Sightings()
        self._causes: frozenset[SignalName] = frozenset()
        self._chord: Intent | None = None

    def add(self, observation: Observation) -> Row:
        """Count one window and say what would have been done."""
        self._number += 1
        self._sightings.add(observation)
        found = tuple(s for s in observation.signals if s.found)
        confirmed = max((self._sightings.asked[s.name] for s in found if s.actionable), default=0)
        act, chord, says = self._answer(observation, confirmed)
        return Row(
            number=self._number,
            window=observation.window,
            classification=observation.classification,
            signals=tuple(
                Seen(
                    name=s.name,
                    effect=s.evidence.effect,
                    culprits=s.evidence.culprits,
                    summary=s.evidence.summary,
                    actionable=s.actionable,
                    in_a_row=self._sightings.seen[s.name],
                )
                for s in found
            ),
            pr_worthy=observation.pr_worthy,
            act=act,
            says=says,
            chord=chord,
            confirmed=confirmed,
        )

    def _answer(self, observation: Observation, confirmed: int) -> tuple[Act, Intent | None, str]:
        if self._chord is not None:
            return self._while_open(observation, self._chord)
        if observation.insufficient:
            return Act.HOLD, None, "hold: evidence is insufficient"
        if not observation.incident:
            return Act.HOLD, None, "hold"
        if confirmed == 0:
            return Act.REPORT, None, "report only"
        if confirmed < self._confirm:
            return Act.WAIT, None, f"wait for confirmation ({confirmed} of {self._confirm})"
        asked = self._sightings.asked
        ready = tuple(s for s in observation.signals if s.found and s.actionable and asked[s.name] >= self._confirm)
        # Only what is confirmed may choose the chord.
        chord = recommend(
            observation.model_copy(update={"signals": ready}),
            policy=self._policy,
            away_from_stable=False,
            stable_intervals=0,
            intervals_needed=1,
        )[0]
        self._chord, self._causes = chord, frozenset(s.name for s in ready)
        return Act.PROPOSE, chord, f"propose {chord}"

    def _while_open(self, observation: Observation, chord: Intent) -> tuple[Act, Intent | None, str]:
        gone = Classification.NO_ACTIONABLE_SIGNAL
        if any(s.name in self._causes and s.classification is not gone for s in observation.signals):
            return Act.OPEN, chord, f"open already: {chord}"
        self._chord, self._causes = None, frozenset()
        return Act.CLOSE, chord, "close: cause gone"


@dataclass(frozen=True)
class Stretch:
    """Consecutive rows that say the same; mostly one."""

    rows: tuple[Row, ...]

    @property
    def first(self) -> Row:
        """The oldest."""
        return self.rows[0]

    @property
    def last(self) -> Row:
        """The newest."""
        return self.rows[-1]


def stretches(rows: Iterable[Row]) -> tuple[Stretch, ...]:
    """The rows, those without news put together with the one before: the same signals, culprits and answer, as lasts."""
    out: list[list[Row]] = []
    for row in rows:
        if out and row.act in LASTING and _gist(out[-1][-1]) == _gist(row):
            out[-1].append(row)
        else:
            out.append([row])
    return tuple(Stretch(tuple(part)) for part in out)


def _gist(row: Row) -> tuple[object, ...]:
    return row.says, row.classification, tuple((s.name, s.culprits) for s in row.signals)
