"""500 workloads of one repository, each with a new plan: branches pushed and pull requests opened; then nothing new.

Against the simulator, over git HTTP and the API, limits and pauses off; beside the bare git commands that do the same pushes.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gitops_mk.adapters.clock import SystemClock
from gitops_mk.adapters.clone import Clone, own_refspecs
from gitops_mk.adapters.git import HTTP_VARIABLE
from gitops_mk.adapters.github.api import Api
from gitops_mk.adapters.github.auth import TokenCredentials, address_of
from gitops_mk.adapters.github.forge import GitHubForge
from gitops_mk.adapters.resources import wording
from gitops_mk.controller.batch import push_ahead
from gitops_mk.controller.propose import Outcome, Proposal, Proposed, propose
from gitops_mk.controller.state import identity_of
from gitops_mk.core.render.component import render
from gitops_mk.model.plan import PatchTarget, Plan
from gitops_mk.model.settings import ForgeSettings, Limits, RepoSettings
from gitops_mk.model.workload import WorkloadRef
from tests.support import make
from tests.support.github import GitHub

WORKLOADS = 500
FIRST_AT_MOST_S = 60.0
AGAIN_AT_MOST_S = 5.0
AGAIN_REQUESTS = 3
SETTINGS = RepoSettings(
    version="v1",
    limits=Limits(max_open_prs=None, max_prs_per_hour=None),
    forge=ForgeSettings(kind="github", required_approvals=0),
)


def measure_github(say: Callable[[str], None], workloads: int = WORKLOADS) -> dict[str, float]:
    """The figures by name; raises RuntimeError where a pull request is missing."""
    os.environ[HTTP_VARIABLE] = "1"
    with tempfile.TemporaryDirectory(prefix="mk-bench-github-") as name, GitHub(Path(name), validate=False) as hub:
        folder = Path(name)
        bot = hub.user("mk-bot")
        repo = hub.repo("team/gitops", seed(folder / "seed.git", workloads))
        hub.collaborate(repo, bot, "write")
        remote = f"{hub.url}/team/gitops.git"
        token = hub.token(bot, dict.fromkeys(("contents", "pull_requests", "issues", "statuses"), "write"))
        with opened(remote, token) as forge:
            wanted = [proposed(number) for number in range(workloads)]
            hub.requests.clear()
            begin = time.perf_counter()
            outcomes = turn(forge, wanted)
            first = time.perf_counter() - begin
            if {one.outcome for one in outcomes} != {Outcome.CREATED} or len(repo.pulls) != workloads:
                raise RuntimeError(f"{len(repo.pulls)} pull requests of {workloads} were opened")
            pushes = sum(r.path.endswith("git-receive-pack") and r.method == "POST" for r in hub.requests)
            calls = len(hub.requests)
            # What is known of our own writes is confirmed by one more listing; then there is nothing new.
            forge.refresh()
            hub.requests.clear()
            begin = time.perf_counter()
            outcomes = turn(forge, wanted)
            again = time.perf_counter() - begin
            requests = len(hub.requests)
            if {one.outcome for one in outcomes} != {Outcome.UNCHANGED}:
                raise RuntimeError(f"nothing was new, and yet: { {str(one.outcome) for one in outcomes} }")
        bare = bare_git(folder, remote, token, [w.plan for w in wanted])
    say(
        f"github          {workloads} workloads proposed in {first:.1f} s (at most {FIRST_AT_MOST_S:.0f}): {pushes} push, {calls} requests; "
        f"bare git commands for the same pushes {bare:.1f} s: {first / bare:.2f}x"
    )
    say(
        f"github, again   {again:.2f} s (at most {AGAIN_AT_MOST_S:.0f}), {requests} requests (at most {AGAIN_REQUESTS})"
    )
    return {
        "github first s": first, "github again s": again, "github again requests": float(requests),
        "github pushes": float(pushes),
    }  # fmt: skip


def turn(forge: GitHubForge, wanted: list[Proposed]) -> list[Proposal]:
    """One turn of the controller's proposing."""
    forge.refresh()
    base = forge.base_tip()
    files = forge.repo.files(base)
    words, clock, identity = wording(), SystemClock(), identity_of(SETTINGS)
    push_ahead(forge, wanted, files, base, identity=identity, wording=words, clock=clock)
    return [propose(forge, one, files, base, identity=identity, wording=words, clock=clock) for one in wanted]


