"""Hugging Face Trainer and Accelerate: python dicts, `{'loss': 1.2, 'grad_norm': 0.8, 'epoch': 0.1}`, and `trainer_state.json`.

There is no step time in either: it follows from the times in front of the lines and the steps between them. A dict names
no step; the progress bar drawn on the same line does, and the arguments that many scripts print say after how many steps
a line comes (`logging_steps=10`). Where nothing says it, the stretch from one line to the next is what counts as a step.
What `train_runtime` says at the end is no step. Source: transformers/trainer.py, trainer_callback.py (`PrinterCallback`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from gitops_mk.core.parse.fields import STEP_ROLES, Aliases, known
from gitops_mk.core.parse.formats.text import Record
from gitops_mk.core.parse.prefix import Line
from gitops_mk.core.parse.values import number

_DICT = re.compile(r"\{\s*'[^{}]*\}")
_PAIR = re.compile(r"""'([^']{1,200})'\s*:\s*(?:[A-Za-z_][\w.]{0,40}\()?'?([+-]?[\w.][\w.+-]{0,40})""", re.ASCII)
_BAR = re.compile(r"(\d{1,12})/\d{1,12} \[[\d:]+<", re.ASCII)
_EVERY = re.compile(r"\blogging_steps'?\s*[=:]\s*(\d{1,9})\b", re.ASCII)
_HISTORY = '"log_history"'
_MOST_LINES: Final = 500


class HfTrainer:
    """Reads dicts in a log, and the state that a checkpoint holds, on one line or on many."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases
        self._every = 1
        self._lines = 0
        self._counts: bool | None = None
        # The lines of the entry of a history that has begun; None outside a history.
        self._entry: list[str] | None = None

    def claims(self, line: Line) -> bool:
        """True for a dict that has a field of ours, and for the history in a trainer's state."""
        self._listen(line)
        return _HISTORY in line.text or any(self._known(pairs) for pairs in self._dicts(line))

    def records(self, line: Line) -> list[Record]:
        """The records of a line: those of a whole history where it is one."""
        self._listen(line)
        if _HISTORY in line.text:
            return self._history(line.text)
        if self._entry is not None:
            return self._in_history(line.text.strip())
        out = []
        for pairs in self._dicts(line):
            out += self._record(pairs, self._step(line, pairs))
        return out

    def _listen(self, line: Line) -> None:
        said = _EVERY.search(line.text)
        if said is not None:
            self._every = max(1, int(said[1]))

    def _dicts(self, line: Line) -> list[Record]:
        texts = _DICT.findall(line.text)
        pairs = [{name: number(text) for name, text in _PAIR.findall(text)} for text in texts[:1]]
        return [{name: value for name, value in found.items() if value is not None} for found in pairs]

    def _known(self, pairs: Mapping[str, Any]) -> bool:
        return bool(self._roles(pairs) & {*STEP_ROLES, "validation"})

    def _step(self, line: Line, pairs: Mapping[str, Any]) -> int | None:
        """The step of a dict that names none. How it is found is settled by the first dict."""
        roles = self._roles(pairs)
        if "step" in roles or "loss" not in roles or "train_runtime" in pairs:
            return None
        bars = _BAR.findall(f"{line.before} {line.text}")
        if self._counts is None:
            self._counts = not bars
        if self._counts:
            self._lines += 1
            return self._lines * self._every
        return int(bars[-1]) if bars else None

    def _roles(self, pairs: Mapping[str, Any]) -> set[str]:
        return {alias.role for name in pairs if (alias := known(name, self._aliases)) is not None}

    def _record(self, pairs: Mapping[str, Any], step: int | None) -> list[Record]:
        roles = self._roles(pairs)
        if "train_runtime" in pairs or not roles & {"loss", "step_ms", "validation"}:
            return []
        record = {name: value for name, value in pairs.items() if name in self._aliases}
        if step is not None:
            record["step"] = step
        if roles & {"loss", "step_ms"}:
            return [record]
        at = record.get("step")
        return [] if at is None else [{"event": "eval", "step": at}]

    def _history(self, text: str) -> list[Record]:
        try:
            state = json.loads(text)
        except (ValueError, RecursionError):
            # The first line of a history that goes over many.
            self._entry = [] if text.rstrip().endswith("[") else None
            return []
        entries = state.get("log_history") if isinstance(state, dict) else None
        out = []
        for entry in entries if isinstance(entries, list) else []:
            out += self._of_entry(entry)
        return out

    def _in_history(self, text: str) -> list[Record]:
        entry = self._entry if self._entry is not None else []
        if (not entry and text in {"]", "],"}) or len(entry) > _MOST_LINES:
            self._entry = None
            return []
        if text not in {"}", "},"}:
            # What stands between two entries is none.
            if entry or text == "{":
                entry.append(text)
            return []
        self._entry = []
        try:
            return self._of_entry(json.loads("".join([*entry, "}"])))
        except (ValueError, RecursionError):
            return []

    def _of_entry(self, entry: Any) -> list[Record]:
        if not isinstance(entry, dict):
            return []
        return self._record(
            {name: value for name, value in entry.items() if isinstance(value, str | int | float)}, None
        )
