"""How GitHub is spoken to: at its pace, within its limits, to its host alone, never twice for one write, and never taken at a guess."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitops_mk.adapters.github import api as api_module
from gitops_mk.adapters.github import transport
from gitops_mk.adapters.github.api import Api, Refused, Unanswered, minter
from gitops_mk.adapters.github.auth import (
    MARGIN,
    PERMISSIONS,
    Address,
    AppCredentials,
    TokenCredentials,
    address_of,
    find_credentials,
)
from gitops_mk.adapters.github.budget import SECONDARY_WAIT_S
from gitops_mk.adapters.github.pulls import Pulls
from gitops_mk.adapters.github.wire import Bag
from gitops_mk.errors import ConfigError, ForgeError
from gitops_mk.model.change import Person, PullRequest
from tests.support.github import GitHub
from tests.support.github.faults import Fault
from tests.support.github.records import App, Repo, Request
from tests.support.github_world import RIGHTS, TOKEN_RIGHTS, HubWorld
from tests.support.make import StandingClock

NAME = "team/gitops"
PATH = f"/repos/{NAME}"


class Line:
    """A GitHub, a clock that stands, and connections to it."""

    def __init__(self, hub: GitHub, repo: Repo, clock: StandingClock) -> None:
        self.hub, self.repo, self.clock = hub, repo, clock
        self.bot = hub.user("mk-bot")
        hub.collaborate(repo, self.bot, "write")

    def api(self, *, pace_s: float = 0.0, token: str | None = None) -> Api:
        made = TokenCredentials(token or self.hub.token(self.bot, TOKEN_RIGHTS))
        return Api(self.hub.api, made, self.clock, pace_s=pace_s)

    def app(self) -> tuple[App, int]:
        app = self.hub.app("modekeeper")
        return app, self.hub.install(app, self.repo, permissions={**RIGHTS, "actions": "write"})

    def app_credentials(self, app: App, key: str | None = None) -> AppCredentials:
        address = Address(self.hub.api, "127.0.0.1", NAME)
        return AppCredentials(
            str(app.id), key or app.private_key, address, mint=minter(self.hub.api), now=self.clock.now
        )

    def sent(self, path: str = "", method: str | None = None) -> list[Request]:
        return [r for r in self.hub.requests if path in r.path and method in (None, r.method)]


@pytest.fixture(scope="module")
def hub(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GitHub, Repo, StandingClock]]:
    clock = StandingClock()
    with GitHub(tmp_path_factory.mktemp("api"), validate=False, clock=lambda: clock.now().timestamp()) as made:
        yield made, made.repo(NAME, embedded), clock


@pytest.fixture
def line(hub: tuple[GitHub, Repo, StandingClock], monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    made = Line(*hub)
    made.hub.requests.clear()
    made.clock.slept.clear()
    monkeypatch.setattr("github.Auth.time", SimpleNamespace(time=lambda: made.clock.now().timestamp()))
    yield made
    made.hub.faults.clear()
    made.hub.limit = (15_000, 3600.0)


def limited(headers: Mapping[str, str], code: int = 403) -> Fault:
    return Fault.headers(code, headers, {"message": "no"})


# -- pace and limits -----------------------------------------------------------------------------------------------------


def test_writes_are_a_second_apart_and_reads_are_not(line: Line) -> None:
    api = line.api(pace_s=1.0)
    for number in range(3):
        api.get(PATH)
        api.send("POST", f"{PATH}/labels", {"name": f"pace-{number}"})
    assert line.clock.slept == [1.0, 1.0]
    line.clock.advance(0.25)
    api.send("POST", f"{PATH}/labels", {"name": "pace-more"})
    assert line.clock.slept[2:] == [0.75]


NOW_S = 1_772_366_400
MIXES: dict[str, tuple[Mapping[str, str], float | None]] = {
    # Headers, and how long is waited on the spot; None: it is told instead.
    "retry-after": ({"Retry-After": "7"}, 7.0),
    "retry-after nothing": ({"Retry-After": "0"}, 0.0),
    "retry-after before the reset": (
        {"Retry-After": "5", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "+3600"}, 5.0,
    ),
    "a reset soon": ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "+20"}, 21.0),
    "a reset in the past": ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "-50"}, SECONDARY_WAIT_S),
    "a reset in an hour": ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "+3600"}, None),
    "a reset that is none": ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, SECONDARY_WAIT_S),
    "no reset": ({"X-RateLimit-Remaining": "0"}, SECONDARY_WAIT_S),
    "retry-after by date": ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, SECONDARY_WAIT_S),
    "retry-after nan": ({"Retry-After": "nan"}, SECONDARY_WAIT_S),
    "retry-after below nothing": ({"Retry-After": "-3"}, SECONDARY_WAIT_S),
    "retry-after for a day": ({"Retry-After": "86400"}, None),
}  # fmt: skip


def at(line: Line, headers: Mapping[str, str]) -> dict[str, str]:
    """Resets given by how far off they are."""
    now = int(line.clock.now().timestamp())
    return {
        name: str(now + int(value)) if "Reset" in name and value[:1] in "+-" else value
        for name, value in headers.items()
    }


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("mix", MIXES)
def test_too_fast_is_waited_for_or_told(line: Line, mix: str, write: bool) -> None:
    headers, wait = MIXES[mix]
    api = line.api()
    line.hub.faults.add("*", "/labels", limited(at(line, headers)))
    act: Callable[[], Any] = lambda: (  # noqa: E731
        api.send("POST", f"{PATH}/labels", {"name": f"l-{mix}-{write}"}) if write else api.get(f"{PATH}/labels")
    )
    if wait is None:
        with pytest.raises(ForgeError) as caught:
            act()
        assert caught.value.retryable
        asked = len(line.sent("/labels"))
        with pytest.raises(ForgeError, match="of silence"):
            api.get(PATH, urgent=True)
        assert len(line.hub.requests) == asked, "silence is kept, by what is urgent, too"
        line.clock.advance(3601)
        assert api.get(PATH)["full_name"] == NAME
        return
    act()
    assert sum(line.clock.slept) == wait
    assert len(line.sent("/labels")) == 2


def test_again_and_again_is_waited_for_longer_and_then_told(line: Line) -> None:
    api = line.api()
    line.hub.faults.add("GET", "/labels", limited({}, 429), times=9)
    with pytest.raises(Refused, match="120 s of silence") as caught:
        api.get(f"{PATH}/labels")
    assert caught.value.retryable
    assert line.clock.slept == [SECONDARY_WAIT_S]
    assert len(line.sent("/labels")) == 2
    line.hub.faults.clear()
    line.clock.advance(121)
    api.get(f"{PATH}/labels")
    line.hub.faults.add("GET", "/labels", limited({}, 429))
    line.clock.slept.clear()
    api.get(f"{PATH}/labels")
    assert line.clock.slept == [SECONDARY_WAIT_S], "an answer that went well begins anew"


def test_one_without_an_end_ends(line: Line) -> None:
    api = line.api()
    line.hub.faults.add("GET", "/labels", limited({"Retry-After": "1"}, 429), times=9)
    with pytest.raises(Refused, match="again and again"):
        api.get(f"{PATH}/labels")
    assert len(line.sent("/labels")) == 3


def test_a_secondary_limit_is_known_by_its_words(line: Line) -> None:
    api = line.api()
    said = {"message": "You have exceeded a secondary rate limit. Please wait."}
    line.hub.faults.add("GET", "/labels", Fault.status(403, said))
    api.get(f"{PATH}/labels")
    assert line.clock.slept == [SECONDARY_WAIT_S]


def test_a_permission_that_is_lacking_is_final(line: Line) -> None:
    api = line.api(token=line.hub.token(line.bot, {"metadata": "read"}))
    with pytest.raises(Refused, match="not accessible") as caught:
        api.send("POST", f"{PATH}/labels", {"name": "x"})
    assert (caught.value.status, caught.value.retryable) == (403, False)
    assert caught.value.hint is not None
    assert line.clock.slept == []
    assert len(line.sent("/labels")) == 1


@pytest.mark.parametrize("left", ["", "x", "-1", "1e400", "nan", "0x10"])
def test_headers_that_are_no_numbers_stop_nobody(line: Line, left: str) -> None:
    api = line.api()
    for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"):
        line.hub.faults.add("GET", "/labels", Fault.headers(200, {name: left}, []))
    assert api.get(f"{PATH}/labels") == []


def test_the_reserve_is_for_what_is_urgent(line: Line) -> None:
    line.hub.limit = (100, 600.0)
    api = line.api()
    for _ in range(89):
        api.get(PATH)
    api.get(PATH)
    with pytest.raises(ForgeError, match="kept for closing and merging") as caught:
        api.get(PATH)
    assert caught.value.retryable
    asked = len(line.hub.requests)
    with pytest.raises(ForgeError):
        api.send("POST", f"{PATH}/labels", {"name": "not-now"})
    assert len(line.hub.requests) == asked
    api.get(PATH, urgent=True)
    api.send("POST", f"{PATH}/labels", {"name": "now"}, urgent=True)
    line.clock.advance(601)
    api.get(PATH)


def test_graphql_has_a_budget_of_its_own(line: Line) -> None:
    api = line.api()
    line.hub.limit = (100, 600.0)
    headers = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4999", "X-RateLimit-Reset": "9999999999",
               "X-RateLimit-Resource": "graphql"}  # fmt: skip
    api.get(PATH)
    known = api.budget.remaining
    line.hub.faults.add("POST", "graphql", Fault.headers(200, headers, {"data": {}}))
    api.graphql("query{viewer{login}}", {})
    assert api.budget.remaining == known
    assert api.calls == {"GET": 1, "GraphQL": 1}


# -- reading -------------------------------------------------------------------------------------------------------------


def test_polling_is_conditional_and_nothing_else_is(line: Line) -> None:
    api = line.api()
    query = {"state": "all", "per_page": 100}
    changed, first = api.poll(f"{PATH}/pulls", query)
    assert (changed, line.sent("/pulls")[-1].conditional) == (True, False)
    spent = api.budget.remaining
    assert api.poll(f"{PATH}/pulls", query) == (False, first)
    assert (line.sent("/pulls")[-1].conditional, line.sent("/pulls")[-1].status) == (True, 304)
    assert api.budget.remaining == spent
    assert api.get(f"{PATH}/pulls", query) == first
    assert not line.sent("/pulls")[-1].conditional
    api.forget(f"{PATH}/pulls")
    assert api.poll(f"{PATH}/pulls", query)[0]


def test_a_304_that_nobody_asked_for_is_no_answer(line: Line) -> None:
    line.hub.faults.add("GET", PATH, Fault.status(304))
    with pytest.raises(ForgeError):
        Bag(line.api().get(PATH), "repository")


def test_what_the_gate_looks_at_is_never_conditional(world: HubWorld) -> None:
    forge = world.forge()
    world.propose(forge)
    forge.refresh()
    world.hub.requests.clear()
    pr = forge.live(1)
    assert pr is not None
    forge.standing(pr)
    assert len(world.hub.requests) > 3
    assert not any(r.conditional for r in world.hub.requests)


def test_a_listing_is_read_to_its_end(line: Line) -> None:
    line.repo.labels.clear()
    for number in range(230):
        line.hub.label(line.hub.issue(line.repo, line.bot, "x"), f"label-{number}")
    api = line.api()
    assert len(list(api.pages(f"{PATH}/labels"))) == 230
    assert [r.query["page"] for r in line.sent("/labels")] == ["1", "2", "3"]


def test_a_listing_without_an_end_is_told(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "MAX_PAGES", 3)
    line.hub.faults.add("GET", "/labels", Fault.status(200, [{}] * 100), times=99)
    with pytest.raises(ForgeError, match="more than 300 entries"):
        list(line.api().pages(f"{PATH}/labels"))
    assert len(line.sent("/labels")) == 3


@pytest.mark.parametrize("body", [{}, "x", 5, {"check_runs": 5}])
def test_a_listing_that_is_none_is_told(line: Line, body: Any) -> None:
    line.hub.faults.add("GET", "/labels", Fault.status(200, body), times=9)
    with pytest.raises(ForgeError, match="no listing"):
        list(line.api().pages(f"{PATH}/labels", of="check_runs" if isinstance(body, dict) and body else None))


def test_a_huge_answer_is_not_read_to_its_end(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER", 1000)
    line.hub.faults.add("GET", "/labels", Fault.status(200, ["x" * 100_000]))
    with pytest.raises(ForgeError, match="more than"):
        line.api().get(f"{PATH}/labels")
    assert len(line.sent("/labels")) == 1


@pytest.mark.parametrize("text", ["<html>", "{", "", "[" * 100_000])
def test_an_answer_that_is_no_json_is_asked_for_again_and_told(line: Line, text: str) -> None:
    with evil({"body": text}) as (url, seen):
        api = Api(f"{url}/api/v3", TokenCredentials("t"), line.clock)
        with pytest.raises(ForgeError):
            Bag(api.get("/x"), "x")
        assert len(seen) == (1 if text == "" else 3)


# -- writing -------------------------------------------------------------------------------------------------------------

LOST: dict[str, Callable[[], Fault]] = {
    "502 after": lambda: Fault.status_after(502), "502 before": lambda: Fault.status(502),
    "dropped": Fault.drop, "dropped after": Fault.drop_after,
}  # fmt: skip


@pytest.mark.parametrize("fault", LOST)
def test_a_write_without_an_answer_is_sent_once_and_a_read_again(line: Line, fault: str) -> None:
    api = line.api()
    line.hub.faults.add("*", "/labels", LOST[fault](), times=2)
    with pytest.raises(Unanswered):
        api.send("POST", f"{PATH}/labels", {"name": f"once-{fault}"})
    assert len(line.sent("/labels", "POST")) == 1
    line.hub.faults.clear()
    line.hub.faults.add("GET", "/labels", LOST[fault](), times=2)
    api.get(f"{PATH}/labels")
    assert len(line.sent("/labels", "GET")) == 3


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize(
    ("path", "act"),
    [
        ("/pulls$", lambda world, forge: world.propose(forge)),
        ("/check-runs$", lambda world, forge: world.verify(forge)),
        ("/merge$", lambda world, forge: world.apply(forge)),
    ],
)  # fmt: skip
def test_every_write_that_is_lost_is_looked_up_first(
    world: HubWorld, fault: str, path: str, act: Callable[[HubWorld, Any], Any]
) -> None:
    forge = world.forge()
    if path != "/pulls$":
        world.propose(forge)
    if path == "/merge$":
        world.verify(forge)
    took = fault.endswith("after")
    world.hub.faults.add("*", path, LOST[fault]())
    try:
        act(world, forge)
    except ForgeError:
        assert not took, "what took effect is found"
    method = "PUT" if path == "/merge$" else "POST"
    sent = [r for r in world.hub.requests if r.method == method and r.path.endswith(path.rstrip("$"))]
    verified = [r for r in sent if "modekeeper/gate" not in str(r.body)]
    assert len(verified) == (2 if path == "/check-runs$" and not took else 1)
    runs = [run for run in world.repo.runs.values() if run.name == "modekeeper/verify"]
    assert len(runs) <= 1
    assert len(world.repo.pulls) <= 1


def test_a_check_as_a_status_is_written_once_however_often_it_is_told(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub takes a thousand statuses of one name on a commit, and no more."""
    from tests.support.github_world import hub_world

    with hub_world(tmp_path, embedded, monkeypatch, as_app=False) as world:
        forge = world.forge()
        world.propose(forge)
        for _ in range(3):
            applied = world.apply(world.forge())
            assert not applied.ok
        gates = [s for many in world.repo.statuses.values() for s in many if s.context == "modekeeper/gate"]
        assert len(gates) == 1
        assert len(gates[0].description or "") <= 140


