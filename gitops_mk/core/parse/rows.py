"""Rows to columns: what a line must have, what is counted where, and how each field is normalised.

A row is a typed object with one attribute a key. A `Layout` knows the keys seen so far, and which attribute fills which
role. A line with a key that the layout does not know can't be decoded by it, nor one with an object that may hold fields:
the caller then adds the key, and takes the object apart. That makes the fast way exact: no name is ever overlooked.
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
from gitops_mk.core.parse.fields import (
    ALIASES,
    LISTS,
    NUMBERS,
    PLANNED_EVENTS,
    TEXTS,
    Alias,
    Aliases,
    flattened,
    known,
    outers,
)

MAX_KEYS = 128
MAX_KEY_LENGTH = 200
MAX_WORKERS = 1024
MAX_NAMES = 64
MAX_NAME = 200
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
    "worker_nodes": list[str | int] | None,
    "worker_ranks": list[str | int] | None,
    "worker_stages": list[float] | float | None,
    "rank": int | str | None,
    "validation": msgspec.Raw,
    "request": msgspec.Raw,
    "node": str | int | None,
    "gpu_model": str | int | None,
    "event": str | None,
}
# What an object that may hold fields can be on the fast way: anything but an object.
_NO_OBJECT: Any = str | float | bool | list[Any] | None
_NULL = b"null"
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
    "wait_ms": lambda rows: [r.wait_ms for r in rows],
    "retries": lambda rows: [r.retries for r in rows],
    "clock_mhz": lambda rows: [r.clock_mhz for r in rows],
    "rank": lambda rows: [r.rank for r in rows],
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
    """What became of the lines, and what was said beside the numbers.

    `other`: lines that do not claim to be a step: what else a job prints, validation, access logs. `merged`: records of
    further ranks, put together with that of the first. What is said of workers is what was said last, in the order of
    their columns.
    """

    lines: int = 0
    invalid_json: int = 0
    invalid_shape: int = 0
    missing_fields: int = 0
    events: int = 0
    other: int = 0
    merged: int = 0
    nodes: dict[str, None] = field(default_factory=dict)
    gpu_models: dict[str, None] = field(default_factory=dict)
    worker_names: tuple[str, ...] = ()
    worker_nodes: tuple[str, ...] = ()
    worker_ranks: tuple[str, ...] = ()
    worker_stages: tuple[str, ...] = ()
    workers_cut: bool = False

    @property
    def worker_ids(self) -> tuple[str, ...]:
        """What to call the workers: by their own names, else by their nodes where those differ, else by rank."""
        if self.worker_names:
            return self.worker_names
        apart = len(set(self.worker_nodes)) == len(self.worker_nodes)
        return self.worker_nodes if self.worker_nodes and apart else self.worker_ranks


class Batch(NamedTuple):
    """Columns, and where the records name ranks what they say of them: one entry a row, None where a row says nothing.

    own: milliseconds that the rank itself worked on the step. stages: its pipeline stage.
    """

    columns: Columns
    ranks: list[str | None] | None = None
    own: F64 | None = None
    nodes: list[str | None] | None = None
    stages: list[int | None] | None = None

    def take(self, rows: Any) -> Batch:
        """The rows that a mask names, everywhere."""
        at = np.flatnonzero(rows).tolist()
        own = None if self.own is None else self.own[rows]
        lists = ([x[i] for i in at] if x is not None else None for x in (self.ranks, self.nodes, self.stages))
        ranks, nodes, stages = lists
        return Batch(self.columns.take(rows), ranks, own, nodes, stages)  # type: ignore[arg-type]


class BadShapeError(Exception):
    """A required field holds something of the wrong type."""


class Layout:
    """The keys known so far, the row type made of them, and the way from rows to columns."""

    def __init__(self, aliases: Aliases = ALIASES) -> None:
        self.aliases = aliases
        self._outers = outers(aliases)
        self._keys: dict[str, str] = {}
        self._meaning: dict[str, Alias | None] = {}
        self._build()

    def learn(self, keys: Iterable[str]) -> None:
        """Add keys, up to a limit. A line with a key beyond it is read the slow way."""
        fresh = [k for k in keys if k not in self._keys]
        wanted = [k for k in fresh if len(k) <= MAX_KEY_LENGTH][: MAX_KEYS - len(self._keys)]
        if wanted:
            for key in wanted:
                alias = self._meaning[key] = known(key, self.aliases)
                role = alias.role if alias is not None else ""
                taken = role not in _PICK or role in self._keys.values()
                self._keys[key] = f"f{len(self._keys)}" if taken else role
            self._build()

    def _build(self) -> None:
        spec: list[tuple[str, Any, Any]] = []
        self._roles: dict[str, list[tuple[Alias, str]]] = {}
        for key, attr in self._keys.items():
            alias = self._meaning[key]
            if alias is None:
                spec.append((attr, _NO_OBJECT if key in self._outers else msgspec.Raw, None))
                continue
            spec.append((attr, _TYPES.get(alias.role, float | None), None))
            self._roles.setdefault(alias.role, []).append((alias, attr))
        for names in self._roles.values():
            names.sort()
        rename = {attr: key for key, attr in self._keys.items()}
        self.row: Any = msgspec.defstruct("Row", spec, rename=rename, forbid_unknown_fields=True, gc=False)
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.row)

    def flat(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record with the fields in its objects taken out of them."""
        return flattened(record, self.aliases, self._outers)

    def coerce(self, record: Mapping[str, Any]) -> Any:
        """A row from plain data, with what can't be used left out.

        Raises BadShapeError where a step time or a time stamp is of the wrong type.
        """
        values = {}
        for key, value in record.items():
            alias = self._meaning.get(key)
            if alias is not None and value is not None:
                values[self._keys[key]] = _coerce(alias.role, value)
        return self.row(**values)

    def stamp(self, row: Any, time: str | None, rank: str | None) -> None:
        """Give a row the time and the rank that stand in front of its line, where it has none of its own.

        The layout must have learnt `ts` and `rank`.
        """
        for role, value in (("ts", time), ("rank", rank)):
            names = self._roles.get(role, ())
            if names and value is not None and all(getattr(row, attr) is None for _, attr in names):
                setattr(row, names[0][1], value)

    def columns(self, rows: Sequence[Any], tally: Tally, events: list[PlannedEvent]) -> Batch | None:
        """Rows as columns, unusable ones counted and left out; None when none is left."""
        n = len(rows)
        attrs = [attr for names in self._roles.values() for _, attr in names]
        if not attrs:
            tally.missing_fields += n
            return None
        data = {attr: _PICK[attr](rows) if attr in _PICK else list(map(attrgetter(attr), rows)) for attr in attrs}
        blank = np.full(n, np.nan)
        number = {role: self._numbers(role, data, blank) for role in NUMBERS}
        ts, ts_bad = self._times(data, n)
        step_ms = number["step_ms"]
        given = ~np.isnan(step_ms)
        if not given.all():
            given |= self._nan_given("step_ms", data, n)
        with np.errstate(invalid="ignore"):
            bad = ts_bad | (given & ~((step_ms > 0) & (step_ms <= MAX_STEP_MS)))
            step = np.where(np.isfinite(number["step"]) & (number["step"] >= 0), np.floor(number["step"]), np.nan)
        loss = self._loss(data, n)
        is_event = self._events(data, n, step, bad, given, events)
        derivable = ~given & ~np.isnan(ts) & ~np.isnan(step)
        other = self._other(data, step, loss, given) & ~bad & ~is_event
        missing = ~given & ~derivable & ~is_event & ~bad & ~other
        keep = ~(bad | missing | is_event | other)
        tally.invalid_shape += int(bad.sum())
        tally.missing_fields += int(missing.sum())
        tally.events += int(is_event.sum())
        tally.other += int(other.sum())
        self._names(data, tally)
        if not keep.any():
            return None
        columns = Columns(
            ts=ts,
            step=step,
            step_ms=step_ms,
            loss=loss,
            throughput=_positive(number["throughput"], blank),
            util=_percent(number["util"], blank),
            mem=_memory(number, blank),
            comm_ms=_not_negative(number["comm_ms"], blank),
            wait_ms=_not_negative(number["wait_ms"], blank),
            retries=_not_negative(number["retries"], blank),
            clock_mhz=_positive(number["clock_mhz"], blank),
            segment=np.zeros(n),
            workers=self._workers(data, n, tally),
        )
        batch = Batch(columns) if "rank" not in self._roles else self._ranked(columns, number["own_ms"], data, n)
        return batch if keep.all() else batch.take(keep)

    def _ranked(self, columns: Columns, own: F64, data: Mapping[str, Sequence[Any]], n: int) -> Batch:
        return Batch(
            columns,
            ranks=[None if v is None else str(v)[:MAX_NAME] for v in self._first("rank", data, n)],
            own=np.where((own > 0) & (own <= MAX_STEP_MS), own, np.nan),
            nodes=[None if v is None else str(v)[:MAX_NAME] for v in self._first("node", data, n)],
            stages=[int(v) if isinstance(v, float) and math.isfinite(v) else None
                    for v in self._first("worker_stages", data, n)],
        )  # fmt: skip

    def _first(self, role: str, data: Mapping[str, Sequence[Any]], n: int) -> Sequence[Any]:
        """The values of the best name of a role that each row has."""
        names = self._of(role, data)
        if not names:
            return [None] * n
        out = names[0][1]
        for _, values in names[1:]:
            out = [a if a is not None else b for a, b in zip(out, values, strict=True)]
        return out

    def _other(self, data: Mapping[str, Sequence[Any]], step: F64, loss: F64, given: Any) -> Any:
        """Rows of an evaluation, and requests that something served: they have a time, and are no steps."""
        n = len(step)
        out = np.zeros(n, dtype=bool)
        for role, excused in (("validation", given | ~np.isnan(loss)), ("request", ~np.isnan(step) | ~np.isnan(loss))):
            for _, values in self._of(role, data):
                out |= np.array([v is not None and bytes(v) != _NULL for v in values], dtype=bool) & ~excused
        return out

    def _of(self, role: str, data: Mapping[str, Sequence[Any]]) -> list[tuple[Alias, Sequence[Any]]]:
        return [(alias, data[attr]) for alias, attr in self._roles.get(role, ())]

    def _numbers(self, role: str, data: Mapping[str, Sequence[Any]], blank: F64) -> F64:
        out: F64 | None = None
        for alias, values in self._of(role, data):
            # A number too large for its unit becomes infinite, which is no measurement, and dropped as such.
            with np.errstate(over="ignore"):
                column = np.array(values, dtype=np.float64) * alias.scale
            out = column if out is None else np.where(np.isnan(out), column, out)
        return blank if out is None else out

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
        for role in ("worker_ids", "worker_nodes", "worker_ranks"):
            last = self._last_list(role, data)
            if last is not None:
                setattr(tally, "worker_names" if role == "worker_ids" else role, tuple(map(str, last)))
        stages = self._last_list("worker_stages", data)
        if stages is not None and all(map(math.isfinite, stages)):
            tally.worker_stages = tuple(str(int(stage)) for stage in stages)

    def _last_list(self, role: str, data: Mapping[str, Sequence[Any]]) -> list[Any] | None:
        values = self._first(role, data, 0)
        last = next((v for v in reversed(values) if v and isinstance(v, list)), None)
        return None if last is None else last[:MAX_WORKERS]

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
    if role in LISTS:
        return _coerce_list(role, value)
    if role in {"validation", "request"}:
        return msgspec.Raw(b"1")
    if role == "rank":
        return value if isinstance(value, str | int) and not isinstance(value, bool) else None
    wanted = str | int if role in TEXTS else str
    return value if isinstance(value, wanted) else None


