"""The forges that one suite holds to the same promises: the local one, GitHub's simulator, and github.com where it is configured.

A peer gives forges as separate processes have them, and does what other people do to the repository meanwhile.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pytest

from gitops_mk.adapters.clock import SystemClock
from gitops_mk.adapters.clone import Clone, own_refspecs
from gitops_mk.adapters.github.api import Api, minter
from gitops_mk.adapters.github.auth import address_of, find_credentials
from gitops_mk.adapters.github.forge import GitHubForge
from gitops_mk.core import gate
from gitops_mk.core.render.describe import trailers
from gitops_mk.errors import ConfigError, ForgeError
from gitops_mk.model.change import TRAILER_WORKLOAD, VERIFY_CHECK, Check, PrState, PullRequest
from gitops_mk.model.gate import KillReading, VerifyOutcome
from gitops_mk.model.git import CommitInfo
from gitops_mk.model.permit import Permit
from gitops_mk.model.plan import Plan
from gitops_mk.model.settings import ForgeSettings
from gitops_mk.model.standing import Standing
from gitops_mk.model.times import format_time
from gitops_mk.model.verdict import Verdict
from gitops_mk.ports import Clock, Forge
from tests.support.github_world import HubWorld, hub_world
from tests.support.make import ALICE, IDENTITY, NOW, REF, plan, pull_request
from tests.support.world import LICENSED, World, copy_of

LIVE = "MODEKEEPER_LIVE_REPOSITORY"
"""Set to the address of a scratch repository on GitHub, with credentials as `mk` takes them: the suite runs against it, too."""
KINDS = ("local", "app", "token", *(("live",) if os.environ.get(LIVE) else ()))


class Peer(Protocol):
    """One repository on one forge."""

    kind: str
    base: str
    settings: ForgeSettings

    @property
    def clock(self) -> Clock:
        """What time it is there."""
        ...

    def forge(self) -> Forge:
        """A forge with a clone of its own, refreshed."""
        ...

    def tips(self) -> Mapping[str, str]:
        """The branches of the server."""
        ...

    def commit(self, files: Mapping[str, bytes | None], branch: str) -> str:
        """A commit that somebody pushes."""
        ...

    def pass_time(self, seconds: float) -> None:
        """Let it be later."""
        ...

    def close(self, pr: PullRequest) -> None:
        """A person closes it."""
        ...

    def label(self, pr: PullRequest, *names: str) -> None:
        """A person puts labels on."""
        ...

    def edit(self, pr: PullRequest, **fields: Any) -> None:
        """A person edits title or base."""
        ...


@dataclass
class LocalPeer:
    """Pull requests as refs in a bare repository."""

    world: World
    kind: str = "local"
    base: str = "main"
    settings: ForgeSettings = field(default_factory=ForgeSettings)

    @property
    def clock(self) -> Clock:
        return self.world.clock

    def forge(self) -> Forge:
        made = self.world.forge()
        made.refresh()
        return made

    def tips(self) -> Mapping[str, str]:
        found = self.world.server.refs("refs/heads/")
        return {name.removeprefix("refs/heads/"): sha for name, sha in found.items()}

    def commit(self, files: Mapping[str, bytes | None], branch: str) -> str:
        return self.world.commit(dict(files), branch=branch)

    def pass_time(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    def _update(self, pr: PullRequest, **fields: Any) -> None:
        forge = self.world.forge()
        now = forge.get_pr(pr.number)
        assert now is not None
        forge.update_pr(now, now.model_copy(update=fields))

    def close(self, pr: PullRequest) -> None:
        self._update(pr, state=PrState.CLOSED, closed_by=ALICE)

    def label(self, pr: PullRequest, *names: str) -> None:
        self._update(pr, labels=(*pr.labels, *names))

    def edit(self, pr: PullRequest, **fields: Any) -> None:
        self._update(pr, **fields)


class HubPeer(LocalPeer):
    """GitHub's simulator; what people do there, they do on the site."""

    world: HubWorld

    def forge(self) -> Forge:
        self.world.forge_settings = self.settings
        return self.world.forge()

    def commit(self, files: Mapping[str, bytes | None], branch: str) -> str:
        return self.world.hub.commit(self.world.repo, branch, files, by=self.world.alice)

    def close(self, pr: PullRequest) -> None:
        self.world.hub.close(self.world.pull(pr.number), self.world.alice)

    def label(self, pr: PullRequest, *names: str) -> None:
        self.world.hub.label(self.world.pull(pr.number), *names)

    def edit(self, pr: PullRequest, **fields: Any) -> None:
        pull = self.world.pull(pr.number)
        pull.issue.title = fields.get("title", pull.issue.title)
        pull.base_ref = fields.get("base", pull.base_ref)
        pull.issue.updated_at = self.world.hub.now()