# -- tokens --------------------------------------------------------------------------------------------------------------


def test_a_token_that_is_not_known_is_told_at_once(line: Line) -> None:
    api = line.api(token="github_pat_gone")
    with pytest.raises(Refused, match="401") as caught:
        api.get(PATH)
    assert caught.value.status == 401
    assert len(line.hub.requests) == 1


def test_an_app_gets_one_new_token_and_no_more(line: Line) -> None:
    app, _ = line.app()
    credentials = line.app_credentials(app)
    api = Api(line.hub.api, credentials, line.clock)
    api.get(PATH)
    line.hub.expire(credentials.token())
    assert api.get(PATH)["full_name"] == NAME
    assert len(line.sent("access_tokens")) == 2
    line.hub.faults.add("GET", f"{PATH}$", Fault.status(401), times=9)
    line.hub.requests.clear()
    with pytest.raises(Refused, match="401"):
        api.get(PATH)
    assert (len(line.sent("access_tokens")), len(line.sent(PATH, "GET"))) == (1, 3)


def test_a_token_is_asked_for_five_minutes_before_it_ends(line: Line) -> None:
    app, _ = line.app()
    api = Api(line.hub.api, line.app_credentials(app), line.clock)
    api.get(PATH)
    line.clock.advance(3600 - MARGIN.total_seconds() - 1)
    api.get(PATH)
    assert len(line.sent("access_tokens")) == 1
    line.clock.advance(1)
    api.get(PATH)
    assert len(line.sent("access_tokens")) == 2


