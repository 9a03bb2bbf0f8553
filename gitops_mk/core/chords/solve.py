"""The arithmetic recipes share: moves in integers, within limits, that keep a product exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gitops_mk.model.knob import KnobChange
from gitops_mk.model.passport import KnobLimit
from gitops_mk.model.signal import Evidence, SignalName
from gitops_mk.model.verdict import Reason


@dataclass(frozen=True)
class State:
    """Where the workload stands: knob values, the limits to move in, and the profile to go back to (if one is known)."""

    knobs: Mapping[str, int]
    limits: Mapping[str, KnobLimit]
    stable_profile: Mapping[str, int] | None = None
    # What the passport lets a recipe move; a recipe may leave the others alone, never touch them.
    allowed: frozenset[str] = frozenset()
    # What was seen, by signal, and how large it is.
    seen: Mapping[SignalName, Evidence] = field(default_factory=dict)


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


def movable(state: State, *knobs: str) -> list[str]:
    """Those of `knobs` that the workload carries and the passport lets move; the first where that is none of them, so that
    the envelope says why.
    """
    return [knob for knob in knobs if knob in state.knobs and knob in state.allowed] or [knobs[0]]


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
