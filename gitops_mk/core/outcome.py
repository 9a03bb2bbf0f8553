"""What came of a change: what was seen before it was proposed, held against what is seen since it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gitops_mk.model.signal import Observation, Signal

# Of the same signal: how much larger it must be to be called worse, and not the same.
WORSE = 1.5
Verdict = Literal["kept", "no_effect", "regressed"]


@dataclass(frozen=True)
class Outcome:
    """One word, and a line for each signal that was seen before or is seen now."""

    verdict: Verdict
    lines: tuple[str, ...]


def judge_outcome(before: Observation, after: Observation) -> Outcome | None:
    """Did it help? None while there is not enough to say so.

    Worse is what was not there before, or is half as large again; whether it is the change's doing is for a reviewer to say.
    """
    if after.insufficient:
        return None
    then = {s.name: s for s in before.signals if s.found}
    now = {s.name: s for s in after.signals if s.found}
    lines = tuple(_line(str(name), then.get(name), now.get(name)) for name in sorted({*then, *now}))
    if any(name not in then or _grew(then[name], signal) for name, signal in now.items()):
        return Outcome("regressed", lines)
    return Outcome("kept" if not now else "no_effect", lines)


def _grew(before: Signal, now: Signal) -> bool:
    old, new = before.evidence.effect, now.evidence.effect
    return old is not None and new is not None and old > 0 and new > WORSE * old


def _line(name: str, before: Signal | None, now: Signal | None) -> str:
    return f"{name}: {_size(before)} before, {_size(now)} now"


def _size(signal: Signal | None) -> str:
    if signal is None:
        return "not seen"
    effect = signal.evidence.effect
    return "seen" if effect is None else f"{100 * effect:.0f} %"
