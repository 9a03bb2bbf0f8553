"""The GitHub that tests talk to: its codes, texts and timing, by plain requests and by PyGithub, against real git."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import github
import jwt
import openapi_schema_validator
import pytest
import requests

from tests.support.github import Account, App, Fault, GitHub, Pull, Repo, npm, openapi
from tests.support.github.schema import Schemas
from tests.support.unavailable import Unavailable

ALL = dict.fromkeys(
    ("contents", "pull_requests", "issues", "checks", "statuses", "administration", "metadata"), "write"
)
START = 1_772_366_400.0


@dataclass
class Caller:
    """Someone with a token."""

    hub: GitHub
    token: str
    session: requests.Session = field(default_factory=requests.Session)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        url = path if path.startswith("http") else self.hub.api + path
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            named.setdefault("Authorization", f"Bearer {self.token}")
        return self.session.request(method, url, json=body, headers=named, allow_redirects=False, timeout=30)

    def graphql(self, query: str, **variables: Any) -> Any:
        return self("POST", f"{self.hub.url}/api/graphql", {"query": query, "variables": variables}).json()


@dataclass
class Stage:
    """One repository, an author, a reviewer, an App, and ways to call."""

    hub: GitHub
    repo: Repo
    alice: Account
    bob: Account
    app: App
    now: list[float]
    callers: list[Caller]
    installation: int

    def caller(self, token: str) -> Caller:
        made = Caller(self.hub, token)
        self.callers.append(made)
        return made

    @property
    def as_alice(self) -> Caller:
        return self.caller(self.hub.token(self.alice, ALL))

    @property
    def as_app(self) -> Caller:
        return self.caller(self.hub.token(self.installation))

    def by_jwt(self, **claims: Any) -> Caller:
        now = int(self.now[0])
        given = {"iat": now - 10, "exp": now + 500, "iss": str(self.app.id), **claims}
        return self.caller(jwt.encode(given, self.app.private_key, "RS256"))

    def pull(self, branch: str = "topic", files: dict[str, str | bytes | None] | None = None, **how: Any) -> Pull:
        self.hub.commit(self.repo, branch, files or {f"{branch}.txt": "new\n"}, f"Change {branch}", self.alice)
        return self.hub.open_pr(self.repo, branch, by=self.alice, title=f"Do {branch}", **how)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    now = [START]
    with GitHub(tmp_path, clock=lambda: now[0]) as hub:
        alice, bob = hub.user("alice"), hub.user("bob")
        repo = hub.repo("team/gitops")
        for one in (alice, bob):
            hub.collaborate(repo, one, "write")
        hub.commit(repo, "main", {"a.txt": "one\n", "deep/b.txt": "two\n"}, "Start")
        app = hub.app("modekeeper")
        installation = hub.install(
            app, repo, dict.fromkeys(("contents", "pull_requests", "checks", "issues", "statuses"), "write")
        )
        made = Stage(hub, repo, alice, bob, app, now, [], installation)
        yield made
        for caller in made.callers:
            caller.session.close()


R = "/repos/team/gitops"


# -- what it is held against ---------------------------------------------------------------------------------------------


def test_the_description_of_the_api_is_at_hand() -> None:
    """Without it nothing of the shapes is tested: this test says so, and fails where it has to be there."""
    try:
        found = openapi.digest()
        npm.file_of(npm.GRAPHQL)
    except Unavailable as exc:
        npm.need(exc)
    assert len(found["operations"]) > 70
    assert len(found["schemas"]) > 70


def test_a_wrong_request_and_a_wrong_answer_are_noticed(tmp_path: Path) -> None:
    hub = GitHub(tmp_path)
    hub.repo("alice/x")
    caller = Caller(hub, hub.token(hub.user("alice"), ALL))
    with caller.session:
        caller("GET", "/repos/alice/x/pulls?statee=all")
        caller("GET", "/orgs/x/teams")
    if hub.description is not None:
        found = hub.description.response("GET", "/repos/{owner}/{repo}/labels/{name}", 200, {"id": "1"})
        assert "response GET /repos/{owner}/{repo}/labels/{name} 200: body.id: '1' is no integer" in found
    wanted = "no such endpoint" if hub.description is None else "GitHub has no such parameter\n.*no such endpoint"
    with pytest.raises(AssertionError, match=wanted), hub:
        pass


def test_our_check_agrees_with_the_reference_one_on_whole_answers(stage: Stage) -> None:
    """Each field of a pull request in turn is spoilt, and taken away."""
    if stage.hub.description is None:
        npm.need(Unavailable("no description"))
    digest = openapi.digest()
    named: dict[str, Any] = {}
    for name, schema in digest["schemas"].items():
        place = named
        *folders, last = name.removeprefix("#/").split("/")
        for part in folders:
            place = place.setdefault(part, {})
        place[last] = schema
    reference = openapi_schema_validator.OAS30Validator(
        {"allOf": [{"$ref": "#/components/schemas/pull-request"}], **named}
    )
    ours = Schemas(digest["schemas"]).check({"$ref": "#/components/schemas/pull-request"})
    body = stage.as_alice("GET", f"{R}/pulls/{stage.pull().number}").json()
    assert not list(ours(body, "body"))
    for name in body:
        for spoilt in ({**body, name: {"odd": [1]}}, {key: one for key, one in body.items() if key != name}):
            assert (not list(ours(spoilt, "body"))) is reference.is_valid(spoilt), name


def test_what_breaks_in_a_fault_fails_the_test(tmp_path: Path) -> None:
    hub = GitHub(tmp_path, validate=False)
    hub.faults.add("GET", "/meta", Fault.before(lambda: 1 / 0))
    with Caller(hub, "").session as session, pytest.raises(requests.ConnectionError):
        session.get(f"{hub.api}/meta", timeout=30)
    with pytest.raises(AssertionError, match="ZeroDivisionError"), hub:
        pass


@pytest.mark.parametrize("ci", ["true", ""])
def test_without_the_description_a_run_in_ci_fails_and_another_goes_on_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.delenv(npm.REQUIRED, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    openapi._loaded.cache_clear()
    try:
        if ci:
            with pytest.raises(Unavailable, match="install Node"):
                GitHub(tmp_path)
            with pytest.raises(pytest.fail.Exception, match="no GitHub peer: why"):
                npm.need(Unavailable("why"))
        else:
            with GitHub(tmp_path) as hub:
                assert hub.description is None
            with pytest.raises(pytest.skip.Exception, match="NOT TESTED: no GitHub peer: why"):
                npm.need(Unavailable("why"))
    finally:
        openapi._loaded.cache_clear()


def test_an_archive_with_another_digest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def packed(args: Sequence[str], cwd: Path) -> None:
        (cwd / "x.tgz").write_bytes(b"other")

    monkeypatch.setattr(npm, "npm", packed)
    with pytest.raises(Unavailable, match="another digest than the pinned one"):
        npm.pack(npm.OPENAPI, tmp_path)


SAMPLES: list[tuple[dict[str, Any], Any]] = [
    ({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}, {"a": 1}),
    ({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}, {"a": True}),
    ({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}, {}),
    ({"type": "string", "nullable": True}, None),
    ({"type": "string"}, None),
    ({"type": "string", "enum": ["x"]}, "y"),
    ({"type": "array", "items": {"type": "number"}}, [1, 2.5, "x"]),
    ({"type": "array", "maxItems": 1, "items": {}}, [1, 2]),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, []),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, 3),
    ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, 3),
    ({"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"b": {"type": "string"}}}]}, {"a": 1, "b": 2}),
    ({"type": "object", "additionalProperties": {"type": "string"}}, {"x": 1}),
    ({"type": "object", "properties": {"x": {}}, "additionalProperties": False}, {"y": 1}),
    ({"type": "string", "minLength": 2}, "x"),
    ({"type": "integer", "maximum": 2}, 3),
    ({"$ref": "#/named"}, {"again": {"again": 5}}),
    ({"$ref": "#/named"}, {"again": {"again": {}}}),
]


@pytest.mark.parametrize(("schema", "value"), SAMPLES)
def test_our_check_of_a_schema_agrees_with_the_reference_one(schema: dict[str, Any], value: Any) -> None:
    validator = openapi_schema_validator.OAS30Validator
    named = {"type": "object", "properties": {"again": {"$ref": "#/named"}}}
    whole = {**schema, "named": named} if "$ref" not in schema else {"allOf": [schema], "named": named}
    ours = not list(Schemas({"#/named": named}).check(schema)(value, "v"))
    assert ours is validator(whole).is_valid(value)


# -- callers -------------------------------------------------------------------------------------------------------------


def test_tokens_are_refused_once_they_are_bad_expired_or_of_someone_gone(stage: Stage) -> None:
    token = stage.hub.token(stage.alice, {"contents": "read"}, lasts=60)
    caller = stage.caller(token)
    assert caller("GET", R).status_code == 200
    assert stage.caller("nonsense")("GET", R).json()["message"] == "Bad credentials"
    stage.now[0] += 61
    assert caller("GET", R).status_code == 401
    another = stage.hub.token(stage.bob, ALL)
    stage.hub.expire(another)
    assert stage.caller(another)("GET", R).status_code == 401
    assert stage.caller("")("GET", R).status_code == 404


def test_a_token_does_what_it_may_and_no_more(stage: Stage) -> None:
    read = stage.caller(stage.hub.token(stage.installation, {"contents": "read", "pull_requests": "read"}))
    sha = stage.repo.tip()
    assert read("GET", f"{R}/git/ref/heads/main").json()["object"]["sha"] == sha
    refused = read("POST", f"{R}/git/refs", {"ref": "refs/heads/x", "sha": sha})
    assert (refused.status_code, refused.json()["message"]) == (403, "Resource not accessible by integration")
    assert refused.headers["X-Accepted-GitHub-Permissions"] == "contents=write"
    mine = stage.caller(stage.hub.token(stage.alice, {"contents": "read"}))
    refused = mine("POST", f"{R}/git/refs", {"ref": "refs/heads/x", "sha": sha})
    assert refused.json()["message"] == "Resource not accessible by personal access token"
    stage.hub.collaborate(stage.repo, stage.bob, "read")
    weak = stage.caller(stage.hub.token(stage.bob, ALL))
    assert weak("POST", f"{R}/git/refs", {"ref": "refs/heads/x", "sha": sha}).status_code == 403
    carol = stage.caller(stage.hub.token(stage.hub.user("carol"), ALL))
    assert carol("GET", R).status_code == 404


@pytest.mark.parametrize(
    ("claims", "status", "text"),
    [
        ({}, 200, None),
        ({"exp": int(START) - 1}, 401, "'Expiration time' claim ('exp') must be a numeric value"),
        ({"exp": int(START) + 700}, 401, "'Expiration time' claim ('exp') is too far in the future"),
        ({"iat": int(START) + 60}, 401, "'Issued at' claim ('iat') must be an Integer"),
        ({"iss": "1"}, 404, "Integration not found"),
        ({"iss": "x"}, 401, "could not be decoded"),
    ],
)
def test_an_app_proves_itself_by_a_short_lived_jwt(
    stage: Stage, claims: dict[str, Any], status: int, text: str | None
) -> None:
    answer = stage.by_jwt(**claims)("GET", "/app")
    assert answer.status_code == status
    assert answer.json()["slug"] == "modekeeper" if text is None else text in answer.json()["message"]


def test_a_jwt_of_another_key_or_algorithm_is_refused(stage: Stage) -> None:
    good = stage.by_jwt()
    stage.hub.rotate_key(stage.app)
    assert good("GET", "/app").status_code == 401
    assert stage.by_jwt()("GET", "/app").status_code == 200
    claims = {"iat": int(START) - 1, "exp": int(START) + 100, "iss": str(stage.app.id)}
    for forged in (
        jwt.encode(claims, "x" * 32, "HS256"),
        jwt.encode(claims, "", "none"),
    ):
        assert stage.caller(forged)("GET", "/app").status_code == 401


def test_an_installation_mints_tokens_for_an_hour_and_for_less_than_it_has(stage: Stage) -> None:
    hub, app = stage.hub, stage.by_jwt()
    other = hub.repo("team/other")
    hub.install(stage.app, other)
    number = app("GET", f"{R}/installation").json()["id"]
    assert number == stage.installation
    assert [one["id"] for one in app("GET", "/app/installations").json()] == [number]
    minted = app(
        "POST",
        f"/app/installations/{number}/access_tokens",
        {"repository_ids": [stage.repo.id], "permissions": {"contents": "read"}},
    )
    assert minted.status_code == 201
    assert minted.json()["expires_at"] == "2026-03-01T13:00:00Z"
    assert minted.json()["permissions"] == {"contents": "read", "metadata": "read"}
    caller = stage.caller(minted.json()["token"])
    listed = caller("GET", "/installation/repositories").json()
    assert [one["full_name"] for one in listed["repositories"]] == ["team/gitops"]
    assert caller("GET", "/repos/team/other").status_code == 404
    assert caller("GET", f"{R}/pulls").status_code == 403
    too_much = app("POST", f"/app/installations/{number}/access_tokens", {"permissions": {"administration": "read"}})
    assert too_much.status_code == 422
    hub.repo("team/third")
    absent = app("POST", f"/app/installations/{number}/access_tokens", {"repositories": ["third"]})
    assert absent.status_code == 422
    stage.now[0] += 3601
    assert caller("GET", "/installation/repositories").json()["message"] == "Bad credentials"


def test_a_suspended_installation_is_shut_out_and_a_removed_one_is_gone(stage: Stage) -> None:
    hub, caller = stage.hub, stage.as_app
    assert caller("GET", R).status_code == 200
    hub.suspend(stage.installation)
    assert (caller("GET", R).status_code, caller("GET", R).json()["message"]) == (
        403,
        "This installation has been suspended",
    )
    assert stage.by_jwt()("POST", f"/app/installations/{stage.installation}/access_tokens").status_code == 403
    hub.suspend(stage.installation, suspended=False)
    assert caller("GET", R).status_code == 200
    hub.uninstall(stage.installation)
    assert caller("GET", R).status_code == 401
    assert stage.by_jwt()("GET", f"{R}/installation").status_code == 404


def test_accounts_are_numbers_that_outlive_their_names(stage: Stage) -> None:
    hub, caller = stage.hub, stage.as_alice
    assert caller("GET", "/user").json()["id"] == stage.alice.id
    bot = caller("GET", "/users/modekeeper[bot]").json()
    assert (bot["id"], bot["type"]) == (stage.app.bot.id, "Bot")
    hub.rename_user(stage.bob, "robert")
    taken = hub.user("bob")
    assert caller("GET", "/users/robert").json()["id"] == stage.bob.id
    assert caller("GET", "/users/bob").json()["id"] == taken.id != stage.bob.id
    assert stage.as_app("GET", "/user").status_code == 403


# -- repositories --------------------------------------------------------------------------------------------------------


def test_a_renamed_repository_redirects_until_its_name_is_taken(stage: Stage) -> None:
    hub, caller, number = stage.hub, stage.as_alice, stage.repo.id
    hub.rename(stage.repo, "team/platform")
    moved = caller("GET", f"{R}/pulls?state=all")
    assert (moved.status_code, moved.headers["Location"]) == (301, f"{hub.api}/repositories/{number}/pulls")
    assert caller("PATCH", f"{R}/pulls/1", {"title": "x"}).status_code == 307
    assert caller("GET", moved.headers["Location"]).json() == []
    found = stage.by_jwt()("GET", f"{R}/installation")
    assert found.status_code == 301
    assert stage.by_jwt()("GET", found.headers["Location"]).json()["id"] == stage.installation
    assert stage.caller("")("GET", f"/repositories/{number}").status_code == 404
    assert caller("GET", f"/repositories/{number}").json()["full_name"] == "team/platform"
    taken = hub.repo("team/gitops")
    hub.collaborate(taken, stage.alice)
    assert caller("GET", R).json()["id"] == taken.id != number


def test_a_transferred_repository_keeps_its_number_and_loses_the_app(stage: Stage) -> None:
    stage.hub.transfer(stage.repo, "others")
    assert stage.repo.full_name == "others/gitops"
    assert stage.as_alice("GET", f"/repositories/{stage.repo.id}").json()["owner"]["login"] == "others"
    assert stage.as_app("GET", "/repos/others/gitops").status_code == 404


def test_a_repository_tells_what_it_allows(stage: Stage) -> None:
    stage.repo.allow = {"merge": False, "squash": True, "rebase": False}
    told = stage.as_alice("GET", R).json()
    assert (told["allow_merge_commit"], told["allow_squash_merge"], told["allow_rebase_merge"]) == (False, True, False)
    assert told["permissions"] == {"admin": False, "maintain": False, "push": True, "triage": True, "pull": True}
    meta = stage.as_alice("GET", "/meta").json()
    assert meta["installed_version"] == stage.as_alice("GET", "/").headers["X-GitHub-Enterprise-Version"]


def test_collaborators_and_what_they_may(stage: Stage) -> None:
    hub, caller = stage.hub, stage.as_alice
    hub.collaborate(stage.repo, hub.user("mia"), "maintain")
    assert {one["login"]: one["role_name"] for one in caller("GET", f"{R}/collaborators").json()} == {
        "alice": "write",
        "bob": "write",
        "mia": "maintain",
    }
    told = caller("GET", f"{R}/collaborators/mia/permission").json()
    assert (told["permission"], told["role_name"]) == ("write", "maintain")
    hub.user("nobody")
    assert caller("GET", f"{R}/collaborators/nobody/permission").json()["permission"] == "none"
    assert caller("GET", f"{R}/collaborators/absent/permission").status_code == 404
    assert caller("GET", f"{R}/collaborators/bob").status_code == 204


# -- the limit, ETags, pages ---------------------------------------------------------------------------------------------


def test_an_unchanged_answer_is_304_and_costs_nothing(stage: Stage) -> None:
    caller = stage.as_alice
    pull = stage.pull()
    first = caller("GET", f"{R}/pulls/{pull.number}")
    left = int(first.headers["X-RateLimit-Remaining"])
    again = caller("GET", f"{R}/pulls/{pull.number}", If_None_Match=first.headers["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    assert int(again.headers["X-RateLimit-Remaining"]) == left
    stage.hub.commit(stage.repo, "topic", {"x": "y"})
    moved = caller("GET", f"{R}/pulls/{pull.number}", If_None_Match=first.headers["ETag"])
    assert (moved.status_code, int(moved.headers["X-RateLimit-Remaining"])) == (200, left - 1)
    assert [one.conditional for one in stage.hub.requests] == [False, True, True]
    assert [one.status for one in stage.hub.requests] == [200, 304, 200]
    assert stage.hub.requests[0].actor == "alice"


def test_the_primary_limit_stops_a_caller_until_it_starts_anew(stage: Stage) -> None:
    stage.hub.limit = (2, 100)
    caller, other = stage.as_alice, stage.as_app
    assert [caller("GET", R).status_code for _ in range(3)] == [200, 200, 403]
    refused = caller("GET", R)
    assert "API rate limit exceeded for user ID" in refused.json()["message"]
    assert (refused.headers["X-RateLimit-Remaining"], refused.headers["X-RateLimit-Reset"]) == (
        "0",
        str(int(START) + 100),
    )
    assert caller("GET", "/rate_limit").json()["rate"]["remaining"] == 0
    assert other("GET", R).status_code == 200
    stage.now[0] += 100
    assert caller("GET", R).status_code == 200


def test_pages_are_linked_by_the_number_of_the_repository(stage: Stage) -> None:
    for number in range(5):
        stage.hub.issue(stage.repo, stage.alice, f"issue {number}")
    caller = stage.as_alice
    first = caller("GET", f"{R}/issues?per_page=2&direction=asc")
    assert [one["title"] for one in first.json()] == ["issue 0", "issue 1"]
    assert first.links["next"]["url"].startswith(f"{stage.hub.api}/repositories/{stage.repo.id}/issues?")
    assert "prev" not in first.links
    second = caller("GET", first.links["next"]["url"])
    last = caller("GET", second.links["last"]["url"])
    assert [one["title"] for one in last.json()] == ["issue 4"]
    assert set(last.links) == {"prev", "first"}
    assert caller("GET", f"{R}/issues?page=9").json() == []
    assert "Link" not in caller("GET", f"{R}/issues").headers


def test_the_date_is_that_of_the_clock(stage: Stage) -> None:
    stage.now[0] += 86_400
    assert stage.as_alice("GET", R).headers["Date"] == "Mon, 02 Mar 2026 12:00:00 GMT"


def test_listings_may_lag_behind(stage: Stage) -> None:
    stage.hub.eventual = 2
    caller = stage.as_alice
    number = stage.pull().number
    seen = [[one["number"] for one in caller("GET", f"{R}/pulls").json()] for _ in range(3)]
    assert seen == [[], [], [number]]
    assert caller("GET", f"{R}/pulls/{number}").status_code == 200


# -- git data ------------------------------------------------------------------------------------------------------------


def test_refs_are_made_moved_and_deleted_by_compare_and_swap(stage: Stage) -> None:
    caller, first = stage.as_alice, stage.repo.tip()
    body = {"ref": "refs/heads/mk/x", "sha": first}
    assert caller("POST", f"{R}/git/refs", body).status_code == 201
    assert caller("POST", f"{R}/git/refs", body).json()["message"] == "Reference already exists"
    second = stage.hub.commit(stage.repo, "main", {"c": "d"})
    assert caller("PATCH", f"{R}/git/refs/heads/mk/x", {"sha": second}).status_code == 200
    back = caller("PATCH", f"{R}/git/refs/heads/mk/x", {"sha": first})
    assert (back.status_code, back.json()["message"]) == (422, "Update is not a fast forward")
    assert caller("PATCH", f"{R}/git/refs/heads/mk/x", {"sha": first, "force": True}).status_code == 200
    assert caller("PATCH", f"{R}/git/refs/heads/none", {"sha": first}).json()["message"] == "Reference does not exist"
    assert caller("POST", f"{R}/git/refs", {"ref": "refs/heads/y", "sha": "0" * 40}).status_code == 422
    assert caller("POST", f"{R}/git/refs", {"ref": "refs/heads/a..b", "sha": first}).status_code == 422
    found = caller("GET", f"{R}/git/matching-refs/heads/mk").json()
    assert [one["ref"] for one in found] == ["refs/heads/mk/x"]
    assert caller("DELETE", f"{R}/git/refs/heads/mk/x").status_code == 204
    assert caller("GET", f"{R}/git/ref/heads/mk/x").status_code == 404
    assert caller("DELETE", f"{R}/git/refs/heads/mk/x").status_code == 422


def test_commits_and_contents_are_those_of_git(stage: Stage) -> None:
    caller, git = stage.as_alice, stage.repo.git
    sha = stage.hub.commit(stage.repo, "main", {"deep/b.txt": "three\nfour\n"}, "Second", stage.alice)
    told = caller("GET", f"{R}/commits/main").json()
    assert (told["sha"], told["author"]["login"]) == (sha, "alice")
    assert told["stats"] == {"total": 3, "additions": 2, "deletions": 1}
    assert git.run("diff", "--numstat", f"{sha}~", sha)[1] == b"2\t1\tdeep/b.txt\n"
    assert caller("GET", f"{R}/git/commits/{sha}").json()["tree"]["sha"] == git.commit(sha).tree
    file = caller("GET", f"{R}/contents/deep/b.txt?ref={sha}").json()
    assert base64.b64decode(file["content"]) == b"three\nfour\n"
    assert [one["name"] for one in caller("GET", f"{R}/contents/deep").json()] == ["b.txt"]
    assert caller("GET", f"{R}/contents/none").status_code == 404
    assert caller("GET", f"{R}/commits").json()[0]["sha"] == sha
    tree = caller("GET", f"{R}/git/trees/{sha}?recursive=1").json()
    assert [one["path"] for one in tree["tree"]] == ["a.txt", "deep", "deep/b.txt"]
    assert caller("GET", f"{R}/commits/nowhere").status_code == 422
    assert git.run("fsck", "--strict")[0] == 0


def test_a_commit_by_rest_is_the_one_git_would_make(stage: Stage) -> None:
    caller, git, tip = stage.as_alice, stage.repo.git, stage.repo.tip()
    blob = caller("POST", f"{R}/git/blobs", {"content": "hello\n"}).json()["sha"]
    entry = {"path": "deep/new.txt", "mode": "100644", "type": "blob", "sha": blob}
    tree = caller("POST", f"{R}/git/trees", {"base_tree": tip, "tree": [entry]}).json()["sha"]
    assert git.run("ls-tree", "-r", "--name-only", tree)[1].split() == [b"a.txt", b"deep/b.txt", b"deep/new.txt"]
    who = {"name": "A", "email": "a@b", "date": "2026-01-01T00:00:00Z"}
    made = caller("POST", f"{R}/git/commits", {"message": "m", "tree": tree, "parents": [tip], "author": who}).json()
    out = git.run("cat-file", "-p", made["sha"])[1].decode()
    assert f"tree {tree}\nparent {tip}\nauthor A <a@b> 1767225600 +0000\n" in out
    put = {"message": "put", "content": base64.b64encode(b"x").decode(), "branch": "main"}
    assert caller("PUT", f"{R}/contents/new.txt", put).status_code == 201
    assert caller("PUT", f"{R}/contents/new.txt", {**put, "sha": "1" * 40}).status_code == 409
    assert git.run("fsck", "--strict")[0] == 0


# -- git over HTTP -------------------------------------------------------------------------------------------------------


def git(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    return subprocess.run(["git", *args], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def remote(stage: Stage, token: str) -> str:
    return stage.repo.url.replace("http://", f"http://x-access-token:{token}@")


def test_git_clones_and_pushes_by_token_and_pull_requests_follow(stage: Stage, tmp_path: Path) -> None:
    hub, pull = stage.hub, stage.pull()
    hub.review(pull, stage.bob)
    stage.repo.protect("main", approvals=1, dismiss_stale=True)
    clone = tmp_path / "clone"
    assert (
        git(
            "clone", "-q", "-b", "topic", remote(stage, hub.token(stage.installation)), str(clone), cwd=tmp_path
        ).returncode
        == 0
    )
    (clone / "more").write_text("more\n")
    git("add", ".", cwd=clone)
    git("commit", "-qm", "More", cwd=clone)
    assert git("push", "-q", "origin", "topic", cwd=clone).returncode == 0
    told = stage.as_alice("GET", f"{R}/pulls/{pull.number}").json()
    assert told["head"]["sha"] == git("rev-parse", "HEAD", cwd=clone).stdout.strip()
    assert told["commits"] == 2
    assert [one.state for one in pull.reviews] == ["DISMISSED"]
    assert pull.last_pusher is stage.app.bot
    fetched = git("fetch", "-q", "origin", f"refs/pull/{pull.number}/head", cwd=clone)
    assert fetched.returncode == 0
    refused = {"HEAD:main": "Changes must be made through a pull request", "HEAD~1:refs/pull/1/head": "hidden ref"}
    for what, said in refused.items():
        pushed = git("push", "-q", "-f", "origin", what, cwd=clone)
        assert pushed.returncode == 1
        assert said in pushed.stderr
    assert git("push", "-q", "origin", ":topic", cwd=clone).returncode == 0
    assert pull.state == "closed"


def test_git_is_refused_without_a_token_that_may(stage: Stage, tmp_path: Path) -> None:
    hub = stage.hub
    read = hub.token(stage.installation, {"contents": "read"})
    clone = tmp_path / "clone"
    assert git("clone", "-q", remote(stage, read), str(clone), cwd=tmp_path).returncode == 0
    refused = git("push", "-q", "origin", "main:other", cwd=clone)
    assert "403" in refused.stderr
    assert "Authentication failed" in git("ls-remote", remote(stage, "wrong"), cwd=tmp_path).stderr
    stranger = hub.token(hub.user("carol"), ALL)
    assert "not found" in git("ls-remote", remote(stage, stranger), cwd=tmp_path).stderr
    hub.rename(stage.repo, "team/platform")
    assert git("fetch", "-q", "origin", cwd=clone).returncode == 0


def test_a_protected_branch_is_not_forced(stage: Stage, tmp_path: Path) -> None:
    stage.hub.commit(stage.repo, "mk/a", {"x": "1"})
    stage.repo.ruleset("keep", rules=[{"type": "non_fast_forward"}, {"type": "deletion"}], branches=["mk/**"])
    clone = tmp_path / "clone"
    url = remote(stage, stage.hub.token(stage.alice, ALL))
    assert git("clone", "-q", "-b", "mk/a", url, str(clone), cwd=tmp_path).returncode == 0
    git("commit", "-q", "--amend", "-m", "Other", cwd=clone)
    assert "Cannot force-push" in git("push", "-q", "-f", "origin", "mk/a", cwd=clone).stderr
    assert "Cannot delete this branch" in git("push", "-q", "origin", ":mk/a", cwd=clone).stderr
    git("fetch", "-q", "origin", "mk/a", cwd=clone)
    git("reset", "-q", "--hard", "FETCH_HEAD", cwd=clone)
    git("commit", "-q", "--allow-empty", "-m", "Forward", cwd=clone)
    assert git("push", "-q", "origin", "mk/a", cwd=clone).returncode == 0
    stage.repo.ruleset("keep", rules=[{"type": "update"}, {"type": "creation"}], branches=["mk/**"])
    git("commit", "-q", "--allow-empty", "-m", "More", cwd=clone)
    assert "protected ref" in git("push", "-q", "origin", "mk/a", cwd=clone).stderr
    assert "creations being restricted" in git("push", "-q", "origin", "HEAD:mk/b", cwd=clone).stderr
    bypass = [{"actor_id": stage.app.id, "actor_type": "Integration", "bypass_mode": "always"}]
    stage.repo.ruleset("keep", rules=[{"type": "creation"}], branches=["mk/**"], bypass=bypass)
    app = remote(stage, stage.hub.token(stage.installation))
    assert git("push", "-q", app, "HEAD:mk/b", cwd=clone).returncode == 0


# -- pull requests -------------------------------------------------------------------------------------------------------


def test_a_pull_request_is_opened_once(stage: Stage) -> None:
    caller, hub = stage.as_app, stage.hub
    hub.commit(stage.repo, "topic", {"x": "1\n"})
    body = {"title": "T", "head": "topic", "base": "main", "body": "B", "draft": True}
    made = caller("POST", f"{R}/pulls", body)
    assert made.status_code == 201
    told = made.json()
    assert (told["user"]["login"], told["draft"], told["mergeable"]) == ("modekeeper[bot]", True, None)
    assert (told["commits"], told["additions"], told["changed_files"]) == (1, 1, 1)
    again = caller("POST", f"{R}/pulls", body)
    assert again.status_code == 422
    assert again.json()["errors"][0]["message"] == "A pull request already exists for team:topic."
    hub.move(stage.repo, "same", stage.repo.tip() or "")
    nothing = caller("POST", f"{R}/pulls", {**body, "head": "same"})
    assert nothing.json()["errors"][0]["message"] == "No commits between main and same"
    absent = caller("POST", f"{R}/pulls", {**body, "head": "absent"})
    assert absent.json()["errors"] == [{"resource": "PullRequest", "field": "head", "code": "invalid"}]
    assert caller("POST", f"{R}/pulls", {**body, "base": "absent"}).json()["errors"][0]["field"] == "base"


def test_pull_requests_are_listed_by_state_head_and_base(stage: Stage) -> None:
    one, two = stage.pull("one"), stage.pull("two")
    stage.now[0] += 60
    stage.hub.close(one, stage.bob)
    caller = stage.as_alice

    def numbers(query: str) -> list[int]:
        return [each["number"] for each in caller("GET", f"{R}/pulls?{query}").json()]

    assert numbers("") == [two.number]
    assert numbers("state=all") == [two.number, one.number]
    assert numbers("state=all&direction=asc") == [one.number, two.number]
    assert numbers("state=closed") == [one.number]
    assert numbers("state=all&head=team:two") == [two.number]
    assert numbers("state=all&head=other:two") == []
    assert numbers("base=other") == []
    assert numbers("state=all&sort=updated&direction=desc") == [one.number, two.number]


def test_an_open_head_is_live_and_a_closed_one_is_frozen(stage: Stage) -> None:
    hub, caller, pull = stage.hub, stage.as_alice, stage.pull()
    path = f"{R}/pulls/{pull.number}"
    forced = hub.commit(stage.repo, "elsewhere", {"y": "1"})
    # Not even the simulator was told of this one.
    subprocess.run(["git", "update-ref", "refs/heads/topic", forced], cwd=stage.repo.git_dir, check=True)
    assert caller("GET", path).json()["head"]["sha"] == forced
    hub.close(pull, stage.bob)
    hub.commit(stage.repo, "topic", {"z": "1"})
    told = caller("GET", path).json()
    assert (told["head"]["sha"], told["state"], told["mergeable"]) == (forced, "closed", None)
    assert caller("PATCH", path, {"state": "open"}).json()["state"] == "open"
    assert caller("GET", path).json()["head"]["sha"] == stage.repo.tip("topic")
    assert caller("DELETE", f"{R}/git/refs/heads/topic").status_code == 204
    assert caller("GET", path).json()["state"] == "closed"
    refused = caller("PATCH", path, {"state": "open"})
    assert "branch has been deleted" in refused.json()["errors"][0]["message"]


def test_a_head_that_goes_back_to_the_base_closes_the_pull_request(stage: Stage) -> None:
    pull = stage.pull()
    stage.hub.move(stage.repo, "topic", stage.repo.tip())
    assert (pull.state, pull.merged) == ("closed", False)


def test_what_was_proposed_and_then_pushed_counts_as_merged(stage: Stage) -> None:
    pull = stage.pull()
    stage.hub.move(stage.repo, "main", pull.head_sha, stage.bob)
    told = stage.as_alice("GET", f"{R}/pulls/{pull.number}").json()
    assert (told["merged"], told["merged_by"]["login"], told["merge_commit_sha"]) == (True, "bob", pull.head_sha)


def test_a_pull_request_is_edited_and_retargeted(stage: Stage) -> None:
    caller, pull = stage.as_alice, stage.pull()
    path = f"{R}/pulls/{pull.number}"
    stage.hub.move(stage.repo, "release", stage.repo.tip() or "")
    told = caller("PATCH", path, {"title": "New", "body": "Text", "base": "release"}).json()
    assert (told["title"], told["body"], told["base"]["ref"]) == ("New", "Text", "release")
    assert caller("PATCH", path, {"state": "closed"}).json()["closed_at"] == "2026-03-01T12:00:00Z"
    assert caller("PATCH", path, {"base": "main"}).status_code == 422


def test_commits_and_files_of_a_pull_request(stage: Stage) -> None:
    stage.hub.commit(stage.repo, "topic", {"a.txt": "one\nmore\n", "deep/b.txt": None}, "First", stage.alice)
    pull = stage.pull("topic", {"c": "c\n"})
    stage.hub.commit(stage.repo, "main", {"unrelated": "1"})
    caller, path = stage.as_alice, f"{R}/pulls/{pull.number}"
    assert [one["commit"]["message"] for one in caller("GET", f"{path}/commits").json()] == ["First", "Change topic"]
    files = caller("GET", f"{path}/files").json()
    assert [(one["filename"], one["status"], one["additions"], one["deletions"]) for one in files] == [
        ("a.txt", "modified", 1, 0),
        ("c", "added", 1, 0),
        ("deep/b.txt", "removed", 0, 1),
    ]
    assert files[0]["patch"] == "@@ -1 +1,2 @@\n one\n+more"


def test_a_fork_and_a_repository_that_went_away(stage: Stage) -> None:
    hub, carol = stage.hub, stage.hub.user("carol")
    fork = hub.fork(stage.repo, carol)
    hub.commit(fork, "topic", {"f": "1"}, by=carol)
    pull = hub.open_pr(stage.repo, "carol:topic", "main", carol, "From a fork")
    caller = stage.as_alice
    told = caller("GET", f"{R}/pulls/{pull.number}").json()
    assert told["head"]["label"] == "carol:topic"
    assert told["head"]["repo"]["id"] == fork.id != told["base"]["repo"]["id"]
    moved = hub.commit(fork, "topic", {"f": "2"}, by=carol)
    assert caller("GET", f"{R}/pulls/{pull.number}").json()["head"]["sha"] == moved
    hub.delete_repo(fork)
    told = caller("GET", f"{R}/pulls/{pull.number}").json()
    assert (told["head"]["repo"], told["head"]["sha"]) == (None, moved)
    assert caller("PUT", f"{R}/pulls/{pull.number}/merge", {"sha": moved}).status_code == 200


# -- mergeability and merging --------------------------------------------------------------------------------------------


def state(stage: Stage, pull: Pull) -> tuple[bool | None, str]:
    told = stage.as_alice("GET", f"{R}/pulls/{pull.number}").json()
    return told["mergeable"], told["mergeable_state"]


def test_how_mergeable_it_is(stage: Stage) -> None:
    hub, repo, pull = stage.hub, stage.repo, stage.pull()
    assert state(stage, pull) == (True, "clean")
    hub.status(repo, pull.head_sha, "other", "pending")
    assert state(stage, pull) == (True, "unstable")
    repo.protect("main", required_checks=[("ci", None)], strict=True)
    assert state(stage, pull) == (True, "blocked")
    hub.check_run(repo, pull.head_sha, "ci")
    hub.status(repo, pull.head_sha, "other", "success")
    assert state(stage, pull) == (True, "clean")
    hub.commit(repo, "main", {"else": "1"})
    assert state(stage, pull) == (True, "behind")
    hub.draft(pull)
    assert state(stage, pull) == (True, "draft")
    hub.draft(pull, draft=False)
    hub.commit(repo, "main", {"topic.txt": "conflict\n"})
    assert state(stage, pull) == (False, "dirty")


def test_mergeability_may_be_worked_out_lazily(stage: Stage) -> None:
    stage.hub.lazy_mergeable = True
    pull = stage.pull()
    assert [state(stage, pull) for _ in range(2)] == [(None, "unknown"), (True, "clean")]
    stage.hub.commit(stage.repo, "main", {"x": "1"})
    assert [state(stage, pull) for _ in range(2)] == [(None, "unknown"), (True, "clean")]


def test_the_test_merge_is_the_merge(stage: Stage) -> None:
    pull = stage.pull()
    base = stage.repo.tip()
    tried = stage.as_alice("GET", f"{R}/pulls/{pull.number}").json()["merge_commit_sha"]
    assert stage.repo.git.ref(f"refs/pull/{pull.number}/merge") == tried
    assert stage.repo.git.commit(tried).parents == (base, pull.head_sha)
    merged = stage.as_alice("PUT", f"{R}/pulls/{pull.number}/merge", {"sha": pull.head_sha}).json()["sha"]
    assert stage.repo.git.commit(merged).tree == stage.repo.git.commit(tried).tree


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_each_way_of_merging_does_what_git_does(stage: Stage, method: str) -> None:
    hub, repo, caller = stage.hub, stage.repo, stage.as_app
    hub.commit(repo, "topic", {"a.txt": "one\ntopic\n"}, "First\n\nOf two", stage.alice)
    pull = stage.pull()
    base = hub.commit(repo, "main", {"deep/b.txt": "moved\n"}, "Meanwhile")
    expected = repo.git.merge_tree(base, pull.head_sha)
    stage.now[0] += 60
    body = {"sha": pull.head_sha, "merge_method": method}
    if method != "rebase":
        body |= {"commit_title": "Title", "commit_message": "Text"}
    assert caller("GET", f"{R}/pulls/{pull.number}/merge").status_code == 404
    answer = caller("PUT", f"{R}/pulls/{pull.number}/merge", body)
    assert answer.status_code == 200
    made = repo.git.commit(answer.json()["sha"])
    assert (repo.tip(), made.tree) == (made.sha, expected)
    assert made.committer[:3] == ("GitHub", "noreply@github.com", int(START) + 60)
    if method == "merge":
        assert made.parents == (base, pull.head_sha)
        assert made.author.name == "modekeeper[bot]"
    elif method == "squash":
        assert made.parents == (base,)
        assert made.author.name == "alice"
    else:
        below = repo.git.commit(made.parents[0])
        assert (below.parents, below.message, made.message) == ((base,), "First\n\nOf two", "Change topic")
    if method != "rebase":
        assert made.message == "Title\n\nText"
    assert caller("GET", f"{R}/pulls/{pull.number}/merge").status_code == 204
    told = caller("GET", f"{R}/pulls/{pull.number}").json()
    assert (told["merged"], told["merge_commit_sha"], told["commits"]) == (True, made.sha, 2)
    assert told["merged_by"]["login"] == "modekeeper[bot]"


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("merge", "Merge pull request #1 from team/topic\n\nDo topic"),
        ("squash", "Change topic (#1)"),
    ],
)
def test_the_message_of_a_merge_where_none_is_given(stage: Stage, method: str, text: str) -> None:
    sha = stage.hub.merge_by_hand(stage.pull(), stage.bob, method)
    assert stage.repo.git.commit(sha).message == text


def _conflict(stage: Stage, pull: Pull) -> None:
    stage.hub.commit(stage.repo, "main", {"topic.txt": "other\n"})


def _merged(stage: Stage, pull: Pull) -> None:
    stage.hub.merge_by_hand(pull, stage.bob)


def _squash_only(stage: Stage, pull: Pull) -> None:
    stage.repo.allow = {"merge": False, "squash": True, "rebase": False}


def _checks(*wanted: tuple[str, int | None], **more: Any) -> Callable[[Stage, Pull], None]:
    def prepare(stage: Stage, pull: Pull) -> None:
        stage.repo.protect("main", required_checks=wanted, **more)

    return prepare


def _pending(stage: Stage, pull: Pull) -> None:
    _checks(("ci", None))(stage, pull)
    stage.hub.check_run(stage.repo, pull.head_sha, "ci", status="in_progress")


def _failing(stage: Stage, pull: Pull) -> None:
    _checks(("ci", None), ("lint", None))(stage, pull)
    stage.hub.check_run(stage.repo, pull.head_sha, "ci", conclusion="success")
    stage.hub.check_run(stage.repo, pull.head_sha, "ci", conclusion="failure")
    stage.hub.status(stage.repo, pull.head_sha, "lint", "success")


def _mixed(stage: Stage, pull: Pull) -> None:
    _checks(("ci", None), ("lint", None))(stage, pull)
    stage.hub.check_run(stage.repo, pull.head_sha, "ci", conclusion="cancelled")


def _other_app(stage: Stage, pull: Pull) -> None:
    _checks(("ci", stage.app.id))(stage, pull)
    stage.hub.check_run(stage.repo, pull.head_sha, "ci")
    stage.hub.status(stage.repo, pull.head_sha, "ci", by=stage.bob)


def _behind(stage: Stage, pull: Pull) -> None:
    _checks(("ci", None))(stage, pull)
    stage.hub.check_run(stage.repo, pull.head_sha, "ci")
    stage.hub.commit(stage.repo, "main", {"else": "1"})


def _own_approval(stage: Stage, pull: Pull) -> None:
    stage.repo.protect("main", approvals=1)
    stage.hub.review(pull, stage.alice)
    stage.hub.review(pull, stage.hub.user("passer-by"))


def _objection(stage: Stage, pull: Pull) -> None:
    stage.repo.protect("main", approvals=0)
    stage.repo.ruleset("r", rules=[{"type": "pull_request", "parameters": {"required_approving_review_count": 1}}])
    stage.hub.review(pull, stage.bob)
    stage.hub.review(pull, stage.bob, "CHANGES_REQUESTED")


def _queue(stage: Stage, pull: Pull) -> None:
    stage.repo.queue = True


def _rule_checks(stage: Stage, pull: Pull) -> None:
    wanted = {"required_status_checks": [{"context": "ci", "integration_id": stage.app.id}]}
    stage.repo.ruleset("r", rules=[{"type": "required_status_checks", "parameters": wanted}])


def _restricted(stage: Stage, pull: Pull) -> None:
    stage.repo.protect("main", restrictions=["somebody"])


def _code_owner(stage: Stage, pull: Pull) -> None:
    stage.hub.commit(stage.repo, "main", {"CODEOWNERS": "* @alice\n/topic.txt @mia\n"})
    stage.repo.protect("main", approvals=1, code_owners=True)
    stage.hub.review(pull, stage.bob)


def _last_push(stage: Stage, pull: Pull) -> None:
    stage.repo.protect("main", approvals=1, last_push=True)
    stage.hub.review(pull, stage.bob)
    stage.hub.commit(stage.repo, "topic", {"late": "1"}, by=stage.bob)


MERGES: list[tuple[str, Callable[[Stage, Pull], None], dict[str, Any], int, str]] = [
    ("conflict", _conflict, {}, 405, "Pull Request is not mergeable"),
    ("merged", _merged, {}, 405, "Pull Request is not mergeable"),
    ("closed", lambda stage, pull: stage.hub.close(pull, stage.bob), {}, 405, "Pull Request is not mergeable"),
    ("draft", lambda stage, pull: stage.hub.draft(pull), {}, 405, "Pull Request is still a draft"),
    (
        "sha",
        lambda stage, pull: None,
        {"sha": "0" * 40},
        409,
        "Head branch was modified. Review and try the merge again.",
    ),
    ("method", _squash_only, {}, 405, "Merge commits are not allowed on this repository."),
    ("expected", _checks(("ci", None)), {}, 405, 'Required status check "ci" is expected.'),
    ("two expected", _checks(("a", None), ("b", None)), {}, 405, "2 of 2 required status checks are expected."),
    ("pending", _pending, {}, 405, 'Required status check "ci" is pending.'),
    ("failing", _failing, {}, 405, "1 of 2 required status checks are failing."),
    ("mixed", _mixed, {}, 405, "2 of 2 required status checks have not succeeded: 1 expected and 1 failing."),
    ("another app", _other_app, {}, 405, 'Required status check "ci" is expected.'),
    ("behind", _behind, {}, 405, 'Required status check "ci" is expected.'),
    ("review", _own_approval, {}, 405, "At least 1 approving review is required by reviewers with write access."),
    (
        "objection",
        _objection,
        {},
        405,
        (
            "Repository rule violations found\n\nAt least 1 approving review is required by reviewers with write access."
            "\n\nChanges have been requested by reviewers with write access.\n\n"
        ),
    ),
    ("queue", _queue, {}, 405, "Repository rule violations found\n\nChanges must be made through the merge queue\n\n"),
    ("rule", _rule_checks, {}, 405, 'Repository rule violations found\n\nRequired status check "ci" is expected.\n\n'),
    ("restricted", _restricted, {}, 405, "You're not authorized to push to this branch."),
    ("code owner", _code_owner, {}, 405, "Waiting on code owner review from mia."),
    ("last push", _last_push, {}, 405, "New changes require approval from someone other than the last pusher."),
]


@pytest.mark.parametrize(("prepare", "body", "status", "text"), [pytest.param(*row[1:], id=row[0]) for row in MERGES])
def test_a_merge_that_github_refuses(
    stage: Stage, prepare: Callable[[Stage, Pull], None], body: dict[str, Any], status: int, text: str
) -> None:
    pull = stage.pull()
    prepare(stage, pull)
    before = stage.repo.tip()
    answer = stage.as_app("PUT", f"{R}/pulls/{pull.number}/merge", body)
    assert (answer.status_code, answer.json()["message"]) == (status, text)
    assert stage.repo.tip() == before


def test_what_is_required_can_be_met(stage: Stage) -> None:
    hub, repo, pull = stage.hub, stage.repo, stage.pull()
    repo.protect("main", required_checks=[("gate", stage.app.id), ("ci", None)], approvals=1, last_push=True)
    wanted = {"required_status_checks": [{"context": "gate"}], "strict_required_status_checks_policy": True}
    repo.ruleset("checks", rules=[{"type": "required_status_checks", "parameters": wanted}])
    hub.check_run(repo, pull.head_sha, "gate", stage.app)
    hub.status(repo, pull.head_sha, "ci")
    hub.review(pull, stage.bob)
    assert hub.objections(pull, stage.alice) == []
    assert stage.as_app("PUT", f"{R}/pulls/{pull.number}/merge", {"sha": pull.head_sha}).status_code == 200


def test_whoever_may_bypass_a_ruleset_merges_anything(stage: Stage) -> None:
    bypass = [{"actor_id": stage.app.id, "actor_type": "Integration", "bypass_mode": "pull_request"}]
    rule = {"type": "pull_request", "parameters": {"required_approving_review_count": 2}}
    stage.repo.ruleset("reviews", rules=[rule], bypass=bypass)
    pull = stage.pull()
    assert stage.as_alice("PUT", f"{R}/pulls/{pull.number}/merge").status_code == 405
    assert stage.as_app("PUT", f"{R}/pulls/{pull.number}/merge").status_code == 200


def test_administrators_are_above_protection_that_is_not_enforced_on_them(stage: Stage) -> None:
    stage.hub.collaborate(stage.repo, stage.bob, "admin")
    stage.repo.protect("main", approvals=1, enforce_admins=False)
    pull = stage.pull()
    assert stage.hub.objections(pull, stage.bob) == []
    assert stage.hub.objections(pull, stage.alice) != []


def test_a_base_that_moves_inside_the_merge_is_noticed(stage: Stage) -> None:
    pull = stage.pull()
    late = {"before": 200, "during": 405}
    for kind, status in late.items():
        stage.hub.faults.add(
            "PUT", "/merge$", getattr(Fault, kind)(lambda kind=kind: stage.hub.commit(stage.repo, "main", {kind: "1"}))
        )
        target = pull if kind == "during" else stage.pull(kind)
        answer = stage.as_app("PUT", f"{R}/pulls/{target.number}/merge", {"sha": target.head_sha})
        assert answer.status_code == status
    assert answer.json()["message"] == "Base branch was modified. Review and try the merge again."
    assert not pull.merged


def test_a_head_that_moves_inside_the_merge_is_noticed(stage: Stage) -> None:
    pull = stage.pull()
    sha = pull.head_sha
    stage.hub.faults.add("PUT", "/merge$", Fault.during(lambda: stage.hub.commit(stage.repo, "topic", {"x": "1"})))
    answer = stage.as_app("PUT", f"{R}/pulls/{pull.number}/merge", {"sha": sha})
    assert answer.status_code == 409
    assert pull.state == "open"


def test_auto_merge_waits_for_what_is_missing(stage: Stage) -> None:
    stage.repo.protect("main", required_checks=[("ci", None)])
    pull = stage.pull()
    stage.repo.auto_merge(pull, stage.bob, "squash")
    told = stage.as_alice("GET", f"{R}/pulls/{pull.number}").json()["auto_merge"]
    assert (told["enabled_by"]["login"], told["merge_method"]) == ("bob", "squash")
    stage.hub.check_run(stage.repo, pull.head_sha, "ci")
    assert (pull.merged, pull.merged_by) == (True, stage.bob)


def test_auto_merge_does_nothing_where_nothing_was_missing(stage: Stage) -> None:
    pull = stage.pull()
    stage.repo.auto_merge(pull, stage.bob)
    stage.hub.check_run(stage.repo, pull.head_sha, "ci")
    stage.hub.review(pull, stage.bob)
    assert pull.state == "open"


def test_a_branch_is_brought_up_to_date(stage: Stage) -> None:
    pull, caller = stage.pull(), stage.as_alice
    base = stage.hub.commit(stage.repo, "main", {"x": "1"})
    path = f"{R}/pulls/{pull.number}/update-branch"
    assert caller("PUT", path, {"expected_head_sha": "0" * 40}).status_code == 422
    assert caller("PUT", path, {"expected_head_sha": pull.head_sha}).status_code == 202
    assert stage.repo.git.commit(stage.repo.tip("topic") or "").parents[1] == base
    assert caller("PUT", path, {}).status_code == 422


# -- reviews -------------------------------------------------------------------------------------------------------------


def test_reviews_are_given_listed_and_dismissed(stage: Stage) -> None:
    pull = stage.pull()
    path = f"{R}/pulls/{pull.number}/reviews"
    bob = stage.caller(stage.hub.token(stage.bob, ALL))
    made = bob("POST", path, {"event": "APPROVE", "body": "fine", "commit_id": pull.head_sha})
    assert (made.status_code, made.json()["state"], made.json()["commit_id"]) == (200, "APPROVED", pull.head_sha)
    own = stage.as_alice("POST", path, {"event": "APPROVE"})
    assert (own.status_code, own.json()["errors"]) == (422, ["Can not approve your own pull request"])
    assert bob("POST", path, {"event": "REQUEST_CHANGES"}).status_code == 422
    assert bob("GET", f"{path}/{made.json()['id']}").json()["body"] == "fine"
    gone = bob("PUT", f"{path}/{made.json()['id']}/dismissals", {"message": "stale"})
    assert gone.json()["state"] == "DISMISSED"
    assert bob("PUT", f"{path}/{made.json()['id']}/dismissals", {"message": "stale"}).status_code == 422
    asked = stage.as_alice("POST", f"{R}/pulls/{pull.number}/requested_reviewers", {"reviewers": ["bob"]})
    assert [one["login"] for one in asked.json()["requested_reviewers"]] == ["bob"]


def test_a_push_dismisses_approvals_only_where_it_is_to(stage: Stage) -> None:
    pull = stage.pull()
    stage.hub.review(pull, stage.bob)
    stage.hub.commit(stage.repo, "topic", {"x": "1"})
    assert [one.state for one in pull.reviews] == ["APPROVED"]
    asked = {"required_approving_review_count": 1, "dismiss_stale_reviews_on_push": True}
    stage.repo.ruleset("r", rules=[{"type": "pull_request", "parameters": asked}])
    stage.hub.commit(stage.repo, "topic", {"x": "2"})
    assert [one.state for one in pull.reviews] == ["DISMISSED"]


def test_the_review_of_someone_deleted_has_no_user(stage: Stage) -> None:
    pull = stage.pull()
    stage.repo.protect("main", approvals=1)
    stage.hub.review(pull, stage.bob)
    stage.hub.delete_user(stage.bob)
    told = stage.as_alice("GET", f"{R}/pulls/{pull.number}/reviews").json()
    assert [(one["user"], one["state"]) for one in told] == [(None, "APPROVED")]
    assert stage.as_app("PUT", f"{R}/pulls/{pull.number}/merge").status_code == 405


# -- protection and rules ------------------------------------------------------------------------------------------------


def test_protection_is_told_to_administrators(stage: Stage) -> None:
    caller, path = stage.as_alice, f"{R}/branches/main/protection"
    stage.hub.collaborate(stage.repo, stage.alice, "admin")
    assert caller("GET", path).json()["message"] == "Branch not protected"
    assert caller("GET", f"{R}/branches/none/protection").json()["message"] == "Branch not found"
    stage.repo.protect(
        "main",
        required_checks=[("ci", stage.app.id), ("any", None)],
        approvals=2,
        dismiss_stale=True,
        last_push=True,
        restrictions=["modekeeper", "alice"],
        bypass_reviews=["bob"],
    )
    told = caller("GET", path).json()
    assert told["required_status_checks"]["checks"] == [
        {"context": "ci", "app_id": stage.app.id},
        {"context": "any", "app_id": None},
    ]
    assert told["required_pull_request_reviews"]["require_last_push_approval"] is True
    assert [one["slug"] for one in told["restrictions"]["apps"]] == ["modekeeper"]
    assert stage.as_app("GET", path).status_code == 403
    assert stage.as_app("GET", f"{R}/branches/main").json()["protected"] is True
    assert caller("GET", f"{R}/branches/other").status_code == 404


def test_the_rules_of_a_branch_are_told_to_anyone_who_reads(stage: Stage) -> None:
    bypass = [{"actor_id": 5, "actor_type": "RepositoryRole", "bypass_mode": "always"}]
    asked = {
        "required_approving_review_count": 1,
        "dismiss_stale_reviews_on_push": True,
        "require_code_owner_review": False,
        "require_last_push_approval": True,
        "required_review_thread_resolution": False,
    }
    made = stage.repo.ruleset("main", rules=[{"type": "pull_request", "parameters": asked}], bypass=bypass)
    stage.repo.ruleset("off", rules=[{"type": "deletion"}], enforcement="disabled")
    stage.repo.ruleset("all", rules=[{"type": "deletion"}], branches=["~ALL"], exclude=["main"])
    stage.repo.queue = True
    caller = stage.caller(stage.hub.token(stage.installation, {"metadata": "read"}))
    rules = caller("GET", f"{R}/rules/branches/main").json()
    assert [(one["type"], one["ruleset_source"]) for one in rules] == [
        ("pull_request", "team/gitops"),
        ("merge_queue", "team/gitops"),
    ]
    assert (rules[0]["parameters"], rules[0]["ruleset_id"]) == (asked, made.id)
    assert [one["type"] for one in caller("GET", f"{R}/rules/branches/mk/x").json()] == ["deletion"]
    assert [one["name"] for one in caller("GET", f"{R}/rulesets").json()] == ["main", "off", "all"]
    assert "bypass_actors" not in caller("GET", f"{R}/rulesets/{made.id}").json()
    stage.hub.collaborate(stage.repo, stage.alice, "admin")
    assert stage.as_alice("GET", f"{R}/rulesets/{made.id}").json()["bypass_actors"] == bypass
    assert caller("GET", f"{R}/rulesets/9").status_code == 404


def test_code_owners_that_are_nobody_are_told(stage: Stage) -> None:
    assert stage.as_alice("GET", f"{R}/codeowners/errors").status_code == 404
    stage.hub.commit(stage.repo, "main", {".github/CODEOWNERS": "# who\n* @alice\n/x @nobody-here\n"})
    errors = stage.as_alice("GET", f"{R}/codeowners/errors").json()["errors"]
    assert [(one["line"], one["column"], one["kind"]) for one in errors] == [(3, 4, "Unknown owner")]


# -- checks and statuses -------------------------------------------------------------------------------------------------


def test_only_an_app_writes_check_runs_and_only_its_own(stage: Stage) -> None:
    app, sha = stage.as_app, stage.repo.tip()
    body = {"name": "gate", "head_sha": sha, "status": "in_progress", "external_id": "x1"}
    refused = stage.as_alice("POST", f"{R}/check-runs", body)
    assert (refused.status_code, refused.json()["message"]) == (403, "You must authenticate via a GitHub App.")
    made = app("POST", f"{R}/check-runs", body)
    assert (made.status_code, made.json()["status"], made.json()["conclusion"]) == (201, "in_progress", None)
    number = made.json()["id"]
    note = {"path": "a.txt", "start_line": 1, "end_line": 1, "annotation_level": "warning", "message": "m"}
    output = {"title": "T", "summary": "S", "annotations": [note] * 50}
    done = app("PATCH", f"{R}/check-runs/{number}", {"conclusion": "success", "output": output})
    assert (done.json()["status"], done.json()["conclusion"]) == ("completed", "success")
    more = app("PATCH", f"{R}/check-runs/{number}", {"output": {"title": "T", "summary": "S", "annotations": [note]}})
    assert more.json()["output"]["annotations_count"] == 51
    assert len(app("GET", f"{R}/check-runs/{number}/annotations?per_page=100").json()) == 51
    other = stage.hub.app("other")
    intruder = stage.caller(stage.hub.token(stage.hub.install(other, stage.repo, {"checks": "write"})))
    assert intruder("PATCH", f"{R}/check-runs/{number}", {"conclusion": "failure"}).status_code == 403
    assert app("POST", f"{R}/check-runs", {**body, "head_sha": "0" * 40}).status_code == 422


def test_too_many_annotations_are_refused(stage: Stage) -> None:
    note = {"path": "a.txt", "start_line": 1, "end_line": 1, "annotation_level": "notice", "message": "m"}
    output = {"title": "T", "summary": "S", "annotations": [note] * 51}
    body = {"name": "gate", "head_sha": stage.repo.tip(), "output": output}
    answer = stage.as_app("POST", f"{R}/check-runs", body)
    assert answer.status_code == 422
    assert "Only 50 items are allowed; 51 were supplied." in answer.json()["message"]
    # GitHub's description says as much of the request.
    stage.hub.violations.clear()


def test_check_runs_are_listed_newest_first_and_by_filter(stage: Stage) -> None:
    hub, repo, sha = stage.hub, stage.repo, stage.repo.tip() or ""
    first = hub.check_run(repo, sha, "ci", conclusion="failure")
    second = hub.check_run(repo, sha, "ci")
    gate = hub.check_run(repo, sha, "gate", stage.app)
    caller = stage.as_app

    def ids(query: str) -> list[int]:
        told = caller("GET", f"{R}/commits/{sha}/check-runs?{query}").json()
        assert told["total_count"] == len(told["check_runs"])
        return [one["id"] for one in told["check_runs"]]

    assert ids("") == [gate.id, second.id]
    assert ids("filter=all") == [gate.id, second.id, first.id]
    assert ids("check_name=ci") == [second.id]
    assert ids(f"app_id={stage.app.id}") == [gate.id]
    assert ids("status=queued") == []
    suites = caller("GET", f"{R}/commits/{sha}/check-suites").json()
    assert [one["app"]["slug"] for one in suites["check_suites"]] == ["github-actions", "modekeeper"]
    assert caller("GET", f"{R}/commits/main/check-runs").json()["total_count"] == 2


def test_forged_checks_can_be_staged(stage: Stage) -> None:
    """What a gate must tell apart: another App, a name that looks alike, a second suite, and more than a page of runs."""
    hub, repo, sha = stage.hub, stage.repo, stage.repo.tip() or ""
    real = hub.check_run(repo, sha, "gate", stage.app, conclusion="failure")
    twin = hub.check_run(repo, sha, "gate", stage.app, new_suite=True)
    hub.check_run(repo, sha, "gate", hub.app("forger"))
    hub.check_run(repo, sha, "gate\u00a0", stage.app)
    for number in range(100):
        hub.check_run(repo, sha, f"noise {number}", stage.app)
    caller = stage.as_app
    told = caller("GET", f"{R}/commits/{sha}/check-runs?check_name=gate&app_id={stage.app.id}").json()
    assert [one["id"] for one in told["check_runs"]] == [twin.id, real.id]
    first = caller("GET", f"{R}/commits/{sha}/check-runs?per_page=100")
    assert (first.json()["total_count"], len(first.json()["check_runs"])) == (104, 100)
    assert real.id not in {one["id"] for one in first.json()["check_runs"]}
    second = caller("GET", first.links["next"]["url"]).json()
    assert real.id in {one["id"] for one in second["check_runs"]}


def test_statuses_are_combined(stage: Stage) -> None:
    caller, sha = stage.as_alice, stage.repo.tip()

    def combined() -> str:
        told = caller("GET", f"{R}/commits/{sha}/status").json()["state"]
        assert isinstance(told, str)
        return told

    assert combined() == "pending"
    for state_, whole in (("pending", "pending"), ("error", "failure"), ("success", "success")):
        body = {"state": state_, "context": "ci", "description": "d"}
        assert caller("POST", f"{R}/statuses/{sha}", body).status_code == 201
        assert combined() == whole
    assert len(caller("GET", f"{R}/commits/{sha}/statuses").json()) == 3


# -- issues, labels, comments --------------------------------------------------------------------------------------------


def test_issues_labels_and_comments(stage: Stage) -> None:
    caller, hub = stage.as_alice, stage.hub
    made = caller("POST", f"{R}/issues", {"title": "Kill", "labels": ["modekeeper/kill"]}).json()
    path = f"{R}/issues/{made['number']}"
    assert [one["name"] for one in caller("GET", f"{path}/labels").json()] == ["modekeeper/kill"]
    assert [one["number"] for one in caller("GET", f"{R}/issues?labels=modekeeper/kill&creator=alice").json()] == [1]
    assert caller("GET", f"{R}/issues?labels=none").json() == []
    assert [one["name"] for one in caller("POST", f"{path}/labels", {"labels": ["b"]}).json()] == [
        "modekeeper/kill",
        "b",
    ]
    assert [one["name"] for one in caller("PUT", f"{path}/labels", {"labels": ["c", "b"]}).json()] == ["c", "b"]
    assert [one["name"] for one in caller("DELETE", f"{path}/labels/c").json()] == ["b"]
    assert caller("DELETE", f"{path}/labels/c").json()["message"] == "Label does not exist"
    assert caller("GET", f"{R}/labels/modekeeper%2Fkill").json()["color"] == "ededed"
    assert caller("POST", f"{R}/labels", {"name": "b"}).json()["errors"][0]["code"] == "already_exists"
    assert caller("PATCH", path, {"state": "closed"}).json()["state_reason"] == "completed"
    assert caller("GET", f"{R}/issues").json() == []
    pull = stage.pull()
    hub.comment(pull, stage.bob, "hello")
    listed = caller("GET", f"{R}/issues/{pull.number}/comments").json()
    assert [(one["body"], one["user"]["id"]) for one in listed] == [("hello", stage.bob.id)]
    number = caller("POST", f"{R}/issues/{pull.number}/comments", {"body": "first"}).json()["id"]
    assert caller("PATCH", f"{R}/issues/comments/{number}", {"body": "second"}).json()["body"] == "second"
    assert caller("POST", f"{R}/issues/comments/{number}/reactions", {"content": "eyes"}).status_code == 201
    assert caller("POST", f"{R}/issues/comments/{number}/reactions", {"content": "eyes"}).status_code == 200
    assert [one["content"] for one in caller("GET", f"{R}/issues/comments/{number}/reactions").json()] == ["eyes"]
    assert caller("GET", f"{R}/issues/comments/{number}").json()["reactions"]["eyes"] == 1
    assert caller("DELETE", f"{R}/issues/comments/{number}").status_code == 204
    assert caller("GET", f"{R}/issues/comments/{number}").status_code == 404
    assert caller("GET", f"{R}/issues/{pull.number}").json()["pull_request"]["merged_at"] is None
    assert caller("PATCH", f"{R}/issues/{pull.number}", {"state": "closed"}).json()["state"] == "closed"
    assert pull.state == "closed"


# -- faults --------------------------------------------------------------------------------------------------------------


def test_an_answer_may_be_lost_after_or_before_the_effect(stage: Stage) -> None:
    caller, faults = stage.as_app, stage.hub.faults
    for kind, fault, done in (
        ("before", Fault.status(502), False),
        ("after", Fault.status_after(502), True),
        ("cut", Fault.drop(), False),
        ("lost", Fault.drop_after(), True),
    ):
        pull = stage.pull(kind)
        faults.add("PUT", f"/pulls/{pull.number}/merge", fault)
        try:
            assert caller("PUT", f"{R}/pulls/{pull.number}/merge").status_code == 502
        except requests.ConnectionError:
            assert kind in ("cut", "lost")
        assert pull.merged is done
        assert [one.status for one in stage.hub.requests] == [502 if kind in ("before", "after") else 0]
        stage.hub.requests.clear()
    assert faults.pending == 0


def test_faults_are_counted_by_match(stage: Stage) -> None:
    caller, seen = stage.as_alice, list[int]()
    stage.hub.faults.add("GET", r"/pulls\?state=all", Fault.status(500), nth=2, times=2)
    stage.hub.faults.add("*", "/labels", Fault.headers(403, {"Retry-After": "60"}, {"message": "secondary rate limit"}))
    stage.hub.faults.add("GET", "/issues", Fault.before(lambda: seen.append(1)))
    stage.hub.faults.add("GET", "/issues", Fault.after(lambda: seen.append(2)))
    assert [caller("GET", f"{R}/pulls?state=all").status_code for _ in range(4)] == [200, 500, 500, 200]
    limited = caller("GET", f"{R}/labels")
    assert (limited.status_code, limited.headers["Retry-After"]) == (403, "60")
    assert caller("GET", f"{R}/labels").status_code == 200
    assert caller("GET", f"{R}/issues").status_code == 200
    assert seen == [1, 2]


# -- GraphQL -------------------------------------------------------------------------------------------------------------

COMMIT = "mutation($i: CreateCommitOnBranchInput!) { createCommitOnBranch(input: $i) { commit { oid } ref { name } } }"


@pytest.mark.parametrize("validate", [True, False])
def test_a_commit_by_graphql_is_compare_and_swap(tmp_path: Path, validate: bool) -> None:
    with GitHub(tmp_path, validate=validate, clock=lambda: START) as hub:
        repo = hub.repo("team/gitops")
        tip = hub.commit(repo, "mk/x", {"a": "1", "deep/b": "2"})
        app = hub.app("modekeeper")
        number = hub.install(app, repo, {"contents": "write"})
        caller = Caller(hub, hub.token(number))
        with caller.session:
            branch = {"repositoryNameWithOwner": "team/gitops", "branchName": "mk/x"}
            files = {
                "additions": [{"path": "new/c", "contents": base64.b64encode(b"3").decode()}],
                "deletions": [{"path": "deep/b"}],
            }
            given = {
                "branch": branch,
                "expectedHeadOid": tip,
                "message": {"headline": "H", "body": "B"},
                "fileChanges": files,
            }
            made = caller.graphql(COMMIT, i=given)["data"]["createCommitOnBranch"]
            commit = repo.git.commit(made["commit"]["oid"])
            assert (repo.tip("mk/x"), commit.parents, commit.message) == (commit.sha, (tip,), "H\n\nB")
            assert [path for path, _ in repo.git.files(commit.tree)] == ["a", "new/c"]
            assert commit.author[:2] == (
                "modekeeper[bot]",
                f"{app.bot.id}+modekeeper[bot]@users.noreply.github.com",
            )
            assert commit.committer[:3] == ("GitHub", "noreply@github.com", int(START))
            again = caller.graphql(COMMIT, i=given)
            assert (again["errors"][0]["type"], again["data"]) == ("STALE_DATA", {"createCommitOnBranch": None})
            repo.protect("mk/*", approvals=1)
            given["expectedHeadOid"] = commit.sha
            assert (
                "through a pull request"
                in caller.graphql(COMMIT, i={**given, "fileChanges": {}})["errors"][0]["message"]
            )


@pytest.mark.parametrize("validate", [True, False])
def test_graphql_knows_drafts_queues_and_decisions(tmp_path: Path, validate: bool) -> None:
    with GitHub(tmp_path, validate=validate) as hub:
        alice, bob = hub.user("alice"), hub.user("bob")
        repo = hub.repo("alice/x")
        hub.collaborate(repo, bob)
        hub.commit(repo, "main", {"a": "1"})
        hub.commit(repo, "topic", {"a": "2"})
        pull = hub.open_pr(repo, "topic", by=alice, draft=True)
        caller = Caller(hub, hub.token(alice, ALL))
        with caller.session:
            node = caller("GET", "/repos/alice/x/pulls/1").json()["node_id"]
            ready = "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft } } }"
            draft = "mutation($id: ID!) { convertPullRequestToDraft(input: {pullRequestId: $id}) { pullRequest { isDraft } } }"
            for query, is_draft in ((ready, False), (draft, True), (ready, False)):
                told = caller.graphql(query, id=node)["data"]
                assert [one["pullRequest"]["isDraft"] for one in told.values()] == [is_draft]
            query = (
                'query { repository(owner: "alice", name: "x") { mergeQueue(branch: "main") { id } pullRequest(number: 1) '
                "{ reviewDecision isInMergeQueue headRefOid mergeable mergeStateStatus author { login } } } }"
            )
            found = caller.graphql(query)["data"]["repository"]
            assert found["mergeQueue"] is None
            assert found["pullRequest"] == {
                "reviewDecision": None,
                "isInMergeQueue": False,
                "headRefOid": pull.head_sha,
                "mergeable": "MERGEABLE",
                "mergeStateStatus": "CLEAN",
                "author": {"login": "alice"},
            }
            repo.queue, pull.queued = True, True
            repo.protect("main", approvals=1)
            found = caller.graphql(query)["data"]["repository"]
            assert found["mergeQueue"]["id"]
            assert (found["pullRequest"]["isInMergeQueue"], found["pullRequest"]["reviewDecision"]) == (
                True,
                "REVIEW_REQUIRED",
            )
            hub.review(pull, bob)
            assert caller.graphql(query)["data"]["repository"]["pullRequest"]["reviewDecision"] == "APPROVED"
            absent = caller.graphql('query { repository(owner: "alice", name: "y") { id } }')
            assert (absent["errors"][0]["type"], absent["data"]) == ("NOT_FOUND", {"repository": None})


def test_a_field_that_github_does_not_have_is_noticed(tmp_path: Path) -> None:
    hub = GitHub(tmp_path)
    caller = Caller(hub, hub.token(hub.user("alice"), ALL))
    with caller.session:
        assert "errors" in caller.graphql("query { viewer { logon } }")
    with pytest.raises(AssertionError, match="Cannot query field"), hub:
        pass


# -- by PyGithub ---------------------------------------------------------------------------------------------------------


def test_pygithub_finds_nothing_odd(stage: Stage) -> None:
    def client(auth: github.Auth.Auth) -> github.Github:
        return github.Github(
            base_url=stage.hub.api, auth=auth, retry=None, seconds_between_requests=0, seconds_between_writes=0
        )

    # The App's own way in asks the machine's clock.
    stage.hub.now = __import__("time").time
    app = github.Auth.AppAuth(stage.app.id, stage.app.private_key)
    integration = github.GithubIntegration(base_url=stage.hub.api, auth=app, retry=None, seconds_between_requests=0)
    token = integration.get_access_token(integration.get_repo_installation("team", "gitops").id).token
    gh, alice = client(github.Auth.Token(token)), client(github.Auth.Token(stage.hub.token(stage.alice, ALL)))
    repo = gh.get_repo("team/gitops")
    main = repo.get_branch("main")
    repo.create_git_ref("refs/heads/mk/x", main.commit.sha)
    stage.hub.commit(stage.repo, "mk/x", {"x": "1\n"})
    pull = repo.create_pull(base="main", head="mk/x", title="T", body="B")
    pull.add_to_labels("modekeeper")
    pull.create_issue_comment("hello")
    run = repo.create_check_run("gate", pull.head.sha, status="in_progress")
    run.edit(conclusion="success", output={"title": "T", "summary": "S"})
    alice.get_repo("team/gitops").get_pull(pull.number).create_review(event="APPROVE")
    assert [(one.user.login, one.state) for one in pull.get_reviews()] == [("alice", "APPROVED")]
    assert [one.name for one in repo.get_commit(pull.head.sha).get_check_runs()] == ["gate"]
    assert [one.filename for one in pull.get_files()] == ["x"]
    assert [one.number for one in repo.get_pulls(state="all", head="team:mk/x")] == [pull.number]
    with pytest.raises(github.GithubException) as refused:
        pull.merge(sha="0" * 40)
    assert refused.value.status == 409
    assert pull.merge(sha=pull.head.sha, merge_method="squash", commit_title="T").merged
    assert repo.get_pull(pull.number).merged
    for each in (gh, alice):
        each.close()
    integration.close()


# -- many at once --------------------------------------------------------------------------------------------------------


def test_many_callers_open_one_pull_request(stage: Stage) -> None:
    from concurrent.futures import ThreadPoolExecutor

    stage.hub.commit(stage.repo, "topic", {"x": "1"})
    body = {"title": "T", "head": "topic", "base": "main"}
    callers = [stage.as_app for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda caller: caller("POST", f"{R}/pulls", body).status_code, callers))
    assert sorted(statuses) == [201, *[422] * 7]
