"""A pytest plugin, to be named in `pytest_plugins`: a Prometheus for the run, and in red at its end what was not tested for want of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.prometheus.programs import MISSING, need, programs
from tests.support.unavailable import Unavailable, tell_missing

if TYPE_CHECKING:
    from tests.support.prometheus.server import Prometheus

JOBS = ("stable", "drift", "straggler")


@pytest.fixture(scope="session")
def prometheus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real server with three jobs in the namespace `ml`, each a Deployment called like what is wrong with it, and a few oddities."""
    # Loaded here: coverage begins after plugins are loaded, and these load the package.
    from tests.support.prometheus.series import Metrics, oddities, train
    from tests.support.prometheus.server import running

    require(request)
    metrics = Metrics()
    for job in JOBS:
        train(metrics, job)
    oddities(metrics)
    with running(tmp_path_factory.mktemp("prometheus"), metrics) as server:
        yield server


@pytest.fixture(scope="session")
def guarded_prometheus(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """One behind TLS and a password, with the job `stable`."""
    from tests.support.prometheus.series import Metrics, train
    from tests.support.prometheus.server import running

    require(request)
    metrics = Metrics()
    train(metrics, "stable")
    with running(tmp_path_factory.mktemp("guarded"), metrics, guarded=True) as server:
        yield server


def require(request: pytest.FixtureRequest) -> None:
    """Have the programs, or say loudly that the test isn't done."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    try:
        # A build takes minutes: it is to be seen.
        with capture.global_and_fixture_disabled():
            programs()
    except Unavailable as exc:
        need(exc)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Once for each reason, with how many tests it concerns."""
    tell_missing(terminalreporter, MISSING)
