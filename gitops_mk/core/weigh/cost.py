"""What delivering a change takes from the job once."""

from __future__ import annotations

from gitops_mk.model.passport import Economics
from gitops_mk.model.telemetry import Pace
from gitops_mk.model.weighing import Cost
from gitops_mk.model.workload import Delivery


def cost_of(delivery: Delivery, economics: Economics, pace: Pace | None, *, in_place: bool) -> Cost:
    """The restart, the warm-up, and half an interval between checkpoints: a merge comes at any moment of one.

    The interval is that of the checkpoints the job announced, else the passport's.
    """
    if delivery == "configmap":
        return Cost(reasoning="the trainer re-reads the ConfigMap: nothing restarts")
    if not in_place:
        return Cost(reasoning="the next run reads it at its start: nothing restarts for it")
    every, told = float(economics.checkpoint_every_s), "by the passport"
    if pace is not None and pace.checkpoint_every is not None:
        every, told = pace.checkpoint_every * pace.mean_ms / 1000.0, "as the job announces them"
    return Cost(
        restart_s=economics.restart_s,
        warm_up_s=economics.warm_up_s,
        redone_s=every / 2.0,
        reasoning=f"restart {economics.restart_s:.0f} s and warm-up {economics.warm_up_s:.0f} s by the passport; "
        f"checkpoints every {every:.0f} s {told}, so that {every / 2.0:.0f} s of work are done again on average",
    )
