"""What the simulator remembers. Git holds the commits and the branches; everything else is in these records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.github.gitdir import GitDir

if TYPE_CHECKING:
    from tests.support.github.hub import GitHub

Json = dict[str, Any]

_LEVELS = {"none": 0, "read": 1, "write": 2, "admin": 3}
_ROLES = {"none": 0, "read": 1, "triage": 2, "write": 3, "maintain": 4, "admin": 5}


def iso(at: float) -> str:
    """A time as GitHub writes it."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def allows(permissions: Mapping[str, str], needed: str) -> bool:
    """True when `permissions` cover one `name:level`; metadata is read with any of them."""
    name, _, level = needed.partition(":")
    had = permissions.get(name, "read" if name == "metadata" else "none")
    return _LEVELS[had] >= _LEVELS[level or "read"]


def role_at_least(role: str, needed: str) -> bool:
    """True when a collaborator's role is `needed` or more."""
    return _ROLES[role] >= _ROLES[needed]


@dataclass(eq=False, slots=True)
class Request:
    """One request as it came in, with the status it was answered with (0: the connection was cut)."""

    method: str
    path: str
    query: dict[str, str]
    status: int
    conditional: bool
    actor: str | None
    at: float
    body: Any
    headers: dict[str, str]


@dataclass(eq=False, slots=True)
class Account:
    """A user, a bot or an organisation."""

    id: int
    login: str
    type: str
    created_at: float
    deleted: bool = False


@dataclass(eq=False, slots=True)
class App:
    """A GitHub App with its key and the account it acts as."""

    id: int
    slug: str
    name: str
    private_key: str
    public_key: str
    bot: Account
    owner: Account
    created_at: float
    permissions: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Installation:
    """An App on an account's repositories."""

    id: int
    app: App
    account: Account
    permissions: dict[str, str]
    created_at: float
    repos: list[Repo] = field(default_factory=list)
    suspended_at: float | None = None
    removed: bool = False


@dataclass(eq=False, slots=True)
class Token:
    """What a caller shows. `repos` None: whatever the account may see."""

    value: str
    account: Account
    permissions: dict[str, str]
    installation: Installation | None = None
    repos: list[Repo] | None = None
    expires_at: float | None = None
    revoked: bool = False


@dataclass(eq=False, slots=True)
class Label:
    """A label of a repository."""

    id: int
    name: str
    color: str = "ededed"
    description: str | None = None


@dataclass(eq=False, slots=True)
class Comment:
    """A remark on an issue or a pull request."""

    id: int
    issue: Issue
    user: Account
    body: str
    created_at: float
    updated_at: float
    app: App | None = None
    reactions: list[Reaction] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Reaction:
    """One emoji of one account."""

    id: int
    user: Account
    content: str
    created_at: float


@dataclass(eq=False, slots=True)
class Review:
    """A review of a pull request at a commit."""

    id: int
    user: Account
    state: str
    body: str
    commit_id: str
    submitted_at: float


@dataclass(eq=False, slots=True)
class Issue:
    """An issue; a pull request is one too, and has `pull`."""

    id: int
    repo: Repo
    number: int
    title: str
    body: str | None
    user: Account
    created_at: float
    updated_at: float
    state: str = "open"
    state_reason: str | None = None
    closed_at: float | None = None
    closed_by: Account | None = None
    locked: bool = False
    labels: list[Label] = field(default_factory=list)
    assignees: list[Account] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    pull: Pull | None = None
    app: App | None = None


@dataclass(eq=False, slots=True)
class Pull:
    """A pull request. `head_sha` follows the branch while it is open, and stays as it was from then on."""

    id: int
    issue: Issue
    head_repo: Repo | None
    head_ref: str
    head_sha: str
    base_ref: str
    base_sha: str
    draft: bool = False
    last_pusher: Account | None = None
    reviews: list[Review] = field(default_factory=list)
    requested: list[Account] = field(default_factory=list)
    merged_at: float | None = None
    merged_by: Account | None = None
    merge_commit_sha: str | None = None
    auto_merge: Json | None = None
    queued: bool = False
    maintainer_can_modify: bool = False
    looked_at: tuple[str, str] | None = None
    """The head and base that mergeability was asked for, where it is worked out lazily."""
    head_owner_was: str = ""
    final: Json | None = None
    """How many commits and lines it had when it was closed."""

    @property
    def repo(self) -> Repo:
        return self.issue.repo

    @property
    def number(self) -> int:
        return self.issue.number

    @property
    def state(self) -> str:
        return self.issue.state

    @property
    def merged(self) -> bool:
        return self.merged_at is not None

    @property
    def head_owner(self) -> str:
        """Who owns the repository that the head is in, or was when it still existed."""
        return self.head_repo.owner.login if self.head_repo is not None else self.head_owner_was


@dataclass(eq=False, slots=True)
class CheckSuite:
    """All the runs of one App on one commit."""

    id: int
    app: App
    head_sha: str
    created_at: float
    updated_at: float


@dataclass(eq=False, slots=True)
class CheckRun:
    """One check of one App on one commit."""

    id: int
    app: App
    suite: CheckSuite
    name: str
    head_sha: str
    status: str
    conclusion: str | None
    started_at: float | None
    completed_at: float | None
    external_id: str = ""
    details_url: str | None = None
    title: str | None = None
    summary: str | None = None
    text: str | None = None
    annotations: list[Json] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Status:
    """A commit status, the older kind of check."""

    id: int
    sha: str
    context: str
    state: str
    description: str | None
    target_url: str | None
    creator: Account
    created_at: float


