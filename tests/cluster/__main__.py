"""The test cluster by hand.

usage: python -m tests.cluster build [--flux]   build its programs, those of Flux too
       python -m tests.cluster up               start one, say how to reach it, stay until Ctrl-C
       python -m tests.cluster exec -- CMD...   start one, run CMD against it, stop it; CMD's exit code
       python -m tests.cluster test [ARGS...]   start one, run its tests against it, and look at its audit log last
       python -m tests.cluster audit [PREFIX]   who changed what in the running one (MODEKEEPER_TEST_CLUSTER)
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.audit import EVERY, MUTATING, counts, requests
from tests.cluster.build import CONTROL_PLANE, FLUX, binaries
from tests.cluster.control_plane import Cluster, started
from tests.cluster.fixtures import required
from tests.cluster.process import StartError
from tests.cluster.serving import ENV, serve
from tests.support.unavailable import Unavailable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="A real control plane for tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build its programs")
    build.add_argument("--flux", action="store_true", help="and those of Flux")
    commands.add_parser("up", help="start one and stay until Ctrl-C")
    run = commands.add_parser("exec", help="run a command against one")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD...")
    test = commands.add_parser("test", help="run the tests that need one, the audit last")
    test.add_argument("words", nargs=argparse.REMAINDER, metavar="ARGS...", help="for pytest")
    audit = commands.add_parser("audit", help="who changed what in the running one")
    audit.add_argument("prefix", nargs="?", default="", help="of the users' names")
    audit.add_argument("--every", action="store_true", help="count what was only read too")
    serving = commands.add_parser("serve", help="start one in the background, for fixtures")
    serving.add_argument("--folder", type=Path, required=True)
    serving.add_argument("--owner", type=int, required=True, help="the process that it ends with")
    options = parser.parse_args(argv)
    # An end on request is an end like any other: everything started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _run(options)
    except (Unavailable, StartError) as exc:
        sys.stderr.write(f"ERROR: no test cluster: {exc}\n")
        if options.command == "test" and isinstance(exc, Unavailable) and not required():
            sys.stderr.write("NOT TESTED: nothing that needs a Kubernetes API server was tested on this machine.\n")
            return 0
        return 3
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _test(words: Sequence[str]) -> int:
    """Everything on one cluster, so that its audit log tells of the whole run."""
    binaries(*CONTROL_PLANE, *FLUX)
    audit = "tests/cluster/test_audit.py"
    pytest = [sys.executable, "-m", "pytest", "-q"]
    with started() as cluster:
        print(f"control plane up in {cluster.started_s:.1f} s", flush=True)
        env = {**os.environ, ENV: str(cluster.folder), "MODEKEEPER_WHOLE_RUN": "1"}
        first = [*pytest, "-n", "2", "tests/cluster", f"--ignore={audit}", *words]
        return (
            subprocess.run(first, env=env, check=False).returncode
            or subprocess.run([*pytest, "-s", audit], env=env, check=False).returncode
        )


def _run(options: argparse.Namespace) -> int:
    if options.command == "build":
        for name, path in binaries(*CONTROL_PLANE, *(FLUX if options.flux else ())).items():
            print(f"{name:24} {path}")
        return 0
    if options.command == "test":
        return _test(options.words)
    if options.command == "serve":
        serve(options.folder, options.owner)
        return 0
    if options.command == "audit":
        return _audit(options.prefix, EVERY if options.every else MUTATING)
    if options.command == "exec":
        words = options.words[1:] if options.words[:1] == ["--"] else options.words
        if not words:
            sys.stderr.write("ERROR: no command to run: python -m tests.cluster exec -- CMD...\n")
            return 2
        with started() as cluster:
            return subprocess.run(words, env={**os.environ, **_environment(cluster)}, check=False).returncode
    with started() as cluster:
        sizes = ", ".join(f"{name} {size >> 20} MiB" for name, size in cluster.memory().items())
        sys.stderr.write(f"up in {cluster.started_s} s: {cluster.server}; {sizes}\n")
        for name, value in _environment(cluster).items():
            print(f"export {name}={value}", flush=True)
        threading.Event().wait()
    return 0


def _environment(cluster: Cluster) -> dict[str, str]:
    return {"KUBECONFIG": str(cluster.kubeconfig), ENV: str(cluster.folder)}


def _audit(prefix: str, verbs: frozenset[str]) -> int:
    folder = os.environ.get(ENV)
    if not folder:
        sys.stderr.write(f"ERROR: {ENV} is not set; `python -m tests.cluster up` says what to\n")
        return 2
    found = counts(requests(Cluster.load(Path(folder)).audit_log, prefix, verbs=verbs))
    for (user, verb, what, dry_run), count in sorted(found.items()):
        print(f"{count:6} {verb:16} {what:44} {'dry-run ' if dry_run else '        '}{user}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
