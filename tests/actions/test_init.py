"""`mk init`: one reviewable commit, nothing overwritten, nothing unpinned."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gitops_mk.cli.main import run
from gitops_mk.controller import setup
from gitops_mk.core.documents import parse_yaml
from gitops_mk.core.workflow import INIT_BRANCH
from gitops_mk.demo.embedded import embedded_files
from gitops_mk.errors import InputError
from gitops_mk.model.change import GATE_CHECK
from gitops_mk.model.settings import CONFIG_PATH, RepoSettings
from tests.actions.conftest import git

SHA = "5" * 40
SCHEMA = ".modekeeper/config.schema.json"
CODEOWNERS = ".github/CODEOWNERS"


@dataclass
class Said:
    code: int
    out: str
    err: str


Mk = Callable[..., Said]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of a repository on GitHub that ModeKeeper has not seen."""
    path = tmp_path / "checkout"
    for name, data in embedded_files().items():
        if name != CONFIG_PATH:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    git("init", "-q", "-b", "main", cwd=path)
    git("config", "user.name", "Alice", cwd=path)
    git("config", "user.email", "alice@example.invalid", cwd=path)
    git("remote", "add", "origin", "git@github.com:octo/gitops.git", cwd=path)
    git("add", "-A", cwd=path)
    git("commit", "-q", "-m", "first", cwd=path)
    return path


@pytest.fixture
def init(checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mk:
    monkeypatch.setenv("KUBECONFIG", os.devnull)

    def call(*args: object) -> Said:
        capsys.readouterr()
        code = run(["init", "--repo", str(checkout), *map(str, args)])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call


def settings(text: str) -> RepoSettings:
    return parse_yaml(RepoSettings, text.encode(), what="config")


def test_on_github_everything_is_written(init: Mk, checkout: Path) -> None:
    said = init("--action", f"acme/tools@{SHA}", "--owner", "@octo/platform", "--owner", "@alice", "--passport", "safe")
    assert said.code == 0, said.err
    config = settings((checkout / CONFIG_PATH).read_text())
    assert config.forge.kind == "github"
    assert config.defaults.passport == "safe"
    assert [workload.name for workload in config.workloads] == ["trainer"]
    assert f"uses: acme/tools/.github/actions/verify@{SHA} # " in (checkout / setup.WORKFLOW_PATH).read_text()
    assert (checkout / CODEOWNERS).read_text().splitlines()[1:] == [
        "/.modekeeper/ @octo/platform @alice", "/.github/ @octo/platform @alice",
    ]  # fmt: skip
    assert (checkout / SCHEMA).exists()
    for word in (setup.VERIFY_JOB, GATE_CHECK, "strict", "dismiss stale", "1 approval", "mk doctor", "docs/github.md"):
        assert word in said.out
    assert "no commit is known" not in said.out
    assert git("status", "--porcelain", cwd=checkout).count("??") == 2


def test_elsewhere_only_the_configuration_is(init: Mk, checkout: Path) -> None:
    git("remote", "set-url", "origin", "/srv/gitops.git", cwd=checkout)
    said = init()
    assert settings((checkout / CONFIG_PATH).read_text()).forge.kind == "local"
    assert not (checkout / ".github").exists()
    assert setup.VERIFY_JOB not in said.out


def test_a_github_of_ones_own_is_told(init: Mk, checkout: Path) -> None:
    git("remote", "set-url", "origin", "https://git.corp.example/team/gitops", cwd=checkout)
    assert init("--forge", "github").code == 0
    assert (checkout / setup.WORKFLOW_PATH).exists()


def test_without_a_commit_nothing_runs(init: Mk, checkout: Path) -> None:
    said = init()
    text = (checkout / setup.WORKFLOW_PATH).read_text()
    assert f"verify@{setup.NO_COMMIT} # SET THE COMMIT of v" in text
    assert "no commit is known" in said.out
    for used in re.findall(r"uses: (\S+)", text):
        assert re.search(r"@[0-9a-f]{40}$", used)
    # Names nobody, and says how.
    assert all(line.startswith("#") for line in (checkout / CODEOWNERS).read_text().splitlines())


@pytest.mark.parametrize(
    "action", ["acme/tools@v1", "acme/tools@main", "acme/tools@" + "5" * 39, "acme", "a/b@", "x\n", "a/b@" + "G" * 40]
)
def test_what_can_be_moved_is_refused(init: Mk, checkout: Path, action: str) -> None:
    said = init("--action", action)
    assert said.code == 2
    assert "expected OWNER/REPO@COMMIT" in said.err
    assert not (checkout / CONFIG_PATH).exists()


def test_which_action() -> None:
    ours = setup.ACTION_REPOSITORY
    assert setup.find_action(None) == setup.find_action(ours) == setup.find_action(setup.NO_COMMIT)
    assert not setup.find_action(None).known
    assert setup.find_action(SHA)[:2] == (ours, SHA)
    assert setup.find_action("acme/tools").repository == "acme/tools"
    assert not setup.find_action(f"acme/tools@{setup.NO_COMMIT}").known


def test_a_release_knows_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "ACTION_COMMIT", SHA)
    assert setup.find_action(None)[:2] == (setup.ACTION_REPOSITORY, SHA)
    assert setup.find_action(None).note.startswith("v")
    assert not setup.find_action("acme/tools").known


