"""Our GitHub against `emulate`, one that nobody here wrote: equal where that one is right, and its mistakes on record."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
import requests

from tests.support.github import GitHub
from tests.support.github.auth import key_pair
from tests.support.github.emulate import emulate, installed
from tests.support.github.npm import need
from tests.support.unavailable import Unavailable

GROUPS = ("git", "contents", "issues", "reviews", "checks", "apps", "pages", "wrong")
ALL = dict.fromkeys(
    ("contents", "pull_requests", "issues", "checks", "statuses", "administration", "metadata"), "write"
)
GRANTED = {"checks": "write", "contents": "read", "metadata": "read"}
WHO = {"name": "A", "email": "a@b.c", "date": "2026-01-01T00:00:00Z"}
APP = 4711
Tokens = dict[str, str | Callable[[], str]]


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@dataclass
class Peer:
    """One of the two; `known` are the values that earlier answers gave, for the requests that follow."""

    base: str
    tokens: Tokens
    known: dict[str, Any] = field(default_factory=dict)
    session: requests.Session = field(default_factory=requests.Session)

    def ask(self, who: str, method: str, path: str, body: Any = None) -> requests.Response:
        token = self.tokens[who] if who in self.tokens else self.known[who]
        headers = {"Authorization": f"Bearer {token() if callable(token) else token}"}
        url = self.base + self.filled(path)
        return self.session.request(
            method, url, json=self.filled(body), headers=headers, timeout=30, allow_redirects=False
        )

    def filled(self, value: Any) -> Any:
        """The value with `<name>` replaced by what is known of that name; a number stays one where it is all there is."""
        if isinstance(value, dict):
            return {key: self.filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.filled(one) for one in value]
        if isinstance(value, str):
            if value[1:-1] in self.known and value[0] + value[-1] == "<>":
                return self.known[value[1:-1]]
            for name, one in self.known.items():
                value = value.replace(f"<{name}>", str(one))
        return value


def at(value: Any, path: str) -> Any:
    """What is at a dotted path, of each item where there is a list."""
    for part in path.split("."):
        if isinstance(value, list):
            value = [one.get(part) if isinstance(one, dict) else one for one in value]
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


@dataclass(frozen=True)
class Step:
    """A request, the status both are to answer with, what of the answers is compared, and what is kept for later."""

    who: str
    method: str
    path: str
    status: int
    body: Any = None
    same: tuple[str, ...] = ()
    keep: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Peers:
    """Ours and the other one, with the same accounts and repositories."""

    ours: Peer
    other: Peer

    def compare(self, steps: list[Step]) -> None:
        """Ask both the same, and say where they differ."""
        differ = []
        for step in steps:
            told = []
            for peer in (self.ours, self.other):
                answer = peer.ask(step.who, step.method, step.path, step.body)
                json = answer.json() if answer.content else None
                for name, path in step.keep.items():
                    peer.known[name] = at(json, path)
                told.append((answer.status_code, {path: at(json, path) for path in step.same}))
            if told[0] != told[1] or told[0][0] != step.status:
                differ.append(
                    f"{step.method} {step.path}: {step.status} is right\n  ours  {told[0]}\n  other {told[1]}"
                )
        assert not differ, "\n".join(differ)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    try:
        installed()
    except Unavailable as exc:
        need(exc)
    private = key_pair(0)[0]
    installation = {"installation_id": 815, "account": "alice", "permissions": GRANTED, "repository_selection": "all"}
    seed = {
        "tokens": {f"{name}-token": {"login": name, "scopes": ["repo", "user"]} for name in ("alice", "bob")},
        "github": {
            "users": [{"login": "alice"}, {"login": "bob"}],
            "repos": [{"owner": "alice", "name": name, "auto_init": True, "private": True} for name in GROUPS],
            "apps": [
                {
                    "app_id": APP,
                    "slug": "modekeeper",
                    "name": "modekeeper",
                    "private_key": private,
                    "permissions": GRANTED,
                    "installations": [installation],
                }
            ],
        },
    }
    folder = tmp_path_factory.mktemp("peers")

    def signed(number: int) -> Callable[[], str]:
        def make() -> str:
            now = int(time.time())
            return jwt.encode({"iat": now - 5, "exp": now + 300, "iss": str(number)}, private, "RS256")

        return make

    with emulate(folder, seed) as url, GitHub(folder) as hub:
        alice, bob = hub.user("alice"), hub.user("bob")
        app = hub.app("modekeeper")
        for name in GROUPS:
            repo = hub.repo(f"alice/{name}")
            hub.commit(repo, "main", {"README.md": f"# {name}\n"}, "Initial commit", alice)
            hub.collaborate(repo, bob, "write")
            number = hub.install(app, repo, GRANTED)
        tokens: Tokens = {"alice": hub.token(alice, ALL), "bob": hub.token(bob, ALL), "app": signed(app.id)}
        ours = Peer(hub.api, tokens, {"installation": number})
        theirs: Tokens = {"alice": "alice-token", "bob": "bob-token", "app": signed(APP)}
        other = Peer(url, theirs, {"installation": 815})
        for name in GROUPS:
            other.ask("alice", "PUT", f"/repos/alice/{name}/collaborators/bob", {"permission": "push"})
        yield Peers(ours, other)
        ours.session.close()
        other.session.close()


def test_git_data_has_the_same_ids(peers: Peers) -> None:
    r = "/repos/alice/git"
    two_files = [
        {"path": "a/b.txt", "mode": "100644", "type": "blob", "sha": "<blob>"},
        {"path": "c.sh", "mode": "100755", "type": "blob", "content": "#!/bin/sh\n"},
    ]
    added = [{"path": "a/d/e", "mode": "100644", "type": "blob", "content": "e\n"}]
    dropped = [{"path": "a/b.txt", "mode": "100644", "type": "blob", "sha": None}]
    # `emulate` ends every message with a newline; GitHub leaves it as it came.
    one = {"message": "one\n", "tree": "<tree>", "parents": [], "author": WHO, "committer": WHO}
    two = {"message": "two\n\nbody\n", "tree": "<more>", "parents": ["<one>"], "author": WHO, "committer": WHO}
    binary = {"content": base64.b64encode(b"\0\1").decode(), "encoding": "base64"}
    peers.compare(
        [
            Step("alice", "POST", f"{r}/git/blobs", 201, {"content": "hello\n"}, ("sha",), {"blob": "sha"}),
            Step("alice", "POST", f"{r}/git/blobs", 201, binary, ("sha",)),
            Step("alice", "GET", f"{r}/git/blobs/<blob>", 200, None, ("sha", "size", "encoding")),
            Step("alice", "POST", f"{r}/git/trees", 201, {"tree": two_files}, ("sha",), {"tree": "sha"}),
            Step(
                "alice",
                "GET",
                f"{r}/git/trees/<tree>?recursive=1",
                200,
                None,
                ("sha", "tree.path", "tree.mode", "tree.type", "tree.sha", "tree.size", "truncated"),
            ),
            Step("alice", "POST", f"{r}/git/commits", 201, one, ("sha", "tree.sha", "parents"), {"one": "sha"}),
            Step("alice", "POST", f"{r}/git/trees", 201, {"base_tree": "<tree>", "tree": added}, (), {"both": "sha"}),
            Step(
                "alice",
                "POST",
                f"{r}/git/trees",
                201,
                {"base_tree": "<both>", "tree": dropped},
                ("sha",),
                {"more": "sha"},
            ),
            Step("alice", "POST", f"{r}/git/commits", 201, two, ("sha", "parents.sha"), {"two": "sha"}),
            Step("alice", "GET", f"{r}/git/commits/<two>", 200, None, ("author", "committer", "tree.sha")),
            Step("alice", "GET", f"{r}/git/commits/{'0' * 40}", 404),
            Step(
                "alice", "POST", f"{r}/git/refs", 201, {"ref": "refs/heads/mk/x", "sha": "<one>"}, ("ref", "object.sha")
            ),
            Step("alice", "POST", f"{r}/git/refs", 422, {"ref": "refs/heads/mk/x", "sha": "<one>"}, ("message",)),
            Step("alice", "POST", f"{r}/git/refs", 422, {"ref": "refs/heads/mk/y", "sha": "0" * 40}),
            Step("alice", "POST", f"{r}/git/refs", 422, {"ref": "heads/mk/y", "sha": "<one>"}),
            Step("alice", "GET", f"{r}/git/ref/heads/mk/x", 200, None, ("ref", "object.sha", "object.type")),
            Step("alice", "GET", f"{r}/git/ref/heads/mk", 404),
            Step("alice", "PATCH", f"{r}/git/refs/heads/mk/x", 200, {"sha": "<two>"}, ("object.sha",)),
            Step("alice", "PATCH", f"{r}/git/refs/heads/mk/x", 422, {"sha": "<one>"}),
            Step("alice", "PATCH", f"{r}/git/refs/heads/mk/x", 200, {"sha": "<one>", "force": True}, ("object.sha",)),
            Step("alice", "GET", f"{r}/git/matching-refs/heads/mk", 200, None, ("ref", "object.sha")),
            Step("alice", "DELETE", f"{r}/git/refs/heads/mk/x", 204),
            Step("alice", "GET", f"{r}/git/ref/heads/mk/x", 404),
        ]
    )


def test_contents_and_history(peers: Peers) -> None:
    r = "/repos/alice/contents"
    new = {"message": "add\n", "content": coded("new\n"), "branch": "side", "author": WHO, "committer": WHO}
    peers.compare(
        [
            Step("alice", "GET", f"{r}/git/ref/heads/main", 200, None, (), {"main": "object.sha"}),
            Step("alice", "POST", f"{r}/git/refs", 201, {"ref": "refs/heads/side", "sha": "<main>"}),
            Step(
                "alice",
                "PUT",
                f"{r}/contents/deep/new.txt",
                201,
                new,
                ("content.sha", "content.path", "content.size"),
                {"first": "content.sha"},
            ),
            Step("alice", "PUT", f"{r}/contents/deep/new.txt", 422, {**new, "content": coded("2")}),
            Step("alice", "PUT", f"{r}/contents/deep/new.txt", 409, {**new, "content": coded("2"), "sha": "1" * 40}),
            Step(
                "alice",
                "PUT",
                f"{r}/contents/deep/new.txt",
                200,
                {**new, "content": coded("2\n"), "sha": "<first>"},
                ("content.sha",),
                {"tip": "commit.sha"},
            ),
            Step(
                "alice",
                "GET",
                f"{r}/contents/deep/new.txt?ref=side",
                200,
                None,
                ("name", "path", "sha", "size", "type", "encoding"),
            ),
            Step("alice", "GET", f"{r}/contents/deep?ref=side", 200, None, ("name", "path", "sha", "type", "size")),
            Step("alice", "GET", f"{r}/contents/none?ref=side", 404),
            Step("alice", "GET", f"{r}/contents/deep/new.txt", 404),
            Step(
                "alice",
                "GET",
                f"{r}/commits/side",
                200,
                None,
                ("stats", "files.filename", "files.status", "files.additions", "files.deletions", "files.sha"),
            ),
            Step("alice", "GET", f"{r}/branches/side", 200, None, ("name", "protected")),
            Step("alice", "GET", f"{r}/branches/none", 404),
            Step("alice", "GET", f"{r}/branches/side/protection", 404),
        ]
    )
    listed = [peer.ask("alice", "GET", f"{r}/commits?sha=side").json() for peer in (peers.ours, peers.other)]
    assert [[one["commit"]["message"].strip() for one in each] for each in listed] == [
        ["add", "add", "Initial commit"]
    ] * 2


def test_issues_labels_and_comments(peers: Peers) -> None:
    r = "/repos/alice/issues"
    label = {"name": "mk/one", "color": "ff0000", "description": "d"}
    issue = {"title": "I", "body": "B", "labels": ["mk/one"]}
    peers.compare(
        [
            Step("alice", "POST", f"{r}/labels", 201, label, ("name", "color", "description", "default")),
            Step("alice", "POST", f"{r}/labels", 422, label),
            Step("alice", "GET", f"{r}/labels/mk%2Fone", 200, None, ("name",)),
            Step("alice", "GET", f"{r}/labels/none", 404),
            Step(
                "alice",
                "POST",
                f"{r}/issues",
                201,
                issue,
                ("number", "title", "body", "state", "labels.name", "user.login", "comments", "locked"),
            ),
            Step("alice", "POST", f"{r}/issues/1/labels", 200, {"labels": ["new"]}, ("name",)),
            Step("alice", "PUT", f"{r}/issues/1/labels", 200, {"labels": ["new"]}, ("name",)),
            Step("alice", "GET", f"{r}/issues?labels=new&state=all", 200, None, ("number",)),
            Step("alice", "GET", f"{r}/issues?labels=mk/one&state=all", 200, None, ("number",)),
            Step("alice", "DELETE", f"{r}/issues/1/labels/new", 200, None, ("name",)),
            Step("alice", "DELETE", f"{r}/issues/1/labels/new", 404),
            Step("alice", "GET", f"{r}/issues/1/labels", 200, None, ("name",)),
            Step(
                "bob", "POST", f"{r}/issues/1/comments", 201, {"body": "hi"}, ("body", "user.login"), {"comment": "id"}
            ),
            Step("bob", "PATCH", f"{r}/issues/comments/<comment>", 200, {"body": "ho"}, ("body",)),
            Step("alice", "GET", f"{r}/issues/1/comments", 200, None, ("body", "user.login")),
            Step("bob", "GET", f"{r}/issues/comments/<comment>", 200, None, ("body",)),
            Step("bob", "DELETE", f"{r}/issues/comments/<comment>", 204),
            Step("bob", "GET", f"{r}/issues/comments/<comment>", 404),
            Step("alice", "PATCH", f"{r}/issues/1", 200, {"state": "closed"}, ("state", "state_reason")),
            Step("alice", "GET", f"{r}/issues?state=closed", 200, None, ("number",)),
            Step("alice", "GET", f"{r}/issues", 200, None, ("number",)),
            Step("alice", "GET", f"{r}/issues/99", 404),
        ]
    )


def pull_request(r: str) -> list[Step]:
    """A pull request #1 from a branch of one commit."""
    return [
        Step("alice", "GET", f"{r}/git/ref/heads/main", 200, None, (), {"main": "object.sha"}),
        Step("alice", "POST", f"{r}/git/refs", 201, {"ref": "refs/heads/topic", "sha": "<main>"}),
        Step(
            "alice",
            "PUT",
            f"{r}/contents/t.txt",
            201,
            {"message": "t", "content": coded("t\n"), "branch": "topic"},
            ("content.sha",),
            {"head": "commit.sha"},
        ),
        Step(
            "alice",
            "POST",
            f"{r}/pulls",
            201,
            {"title": "T", "head": "topic", "base": "main", "body": "B"},
            ("number", "title", "body", "state", "draft", "head.ref", "base.ref", "user.login", "merged", "locked"),
        ),
    ]


