"""A run as the lines of a log: which fields under which names, and what goes wrong on the way to the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import orjson

from tests.bench.decisions.truth import Run, Shown

MIB = 81_559
NOISE = (
    b"INFO resuming data iterator",
    b"[rank0] NCCL version 2.21.5+cuda12.4",
    b"GET /healthz 200 12ms",
    b"saved checkpoint in 45.2s",
    b"Traceback (most recent call last):",
    b'{"event": "heartbeat", "ok": true}',
    b'["not", "a", "record"]',
)


@dataclass(frozen=True)
class Layout:
    """The fields of a log. A name of None leaves the field out; times are in the unit that the name says."""

    time: Literal["ms", "s", "iso", "none"] = "ms"
    time_name: str = "ts"
    step_name: str = "step"
    seconds_name: str | None = "step_time_ms"
    loss_name: str | None = "loss"
    throughput_name: str | None = "throughput"
    util_name: str | None = "gpu_util_pct"
    memory: Literal["pct", "used_total", "used_free", "none"] = "pct"
    workers: bool = True
    stages: bool = True
    comm_name: str | None = None
    node: bool = True
    extra: bool = False
    quoted_nan: bool = False

    def shown(self) -> Shown:
        """What a reader of this log gets to see."""
        return Shown(
            loss=self.loss_name is not None,
            throughput=self.throughput_name is not None,
            workers=self.workers,
            stages=self.stages,
            comm=self.comm_name is not None,
            util=self.util_name is not None,
            memory=self.memory != "none",
        )


@dataclass(frozen=True)
class Dirt:
    """Shares of lines, as fractions, that are doubled, swapped with a neighbour, cut short, overwritten, or lack their step
    time; `noise` is how many foreign lines come in for each line, `skew` a clock that jumps by so many seconds halfway.
    """

    doubled: float = 0.0
    swapped: float = 0.0
    cut: float = 0.0
    garbage: float = 0.0
    missing: float = 0.0
    noise: float = 0.0
    skew: float = 0.0


def mild(rng: np.random.Generator) -> Dirt:
    """What a log shipper does to a log on a usual day: below 8 % of lines lost."""
    share = rng.uniform(0.0, 0.02, 6)
    doubled, swapped, cut, garbage, missing, noise = share.tolist()
    return Dirt(doubled, swapped, cut, garbage, missing, noise)


def write(run: Run, layout: Layout, dirt: Dirt, rng: np.random.Generator) -> list[bytes]:
    """The lines of the log, without their line ends."""
    at = run.at + np.where(np.arange(len(run.at)) > len(run.at) // 2, dirt.skew, 0.0)
    columns: list[tuple[str, list[Any]]] = []
    if layout.time != "none":
        columns.append((layout.time_name, _times(at, layout.time)))
    columns.append((layout.step_name, run.step.tolist()))
    if layout.seconds_name is not None:
        columns.append((layout.seconds_name, _in_unit(run.seconds, layout.seconds_name)))
    if layout.loss_name is not None:
        columns.append((layout.loss_name, np.round(run.loss, 5).tolist()))
    if layout.throughput_name is not None:
        columns.append((layout.throughput_name, np.round(run.throughput, 1).tolist()))
    if layout.workers:
        columns.append(("worker_latencies_ms", np.round(run.workers * 1000.0, 2).tolist()))
        if layout.stages and run.stages:
            columns.append(("pp_stage", [list(run.stages)] * len(run.step)))
    if layout.comm_name is not None:
        columns.append((layout.comm_name, _in_unit(run.comm, layout.comm_name)))
    if layout.util_name is not None:
        columns.append((layout.util_name, np.round(run.util, 1).tolist()))
    columns.extend(_memory(run, layout.memory))
    if layout.node:
        columns.append(("node", [run.nodes[0] if run.nodes else "node-a"] * len(run.step)))
    if layout.extra:
        columns.append(("grad_norm", np.round(rng.gamma(4.0, 0.2, len(run.step)), 3).tolist()))
        columns.append(("lr", np.round(np.linspace(3e-4, 3e-5, len(run.step)), 8).tolist()))
        columns.append(("epoch", np.round(np.arange(len(run.step)) / 977.0, 3).tolist()))
    names = [name for name, _ in columns]
    lines: list[bytes] = []
    marks: dict[int, list[str]] = {}
    for i, word in run.events:
        marks.setdefault(i, []).append(word)
    finite = np.isfinite(run.loss)
    place = names.index(layout.loss_name) if layout.loss_name is not None else -1
    for i, row in enumerate(zip(*(values for _, values in columns), strict=True)):
        lines.extend(orjson.dumps({"event": word, "step": int(run.step[i])}) for word in marks.get(i, ()))
        record = dict(zip(names, row, strict=True))
        if place < 0 or finite[i]:
            lines.append(orjson.dumps(record))
        else:
            # As `json.dumps` writes it: no valid JSON, and what trainers log.
            if layout.quoted_nan:
                record[names[place]] = str(record[names[place]])
            lines.append(json.dumps(record).encode())
    return soil(lines, dirt, rng, layout.seconds_name)


def soil(lines: list[bytes], dirt: Dirt, rng: np.random.Generator, needed: str | None) -> list[bytes]:
    """The lines after what `dirt` says has happened to them."""
    if dirt == Dirt():
        return lines
    n = len(lines)
    fate = rng.random((n, 6))
    out: list[bytes] = []
    for i, line in enumerate(lines):
        if fate[i, 0] < dirt.cut:
            line = line[: max(1, int(len(line) * fate[i, 5]))]
        elif fate[i, 1] < dirt.garbage:
            line = bytes([0xFF, 0xFE]) + line[: int(len(line) * fate[i, 5])].replace(b'"', b"\x00")
        elif fate[i, 2] < dirt.missing and needed is not None:
            line = _without(line, needed)
        out.append(line)
        if fate[i, 3] < dirt.doubled:
            out.append(line)
        if fate[i, 4] < dirt.noise:
            out.append(NOISE[int(fate[i, 5] * len(NOISE))])
    for place in np.flatnonzero(rng.random(len(out) - 1) < dirt.swapped).tolist():
        out[place], out[place + 1] = out[place + 1], out[place]
    return out


def _without(line: bytes, name: str) -> bytes:
    try:
        record = json.loads(line)
    except ValueError:
        return line
    record[name] = None
    return json.dumps(record).encode()


def _in_unit(seconds: np.ndarray[Any, np.dtype[np.float64]], name: str) -> list[float]:
    values: list[float] = (
        np.round(seconds * 1000.0, 3).tolist() if name.endswith("_ms") else np.round(seconds, 6).tolist()
    )
    return values


def _times(at: np.ndarray[Any, np.dtype[np.float64]], style: str) -> list[Any]:
    if style == "iso":
        return [datetime.fromtimestamp(t, UTC).isoformat(timespec="milliseconds") for t in at.tolist()]
    values: list[Any] = np.round(at * 1000.0).astype(np.int64).tolist() if style == "ms" else np.round(at, 3).tolist()
    return values


def _memory(run: Run, style: str) -> list[tuple[str, list[Any]]]:
    used = np.round(run.memory / 100.0 * MIB)
    made: dict[str, Callable[[], list[tuple[str, list[Any]]]]] = {
        "none": list,
        "pct": lambda: [("gpu_mem_util_pct", np.round(run.memory, 2).tolist())],
        "used_total": lambda: [
            ("gpu_mem_used_mb", used.tolist()),
            ("gpu_mem_total_mb", [float(MIB)] * len(run.step)),
        ],
        "used_free": lambda: [
            ("DCGM_FI_DEV_FB_USED", used.tolist()),
            ("DCGM_FI_DEV_FB_FREE", (MIB - used).tolist()),
        ],
    }
    return made[style]()
