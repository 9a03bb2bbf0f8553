"""Telemetry from a file, a gzipped file or standard input, once or as it grows."""

from __future__ import annotations

import gzip
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from gitops_mk.adapters.telemetry.recording import recorded
from gitops_mk.errors import TelemetryError
from gitops_mk.model.telemetry import Environment, SourceInfo

BLOCK = 262_144
LONGEST = 1_048_576
POLL_S = 0.25
_GZIP = b"\x1f\x8b"
_Stream = BinaryIO | FileIO | gzip.GzipFile


class FileSource:
    """The lines of `path`; `-` is standard input, gzip is told by its magic bytes.

    With `follow` it waits for more like `tail -F`: a truncated or replaced file is read again from its start. It
    stops after `duration` seconds, or when the caller does (Ctrl-C). `record_raw` names a file that gets a copy of
    the bytes as read. `chunks()` raises TelemetryError for what can't be read.
    """

    def __init__(
        self,
        path: str,
        *,
        follow: bool = False,
        record_raw: str | None = None,
        duration: float | None = None,
        format_: str | None = None,
        poll_s: float = POLL_S,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._follow = follow and path != "-"
        self._record = record_raw
        self._duration = duration
        self._format = format_
        self._poll_s = poll_s
        self._monotonic = monotonic
        self._sleep = sleep

    @property
    def info(self) -> SourceInfo:
        """`file` and the path."""
        return SourceInfo(kind="file", name=self._path, format=self._format)

    @property
    def environment(self) -> Environment:
        """A file says nothing of machines."""
        return Environment()

    def chunks(self) -> Iterator[bytes]:
        """Blocks of whole lines, oldest first. A line over 1 MiB comes in pieces."""
        blocks = whole_lines(self._bytes())
        return recorded(blocks, self._record) if self._record is not None else blocks

    def _bytes(self) -> Iterator[bytes]:
        end = None if self._duration is None else self._monotonic() + self._duration
        stream, last, empty = self._open(), b"", True
        try:
            while end is None or self._monotonic() < end:
                data = self._read(stream)
                if data:
                    last, empty = data[-1:], False
                    yield data
                    continue
                if not self._follow or isinstance(stream, gzip.GzipFile):
                    break
                self._sleep(self._poll_s)
                if self._replaced(stream):
                    # What came between the last read and the rotation still belongs to the old file.
                    while data := self._read(stream):
                        last = data[-1:]
                        yield data
                    if last not in {b"", b"\n"}:
                        yield b"\n"
                    stream.close()
                    stream = self._open()
        finally:
            if self._path != "-":
                stream.close()
        if empty and not self._follow:
            raise TelemetryError(
                f"{self._name}: empty, expected telemetry lines", hint="check that the job has begun to log"
            )

    @property
    def _name(self) -> str:
        return "standard input" if self._path == "-" else self._path

    def _open(self) -> _Stream:
        if self._path == "-":
            return sys.stdin.buffer
        path = Path(self._path)
        try:
            if path.is_dir():
                raise TelemetryError(f"{self._path}: a directory, expected a file", hint="name one file of telemetry")
            # Unbuffered, so that a growing file is seen as it is.
            stream = path.open("rb", buffering=0)
            if not stream.seekable():
                return stream
            zipped = stream.read(2) == _GZIP
            stream.seek(0)
            if not zipped:
                return stream
            stream.close()
            return gzip.open(path)
        except ValueError as exc:
            raise TelemetryError(f"{self._path!r} is no path: {exc}", hint="name one file of telemetry") from exc
        except FileNotFoundError as exc:
            raise TelemetryError(
                f"{self._path}: no such file",
                hint="name an existing file of telemetry, or - for standard input",
            ) from exc
        except OSError as exc:
            raise TelemetryError(
                f"{self._path}: can't be read: {exc.strerror or exc}", hint="check the path and its permissions"
            ) from exc

    def _read(self, stream: _Stream) -> bytes:
        try:
            if self._path == "-":
                # What is there by now, not a full block: a slow writer must not keep us waiting.
                return os.read(stream.fileno(), BLOCK)
            return stream.read(BLOCK) or b""
        except (OSError, EOFError, zlib.error) as exc:
            raise TelemetryError(
                f"{self._name}: can't be read on: {exc}", hint="for a .gz, check that the file is complete"
            ) from exc

    def _replaced(self, stream: _Stream) -> bool:
        """True when the path means another file now, or the file got shorter than what was read of it."""
        try:
            there, have = Path(self._path).stat(), os.fstat(stream.fileno())
        except OSError:
            # Between the removal of the old file and the making of the new one: wait.
            return False
        return (there.st_dev, there.st_ino) != (have.st_dev, have.st_ino) or there.st_size < stream.tell()


def whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut behind newlines; a line longer than 1 MiB is passed on in pieces, a last one as it is."""
    rest = b""
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end] if rest else block[:end]
            rest = block[end:]
        else:
            rest += block
        if len(rest) > LONGEST:
            yield rest
            rest = b""
    if rest:
        yield rest