def _coerce_list(role: str, value: Any) -> Any:
    if role == "worker_stages" and isinstance(value, int | float) and not isinstance(value, bool):
        return _float(value)
    if not isinstance(value, list):
        return None
    if role in {"workers", "worker_stages"}:
        return [_float(v) if isinstance(v, int | float) and not isinstance(v, bool) else math.nan for v in value]
    return value if all(isinstance(v, str | int) for v in value) else None


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


def _positive(values: F64, blank: F64) -> F64:
    if values is blank:
        return blank
    with np.errstate(invalid="ignore"):
        return np.where((values > 0) & np.isfinite(values), values, np.nan)


def _not_negative(values: F64, blank: F64) -> F64:
    if values is blank:
        return blank
    with np.errstate(invalid="ignore"):
        return np.where((values >= 0) & np.isfinite(values), values, np.nan)


def _percent(values: F64, blank: F64) -> F64:
    if values is blank:
        return blank
    with np.errstate(invalid="ignore"):
        return np.where((values >= 0) & (values <= 101), values, np.nan)


def _memory(number: Mapping[str, F64], blank: F64) -> F64:
    used = number["mem_used"]
    if used is blank:
        return _percent(number["mem"], blank)
    total = np.where(np.isnan(number["mem_total"]), used + number["mem_free"], number["mem_total"])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 100.0 * used / total
    return _percent(np.where(np.isnan(number["mem"]), share, number["mem"]), blank)
