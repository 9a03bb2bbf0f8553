"""One cause a symptom: a slow worker, slow communication or a full GPU answers for the slow steps it makes.

What a found cause costs is taken out of the step times, and the symptoms are looked for again in what is left. A
symptom that is still there has a cause of its own.
"""

from __future__ import annotations

import numpy as np

from gitops_mk.core.detect.answers import nothing
from gitops_mk.core.detect.history import View, comm_of, lag_of
from gitops_mk.core.detect.registry import DETECTORS
from gitops_mk.core.detect.stats import median
from gitops_mk.model.signal import Signal, SignalName

SYMPTOMS = frozenset({SignalName.DRIFT, SignalName.BURST})
CAUSES = (SignalName.STRAGGLER, SignalName.COMM_CONGESTION, SignalName.GPU_SATURATED)


def judge(view: View) -> tuple[Signal, ...]:
    """Every detector's answer, symptoms of a found cause silenced."""
    answers = {name: detect(view) for name, detect in DETECTORS}
    causes = [name for name in CAUSES if answers[name].found]
    if causes and any(answers[name].found for name in SYMPTOMS):
        rest = without(view, causes, answers)
        for name, detect in DETECTORS:
            if name in SYMPTOMS and answers[name].found:
                again = detect(rest)
                answers[name] = again if again.found else _explained(answers[name], answers[causes[0]])
    return tuple(answers.values())


def without(view: View, causes: list[SignalName], answers: dict[SignalName, Signal]) -> View:
    """The history with the time that the causes cost taken out of every step."""
    rows, cells = view.recent, view.cells
    ms, quiet = rows.step_ms, cells.quiet
    if SignalName.STRAGGLER in causes:
        ms = ms - np.nan_to_num(lag_of(rows))
        quiet = quiet - np.nan_to_num(cells.lag)
    if SignalName.COMM_CONGESTION in causes:
        base = answers[SignalName.COMM_CONGESTION].evidence.values.get("before_ms", 0.0)
        ms = ms - np.maximum(np.nan_to_num(comm_of(rows)) - base, 0.0)
        quiet = quiet - np.maximum(np.nan_to_num(cells.comm) - base, 0.0)
    if SignalName.GPU_SATURATED in causes:
        # Nothing says which part of a step the GPU cost: all of what differs from the level is its.
        ms, quiet = np.full(len(ms), median(ms)), np.full(len(quiet), median(quiet))
    floor = 0.05 * rows.step_ms
    return view.with_step_time(np.maximum(ms, floor), np.maximum(quiet, 0.05 * cells.quiet))


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