def test_pull_requests_and_reviews(peers: Peers) -> None:
    r = "/repos/alice/reviews"
    peers.compare(
        [
            *pull_request(r),
            Step("alice", "PATCH", f"{r}/pulls/1", 200, {"title": "T2", "body": "B2"}, ("title", "body", "state")),
            Step("alice", "GET", f"{r}/pulls", 200, None, ("number", "title", "head.ref")),
            Step("alice", "GET", f"{r}/pulls?state=closed", 200, None, ("number",)),
            Step("alice", "GET", f"{r}/pulls?state=all&head=alice:topic&base=main", 200, None, ("number",)),
            Step("alice", "GET", f"{r}/pulls?state=all&head=alice:other", 200, None, ("number",)),
            Step("alice", "GET", f"{r}/pulls/9", 404),
            Step("alice", "GET", f"{r}/pulls/1/merge", 404),
            Step("alice", "POST", f"{r}/issues/1/labels", 200, {"labels": ["modekeeper"]}, ("name",)),
            Step("alice", "GET", f"{r}/pulls/1", 200, None, ("labels.name",)),
        ]
    )
    # Both know a review; only one answers as GitHub when it is made.
    for peer in (peers.ours, peers.other):
        made = peer.ask("bob", "POST", f"{r}/pulls/1/reviews", {"event": "APPROVE", "body": "ok"}).json()
        peer.known["review"] = made["id"]
        peer.ask("bob", "POST", f"{r}/pulls/1/reviews", {"event": "COMMENT", "body": "c"})
    dismissal = {"message": "m"}
    peers.compare(
        [
            Step("alice", "GET", f"{r}/pulls/1/reviews", 200, None, ("state", "user.login", "body")),
            Step("alice", "PUT", f"{r}/pulls/1/reviews/<review>/dismissals", 200, dismissal, ("state",)),
            Step("alice", "GET", f"{r}/pulls/1/reviews/<review>", 200, None, ("state", "user.login")),
            Step("alice", "GET", f"{r}/pulls/1/reviews/99999", 404),
            Step("alice", "PATCH", f"{r}/pulls/1", 200, {"state": "closed"}, ("state", "merged")),
            Step("alice", "PATCH", f"{r}/pulls/1", 200, {"state": "open"}, ("state", "merged")),
        ]
    )


