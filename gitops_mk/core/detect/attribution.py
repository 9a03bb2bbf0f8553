"""One cause a symptom: a slow worker, slow communication or a full GPU answers for the slow steps it makes.

What a found cause costs is taken out of the step times, and the symptoms are looked for again in what is left. A
symptom that is still there has a cause of its own.
"""

from __future__ import annotations

import numpy as np

from gitops_mk.core.detect.answers import nothing
from gitops_mk.core.detect.history import View, comm_of, lag_of
from gitops_mk.core.detect.points import points
from gitops_mk.core.detect.registry import DETECTORS
from gitops_mk.core.detect.stats import median
from gitops_mk.core.parse.columns import F64
from gitops_mk.model.signal import DRIFTS, Signal, SignalName

SYMPTOMS = frozenset({SignalName.DRIFT_STEP, SignalName.BURST})
TAIL_EFFECT = 0.12
CAUSES = (SignalName.STRAGGLER, SignalName.COMM_CONGESTION, SignalName.GPU_SATURATED)


def judge(view: View) -> tuple[Signal, ...]:
    """Every detector's answer on both time scales: the whole run first, and for what is not in it the last records."""
    whole, tail = _judge(view), view.tail()
    if tail is None:
        return whole
    return tuple(
        short if short.found and not long.found and _large(short) else long
        for long, short in zip(whole, _judge(tail), strict=True)
    )


def _large(short: Signal) -> bool:
    """Of the last records alone, a small drift is as likely the slow wander of a long run."""
    effect = short.evidence.effect
    return short.name not in DRIFTS or effect is None or effect >= TAIL_EFFECT


def _judge(view: View) -> tuple[Signal, ...]:
    answers = {name: detect(view) for name, detect in DETECTORS}
    causes = [name for name in CAUSES if answers[name].found]
    if causes and any(answers[name].found for name in SYMPTOMS):
        rest = without(view, causes, answers)
        for name, detect in DETECTORS:
            if name in SYMPTOMS and answers[name].found:
                again = detect(rest)
                answers[name] = again if again.found else _explained(answers[name], answers[causes[0]])
    return tuple(_dated(answer, view) for answer in answers.values())


def _dated(signal: Signal, view: View) -> Signal:
    """The answer with the steps that its series is of: all that the detector saw."""
    if not signal.evidence.series:
        return signal
    step = points(view).step if signal.name in DRIFTS else view.recent.step
    covered = (int(step[0]), int(step[-1]))
    return signal.model_copy(update={"evidence": signal.evidence.model_copy(update={"series_steps": covered})})


def without(view: View, causes: list[SignalName], answers: dict[SignalName, Signal]) -> View:
    """The history with the time that the causes cost taken out of every step."""
    rows, cells = view.recent, view.cells
    base = answers[SignalName.COMM_CONGESTION].evidence.values.get("before_ms", 0.0)
    ms = _left(rows.step_ms, lag_of(rows), comm_of(rows), causes, base)
    return view.with_step_time(ms, None if cells is None else _left(cells.quiet, cells.lag, cells.comm, causes, base))


def _left(ms: F64, lag: F64, comm: F64, causes: list[SignalName], base: float) -> F64:
    left = ms
    if SignalName.STRAGGLER in causes:
        left = left - np.nan_to_num(lag)
    if SignalName.COMM_CONGESTION in causes:
        left = left - np.maximum(np.nan_to_num(comm) - base, 0.0)
    if SignalName.GPU_SATURATED in causes:
        # Nothing says which part of a step the GPU cost: all of what differs from the level is its.
        left = np.full(len(left), median(left))
    return np.asarray(np.maximum(left, 0.05 * ms))


def _explained(symptom: Signal, cause: Signal) -> Signal:
    evidence = symptom.evidence
    return nothing(
        symptom.name,
        f"explained by {cause.name}: {evidence.summary}",
        evidence.metric,
        unit=evidence.unit,
        effect=evidence.effect,
        noise=evidence.noise,
        threshold=evidence.threshold,
        series=evidence.series,
        values=evidence.values,
    )
