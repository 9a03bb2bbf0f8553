"""Replay: a recorded run in sliding windows, each observed afresh, and what the policy would have done after each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gitops_mk.controller.observe import observation_payload
from gitops_mk.core.detect.observer import Observer
from gitops_mk.core.parse.reader import MAX_LINE, detect_format, is_table
from gitops_mk.core.recommend import Policy
from gitops_mk.core.replay import Replay, Row, check_windows
from gitops_mk.errors import InputError
from gitops_mk.model.signal import Observation
from gitops_mk.ports import ArtifactStore, Clock, TelemetrySource

MOST_BYTES = 256 * 1_048_576
# Stands for a line too long to be kept: it is counted as unusable, as the line itself would be.
TOO_LONG = b"line too long\n"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Replayed:
    """The rows, oldest first, and what one observer says to the whole recording."""

    rows: tuple[Row, ...]
    whole: Observation


def replay(
    source: TelemetrySource,
    *,
    clock: Clock,
    artifacts: ArtifactStore,
    window: int = 300,
    hop: int = 60,
    confirm: int = 3,
    policy: Policy = "chord",
    progress: Callable[[int], None] | None = None,
) -> Replayed:
    """Observe windows of `window` lines (one line a step), one every `hop` lines, each by an observer that knows nothing else.

    A recording shorter than a window is one window. `progress` is told the number of lines read. Memory is one window's
    lines. Raises InputError for sizes that make no sense and for a recording without a usable line, and TelemetryError.
    """
    check_windows(window=window, hop=hop, confirm=confirm)
    info = source.info
    asked = {"window": window, "hop": hop, "confirm": confirm, "policy": policy}
    artifacts.explain("replay_start", {"source": info.kind, "name": info.name, **asked}, at=clock.now())
    whole, state = (
        Observer(info.kind, info.format, fields=info.fields, planned=info.planned),
        Replay(confirm=confirm, policy=policy),
    )
    rows: list[Row] = []
    lines, header, form = _lines(_fed(whole, source.chunks())), b"", info.format
    kept: deque[bytes] = deque()
    count = size = 0

    def ask() -> None:
        observer = Observer(info.kind, form, fields=info.fields, planned=info.planned)
        observer.feed(header + b"".join(kept))
        row = state.add(observer.finish())
        rows.append(row)
        payload = {"number": row.number, "says": row.says, "found": [str(s.name) for s in row.signals]}
        artifacts.explain("replay_window", payload, at=clock.now())

    for number, line in enumerate(lines):
        if number == 0:
            form = form or detect_format(line.removeprefix(_BOM).strip(), dict(info.fields))
            if is_table(form):
                header = line
                continue
        kept.append(line)
        count, size = count + 1, size + len(line)
        if len(kept) > window:
            size -= len(kept.popleft())
        if size > MOST_BYTES:
            raise InputError(
                f"{len(kept)} lines take more than {MOST_BYTES // 1_048_576} MiB, expected a window to fit in it",
                hint="choose a smaller --window",
            )
        if count >= window and (count - window) % hop == 0:
            ask()
            if progress is not None:
                progress(count)
    if not rows and kept:
        ask()
    seen = whole.finish()
    if not seen.ingest.records:
        raise InputError(
            f"{info.name}: no usable line among {seen.ingest.lines}, expected one record a step with step_time_ms",
            hint="docs/telemetry.md names the formats and fields; --format, when it was not detected",
        )
    artifacts.explain("replay_report", {"windows": len(rows), "found": list(seen.found)}, at=clock.now())
    return Replayed(tuple(rows), seen)


def replay_payload(replayed: Replayed, *, window: int, hop: int, confirm: int, policy: Policy) -> dict[str, Any]:
    """The body of `replay_latest.json`."""
    return {
        "window": window,
        "hop": hop,
        "confirm": confirm,
        "policy": policy,
        "rows": [row.plain() for row in replayed.rows],
        "whole": observation_payload(replayed.whole),
    }


def _fed(whole: Observer, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, each shown to `whole` first: line by line, that would take many times as long."""
    for chunk in chunks:
        whole.feed(chunk)
        yield chunk


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines that are not blank, each with its newline; the parts of one that is too long become a stand-in."""
    rest, cut = b"", False
    for chunk in chunks:
        parts = (rest + chunk).split(b"\n")
        rest = parts.pop()
        for part in parts:
            if cut or len(part) > MAX_LINE:
                yield TOO_LONG
            elif part.strip():
                yield part + b"\n"
            cut = False
        if len(rest) > MAX_LINE:
            rest, cut = b"", True
    if cut:
        yield TOO_LONG
    elif rest.strip():
        yield rest + b"\n"