@dataclass
class LivePeer:
    """A scratch repository on GitHub itself, on a base branch made for one test."""

    remote: str
    kind: str = "live"
    base: str = ""
    settings: ForgeSettings = field(default_factory=lambda: ForgeSettings(kind="github"))
    clock: Clock = field(default_factory=SystemClock)
    clones: list[Clone] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.address = address_of(self.remote)
        credentials = find_credentials(self.address, mint=minter(self.address.api), now=self.clock.now)
        if credentials is None:
            raise ConfigError(f"{LIVE} is set, and no credentials for it are")
        self.credentials = credentials
        self.api = Api(self.address.api, credentials, self.clock)
        self.path = f"/repos/{self.address.name}"
        self.base = f"live-{uuid.uuid4().hex[:12]}"

    def begin(self) -> None:
        default = self.api.get(self.path)["default_branch"]
        tip = self.api.get(f"{self.path}/git/ref/heads/{default}")["object"]["sha"]
        self.api.send("POST", f"{self.path}/git/refs", {"ref": f"refs/heads/{self.base}", "sha": tip})

    def end(self) -> None:
        for clone in self.clones:
            clone.close()
        for pull in self.api.pages(f"{self.path}/pulls", {"state": "open", "base": self.base}):
            self.api.send("PATCH", f"{self.path}/pulls/{pull['number']}", {"state": "closed"})
        for branch in self.tips():
            if self.base in branch:
                with suppress(ForgeError):
                    self.api.send("DELETE", f"{self.path}/git/refs/heads/{quote(branch)}")

    def forge(self) -> Forge:
        clone = Clone(self.remote, own_refspecs(self.base), token=self.credentials.token)
        self.clones.append(clone)
        api = Api(self.address.api, self.credentials, self.clock)
        made = GitHubForge(
            api, self.address.name, clone, base_branch=self.base, author=IDENTITY, settings=self.settings,
            clock=self.clock,
        )  # fmt: skip
        made.refresh()
        return made

    def tips(self) -> Mapping[str, str]:
        found = self.api.pages(f"{self.path}/git/matching-refs/heads/")
        return {one["ref"].removeprefix("refs/heads/"): one["object"]["sha"] for one in found}

    def commit(self, files: Mapping[str, bytes | None], branch: str) -> str:
        forge = self.forge()
        old = forge.branch_tip(branch)
        assert old is not None
        tree = forge.repo.write_tree(old, files)
        sha = forge.repo.write_commit(tree=tree, parents=[old], message="Edit\n", author=ALICE, time=1_767_225_800)
        forge.push_branch(branch, old=old, new=sha)
        return sha

    def pass_time(self, seconds: float) -> None:
        pytest.skip("NOT TESTED live: time can't be passed there")

    def close(self, pr: PullRequest) -> None:
        self.api.send("PATCH", f"{self.path}/pulls/{pr.number}", {"state": "closed"})

    def label(self, pr: PullRequest, *names: str) -> None:
        self.api.send("POST", f"{self.path}/issues/{pr.number}/labels", {"labels": list(names)})

    def edit(self, pr: PullRequest, **fields: Any) -> None:
        self.api.send("PATCH", f"{self.path}/pulls/{pr.number}", fields)


