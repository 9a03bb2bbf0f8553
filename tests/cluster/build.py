"""The cluster's programs: found in `KUBEBUILDER_ASSETS` or in the cache, and otherwise built from the pinned Go modules."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support import golang
from tests.support.unavailable import Unavailable

TOOLS = Path(__file__).parent / "tools"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program: the folder under `tools` whose go.mod pins it, its package, how long a first build takes on two cores, and
    build tags.
    """

    module: str
    package: str
    takes: str
    tags: str = ""


BINARIES: Mapping[str, Tool] = {
    "etcd": Tool("etcd", "go.etcd.io/etcd/server/v3", "half a minute"),
    "kube-apiserver": Tool("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", "4 minutes"),
    "kube-controller-manager": Tool("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", "a minute"),
    "kube-scheduler": Tool("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", "half a minute"),
    "kubectl": Tool("kubernetes", "k8s.io/kubernetes/cmd/kubectl", "half a minute"),
    "kwok": Tool("kwok", "sigs.k8s.io/kwok/cmd/kwok", "1.5 minutes"),
    "source-controller": Tool("flux-source-controller", "github.com/fluxcd/source-controller", "3 minutes"),
    "kustomize-controller": Tool("flux-kustomize-controller", "github.com/fluxcd/kustomize-controller", "2 minutes"),
    # None of a cluster, but pinned and built in the same way; nothing is discovered in tests.
    "prometheus": Tool("prometheus", "github.com/prometheus/prometheus/cmd/prometheus", "4 minutes", "remove_all_sd"),
    "promtool": Tool("prometheus", "github.com/prometheus/prometheus/cmd/promtool", "half a minute", "remove_all_sd"),
}
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")
FLUX = ("source-controller", "kustomize-controller")
NO_GO = (
    "the programs of the test cluster are built with Go, and there is no `go` on the PATH: install Go 1.26 or newer "
    "(https://go.dev/dl/), or set KUBEBUILDER_ASSETS to a folder with " + ", ".join(CONTROL_PLANE)
)


def cache_folder() -> Path:
    """Where built programs are kept, a folder each, named after what they were built from."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "modekeeper" / "cluster"


def binary(name: str, *, missing: str = NO_GO) -> Path:
    """The path of a program, which is built first where need be.

    Raises Unavailable when it can't be had: no `go` (with `missing`), or the build fails.
    """
    asset = _asset(name)
    if asset is not None:
        return asset
    tool = BINARIES[name]
    folder = cache_folder() / f"{name}-{_key(tool.module, missing)}"
    if not (folder / name).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # One build at a time: two at once would take the same cores, and the second finds most of its packages compiled.
        with _locked(folder.parent / ".lock"):
            if not (folder / name).is_file():
                _build(name, tool, folder)
    return folder / name


def binaries(*names: str) -> dict[str, Path]:
    """The paths of these programs by name. Raises Unavailable."""
    return {name: binary(name) for name in names}


def module_dir(tool: str, module: str) -> Path:
    """The source of a Go module that a tool's folder pins, in the Go module cache. Raises Unavailable."""
    # A cache of binaries says nothing about the module cache: `list` has no folder for a module that isn't there yet.
    told = golang.go("mod", "download", "-json", module, cwd=TOOLS / tool, missing=NO_GO)
    return Path(json.loads(told)["Dir"])


def _asset(name: str) -> Path | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise Unavailable(f"KUBEBUILDER_ASSETS is {folder!r}, which is no folder: unset it, or run `setup-envtest use`")
    found = Path(folder) / name
    return found.resolve() if os.access(found, os.X_OK) else None


@cache
def _key(module: str, missing: str) -> str:
    return golang.key(TOOLS / module, missing=missing)


def _build(name: str, tool: Tool, folder: Path) -> None:
    _say(f"building {name} (about {tool.takes}, once) ...")
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
        target = Path(scratch) / "out" / name
        golang.build(tool.package, target, module=TOOLS / tool.module, missing=NO_GO, tags=tool.tags)
        # A whole folder is renamed, so that whoever finds it finds all of it.
        shutil.rmtree(folder, ignore_errors=True)
        target.parent.rename(folder)
    _say(f"built {folder / name}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
