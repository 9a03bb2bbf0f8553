"""A git server with pull requests as GitHub keeps them, a checkout as a job has it, and a job's environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.git import GitRepo
from gitops_mk.cli.main import run
from tests.support.make import ALICE
from tests.support.world import BRANCH, World, copy_of, template

NUMBER = 7


@dataclass
class Hub:
    """The server's repository with one pull request of ours, and what a job of it finds."""

    world: World
    folder: Path
    number: int = NUMBER
    said: list[str] = field(default_factory=list)

    @property
    def server(self) -> GitRepo:
        return self.world.server

    @property
    def checkout(self) -> Path:
        """A clone of the base with all of its history."""
        path = self.folder / "checkout"
        if not path.exists():
            git("clone", "-q", "--no-local", "--single-branch", "--branch", "main", str(self.world.path), str(path))
        return path

    def put(self, head: str, *, merge: bool = True, onto: str | None = None) -> str:
        """Make this the head of the pull request; `merge`: the server tries the merge, as GitHub does by and by."""
        refs: dict[str, str | None] = {f"refs/pull/{self.number}/head": head}
        if merge:
            refs[f"refs/pull/{self.number}/merge"] = self.merged(onto or self.world.tip(), head)
        self.server.set_refs(refs)
        return head

    def merged(self, base: str, head: str) -> str:
        tree = self.server.merge_tree(base, head)
        assert tree is not None
        return self.server.write_commit(tree=tree, parents=[base, head], message="Merge\n", author=ALICE, time=9)

    def change(self, files: dict[str, bytes | None], *, on: str | None = None, message: str = "Edit\n") -> str:
        """A commit by somebody, on the base or on another commit, that is on no branch."""
        parent = on or self.world.tip()
        tree = self.server.write_tree(parent, files)
        return self.server.write_commit(tree=tree, parents=[parent], message=message, author=ALICE, time=8)

    def pull_request(self, head: str | None = None, *, branch: str = BRANCH, **over: Any) -> Path:
        """The file of a pull_request event."""
        pull = {
            "number": self.number,
            "title": "::error::title",
            "head": {"sha": head or self.world.tip(BRANCH), "ref": branch},
            "base": {"sha": self.world.tip(), "ref": "main"},
        }
        repository = {"default_branch": "main", "full_name": "octo/gitops"}
        return self.event(
            {"action": "opened", "number": self.number, "repository": repository, "pull_request": pull | over}
        )

    def merge_group(self, base: str, head: str, ref: str) -> Path:
        """The file of a merge_group event, its branch put on the server."""
        self.server.set_refs({ref: head})
        group = {"base_sha": base, "base_ref": "refs/heads/main", "head_sha": head, "head_ref": ref}
        return self.event({"action": "checks_requested", "merge_group": group})

    def event(self, event: Any) -> Path:
        path = self.folder / "event.json"
        path.write_text(json.dumps(event))
        return path


@pytest.fixture(scope="session")
def proposed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = World(copy_of(template(tmp_path_factory.mktemp("embedded")), tmp_path_factory.mktemp("hub") / "gitops.git"))
    made.propose(made.forge())
    made.close()
    return made.path


@pytest.fixture
def hub(proposed: Path, tmp_path: Path) -> Iterator[Hub]:
    world = World(copy_of(proposed, tmp_path / "gitops.git"))
    made = Hub(world, tmp_path)
    made.put(world.tip(BRANCH))
    yield made
    world.close()


@dataclass
class Ran:
    """What a job's step left behind."""

    code: int
    out: str
    err: str
    summary: str
    outputs: dict[str, str]
    report: dict[str, Any]

    @property
    def commands(self) -> list[str]:
        """The lines that the runner takes for commands: those between stop-commands and its word are none."""
        found, word = [], None
        for line in (self.out + self.err).splitlines():
            stripped = line.lstrip()
            if word is not None:
                if stripped == f"::{word}::":
                    word = None
                continue
            match = re.match(r"::stop-commands::(\w+)\Z", stripped)
            if match:
                word = match[1]
            elif stripped.startswith("::") or "##[" in line:
                found.append(line)
        assert word is None
        return found


Verify = Callable[..., Ran]


def job_env(folder: Path) -> dict[str, str]:
    """A job's variables, of a runner without a cluster."""
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        "GITHUB_OUTPUT": str(folder / "outputs"),
        "KUBECONFIG": os.devnull,
    }


def whole_env(folder: Path) -> dict[str, str]:
    """The same for a process, without what the job that these tests may run in has set."""
    ours = ("GITHUB_", "MODEKEEPER_")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)} | job_env(folder)


def left(folder: Path, code: int, out: str, err: str) -> Ran:
    """What stands in a job's files after a step."""

    def text(name: str) -> str:
        path = folder / name
        return path.read_text() if path.exists() else ""

    report = folder / "report" / "verify_latest.json"
    return Ran(
        code,
        out,
        err,
        text("summary"),
        outputs_of(text("outputs")),
        json.loads(report.read_text()) if report.exists() else {},
    )


def outputs_of(text: str) -> dict[str, str]:
    """As the runner reads GITHUB_OUTPUT."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, _, mark = line.partition("<<")
        value = []
        for more in lines:
            if more == mark:
                break
            value.append(more)
        found[name] = "\n".join(value)
    return found


@pytest.fixture
def verify(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verify:
    """`mk verify` as the step of a job, in this process; the server is asked once unless `--wait` says otherwise."""
    for name in ("MODEKEEPER_KILL_SWITCH", "MODEKEEPER_GIT_TOKEN", "GITHUB_EVENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in job_env(tmp_path).items():
        monkeypatch.setenv(name, value)

    def call(*args: object) -> Ran:
        capsys.readouterr()
        asked = [
            "verify",
            "--repo",
            hub.checkout,
            "--out",
            tmp_path / "report",
            *(() if "--wait" in args else ("--wait", "0s")),
        ]
        code = run([str(one) for one in (*asked, *args)])
        captured = capsys.readouterr()
        return left(tmp_path, code, captured.out, captured.err)

    return call


def git(*args: str, cwd: Path | None = None) -> str:
    return subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True, text=True).stdout
