"""The rate limit as its own endpoint tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.github.records import Json
from tests.support.github.web import Actor

if TYPE_CHECKING:
    from tests.support.github.hub import GitHub


def limit_key(actor: Actor) -> str:
    """Whose budget a request is taken from."""
    if actor.installation is not None:
        return f"installation ID {actor.installation.id}"
    return f"user ID {actor.account.id}" if actor.account is not None else "127.0.0.1"


def limits(hub: GitHub, actor: Actor) -> Json:
    """What is left to the caller."""
    most, used = hub.limit[0], hub.used.get(limit_key(actor), 0)
    core = {"limit": most, "used": min(used, most), "remaining": max(most - used, 0), "reset": int(hub.limit_resets_at)}
    other = {"limit": 5000, "used": 0, "remaining": 5000, "reset": int(hub.limit_resets_at)}
    return {"resources": {"core": core, "search": dict(other), "graphql": dict(other)}, "rate": dict(core)}
