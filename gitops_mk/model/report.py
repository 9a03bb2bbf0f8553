"""What every report of the contract carries, whoever writes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gitops_mk._version import __version__
from gitops_mk.model.times import format_time

SCHEMA_VERSION = "v0"


def report(payload: Mapping[str, Any], *, started: datetime, finished: datetime, out_dir: str) -> dict[str, Any]:
    """`payload` with the common fields. `duration_s` is in whole seconds of the difference."""
    return {
        **payload,
        "schema_version": SCHEMA_VERSION,
        "started_at": format_time(started),
        "finished_at": format_time(finished),
        "duration_s": max(0, int((finished - started).total_seconds())),
        "out_dir": out_dir,
        "mk_version": __version__,
    }
