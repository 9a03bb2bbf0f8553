"""Finds a kustomize that can be used and runs it shut off from the network. Standard library only.

The environment of what is run leads nowhere: no git on the PATH, proxies that refuse, an empty home.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from gitops_mk.adapters.children import end, running
from gitops_mk.adapters.go_build import module_version
from gitops_mk.errors import ManifestError

ENV_COMMAND = "MODEKEEPER_KUSTOMIZE"
MIN_MAJOR = 5

_HINT = (
    "run python -m gitops_mk.adapters.kustomize_install --into DIR and add DIR to the PATH, "
    f"or install kubectl 1.27 or newer, or point {ENV_COMMAND} at a kustomize"
)
# Nothing listens on the discard port: a request that slips through fails at once.
_DEAD_PROXY = "http://127.0.0.1:9"
_MAX_STDERR = 64 * 1024
_PROBE_S = 20.0
_MODULE = r"sigs\.k8s\.io/kustomize/kustomize/v\d+"
_VERSION = re.compile(r"\bv(\d+)\.\d+\.\d+[^\s,}]*")


@dataclass(frozen=True)
class Command:
    """A program that builds: its arguments before the folder, and kustomize's version as it tells it."""

    argv: tuple[str, ...]
    version: str

    def __str__(self) -> str:
        return f"{'kubectl kustomize' if is_kubectl(self.argv[0]) else 'kustomize'} {self.version}"


class Outcome(NamedTuple):
    """What a run left: exit status, and its two outputs within their caps."""

    status: int
    out: bytes
    err: bytes


def is_kubectl(path: str) -> bool:
    """Whether a program is kubectl, by its name."""
    return Path(path).name.startswith("kubectl")


def find_command(env: Mapping[str, str] | None = None) -> Command:
    """The first usable of `$MODEKEEPER_KUSTOMIZE`, `kustomize` and `kubectl`. Raises ManifestError when none is.

    Without `env` it is this process's own, and the folder of its Python is searched last: `make` puts a kustomize there.
    """
    own = [] if env is not None else [str(Path(sys.executable).parent)]
    env = os.environ if env is None else env
    named = env.get(ENV_COMMAND)
    if named:
        candidates = [named]
    else:
        path = os.pathsep.join([env.get("PATH", ""), *own])
        found = (shutil.which(name, path=path) for name in ("kustomize", "kubectl"))
        candidates = [path for path in found if path]
    complaints = []
    for path in candidates:
        probed = probe(path)
        if isinstance(probed, Command):
            return probed
        complaints.append(probed)
    raise ManifestError(
        f"no usable kustomize: {'; '.join(complaints)}" if complaints else "no kustomize and no kubectl on the PATH",
        hint=_HINT,
    )


def probe(path: str) -> Command | str:
    """The command at `path`, or in words why it can't be used."""
    path = str(Path(path).absolute())
    # kubectl tells the same version of the same module.
    found = _VERSION.search(module_version(Path(path), _MODULE) or "")
    if found is None:
        try:
            text, said = _told(path)
        except ManifestError as exc:
            return exc.message
        found = _VERSION.search(text)
        if found is None:
            return f"{path} tells no version of kustomize: {json.dumps(said[:120])}"
    if int(found.group(1)) < MIN_MAJOR:
        return f"{path} is kustomize {found.group()}, expected v{MIN_MAJOR} or newer"
    return Command((path, "kustomize" if is_kubectl(path) else "build"), found.group())


def _told(path: str) -> tuple[str, str]:
    """The words that hold the version, as the program says it, and what it said altogether. Raises ManifestError."""
    kubectl = is_kubectl(path)
    argv = [path, "version", "--client", "-o", "json"] if kubectl else [path, "version"]
    with tempfile.TemporaryDirectory(prefix="mk-probe-") as folder:
        outcome = run(argv, Path(folder), timeout_s=_PROBE_S, max_output=1024 * 1024)
    text = outcome.out.decode("utf-8", "replace").strip()
    said = outcome.err.decode("utf-8", "replace").strip() or text
    told = re.search(r'"kustomizeVersion":\s*"([^"]*)"', text) if kubectl else re.search(r"(.*)", text)
    return told.group(1) if told is not None and outcome.status == 0 else "", said


def run(argv: Sequence[str], root: Path, *, timeout_s: float, max_output: int) -> Outcome:
    """Run a program in the folder `root`, which is its home and temporary folder too.

    Raises ManifestError when it can't start, takes longer than `timeout_s` or writes more than `max_output` bytes.
    """
    try:
        with running(argv, _environment(root), cwd=root, stdin=subprocess.DEVNULL) as process:
            out = _Reader(process.stdout, max_output, on_full=lambda: end(process))
            err = _Reader(process.stderr, _MAX_STDERR, on_full=lambda: None)
            try:
                # Its output ends when it does, and is told at once; `wait` with a limit looks only every 50 ms.
                out.join(timeout_s)
                process.wait(0 if out.is_alive() else timeout_s)
            finally:
                end(process)
                out.join()
                err.join()
    except subprocess.TimeoutExpired:
        raise ManifestError(f"{argv[0]} took longer than {timeout_s:g} s", retryable=True) from None
    except OSError as exc:
        raise ManifestError(f"{argv[0]} can't be run: {exc.strerror}", hint=_HINT) from exc
    if out.full:
        raise ManifestError(f"{argv[0]} wrote more than {max_output} bytes")
    return Outcome(process.returncode, bytes(out.data), bytes(err.data))


def _environment(root: Path) -> dict[str, str]:
    nowhere, home = root / ".no-programs", root / ".no-home"
    for folder in (nowhere, home):
        folder.mkdir(exist_ok=True)
    proxies = {
        name: _DEAD_PROXY for base in ("http_proxy", "https_proxy", "all_proxy") for name in (base, base.upper())
    }
    return proxies | {
        "PATH": str(nowhere),
        "HOME": str(home),
        "TMPDIR": str(root),
        "KUBECONFIG": os.devnull,
        "NO_PROXY": "",
        "LC_ALL": "C",
        # It runs for a moment and does one thing after the other: collecting garbage at Go's usual pace, and on another
        # processor, takes a fifth of its time from the build that runs beside it.
        "GOGC": "400",
        "GOMAXPROCS": "1",
    }


class _Reader(threading.Thread):
    """Collects what a pipe carries, up to `limit` bytes; past that the rest is dropped and `on_full` called."""

    def __init__(self, pipe: IO[bytes] | None, limit: int, *, on_full: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._limit = limit
        self._on_full = on_full
        self.data = bytearray()
        self.full = False
        self.start()

    def run(self) -> None:
        """Read to the end."""
        while self._pipe is not None and (chunk := self._pipe.read(65536)):
            room = self._limit - len(self.data)
            self.data += chunk[:room]
            if len(chunk) > room:
                self.full = True
                self._on_full()