def test_a_token_is_for_this_repository_and_for_no_more_than_is_needed(line: Line, tmp_path: Path) -> None:
    app, _ = line.app()
    credentials = line.app_credentials(app)
    token = credentials.token()
    (asked,) = line.sent("access_tokens")
    assert asked.body["repositories"] == ["gitops"]
    assert set(asked.body["permissions"]) <= set(PERMISSIONS)
    assert "actions" not in asked.body["permissions"]
    made = line.hub.tokens[token]
    assert made.repos == [line.repo]
    assert made.permissions["administration"] == "read"
    assert token not in repr(credentials)
    assert token not in repr(vars(credentials).keys())


def test_the_key_is_shown_for_minting_alone(line: Line) -> None:
    app, _ = line.app()
    api = Api(line.hub.api, line.app_credentials(app), line.clock)
    api.get(PATH)
    for request in line.hub.requests:
        signed = request.headers["Authorization"].count(".") == 2
        assert signed is (request.path.endswith("/installation") or "access_tokens" in request.path)


@pytest.mark.parametrize("what", ["suspended", "removed", "rotated", "unknown app"])
def test_an_app_that_may_no_more_is_told(line: Line, what: str) -> None:
    app, installation = line.app()
    credentials = line.app_credentials(app)
    api = Api(line.hub.api, credentials, line.clock)
    api.get(PATH)
    if what == "suspended":
        line.hub.suspend(installation)
    elif what == "removed":
        line.hub.uninstall(installation)
    elif what == "rotated":
        line.hub.rotate_key(app)
        line.hub.expire(credentials.token())
    else:
        del line.hub.apps[app.id]
        line.hub.expire(credentials.token())
    line.hub.requests.clear()
    try:
        with pytest.raises(Refused) as caught:
            api.get(PATH)
        assert caught.value.message
        assert len(line.hub.requests) <= 4
    finally:
        line.hub.suspend(installation, False)
        line.hub.installations[installation].removed = what == "removed"
        line.hub.apps[app.id] = app
    if what == "rotated":
        assert Api(line.hub.api, line.app_credentials(app), line.clock).get(PATH)["full_name"] == NAME


