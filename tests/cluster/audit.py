"""What the API server's audit log says of who changed what."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

MUTATING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
EVERY = MUTATING | {"get", "list", "watch"}


class Request(NamedTuple):
    """One request as it was answered. `dry_run` is what its URI asked for, `code` the HTTP status of the answer."""

    at: str
    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    dry_run: bool
    code: int
    agent: str

    @property
    def what(self) -> str:
        """Resource and subresource as RBAC writes them: `deployments.apps/scale`."""
        full = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{full}/{self.subresource}" if self.subresource else full


def position(log: Path) -> int:
    """Where the log ends now: a `start` for reading only what comes later."""
    return log.stat().st_size if log.exists() else 0


def requests(
    log: Path, user_prefix: str = "", *, verbs: frozenset[str] = MUTATING, start: int = 0
) -> Iterator[Request]:
    """The answered requests of users whose name starts so, in the order of the log, one line in memory at a time.

    Only whole lines count, so that it can be read while the server writes. Requests for no resource, such as `/readyz`,
    are left out. Raises ValueError for a line that is no audit event.
    """
    with log.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            event = json.loads(line)
            user = event["user"].get("username", "")
            wanted = event["stage"] in {"ResponseComplete", "Panic"} and event["verb"] in verbs
            if wanted and user.startswith(user_prefix) and "objectRef" in event:
                yield _request(event, user)


def counts(found: Iterable[Request]) -> Counter[tuple[str, str, str, bool]]:
    """How many of each user, verb, resource and dry-run or not."""
    return Counter((one.user, one.verb, one.what, one.dry_run) for one in found)


def _request(event: dict[str, Any], user: str) -> Request:
    ref = event["objectRef"]
    query = parse_qs(urlsplit(event["requestURI"]).query)
    return Request(
        at=event["stageTimestamp"],
        user=user,
        verb=event["verb"],
        group=ref.get("apiGroup", ""),
        resource=ref.get("resource", ""),
        subresource=ref.get("subresource", ""),
        namespace=ref.get("namespace", ""),
        name=ref.get("name", ""),
        dry_run="All" in query.get("dryRun", ()),
        code=event.get("responseStatus", {}).get("code", 0),
        agent=event.get("userAgent", ""),
    )
