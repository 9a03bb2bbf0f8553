"""A pytest plugin, to be named in `pytest_plugins`: says in red, at the end of a run, which peers of GitHub's were missing."""

from __future__ import annotations

import pytest

from tests.support.github.npm import MISSING
from tests.support.unavailable import tell_missing


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Once for each reason, with how many tests it concerns."""
    tell_missing(terminalreporter, MISSING)