@pytest.mark.parametrize(
    "key", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)  # fmt: skip
def test_a_key_that_is_none_is_told_without_a_word_of_it(line: Line, key: str) -> None:
    app, _ = line.app()
    with pytest.raises(ConfigError) as caught:
        line.app_credentials(app, key or "x").token()
    assert "AAAA" not in caught.value.message
    assert line.hub.requests == []


@pytest.mark.parametrize(
    "body",
    [
        None, [], {}, {"token": None, "expires_at": "2026-03-01T13:00:00Z"}, {"token": "t", "expires_at": None},
        {"token": "t\nX: y", "expires_at": "2026-03-01T13:00:00Z"}, {"token": "t", "expires_at": "soon"},
        {"token": "t", "expires_at": "2026-03-01T13:00:00"}, {"token": "", "expires_at": "2026-03-01T13:00:00Z"},
    ],
)  # fmt: skip
def test_a_token_that_is_none_is_told(line: Line, body: Any) -> None:
    app, _ = line.app()
    line.hub.faults.add("POST", "access_tokens", Fault.status(201, body if body is not None else "null"))
    with pytest.raises(ForgeError):
        line.app_credentials(app).token()


@pytest.mark.parametrize("body", [[], {"id": "1"}, {"id": None}, {"id": 1, "permissions": []}, {"permissions": {}}])
def test_an_installation_that_is_none_is_told(line: Line, body: Any) -> None:
    app, _ = line.app()
    line.hub.faults.add("GET", "/installation$", Fault.status(200, body))
    with pytest.raises(ForgeError):
        line.app_credentials(app).token()
    assert line.sent("access_tokens") == []


