"""A command line to call in this process, and a GitOps repository to call it on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.git import GitRepo
from gitops_mk.adapters.killswitch import VARIABLE
from gitops_mk.adapters.license_files import KEYRING_VARIABLE, LICENSE_VARIABLE, mint
from gitops_mk.cli.main import run
from gitops_mk.demo.embedded import make_embedded


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        lines = [line for line in self.err.splitlines() if line.startswith("ERROR: ")]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("ERROR: ")


Mk = Callable[..., Said]


@pytest.fixture
def mk(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mk:
    """`mk(*args)` in an empty folder, without any of our variables set."""
    for name in (VARIABLE, KEYRING_VARIABLE, LICENSE_VARIABLE, "MODEKEEPER_INTERNAL_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    # Whatever cluster the person at this machine works with is none of a test's business.
    monkeypatch.setenv("KUBECONFIG", os.devnull)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def call(*args: object) -> Said:
        capsys.readouterr()
        code = run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A bare GitOps repository with the demo trainer; no approvals asked."""
    return make_embedded(tmp_path / "server")


@pytest.fixture
def checkout(repo: Path, tmp_path: Path) -> Path:
    """A clean checkout of it, with somebody at the keyboard."""
    path = tmp_path / "checkout"
    git("clone", "-q", str(repo), str(path))
    git("config", "user.name", "Alice", cwd=path)
    git("config", "user.email", "alice@example.invalid", cwd=path)
    return path


@pytest.fixture
def licensed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A development licence, named in the environment."""
    path, keyring = mint(tmp_path / "license", org="test", days=1)
    monkeypatch.setenv(LICENSE_VARIABLE, str(path))
    monkeypatch.setenv(KEYRING_VARIABLE, str(keyring))
    return path


def git(*args: str, cwd: Path | None = None) -> str:
    return subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True, text=True).stdout


def commit_all(path: Path, message: str = "edit") -> None:
    git("add", "-A", cwd=path)
    git("commit", "-q", "-m", message, cwd=path)
    git("push", "-q", "origin", "HEAD:main", cwd=path)


def tip(repo: Path, ref: str = "main") -> str | None:
    return GitRepo(repo).resolve(ref)


def load(path: Path) -> Any:
    return json.loads(path.read_text())
