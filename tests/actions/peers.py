"""GitHub's own peers for tests: its example events and its language service by npm, and `act`, a runner, built with Go."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.github.npm import Package, Unavailable, cache_folder, locked, need, npm, say

EXAMPLES = Package(
    "@octokit/webhooks-examples",
    "7.6.1",
    "sha512-De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ==",
    "api.github.com/index.json",
)
SERVICE = Package(
    "@actions/languageservice",
    "0.3.61",
    "sha512-PoBYhLZ3JG74ZBTAwvrs/V6JdpscCpXv8rprc4yzEQN7Z0FMEso0rewdmMUqwUxYKe7nq6J4RPp+ZVCRL82Zfg==",
)
# What it depends on, pinned too: npm checks all of it against these.
_NEEDS = (
    Package(
        "@actions/expressions",
        "0.3.61",
        "sha512-Ig+tXELvTjlqxQAWBQnLNn2dPpNraLMdSnT+vDzDPmJtbNUhIAH/Z9kVT8pZ8UtJi9vUGs8hwHE8JFJmbOnLEA==",
    ),
    Package(
        "@actions/workflow-parser",
        "0.3.61",
        "sha512-NBjJrbwwrEN3LSN0NAISLpCWQLcPSBjmAIkLXHgjGX8Yql4PiD33ifSAvr9sIMU9uIs8wZiGUnvo9yPIMIfKdg==",
    ),
    Package(
        "cronstrue",
        "2.61.0",
        "sha512-ootN5bvXbIQI9rW94+QsXN5eROtXWwew6NkdGxIRpS/UFWRggL0G5Al7a9GTBFEsuvVhJ2K3CntIIVt7L2ILhA==",
    ),
    Package(
        "vscode-languageserver-textdocument",
        "1.0.16",
        "sha512-qeNEuOi9a3qkqRf7Gfez2WL2VwlBTLCNekHBGO9kxPVUp9XuY15yfTJ9jwvOwKI0I2MhUUfZq95NSp+LK1CLQg==",
    ),
    Package(
        "vscode-languageserver-types",
        "3.18.5",
        "sha512-kPd6+JQNz3HMJvjKlqUxERSlZHAntl/aGpsk7ImwIh0ewDKDcjgAEyVSYciPiOJD3ftbK9IrfiqUeTZLSbCizw==",
    ),
    Package(
        "vscode-uri",
        "3.2.0",
        "sha512-m2gXo3bn0G1kT9InzMf07fTbqMbGtyckj3bH5ktLO+1Ssv+yiATZ4dhwaQv9UZWxJh6E9IFGnQyjgWVDWVBDrg==",
    ),
    Package(
        "yaml",
        "2.9.1",
        "sha512-3NxN8+78OdzbT7C/WjGsyfPAtJaN3FNDsWxv7Y7mcDsT/oOmgW8BpyQQFFBnvZE3j9Y2Sdz1ULFLezL7Eb2yFw==",
    ),
)
_LINT = Path(__file__).parent / "lint.mjs"
_ACT = Path(__file__).parent / "tools" / "act"


def language_service(*files: Path) -> list[str]:
    """What GitHub's language service finds in workflow and action files. Raises Unavailable."""
    folder = SERVICE.folder
    if not (folder / "node_modules").is_dir():
        with locked(folder):
            if not (folder / "node_modules").is_dir():
                _install(folder)
    node = shutil.which("node")
    if node is None:
        raise Unavailable("there is no `node` on the PATH: install Node.js 20 or newer")
    done = subprocess.run(
        [node, str(_LINT), str(folder), *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _install(folder: Path) -> None:
    say(f"installing {SERVICE.name}@{SERVICE.version} from npm (once) ...")
    own: dict[str, Any] = {"name": "peer", "version": "0.0.0", "dependencies": {SERVICE.name: SERVICE.version}}
    packages: dict[str, Any] = {"": own}
    for one in (SERVICE, *_NEEDS):
        packages[f"node_modules/{one.name}"] = {"version": one.version, "integrity": one.integrity}
    packages[f"node_modules/{SERVICE.name}"]["dependencies"] = {one.name: f"^{one.version}" for one in _NEEDS}
    lock = {"name": "peer", "version": "0.0.0", "lockfileVersion": 3, "requires": True, "packages": packages}
    with tempfile.TemporaryDirectory(prefix=".install-", dir=folder) as scratch:
        made = Path(scratch)
        (made / "package.json").write_text(json.dumps({**own, "private": True}))
        (made / "package-lock.json").write_text(json.dumps(lock))
        npm(["ci"], cwd=made)
        (made / "node_modules").rename(folder / "node_modules")


def act() -> Path:
    """`act`, built from its pinned Go module where need be; without it the test is skipped loudly, or fails in CI."""
    try:
        return _built()
    except Unavailable as exc:
        need(exc)
        raise


def wheels(lock: Path) -> Path:
    """A folder with what a lock names, fetched once by pip; without it the test is skipped loudly, or fails in CI."""
    folder = cache_folder().parent / "actions" / f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    with locked(folder):
        done = folder / ".whole"
        if not done.exists():
            say("fetching the wheels of the action's lock (once) ...")
            strict = [
                "--require-hashes",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--disable-pip-version-check",
                "--quiet",
            ]
            argv = [sys.executable, "-m", "pip", "download", *strict, "-d", str(folder), "-r", str(lock)]
            fetched = subprocess.run(argv, capture_output=True, text=True, check=False)
            if fetched.returncode:
                need(Unavailable(f"pip can't fetch the wheels: {fetched.stderr.strip()[-300:]}"))
            done.touch()
    return folder


def _built() -> Path:
    digest = hashlib.sha256(_go("env", "GOVERSION", "GOOS", "GOARCH").encode())
    for name in ("go.mod", "go.sum"):
        digest.update((_ACT / name).read_bytes())
    folder = cache_folder().parent / "actions" / f"act-{digest.hexdigest()[:16]}"
    with locked(folder):
        if not (folder / "act").is_file():
            say("building act (about a minute, once) ...")
            target = folder / f".act-{os.getpid()}"
            _go("build", "-trimpath", "-ldflags", "-s -w", "-o", str(target), "github.com/nektos/act")
            target.rename(folder / "act")
    return folder / "act"


def _go(*args: str) -> str:
    go = shutil.which("go")
    if go is None:
        raise Unavailable("act is built with Go, and there is no `go` on the PATH: install Go 1.26 or newer")
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    done = subprocess.run([go, *args], cwd=_ACT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise Unavailable(f"`go {' '.join(args)}` failed:\n{said}")
    return done.stdout