def test_what_the_environment_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: Line) -> None:
    address = Address(line.hub.api, "127.0.0.1", NAME)

    def found() -> Any:
        return find_credentials(address, mint=minter(line.hub.api), now=line.clock.now)

    names = (
        "MODEKEEPER_GITHUB_APP_ID",
        "MODEKEEPER_GITHUB_APP_KEY_PATH",
        "MODEKEEPER_GITHUB_TOKEN",
        "MODEKEEPER_GIT_TOKEN",
    )
    for name in names:
        monkeypatch.delenv(name, raising=False)
    assert found() is None
    monkeypatch.setenv("MODEKEEPER_GIT_TOKEN", "from-git")
    assert found().token() == "from-git"
    monkeypatch.setenv("MODEKEEPER_GITHUB_TOKEN", " ours\n")
    assert found().token() == "ours"
    for bad in ("a b", "a\tb", "tökén"):
        monkeypatch.setenv("MODEKEEPER_GITHUB_TOKEN", bad)
        with pytest.raises(ConfigError) as caught:
            found()
        assert bad not in caught.value.message
    key = tmp_path / "key.pem"
    monkeypatch.setenv("MODEKEEPER_GITHUB_APP_ID", "7")
    with pytest.raises(ConfigError, match="MODEKEEPER_GITHUB_APP_KEY_PATH is not set"):
        found()
    monkeypatch.setenv("MODEKEEPER_GITHUB_APP_KEY_PATH", str(key))
    with pytest.raises(ConfigError, match="can't be read"):
        found()
    for content in (b"", b"x" * 70_000 + b"PRIVATE KEY-----", b"ssh-rsa AAAA"):
        key.write_bytes(content)
        with pytest.raises(ConfigError, match="no private key"):
            found()
    app, _ = line.app()
    key.write_text(app.private_key)
    monkeypatch.setenv("MODEKEEPER_GITHUB_APP_ID", "seven")
    with pytest.raises(ConfigError, match="expected the App's number"):
        found()
    monkeypatch.setenv("MODEKEEPER_GITHUB_APP_ID", str(app.id))
    assert isinstance(found(), AppCredentials)


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/team/gitops.git", ("https://api.github.com", "team/gitops")),
        ("https://GitHub.com/team/gitops/", ("https://api.github.com", "team/gitops")),
        ("git@github.com:team/gitops.git", ("https://api.github.com", "team/gitops")),
        ("ssh://git@ghe.example:2222/team/gitops", ("https://ghe.example/api/v3", "team/gitops")),
        ("https://user:secret@ghe.example:8443/team/gitops", ("https://ghe.example:8443/api/v3", "team/gitops")),
        ("http://ghe.example/team/gitops", None), ("/srv/gitops.git", None), ("https://github.com/team", None),
        ("https://github.com/team/gitops/tree/main", None), ("https://evil\\@github.com/a/b c", None),
        ("file:///srv/team/gitops", None),
    ],
)  # fmt: skip
def test_the_host_is_that_of_the_remote(remote: str, expected: tuple[str, str] | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError) as caught:
            address_of(remote)
        assert "secret" not in caught.value.message
        return
    found = address_of(remote)
    assert (found.api, found.name) == expected


