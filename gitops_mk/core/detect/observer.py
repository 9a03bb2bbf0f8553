"""A stream of telemetry bytes to one observation, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np

from gitops_mk.core.detect.answers import unknown
from gitops_mk.core.detect.attribution import judge
from gitops_mk.core.detect.history import EVENTS, History, View
from gitops_mk.core.detect.pace import pace_of
from gitops_mk.core.detect.registry import DETECTORS
from gitops_mk.core.parse.columns import Columns
from gitops_mk.core.parse.reader import Reader
from gitops_mk.core.parse.rows import MAX_WORKERS
from gitops_mk.core.parse.sequence import Sequencer
from gitops_mk.model.signal import Observation, Signal
from gitops_mk.model.telemetry import Environment, IngestCounts, Window


class Observer:
    """Feed it bytes, ask it once at the end. Without `min_steps` usable steps, or with more than `max_dropped_pct`
    percent of the lines unusable, every detector answers that the evidence is insufficient. Steps that carry a time not
    after `since` are left out: what was merged then may have mended what they show. `fields` and `planned` are those of
    `model.telemetry.SourceInfo`.

    Raises InputError for an unknown format, field or kind of event.
    """

    def __init__(
        self,
        source_kind: str,
        format: str | None = None,  # noqa: A002 (the word the command line and the reports use)
        min_steps: int = 30,
        max_dropped_pct: float = 20.0,
        since: datetime | None = None,
        fields: Iterable[tuple[str, str]] = (),
        planned: Iterable[tuple[float, str]] = (),
    ) -> None:
        self._source = source_kind
        self._min_steps = min_steps
        self._max_dropped_pct = max_dropped_pct
        self._since_ms = None if since is None else since.timestamp() * 1000.0
        self._left_out = 0
        self._reader = Reader(format, fields=dict(fields), planned=planned)
        self._sequence = Sequencer()
        self._history = History()

    @property
    def progress(self) -> int:
        """Lines read so far."""
        return self._reader.tally.lines

    def feed(self, chunk: bytes) -> None:
        """Take in more bytes; lines may be cut anywhere."""
        self._take(self._reader.feed(chunk))
        # Only the last few events can matter to what is remembered.
        del self._reader.events[:-EVENTS]

    def finish(self) -> Observation:
        """The answer to all that was fed; nothing may be fed after it."""
        self._take(self._reader.finish())
        for rows in self._sequence.finish():
            self._append(rows)
        counts = self._counts()
        tally = self._reader.tally
        view = self._view() if self._history.total else None
        nodes, models = tuple(sorted(tally.nodes)), tuple(sorted(tally.gpu_models))
        return Observation(
            signals=self._signals(counts, view),
            environment=Environment(
                nodes_seen=nodes,
                gpu_models_seen=models,
                unstable=len(nodes) > 1 or len(models) > 1,
                notes=self._notes(counts),
            ),
            ingest=counts,
            window=self._window(),
            source=self._source,
            format=self._reader.format,
            pace=pace_of(view) if view is not None else None,
        )

    def _take(self, batches: list[Columns]) -> None:
        for batch in batches:
            for rows in self._sequence.feed(batch):
                self._append(rows)

    def _append(self, rows: Columns) -> None:
        if self._since_ms is not None:
            new = ~(rows.ts <= self._since_ms)
            self._left_out += len(new) - int(new.sum())
            rows = rows.take(new)
        if len(rows):
            self._history.append(rows)

    def _counts(self) -> IngestCounts:
        tally, sequence = self._reader.tally, self._sequence
        missing = tally.missing_fields + sequence.underivable
        return IngestCounts(
            lines=tally.lines,
            records=self._history.total,
            events=tally.events,
            dropped_invalid_json=tally.invalid_json,
            dropped_invalid_shape=tally.invalid_shape,
            dropped_missing_fields=missing,
            dropped_total=tally.invalid_json + tally.invalid_shape + missing,
            duplicates=sequence.duplicates,
            out_of_order=sequence.out_of_order,
            clock_skew=sequence.clock_skew,
            resumes=sequence.resumes,
            gaps=sequence.gaps,
            left_out=self._left_out,
            other=tally.other,
        )

    def _view(self) -> View:
        tally = self._reader.tally
        return self._history.view(
            events=tuple(self._reader.events), workers=tally.worker_ids, stages=tally.worker_stages
        )

    def _signals(self, counts: IngestCounts, view: View | None) -> tuple[Signal, ...]:
        why = None
        if counts.records < self._min_steps:
            why = f"{counts.records} usable steps, expected at least {self._min_steps}"
        elif counts.dropped_pct > self._max_dropped_pct:
            share, most = counts.dropped_pct, self._max_dropped_pct
            why = f"{share:.0f} % of {counts.lines} lines unusable, expected at most {most:.0f} %"
        if why is not None or view is None:
            return tuple(unknown(name, why or "no steps", "step_time_ms") for name, _ in DETECTORS)
        return judge(view)

    def _notes(self, counts: IngestCounts) -> tuple[str, ...]:
        tally = self._reader.tally
        notes = []
        if tally.events:
            notes.append(f"{tally.events} lines announced planned events")
        if counts.left_out:
            notes.append(f"{counts.left_out} steps from before the last merge were left out")
        if counts.resumes:
            notes.append(f"the job resumed {counts.resumes} times")
        if counts.clock_skew:
            notes.append(f"the clock went backwards {counts.clock_skew} times while steps went forward")
        if tally.workers_cut:
            notes.append(f"only the first {MAX_WORKERS} workers of a step were read")
        return tuple(notes)

    def _window(self) -> Window:
        first, total = self._history.first, self._history.total
        if first is None:
            return Window()
        last = self._history.view().recent.take(slice(-1, None))
        return Window(
            first_step=int(first.step[0]),
            last_step=int(last.step[0]),
            steps=total,
            first_ts=_rfc3339(float(first.ts[0])),
            last_ts=_rfc3339(float(last.ts[0])),
        )


def _rfc3339(ms: float) -> str | None:
    if np.isnan(ms):
        return None
    # The reader gives no time beyond the year 5138.
    return datetime.fromtimestamp(ms / 1000.0, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
