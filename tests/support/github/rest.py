"""From an HTTP request to an endpoint: who asks, which repository, may they, and what an answer carries besides."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.support.github import auth, graphql
from tests.support.github.records import Repo, Request
from tests.support.github.rest_limits import limit_key
from tests.support.github.web import ROUTES, Actor, Answer, Call, Refused, Route, not_found

if TYPE_CHECKING:
    from tests.support.github.hub import GitHub

_PREFIX = "/api/v3"


def answer(
    hub: GitHub,
    http: BaseHTTPRequestHandler,
    path: str,
    data: bytes,
    record: Request,
    during: list[Callable[[], object]],
) -> Answer:
    """The answer to a REST or GraphQL request, with the headers that every answer has."""
    with hub.lock:
        actor = Actor()
        try:
            record.body = _body(data)
            actor = auth.actor_of(hub, http.headers.get("Authorization"))
            record.actor = actor.login
            if path.startswith("/api/graphql"):
                made = graphql.answer(hub, actor, record.body)
            else:
                _limit(hub, actor, path)
                made = _rest(hub, actor, path, record, during)
        except Refused as refused:
            made = refused.answer()
        if made.status == 200 and record.method == "GET" and made.raw is None:
            _etag(made, http.headers.get("If-None-Match"))
        if made.status != 304 and path not in (f"{_PREFIX}/rate_limit", "/api/graphql"):
            hub.used[limit_key(actor)] = hub.used.get(limit_key(actor), 0) + 1
        made.headers = _common(hub, actor) | made.headers
        return made


def _body(data: bytes) -> Any:
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError:
        raise Refused(400, "Problems parsing JSON") from None


def _limit(hub: GitHub, actor: Actor, path: str) -> None:
    if hub.now() >= hub.limit_resets_at:
        hub.used.clear()
        hub.limit_resets_at = hub.now() + 3600
    if hub.used.get(limit_key(actor), 0) >= hub.limit[0] and path != f"{_PREFIX}/rate_limit":
        raise Refused(403, f"API rate limit exceeded for {limit_key(actor)}.")


def _common(hub: GitHub, actor: Actor) -> dict[str, str]:
    limit, used = hub.limit[0], hub.used.get(limit_key(actor), 0)
    return {
        "Cache-Control": "private, max-age=60, s-maxage=60",
        "Vary": "Accept, Authorization, Cookie, X-GitHub-OTP",
        "X-GitHub-Media-Type": "github.v3; format=json",
        "X-GitHub-Request-Id": f"{len(hub.requests):04X}:0001",
        "X-GitHub-Enterprise-Version": "3.19.0",
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(max(limit - used, 0)),
        "X-RateLimit-Used": str(min(used, limit)),
        "X-RateLimit-Reset": str(int(hub.limit_resets_at)),
        "X-RateLimit-Resource": "core",
    }


def _etag(made: Answer, known: str | None) -> None:
    digest = hashlib.sha256(json.dumps(made.body).encode() + made.headers.get("Link", "").encode()).hexdigest()
    made.headers["ETag"] = f'W/"{digest}"'
    if known is not None and digest in known:
        made.status = 304


def _rest(hub: GitHub, actor: Actor, full: str, record: Request, during: list[Callable[[], object]]) -> Answer:
    path = full.removeprefix(_PREFIX) or "/"
    by_number = re.match(r"/repositories/(\d+)(/.*)?\Z", path)
    if by_number:
        repo = hub.repos.get(int(by_number[1]))
        if repo is None:
            raise not_found()
        path = f"/repos/{repo.full_name}{by_number[2] or ''}"
    route, params = _route(hub, record.method, path)
    call = Call(hub, actor, record.method, path, params, record.query, record.body, route.template, during=during)
    if hub.description is not None:
        hub.violations += hub.description.request(record.method, route.template, params, record.query, record.body)
    try:
        made = _handled(call, route)
    except Refused as refused:
        made = refused.answer()
    made.headers = call.headers | made.headers
    if hub.description is not None:
        hub.violations += hub.description.response(record.method, route.template, made.status, made.body)
    return made


def _route(hub: GitHub, method: str, path: str) -> tuple[Route, dict[str, str]]:
    for one in ROUTES:
        if one.method == method and (found := one.pattern.match(path)):
            return one, {name: unquote(value) for name, value in found.groupdict().items()}
    if not path.startswith("/repos/") or path.count("/") > 3:
        hub.violations.append(f"{method} {path}: the simulator has no such endpoint")
    raise not_found()


def _handled(call: Call, route: Route) -> Answer:
    if "repo" in call.params and "owner" in call.params:
        call.found = _repo(call, route)
        auth.check(call.actor, call.repo, route.needs)
        if call.repo.archived and call.method != "GET":
            raise Refused(403, "Repository was archived so is read-only.")
    if not route.listing or call.hub.stale_reads <= 0:
        made = route.handler(call)
    else:
        call.hub.stale_reads -= 1
        call.stale = call.hub.stale_mark
        key = _listing_key(call)
        known = call.hub.listings.get(key)
        made = replace(known, headers=dict(known.headers)) if known is not None else route.handler(call)
    if route.listing and made.status == 200:
        call.hub.listings[_listing_key(call)] = Answer(made.status, made.body, made.headers | call.headers)
    return made


def _listing_key(call: Call) -> tuple[str | None, str]:
    return call.actor.login, f"{call.path}?{sorted(call.query.items())}"


def _repo(call: Call, route: Route) -> Repo:
    hub, name = call.hub, f"{call.params['owner']}/{call.params['repo']}".casefold()
    number = hub.names.get(name)
    moved = number is None and name in hub.old_names
    repo = hub.repos.get(hub.old_names[name] if moved else number or 0)
    if repo is None or repo.deleted or (route.visible and not auth.sees(call.actor, repo)):
        raise not_found()
    if moved:
        rest = call.path.split("/", 4)[4:]
        where = "/".join([f"{hub.api}/repositories/{repo.id}", *rest])
        status, text = (301, "Moved Permanently") if call.method == "GET" else (307, "Temporary Redirect")
        raise _Moved(status, text, where)
    return repo


class _Moved(Refused):
    """The repository has another name now."""

    def __init__(self, status: int, message: str, where: str) -> None:
        super().__init__(status, message, Location=where)
        self.where = where

    def answer(self) -> Answer:
        body = {"message": self.message, "url": self.where, "documentation_url": "https://docs.github.com/rest"}
        return Answer(self.status, body, dict(self.headers))
