"""A container's log as raw blocks to lines with their times, each line once however often the log is read again.

The API gives each line its time in front (`timestamps=true`), and can start at a time (`sinceTime`), but only at a whole second:
what was seen of that second comes again. So the times of the last lines are remembered, and as many lines of each are
left out. Where a log that is read again does not have the last line that was seen, something is missing: it was rotated.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

# No record is longer; what a job prints beside its records may be.
LONGEST: Final = 65_536
CUT: Final = b" [cut by mk]"
# How many times are remembered: what is read again, and how late a line may come (stdout and stderr are not in step).
MEMORY: Final = 128

_TIME: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_TIME_LENGTH: Final = 64


class Line(NamedTuple):
    """A line: its time in UTC with nine decimals, so that texts sort like times, and its bytes, newline included."""

    time: bytes
    data: bytes


class PodLines:
    """The lines of one run of a container. `begin` before each reading, then `feed` its blocks; memory is bounded.

    A line over 64 KiB is cut, and marked so that no reader takes it for a record. Lines without a time are not the
    container's but the kubelet's, about an error: they are left out, and `untimed` counts them.
    """

    def __init__(self) -> None:
        self.untimed = 0
        self.last_words = b""
        self._rest = b""
        self._cutting = False
        self._seen: dict[bytes, int] = {}
        self._forgot = False
        self._newest = b""
        # What is still to come again of what was seen; None once the reading is past it.
        self._owed: dict[bytes, int] | None = None
        self._met = False
        self._met_any = False
        self._missing: tuple[str, str] | None = None

    @property
    def newest(self) -> str | None:
        """The time of the last line, None before the first."""
        return self._newest.decode() if self._newest else None

    @property
    def missing(self) -> tuple[str, str] | None:
        """Between which times lines are missing, found in this reading: it did not have the last line that was seen."""
        return self._missing

    @property
    def reached(self) -> bool:
        """True when this reading had the last line that was seen, or a later one."""
        return self._owed is None or self._met

    @property
    def known(self) -> bool:
        """True when this reading had anything that was seen before."""
        return self._met_any

    def begin(self) -> str | None:
        """Begin a reading; gives the time to ask for with `sinceTime`, None for all there is."""
        self._rest, self._cutting = b"", False
        self._met = self._met_any = False
        self._missing = None
        if not self._newest:
            return None
        self._owed = dict(self._seen)
        return min(self._seen)[:19].decode() + "Z"

    def feed(self, block: bytes) -> list[Line]:
        """The lines that are complete by now, and new."""
        if self._cutting:
            end = block.find(b"\n")
            if end < 0:
                return []
            block, self._cutting = self._rest + block[end:], False
        elif self._rest:
            block = self._rest + block
        *whole, self._rest = block.split(b"\n")
        if len(self._rest) > LONGEST + _TIME_LENGTH:
            self._rest, self._cutting = self._rest[: LONGEST + _TIME_LENGTH], True
        return [line for text in whole if (line := self._line(text)) is not None]

    def finish(self) -> list[Line]:
        """The last line, which no newline will end any more."""
        return self.feed(b"\n") if self._rest else []

    def _line(self, text: bytes) -> Line | None:
        stamp, _, data = text.partition(b" ")
        time = normal_time(stamp)
        if time is None:
            self.untimed += 1
            self.last_words = text[:200]
            return None
        if self._owed is not None and not self._is_new(time, self._owed):
            return None
        seen = self._seen
        seen[time] = seen.get(time, 0) + 1
        if len(seen) > MEMORY:
            del seen[next(iter(seen))]
            self._forgot = True
        self._newest = max(self._newest, time)
        if len(data) > LONGEST:
            data = data[:LONGEST] + CUT
        return Line(time, data + b"\n")

    def _is_new(self, time: bytes, owed: dict[bytes, int]) -> bool:
        if time > self._newest:
            self._owed = None
            if not self._met:
                self._missing = (self._newest.decode(), time.decode())
            return True
        left = owed.get(time, 0)
        if left:
            owed[time] = left - 1
            self._met_any = True
            self._met = self._met or time == self._newest
            return False
        # What is older than all that is remembered was seen, if anything was forgotten.
        return not self._forgot or time in owed or time > min(owed)


def normal_time(stamp: bytes) -> bytes | None:
    """An RFC 3339 time in UTC with nine decimals; None for what is no such time."""
    found = _TIME.fullmatch(stamp)
    if found is None:
        return None
    moment, decimals, zone = found.groups()
    if zone == b"Z":
        if len(stamp) == 30:
            return stamp
    else:
        try:
            moved = datetime.fromisoformat((moment + zone).decode()).astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        moment = moved.strftime("%Y-%m-%dT%H:%M:%S").encode()
    return moment + b"." + (decimals or b"").ljust(9, b"0") + b"Z"
