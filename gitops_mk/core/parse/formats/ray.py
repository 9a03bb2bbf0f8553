"""Ray's `result.json`: JSON lines whose step is `training_iteration` and whose step time is `time_this_iter_s`.

Source: ray/tune/logger/json.py, ray/tune/result.py. The names are among those that JSON lines know; what makes it a format
of its own is that a report can say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MARKS = frozenset({"training_iteration", "time_this_iter_s"})


def is_result(record: Mapping[str, Any]) -> bool:
    """True for a result as Ray writes it."""
    return record.keys() >= MARKS
