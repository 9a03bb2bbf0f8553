"""A fresh copy of one embedded repository for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import World, copy_of, template


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="session")
def proposed(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a pull request that is proposed and verified: only the merge is missing."""
    made = World(copy_of(embedded, tmp_path_factory.mktemp("proposed") / "gitops.git"))
    forge = made.forge()
    made.propose(forge)
    assert made.verify(forge).ok
    made.close()
    return made.path


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEKEEPER_KILL_SWITCH", "MODEKEEPER_GIT_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def world(embedded: Path, tmp_path: Path) -> Iterator[World]:
    made = World(copy_of(embedded, tmp_path / "gitops.git"))
    yield made
    made.close()


@pytest.fixture
def ready(proposed: Path, tmp_path: Path) -> Iterator[World]:
    made = World(copy_of(proposed, tmp_path / "ready.git"))
    yield made
    made.close()
