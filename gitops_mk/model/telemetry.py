"""What came in: the counts of an ingest, the window it covers, and the machines it came from."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple

from pydantic import Field

from gitops_mk.model.base import Frozen


class IngestCounts(Frozen):
    """How many lines were read and what became of them: `records` is what detection saw, `events` are planned pauses,
    `left_out` are steps from before the last merge, `other` are lines that claim to be no step (a log's chatter).
    """

    lines: int = 0
    records: int = 0
    events: int = 0
    dropped_invalid_json: int = 0
    dropped_invalid_shape: int = 0
    dropped_missing_fields: int = 0
    dropped_total: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    clock_skew: int = 0
    resumes: int = 0
    gaps: int = 0
    left_out: int = 0
    other: int = 0

    @property
    def dropped_pct(self) -> float:
        """Dropped lines in percent of those that claim to be a step; 0 when there is none."""
        claimed = self.lines - self.other
        return 100.0 * self.dropped_total / claimed if claimed > 0 else 0.0


class Window(Frozen):
    """The stretch of training that was looked at. Times are RFC 3339 in UTC, null where the records carry none."""

    first_step: int | None = None
    last_step: int | None = None
    steps: int = 0
    first_ts: str | None = None
    last_ts: str | None = None

    def begins_after(self, since: datetime) -> bool:
        """True when its first step is known to be from after `since`."""
        return self.first_ts is not None and datetime.fromisoformat(self.first_ts) > since


class Pace(Frozen):
    """How fast the newest steps went, warm-up and planned pauses left out: the mean step time, in milliseconds, of blocks
    of `block_steps` steps each, oldest first. `checkpoint_every`: steps between the checkpoints that the job announced.
    """

    block_steps: Annotated[int, Field(ge=1, le=1_000_000)]
    block_ms: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)], ...], Field(min_length=1, max_length=64)
    ]
    checkpoint_every: Annotated[int, Field(ge=1, le=2**53)] | None = None

    @property
    def steps(self) -> int:
        """How many steps are told of."""
        return len(self.block_ms) * self.block_steps

    @property
    def mean_ms(self) -> float:
        """The mean step time."""
        return sum(self.block_ms) / len(self.block_ms)


class Environment(Frozen):
    """Where the records came from; `unstable` when more than one node or GPU model is in the window."""

    nodes_seen: tuple[str, ...] = ()
    gpu_models_seen: tuple[str, ...] = ()
    unstable: bool = False
    notes: tuple[str, ...] = ()


class SourceInfo(NamedTuple):
    """What a telemetry source is called in reports, and the format it was told to expect (None: detect it).

    `fields`: pairs of a field's name of ours and the job's own. `planned`: events that no line announces, step and kind.
    """

    kind: str
    name: str
    format: str | None = None
    fields: tuple[tuple[str, str], ...] = ()
    planned: tuple[tuple[float, str], ...] = ()
