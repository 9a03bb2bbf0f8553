"""The simulator as tests use it: people, repositories and what happens to them, and the server in front."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.github import apps, checks, gitdata, graphql, issues, merging, pulls, repos, reviews, rules
from tests.support.github.auth import key_pair
from tests.support.github.faults import Faults
from tests.support.github.gitdir import run_git
from tests.support.github.openapi import Description
from tests.support.github.records import (
    Account,
    App,
    CheckRun,
    Comment,
    Installation,
    Issue,
    Pull,
    Repo,
    Request,
    Review,
    Status,
    Token,
)
from tests.support.github.server import Server
from tests.support.github.web import Actor, Answer

# Modules that only register endpoints.
_ENDPOINTS = (apps, gitdata, graphql, repos)


class GitHub:
    """A GitHub on loopback. Leaving it as a context manager fails where GitHub's own API description was violated."""

    def __init__(self, folder: Path, validate: bool = True, clock: Callable[[], float] | None = None) -> None:
        self.folder = folder / "github"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.now: Callable[[], float] = clock or time.time
        self.lock = threading.RLock()
        self.faults = Faults()
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.description = Description.load() if validate else None
        self.lazy_mergeable = False
        self.accounts: dict[int, Account] = {}
        self.by_login: dict[str, Account] = {}
        self.apps: dict[int, App] = {}
        self.installations: dict[int, Installation] = {}
        self.tokens: dict[str, Token] = {}
        self.repos: dict[int, Repo] = {}
        self.names: dict[str, int] = {}
        self.old_names: dict[str, int] = {}
        self.stale_reads = 0
        self.stale_mark = 0
        self.listings: dict[tuple[str | None, str], Answer] = {}
        self.heads: dict[tuple[int, str], list[Pull]] = {}
        self._open: dict[int, Pull] = {}
        self._ids = 1000
        self._limit = (15_000, 3600.0)
        self.limit_resets_at = self.now() + 3600
        self.used: dict[str, int] = {}
        self._server = Server(self)
        self.url = self._server.url
        self.api = f"{self.url}/api/v3"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None and self.violations:
            raise AssertionError("the GitHub simulator objects:\n" + "\n".join(self.violations))

    def stop(self) -> None:
        """Stop serving."""
        self.faults.stopping.set()
        self._server.close()
        for repo in self.repos.values():
            repo.git.close()

    def next_id(self) -> int:
        """A number that no other record has."""
        with self.lock:
            self._ids += 1
            return self._ids

    @property
    def limit(self) -> tuple[int, float]:
        """The primary rate limit of each caller: how many requests, and in how many seconds from now it starts anew."""
        return self._limit

    @limit.setter
    def limit(self, limit: tuple[int, float]) -> None:
        with self.lock:
            self._limit = limit
            self.limit_resets_at = self.now() + limit[1]
            self.used.clear()

    @property
    def eventual(self) -> int:
        """How many more listings are answered as things stood when this was set."""
        return self.stale_reads

    @eventual.setter
    def eventual(self, reads: int) -> None:
        with self.lock:
            self.stale_reads, self.stale_mark = reads, self._ids

    # -- an index of what is open, kept by `pulls` ---------------------------------------------------------------------

    def settle(self, pull: Pull) -> None:
        """See whether auto-merge has what it waits for."""
        merging.settle(pull)

    def open_pulls(self, repo: Repo | None = None) -> list[Pull]:
        """Open pull requests, to one repository or to any, oldest first."""
        return [pull for pull in self._open.values() if repo is None or pull.repo is repo]

    def opened(self, pull: Pull) -> None:
        """Note an open one."""
        self._open[pull.id] = pull
        self._at_head(pull)

    def closed(self, pull: Pull) -> None:
        """Forget one that is open no longer."""
        self._open.pop(pull.id, None)

    def head_moves(self, pull: Pull, sha: str) -> None:
        """Give it another head."""
        before = self.heads.get((pull.repo.id, pull.head_sha), [])
        if pull in before:
            before.remove(pull)
        pull.head_sha = sha
        self._at_head(pull)

    def _at_head(self, pull: Pull) -> None:
        there = self.heads.setdefault((pull.repo.id, pull.head_sha), [])
        if pull not in there:
            there.append(pull)

    # -- people, Apps and tokens -------------------------------------------------------------------------------------

    def user(self, login: str, kind: str | None = None) -> Account:
        """The account of that login, made where there is none."""
        with self.lock:
            found = self.by_login.get(login.casefold())
            if found is None:
                kind = kind or ("Bot" if login.endswith("[bot]") else "User")
                found = Account(self.next_id(), login, kind, self.now())
                self.accounts[found.id] = self.by_login[login.casefold()] = found
            return found

    def rename_user(self, account: Account, login: str) -> None:
        """Another login for the same account."""
        with self.lock:
            self.by_login.pop(account.login.casefold(), None)
            for repo in [repo for repo in self.repos.values() if repo.owner is account]:
                self._move(repo, f"{login}/{repo.name}")
            account.login = login
            self.by_login[login.casefold()] = account

    def delete_user(self, account: Account) -> None:
        """Their reviews and comments stay, and have no user."""
        with self.lock:
            account.deleted = True
            self.by_login.pop(account.login.casefold(), None)
            for repo in self.repos.values():
                repo.collaborators.pop(account.id, None)

    def app(self, slug: str, owner: str = "acme", permissions: Mapping[str, str] | None = None) -> App:
        """A GitHub App."""
        with self.lock:
            private, public = key_pair(len(self.apps))
            made = App(
                self.next_id(),
                slug,
                slug,
                private,
                public,
                self.user(f"{slug}[bot]"),
                self.user(owner, "Organization"),
                self.now(),
                dict(permissions or {}),
            )
            self.apps[made.id] = made
            return made

    def rotate_key(self, app: App) -> str:
        """A new key; the old one is refused from now on."""
        with self.lock:
            app.private_key, app.public_key = key_pair(len(self.apps) + 100)
            return app.private_key

    def install(self, app: App, repo: Repo, permissions: Mapping[str, str] | None = None) -> int:
        """Install an App on a repository (again: also on this one); gives the installation's id."""
        with self.lock:
            for had in self.installations.values():
                if had.app is app and had.account is repo.owner and not had.removed:
                    made = had
                    break
            else:
                made = Installation(self.next_id(), app, repo.owner, {"metadata": "read"}, self.now())
                self.installations[made.id] = made
            if repo not in made.repos:
                made.repos.append(repo)
            made.permissions |= dict(permissions or {})
            app.permissions |= made.permissions
            return made.id

    def suspend(self, installation: int, suspended: bool = True) -> None:
        """Suspend an installation, or let it be again."""
        with self.lock:
            self.installations[installation].suspended_at = self.now() if suspended else None

    def uninstall(self, installation: int) -> None:
        """Take an installation away; its tokens go too."""
        with self.lock:
            self.installations[installation].removed = True

    def token(
        self,
        who: Account | int,
        permissions: Mapping[str, str] | None = None,
        repos: Iterable[Repo] | None = None,
        lasts: float | None = None,
    ) -> str:
        """A token of a person, or of an installation (by its id) as the App itself would mint one."""
        with self.lock:
            if isinstance(who, int):
                return apps.mint(
                    self, self.installations[who], permissions, list(repos) if repos is not None else None
                ).value
            made = Token(
                f"github_pat_{self.next_id():010d}{re.sub(r'[^A-Za-z0-9]', '', who.login)}",
                who,
                dict(permissions or {}),
                repos=list(repos) if repos is not None else None,
                expires_at=self.now() + lasts if lasts is not None else None,
            )
            self.tokens[made.value] = made
            return made.value

    def expire(self, token: str) -> None:
        """The token is refused from now on."""
        with self.lock:
            self.tokens[token].revoked = True

    # -- repositories ------------------------------------------------------------------------------------------------

    def repo(self, name: str, bare: Path | None = None, *, private: bool = True, default: str = "main") -> Repo:
        """A repository: empty, or a copy of a bare one."""
        owner, _, short = name.partition("/")
        with self.lock:
            assert name.casefold() not in self.names, f"{name} is there already"
            number = self.next_id()
            path = self.folder / f"{number}.git"
            if bare is not None:
                shutil.copytree(bare, path, ignore=shutil.ignore_patterns("hooks"), symlinks=True)
            else:
                run_git("init", "--quiet", "--bare", f"--initial-branch={default}", str(path))
                shutil.rmtree(path / "hooks", ignore_errors=True)
            head = (path / "HEAD").read_text().strip()
            made = Repo(
                self,
                number,
                self.by_login.get(owner.casefold()) or self.user(owner, "Organization"),
                short,
                path,
                self.now(),
                head.removeprefix("ref: refs/heads/") if bare is not None else default,
                private,
            )
            gitdata.install_hook(made)
            self.repos[number] = made
            self.names[name.casefold()] = number
            return made

    def collaborate(self, repo: Repo, account: Account, role: str = "write") -> None:
        """Give someone a role on a repository (`none`: take it)."""
        with self.lock:
            repo.collaborators.pop(account.id, None)
            if role != "none":
                repo.collaborators[account.id] = role

    def rename(self, repo: Repo, name: str) -> None:
        """Rename or move a repository; the old name redirects until someone takes it."""
        with self.lock:
            self._move(repo, name)
            owner, _, short = name.partition("/")
            repo.owner = self.by_login.get(owner.casefold()) or self.user(owner, "Organization")
            repo.name = short

    def transfer(self, repo: Repo, owner: str | Account) -> None:
        """Give a repository to another owner; Apps installed for the old one lose it."""
        login = owner if isinstance(owner, str) else owner.login
        with self.lock:
            self.rename(repo, f"{login}/{repo.name}")
            for installation in self.installations.values():
                if installation.account is not repo.owner and repo in installation.repos:
                    installation.repos.remove(repo)

    def _move(self, repo: Repo, name: str) -> None:
        self.names.pop(repo.full_name.casefold(), None)
        self.old_names[repo.full_name.casefold()] = repo.id
        self.old_names.pop(name.casefold(), None)
        self.names[name.casefold()] = repo.id

    def delete_repo(self, repo: Repo) -> None:
        """Delete a repository; pull requests from it live on without a head repository."""
        with self.lock:
            repo.deleted = True
            self.names.pop(repo.full_name.casefold(), None)
            for other in self.repos.values():
                for pull in other.pulls:
                    if pull.head_repo is repo and other is not repo:
                        pulls.sync(pull)
                        pull.head_repo = None

    def fork(self, repo: Repo, owner: Account | str) -> Repo:
        """A fork of a repository."""
        login = owner if isinstance(owner, str) else owner.login
        with self.lock:
            made = self.repo(f"{login}/{repo.name}", repo.git_dir, private=repo.private)
            made.parent = repo
            if not isinstance(owner, str):
                made.collaborators[owner.id] = "admin"
            return made

    def commit(
        self,
        repo: Repo,
        branch: str,
        files: Mapping[str, str | bytes | None],
        message: str = "Edit",
        by: Account | None = None,
    ) -> str:
        """A commit on a branch (made from the default branch where it isn't there), as a push by hand. Gives its id."""
        with self.lock:
            return gitdata.commit_files(repo, branch, files, message, by or self.user("somebody"))

    def move(self, repo: Repo, branch: str, sha: str | None, by: Account | None = None) -> None:
        """Put a branch anywhere, as a forced push does; None deletes it."""
        with self.lock:
            gitdata.move_branch(repo, branch, sha, by or self.user("somebody"))

    # -- pull requests -----------------------------------------------------------------------------------------------

    def open_pr(
        self,
        repo: Repo,
        head: str,
        base: str | None = None,
        by: Account | None = None,
        title: str = "A change",
        body: str = "",
        draft: bool = False,
    ) -> Pull:
        """Open a pull request from a branch, or from `owner:branch` of a fork."""
        with self.lock:
            return pulls.open_pull(
                repo, by or self.user("somebody"), title, head, base or repo.default_branch, body=body, draft=draft
            )

    def review(
        self, pull: Pull, by: Account, state: str = "APPROVED", commit: str | None = None, body: str = ""
    ) -> Review:
        """Review a pull request, at its head or at another commit."""
        with self.lock:
            return reviews.add_review(pull, by, state, body, commit)

    def dismiss(self, pull: Pull, review: Review | int) -> None:
        """Dismiss a review."""
        with self.lock:
            number = review if isinstance(review, int) else review.id
            next(one for one in pull.reviews if one.id == number).state = "DISMISSED"

    def check_run(
        self,
        repo: Repo,
        sha: str,
        name: str,
        app: App | int | None = None,
        status: str = "completed",
        conclusion: str | None = "success",
        **fields: Any,
    ) -> CheckRun:
        """A check run by an App (by GitHub Actions' own where none is given); fields as in CheckRun."""
        with self.lock:
            by = app if isinstance(app, App) else self.apps[app] if app is not None else self.actions
            return checks.add_run(repo, by, name, sha, status, conclusion if status == "completed" else None, **fields)

    @property
    def actions(self) -> App:
        """The App that every GitHub Actions workflow posts as."""
        with self.lock:
            found = next((one for one in self.apps.values() if one.slug == "github-actions"), None)
            if found is None:
                found = self.app("github-actions", owner="github")
            return found

    def status(self, repo: Repo, sha: str, context: str, state: str = "success", by: Account | None = None) -> Status:
        """A commit status."""
        with self.lock:
            return checks.add_status(repo, sha, context, state, by or self.user("somebody"))

    def comment(self, pull: Pull | Issue, by: Account, text: str) -> Comment:
        """Comment on a pull request or an issue."""
        with self.lock:
            return issues.add_comment(pull.issue if isinstance(pull, Pull) else pull, by, text)

    def label(self, pull: Pull | Issue, *names: str) -> None:
        """Put labels on."""
        with self.lock:
            issue = pull.issue if isinstance(pull, Pull) else pull
            issues.put_labels(issue, [*(one.name for one in issue.labels), *names])

    def unlabel(self, pull: Pull | Issue, name: str) -> None:
        """Take a label off."""
        with self.lock:
            issue = pull.issue if isinstance(pull, Pull) else pull
            issue.labels = [one for one in issue.labels if one.name.casefold() != name.casefold()]

    def issue(self, repo: Repo, by: Account, title: str, body: str = "", labels: Iterable[str] = ()) -> Issue:
        """Open an issue."""
        with self.lock:
            return issues.open_issue(repo, by, title, body, list(labels))

    def close(self, pull: Pull, by: Account) -> None:
        """Close without merging."""
        with self.lock:
            pulls.close(pull, by)

    def reopen(self, pull: Pull, by: Account) -> None:
        """Open a closed pull request again."""
        with self.lock:
            pulls.reopen(pull, by)

    def draft(self, pull: Pull, draft: bool = True) -> None:
        """Make it a draft, or ready."""
        with self.lock:
            pull.draft = draft
            pulls.touch(pull.issue)

    def merge_by_hand(self, pull: Pull, by: Account, method: str = "merge", *, force: bool = False) -> str:
        """Merge as a person does on the page, held to the same rules (`force`: an administrator's override)."""
        with self.lock:
            pulls.sync(pull)
            return merging.merge(pull, Actor(by), method, force=force)

    def objections(self, pull: Pull, by: Account) -> list[str]:
        """What stands between a person and this merge: GitHub's own sentences."""
        with self.lock:
            pulls.sync(pull)
            return [one.text for one in rules.objections(pull, Actor(by))]