# -- other hosts ---------------------------------------------------------------------------------------------------------


@contextmanager
def evil(answer: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server of somebody else's, which answers all alike; and the headers of each request it gets."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers.items()))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = str(answer.get("body", "{}")).encode()
            self.send_response(answer.get("status", 200))
            for name, value in answer.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_redirect_goes_nowhere_else(line: Line, verb: str, status: int, host: str) -> None:
    with evil({}) as (url, seen):
        where = f"{url.replace('127.0.0.1', host)}/api/v3{PATH}"
        line.hub.faults.add("*", "/labels", Fault.headers(status, {"Location": where}, {"message": "moved"}))
        api = line.api()
        path = f"{PATH}/labels"
        act = partial(api.get, path) if verb == "GET" else partial(api.send, verb, path, {"name": "x"})
        with suppress(ForgeError):
            # PyGithub follows a 301 by its path alone, on the connection that it has.
            act()
        assert seen == []
        assert len(line.sent("/labels")) == 1


def test_addresses_within_answers_are_never_followed(line: Line) -> None:
    with evil({}) as (url, seen):
        link = f'<{url}/api/v3/page2>; rel="next", <{url}/last>; rel="last"'
        rows = [{"name": f"{n}", "url": f"{url}/x", "_links": {"self": {"href": url}}} for n in range(100)]
        line.hub.faults.add("GET", "/labels", Fault.headers(200, {"Link": link, "Location": url}, rows))
        found = list(line.api().pages(f"{PATH}/labels"))
        assert len(found) >= 100
        assert seen == []
        assert [r.query["page"] for r in line.sent("/labels")] == ["1", "2"] or len(line.sent("/labels")) > 2


def test_credentials_of_other_programs_are_not_sent(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password netrc-secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    line.api().get(PATH)
    (request,) = line.hub.requests
    assert request.headers["Authorization"].startswith("token ") or request.headers["Authorization"].startswith(
        "Bearer "
    )


def test_python_without_its_assertions_is_refused(line: Line) -> None:
    code = (
        "from gitops_mk.adapters.clock import SystemClock\nfrom gitops_mk.adapters.github.api import Api, minter\n"
        "from gitops_mk.adapters.github.auth import TokenCredentials\nfrom gitops_mk.errors import ConfigError\n"
        "for act in (lambda: Api(URL, TokenCredentials('t'), SystemClock()), lambda: minter(URL)(None, 'GET', '/app', None)):\n"
        "    try:\n        act()\n    except ConfigError as exc:\n        print(exc.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", f"URL = {line.hub.api!r}\n{code}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("python -O") == 2, done.stderr
    assert line.hub.requests == []


# -- answers of other kinds ----------------------------------------------------------------------------------------------

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**25), st.floats(), st.text(max_size=12), st.just([]), st.just({}),
    st.just([None]), st.just(["x"]), st.just([{}]), st.just({"id": "x"}), st.just("main"), st.just("\ud800"),
)  # fmt: skip


class Tips:
    """A clone that has no branch."""

    class repo:
        @staticmethod
        def resolve(sha: str) -> None:
            return None

    @staticmethod
    def tip(branch: str) -> None:
        return None


@pytest.fixture(scope="module")
def sample(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], int, Person]]:
    """A pull request of ours as GitHub tells it."""
    from tests.support.github_world import hub_world

    with pytest.MonkeyPatch.context() as patch, hub_world(tmp_path_factory.mktemp("s"), embedded, patch) as world:
        forge = world.forge()
        proposal = world.propose(forge)
        assert proposal.pr is not None
        yield forge.api.get(f"{PATH}/pulls/1"), world.repo.id, forge.identity


