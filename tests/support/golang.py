"""Go, for tests whose peers are built from pinned modules."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.support.unavailable import Unavailable


def go(*args: str, cwd: Path, missing: str) -> str:
    """What `go` prints, run in a module's folder. Raises Unavailable: with `missing` where there is no Go."""
    program = shutil.which("go")
    if program is None:
        raise Unavailable(missing)
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    done = subprocess.run([program, *args], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise Unavailable(f"`go {' '.join(args)}` failed in {cwd}:\n{said}")
    return done.stdout


def build(package: str, target: Path, *, module: Path, missing: str, tags: str = "") -> None:
    """Build a package of a pinned module, stripped and without paths of this machine. Raises Unavailable."""
    options = ("-trimpath", "-tags", tags, "-ldflags", "-s -w")
    go("build", *options, "-o", str(target), package, cwd=module, missing=missing)


def key(module: Path, *, missing: str) -> str:
    """What a program built here depends on: the compiler, the platform, and the module's pins. Raises Unavailable."""
    digest = hashlib.sha256(go("env", "GOVERSION", "GOOS", "GOARCH", cwd=module, missing=missing).encode())
    for name in ("go.mod", "go.sum"):
        digest.update((module / name).read_bytes())
    return digest.hexdigest()[:16]
