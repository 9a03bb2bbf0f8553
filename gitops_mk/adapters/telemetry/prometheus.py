"""Telemetry from a Prometheus: what it holds of a window, as records of steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from gitops_mk.adapters.telemetry.prometheus_access import PrometheusAccess
from gitops_mk.adapters.telemetry.prometheus_http import OutOfTime, PrometheusClient, TooMuch
from gitops_mk.core.prometheus.grid import FIRST_POINTS, LEAST_POINTS, MOST_POINTS, grid, points
from gitops_mk.core.prometheus.records import Recorder
from gitops_mk.errors import TelemetryError
from gitops_mk.model.telemetry import Environment, SourceInfo

BLOCK: Final = 262_144
# Of one read, whatever number of queries it takes.
MAX_TOTAL_S: Final = 180.0
WITHHELD: Final = "credentials for Prometheus were not sent: they are for another origin than the configured one"


class PrometheusSource:
    """The last `duration_s` seconds of a Prometheus, a sample every `step_s`; `queries` are expressions by role.

    JSON lines as `core.prometheus.records` makes them. `environment` says which machines labels name, and what is missing.
    `now` is epoch seconds, `clock` seconds that never go back. Raises ConfigError for a step or a duration beyond their limits.
    """

    def __init__(
        self,
        access: PrometheusAccess,
        queries: Mapping[str, str],
        *,
        duration_s: float,
        step_s: float,
        timeout_s: float = 30.0,
        worker_label: str | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = access.address.url
        self._client = PrometheusClient(access, timeout_s=timeout_s, sleep=sleep, clock=clock)
        self._queries = dict(queries)
        self._grid = grid(now_s=now(), duration_s=duration_s, step_s=step_s)
        self._recorder = Recorder(self._grid, self._queries, worker_label=worker_label)
        if access.withheld:
            self._recorder.note(WITHHELD)

    @property
    def info(self) -> SourceInfo:
        """`prometheus` and its address."""
        return SourceInfo(kind="prometheus", name=self._url, format="jsonl")

    @property
    def environment(self) -> Environment:
        """Nodes and GPU models that labels name, and what was missing."""
        recorder = self._recorder
        nodes, models = recorder.nodes, recorder.gpu_models
        return Environment(
            nodes_seen=nodes,
            gpu_models_seen=models,
            unstable=len(nodes) > 1 or len(models) > 1,
            notes=recorder.notes,
        )

    def chunks(self) -> Iterator[bytes]:
        """Blocks of whole lines, oldest first, for at most three minutes: what is not read by then is told as a gap.

        Raises TelemetryError, also where no query has a sample; ConfigError.
        """
        self._client.limit(MAX_TOTAL_S)
        at, step, most = 0, FIRST_POINTS, MOST_POINTS
        while at < self._grid.size:
            count = min(step, most, self._grid.size - at)
            try:
                self._take(at, count)
            except TooMuch as exc:
                if count <= LEAST_POINTS:
                    raise exc.why from exc
                # For good: a server that ran out of time once would do so again.
                most = max(LEAST_POINTS, count // 4)
                continue
            except OutOfTime as exc:
                if self._recorder.empty:
                    raise exc.why from exc
                break
            yield from _blocks(self._recorder.lines(at, count))
            at += count
            step = points(self._recorder.most_series)
        yield from _blocks(self._recorder.finish(at, why=f"the read took over {MAX_TOTAL_S:.0f} s"))
        if self._recorder.empty:
            raise TelemetryError(
                f"{self._url} has no sample for any of {', '.join(self._queries)} in that window",
                hint="try the queries in Prometheus itself: are the names and the labels as there, and did the job run then?",
                retryable=True,
            )

    def _take(self, first: int, count: int) -> None:
        """The answers of all roles for one span. What was taken of a span before TooMuch is taken again, in its place."""
        start, end = self._grid.at(first), self._grid.at(first + count - 1)
        for role, query in self._queries.items():
            answer = self._client.query_range(role, query, start_ms=start, end_ms=end, step_ms=self._grid.step_ms)
            self._recorder.take(role, first, count, answer)


def _blocks(lines: list[str]) -> Iterator[bytes]:
    block = bytearray()
    for line in lines:
        block += line.encode() + b"\n"
        if len(block) >= BLOCK:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
