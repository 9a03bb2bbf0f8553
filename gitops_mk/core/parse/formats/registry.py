"""The formats in the order in which they are tried, and what tells a line of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from gitops_mk.core.parse.fields import STEP_ROLES, Aliases, flattened, known, outers
from gitops_mk.core.parse.formats import csvlines, lightning, ray
from gitops_mk.core.parse.formats.csvlines import CsvLines
from gitops_mk.core.parse.formats.deepspeed import DeepSpeed
from gitops_mk.core.parse.formats.hf_trainer import HfTrainer
from gitops_mk.core.parse.formats.jsonl import JsonLines, decoded
from gitops_mk.core.parse.formats.lightning import LightningLines
from gitops_mk.core.parse.formats.logfmt import Logfmt
from gitops_mk.core.parse.formats.megatron import Megatron
from gitops_mk.core.parse.formats.text import TextFormat, TextLines
from gitops_mk.core.parse.formats.torchtitan import Torchtitan
from gitops_mk.core.parse.prefix import LONGEST, line_of
from gitops_mk.core.parse.rows import Layout, Tally

# So many objects that mean nothing to us, and the log is taken for JSON lines all the same.
_PLENTY: Final = 1000


class Lines(Protocol):
    """Reads the lines of one format."""

    def rows(self, block: bytes, tally: Tally) -> list[Any]:
        """The rows of a block of whole lines that ends in a newline, every line counted."""
        ...


# In the order in which they are asked: what could be taken for another comes before it.
TEXTS: Final[Mapping[str, Callable[[Aliases], TextFormat]]] = {
    "torchtitan": Torchtitan,
    "megatron": Megatron,
    "deepspeed": DeepSpeed,
    "hf-trainer": HfTrainer,
    "logfmt": Logfmt,
}
TABLES: Final[Mapping[str, Callable[[Layout], Lines]]] = {"lightning-csv": LightningLines, "csv": CsvLines}


def open_lines(name: str, layout: Layout) -> Lines:
    """A reader of the format of that name."""
    if name in TEXTS:
        return TextLines(layout, TEXTS[name](layout.aliases))
    return TABLES.get(name, JsonLines)(layout)


class Detector:
    """Asks of one line after another which format it is of."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases
        self._outers = outers(aliases)
        self._texts = {name: make(aliases) for name, make in TEXTS.items()}
        self._first = True
        self._objects = 0

    def claimed(self, raw: bytes) -> str | None:
        """The name of the format that a line can only be of, None for a line that says nothing."""
        line = line_of(raw)
        text = line._replace(text=line.text[:LONGEST])
        first, self._first = self._first, False
        if line.text.startswith("{") and isinstance(record := decoded(line.text.encode()), dict):
            return self._json(record)
        for name, format_ in self._texts.items():
            if format_.claims(text):
                return name
        header = csvlines.header_of(text.text)
        if not csvlines.is_header(header, self._aliases, first=first):
            return None
        return "lightning-csv" if lightning.is_metrics(header) else "csv"

    def opened(self, name: str, layout: Layout) -> Lines:
        """A reader of that format, which knows what the lines before said."""
        return TextLines(layout, self._texts[name]) if name in TEXTS else open_lines(name, layout)

    def _json(self, record: Mapping[str, Any]) -> str | None:
        if isinstance(record.get("log_history"), list):
            return "hf-trainer"
        if ray.is_result(record):
            return "ray"
        self._objects += 1
        names = flattened(record, self._aliases, self._outers)
        roles = {alias.role for name in names if (alias := known(name, self._aliases)) is not None}
        return "jsonl" if roles & STEP_ROLES or self._objects >= _PLENTY else None
