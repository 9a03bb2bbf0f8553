"""A pytest plugin, to be named in `pytest_plugins`: says in red, at the end of a run, which peers of GitHub's were missing."""

from __future__ import annotations

import pytest

from tests.support.github.npm import MISSING


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Once for each reason, with how many tests it concerns."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _, found, reason = text.partition(MISSING)
        if found:
            reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in reasons.items():
        plural = "s" * (count > 1)
        terminalreporter.write_line(f"NOT TESTED: {MISSING}{reason} ({count} test{plural})", red=True, bold=True)
