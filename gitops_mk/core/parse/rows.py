"""Rows to columns: what a line must have, what is counted where, and how each field is normalised.

A row is a typed object with one attribute a key. A `Layout` knows the keys seen so far, and which attribute fills which
role. A line with a key that the layout does not know can't be decoded by it: the caller then adds the key. That makes
the fast way exact: no name is ever overlooked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from gitops_mk.core.parse.columns import F64, Columns
from gitops_mk.core.parse.fields import ALIASES, NUMBERS, PLANNED_EVENTS, TEXTS, Alias

MAX_KEYS = 128
MAX_KEY_LENGTH = 200
MAX_WORKERS = 1024
MAX_NAMES = 64
# A week: no step takes longer, a number beyond it is not a step time in milliseconds.
MAX_STEP_MS = 7 * 86_400_000.0

# What a bare NaN or infinity becomes on the fast way; no machine is called that.
_BARE_WORDS = frozenset({"NaN", "Infinity", "-Infinity"})
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})
_TYPES: dict[str, Any] = {
    "ts": float | str | None,
    "loss": float | str | None,
    "workers": list[float] | None,
    "worker_ids": list[str | int] | None,
    "worker_stages": list[str | int] | None,
    "node": str | int | None,
    "gpu_model": str | int | None,
    "event": str | None,
}
# The first name of a role becomes an attribute called like the role, read by a comprehension that names it: three
# times as fast as an attrgetter, and with a million rows that is most of the work done here.
_PICK: dict[str, Callable[[Sequence[Any]], list[Any]]] = {
    "ts": lambda rows: [r.ts for r in rows],
    "step": lambda rows: [r.step for r in rows],
    "step_ms": lambda rows: [r.step_ms for r in rows],
    "loss": lambda rows: [r.loss for r in rows],
    "throughput": lambda rows: [r.throughput for r in rows],
    "util": lambda rows: [r.util for r in rows],
    "mem": lambda rows: [r.mem for r in rows],
    "comm_ms": lambda rows: [r.comm_ms for r in rows],
    "workers": lambda rows: [r.workers for r in rows],
    "node": lambda rows: [r.node for r in rows],
    "gpu_model": lambda rows: [r.gpu_model for r in rows],
}


class PlannedEvent(NamedTuple):
    """A pause or change that the job itself announced. `step` is None where the line names none."""

    kind: str
    step: float | None


@dataclass
class Tally:
    """What became of the lines, and what was said beside the numbers."""

    lines: int = 0
    invalid_json: int = 0
    invalid_shape: int = 0
    missing_fields: int = 0
    events: int = 0
    nodes: dict[str, None] = field(default_factory=dict)
    gpu_models: dict[str, None] = field(default_factory=dict)
    worker_ids: tuple[str, ...] = ()
    worker_stages: tuple[str, ...] = ()
    workers_cut: bool = False


class BadShapeError(Exception):
    """A required field holds something of the wrong type."""


class Layout:
    """The keys known so far, the row type made of them, and the way from rows to columns."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._build()

    def learn(self, keys: Iterable[str]) -> None:
        """Add keys, up to a limit. A line with a key beyond it is read the slow way."""
        fresh = [k for k in keys if k not in self._keys]
        wanted = [k for k in fresh if len(k) <= MAX_KEY_LENGTH][: MAX_KEYS - len(self._keys)]
        if wanted:
            for key in wanted:
                role = ALIASES[key].role if key in ALIASES else ""
                taken = role not in _PICK or role in self._keys.values()
                self._keys[key] = f"f{len(self._keys)}" if taken else role
            self._build()

    def _build(self) -> None:
        spec: list[tuple[str, Any, Any]] = []
        self._roles: dict[str, list[tuple[Alias, str]]] = {}
        for key, attr in self._keys.items():
            alias = ALIASES.get(key)
            if alias is None:
                spec.append((attr, msgspec.Raw, None))
                continue
            spec.append((attr, _TYPES.get(alias.role, float | None), None))
            self._roles.setdefault(alias.role, []).append((alias, attr))
        for names in self._roles.values():
            names.sort()
        rename = {attr: key for key, attr in self._keys.items()}
        self.row: Any = msgspec.defstruct("Row", spec, rename=rename, forbid_unknown_fields=True, gc=False)
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.row)

    def coerce(self, record: Mapping[str, Any]) -> Any:
        """A row from plain data, with what can't be used left out.

        Raises BadShapeError where a step time or a time stamp is of the wrong type.
        """
        values = {}
        for key, value in record.items():
            attr, alias = self._keys.get(key), ALIASES.get(key)
            if attr is not None and alias is not None and value is not None:
                values[attr] = _coerce(alias.role, value)
        return self.row(**values)

    def columns(self, rows: Sequence[Any], tally: Tally, events: list[PlannedEvent]) -> Columns | None:
        """Rows as columns, unusable ones counted and left out; None when none is left."""
        n = len(rows)
        attrs = [attr for names in self._roles.values() for _, attr in names]
        if not attrs:
            tally.missing_fields += n
            return None
        data = {attr: _PICK[attr](rows) if attr in _PICK else list(map(attrgetter(attr), rows)) for attr in attrs}
        number = {role: self._numbers(role, data, n) for role in NUMBERS}
        ts, ts_bad = self._times(data, n)
        step_ms = number["step_ms"]
        given = ~np.isnan(step_ms)
        if not given.all():
            given |= self._nan_given("step_ms", data, n)
        with np.errstate(invalid="ignore"):
            bad = ts_bad | (given & ~((step_ms > 0) & (step_ms <= MAX_STEP_MS)))
            step = np.where(np.isfinite(number["step"]) & (number["step"] >= 0), np.floor(number["step"]), np.nan)
        is_event = self._events(data, n, step, bad, given, events)
        derivable = ~given & ~np.isnan(ts) & ~np.isnan(step)
        missing = ~given & ~derivable & ~is_event & ~bad
        keep = ~(bad | missing | is_event)
        tally.invalid_shape += int(bad.sum())
        tally.missing_fields += int(missing.sum())
        tally.events += int(is_event.sum())
        self._names(data, tally)
        if not keep.any():
            return None
        batch = Columns(
            ts=ts,
            step=step,
            step_ms=step_ms,
            loss=self._loss(data, n),
            throughput=_positive(number["throughput"]),
            util=_percent(number["util"]),
            mem=_memory(number),
            comm_ms=np.where(number["comm_ms"] >= 0, number["comm_ms"], np.nan),
            segment=np.zeros(n),
            workers=self._workers(data, n, tally),
        )
        return batch if keep.all() else batch.take(keep)

    def _of(self, role: str, data: Mapping[str, Sequence[Any]]) -> list[tuple[Alias, Sequence[Any]]]:
        return [(alias, data[attr]) for alias, attr in self._roles.get(role, ())]

    def _numbers(self, role: str, data: Mapping[str, Sequence[Any]], n: int) -> F64:
        out: F64 | None = None
        for alias, values in self._of(role, data):
            # A number too large for its unit becomes infinite, which is no measurement, and dropped as such.
            with np.errstate(over="ignore"):
                column = np.array(values, dtype=np.float64) * alias.scale
            out = column if out is None else np.where(np.isnan(out), column, out)
        return np.full(n, np.nan) if out is None else out

    def _nan_given(self, role: str, data: Mapping[str, Sequence[Any]], n: int) -> Any:
        """Where a value stands that is NaN itself, as told apart from none."""
        out = np.zeros(n, dtype=bool)
        for _, values in self._of(role, data):
            column = np.array(values, dtype=np.float64)
            holes = np.flatnonzero(np.isnan(column))
            out[[i for i in holes.tolist() if values[i] is not None]] = True
        return out

    def _times(self, data: Mapping[str, Sequence[Any]], n: int) -> tuple[F64, Any]:
        out, bad = np.full(n, np.nan), np.zeros(n, dtype=bool)
        for _, values in reversed(self._of("ts", data)):
            given: Any = np.ones(n, dtype=bool)
            if type(None) in (kinds := set(map(type, values))):
                given = np.array([v is not None for v in values])
            seconds = [_epoch_ms(v) if isinstance(v, str) else v for v in values] if str in kinds else values
            column = _to_ms(np.array(seconds, dtype=np.float64))
            bad = np.where(given, np.isnan(column), bad)
            out = np.where(given, column, out)
        return out, bad

    def _loss(self, data: Mapping[str, Sequence[Any]], n: int) -> F64:
        out = np.full(n, np.nan)
        for _, values in reversed(self._of("loss", data)):
            plain: Sequence[Any] = values
            if str in set(map(type, values)):
                plain = [_loss_word(v) if isinstance(v, str) else v for v in values]
            column = np.array(plain, dtype=np.float64)
            out = np.where(np.isnan(column), out, np.where(np.isinf(column), np.inf, column))
        return out

    def _events(
        self, data: Mapping[str, Sequence[Any]], n: int, step: F64, bad: Any, given: Any, events: list[PlannedEvent]
    ) -> Any:
        out = np.zeros(n, dtype=bool)
        for _, values in self._of("event", data):
            for i, value in enumerate(values):
                if value in PLANNED_EVENTS and not bad[i]:
                    at = float(step[i])
                    events.append(PlannedEvent(value, None if math.isnan(at) else at))
                    out[i] = not given[i]
        return out

    def _names(self, data: Mapping[str, Sequence[Any]], tally: Tally) -> None:
        for role, seen in (("node", tally.nodes), ("gpu_model", tally.gpu_models)):
            for _, values in self._of(role, data):
                for value in sorted({str(v) for v in set(values) if v is not None} - _BARE_WORDS)[
                    : MAX_NAMES - len(seen)
                ]:
                    seen[value] = None
        for role in ("worker_ids", "worker_stages"):
            for _, values in reversed(self._of(role, data)):
                last = next((v for v in reversed(values) if v), None)
                if last is not None:
                    setattr(tally, role, tuple(str(v) for v in last[:MAX_WORKERS]))

    def _workers(self, data: Mapping[str, Sequence[Any]], n: int, tally: Tally) -> F64:
        columns = self._of("workers", data)
        if not columns:
            return np.empty((n, 0))
        lists = columns[0][1]
        sizes = {-1 if v is None else len(v) for v in lists}
        width = max(sizes)
        tally.workers_cut |= width > MAX_WORKERS
        if len(sizes) == 1 and 0 < width <= MAX_WORKERS:
            matrix = np.fromiter(chain.from_iterable(lists), np.float64, n * width).reshape(n, width)
        else:
            matrix = np.full((n, max(0, min(width, MAX_WORKERS))), np.nan)
            for i, values in enumerate(lists):
                if values:
                    matrix[i, : len(values)] = values[:MAX_WORKERS]
        with np.errstate(invalid="ignore"):
            wrong = ~((matrix > 0) & (matrix <= MAX_STEP_MS))
        if wrong.any():
            matrix[wrong] = np.nan
        return matrix


