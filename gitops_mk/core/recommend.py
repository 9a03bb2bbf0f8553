"""From signals to chords: which macro-operations are worth judging, most telling first."""

from __future__ import annotations

from typing import Literal

from gitops_mk.model.chord import Intent
from gitops_mk.model.signal import Observation, SignalName

Policy = Literal["chord", "scalar"]

# One cause, one chord. The order is that of how surely the cause is located: a named straggler before a mere slow-down.
FOR_SIGNAL: tuple[tuple[SignalName, Intent], ...] = (
    (SignalName.STRAGGLER, Intent.INPUT_STRAGGLER),
    (SignalName.GPU_SATURATED, Intent.SCALAR),
    (SignalName.COMM_CONGESTION, Intent.COMM_CONGESTION),
    (SignalName.NEAR_HANG, Intent.NEAR_HANG),
    (SignalName.BURST, Intent.BURST_ABSORB),
    (SignalName.DRIFT_STEP, Intent.DRIFT_RETUNE),
    (SignalName.DRIFT_LOSS, Intent.DRIFT_RETUNE),
)
# Their chords are advanced: a person has to approve them by name, whatever the evidence.
ADVANCED = frozenset({SignalName.COMM_CONGESTION, SignalName.NEAR_HANG})


def recommend(
    observation: Observation,
    *,
    policy: Policy,
    away_from_stable: bool,
    stable_intervals: int,
    intervals_needed: int,
    since_change: bool = False,
    proven: bool = False,
) -> tuple[Intent, ...]:
    """The chords to judge, in order; a single NORMAL-HOLD where there is nothing to do.

    `away_from_stable`: the knobs differ from the last stable profile. RECOVER-RELOCK answers to a loss that rose since that
    change (`since_change`: all that was seen is from after it), and else waits for `intervals_needed` stable observations in
    a row, of which `stable_intervals` (this one included) were seen; what is `proven` to save time is not walked back.
    """
    if observation.incident:
        worth = {s.name for s in observation.signals if s.found and (s.actionable or s.name in ADVANCED)}
        if away_from_stable and since_change and SignalName.DRIFT_LOSS in worth:
            # The loss rose since the last change, which is what is known to differ.
            return (Intent.RECOVER_RELOCK,)
        chords = tuple(dict.fromkeys(chord for signal, chord in FOR_SIGNAL if signal in worth))
        if chords and policy == "scalar":
            return (Intent.SCALAR,)
        # What no knob can mend, or what may be on purpose, is for people to read: no chord.
        return chords or (Intent.NORMAL_HOLD,)
    if observation.stable and away_from_stable and not proven and stable_intervals >= intervals_needed:
        return (Intent.RECOVER_RELOCK,)
    return (Intent.NORMAL_HOLD,)


def answered_by(chord: str) -> frozenset[SignalName]:
    """The signals that `chord` answers to; for the simple policy's, every one that has a chord."""
    if chord == Intent.RECOVER_RELOCK:
        return frozenset({SignalName.DRIFT_LOSS})
    return frozenset(name for name, answer in FOR_SIGNAL if chord in (answer, Intent.SCALAR))