def paths_of(value: Any, depth: int = 0) -> list[tuple[Any, ...]]:
    if depth > 3 or not isinstance(value, dict):
        return [()]
    return [()] + [(key, *rest) for key, child in value.items() for rest in paths_of(child, depth + 1)]


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    made = copy.copy(data)
    made[path[0]] = replaced(data[path[0]], path[1:], value)
    return made


def read_of(data: Any, repo: int, us: Person) -> PullRequest | None:
    clone: Any = Tips()
    return Pulls(clone, repo, us).read(Bag(data, "pull request"), (), ())


USED = {
    "number", "title", "state", "draft", "head", "base", "user", "labels", "created_at", "updated_at", "merged_at", "body"
}  # fmt: skip


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_field_of_another_kind_is_told_and_never_guessed(
    sample: tuple[dict[str, Any], int, Person], data: st.DataObject
) -> None:
    whole, repo, us = sample
    expected = read_of(whole, repo, us)
    assert expected is not None
    path = data.draw(st.sampled_from(paths_of(whole)))
    value = data.draw(VALUES)
    try:
        found = read_of(replaced(whole, path, value), repo, us)
    except ForgeError:
        return
    if found is None or not path or path[0] not in USED:
        assert found in (None, expected) or not path
        return
    # What was taken is what was said, and of its kind.
    assert isinstance(found.draft, bool)
    if path == ("draft",):
        assert found.draft is (value is True)
    if path == ("state",):
        assert value in ("open", "closed")
    if path == ("merged_at",):
        assert found.state == "open"


