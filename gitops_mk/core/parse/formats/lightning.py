"""`metrics.csv` of PyTorch Lightning and of Composer: rows with holes, of which those of a validation are no steps.

Lightning tells no time by itself; a column that was logged (`step_time`, `iter_time`) does. Composer's `time/train` is how
long was trained so far, in hours: the step time is what it grew by, over the steps between two rows. Sources:
lightning/fabric/loggers/csv_logs.py, composer/callbacks/speed_monitor.py.
"""

from __future__ import annotations

from typing import Any, Final

from gitops_mk.core.parse.fields import Aliases
from gitops_mk.core.parse.formats.csvlines import CsvLines
from gitops_mk.core.parse.rows import Layout, Tally

_ELAPSED: Final = ("time/train", "wall_clock/train")
_MS: Final = 3_600_000.0
_MEASURES: Final = frozenset({"step_ms", "loss", "event"})
_MARKS: Final = frozenset({"train_loss_step", "train_loss_epoch", "loss/train/total", *_ELAPSED})


def is_metrics(names: list[str]) -> bool:
    """True for a header as the two write it."""
    return bool(_MARKS & set(names)) or ("epoch" in names and any(n.startswith(("val_", "train_")) for n in names))


class LightningLines(CsvLines):
    """Reads CSV in which a row holds what was logged at that moment and no more."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._before: tuple[float, float] | None = None

    def _begin(self, header: list[str]) -> None:
        super()._begin(header)
        self._layout.learn(["step_time_ms"])

    def _value(self, name: str, cell: str) -> Any:
        if name in _ELAPSED:
            try:
                return float(cell)
            except ValueError:
                return None
        return super()._value(name, cell)

    def _take(self, record: dict[str, Any], rows: list[Any], tally: Tally) -> None:
        elapsed = next((record.pop(name) for name in _ELAPSED if name in record), None)
        by_role = _by_role(record, self._layout.aliases)
        step = by_role.get("step")
        if elapsed is not None and isinstance(step, float):
            before, self._before = self._before, (step, elapsed)
            if before is not None and "step_ms" not in by_role and step > before[0] and elapsed > before[1]:
                record["step_time_ms"] = (elapsed - before[1]) * _MS / (step - before[0])
                by_role["step_ms"] = record["step_time_ms"]
        if not _MEASURES & by_role.keys():
            tally.other += 1
            return
        super()._take(record, rows, tally)


def _by_role(record: dict[str, Any], aliases: Aliases) -> dict[str, Any]:
    return {aliases[name].role: value for name, value in record.items()}
