"""The detectors, in the order of the report. A new one is a file in `detectors` and a line here."""

from __future__ import annotations

from collections.abc import Callable

from gitops_mk.core.detect.detectors import (
    burst,
    comm_congestion,
    drift_loss,
    drift_step,
    gpu_saturated,
    near_hang,
    straggler,
)
from gitops_mk.core.detect.history import View
from gitops_mk.model.signal import Signal, SignalName

Detector = Callable[[View], Signal]

DETECTORS: tuple[tuple[SignalName, Detector], ...] = (
    (drift_loss.NAME, drift_loss.detect),
    (drift_step.NAME, drift_step.detect),
    (burst.NAME, burst.detect),
    (straggler.NAME, straggler.detect),
    (gpu_saturated.NAME, gpu_saturated.detect),
    (comm_congestion.NAME, comm_congestion.detect),
    (near_hang.NAME, near_hang.detect),
)
