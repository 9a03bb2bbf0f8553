"""Git over HTTP: `git http-backend` with GitHub's tokens, protection of branches, and what a push sets off."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from tests.support import githttp
from tests.support.github import auth, pulls, rules
from tests.support.github.gitdir import ZERO
from tests.support.github.records import Repo, Request
from tests.support.github.web import Actor, Answer, Refused

if TYPE_CHECKING:
    from tests.support.github.hub import GitHub


def answer(hub: GitHub, http: BaseHTTPRequestHandler, path: str, query: str, data: bytes, record: Request) -> Answer:
    """The answer to a request of git's."""
    parts = path.strip("/").split("/", 2)
    if len(parts) < 3 or not (parts[2] == "info/refs" or parts[2].startswith("git-")):
        return _text(404, "Not Found")
    push = "git-receive-pack" in f"{path}?{query}"
    name = f"{parts[0]}/{parts[1].removesuffix('.git')}".casefold()
    with hub.lock:
        try:
            actor = auth.actor_of(hub, http.headers.get("Authorization"))
        except Refused as refused:
            return _refused(refused.status)
        record.actor = actor.login
        moved = name not in hub.names and name in hub.old_names
        repo = hub.repos.get(hub.old_names[name] if moved else hub.names.get(name, 0))
        if repo is None or not auth.sees(actor, repo):
            return _text(404, "Repository not found.") if actor.token is not None else _refused(401)
        if moved:
            return Answer(301, None, {"Location": f"{repo.url}/{parts[2]}?{query}".rstrip("?")}, b"")
        if push and not auth.may(actor, repo, "contents:write"):
            if actor.token is None:
                return _refused(401)
            return _text(403, f"Permission to {repo.full_name}.git denied to {actor.login}.")
        if not auth.may(actor, repo, "contents:read"):
            return _text(403, "Write access to repository not granted.")
        if push and data:
            return _push(hub, http, repo, actor, parts[2], data)
    # A clone doesn't hold the others up.
    return _backend(hub, http, repo, parts[2], query, data)


def _push(hub: GitHub, http: BaseHTTPRequestHandler, repo: Repo, actor: Actor, rest: str, data: bytes) -> Answer:
    commands = _commands(data)
    before = {name: repo.git.ref(name) for _, _, name in commands}
    orders = [line for old, new, name in commands for line in _orders(repo, actor, name, old, new)]
    file = repo.git_dir / "mk-orders"
    file.write_text("".join(f"{line}\n" for line in orders))
    try:
        made = _backend(hub, http, repo, rest, "", data)
    finally:
        file.unlink()
    assert actor.account is not None
    for name, old in before.items():
        new = repo.git.ref(name)
        if new != old:
            pulls.ref_moved(repo, name, old, new, actor.account)
    return made


def _orders(repo: Repo, actor: Actor, name: str, old: str, new: str) -> list[str]:
    """What the hook is to do about one ref: refuse it, or refuse it unless it goes forward."""
    if name.startswith("refs/pull/"):
        return [f"deny\t{name}\tdeny updating a hidden ref"]
    change = "creation" if old == ZERO else "deletion" if new == ZERO else "update"
    texts = rules.push_objections(repo, actor, name, change)
    if texts:
        return [f"deny\t{name}\t{' '.join(texts)}"]
    if change == "update" and rules.forward_only(repo, actor, name):
        return [f"forward\t{name}\tCannot force-push to this branch"]
    return []


def _commands(data: bytes) -> list[tuple[str, str, str]]:
    """The refs that a push moves: old, new and name."""
    found, at = [], 0
    while (size := int(data[at : at + 4], 16)) != 0:
        old, new, name = data[at + 4 : at + size].split(b"\0")[0].decode().rstrip("\n").split(" ", 2)
        found.append((old, new, name))
        at += size
    return found


def _backend(hub: GitHub, http: BaseHTTPRequestHandler, repo: Repo, rest: str, query: str, data: bytes) -> Answer:
    asked = http.path
    http.path = f"/{repo.git_dir.name}/{rest}?{query}".rstrip("?")
    try:
        status, headers, body = githttp._backend(githttp.GitServer(hub.folder), http, data)
    finally:
        http.path = asked
    return Answer(status, None, dict(headers), body)


def _text(status: int, text: str) -> Answer:
    return Answer(status, None, {"Content-Type": "text/plain; charset=utf-8"}, f"{text}\n".encode())


def _refused(status: int) -> Answer:
    made = _text(status, "Invalid username or token." if status == 401 else "Forbidden")
    if status == 401:
        made.headers["WWW-Authenticate"] = 'Basic realm="GitHub"'
    return made
