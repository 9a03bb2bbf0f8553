"""Processes that tests start and stop."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence


def interruptible(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A process that Ctrl-C reaches, even where the tests themselves run in the background of a shell, which ignores it."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
