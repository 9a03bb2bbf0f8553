"""What loggers, launchers and `kubectl logs` put in front of a line: taken off, its time and its rank kept."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# What matters of a line of text stands near its beginning; what is longer is no line that anybody meant to be read.
LONGEST: Final = 16_384
_MOST_TOKENS: Final = 10

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])")
_MOMENT = r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:\ ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
_TOKEN = re.compile(
    rf"""\s*(?:
      \[?(?P<time>{_MOMENT})(?:\]:?|:?(?=[\s\]|]|$))            # 2026-01-01T00:00:00.123Z   [2026-01-01 00:00:00,123]
    | \[(?:default|rank|Rank|RANK|worker)[\s:=]?\s*(?P<rank>\d{{1,9}})\]:?    # [rank3]:   [default3]:   [Rank 3]
    | \[\d+,(?P<mpi>\d{{1,9}})\]<std(?:out|err)>:?              # [1,3]<stdout>:
    | \[[^\[\]|={{}}]{{1,80}}\]:?                               # [INFO]   [logging.py:96:log_dist]   [pod/trainer-0]
    | \([A-Za-z_]\w*\ pid=\d+[^(){{}}]{{0,80}}\)                    # (RayTrainWorker pid=12, ip=10.0.0.1)
    | (?:DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL)(?::[\w.]{{0,80}}:|:|(?=[\s|]))   # INFO:root:   INFO
    | [IWEF]\d{{4}}\ \d\d:\d\d:\d\d\.\d+\s+\d+\s[\w./-]{{1,80}}:\d+\]    # I0101 00:00:00.000000 12 train.py:55]
    | [A-Za-z_][\w.]{{0,80}}(?::[\w.<>]{{1,80}}){{0,2}}\s-(?=\s)         # root -   module:function:42 -
    | (?:stdout|stderr)\ [FP](?=\s)                             # as container runtimes write it
    | [|-](?=\s)
    )\s*""",
    re.VERBOSE | re.ASCII,
)


class Line(NamedTuple):
    """A line of text without what stands in front of it.

    time: RFC 3339 or much like it, as it stood there. rank: the rank's number. before: what a progress bar drew on the
    same line, earlier.
    """

    text: str
    time: str | None = None
    rank: str | None = None
    before: str = ""


def line_of(raw: bytes) -> Line:
    """The line of text that the bytes of a line hold. Of several times and ranks the first, outermost, counts."""
    text = raw.decode("utf-8", "replace")
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    line = _without_prefix(text.rstrip(), None, None)
    if "\r" not in line.text:
        return line
    before, _, text = line.text.rpartition("\r")
    return _without_prefix(text, line.time, line.rank)._replace(before=before)


def _without_prefix(text: str, time: str | None, rank: str | None) -> Line:
    at = 0
    for _ in range(_MOST_TOKENS):
        found = _TOKEN.match(text, at)
        if found is None:
            break
        at = found.end()
        time = time or (_normal(found["time"]) if found["time"] else None)
        rank = rank or found["rank"] or found["mpi"]
    return Line(text[at:].lstrip(), time, rank)


def _normal(time: str) -> str:
    """The time in the form that `datetime.fromisoformat` reads: dashes, no blank before the zone."""
    time = time.replace("/", "-").replace("UTC", "Z")
    return time[:11] + time[11:].replace(" ", "")
