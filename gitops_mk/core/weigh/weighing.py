"""A gain against a cost, over the time that remains, with the caution that earlier promises taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gitops_mk.core.weigh.cost import cost_of
from gitops_mk.core.weigh.gain import Moved, gain_of
from gitops_mk.model.passport import Economics
from gitops_mk.model.plan import Action
from gitops_mk.model.signal import Observation
from gitops_mk.model.weighing import Lesson, Weighing
from gitops_mk.model.workload import Delivery

# A promise not yet tested counts as one that came true: one broken promise halves the next, and no more.
UNTESTED: Final = 1.0
MOST_LESSONS: Final = 20


def weigh(
    action: Action,
    knobs: Mapping[str, int],
    observation: Observation,
    economics: Economics,
    *,
    delivery: Delivery = "annotation",
    total_steps: int | None = None,
    lessons: Sequence[Lesson] = (),
) -> Weighing:
    """What `action` should bring on this evidence, against what it costs. `total_steps`: of the job, where it is known."""
    if delivery == "annotation" and not action.workload.in_place:
        remaining, source = float(economics.horizon_s), "of its next run, by the passport's horizon"
    else:
        remaining, source = remaining_s(observation, economics, total_steps)
    alike = [lesson for lesson in lessons if lesson.chord == action.chord]
    return Weighing(
        gain=gain_of(action.chord, Moved(knobs, action.changes), observation.seen),
        cost=cost_of(delivery, economics, observation.pace, in_place=action.workload.in_place),
        remaining_s=remaining,
        remaining_from=source,
        caution=caution(alike),
        lessons=len(alike),
        needed=economics.min_ratio,
        least_share=economics.min_gain_pct / 100.0,
    )


def remaining_s(observation: Observation, economics: Economics, total_steps: int | None) -> tuple[float, str]:
    """How long the job goes on at its present pace, in seconds, and who says so."""
    last, pace = observation.window.last_step, observation.pace
    if total_steps is not None and last is not None and pace is not None:
        left = max(0, total_steps - 1 - last)
        return left * pace.mean_ms / 1000.0, f"{left} of {total_steps} steps at {pace.mean_ms:.4g} ms"
    return float(economics.horizon_s), "the passport's horizon: nothing says how many steps the job takes"


def caution(lessons: Sequence[Lesson]) -> float:
    """The part of what was promised that came, in [0, 1]: the mean over the newest lessons and one that is not tested yet.

    It shrinks towards 1 as a ratio estimator with one prior observation does: little is learned of a single outcome.
    """
    newest = [lesson for lesson in lessons if lesson.promised > 0][-MOST_LESSONS:]
    came = [min(max(lesson.came / lesson.promised, 0.0), 1.0) for lesson in newest]
    return (UNTESTED + sum(came)) / (1 + len(came))
