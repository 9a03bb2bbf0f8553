"""Any source, with what a workload's configuration says of its lines."""

from __future__ import annotations

from collections.abc import Iterator

from gitops_mk.model.settings import TelemetrySettings
from gitops_mk.model.telemetry import Environment, SourceInfo
from gitops_mk.ports import TelemetrySource


class ConfiguredSource:
    """A source whose `info` has the job's own names of fields, and the events that no line announces."""

    def __init__(self, source: TelemetrySource, said: TelemetrySettings) -> None:
        self._source = source
        self._said = said

    @property
    def info(self) -> SourceInfo:
        """What the source says of itself, and the configuration of its lines."""
        said = self._said
        planned = tuple((float(event.step), event.what) for event in said.planned)
        return self._source.info._replace(fields=tuple(said.fields.items()), planned=planned)

    @property
    def environment(self) -> Environment:
        """What the source knows."""
        return self._source.environment

    def chunks(self) -> Iterator[bytes]:
        """The blocks of the source. Raises TelemetryError."""
        return self._source.chunks()
