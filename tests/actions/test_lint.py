"""The workflows that ship, and the one that `mk init` writes, as GitHub's tools and zizmor see them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gitops_mk.adapters.resources import read_template
from gitops_mk.controller import setup
from tests.actions.peers import language_service
from tests.support.github.npm import need
from tests.support.unavailable import Unavailable

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / ".github/actions/verify/action.yml"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))

BAD = """\
on: pull_request_target
permissions: write-all
jobs:
  verify:
    runs-on: self-hosted
    steps:
      - uses: actions/checkout@v4
        with:
          ref: ${{ github.event.pull_request.head.sha }}
      - run: echo "${{ github.event.pull_request.title }}"
      - run: echo "${{ github.head_ref }}" >> $GITHUB_ENV
      - uses: some/action@main
      - if: github.actor == 'dependabot[bot]'
        run: ./merge.sh
        env:
          ALL: ${{ toJSON(secrets) }}
"""


@pytest.fixture(params=[None, "acme/tools@" + "1" * 40], ids=["no commit", "a commit"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What `mk init` writes."""
    path = tmp_path / ".github" / "workflows" / "modekeeper-verify.yml"
    path.parent.mkdir(parents=True)
    action = setup.find_action(request.param)
    path.write_text(setup.workflow_yaml(read_template(setup.WORKFLOW_TEMPLATE).decode(), action))
    return path


def tool(name: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / name), *map(str, args)], capture_output=True, text=True, check=False
    )


def zizmor(*paths: Path) -> list[str]:
    """The names of the rules that something breaks."""
    done = tool("zizmor", "--quiet", "--offline", "--no-config", "--persona", "auditor", "--format", "json-v1", *paths)
    assert done.returncode < 2 or done.returncode > 10, done.stderr
    return [finding["ident"] for finding in json.loads(done.stdout)]


def test_zizmor_finds_nothing(written: Path) -> None:
    assert zizmor(ROOT / ".github", written) == []


def test_zizmor_would_find_it(tmp_path: Path) -> None:
    path = tmp_path / ".github" / "workflows" / "bad.yml"
    path.parent.mkdir(parents=True)
    path.write_text(BAD)
    found = zizmor(path)
    assert len(found) >= 7
    assert {"dangerous-triggers", "template-injection", "unpinned-uses", "excessive-permissions"} <= set(found)


def test_schemas(written: Path, tmp_path: Path) -> None:
    for schema, paths in (("github-workflows", [*WORKFLOWS, written]), ("github-actions", [ACTION])):
        done = tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *paths)
        assert done.returncode == 0, done.stdout
    bad = tmp_path / "bad.yml"
    bad.write_text(BAD.replace("runs-on", "runs-of"))
    assert tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", bad).returncode == 1


def test_githubs_language_service(written: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text(BAD.replace("github.head_ref", "githbu.head_ref"))
    try:
        assert language_service(*WORKFLOWS, ACTION, written) == []
        assert any("githbu" in line for line in language_service(bad))
    except Unavailable as exc:
        need(exc)


@pytest.mark.parametrize("reusable", [False, True])
def test_a_required_job_as_it_has_to_be(written: Path, reusable: bool) -> None:
    """A job that is skipped counts as passed, one of many names as missing, one that hangs as neither."""
    text = (ROOT / ".github/workflows/verify.yml" if reusable else written).read_text()
    loaded = YAML(typ="safe", pure=True).load(text)
    triggers = loaded.get("on", loaded.get(True))
    assert triggers.keys() == ({"workflow_call"} if reusable else {"pull_request", "merge_group"})
    assert reusable or triggers == {"pull_request": None, "merge_group": None}
    assert loaded["permissions"] == {}
    assert loaded["concurrency"]["cancel-in-progress"] is True
    (job,) = loaded["jobs"].values()
    assert job["name"] == setup.VERIFY_JOB
    assert job["permissions"] == {"contents": "read"}
    assert isinstance(job["timeout-minutes"], int)
    assert not {"if", "strategy", "continue-on-error", "needs"} & job.keys()
    assert not any({"if", "continue-on-error"} & step.keys() for step in job["steps"])
    assert not re.search(r"\bsecrets\b", text)
    (checkout,) = [step for step in job["steps"] if step["uses"].startswith("actions/checkout@")]
    assert checkout["with"]["persist-credentials"] is False
    assert checkout["with"]["fetch-depth"] == 0
    assert "head" not in checkout["with"]["ref"]


def test_everything_is_pinned(written: Path) -> None:
    for path in (*WORKFLOWS, ACTION, written):
        for line in path.read_text().splitlines():
            used = re.search(r"uses:\s*(\S+)(.*)", line)
            if used and not used[1].startswith("$/"):
                assert re.search(r"@[0-9a-f]{40}$", used[1]), line
                assert re.match(r" # \S", used[2]), line


def test_contexts_reach_a_shell_by_its_environment_alone() -> None:
    loaded = YAML(typ="safe", pure=True).load(ACTION.read_text())
    runs = [step["run"] for step in loaded["runs"]["steps"] if "run" in step]
    assert len(runs) == 2
    assert not any("${{" in text for text in runs)


def test_shell_scripts_are_right() -> None:
    script = ACTION.parent / "install.sh"
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "set -euo pipefail" in script.read_text()
    assert script.stat().st_mode & 0o111
