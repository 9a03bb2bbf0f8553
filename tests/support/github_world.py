"""The same small world on GitHub: the embedded GitOps repository on the simulator, and the real adapter to act on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gitops_mk.adapters.clone import Clone, own_refspecs
from gitops_mk.adapters.git import HTTP_VARIABLE
from gitops_mk.adapters.github.api import Api, minter
from gitops_mk.adapters.github.auth import AppCredentials, Credentials, TokenCredentials, address_of
from gitops_mk.adapters.github.forge import GitHubForge
from gitops_mk.adapters.github.talk import GitHubBoard, GitHubInbox
from gitops_mk.controller.tools import Workplace
from gitops_mk.model.change import Person
from gitops_mk.model.settings import ForgeSettings
from gitops_mk.ports import Forge, KillSwitch
from tests.support.github import GitHub
from tests.support.github.records import Account, App, Pull, Repo
from tests.support.make import IDENTITY
from tests.support.world import CONFIG, World

NAME = "team/gitops"
RIGHTS: Mapping[str, str] = {
    "contents": "write", "pull_requests": "write", "checks": "write", "issues": "write", "metadata": "read",
    "statuses": "read", "administration": "read",
}  # fmt: skip
TOKEN_RIGHTS: Mapping[str, str] = {
    "contents": "write", "pull_requests": "write", "statuses": "write", "issues": "write", "metadata": "read",
    "administration": "read", "checks": "read",
}  # fmt: skip


@dataclass
class HubWorld(World):
    """A world whose forge is GitHub. `as_app`: we are an App there; else a token of an account of our own."""

    hub: GitHub = None  # type: ignore[assignment]
    repo: Repo = None  # type: ignore[assignment]
    app: App = None  # type: ignore[assignment]
    alice: Account = None  # type: ignore[assignment]
    bob: Account = None  # type: ignore[assignment]
    bot: Account = None  # type: ignore[assignment]
    as_app: bool = True
    forge_settings: ForgeSettings = field(default_factory=lambda: ForgeSettings(kind="github"))
    clones: list[Clone] = field(default_factory=list)

    def credentials(self) -> Credentials:
        """Who we are: made anew for each process."""
        if self.as_app:
            address = address_of(self.remote)
            return AppCredentials(
                str(self.app.id), self.app.private_key, address, mint=minter(address.api), now=self.clock.now
            )
        return TokenCredentials(self.hub.token(self.bot, TOKEN_RIGHTS))

    def forge(self, identity: Person = IDENTITY) -> GitHubForge:  # type: ignore[override]
        """A forge with a private clone of its own, as another process has it."""
        credentials, address = self.credentials(), address_of(self.remote)
        clone = Clone(self.remote, own_refspecs("main"), token=credentials.token)
        self.clones.append(clone)
        forge = GitHubForge(
            Api(address.api, credentials, self.clock, pace_s=0.0), address.name, clone, base_branch="main",
            author=identity, settings=self.forge_settings, clock=self.clock,
        )  # fmt: skip
        forge.refresh()
        return forge

    def place(self, forge: Forge | None = None, kill: KillSwitch | None = None) -> Workplace:
        forge = forge or self.forge()
        inner: Any = forge
        place = super().place(forge, kill)
        return replace(place, inbox=GitHubInbox(inner), board=GitHubBoard(inner))

    def close(self) -> None:
        for clone in self.clones:
            clone.close()

    def pull(self, number: int = 1) -> Pull:
        """The simulator's own record."""
        return next(pull for pull in self.repo.pulls if pull.number == number)

    def approve(self, forge: Any, number: int = 1, by: Any = None, verdict: Any = "approved", **over: Any) -> None:
        """A review given on GitHub."""
        self.hub.review(self.pull(number), by or self.alice, str(verdict).upper(), **over)

    def configure(self, old: bytes, new: bytes) -> None:
        """Edit the configuration on the base branch."""
        text = self.file(CONFIG)
        assert old in text, text
        self.commit({CONFIG: text.replace(old, new)})


@contextmanager
def hub_world(
    folder: Path, source: Path, monkeypatch: Any, *, as_app: bool = True, validate: bool = True, **over: Any
) -> Iterator[HubWorld]:
    """A GitHub with one repository, two people who may write to it, and us."""
    monkeypatch.setenv(HTTP_VARIABLE, "1")
    for name in ("MODEKEEPER_GIT_TOKEN", "MODEKEEPER_GITHUB_TOKEN", "MODEKEEPER_GITHUB_APP_ID"):
        monkeypatch.delenv(name, raising=False)
    world = HubWorld(folder, as_app=as_app, **over)
    # PyGithub signs with the machine's clock; the world has one of its own.
    monkeypatch.setattr("github.Auth.time", SimpleNamespace(time=lambda: world.clock.now().timestamp()))
    # People's tokens and GitHub's own answers carry the world's clock.
    with GitHub(folder, validate=validate, clock=lambda: world.clock.now().timestamp()) as hub:
        world.hub = hub
        world.repo = hub.repo(NAME, source)
        world.path = world.repo.git_dir
        world.remote = f"{hub.url}/{NAME}.git"
        world.alice, world.bob, world.bot = hub.user("alice"), hub.user("bob"), hub.user("mk-bot")
        for who in (world.alice, world.bob, world.bot):
            hub.collaborate(world.repo, who, "write")
        world.app = hub.app("modekeeper")
        hub.install(world.app, world.repo, permissions=RIGHTS)
        world.configure(b"kind: local", b"kind: github")
        try:
            yield world
        finally:
            world.close()