def test_apps_mint_tokens(peers: Peers) -> None:
    tokens = "/app/installations/<installation>/access_tokens"
    peers.compare(
        [
            Step("app", "GET", "/app", 200, None, ("slug", "name", "permissions")),
            Step("app", "GET", "/app/installations", 200, None, ("app_slug", "target_type", "permissions")),
            Step("app", "GET", "/repos/alice/apps/installation", 200, None, ("app_slug", "suspended_at")),
            Step("app", "GET", "/app/installations/<installation>", 200, None, ("app_slug", "account.login")),
            Step("app", "GET", "/app/installations/99999", 404),
            Step("app", "POST", tokens, 201, {"permissions": {"contents": "read", "metadata": "read"}}, ("permissions",), {"bot": "token"}),
            Step("app", "POST", tokens, 422, {"permissions": {"administration": "write"}}, ("message",)),
            Step("app", "POST", tokens, 422, {"repositories": ["none"]}),
            Step("app", "POST", "/app/installations/99999/access_tokens", 404, {}),
            Step("alice", "GET", "/app", 401),
            Step("bot", "GET", "/repos/alice/apps/contents/README.md", 200, None, ("path",)),
            Step("bot", "POST", "/repos/alice/apps/git/refs", 403, {"ref": "refs/heads/x", "sha": "0" * 40}),
        ]
    )  # fmt: skip


