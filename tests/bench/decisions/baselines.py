"""What the product is measured against: answers that cost nothing, simple rules, and two classical detectors of change."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.bench.decisions.prediction import Prediction, Predictor
from tests.bench.decisions.reading import Table, content, table
from tests.bench.decisions.truth import ACTIONS, Floats

DEVIATION = 1.4826
SETTLE, LEARN = 0.05, 0.25
PH_SLACK, PH_LIMIT = 0.5, 40.0
CUSUM_SLACK, CUSUM_LIMIT = 0.75, 12.0


def _said(signals: frozenset[str], culprits: tuple[int, ...] = ()) -> Prediction:
    return Prediction(signals, pr=bool(signals & set(ACTIONS)), culprits=culprits)


def always(_: Path) -> Prediction:
    """Every signal, every time."""
    return _said(frozenset(ACTIONS))


def never(_: Path) -> Prediction:
    """All is well."""
    return _said(frozenset())


def simple_rules(path: Path) -> Prediction:
    """One threshold a signal, over the whole run."""
    return rules_of(table(content(path)))


def rules_of(log: Table) -> Prediction:
    """The loss ends 15 % over its first quarter; one step takes 1.5 times the median; a worker takes 1.6 times what its peers do; one sample
    of utilisation reaches 90 %.
    """
    found: set[str] = set()
    loss = log.loss[np.isfinite(log.loss)]
    quarter = max(1, len(loss) // 4)
    if len(loss) >= 4 and loss[-quarter:].mean() > 1.15 * loss[:quarter].mean():
        found.add("drift")
    if len(log.seconds) and log.seconds.max() > 1.5 * np.median(log.seconds):
        found.add("burst")
    culprits: tuple[int, ...] = ()
    if log.workers.shape[1] >= 2:
        mean = log.workers.mean(axis=0)
        culprits = tuple(int(i) for i in np.flatnonzero(mean > 1.6 * np.median(mean)))
        if culprits:
            found.add("straggler")
    if (log.util >= 90.0).any():
        found.add("gpu_saturated")
    return _said(frozenset(found), culprits)


def page_hinkley(path: Path) -> Prediction:
    """Page's test (1954) in Hinkley's form on the log step time: in alarm when the run ends."""
    score = standardised(table(content(path)).seconds)
    total = np.cumsum(score - PH_SLACK)
    alarm = len(total) > 0 and bool(total[-1] - np.minimum(total.min(), 0.0) > PH_LIMIT)
    return _said(frozenset({"drift"}) if alarm else frozenset())


def cusum(path: Path) -> Prediction:
    """One-sided cumulative sums with resets on the log step time: in alarm when the run ends."""
    high = 0.0
    for score in standardised(table(content(path)).seconds):
        high = min(max(0.0, high + float(score) - CUSUM_SLACK), 20 * CUSUM_LIMIT)
    return _said(frozenset({"drift"}) if high > CUSUM_LIMIT else frozenset())


def standardised(seconds: Floats) -> Floats:
    """Log step times, median of five, against median and spread of the run's first quarter after a twentieth to settle; capped, so
    that one pause is no alarm.
    """
    if len(seconds) < 40:
        return np.zeros(0)
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(np.log(seconds), 5), axis=1)[::5]
    first, last = int(SETTLE * len(smooth)), max(6, int((SETTLE + LEARN) * len(smooth)))
    usual = smooth[first:last]
    middle = float(np.median(usual))
    # A floor of 1 %: on a clock of milliseconds a steady job has no spread at all.
    spread = max(DEVIATION * float(np.median(np.abs(usual - middle))), 0.01)
    return np.asarray(np.clip((smooth[first:] - middle) / spread, -4.0, 4.0), dtype=np.float64)


BASELINES: dict[str, Predictor] = {
    "always": always,
    "never": never,
    "simple rules": simple_rules,
    "Page-Hinkley": page_hinkley,
    "CUSUM": cusum,
}
