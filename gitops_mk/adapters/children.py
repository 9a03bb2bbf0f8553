"""The programs that run for us right now, so that none of them outlives the command that started it. Standard library only."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

Process = subprocess.Popen[bytes]

_running: set[Process] = set()
_lock = threading.Lock()


@contextmanager
def running(
    argv: Sequence[str], env: Mapping[str, str], *, cwd: Path | None = None, stdin: int = subprocess.PIPE
) -> Iterator[Process]:
    """A program, its output on pipes; ended with all that it started when the block is left. Raises OSError."""
    # A session of its own: nothing can ask at the terminal, and a signal reaches the helpers with it.
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(env),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        with _lock:
            _running.add(process)
        try:
            yield process
        finally:
            with _lock:
                _running.discard(process)
            end(process)


def end(process: Process) -> None:
    """End the whole process group; harmless when it is gone (the group lives on while the process is not reaped)."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def end_all() -> None:
    """End every program that runs for any thread; each thread sees its own fail."""
    with _lock:
        for process in _running:
            end(process)
