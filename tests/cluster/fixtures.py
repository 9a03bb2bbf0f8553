"""Fixtures of the test cluster: `cluster`, `kube`, `namespace`, `flux`. A pytest plugin, to be named in `pytest_plugins`."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.build import CONTROL_PLANE, FLUX, binaries
from tests.cluster.control_plane import Cluster
from tests.cluster.kube import Kube, wait_for
from tests.cluster.serving import ENV, end, shared
from tests.support.unavailable import Unavailable, tell_missing

if TYPE_CHECKING:
    from tests.cluster.flux import Flux

REQUIRED = "MODEKEEPER_REQUIRE_CLUSTER"
"""Set to 1: where no cluster can be had, tests that need one fail. So they do where CI is `true`."""

_MISSING = "no test cluster: "


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real control plane: the one that MODEKEEPER_TEST_CLUSTER names, or one for this run, shared by all its workers."""
    folder = os.environ.get(ENV)
    if folder:
        yield Cluster.load(Path(folder))
        return
    _need(request, *CONTROL_PLANE)
    if "PYTEST_XDIST_WORKER" in os.environ:
        # It belongs to the process that started the workers: the first of them to end leaves it to the others.
        yield shared(tmp_path_factory.getbasetemp().parent / "test-cluster", os.getppid())
        return
    base = Path(tempfile.mkdtemp(prefix="mk-cluster-"))
    try:
        yield shared(base, os.getpid())
    finally:
        end(base)


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Kube:
    """The cluster's admin."""
    return cluster.kube()


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """The name of a namespace of this test's own. It is deleted afterwards, and nobody waits for that."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        # Without it no pod is admitted.
        wait_for(lambda: kube.find("ServiceAccount", "default", name), 30, f"the service account of {name}")
        yield name
    finally:
        kube.delete("Namespace", name)


@pytest.fixture(scope="session")
def flux(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Flux]:
    """Flux's source-controller and kustomize-controller at work on the cluster."""
    from tests.cluster.flux import running

    _need(request, *FLUX)
    # A namespace of its own: another worker's Flux looks after another.
    name = f"flux-{uuid.uuid4().hex[:10]}"
    with running(cluster, name) as started:
        yield started


def required() -> bool:
    """True where a run without a cluster is a failed one."""
    return os.environ.get("CI") == "true" or os.environ.get(REQUIRED) == "1"


def _need(request: pytest.FixtureRequest, *names: str) -> None:
    """Have these programs, or say loudly that the test isn't done."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    try:
        # A build takes minutes: it is to be seen.
        with capture.global_and_fixture_disabled():
            binaries(*names)
    except Unavailable as exc:
        if required():
            pytest.fail(f"{_MISSING}{exc}", pytrace=False)
        pytest.skip(f"{_MISSING}{exc}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tested, in red, once for each reason."""
    tell_missing(terminalreporter, _MISSING)
