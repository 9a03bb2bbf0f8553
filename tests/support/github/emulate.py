"""`emulate`, a GitHub that nobody here wrote: its pinned npm package, kept in the user's cache, started on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.github.npm import Package, install, locked
from tests.support.unavailable import Unavailable

EMULATE = Package(
    "emulate",
    "0.11.2",
    "sha512-BHs1rG/yPQ4kM+9aUz7fg4MDn0MshxOs0Ch2ciuNFPsN4PfCxQWP/9DGFZx+h+RvcIwX5n+hV308Ba7SxBc6nQ==",
)
# What it depends on, pinned too: npm checks all of it against these.
_NEEDS = (
    Package(
        "commander",
        "14.0.3",
        "sha512-H+y0Jo/T1RZ9qPP4Eh1pkcQcLRglraJaSLoyOtHxu6AapkjWVCy2Sit1QQ4x3Dng8qDlSsZEet7g5Pq06MvTgw==",
    ),
    Package(
        "picocolors",
        "1.1.1",
        "sha512-xceH2snhtb5M9liqDsmEw56le376mTZkEX/jEb/RxNFyegNul7eNslCXP9FDj/Lcu0X8KEyMceP2ntpaHrDEVA==",
    ),
    Package(
        "yaml",
        "2.9.1",
        "sha512-3NxN8+78OdzbT7C/WjGsyfPAtJaN3FNDsWxv7Y7mcDsT/oOmgW8BpyQQFFBnvZE3j9Y2Sdz1ULFLezL7Eb2yFw==",
    ),
)
_PROGRAM = "node_modules/emulate/dist/index.js"


def installed() -> Path:
    """The program's path; it is installed first where need be. Raises Unavailable."""
    program = EMULATE.folder / _PROGRAM
    if not program.is_file():
        with locked(EMULATE.folder):
            if not program.is_file():
                install(EMULATE, _NEEDS)
    if shutil.which("node") is None:
        raise Unavailable("there is no `node` on the PATH: install Node.js 20 or newer")
    return program


@contextmanager
def emulate(folder: Path, seed: Mapping[str, Any]) -> Iterator[str]:
    """Its URL while it runs with that seed. Raises Unavailable."""
    program = installed()
    file = folder / "seed.json"
    file.write_text(json.dumps(seed))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = ["start", "--service", "github", "--port", str(port), "--base-url", url, "--seed", str(file)]
    command = ["node", str(program), *options]
    # In CI it would write in colour.
    env = {**os.environ, "NO_COLOR": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = []
            # It names the seed last, when it listens.
            for line in process.stdout:
                said.append(line)
                if "Config:" in line:
                    break
            else:
                raise Unavailable(f"emulate ended at once:\n{''.join(said)}")
            yield url
        finally:
            process.terminate()
