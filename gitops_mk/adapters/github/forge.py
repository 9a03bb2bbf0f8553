"""`ports.Forge` on GitHub. Branches by git, the rest by its API; every write reads back what an answer left open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from gitops_mk.adapters.clone import own_refspecs
from gitops_mk.adapters.github import checks, examine, labels, merging, rules
from gitops_mk.adapters.github.api import Api, Refused, Unanswered
from gitops_mk.adapters.github.listing import Listing
from gitops_mk.adapters.github.pulls import Pulls, labels_of, state_of
from gitops_mk.adapters.github.record import record_of, with_record
from gitops_mk.adapters.github.signing import sign
from gitops_mk.adapters.github.wire import Bag, moment, person, review
from gitops_mk.errors import ConfigError, ConflictError, ForgeError, InputError
from gitops_mk.model.annotation import Annotation
from gitops_mk.model.change import (
    GATE_CHECK,
    LABEL_KILL_SWITCH,
    VERIFY_CHECK,
    AppliedChange,
    Check,
    Comment,
    Person,
    PrState,
    PullRequest,
    Review,
)
from gitops_mk.model.finding import Finding
from gitops_mk.model.gate import KillReading
from gitops_mk.model.permit import Permit
from gitops_mk.model.standing import HeadCheck, Standing
from gitops_mk.model.times import format_time

if TYPE_CHECKING:
    from gitops_mk.adapters.clone import Clone
    from gitops_mk.adapters.git import GitRepo
    from gitops_mk.model.settings import ForgeSettings
    from gitops_mk.ports import Clock

# How often GitHub is asked again while it works out whether a pull request can be merged.
MERGEABLE_TRIES: Final = 5
AUTOCLOSED: Final = " - autoclosed"
WRITERS: Final = frozenset({"admin", "write"})
READY = "mutation($id:ID!){markPullRequestReadyForReview(input:{pullRequestId:$id}){pullRequest{isDraft}}}"
DRAFT = "mutation($id:ID!){convertPullRequestToDraft(input:{pullRequestId:$id}){pullRequest{isDraft}}}"
DECISION = "query($o:String!,$n:String!,$p:Int!){repository(owner:$o,name:$n){pullRequest(number:$p){reviewDecision}}}"


class GitHubForge:
    """One repository on one GitHub. The clone is handed in, and its owner closes it."""

    def __init__(
        self,
        api: Api,
        name: str,
        clone: Clone,
        *,
        base_branch: str,
        author: Person,
        settings: ForgeSettings,
        clock: Clock,
    ) -> None:
        self._api = api
        self._clone = clone
        self._base_branch = base_branch
        self._author = author
        self._settings = settings
        self._clock = clock
        self._repo_id, self._name = self._home(name)
        self._identity = self._who()
        self._path = f"/repos/{self._name}"
        self._listing = Listing(api, self._name, history_days=settings.history_days)
        self._reviews: dict[int, tuple[Review, ...]] = {}
        self._checks: dict[int, tuple[Check, ...]] = {}
        self._fresh: dict[int, Bag] = {}
        self._pulls = Pulls(clone, self._repo_id, self._identity, settings.labels)
        self._listed = False
        clone.refspecs = own_refspecs(base_branch)

    # -- where and who -----------------------------------------------------------------------------------------------

    def _home(self, name: str) -> tuple[int, str]:
        """The repository's number, which no rename changes. Raises ConfigError where the name leads elsewhere by now."""
        found = self._api.find(f"/repos/{name}")
        if found is None:
            raise ConfigError(
                f"GitHub knows no repository {name}, or does not show it to this account",
                hint="check the remote, and what the token or the App may see",
            )
        repo = Bag(found, "repository")
        real = repo.text("full_name")
        if real.lower() != name.lower():
            raise ConfigError(
                f"{name} has become {real}",
                hint=f"set the remote to {real}: an old name may be somebody else's tomorrow",
            )
        return repo.number("id"), real

    def _who(self) -> Person:
        from gitops_mk.adapters.github.auth import AppCredentials

        credentials = self._api.credentials
        if isinstance(credentials, AppCredentials):
            app = Bag(credentials.whoami(), "app")
            return person(self._api.get(f"/users/{quote(app.text('slug') + '[bot]')}"))
        return person(self._api.get("/user"))

    @property
    def identity(self) -> Person:
        """Our account: an App's own, or that of the token's owner."""
        return self._identity

    @property
    def base_branch(self) -> str:
        """The branch that pull requests go to."""
        return self._base_branch

    @property
    def repo(self) -> GitRepo:
        """The objects and refs as of the last refresh."""
        return self._clone.repo

    @property
    def api(self) -> Api:
        """What it is spoken to by."""
        return self._api

    @property
    def clock(self) -> Clock:
        """What time it is."""
        return self._clock

    @property
    def name(self) -> str:
        """`owner/name`."""
        return self._name

    def refresh(self) -> None:
        """One fetch, and one listing, which is conditional. Raises ForgeError."""
        self._clone.refresh()
        self._listing.refresh(self._clock.now())
        self._listed = True

    def _listed_once(self) -> Listing:
        """Commands that look at one pull request need no listing, and pay for none until they ask for it."""
        if not self._listed:
            self._listing.refresh(self._clock.now())
            self._listed = True
        return self._listing

    # -- branches ----------------------------------------------------------------------------------------------------

    def base_tip(self) -> str:
        """The tip of the base branch. Raises ForgeError when it has none."""
        return self._clone.base_tip(self._base_branch)

    def branch_tip(self, branch: str) -> str | None:
        """The tip of a branch, None when it is not there."""
        return self._clone.tip(branch)

    def push_branch(self, branch: str, *, old: str | None, new: str | None) -> None:
        """Move a branch from `old` (None: create) to `new` (None: delete)."""
        self._clone.push({f"refs/heads/{branch}": (old, new)})

    def push_branches(self, moves: Mapping[str, tuple[str | None, str | None]]) -> Mapping[str, ForgeError]:
        """Move many branches by one push, each by its own compare-and-swap; gives why, for those that did not move."""
        return self._clone.push_branches(moves)

    def commit_base(self, *, old: str, files: Mapping[str, bytes | None], message: str) -> str:
        """Put a commit on the base branch (the kill switch's own file, nothing else)."""
        now = int(self._clock.now().timestamp())
        return self._clone.commit_switch(
            self._base_branch, old=old, files=files, message=message, author=self._author, time=now
        )

    def signed(self, commit: str, *, base: str, files: Mapping[str, bytes | None], message: str) -> str:
        """The same change made by GitHub, which signs it (`createCommitOnBranch`), on a branch that lives as long as this takes.

        Raises IntegrityError for one that holds something else than was asked for.
        """
        if not self._settings.signed_commits:
            return commit
        return sign(self._api, self._clone, self._name, commit, base=base, files=files, message=message)

    # -- pull requests: reading --------------------------------------------------------------------------------------

    def list_prs(self, *, open_only: bool = False) -> tuple[PullRequest, ...]:
        """All pull requests from branches of ours, by number."""
        listed = self._listed_once().all()
        found = (self._model(pull) for pull in listed if not open_only or state_of(pull) is PrState.OPEN)
        return tuple(pr for pr in found if pr is not None)

    def get_pr(self, number: int) -> PullRequest | None:
        """One pull request as of the last refresh."""
        pull = self._listing.get(number)
        if pull is None:
            data = self._api.find(f"{self._path}/pulls/{number}")
            if data is None:
                return None
            pull = Bag(data, "pull request")
            self._listing.learn(pull)
        return self._model(pull)

    def live(self, number: int) -> PullRequest | None:
        """One pull request with its reviews and our checks, read past every cache."""
        data = self._api.find(f"{self._path}/pulls/{number}", urgent=True)
        if data is None:
            return None
        pull = Bag(data, "pull request")
        self._listing.learn(pull)
        self._fresh[number] = pull
        head = pull.bag("head").text("sha")
        is_open = state_of(pull) is PrState.OPEN
        self._reviews[number] = self._read_reviews(number, head) if is_open else ()
        self._checks[number] = checks.ours(self._api, self._path, head, self._identity)
        return self._model(pull, head=head if is_open else None)

    def standing(self, pr: PullRequest) -> Standing:
        """How it stands by GitHub's own rules. Reads again until GitHub knows whether it can be merged."""
        pull = self._fresh.pop(pr.number, None) or self._read(pr.number)
        for attempt in range(MERGEABLE_TRIES):
            if pull.has("mergeable"):
                break
            self._clock.sleep(0.5 * (attempt + 1))
            pull = self._read(pr.number)
        found, unread = rules.branch_rules(self._api, self._name, self._base_branch)
        head = pull.bag("head")
        runs: tuple[HeadCheck, ...] = ()
        if found.required_checks:
            # A status is given by no App: it counts where the rules name none.
            anybody = any(check.app is None for check in found.required_checks)
            runs = checks.on_head(self._api, self._path, head.text("sha"), statuses=anybody)
        mergeable = pull.whether("mergeable")
        if pull.maybe("mergeable_state") == "behind" and found.up_to_date:
            unread = unread or f"the branch is behind {self._base_branch}, whose rules want it up to date"
        return Standing(
            bypasses=self.bypasses() if self._settings.strict else (),
            same_repository=self._pulls.is_home(head) and self._pulls.is_home(pull.bag("base")),
            mergeable=mergeable if head.text("sha") == pr.head_sha else None,
            auto_merge=pull.has("auto_merge"),
            rules=found,
            checks=runs,
            owners_approved=self._owners_approved(pr.number) if found.code_owners else None,
            unread=unread,
        )

    def examine(self) -> Iterator[Finding]:
        """What GitHub lets us do, and the rules of the base branch."""
        return examine.examine(self._api, self._name, self._base_branch, self._identity, strict=self._settings.strict)

    def bypasses(self) -> tuple[str, ...]:
        """The ways in which our own identity could pass the rules by. Raises ForgeError."""
        return examine.bypasses(self._api, self._name, self._base_branch, self._identity)

    def usage(self) -> tuple[Mapping[str, int], int | None]:
        """Calls of the API so far, and what is left of the hour's."""
        return dict(self._api.calls), self._api.budget.remaining

    def stopped(self) -> KillReading:
        """Any pull request with the label, open or not: a person takes it off when all is well again."""
        labelled = [p.number("number") for p in self._listed_once().all() if LABEL_KILL_SWITCH in labels_of(p)]
        detail = f"label {LABEL_KILL_SWITCH} on #{labelled[0]}" if labelled else "clear"
        return KillReading(source="forge", configured=True, active=bool(labelled), detail=detail)

    def _read(self, number: int) -> Bag:
        return Bag(self._api.get(f"{self._path}/pulls/{number}", urgent=True), "pull request")

    def _learned(self, number: int) -> Bag:
        pull = self._read(number)
        self._listing.learn(pull)
        return pull

    def _read_reviews(self, number: int, head: str) -> tuple[Review, ...]:
        rows = self._api.pages(f"{self._path}/pulls/{number}/reviews", urgent=True)
        found = [one for one in map(review, rows) if one is not None]
        may: dict[str, bool] = {}
        for one in found:
            if one.verdict == "approved" and one.commit == head and one.by.key not in may:
                may[one.by.key] = self.may_write(one.by)
        return tuple(one for one in found if one.verdict != "approved" or may.get(one.by.key, one.commit != head))

    def may_write(self, who: Person) -> bool:
        """An approval counts from those who could merge themselves."""
        if who.account is None:
            return False
        found = self._api.find(f"{self._path}/collaborators/{quote(who.name, safe='')}/permission", urgent=True)
        if found is None:
            return False
        answer = Bag(found, "permission")
        # Whoever took over a login is somebody else.
        return answer.text("permission") in WRITERS and person(answer.raw.get("user")).account == who.account

    def _owners_approved(self, number: int) -> bool:
        owner, _, name = self._name.partition("/")
        data = Bag(self._api.graphql(DECISION, {"o": owner, "n": name, "p": number}, urgent=True), "answer")
        return data.bag("repository").bag("pullRequest").maybe("reviewDecision") == "APPROVED"

    def _model(self, pull: Bag, *, head: str | None = None) -> PullRequest | None:
        number = pull.number("number")
        return self._pulls.read(pull, self._reviews.get(number, ()), self._checks.get(number, ()), head=head)

    # -- pull requests: writing --------------------------------------------------------------------------------------

    def create_pr(self, pr: PullRequest) -> PullRequest:
        """Open it, once: one that stands already, or whose answer was lost, is found and given back as it stands."""
        body = {
            "title": pr.title, "head": pr.branch, "base": self._base_branch, "draft": pr.draft,
            "body": with_record(pr.body, record_of(pr, rollouts=())),
        }  # fmt: skip
        made = self._open(pr.branch, body)
        self._listing.learn(made)
        number = made.number("number")
        if person(made.raw.get("user")).key == self._identity.key:
            self._listing.learn(labels.put_on(self._api, self._path, made, pr.labels))
            labels.ask_reviewers(self._api, self._path, made, self._settings)
        found_pr = self.get_pr(number)
        if found_pr is None:
            raise ForgeError(f"#{number} was opened, and is not what was asked for")
        return found_pr

    def _open(self, branch: str, body: dict[str, Any]) -> Bag:
        try:
            return Bag(self._api.send("POST", f"{self._path}/pulls", body), "pull request")
        except (Refused, Unanswered) as exc:
            if isinstance(exc, Refused) and exc.status != 422:
                raise
            found = self._open_on(branch)
            if found is not None:
                return found
            if body["draft"] and isinstance(exc, Refused) and "draft" in exc.message.lower():
                # Not every plan of GitHub's has drafts. It can't be merged by us either way: the licence is missing.
                return self._open(branch, {**body, "draft": False})
            raise

    def update_pr(self, before: PullRequest, after: PullRequest) -> PullRequest:
        """Make it say `after`, if it still is `before`; only what differs is written."""
        number = before.number
        pull = self._read(number)
        now = self._model(pull)
        if now is None or _strip(now) != _strip(before):
            self._listing.learn(pull)
            raise ConflictError(f"#{number} was changed by somebody else", ref=f"pull/{number}")
        self._edit(pull, now, after)
        if after.draft != now.draft and after.state is PrState.OPEN:
            self._api.graphql(DRAFT if after.draft else READY, {"id": pull.text("node_id")}, write=True)
        # Those that people put on or took off meanwhile stay as they are.
        for label in sorted(set(before.labels) - set(after.labels)):
            labels.take_off(self._api, self._path, number, label)
        labels.put_on(self._api, self._path, pull, tuple(one for one in after.labels if one not in before.labels))
        for comment in after.comments[len(before.comments) :]:
            self.add_comment(number, comment)
        if after.labels != before.labels or after.draft != now.draft:
            self._learned(number)
        found = self.get_pr(number)
        if found is None:
            raise ForgeError(f"#{number} can't be read any more")
        return found

    def _edit(self, pull: Bag, now: PullRequest, after: PullRequest) -> None:
        """Title, text, base and state, by one call, so that who closed it is told in the same moment."""
        closes = after.state is PrState.CLOSED and now.state is PrState.OPEN
        ours = closes and after.closed_by is not None and after.closed_by.key == self._identity.key
        stood = now.closed_by is not None and now.closed_by.key == self._identity.key
        closed_at = format_time(self._clock.now()) if ours else pull.maybe("closed_at") if stood else None
        kept = record_of(
            after,
            ours_at=moment(closed_at) if closed_at is not None else None,
            rollouts=tuple(c for c in after.checks if c.name not in (VERIFY_CHECK, GATE_CHECK)),
        )
        body = with_record(after.body, kept)
        wanted: dict[str, Any] = {"title": after.title, "body": body, "base": after.base}
        if closes:
            wanted["state"] = "closed"
            if ours:
                wanted["title"] = f"{after.title.removesuffix(AUTOCLOSED)}{AUTOCLOSED}"
        have = {
            "title": pull.text("title"), "body": (pull.maybe("body") or "").replace("\r\n", "\n"),
            "base": pull.bag("base").text("ref"), "state": pull.text("state"),
        }  # fmt: skip
        differing = {key: value for key, value in wanted.items() if have[key] != value}
        if not differing:
            return
        path = f"{self._path}/pulls/{now.number}"
        try:
            answer = self._api.send("PATCH", path, differing, urgent=closes)
        except Unanswered:
            answer = self._api.get(path, urgent=True)
            got = Bag(answer, "pull request")
            if closes and got.text("state") != "closed":
                raise
        self._listing.learn(Bag(answer, "pull request"))

    def add_review(self, number: int, review: Review) -> PullRequest:
        """Reviews are given on GitHub itself, by people. Raises InputError."""
        raise InputError(f"#{number} is reviewed on GitHub", hint="open the pull request there and approve it")

    def add_check(self, number: int, check: Check, *, annotations: Sequence[Annotation] = ()) -> PullRequest:
        """Record a check: a check run of the App's, or a commit status; what came of the rollout stands in the text."""
        pr = self.get_pr(number)
        if pr is None:
            raise ForgeError(f"there is no pull request #{number}", hint="`mk pr list` shows those there are")
        if check.name not in (VERIFY_CHECK, GATE_CHECK):
            return self.update_pr(pr, pr.model_copy(update={"checks": (*pr.checks, check)}))
        if not checks.tells(self._api, self._checks.get(number, ()), check):
            checks.write(self._api, self._path, check, self._identity, annotations)
            self._checks[number] = (*self._checks.get(number, ()), check)[-20:]
        return self.get_pr(number) or pr

    def add_comment(self, number: int, comment: Comment) -> PullRequest:
        """Record a comment, under our own account."""
        text = comment.text if comment.by.key == self._identity.key else f"{comment.by.name}: {comment.text}"
        self._api.send("POST", f"{self._path}/issues/{number}/comments", {"body": text})
        found = self.get_pr(number)
        if found is None:
            raise ForgeError(f"there is no pull request #{number}")
        return found

    def stop(self, number: int, why: str) -> None:
        """Label the pull request that went wrong, and say why."""
        self.ensure_label(LABEL_KILL_SWITCH)
        answer = self._api.send(
            "POST", f"{self._path}/issues/{number}/labels", {"labels": [LABEL_KILL_SWITCH]}, urgent=True
        )
        if not isinstance(answer, list):
            raise ForgeError(f"#{number} could not be labelled")
        self._learned(number)
        self._api.send("POST", f"{self._path}/issues/{number}/comments", {"body": why}, urgent=True)

    def merge(self, permit: Permit, *, message: str) -> str:
        """Merge exactly the head that the permit names, and delete the branch; gives the merge commit.

        GitHub holds the head; that the base was the one verified is seen from the merge itself, afterwards.
        """
        sha = merging.send_merge(
            self._api, self._path, permit, message=message, base_branch=self._base_branch, settings=self._settings,
            clock=self._clock, read=self._learned,
        )  # fmt: skip
        self._clone.refresh()
        self._learned(permit.pr)
        self._delete_merged(permit)
        return sha

    def _delete_merged(self, permit: Permit) -> None:
        """The branch of what was merged; a repository may delete it by itself, and somebody may have used it again."""
        pull = self._listing.get(permit.pr)
        branch = pull.bag("head").text("ref") if pull is not None else ""
        if branch and self._clone.tip(branch) == permit.head_sha:
            try:
                self.push_branch(branch, old=permit.head_sha, new=None)
            except ForgeError:
                # It is swept up in a later turn.
                return

    def applied(self, workload: str | None = None, *, since: int = 0) -> tuple[AppliedChange, ...]:
        """Merged chords by the trailers on the base branch, oldest first."""
        return self.repo.applied(self.base_tip(), workload, since=since)

    def _open_on(self, branch: str) -> Bag | None:
        owner = self._name.partition("/")[0]
        query = {"head": f"{owner}:{branch}", "state": "open", "base": self._base_branch}
        found = [Bag(row, "pull request") for row in self._api.pages(f"{self._path}/pulls", query)]
        return next(
            (p for p in found if p.bag("head").text("ref") == branch and self._pulls.is_home(p.bag("head"))), None
        )

    def ensure_label(self, label: str) -> None:
        """Make a label where the repository has none of that name."""
        labels.make(self._api, self._path, label)


def _strip(pr: PullRequest) -> PullRequest:
    """What a compare-and-swap compares: not what is read elsewhere, and not when it was last touched."""
    beside: dict[str, Any] = {"head_sha": None, "reviews": (), "checks": (), "comments": (), "labels": ()}
    return pr.model_copy(update={**beside, "updated_at": pr.created_at})