@contextmanager
def open_peer(kind: str, embedded: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    """A peer of that kind, with a repository of its own."""
    if kind == "local":
        world = World(copy_of(embedded, folder / "gitops.git"))
        try:
            yield LocalPeer(world)
        finally:
            world.close()
        return
    if kind == "live":
        live = LivePeer(os.environ[LIVE])
        live.begin()
        try:
            yield live
        finally:
            live.end()
        return
    with hub_world(folder, embedded, monkeypatch, as_app=kind == "app") as hub:
        yield HubPeer(hub, kind=kind, settings=ForgeSettings(kind="github"))


# -- what every test needs -----------------------------------------------------------------------------------------------


def plan_of(peer: Peer, name: str = "trainer") -> Plan:
    """A plan whose workload's branch is this test's own."""
    suffix = f"-{peer.base}" if peer.kind == "live" else ""
    return plan(workload=REF.model_copy(update={"name": f"{name}{suffix}"}))


def push(peer: Peer, forge: Forge, chosen: Plan, text: bytes = b"new") -> str:
    """One commit of ours on the plan's branch, from today's base."""
    base, branch = forge.base_tip(), chosen.workload.branch
    tree = forge.repo.write_tree(base, {f"modekeeper-{chosen.workload.name}.txt": text})
    message = f"Change\n\n{trailers(chosen)}\n"
    sha = forge.repo.write_commit(tree=tree, parents=[base], message=message, author=IDENTITY, time=1_767_225_700)
    forge.push_branch(branch, old=forge.branch_tip(branch), new=sha)
    return sha


def record(peer: Peer, forge: Forge, chosen: Plan, **over: Any) -> PullRequest:
    """The pull request that such a plan asks for."""
    fields = {
        "base": peer.base, "branch": chosen.workload.branch, "workload": chosen.workload.key, "body": "Bödy\n",
        "plan_digest": chosen.digest, "author": forge.identity, "head_sha": None, "title": f"Change {peer.base}",
        "labels": ("modekeeper",), **over,
    }  # fmt: skip
    return pull_request(**fields)


def opened(peer: Peer, forge: Forge, name: str = "trainer", **over: Any) -> PullRequest:
    """An open pull request of ours."""
    chosen = plan_of(peer, name)
    push(peer, forge, chosen)
    return forge.create_pr(record(peer, forge, chosen, **over))


def check_of(pr: PullRequest, base: str, tree: str | None = None, **over: Any) -> Check:
    """A check on its head."""
    fields: dict[str, Any] = {
        "name": VERIFY_CHECK, "commit": pr.head_sha, "base": base, "plan_digest": pr.plan_digest,
        "conclusion": "success", "summary": "ok", "tree": tree, "at": format_time(NOW),
    }  # fmt: skip
    return Check(**{**fields, **over})


def permit_of(peer: Peer, forge: Forge, pr: PullRequest) -> Permit:
    """A real permit, from the real gate: the only place there is to get one."""
    base, head = forge.base_tip(), pr.head_sha or ""
    tree = forge.repo.merge_tree(base, head) or ""
    outcome = VerifyOutcome(
        ok=True, base=base, head=head, tree=tree, plan_digest=pr.plan_digest, workload=pr.workload,
        steps=(Verdict.allow("step"),),
    )  # fmt: skip
    ours = CommitInfo(
        sha=head, tree=tree, parents=(), author=IDENTITY, committer=IDENTITY, time=0,
        message=f"{TRAILER_WORKLOAD}: {pr.workload}",
    )  # fmt: skip
    facts = gate.GateFacts(
        kill=(KillReading(source="test", configured=True, active=False, detail="clear"),), license=LICENSED,
        pr=pr.model_copy(update={"checks": (check_of(pr, base, tree),)}), plan_digest=None, base_branch=peer.base,
        base_tip=base, verified=outcome, reported_ok=None, approvals_needed=0, identity=forge.identity, author=IDENTITY,
        kind="Deployment", standing=Standing(same_repository=True, mergeable=True), commits=(ours,),
        calendar=Verdict.allow("calendar"), now=NOW,
    )  # fmt: skip
    decision = gate.decide(facts, monotonic=peer.clock.monotonic())
    assert decision.permit is not None, decision.first
    return decision.permit
