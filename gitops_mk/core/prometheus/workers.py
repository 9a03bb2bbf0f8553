"""Which series is whose: workers told apart by a label, each with a column that stays its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from gitops_mk.core.prometheus.answers import MAX_SERIES, Series
from gitops_mk.core.prometheus.samples import F64, Bools
from gitops_mk.core.render.text import plain
from gitops_mk.errors import TelemetryError

# A list of names is longer than one of times, and readers keep the last one.
NAMED_EVERY: Final = 30
LABELS: Final = (
    "pod", "exported_pod", "rank", "global_rank", "worker", "worker_id", "Hostname", "node", "instance",
)  # fmt: skip


class Workers:
    """The workers that turned up so far. `label` tells them apart; None: the first of the usual ones that does.

    `note` is told what is left out.
    """

    def __init__(self, label: str | None, note: Callable[[str], None]) -> None:
        self._label = label
        self._note = note
        self._ids: dict[str, int] = {}
        self._named = 0
        self._named_for = 0

    def columns(self, series: Sequence[Series], rows: F64) -> F64:
        """A column a worker, in the order in which they turned up; of two series of one worker, the slower.

        Raises TelemetryError where no label tells them apart.
        """
        names = self._names(series, rows)
        for name in sorted({name for name in names if name} - self._ids.keys(), key=natural):
            if len(self._ids) >= MAX_SERIES:
                self._note(f"only the first {MAX_SERIES} workers are told of")
                break
            self._ids[name] = len(self._ids)
        out = np.full((rows.shape[1], len(self._ids)), np.nan)
        for name, row in zip(names, rows, strict=True):
            if name in self._ids:
                column = self._ids[name]
                out[:, column] = np.fmax(out[:, column], row)
        return out

    def _names(self, series: Sequence[Series], rows: F64) -> list[str]:
        label = self._label or told_apart_by(series, rows)
        # One alone says nothing about what will tell it from others.
        if len(series) > 1:
            self._label = label
        names = [plain(one.metric.get(label, "")) for one in series]
        if not all(names):
            self._note(f"{names.count('')} series of workers have no label {label}, and are left out")
        return names

    def names(self) -> list[str] | None:
        """Whose the columns are: where that changed, and now and then for who reads a part; else None. Asked once a record."""
        is_due = self._named_for in (0, NAMED_EVERY) or self._named != len(self._ids)
        if is_due:
            self._named, self._named_for = len(self._ids), 0
        self._named_for += 1
        return list(self._ids) if is_due else None


def told_apart_by(series: Sequence[Series], rows: F64) -> str:
    """The first usual label that every series has, each with another value; or else the first of which the series that share a
    value follow one another in time, as those of a pod that was started again do. Raises TelemetryError.
    """
    lists = {label: [one.metric.get(label, "") for one in series] for label in LABELS}
    everywhere = {label: values for label, values in lists.items() if all(values)}
    for label, values in everywhere.items():
        if len(set(values)) == len(values):
            return label
    for label, values in everywhere.items():
        if _never_overlap(values, np.isfinite(rows)):
            return label
    raise TelemetryError(
        f"no label tells the {len(series)} workers apart, of {', '.join(LABELS)}",
        hint="name it: worker_label in the configuration, or --prometheus-worker-label",
    )


def _never_overlap(values: Sequence[str], there: Bools) -> bool:
    """True where at no sample two rows of one value are there."""
    taken: dict[str, Bools] = {}
    for value, row in zip(values, there, strict=True):
        before = taken.get(value)
        if before is not None and bool((before & row).any()):
            return False
        taken[value] = row if before is None else before | row
    return True


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """By the numbers in a name: worker-2 before worker-10."""
    parts, number = [], ""
    for char in f"{name}\0":
        if char.isascii() and char.isdigit():
            number += char
            continue
        if number:
            parts.append((int(number[:18]), ""))
            number = ""
        parts.append((-1, char))
    return tuple(parts)
