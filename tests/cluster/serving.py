"""One cluster for several processes: a supervisor in the background that lasts as long as whoever it was started for."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.cluster.control_plane import FACTS, Cluster, started
from tests.cluster.process import StartError

ENV = "MODEKEEPER_TEST_CLUSTER"
"""Names the folder of a running cluster."""

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 120.0
_STOP_S = 15.0
_PID = "supervisor.pid"
_LOG = "supervisor.log"


def serve(folder: Path, owner: int) -> None:
    """Run a cluster in `folder` until the process `owner` ends, or SIGTERM comes."""
    with started(folder=folder):
        _wait_for_end(owner)
    # Where the owner was killed, nobody else clears up.
    shutil.rmtree(folder.parent, ignore_errors=True)


def shared(base: Path, owner: int) -> Cluster:
    """The cluster of `base`, which the first caller starts and which ends with the process `owner`.

    Raises StartError with the supervisor's last words; a later caller gets the same without another try.
    """
    base.mkdir(parents=True, exist_ok=True)
    folder, log = base / "cluster", base / _LOG
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / FACTS).exists():
            return Cluster.load(folder)
        if log.exists():
            raise StartError(log.read_text())
        argv = [sys.executable, "-m", "tests.cluster", "serve", "--folder", str(folder), "--owner", str(owner)]
        with log.open("wb") as out:
            supervisor = subprocess.Popen(
                argv, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        (base / _PID).write_text(str(supervisor.pid))
        deadline = time.monotonic() + _START_S
        while not (folder / FACTS).exists():
            if supervisor.poll() is not None:
                raise StartError(log.read_text())
            if time.monotonic() > deadline:
                supervisor.kill()
                supervisor.wait()
                raise StartError(f"the test cluster was not up within {_START_S:g} s")
            time.sleep(0.02)
        # It outlives this function, and maybe this process: nobody here waits for it.
        supervisor.returncode = 0
        return Cluster.load(folder)


def end(base: Path) -> None:
    """End the cluster that `shared` started in `base`, and wait until it is gone."""
    pid = int((base / _PID).read_text())
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    shutil.rmtree(base, ignore_errors=True)


def _wait_for_end(pid: int) -> None:
    if hasattr(os, "pidfd_open"):
        with suppress(ProcessLookupError):
            # Its number may be another's by the time one looks; this is not.
            handle = os.pidfd_open(pid)
            select.select([handle], [], [])
            os.close(handle)
        return
    while _alive(pid):
        time.sleep(0.5)


def _alive(pid: int) -> bool:
    with suppress(ChildProcessError):
        # Where it is a child of this process, it is a zombie until it is waited for.
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
