"""What npm has and tests want: pinned packages, fetched once by npm itself, checked, and kept in the user's cache."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.unavailable import Unavailable

REQUIRED = "MODEKEEPER_REQUIRE_GITHUB"
"""Set to 1: where a package can't be had, tests that need it fail. So they do where CI is `true`."""

MISSING = "no GitHub peer: "


@dataclass(frozen=True, slots=True)
class Package:
    """A package at one version, with npm's own digest of its archive."""

    name: str
    version: str
    integrity: str
    kept: str = ""
    """The one file of it that is kept; empty where the whole package is."""

    @property
    def folder(self) -> Path:
        return cache_folder() / f"{self.name.rpartition('/')[2]}-{self.version}"


OPENAPI = Package(
    "@octokit/openapi",
    "23.0.2",
    "sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg==",
    "generated/api.github.com.json",
)
GRAPHQL = Package(
    "@octokit/graphql-schema",
    "15.26.1",
    "sha512-RFDC2MpRBd4AxSRvUeBIVeBU7ojN/SxDfALUd7iVYOSeEK3gZaqR2MGOysj4Zh2xj2RY5fQAUT+Oqq7hWTraMA==",
    "schema.graphql",
)


def cache_folder() -> Path:
    """Where packages are kept, a folder each."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "modekeeper" / "github"


def required() -> bool:
    """True where a run without these packages is a failed one."""
    return os.environ.get("CI") == "true" or os.environ.get(REQUIRED) == "1"


def need(reason: Unavailable) -> None:
    """Skip the test, loudly; fail it where it is required."""
    if required():
        pytest.fail(f"{MISSING}{reason}", pytrace=False)
    pytest.skip(f"NOT TESTED: {MISSING}{reason}")


def file_of(package: Package) -> Path:
    """The kept file of a package, fetched where need be. Raises Unavailable."""
    path = package.folder / Path(package.kept).name
    if not path.is_file():
        with locked(package.folder):
            if not path.is_file():
                _fetch(package, path)
    return path


def _fetch(package: Package, path: Path) -> None:
    say(f"fetching {package.name}@{package.version} from npm (once) ...")
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as scratch:
        archive = pack(package, Path(scratch))
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"package/{package.kept}")
            if member is None:
                raise Unavailable(f"{package.name}@{package.version} has no {package.kept}")
            made = Path(scratch) / "file"
            with member, made.open("wb") as file:
                shutil.copyfileobj(member, file)
        made.rename(path)


def pack(package: Package, into: Path) -> Path:
    """The archive of a package, with its digest checked here too. Raises Unavailable."""
    npm(["pack", f"{package.name}@{package.version}", "--silent", "--pack-destination", str(into)], cwd=into)
    found = list(into.glob("*.tgz"))
    if len(found) != 1:
        raise Unavailable(f"npm packed {len(found)} archives of {package.name}")
    digest = base64.b64encode(hashlib.sha512(found[0].read_bytes()).digest()).decode()
    if package.integrity != f"sha512-{digest}":
        raise Unavailable(f"{package.name}@{package.version}: its archive has another digest than the pinned one")
    return found[0]


def install(package: Package, needs: Sequence[Package]) -> None:
    """A program with all that it depends on, pinned, as `node_modules` in its folder. Raises Unavailable."""
    say(f"installing {package.name}@{package.version} from npm (once) ...")
    own: dict[str, Any] = {"name": "peer", "version": "0.0.0", "dependencies": {package.name: package.version}}
    packages: dict[str, Any] = {"": own}
    for one in (package, *needs):
        packages[f"node_modules/{one.name}"] = {"version": one.version, "integrity": one.integrity}
    packages[f"node_modules/{package.name}"]["dependencies"] = {one.name: f"^{one.version}" for one in needs}
    lock = {"name": "peer", "version": "0.0.0", "lockfileVersion": 3, "requires": True, "packages": packages}
    with tempfile.TemporaryDirectory(prefix=".install-", dir=package.folder) as scratch:
        made = Path(scratch)
        (made / "package.json").write_text(json.dumps({**own, "private": True}))
        (made / "package-lock.json").write_text(json.dumps(lock))
        npm(["ci"], cwd=made)
        (made / "node_modules").rename(package.folder / "node_modules")


def npm(args: Sequence[str], cwd: Path) -> None:
    """Run npm. Raises Unavailable."""
    program = shutil.which("npm")
    if program is None or shutil.which("node") is None:
        raise Unavailable("there is no `npm` or no `node` on the PATH: install Node.js 20 or newer")
    # No script of a package is run, and nothing is asked that isn't needed.
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    done = subprocess.run([program, *args, *quiet], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise Unavailable(f"`npm {' '.join(args)}` failed:\n{said}")


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time makes what goes into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