@pytest.mark.parametrize("field", sorted(USED))
@pytest.mark.parametrize("value", [None, True, 5, "x", [], {}, ["x"]])
def test_each_field_that_is_read_is_of_its_kind(
    sample: tuple[dict[str, Any], int, Person], field: str, value: Any
) -> None:
    whole, repo, us = sample
    if field == "merged_at":
        whole = {**whole, "state": "closed"}
    expected = read_of(whole, repo, us)
    try:
        found = read_of({**whole, field: value}, repo, us)
    except ForgeError:
        return
    fine: dict[str, tuple[Any, ...]] = {
        "number": (5,), "title": ("x",), "draft": (None, True), "user": (None,), "labels": (None, []),
        "merged_at": (None,), "body": (None, "x"),
    }  # fmt: skip
    assert any(value is one or (value == one and type(value) is type(one)) for one in fine.get(field, ())), found
    assert found != expected or value in (None, [])


@pytest.mark.parametrize("name", ["release+1", "ma in", "-main", "main\n", "x" * 300, "höfe"])
def test_a_base_that_no_configuration_can_name_is_another_base(
    sample: tuple[dict[str, Any], int, Person], name: str
) -> None:
    """Somebody sends one of ours there: it must not keep the others from being read, and is never taken for our base."""
    whole, repo, us = sample
    found = read_of({**whole, "base": {**whole["base"], "ref": name}}, repo, us)
    assert found is not None
    assert found.base not in ("main", name)


def test_labels_in_other_letters_are_the_same(sample: tuple[dict[str, Any], int, Person]) -> None:
    whole, repo, us = sample
    found = read_of({**whole, "labels": [{"name": "ModeKeeper/Kill-Switch"}, {"name": "Other"}]}, repo, us)
    assert found is not None
    assert found.labels == ("modekeeper/kill-switch", "Other")


BODIES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "live": ("/pulls/1$", lambda forge: forge.live(1)),
    "reviews": ("/reviews", lambda forge: forge.live(1)),
    "our checks": ("/check-runs", lambda forge: forge.live(1)),
    "the listing": (r"/pulls\?", lambda forge: forge.refresh()),
    "rules": ("/rules/branches/", lambda forge: forge.standing(forge.get_pr(1))),
    "protection": ("/protection", lambda forge: forge.standing(forge.get_pr(1))),
    "opening": (r"/pulls\?", lambda forge: forge._open_on("modekeeper/x")),
}  # fmt: skip


@pytest.fixture(scope="module")
def standing_world(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubWorld, Any]]:
    from tests.support.github_world import hub_world

    with pytest.MonkeyPatch.context() as patch, hub_world(tmp_path_factory.mktemp("w"), embedded, patch) as world:
        world.propose(world.forge())
        yield world, world.forge()


@pytest.mark.parametrize("body", [5, "x", True, {"a": 1}, [5], ["x"], [[]], [None], [{}]], ids=json.dumps)
@pytest.mark.parametrize("what", BODIES)
def test_whole_answers_of_other_kinds_are_told(standing_world: tuple[HubWorld, Any], what: str, body: Any) -> None:
    world, forge = standing_world
    path, act = BODIES[what]
    world.hub.faults.add("GET", path, Fault.status(200, body), times=99)
    try:
        with suppress(ForgeError):
            act(forge)
    finally:
        world.hub.faults.clear()
        forge.refresh()
    assert forge.get_pr(1) is not None


def test_times_of_other_shapes(sample: tuple[dict[str, Any], int, Person]) -> None:
    whole, repo, us = sample
    for text in ("2026-03-01T13:00:00.123Z", "2026-03-01T15:00:00+02:00"):
        found = read_of({**whole, "created_at": text}, repo, us)
        assert found is not None
        assert found.created_at == "2026-03-01T13:00:00Z"
