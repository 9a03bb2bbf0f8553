"""The figures: how often a reader is right, with how much certainty.

A label of None counts nowhere. F1 has a 95 % percentile bootstrap interval over traces (Efron, 1979), a rate Wilson's (1927).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.bench.decisions.prediction import Prediction
from tests.bench.decisions.truth import ACTIONS, CLASSES, SIGNALS, Labels

DRAWS = 1000
NAN = float("nan")


@dataclass(frozen=True)
class Item:
    """One trace: its labels, and what was said about it."""

    ident: str
    family: str
    labels: Labels
    said: Prediction


@dataclass(frozen=True)
class Rate:
    """So many of so many, with Wilson's 95 % interval; all NaN of none."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share."""
        return self.hits / self.of if self.of else NAN

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval."""
        if not self.of:
            return NAN, NAN
        z, n, p = 1.959964, self.of, self.hits / self.of
        middle, width = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        return max(0.0, (middle - width) / scale), min(1.0, (middle + width) / scale)


@dataclass(frozen=True)
class Quality:
    """One signal: counts, F1 and its interval, recall by severity."""

    tp: int
    fp: int
    fn: int
    tn: int
    interval: tuple[float, float] = (NAN, NAN)
    by_severity: dict[str, Rate] = field(default_factory=dict)

    @property
    def precision(self) -> float:
        """Right among what was said; NaN when nothing was."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else NAN

    @property
    def recall(self) -> float:
        """Found among what is there; NaN when nothing is."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else NAN

    @property
    def f1(self) -> float:
        """The harmonic mean; NaN when there is nothing to find and nothing was said."""
        both = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / both if both else NAN


@dataclass(frozen=True)
class Score:
    """All figures of one reader on one set."""

    traces: int
    signals: dict[str, Quality]
    macro_f1: float
    macro_interval: tuple[float, float]
    false_pr: Rate
    right_pr: Rate
    recall: dict[str, Rate]
    pr_recall: Rate
    culprits: Rate
    abstained: Rate
    abstained_wrongly: Rate
    exact: Rate
    crashes: int
    families: dict[str, dict[str, int]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rate = {
            name: getattr(self, name)
            for name in ("false_pr", "right_pr", "pr_recall", "culprits", "abstained", "exact")
        }
        return {
            "traces": self.traces,
            "macro_f1": self.macro_f1,
            "macro_f1_95": self.macro_interval,
            "signals": {
                name: {"precision": q.precision, "recall": q.recall, "f1": q.f1, "f1_95": q.interval, "tp": q.tp, "fp": q.fp, "fn": q.fn, "tn": q.tn}
                for name, q in self.signals.items()
            },
            "rates": {name: {"hits": r.hits, "of": r.of, "value": r.value, "interval": r.interval} for name, r in rate.items()},
            "recall": {name: {"hits": r.hits, "of": r.of, "value": r.value} for name, r in self.recall.items()},
            "crashes": self.crashes,
            "families": self.families,
        }  # fmt: skip


def score(items: Sequence[Item], draws: int = DRAWS) -> Score:
    """The figures of what was said about these traces."""
    kinds = {name: _kinds(items, name) for name in SIGNALS}
    weights = (
        np.random.default_rng(0).multinomial(len(items), np.full(len(items), 1 / len(items)), draws) if items else None
    )
    signals: dict[str, Quality] = {}
    drawn: list[np.ndarray[Any, Any]] = []
    for name in SIGNALS:
        kind = kinds[name]
        spread = _drawn_f1(kind, weights) if weights is not None else np.full(1, NAN)
        counted = [item for item in items if getattr(item.labels, name)]
        signals[name] = Quality(
            *counts(kind),
            interval=_percentiles(spread),
            by_severity={
                level: rate(name in item.said.signals for item in counted if item.labels.severity == level)
                for level in ("hard", "mid", "easy")
            },
        )
        if name in ACTIONS:
            drawn.append(spread)
    judged = [signals[name].f1 for name in ACTIONS if not math.isnan(signals[name].f1)]
    there = [item for item in items if item.labels.incident]
    families: dict[str, dict[str, int]] = {}
    for item in items:
        row = families.setdefault(item.family, defaultdict(int))
        row["traces"] += 1
        row["pr"] += item.said.pr
        row["wrong"] += not _exact(item)
        for name in item.said.signals:
            row[name] += 1
    raised = [item for item in items if item.said.pr and item.labels.incident is not None]
    called = [item for item in items if item.labels.culprits and "straggler" in item.said.signals]
    return Score(
        traces=len(items),
        signals=signals,
        macro_f1=sum(judged) / len(judged) if judged else NAN,
        macro_interval=_percentiles(_mean(np.stack(drawn))),
        false_pr=rate(item.said.pr for item in items if healthy(item.labels)),
        right_pr=rate(_right(item) for item in raised),
        recall={
            level: rate(_found(item) for item in there if level in ("all", item.labels.severity))
            for level in ("all", "hard", "mid", "easy")
        },
        pr_recall=rate(item.said.pr for item in there if any(getattr(item.labels, name) for name in ACTIONS)),
        culprits=rate(sorted(item.said.culprits) == sorted(item.labels.culprits) for item in called),
        abstained=rate(item.said.insufficient and not item.said.pr for item in items if item.labels.insufficient),
        abstained_wrongly=rate(item.said.insufficient for item in items if not item.labels.insufficient),
        exact=rate(_exact(item) for item in items if not item.labels.insufficient),
        crashes=sum(bool(item.said.crash) for item in items),
        families={name: dict(row) for name, row in families.items()},
    )


def counts(kind: np.ndarray[Any, np.dtype[np.int8]]) -> tuple[int, int, int, int]:
    """True and false positives, false and true negatives."""
    tp, fp, fn, tn, _ = np.bincount(kind, minlength=5).tolist()
    return tp, fp, fn, tn


def healthy(labels: Labels) -> bool:
    """True when a pull request on this run is wrong, and there is enough of it to say so."""
    return not labels.insufficient and (labels.incident is False or labels.pr_ok is False)


def rate(hits: Iterable[bool]) -> Rate:
    """Counted."""
    answers = [bool(hit) for hit in hits]
    return Rate(sum(answers), len(answers))


def _kinds(items: Sequence[Item], name: str) -> np.ndarray[Any, np.dtype[np.int8]]:
    """0 true positive, 1 false positive, 2 false negative, 3 true negative, 4 not scored."""
    out = np.full(len(items), 4, dtype=np.int8)
    for i, item in enumerate(items):
        truth = getattr(item.labels, name)
        if truth is not None:
            out[i] = (0 if truth else 1) if name in item.said.signals else (2 if truth else 3)
    return out


def _drawn_f1(kind: np.ndarray[Any, np.dtype[np.int8]], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    tp, fp, fn = (weights @ (kind == i) for i in range(3))
    whole = 2.0 * tp + fp + fn
    made: np.ndarray[Any, Any] = np.divide(2.0 * tp, whole, out=np.full(len(whole), NAN), where=whole > 0)
    return made


def _mean(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The mean of each column, over what is known in it."""
    known = np.isfinite(rows)
    made: np.ndarray[Any, Any] = np.where(known, rows, 0.0).sum(axis=0)
    out: np.ndarray[Any, Any] = np.full(rows.shape[1], NAN)
    np.divide(made, known.sum(axis=0), out=out, where=known.any(axis=0))
    return out


def _percentiles(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))) if len(known) else (NAN, NAN)


def _found(item: Item) -> bool:
    return any(getattr(item.labels, name) and name in item.said.signals for name in CLASSES)


def _right(item: Item) -> bool:
    """Every action signal named is there (or nobody knows), and one of them surely is."""
    named = [getattr(item.labels, name) for name in ACTIONS if name in item.said.signals]
    return False not in named and True in named


def _exact(item: Item) -> bool:
    return all(getattr(item.labels, name) in (None, name in item.said.signals) for name in CLASSES)
