"""A copy of the raw lines, byte for byte, beside whatever reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gitops_mk.errors import TelemetryError
from gitops_mk.model.telemetry import Environment, SourceInfo
from gitops_mk.ports import TelemetrySource


def recorded(blocks: Iterator[bytes], path: str) -> Iterator[bytes]:
    """The blocks as they are, each written to `path` before it is passed on. Raises TelemetryError."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        sink = Path(path).open("wb")  # noqa: SIM115 (closed below, after the last block)
    except OSError as exc:
        raise TelemetryError(
            f"{path}: can't record the raw lines: {exc.strerror or exc}", hint="name a writable file with --record-raw"
        ) from exc
    with sink:
        for block in blocks:
            try:
                sink.write(block)
                # Whoever looks while it runs, or after a crash, finds what was read.
                sink.flush()
            except OSError as exc:
                raise TelemetryError(
                    f"{path}: can't record the raw lines: {exc.strerror or exc}", hint="is the disk full?"
                ) from exc
            yield block


class RecordingSource:
    """Any source, with its raw lines kept in a file."""

    def __init__(self, source: TelemetrySource, path: str) -> None:
        self._source = source
        self._path = path

    @property
    def info(self) -> SourceInfo:
        """What the source says of itself."""
        return self._source.info

    @property
    def environment(self) -> Environment:
        """What the source knows."""
        return self._source.environment

    def chunks(self) -> Iterator[bytes]:
        """The blocks of the source. Raises TelemetryError."""
        return recorded(self._source.chunks(), self._path)
