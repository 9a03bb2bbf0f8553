"""The processes of a cluster: each with a log of its own, all gone when whoever started them is gone."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
# Below the range that Linux gives to outgoing connections: one of those can't take a port between choice and use.
_PORTS = range(20_000, 32_000)
_TAIL = 25


class StartError(Exception):
    """A component did not start; the text has the end of its log."""


class PortTakenError(StartError):
    """It found its port in use: another choice may do."""


class Component:
    """A running program. Start it from the main thread: Linux ends it with the thread, not the process, that made it."""

    def __init__(self, name: str, argv: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        parent = os.getpid()
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(arg) for arg in argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=log.parent,
                # A Ctrl-C is for whoever started them; they are ended by `stop`.
                start_new_session=True,
                preexec_fn=lambda: _die_with(parent),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise StartError when it has ended."""
        status = self._process.poll()
        if status is not None:
            kind = PortTakenError if "address already in use" in self.tail() else StartError
            raise kind(f"{self.name} ended with status {status}; the end of {self.log}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(line[:1000] for line in text.splitlines()[-_TAIL:])

    def stop(self, *, grace: float = 0.0) -> None:
        """End it: a request first when it is given `grace` seconds, then force."""
        if grace:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        self._process.kill()
        self._process.wait()


class Components:
    """Those started so far; a context manager that ends them all, the last one first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: dict[str, Component] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in reversed(self.running.values()):
            one.stop()

    def start(self, name: str, argv: Sequence[str | Path], **env: str) -> Component:
        """Start one; its log is `NAME.log` in the folder, which is its home too, so that no settings of the user count."""
        base = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._folder), **env}
        self.running[name] = Component(name, argv, self._folder / f"{name}.log", base)
        return self.running[name]

    def wait_until(self, ready: Callable[[], bool], what: str, timeout: float) -> None:
        """Wait until `ready`; raises StartError when a component ends before, or `timeout` seconds pass."""
        deadline = time.monotonic() + timeout
        while not ready():
            for one in self.running.values():
                one.check()
            if time.monotonic() > deadline:
                tails = "\n".join(f"-- {one.log}\n{one.tail()}" for one in self.running.values())
                raise StartError(f"no {what} within {timeout:g} s\n{tails}")
            time.sleep(0.02)


def free_port() -> int:
    """A port on loopback that nobody uses now, and that nobody gets by chance."""
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise StartError(f"no free port from {_PORTS.start} to {_PORTS.stop} on 127.0.0.1")


def listening(port: int) -> bool:
    """Whether somebody accepts connections on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def memory(pid: int) -> int:
    """The resident memory of a process, in bytes; 0 where /proc doesn't tell."""
    with suppress(OSError, IndexError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def _die_with(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # It may have gone in between.
        if os.getppid() != parent:
            os._exit(1)
