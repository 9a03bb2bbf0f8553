"""The workflow that `mk init` writes, run: by act, on this machine and without containers, against a real repository.

What stands in for GitHub's own actions is a few lines each: they lay the base out, and keep the report.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.resources import read_template
from gitops_mk.controller import setup
from tests.actions.conftest import Hub, git
from tests.actions.peers import act, wheels
from tests.support.world import BRANCH, KNOBS_PATH

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "1" * 40
OURS = f"acme/modekeeper@{COMMIT}"
CHECKOUT = """\
name: checkout
description: A stand-in.
inputs:
  ref: {description: What to lay out., required: true}
  fetch-depth: {description: All., required: true}
  persist-credentials: {description: None., required: true}
runs:
  using: composite
  steps:
    - shell: bash
      env:
        REF: ${{ inputs.ref }}
      run: git clone -q --no-local "$SERVER" . && git checkout -q --detach "$REF"
"""
UPLOAD = """\
name: upload
description: A stand-in.
inputs:
  path: {description: What to keep., required: true}
  name: {description: Under which name., required: true}
  if-no-files-found: {description: Warn., required: true}
  overwrite: {description: Yes., required: true}
runs:
  using: composite
  steps:
    - shell: bash
      env:
        FROM: ${{ inputs.path }}
        NAME: ${{ inputs.name }}
      run: mkdir -p "$KEPT" && cp -r "$FROM" "$KEPT/$NAME"
"""


@dataclass
class Runner:
    """act, the product as a release has it, and the stand-ins."""

    hub: Hub
    folder: Path
    program: Path
    wheels: Path

    def run(self, event: str, path: Path) -> tuple[int, str, dict[str, Any]]:
        """A job of that event: its exit code, its log, and the report that was kept."""
        work = self.folder / "work"
        workflow = setup.workflow_yaml(read_template(setup.WORKFLOW_TEMPLATE).decode(), setup.find_action(OURS))
        (work / setup.WORKFLOW_PATH).parent.mkdir(parents=True)
        (work / setup.WORKFLOW_PATH).write_text(workflow)
        git("init", "-q", "-b", "main", cwd=work)
        git("remote", "add", "origin", "https://github.com/octo/gitops", cwd=work)
        git("add", "-A", cwd=work)
        git("-c", "user.name=a", "-c", "user.email=a@example.invalid", "commit", "-q", "-m", "m", cwd=work)
        product = self.folder / "product"
        product.mkdir()
        for name in ("gitops_mk", "templates", ".github"):
            shutil.copytree(ROOT / name, product / name, ignore=shutil.ignore_patterns("__pycache__"))
        local = [OURS, str(product)]
        for action, text in (("actions/checkout", CHECKOUT), ("actions/upload-artifact", UPLOAD)):
            stands_in = self.folder / action
            stands_in.mkdir(parents=True)
            (stands_in / "action.yml").write_text(text)
            everything = workflow + (ROOT / ".github/actions/verify/action.yml").read_text()
            (pin,) = set(re.findall(rf"{action}@([0-9a-f]{{40}})", everything))
            local += [f"{action}@{pin}", str(stands_in)]
        pairs = [f"{ref}={folder}" for ref, folder in zip(local[::2], local[1::2], strict=True)]
        env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "KUBECONFIG": os.devnull,
            "SERVER": f"file://{self.hub.world.path}",
            "KEPT": str(self.folder / "kept"),
            # Fetched before: a job of a test asks nobody.
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        argv = [str(self.program), event, "-e", str(path), "-P", "ubuntu-24.04=-self-hosted", "--pull=false"]
        argv += ["--artifact-server-addr", "127.0.0.1", "--cache-server-addr", "127.0.0.1"]
        for pair in pairs:
            argv += ["--local-repository", pair]
        done = subprocess.run(argv, cwd=work, env=env, capture_output=True, text=True, check=False, timeout=300)
        log = done.stdout + done.stderr
        report = self.folder / "kept" / "modekeeper-verify" / "verify_latest.json"
        assert report.exists(), log
        return done.returncode, log, json.loads(report.read_text())


@pytest.fixture
def runner(hub: Hub, tmp_path: Path) -> Runner:
    return Runner(hub, tmp_path, act(), wheels(ROOT / ".github/actions/verify/requirements.lock"))


def test_a_good_pull_request_with_odd_names(runner: Runner, hub: Hub) -> None:
    canary = hub.folder / "canary"
    odd = f'$(touch {canary})`touch {canary}`"; touch {canary}; #\n::set-output name=verify_ok::no'
    branch = f"$(touch${{IFS}}{canary})`id`"
    head = hub.world.tip(BRANCH)
    path = hub.pull_request(head, branch=branch, title=odd, body=odd, labels=[{"name": odd}])
    code, log, report = runner.run("pull_request", path)
    assert code == 0, log
    assert report["verify_ok"] is True
    assert report["head"] == head
    assert "Job succeeded" in log
    assert not canary.exists()


def test_a_bad_pull_request(runner: Runner, hub: Hub) -> None:
    canary = hub.folder / "canary"
    text = hub.world.file(KNOBS_PATH, BRANCH).replace(b'"', b"'")
    name = f"$(touch {canary})\n::error::x"
    head = hub.change({KNOBS_PATH: text, name: b"1"}, on=hub.world.tip(BRANCH), message="::add-mask::x\n")
    hub.put(head)
    code, log, report = runner.run("pull_request", hub.pull_request(head))
    assert code == 1, log
    assert report["verify_ok"] is False
    assert report["reason"] == "scope_violation"
    assert "Job failed" in log
    assert "scope_violation" in log
    assert not canary.exists()


def test_a_merge_queue(runner: Runner, hub: Hub) -> None:
    base, head = hub.world.tip(), hub.world.tip(BRANCH)
    path = hub.merge_group(base, hub.merged(base, head), "refs/heads/gh-readonly-queue/main/pr-7-x")
    event = json.loads(path.read_text()) | {"repository": {"default_branch": "main"}}
    path.write_text(json.dumps(event))
    code, log, report = runner.run("merge_group", path)
    assert code == 0, log
    assert (report["base"], report["head"]) == (base, head)
