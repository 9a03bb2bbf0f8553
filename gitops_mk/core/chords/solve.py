"""The arithmetic recipes share: moves in integers, within limits, that keep a product exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gitops_mk.model.knob import KnobChange
from gitops_mk.model.passport import KnobLimit
from gitops_mk.model.verdict import Reason

GRAD_ACCUM = "grad_accum_steps"
MICROBATCH = "microbatch_size"


@dataclass(frozen=True)
class State:
    """Where the workload stands: knob values, the limits to move in, and the profile to go back to (if one is known)."""

    knobs: Mapping[str, int]
    limits: Mapping[str, KnobLimit]
    stable_profile: Mapping[str, int] | None = None
    # What the passport lets a recipe move; a recipe may leave the others alone, never touch them.
    allowed: frozenset[str] = frozenset()
    # What was seen, for a recipe that serves several signals.
    signals: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Solution:
    """The moves of a chord; or `unsolved`, the sentence that says why there are none, under `reason`."""

    changes: tuple[KnobChange, ...] = ()
    rationale: str = ""
    unsolved: str | None = None
    reason: Reason | None = None


def unsolved(reason: Reason, why: str) -> Solution:
    """No targets can be had."""
    return Solution(unsolved=why, reason=reason)


def needs(state: State, *knobs: str) -> Solution | None:
    """A refusal when one of `knobs` has no value on the workload; None when all have."""
    missing = tuple(k for k in knobs if k not in state.knobs)
    if not missing:
        return None
    return unsolved(Reason.UNKNOWN_KNOB, f"the workload carries no value for {', '.join(missing)}")


def raised(state: State, knob: str, *, factor: int = 2) -> int:
    """`knob` times `factor`, cut to what its maximum and its largest step allow. Never below where it stands."""
    now = state.knobs[knob]
    target = max(now + 1, now * factor)
    limit = state.limits.get(knob)
    if limit is None:
        return target
    return max(now, min(target, limit.max, now + limit.max_delta))


def lowered(state: State, knob: str, *, factor: int = 2) -> int:
    """`knob` divided by `factor`, cut to what its minimum and its largest step allow. Never above where it stands."""
    now = state.knobs[knob]
    target = now // factor
    limit = state.limits.get(knob)
    if limit is None:
        return target
    return min(now, max(target, limit.min, now - limit.max_delta))


def _fits(state: State, knob: str, value: int) -> bool:
    limit = state.limits.get(knob)
    if limit is None:
        return value >= 1
    return limit.min <= value <= limit.max and abs(value - state.knobs[knob]) <= limit.max_delta


def split_batch(state: State, *, up: bool = True) -> Solution:
    """Trade microbatch size against accumulation with their product unchanged: the smallest integer factor that fits.

    `up`: more, smaller microbatches. Otherwise fewer, larger ones.
    """
    lacking = needs(state, GRAD_ACCUM, MICROBATCH)
    if lacking:
        return lacking
    grow, shrink = (GRAD_ACCUM, MICROBATCH) if up else (MICROBATCH, GRAD_ACCUM)
    high, low = state.knobs[grow], state.knobs[shrink]
    divisors = [f for f in range(2, low + 1) if low % f == 0]
    for factor in divisors:
        if _fits(state, grow, high * factor) and _fits(state, shrink, low // factor):
            return _batch_solution(grow, shrink, high, low, factor)
    tried = f"factors {', '.join(map(str, divisors[:4]))}" if divisors else "no whole factor divides it"
    return unsolved(
        Reason.INVARIANT_VIOLATED,
        f"{grow} {high} can't rise while {shrink} {low} falls by the same whole factor within the limits ({tried})",
    )


def _batch_solution(grow: str, shrink: str, high: int, low: int, factor: int) -> Solution:
    changes = (
        KnobChange(knob=grow, before=high, after=high * factor),
        KnobChange(knob=shrink, before=low, after=low // factor),
    )
    return Solution(
        changes=tuple(sorted(changes, key=lambda c: c.knob)),
        rationale=f"{grow} {high} to {high * factor}, {shrink} {low} to {low // factor}: their product stays {high * low}",
    )


def moves(state: State, targets: Mapping[str, int], rationale: str) -> Solution:
    """The changes from where `state` stands to `targets`; knobs that already stand there are left out."""
    changes = tuple(
        KnobChange(knob=knob, before=state.knobs[knob], after=value)
        for knob, value in sorted(targets.items())
        if value != state.knobs[knob]
    )
    if not changes:
        at = ", ".join(f"{k}={state.knobs[k]}" for k in sorted(targets))
        return unsolved(Reason.OUT_OF_BOUNDS, f"nothing is left to move within the limits ({at})")
    return Solution(changes=changes, rationale=rationale)