@contextmanager
def opened(remote: str, token: str) -> Iterator[GitHubForge]:
    """The forge, without pauses between writes."""
    clock, credentials, address = SystemClock(), TokenCredentials(token), address_of(remote)
    clone = Clone(remote, own_refspecs("main"), token=credentials.token)
    try:
        yield GitHubForge(
            Api(address.api, credentials, clock, pace_s=0.0), address.name, clone, base_branch="main",
            author=identity_of(SETTINGS), settings=SETTINGS.forge, clock=clock,
        )  # fmt: skip
    finally:
        clone.close()


def proposed(number: int) -> Proposed:
    """A plan for one of the workloads."""
    ref = WorkloadRef(namespace=f"team-{number // 50}", kind="Deployment", name=f"trainer-{number}")
    plan = make.plan(
        workload=ref,
        overlay=f"overlays/{ref.name}",
        target=PatchTarget(api_version="apps/v1", kind="Deployment", name=ref.name),
    )
    return Proposed(plan=plan, passport=make.passport(), tier="safe", verdicts=(), draft=False, settings=SETTINGS)


def seed(path: Path, workloads: int) -> Path:
    """The GitOps repository: an overlay a workload."""
    from gitops_mk.adapters.git import init_bare

    files: dict[str, bytes | None] = {".modekeeper/config.yaml": b"version: v1\n"}
    for number in range(workloads):
        files[f"overlays/trainer-{number}/kustomization.yaml"] = b"resources:\n  - ../../base\n"
    repo = init_bare(path)
    tree = repo.write_tree(None, files)
    sha = repo.write_commit(tree=tree, parents=[], message="Seed\n", author=make.ALICE, time=1_770_000_000)
    repo.run("update-ref", "refs/heads/main", sha)
    return path


def bare_git(folder: Path, remote: str, token: str, plans: list[Plan]) -> float:
    """Seconds of git's own commands for as many branches of the same content, one push in the end."""
    env = {**os.environ, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader"}
    import base64

    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    env |= {
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
        "GIT_AUTHOR_NAME": "b",
        "GIT_AUTHOR_EMAIL": "b@b.invalid",
    }
    env |= {"GIT_COMMITTER_NAME": "b", "GIT_COMMITTER_EMAIL": "b@b.invalid"}
    clone = folder / "bare.git"

    def git(*args: str, stdin: bytes = b"", more: Mapping[str, str] = {}) -> str:
        done = subprocess.run(
            ["git", *args], cwd=clone if clone.exists() else folder, env={**env, **more}, input=stdin, check=True,
            capture_output=True,
        )  # fmt: skip
        return done.stdout.decode().strip()

    rendered: list[dict[str, Any]] = [
        dict(render(plan, {f"{plan.overlay}/kustomization.yaml": b"resources:\n  - ../../base\n"})) for plan in plans
    ]
    begin = time.perf_counter()
    git("clone", "--quiet", "--bare", "--single-branch", remote, str(clone))
    base = git("rev-parse", "main")
    specs = []
    for number, files in enumerate(rendered):
        index = {"GIT_INDEX_FILE": str(folder / "index")}
        git("read-tree", base, more=index)
        names = []
        for path, data in files.items():
            oid = git("hash-object", "-w", "--stdin", stdin=data or b"")
            names.append(f"100644 {oid}\t{path}")
        git("update-index", "--index-info", stdin="\n".join(names).encode(), more=index)
        commit = git("commit-tree", git("write-tree", more=index), "-p", base, stdin=b"m")
        specs.append(f"{commit}:refs/heads/bare/{number}")
    git("push", "--quiet", remote, *specs)
    return time.perf_counter() - begin
