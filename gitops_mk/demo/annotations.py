"""The pod's annotations as a file, as the Downward API writes it, and the knobs in it. Self-contained, as a job's code is.

The format is `key="value"`, a line each, the value quoted as a Go string literal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gitops_mk.errors import InputError

KNOB_PREFIX = "modekeeper/knob."
# What the trainer understands, and what holds where the file says nothing.
DEFAULTS: Mapping[str, int] = {
    "grad_accum_steps": 4,
    "microbatch_size": 32,
    "dataloader_num_workers": 2,
    "dataloader_prefetch_factor": 2,
}
LIMIT = 4096

_LINE = re.compile(r'([^="\s]+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)")
_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
}


def parse_annotations(text: str) -> dict[str, str]:
    """The annotations by key. Raises InputError for a line that is no `key="value"`."""
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(f'annotations: line {number} is {line[:60]!r}, expected key="value"')
        found[match.group(1)] = _unquote(match.group(2), number)
    return found


def _unquote(text: str, number: int) -> str:
    """The meaning of a Go string literal (go.dev/ref/spec#String_literals); escaped bytes form UTF-8."""

    def escape(match: re.Match[str]) -> str:
        code = match.group(1)
        if code in _SIMPLE:
            return _SIMPLE[code]
        if len(code) == 1:
            raise InputError(f"annotations: line {number} holds the escape \\{code}, which Go does not write")
        value = int(code, 8) if code[0].isdigit() else int(code[1:], 16)
        if code[0] in "uU":
            if value > 0x10FFFF or 0xD800 <= value < 0xE000:
                raise InputError(f"annotations: line {number} holds \\{code}, which is no character")
            return chr(value)
        # A byte, kept as a surrogate until all bytes of its character are there.
        return bytes([value & 0xFF]).decode("utf-8", "surrogateescape")

    raw = _ESCAPE.sub(escape, text)
    return raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def knobs_of(annotations: Mapping[str, str]) -> dict[str, int]:
    """All knobs among the annotations, over the defaults of those the trainer needs.

    Raises InputError for a value that is no number from 1 to 4096 (other knobs than ours: no number).
    """
    knobs = dict(DEFAULTS)
    for key, text in annotations.items():
        if not key.startswith(KNOB_PREFIX):
            continue
        name = key.removeprefix(KNOB_PREFIX)
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise InputError(f"annotations: {key} is {text!r}, expected a number")
        knobs[name] = int(text)
        if name in DEFAULTS and not 1 <= knobs[name] <= LIMIT:
            raise InputError(f"annotations: {key} is {text}, expected 1 to {LIMIT}")
    return dict(sorted(knobs.items()))


class KnobFile:
    """The knobs in a file, read again when the file was replaced or written to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self.knobs = knobs_of(parse_annotations(self._text()))

    def poll(self) -> bool:
        """Look again; True when a knob has a new value.

        A file that is gone or makes no sense for a moment changes nothing: it is looked at again at the next step.
        """
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return False
        try:
            knobs = knobs_of(parse_annotations(self._text()))
        except InputError:
            return False
        self._seen = stamp
        changed = knobs != self.knobs
        self.knobs = knobs
        return changed

    def told(self) -> dict[str, list[str]]:
        """The values as they stand on the pod, for the log: `kubectl logs | grep modekeeper/knob.` shows what a rollout brought."""
        return {"annotations": [f"{KNOB_PREFIX}{knob}={value}" for knob, value in sorted(self.knobs.items())]}

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _text(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise InputError(f"{self._path}: can't be read as annotations: {exc}") from exc
