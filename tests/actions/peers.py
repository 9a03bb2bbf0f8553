"""GitHub's own peers for tests: its example events and its language service by npm, and `act`, a runner, built with Go."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import golang
from tests.support.github.npm import Package, cache_folder, install, locked, need, say
from tests.support.unavailable import Unavailable

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
_NO_GO = "act is built with Go, and there is no `go` on the PATH: install Go 1.26 or newer"


def language_service(*files: Path) -> list[str]:
    """What GitHub's language service finds in workflow and action files. Raises Unavailable."""
    folder = SERVICE.folder
    if not (folder / "node_modules").is_dir():
        with locked(folder):
            if not (folder / "node_modules").is_dir():
                install(SERVICE, _NEEDS)
    node = shutil.which("node")
    if node is None:
        raise Unavailable("there is no `node` on the PATH: install Node.js 20 or newer")
    done = subprocess.run(
        [node, str(_LINT), str(folder), *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


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
    folder = cache_folder().parent / "actions" / f"act-{golang.key(_ACT, missing=_NO_GO)}"
    with locked(folder):
        if not (folder / "act").is_file():
            say("building act (about a minute, once) ...")
            target = folder / f".act-{os.getpid()}"
            golang.build("github.com/nektos/act", target, module=_ACT, missing=_NO_GO)
            target.rename(folder / "act")
    return folder / "act"