def test_check_runs(peers: Peers) -> None:
    r = "/repos/alice/checks"
    note = {"path": "t.txt", "start_line": 1, "end_line": 1, "annotation_level": "warning", "message": "m"}
    output = {"title": "T", "summary": "S", "annotations": [note]}
    minted = "/app/installations/<installation>/access_tokens"
    told = ("name", "status", "conclusion", "external_id", "output.title", "output.summary")
    done = {"status": "completed", "conclusion": "success"}
    peers.compare(
        [
            *pull_request(r),
            Step("app", "POST", minted, 201, {"permissions": {"checks": "write", "metadata": "read"}}, (), {"bot": "token"}),
            Step(
                "bot",
                "POST",
                f"{r}/check-runs",
                201,
                {"name": "gate", "head_sha": "<head>", "status": "in_progress", "external_id": "x"},
                told,
                {"run": "id"},
            ),
            Step("bot", "PATCH", f"{r}/check-runs/<run>", 200, {**done, "output": output}, (*told, "output.annotations_count")),
            Step("bot", "GET", f"{r}/check-runs/<run>", 200, None, told),
            Step("bot", "POST", f"{r}/check-runs", 201, {"name": "lint", "head_sha": "<head>", **done}, told),
            Step("bot", "GET", f"{r}/commits/<head>/check-runs?check_name=lint", 200, None, ("total_count", "check_runs.name")),
            Step("bot", "GET", f"{r}/commits/<head>/check-runs?check_name=none", 200, None, ("total_count", "check_runs")),
            Step("bot", "GET", f"{r}/commits/<head>/check-suites", 200, None, ("total_count", "check_suites.status")),
            Step("bot", "GET", f"{r}/check-runs/99999", 404),
        ]
    )  # fmt: skip


