"""Who asks, by token or by an App's JWT, and what they may do."""

from __future__ import annotations

import base64
import binascii
import json
from functools import cache
from typing import TYPE_CHECKING

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.github.records import Repo, allows, role_at_least
from tests.support.github.web import Actor, Refused

if TYPE_CHECKING:
    from tests.support.github.hub import GitHub

_LONGEST_JWT = 600
# What a collaborator's role must be for a token to use a permission: reading asks for `read`.
_WRITERS = {"contents": "write", "checks": "write", "statuses": "write", "issues": "read", "pull_requests": "read"}


@cache
def key_pair(number: int) -> tuple[str, str]:
    """A private key and its public one, in PEM: made once a process, as making them is slow."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def actor_of(hub: GitHub, header: str | None) -> Actor:
    """The caller that an Authorization header names. Raises Refused."""
    if not header:
        return Actor()
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            raise Refused(401, "Bad credentials") from None
    if value.count(".") == 2:
        return _by_jwt(hub, value)
    token = hub.tokens.get(value)
    if token is None or token.revoked or (token.expires_at is not None and hub.now() >= token.expires_at):
        raise Refused(401, "Bad credentials")
    installation = token.installation
    if installation is None:
        if token.account.deleted:
            raise Refused(401, "Bad credentials")
        return Actor(token.account, token)
    if installation.removed:
        raise Refused(401, "Bad credentials")
    if installation.suspended_at is not None:
        raise Refused(403, "This installation has been suspended")
    return Actor(token.account, token, installation.app, installation)


def _by_jwt(hub: GitHub, value: str) -> Actor:
    jws = jwt.PyJWS()
    try:
        claims = json.loads(jws.decode_complete(value, options={"verify_signature": False})["payload"])
        app = hub.apps.get(int(claims["iss"]))
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise Refused(401, "A JSON web token could not be decoded") from None
    if app is None:
        raise Refused(404, "Integration not found")
    try:
        jws.decode(value, app.public_key, algorithms=["RS256"])
    except jwt.PyJWTError:
        raise Refused(401, "A JSON web token could not be decoded") from None
    now, issued, expires = hub.now(), claims.get("iat"), claims.get("exp")
    if not isinstance(expires, int | float) or expires <= now:
        raise Refused(
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the "
            "assertion expires",
        )
    if expires > now + _LONGEST_JWT + 1:
        raise Refused(401, "'Expiration time' claim ('exp') is too far in the future")
    if not isinstance(issued, int | float) or issued > now + 1:
        raise Refused(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        )
    return Actor(app=app)


def sees(actor: Actor, repo: Repo) -> bool:
    """True when the repository is there at all for this caller."""
    if repo.deleted:
        return False
    if not repo.private:
        return True
    if actor.token is None or actor.account is None:
        return False
    if actor.token.repos is not None and repo not in actor.token.repos:
        return False
    if actor.installation is not None:
        return repo in actor.installation.repos
    return repo.role(actor.account) != "none"


def may(actor: Actor, repo: Repo, needed: str) -> bool:
    """True when the caller has one permission (`contents:write`) on the repository."""
    name, _, level = needed.partition(":")
    if not sees(actor, repo):
        return False
    if level == "read" and name != "administration" and not repo.private:
        return True
    token = actor.token
    if token is None or actor.account is None or not allows(token.permissions, needed):
        return False
    if token.repos is not None and repo not in token.repos:
        return False
    if actor.installation is not None:
        return repo in actor.installation.repos
    wanted = "admin" if name == "administration" else "read" if level == "read" else _WRITERS.get(name, "write")
    role = repo.role(actor.account)
    return role_at_least("read" if role == "none" and not repo.private else role, wanted)


def check(actor: Actor, repo: Repo, needs: tuple[str, ...]) -> None:
    """Refuse a caller who has none of these permissions."""
    if not needs or any(may(actor, repo, one) for one in needs):
        return
    if actor.token is None:
        raise Refused(401, "Requires authentication")
    wanted = "; ".join(one.replace(":", "=") for one in needs)
    raise Refused(403, f"Resource not accessible by {actor.noun}", X_Accepted_GitHub_Permissions=wanted)


def can_write(repo: Repo, actor: Actor) -> bool:
    """True for whose approval counts, and who may merge: write access."""
    if actor.installation is not None:
        return may(actor, repo, "contents:write")
    return actor.account is not None and role_at_least(repo.role(actor.account), "write")
