"""`prometheus` and `promtool`: in `MODEKEEPER_PROMETHEUS`, on the PATH, or built from the pinned Go module."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.cluster.build import binary
from tests.support.unavailable import Unavailable

FOLDER = "MODEKEEPER_PROMETHEUS"
REQUIRED = "MODEKEEPER_REQUIRE_PROMETHEUS"
"""Set to 1: where there is no Prometheus, tests that need one fail. So they do where CI is `true`."""

MISSING = "no Prometheus: "
NAMES = ("prometheus", "promtool")
NO_GO = (
    "it is built with Go, and there is no `go` on the PATH: install Go 1.26 or newer (https://go.dev/dl/), or install Prometheus "
    f"(apt-get install prometheus), or set {FOLDER} to a folder with prometheus and promtool"
)


def programs() -> tuple[Path, Path]:
    """The paths of both. Raises Unavailable."""
    folder = os.environ.get(FOLDER)
    if folder:
        there = [Path(folder) / name for name in NAMES]
        if not all(os.access(path, os.X_OK) for path in there):
            raise Unavailable(f"{FOLDER} is {folder!r}, which has no prometheus and promtool: mend it, or unset it")
        return there[0].resolve(), there[1].resolve()
    # A pair or nothing: they are of one version.
    found = [shutil.which(name) for name in NAMES]
    if found[0] is not None and found[1] is not None:
        return Path(found[0]), Path(found[1])
    return binary("prometheus", missing=NO_GO), binary("promtool", missing=NO_GO)


def need(reason: Unavailable) -> None:
    """Skip the test, loudly; fail it where it is required."""
    if os.environ.get("CI") == "true" or os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{MISSING}{reason}", pytrace=False)
    pytest.skip(f"NOT TESTED: {MISSING}{reason}")