def test_pages_are_cut_and_linked_alike(peers: Peers) -> None:
    r = "/repos/alice/pages"
    titles = [f"n{number}" for number in range(5)]
    peers.compare([Step("alice", "POST", f"{r}/issues", 201, {"title": title}, ("number",)) for title in titles])
    for query, size in (("per_page=2", 2), ("per_page=2&page=2", 2), ("per_page=2&page=3", 1), ("page=9", 0)):
        answers = [peer.ask("alice", "GET", f"{r}/issues?direction=asc&{query}") for peer in (peers.ours, peers.other)]
        found = [[one["number"] for one in answer.json()] for answer in answers]
        assert found[0] == found[1]
        assert len(found[0]) == size
        if size:
            assert set(answers[0].links) == set(answers[1].links), query


# -- where `emulate` isn't GitHub ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong:
    """A request that `emulate` answers otherwise than GitHub; both answers are on record, so that a change is noticed."""

    what: str
    method: str
    path: str
    body: Any
    ours: Any
    other: Any
    key: str = ""
    who: str = "alice"


W = "/repos/alice/wrong"
OPEN = {"title": "T", "head": "topic", "base": "main"}
MISTAKES = [
    Wrong("a second pull request for a branch", "POST", f"{W}/pulls", OPEN, 422, 201),
    Wrong("a head that isn't there", "POST", f"{W}/pulls", {**OPEN, "head": "none"}, 422, 201),
    Wrong("a base that isn't there", "POST", f"{W}/pulls", {**OPEN, "base": "none"}, 422, 201),
    Wrong("files of a pull request", "GET", f"{W}/pulls/1/files", None, ["t.txt"], [], "filename"),
    Wrong("a pull request as an issue", "GET", f"{W}/issues/1", None, 200, 404),
    Wrong("the review of one's own", "POST", f"{W}/pulls/1/reviews", {"event": "APPROVE"}, 422, 201),
    Wrong(
        "objecting without a word", "POST", f"{W}/pulls/1/reviews", {"event": "REQUEST_CHANGES"}, 422, 201, "", "bob"
    ),
    Wrong("a review", "POST", f"{W}/pulls/1/reviews", {"event": "COMMENT", "body": "c"}, 200, 201, "", "bob"),
    Wrong("asking for reviews", "POST", f"{W}/pulls/1/requested_reviewers", {"reviewers": ["bob"]}, 201, 200),
    Wrong("a check run by a person", "POST", f"{W}/check-runs", {"name": "x", "head_sha": "<head>"}, 403, 201),
    Wrong("a token that is none", "GET", W, None, 401, 200, "", "nobody"),
    Wrong("a ref that isn't there", "PATCH", f"{W}/git/refs/heads/absent", {"sha": "<main>"}, 422, 404),
    Wrong("the same, deleted", "DELETE", f"{W}/git/refs/heads/absent", None, 422, 404),
    Wrong("a commit that isn't there", "GET", f"{W}/commits/absent", None, 422, 404),
    Wrong("a role", "GET", f"{W}/collaborators/bob/permission", None, "write", "push", "permission"),
    Wrong("no statuses", "GET", f"{W}/commits/main/statuses", None, 200, 404),
    Wrong("no combined status", "GET", f"{W}/commits/main/status", None, 200, 404),
    Wrong("no rules", "GET", f"{W}/rules/branches/main", None, 200, 404),
    Wrong("no rulesets", "GET", f"{W}/rulesets", None, 200, 404),
    # From here on the order counts: the head moves, then it conflicts, then it is merged all the same.
    Wrong("a stale sha", "PUT", f"{W}/pulls/1/merge", {"sha": "0" * 40}, 409, 422),
    Wrong("a head that moved", "GET", f"{W}/pulls/1", None, "<moved>", "<head>", "head.sha"),
    Wrong("mergeability", "GET", f"{W}/pulls/1", None, "dirty", "clean", "mergeable_state"),
    Wrong("a merge that conflicts", "PUT", f"{W}/pulls/1/merge", {}, 405, 200),
    Wrong("and once more", "PUT", f"{W}/pulls/1/merge", {}, 405, 422),
]