def _coerce(role: str, value: Any) -> Any:
    if role in NUMBERS or role in {"ts", "loss"}:
        if isinstance(value, int | float) and not isinstance(value, bool):
            out = _float(value)
            return math.inf if role == "loss" and not math.isfinite(out) else out
        if isinstance(value, str) and role in {"ts", "loss"}:
            return value
        if role in {"ts", "step_ms"}:
            raise BadShapeError
        return None
    if role == "workers":
        if not isinstance(value, list):
            return None
        return [_float(v) if isinstance(v, int | float) and not isinstance(v, bool) else math.nan for v in value]
    if role in {"worker_ids", "worker_stages"}:
        return value if isinstance(value, list) and all(isinstance(v, str | int) for v in value) else None
    wanted = str | int if role in TEXTS else str
    return value if isinstance(value, wanted) else None


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _epoch_ms(text: str) -> float:
    """RFC 3339 as epoch milliseconds, NaN when it is none. A time without an offset is taken as UTC."""
    if len(text) < 19 or text[4] != "-":
        return math.nan
    try:
        when = datetime.fromisoformat(text)
        # Milliseconds beyond 1e11, so that `_to_ms` leaves them as they are (times after 1973).
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000.0
    except (ValueError, OverflowError):
        return math.nan


def _to_ms(values: F64) -> F64:
    """Epoch seconds, milli-, micro- or nanoseconds as milliseconds: their ranges do not meet for times after 1973."""
    with np.errstate(invalid="ignore"):
        if len(values) and values.min() >= 1e11 and values.max() < 1e14:
            return values
        scale = np.select(
            [values < 0, values < 1e11, values < 1e14, values < 1e17, values < 1e20],
            [np.nan, 1e3, 1.0, 1e-3, 1e-6],
            np.nan,
        )
        return np.asarray(values * scale)


def _loss_word(text: str) -> float:
    return math.inf if text.strip().lstrip("+-").lower() in _NOT_FINITE else math.nan


def _positive(values: F64) -> F64:
    with np.errstate(invalid="ignore"):
        return np.where((values > 0) & np.isfinite(values), values, np.nan)


def _percent(values: F64) -> F64:
    with np.errstate(invalid="ignore"):
        return np.where((values >= 0) & (values <= 101), values, np.nan)


def _memory(number: Mapping[str, F64]) -> F64:
    used = number["mem_used"]
    total = np.where(np.isnan(number["mem_total"]), used + number["mem_free"], number["mem_total"])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 100.0 * used / total
    return _percent(np.where(np.isnan(number["mem"]), share, number["mem"]))
