"""One small world on GitHub a test: the simulator over a real bare repository, and the real adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.github_world import HubWorld, hub_world
from tests.support.world import template


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("embedded"))


@pytest.fixture
def world(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubWorld]:
    """We are an App."""
    with hub_world(tmp_path / "hub", embedded, monkeypatch) as made:
        yield made


@pytest.fixture(params=["app", "token"])
def either(
    request: pytest.FixtureRequest, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubWorld]:
    """We are an App, or an account with a token."""
    with hub_world(tmp_path / "hub", embedded, monkeypatch, as_app=request.param == "app") as made:
        yield made
