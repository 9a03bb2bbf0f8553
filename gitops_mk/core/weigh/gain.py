"""What a chord's moves should save, as a share of a step's time: one estimate a signal, from its evidence and the knobs.

An estimate is the effect that was measured, less what the models in `core.chords.relief` leave of it. Where telemetry
locates the cause elsewhere, no knob mends it; where it locates no cause, half of it is promised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gitops_mk.core.chords.relief import MICROBATCH, PREFETCH, WORKERS, bursts, memory, slow_loader
from gitops_mk.core.chords.sizes import BUCKET, lost_share, slow_worker, stalled_batches, times_grown
from gitops_mk.core.recommend import answered_by
from gitops_mk.core.render.figures import brief
from gitops_mk.model.chord import Intent
from gitops_mk.model.knob import KnobChange
from gitops_mk.model.signal import Evidence, SignalName
from gitops_mk.model.weighing import Gain

UNLOCATED: Final = 0.5
# What these are for is not measured in time.
UNWEIGHED: Final[Mapping[str, str]] = {
    Intent.RECOVER_RELOCK: "no time is saved: it gives back what an earlier change took",
    Intent.TIMEOUT_GUARD: "it guards against an aborted run, and saves no time in one that goes on",
    Intent.NEAR_HANG: "it guards against an aborted run, and saves no time in one that goes on",
}


@dataclass(frozen=True)
class Moved:
    """Where knobs stand and where they go."""

    before: Mapping[str, int]
    changes: tuple[KnobChange, ...]

    def both(self, knob: str) -> tuple[int, int]:
        """Its value before and after; one the workload does not carry counts as 1."""
        now = self.before.get(knob, 1)
        return now, next((c.after for c in self.changes if c.knob == knob), now)


def gain_of(chord: str, moved: Moved, seen: Mapping[SignalName, Evidence]) -> Gain:
    """The largest gain that one of the chord's signals gives reason for."""
    if chord == Intent.RECOVER_RELOCK and SignalName.DRIFT_LOSS in seen:
        return Gain(reasoning="no time is saved: the loss rose since the change that it takes back", weighed=False)
    if chord in UNWEIGHED:
        return Gain(reasoning=UNWEIGHED[chord], weighed=False)
    meant = answered_by(chord)
    gains = [ESTIMATES[name](moved, evidence) for name, evidence in seen.items() if name in meant]
    if not gains:
        return Gain(reasoning="no signal that it answers to was measured")
    return max(gains, key=lambda gain: -1.0 if gain.share is None else gain.share)


def _straggler(moved: Moved, evidence: Evidence) -> Gain:
    excess, share = slow_worker(evidence)
    left = slow_loader(excess, share, moved.both(WORKERS), moved.both(PREFETCH))
    at_most = 1.0 - (1.0 + left) / (1.0 + excess)
    return _credited(
        at_most,
        evidence,
        mends="input",
        formula=f"steps wait {_pct(excess / (1.0 + excess))} of their time for the slow worker, of which "
        f"{_left(left, excess)} should be left",
    )


def _burst(moved: Moved, evidence: Evidence) -> Gain:
    lost = lost_share(evidence)
    batches = stalled_batches(evidence, moved.before)
    left = bursts(batches, moved.both(WORKERS), moved.both(PREFETCH))
    return _credited(
        lost * (1.0 - left),
        evidence,
        mends="input",
        formula=f"bursts cost {_pct(lost)} of the time, about {brief(batches)} batches each, of which {_pct(left)} should be left",
    )


def _memory(moved: Moved, evidence: Evidence) -> Gain:
    lost = lost_share(evidence)
    shed = 1.0 - memory(*moved.both(MICROBATCH))
    return _credited(
        min(lost, max(0.0, shed)),
        evidence,
        mends="memory",
        formula=f"{_pct(lost)} of the time was lost, and a microbatch needs {_pct(max(0.0, shed))} less memory",
    )


def _comm(moved: Moved, evidence: Evidence) -> Gain:
    before, after = moved.both(BUCKET)
    lost, grown, started = lost_share(evidence), times_grown(evidence), before / max(1, after)
    fewer = (1.0 - started) / (1.0 - 1.0 / grown)
    return _credited(
        lost * min(1.0, max(0.0, fewer)),
        evidence,
        mends=None,
        formula=f"communication takes {_pct(lost)} more of a step, and {brief(started)} times as many collectives are started",
    )


def _loss(moved: Moved, evidence: Evidence) -> Gain:
    del moved, evidence
    return Gain(share=0.0, at_most=0.0, reasoning="the global batch stays as it is, so no knob here cures a loss")


def _hang(moved: Moved, evidence: Evidence) -> Gain:
    del moved, evidence
    return Gain(share=0.0, at_most=0.0, reasoning="a step that all but hung says nothing of the time of the others")


ESTIMATES: Final[Mapping[SignalName, Callable[[Moved, Evidence], Gain]]] = {
    SignalName.STRAGGLER: _straggler,
    SignalName.BURST: _burst,
    SignalName.DRIFT_STEP: _memory,
    SignalName.GPU_SATURATED: _memory,
    SignalName.COMM_CONGESTION: _comm,
    SignalName.DRIFT_LOSS: _loss,
    SignalName.NEAR_HANG: _hang,
}


def _credited(at_most: float, evidence: Evidence, *, mends: str | None, formula: str) -> Gain:
    """`mends`: the cause that such a move mends, where one can be located."""
    if evidence.effect is None:
        return Gain(reasoning="the evidence holds no size of the effect")
    most = min(max(at_most, 0.0), 1.0)
    if evidence.cause is None:
        why = f"{formula}; half of it is promised, for nothing in the telemetry locates the cause"
        return Gain(share=most * UNLOCATED, at_most=most, reasoning=why)
    if evidence.cause != mends:
        return Gain(
            share=0.0, at_most=0.0, reasoning=f"the cause is located in {evidence.cause}, which no such move mends"
        )
    return Gain(share=most, at_most=most, reasoning=f"{formula}; the cause is located in {evidence.cause}")


def _left(left: float, excess: float) -> str:
    return _pct(left / excess if excess > 0 else 0.0)


def _pct(share: float) -> str:
    return f"{brief(100 * share)} %"