@dataclass(eq=False, slots=True)
class Protection:
    """Classic branch protection. A required check is a name and the App that must give it (None: any)."""

    pattern: str
    required_checks: list[tuple[str, int | None]] | None = None
    strict: bool = True
    approvals: int | None = None
    dismiss_stale: bool = False
    code_owners: bool = False
    last_push: bool = False
    enforce_admins: bool = True
    linear: bool = False
    conversations: bool = False
    lock: bool = False
    allow_force_pushes: bool = False
    allow_deletions: bool = False
    restrictions: list[str] | None = None
    """Who may push at all: logins, and slugs of Apps."""
    bypass_reviews: list[str] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Ruleset:
    """A ruleset with the rules as GitHub's API writes them."""

    id: int
    name: str
    rules: list[Json]
    branches: list[str]
    bypass: list[Json]
    enforcement: str
    created_at: float
    updated_at: float
    exclude: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Repo:
    """A repository: a bare one on disk, and what GitHub knows besides."""

    hub: GitHub
    id: int
    owner: Account
    name: str
    git_dir: Path
    created_at: float
    default_branch: str = "main"
    private: bool = True
    archived: bool = False
    parent: Repo | None = None
    allow: dict[str, bool] = field(default_factory=lambda: {"merge": True, "squash": True, "rebase": True})
    delete_branch_on_merge: bool = False
    allow_auto_merge: bool = False
    queue: bool = False
    """A merge queue on the default branch, by a rule of its own."""
    collaborators: dict[int, str] = field(default_factory=dict)
    issues: dict[int, Issue] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    suites: list[CheckSuite] = field(default_factory=list)
    runs: dict[int, CheckRun] = field(default_factory=dict)
    runs_of: dict[str, list[CheckRun]] = field(default_factory=dict)
    statuses: dict[str, list[Status]] = field(default_factory=dict)
    protections: dict[str, Protection] = field(default_factory=dict)
    rulesets: dict[int, Ruleset] = field(default_factory=dict)
    comments: dict[int, Comment] = field(default_factory=dict)
    pushed_at: float = 0.0
    deleted: bool = False

    def __post_init__(self) -> None:
        self.git = GitDir(self.git_dir)

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"

    @property
    def url(self) -> str:
        """Where git clones it from."""
        return f"{self.hub.url}/{self.full_name}.git"

    @property
    def api(self) -> str:
        return f"{self.hub.api}/repos/{self.full_name}"

    @property
    def html(self) -> str:
        return f"{self.hub.url}/{self.full_name}"

    @property
    def pulls(self) -> list[Pull]:
        """By number."""
        return [issue.pull for issue in self.issues.values() if issue.pull is not None]

    def pull(self, number: int) -> Pull:
        found = self.issues[number].pull
        assert found is not None, f"#{number} is no pull request"
        return found

    def tip(self, branch: str = "") -> str | None:
        """The commit of a branch, None when there is none."""
        return self.git.ref(f"refs/heads/{branch or self.default_branch}")

    def role(self, account: Account) -> str:
        """What a collaborator may do here; `none` for everyone else."""
        if account is self.owner:
            return "admin"
        return self.collaborators.get(account.id, "none")

    # -- settings ----------------------------------------------------------------------------------------------------

    def protect(
        self,
        branch: str = "main",
        *,
        required_checks: Sequence[tuple[str, int | None]] | None = None,
        strict: bool = True,
        approvals: int | None = None,
        dismiss_stale: bool = False,
        code_owners: bool = False,
        last_push: bool = False,
        enforce_admins: bool = True,
        linear: bool = False,
        conversations: bool = False,
        lock: bool = False,
        allow_force_pushes: bool = False,
        allow_deletions: bool = False,
        restrictions: Iterable[str] | None = None,
        bypass_reviews: Iterable[str] = (),
    ) -> Protection:
        """Classic protection of the branches that the pattern means; `approvals` None asks for no pull request."""
        made = Protection(
            branch,
            list(required_checks) if required_checks is not None else None,
            strict,
            approvals,
            dismiss_stale,
            code_owners,
            last_push,
            enforce_admins,
            linear,
            conversations,
            lock,
            allow_force_pushes,
            allow_deletions,
            list(restrictions) if restrictions is not None else None,
            list(bypass_reviews),
        )
        with self.hub.lock:
            self.protections[branch] = made
        return made

    def unprotect(self, branch: str = "main") -> None:
        """Take classic protection away."""
        with self.hub.lock:
            self.protections.pop(branch, None)

    def ruleset(
        self,
        name: str,
        *,
        rules: Sequence[Json],
        branches: Sequence[str] = ("main",),
        bypass: Sequence[Json] = (),
        enforcement: str = "active",
        exclude: Sequence[str] = (),
    ) -> Ruleset:
        """A ruleset; one of the same name is replaced. Branches may be patterns, `~DEFAULT_BRANCH` or `~ALL`."""
        with self.hub.lock:
            for had in [one.id for one in self.rulesets.values() if one.name == name]:
                del self.rulesets[had]
            now = self.hub.now()
            made = Ruleset(
                self.hub.next_id(),
                name,
                [dict(rule) for rule in rules],
                list(branches),
                [dict(one) for one in bypass],
                enforcement,
                now,
                now,
                list(exclude),
            )
            self.rulesets[made.id] = made
            return made

    def drop_ruleset(self, name: str) -> None:
        """Take a ruleset away."""
        with self.hub.lock:
            self.rulesets = {key: one for key, one in self.rulesets.items() if one.name != name}

    def auto_merge(self, pull: Pull, by: Account | None = None, method: str = "merge") -> None:
        """Turn on auto-merge, as a person does on the page."""
        with self.hub.lock:
            pull.auto_merge = {"by": by or pull.issue.user, "method": method}
            self.hub.settle(pull)