def test_what_emulate_gets_wrong_is_on_record(peers: Peers) -> None:
    """Were one of these right some day, the row would belong among those compared above."""
    peers.compare(pull_request(W))
    differ = []
    for peer in (peers.ours, peers.other):
        peer.known["nobody"] = "nonsense"
    for row in MISTAKES:
        if row.what == "a head that moved":
            for peer in (peers.ours, peers.other):
                more = {"message": "u", "content": coded("u\n"), "branch": "topic"}
                peer.known["moved"] = peer.ask("alice", "PUT", f"{W}/contents/u.txt", more).json()["commit"]["sha"]
                peer.ask("alice", "PUT", f"{W}/contents/t.txt", {**more, "content": coded("v\n"), "branch": "main"})
        for name, peer, expected in (("ours", peers.ours, row.ours), ("emulate", peers.other, row.other)):
            answer = peer.ask(row.who, row.method, row.path, row.body)
            told = at(answer.json(), row.key) if row.key else answer.status_code
            if told != peer.filled(expected):
                differ.append(f"{row.what}: {name} says {told!r}, and not {peer.filled(expected)!r}")
    assert not differ, "\n".join(differ)


def test_emulate_has_no_etag_no_graphql_and_no_git(peers: Peers) -> None:
    ours, other = (peer.ask("alice", "GET", W) for peer in (peers.ours, peers.other))
    assert ("ETag" in ours.headers, "ETag" in other.headers) == (True, False)
    for path in ("/graphql", "/alice/wrong.git/info/refs?service=git-upload-pack"):
        assert peers.other.ask("alice", "POST" if path == "/graphql" else "GET", path, {}).status_code == 404
