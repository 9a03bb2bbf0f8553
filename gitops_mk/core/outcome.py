"""What came of a change: what was promised and seen before it was proposed, held against what is seen since it runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from gitops_mk.core.effect import LEVEL, Effect, saved_time
from gitops_mk.core.envelope.rules.telemetry_is_new import TIMELESS
from gitops_mk.core.lessons import promise_and_came
from gitops_mk.model.plan import Plan
from gitops_mk.model.signal import Observation, Signal, SignalName
from gitops_mk.model.telemetry import Pace

# Of the same signal: how much larger it must be to be called worse, and not the same.
WORSE: Final = 1.5
# Steps that got longer by less than this share are as long as before.
NOTICEABLE: Final = 0.02
# Of what was promised, so much must come.
KEPT_SHARE: Final = 0.5
# A window of time holds a few blocks of steps more or less.
ABOUT: Final = 0.7
Verdict = Literal["kept", "no_effect", "regressed", "inconclusive"]


@dataclass(frozen=True)
class Outcome:
    """One word; the effect on the step time where it could be measured, what was promised of it; and a line for each of
    these, and for each signal that was seen before or is seen now.
    """

    verdict: Verdict
    lines: tuple[str, ...]
    effect: Effect | None = None
    promised: float | None = None


def is_from(after: Observation, since: datetime) -> bool:
    """True when all that was seen is from after `since`. Without times nobody knows, and a scenario has none of its own."""
    return after.source != TIMELESS and after.window.begins_after(since)


def untold(plan: Plan, why: str) -> Outcome:
    """What is said of a change of which nothing can be told."""
    return Outcome("inconclusive", (why,), None, plan.promised)


def judge_outcome(
    plan: Plan, after: Observation, *, sure: Collection[SignalName] | None = None, last_call: bool = False
) -> Outcome | None:
    """Did it help? None while there is not enough to say so; with `last_call` that is an outcome too: inconclusive.

    It is told once there is about as much time as the plan was made on, so that nobody looks again and again until chance
    says yes. Worse is also a loss that diverges since, and, where no time is saved, a signal that was not there before or
    grew by half, if it is `sure` (None: each is); whether that is the change's doing is for a reviewer to say.
    """
    before = plan.observation
    then = {s.name: s for s in before.signals if s.found}
    now = {s.name: s for s in after.signals if s.found}
    new = {name: s for name, s in now.items() if sure is None or name in sure}
    if before.pace is None and not after.insufficient:
        return _by_signals(then, now, new)
    if (
        before.pace is None
        or after.pace is None
        or after.insufficient
        or not (last_call or _as_long(before.pace, after.pace))
    ):
        return untold(plan, "too little telemetry since it runs") if last_call else None
    effect = saved_time(before.pace, after.pace)
    if effect is None:
        return untold(plan, f"too few steps to compare, of {after.window.steps}") if last_call else None
    verdict = _verdict(effect, plan.promised, then, now, new)
    return Outcome(verdict, (_told(effect, plan.promised), *_signals(then, now)), effect, plan.promised)


def _as_long(before: Pace, after: Pace) -> bool:
    """True when about as many steps are there, or about as much time: of slower ones fewer fit into a window of a log."""
    enough = after.steps >= before.steps
    return enough or after.steps * after.mean_ms >= ABOUT * before.steps * before.mean_ms


def _verdict(
    effect: Effect,
    promised: float | None,
    then: dict[SignalName, Signal],
    now: dict[SignalName, Signal],
    new: dict[SignalName, Signal],
) -> Verdict:
    diverges = SignalName.DRIFT_LOSS in new and SignalName.DRIFT_LOSS not in then
    if diverges or effect.high < -NOTICEABLE:
        return "regressed"
    if effect.low <= 0 and _got_worse(then, new):
        return "regressed"
    if promised is None:
        return "no_effect" if then.keys() & now.keys() else "kept"
    enough = KEPT_SHARE * promised
    if effect.low > 0 and effect.saved >= enough:
        return "kept"
    return "no_effect" if effect.high < enough else "inconclusive"


def _by_signals(
    then: dict[SignalName, Signal], now: dict[SignalName, Signal], new: dict[SignalName, Signal]
) -> Outcome:
    """For plans that do not say how fast the run went."""
    if _got_worse(then, new):
        return Outcome("regressed", _signals(then, now))
    return Outcome("no_effect" if now else "kept", _signals(then, now))


def _got_worse(then: dict[SignalName, Signal], now: dict[SignalName, Signal]) -> bool:
    return any(name not in then or _grew(then[name], signal) for name, signal in now.items())


def _grew(before: Signal, now: Signal) -> bool:
    old, new = before.evidence.effect, now.evidence.effect
    return old is not None and new is not None and old > 0 and new > WORSE * old


def _told(effect: Effect, promised: float | None) -> str:
    came = f"[{100 * effect.low:.1f} to {100 * effect.high:.1f}, {100 * LEVEL:.0f} % interval]"
    saved = f"time saved: {100 * effect.saved:.1f} %"
    told = saved if promised is None else promise_and_came(promised, effect.saved)
    return f"{told} {came}; mean step {effect.before_ms:.4g} ms before, {effect.after_ms:.4g} ms now ({effect.steps} steps each)"


def _signals(then: dict[SignalName, Signal], now: dict[SignalName, Signal]) -> tuple[str, ...]:
    return tuple(_line(str(name), then.get(name), now.get(name)) for name in sorted({*then, *now}))


def _line(name: str, before: Signal | None, now: Signal | None) -> str:
    return f"{name}: {_size(before)} before, {_size(now)} now"


def _size(signal: Signal | None) -> str:
    if signal is None:
        return "not seen"
    effect = signal.evidence.effect
    return "seen" if effect is None else f"{100 * effect:.0f} %"
