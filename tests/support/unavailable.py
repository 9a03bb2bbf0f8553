"""What every peer of a test that can't be had here has in common."""

from __future__ import annotations

import pytest


class Unavailable(Exception):
    """What a test wants can't be had here; the text says why."""


def tell_missing(terminalreporter: pytest.TerminalReporter, missing: str) -> None:
    """Say in red, at the end of a run, what was skipped for a reason that begins with `missing`, once for each reason."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", ()):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _, found, reason = text.partition(missing)
        if found:
            reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in reasons.items():
        plural = "s" * (count > 1)
        terminalreporter.write_line(f"NOT TESTED: {missing}{reason} ({count} test{plural})", red=True, bold=True)
