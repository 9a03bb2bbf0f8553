"""GitHub Apps: who they are, where they are installed, and the tokens they mint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tests.support.github import shapes
from tests.support.github.records import App, Installation, Json, Repo, Token, allows, iso
from tests.support.github.web import Answer, Call, Refused, not_found, paged, route

if TYPE_CHECKING:
    from tests.support.github.hub import GitHub

_LIFE = 3600.0


def mint(
    hub: GitHub, installation: Installation, permissions: Mapping[str, str] | None, repos: Sequence[Repo] | None
) -> Token:
    """A token of an installation, for an hour, for no more than it was given."""
    made = Token(
        f"ghs_{hub.next_id():036d}",
        installation.app.bot,
        dict(permissions if permissions is not None else installation.permissions),
        installation,
        list(repos) if repos is not None else None,
        hub.now() + _LIFE,
    )
    made.permissions.setdefault("metadata", "read")
    hub.tokens[made.value] = made
    return made


def _app(call: Call) -> App:
    if call.actor.app is None or call.actor.installation is not None:
        raise Refused(401, "A JSON web token could not be decoded")
    return call.actor.app


@route("GET", "/app")
def get_app(call: Call) -> Answer:
    app = _app(call)
    count = sum(one.app is app and not one.removed for one in call.hub.installations.values())
    return Answer(200, {**shapes.app(call.hub.api, app), "installations_count": count})


@route("GET", "/app/installations")
def list_installations(call: Call) -> Answer:
    app = _app(call)
    found = [one for one in call.hub.installations.values() if one.app is app and not one.removed]
    return Answer(200, paged(call, found, lambda one: shapes.installation(call.hub.api, one)))


@route("GET", "/app/installations/{installation_id}")
def get_installation(call: Call) -> Answer:
    return Answer(200, shapes.installation(call.hub.api, _installation(call)))


@route("GET", "/repos/{owner}/{repo}/installation", visible=False)
def get_repo_installation(call: Call) -> Answer:
    app = _app(call)
    for one in call.hub.installations.values():
        if one.app is app and call.repo in one.repos and not one.removed:
            return Answer(200, shapes.installation(call.hub.api, one))
    raise not_found()


def _installation(call: Call) -> Installation:
    found = call.hub.installations.get(call.number("installation_id"))
    if found is None or found.app is not _app(call) or found.removed:
        raise not_found()
    return found


@route("POST", "/app/installations/{installation_id}/access_tokens")
def create_token(call: Call) -> Answer:
    found = _installation(call)
    if found.suspended_at is not None:
        raise Refused(403, "This installation has been suspended")
    # None named, or an empty object: all of them.
    permissions = call.get("permissions") or None
    for name, level in (permissions or {}).items():
        if not allows(found.permissions, f"{name}:{level}"):
            raise Refused(422, "The permissions requested are not granted to this installation.")
    made = mint(call.hub, found, permissions, _asked(call, found))
    body: Json = {
        "token": made.value,
        "expires_at": iso(made.expires_at or 0),
        "permissions": dict(made.permissions),
        "repository_selection": "selected",
    }
    if made.repos is not None:
        body["repositories"] = [shapes.full_repo(one) for one in made.repos]
    return Answer(201, body)


def _asked(call: Call, found: Installation) -> list[Repo] | None:
    names, numbers = call.get("repositories"), call.get("repository_ids")
    if names is None and numbers is None:
        return None
    asked = [repo for repo in found.repos if repo.name in (names or []) or repo.id in (numbers or [])]
    if len(asked) < len(names or []) + len(numbers or []):
        raise Refused(
            422,
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        )
    return asked


@route("GET", "/installation/repositories")
def list_repositories(call: Call) -> Answer:
    if call.actor.installation is None or call.actor.token is None:
        raise Refused(
            403,
            "You must authenticate with an installation access token in order to list repositories for an installation.",
        )
    mine = call.actor.token.repos
    found = [repo for repo in call.actor.installation.repos if not repo.deleted and (mine is None or repo in mine)]
    page = paged(call, found, shapes.full_repo)
    return Answer(200, {"total_count": len(found), "repository_selection": "selected", "repositories": page})


@route("DELETE", "/installation/token")
def revoke_token(call: Call) -> Answer:
    if call.actor.installation is None or call.actor.token is None:
        raise Refused(403, "Resource not accessible by personal access token")
    call.actor.token.revoked = True
    return Answer(204)