def test_nothing_is_overwritten(init: Mk, checkout: Path) -> None:
    for name in (CONFIG_PATH, setup.WORKFLOW_PATH, "docs/CODEOWNERS"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("# mine\n")
    assert init().code == 2
    (checkout / setup.WORKFLOW_PATH).unlink()
    said = init("--owner", "@octo/platform")
    assert said.code == 0, said.err
    assert f"{CONFIG_PATH} is there already, and left as it is" in said.out
    assert "add to docs/CODEOWNERS:\n  /.modekeeper/ @octo/platform\n  /.github/ @octo/platform\n" in said.out
    for name in (CONFIG_PATH, "docs/CODEOWNERS"):
        assert (checkout / name).read_text() == "# mine\n"
    assert not (checkout / CODEOWNERS).exists()
    assert not (checkout / SCHEMA).exists()


def test_a_dry_run_writes_nothing(init: Mk, checkout: Path) -> None:
    before = sorted(checkout.rglob("*"))
    for more in ((), ("--commit",)):
        said = init("--dry-run", *more)
        assert said.code == 0
        for name in (CONFIG_PATH, SCHEMA, setup.WORKFLOW_PATH, CODEOWNERS):
            assert f"--- {name}\n" in said.out
        assert "pull_request:\n  merge_group:\n" in said.out
        assert sorted(checkout.rglob("*")) == before


def test_one_commit_that_touches_neither_files_nor_index(init: Mk, checkout: Path) -> None:
    (checkout / "base/deployment.yaml").write_text("# being edited\n")
    (checkout / "staged").write_text("x")
    git("add", "staged", cwd=checkout)
    before = git("status", "--porcelain", cwd=checkout)
    index = (checkout / ".git/index").read_bytes()
    said = init("--commit", "--action", SHA)
    assert said.code == 0, said.err
    assert git("status", "--porcelain", cwd=checkout) == before
    assert (checkout / ".git/index").read_bytes() == index
    assert git("rev-parse", "--abbrev-ref", "HEAD", cwd=checkout) == "main\n"
    assert git("log", "--format=%an <%ae>", f"main..{INIT_BRANCH}", cwd=checkout) == "Alice <alice@example.invalid>\n"
    names = git("diff", "--name-status", "main", INIT_BRANCH, cwd=checkout).split()
    assert names == ["A", CODEOWNERS, "A", setup.WORKFLOW_PATH, "A", SCHEMA, "A", CONFIG_PATH]
    assert settings(git("show", f"{INIT_BRANCH}:{CONFIG_PATH}", cwd=checkout)).workloads
    assert f"git push -u origin {INIT_BRANCH}" in said.out
    again = init("--commit")
    assert again.code == 2
    assert f"{INIT_BRANCH} is there already" in again.err


def test_a_commit_looks_at_what_is_committed(init: Mk, checkout: Path) -> None:
    (checkout / ".modekeeper").mkdir()
    (checkout / CONFIG_PATH).write_text("# not committed\n")
    assert init("--commit").code == 0
    git("checkout", "-q", "--force", INIT_BRANCH, cwd=checkout)
    assert init("--commit").code == 2


def test_a_commit_by_nobody(init: Mk, checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in ("user.name", "user.email"):
        git("config", "--unset", key, cwd=checkout)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    said = init("--commit")
    assert said.code == 2
    assert "git does not know who you are" in said.err
    assert not subprocess.run(
        ["git", "rev-parse", "-q", "--verify", INIT_BRANCH], cwd=checkout, capture_output=True, check=False
    ).stdout


@pytest.mark.parametrize(
    "args", [("--owner", "octo"), ("--owner", "@a b"), ("--owner", "@a\n* @evil"), ("--passport", "none")]
)
def test_other_bad_input(init: Mk, checkout: Path, args: tuple[str, ...]) -> None:
    assert init(*args).code == 2
    assert not (checkout / CONFIG_PATH).exists()


def test_owners() -> None:
    assert setup.codeowners_lines(["team@corp.example"])[0] == "/.modekeeper/ team@corp.example"
    with pytest.raises(InputError, match="expected @user"):
        setup.codeowners_lines(["@"])


@pytest.mark.parametrize(
    ("remote", "kind"),
    [
        (None, "local"),
        ("/srv/git/github.com/x", "local"),
        ("https://github.com/octo/gitops", "github"),
        ("https://x:y@GitHub.com/octo/gitops.git", "github"),
        ("ssh://git@github.com/octo/gitops", "github"),
        ("ssh://git@ssh.github.com:443/octo/gitops", "github"),
        ("git@github.com:octo/gitops", "github"),
        ("https://github.com.evil.example/octo/gitops", "local"),
        ("git@gitlab.com:octo/gitops", "local"),
        ("https://git.corp.example/github.com/x", "local"),
    ],
)
def test_where_pull_requests_live(remote: str | None, kind: str) -> None:
    assert setup.forge_of(remote) == kind
