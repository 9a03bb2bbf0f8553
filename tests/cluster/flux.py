"""Flux's source-controller and kustomize-controller, run beside the cluster for one namespace of it.

The GitRepository and Kustomization objects live in that namespace; what they apply may go to any other.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster.build import FLUX, binaries, module_dir
from tests.cluster.control_plane import Cluster
from tests.cluster.kube import Json, Kube, wait_for
from tests.cluster.process import Components, PortTakenError, free_port, listening

GIT_REPOSITORY = "source.toolkit.fluxcd.io/v1/GitRepository"
KUSTOMIZATION = "kustomize.toolkit.fluxcd.io/v1/Kustomization"
_REQUESTED = "reconcile.fluxcd.io/requestedAt"
_MODULES = {
    "flux-source-controller": "github.com/fluxcd/source-controller",
    "flux-kustomize-controller": "github.com/fluxcd/kustomize-controller",
}
_START_S = 60.0
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Flux:
    """Flux at work on `namespace`; intervals are an hour, so that nothing is synced before it is asked for."""

    kube: Kube
    namespace: str
    pids: Mapping[str, int]

    def git_repository(self, name: str, url: str, *, branch: str = "main") -> Json:
        """Have a branch of a repository fetched from an HTTP URL."""
        return self._apply(GIT_REPOSITORY, name, {"interval": "1h", "url": url, "ref": {"branch": branch}})

    def kustomization(
        self,
        name: str,
        *,
        source: str,
        path: str = "./",
        target_namespace: str | None = None,
        prune: bool = True,
        service_account: str | None = None,
    ) -> Json:
        """Have a folder of a GitRepository applied, as the admin or as a service account of Flux's namespace."""
        spec: Json = {"interval": "1h", "retryInterval": "1s", "path": path, "prune": prune}
        spec["sourceRef"] = {"kind": "GitRepository", "name": source}
        if target_namespace is not None:
            spec["targetNamespace"] = target_namespace
        if service_account is not None:
            spec["serviceAccountName"] = service_account
        return self._apply(KUSTOMIZATION, name, spec)

    def reconcile(self, kind: str, name: str) -> None:
        """Ask for a reconciliation now: `kind` is GIT_REPOSITORY or KUSTOMIZATION."""
        stamp = {_REQUESTED: datetime.now(UTC).isoformat()}
        self.kube.patch(kind, name, {"metadata": {"annotations": stamp}}, self.namespace)

    def wait_fetched(self, name: str, revision: str, *, timeout: float = 30.0) -> Json:
        """Wait until a GitRepository holds a commit. TimeoutError tells what it is like."""
        return self._wait(GIT_REPOSITORY, name, revision, lambda s: s.get("artifact", {}).get("revision", ""), timeout)

    def wait_applied(self, name: str, revision: str, *, timeout: float = 60.0) -> Json:
        """Wait until a Kustomization has applied a commit and is ready. TimeoutError tells what it is like."""
        return self._wait(KUSTOMIZATION, name, revision, lambda s: s.get("lastAppliedRevision", ""), timeout)

    def sync(self, source: str, name: str, revision: str, *, timeout: float = 60.0) -> Json:
        """Fetch and apply a commit now; gives the Kustomization once it has."""
        self.reconcile(GIT_REPOSITORY, source)
        self.wait_fetched(source, revision, timeout=timeout)
        # It hears of a new artifact by itself; asking spares the wait of a back-off.
        self.reconcile(KUSTOMIZATION, name)
        return self.wait_applied(name, revision, timeout=timeout)

    def _apply(self, kind: str, name: str, spec: Json) -> Json:
        version, _, word = kind.rpartition("/")
        (made,) = self.kube.apply(
            {"apiVersion": version, "kind": word, "metadata": {"name": name}, "spec": spec}, self.namespace
        )
        return made

    def _wait(self, kind: str, name: str, revision: str, of: Callable[[Json], str], timeout: float) -> Json:
        status: Json = {}

        def done() -> Json | None:
            nonlocal status
            found = self.kube.get(kind, name, self.namespace)
            status = found.get("status", {})
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            # Flux writes a revision as BRANCH@sha1:COMMIT.
            return found if ready and seen and of(status).endswith(f":{revision}") else None

        try:
            return wait_for(done, timeout, f"{name} to come to {revision}")
        except TimeoutError as exc:
            raise TimeoutError(f"{exc}; status {json.dumps(status)}") from None


@contextmanager
def running(cluster: Cluster, namespace: str = "flux-system") -> Iterator[Flux]:
    """Flux for one namespace, which is made; to be entered in the main thread.

    Raises Unavailable when the programs can't be had, StartError when one doesn't start.
    """
    programs = binaries(*FLUX)
    kube = cluster.kube()
    _install(kube, namespace)
    base = Path(tempfile.mkdtemp(prefix="mk-flux-"))
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            folder = base / str(attempt)
            folder.mkdir()
            with Components(folder) as components:
                try:
                    _start(cluster, programs, components, folder, namespace)
                except PortTakenError:
                    if attempt == _ATTEMPTS:
                        raise
                    continue
                yield Flux(kube, namespace, {name: one.pid for name, one in components.running.items()})
                return
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _install(kube: Kube, namespace: str) -> None:
    for tool, module in _MODULES.items():
        for path in sorted((module_dir(tool, module) / "config" / "crd" / "bases").glob("*.yaml")):
            kube.apply(path.read_text())
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for kind in (GIT_REPOSITORY, KUSTOMIZATION):
        kube.resource(kind, timeout=15)


def _start(
    cluster: Cluster, programs: Mapping[str, Path], components: Components, folder: Path, namespace: str
) -> None:
    storage, health = f"127.0.0.1:{free_port()}", {name: free_port() for name in programs}
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    for name, program in programs.items():
        options: list[Any] = [f"--health-addr=127.0.0.1:{health[name]}", "--metrics-addr=0"]
        options += ["--watch-all-namespaces=false", "--log-level=debug"]
        if name == "source-controller":
            options += [f"--storage-path={artifacts}", f"--storage-addr={storage}", f"--storage-adv-addr={storage}"]
        components.start(name, [program, *options], KUBECONFIG=str(cluster.kubeconfig), RUNTIME_NAMESPACE=namespace)
    ports = [*health.values(), int(storage.rpartition(":")[2])]
    components.wait_until(lambda: all(listening(port) for port in ports), "answer of Flux", _START_S)
