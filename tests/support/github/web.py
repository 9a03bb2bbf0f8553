"""Routes, calls and answers: what every endpoint is written with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from tests.support.github.records import Account, App, Installation, Json, Repo, Token

if TYPE_CHECKING:
    from tests.support.github.hub import GitHub

DOCS = "https://docs.github.com/rest"


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, message: str, errors: Sequence[Any] | None = None, **headers: str) -> None:
        super().__init__(f"{status} {message}")
        self.status, self.message, self.errors = status, message, errors
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(self) -> Answer:
        body: Json = {"message": self.message}
        if self.errors is not None:
            body["errors"] = list(self.errors)
        body |= {"documentation_url": DOCS, "status": str(self.status)}
        return Answer(self.status, body, dict(self.headers))


def invalid(resource: str, field: str, code: str = "invalid", message: str | None = None) -> Refused:
    """The 422 that names one field."""
    error = {"resource": resource, "field": field, "code": code}
    return Refused(422, "Validation Failed", [error | ({"message": message} if message else {})])


def not_found() -> Refused:
    """The 404 for what isn't there, and for what the caller may not see."""
    return Refused(404, "Not Found")


@dataclass(eq=False, slots=True)
class Answer:
    """A status, a JSON body (`raw` goes as it is), and headers."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None


@dataclass(eq=False, slots=True)
class Actor:
    """Who asks: nobody, an account by a token, an App by its JWT, or an App's installation."""

    account: Account | None = None
    token: Token | None = None
    app: App | None = None
    installation: Installation | None = None

    @property
    def login(self) -> str | None:
        return self.account.login if self.account is not None else None

    @property
    def noun(self) -> str:
        return "integration" if self.app is not None else "personal access token"


@dataclass(eq=False, slots=True)
class Call:
    """One request to an endpoint. The hub's lock is held."""

    hub: GitHub
    actor: Actor
    method: str
    path: str
    params: dict[str, str]
    query: dict[str, str]
    body: Any
    template: str
    stale: int | None = None
    """Records with a larger id aren't in listings yet."""
    during: list[Callable[[], object]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    found: Repo | None = None

    @property
    def repo(self) -> Repo:
        assert self.found is not None
        return self.found

    @property
    def me(self) -> Account:
        """The account that acts. Raises Refused for nobody."""
        if self.actor.account is None:
            raise Refused(401, "Requires authentication")
        return self.actor.account

    def number(self, name: str) -> int:
        """A numeric part of the path."""
        text = self.params[name]
        if not text.isdecimal():
            raise not_found()
        return int(text)

    def get(self, name: str, default: Any = None) -> Any:
        """A field of the JSON body."""
        return self.body.get(name, default) if isinstance(self.body, dict) else default

    def want(self, name: str, resource: str = "Resource") -> Any:
        """A field that must be there. Raises Refused."""
        value = self.get(name)
        if value is None:
            raise invalid(resource, name, "missing_field")
        return value


Handler = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint; `template` is the path as GitHub's own description has it."""

    method: str
    template: str
    pattern: re.Pattern[str]
    handler: Handler
    needs: tuple[str, ...]
    listing: bool
    visible: bool


ROUTES: list[Route] = []
_GREEDY = {"ref", "path", "branch", "name"}


def route(
    method: str, template: str, *needs: str, listing: bool = False, visible: bool = True
) -> Callable[[Handler], Handler]:
    """Register an endpoint. One of the permissions in `needs` is enough; `visible` False: also for who can't see it."""

    def part(found: re.Match[str]) -> str:
        rest = ".*" if found[1] == "path" else ".+"
        return f"(?P<{found[1]}>{rest if found[1] in _GREEDY else '[^/]+'})"

    def register(handler: Handler) -> Handler:
        pattern = re.compile(re.sub(r"\{(\w+)\}", part, template) + r"\Z")
        ROUTES.append(Route(method, template, pattern, handler, needs, listing, visible))
        # The most literal first: `/pulls/{n}/merge` before anything that takes the rest of a path.
        ROUTES.sort(key=lambda one: (-one.template.count("/"), one.template.count("{")))
        return handler

    return register


Record = TypeVar("Record")


def paged(call: Call, records: Iterable[Record], shape: Callable[[Record], Any], *, most: int = 100) -> list[Any]:
    """The page asked for; the `Link` header goes with the answer."""
    items = list(records)
    if call.stale is not None:
        items = [one for one in items if getattr(one, "id", 0) <= call.stale]
    size = min(max(_int(call.query.get("per_page"), 30), 1), most)
    number = max(_int(call.query.get("page"), 1), 1)
    last = max((len(items) + size - 1) // size, 1)
    links = []
    for name, to, there in (
        ("prev", number - 1, number > 1),
        ("next", number + 1, number < last),
        ("last", last, number < last),
        ("first", 1, number > 1),
    ):
        if there:
            links.append(f'<{_url(call)}?{urlencode({**call.query, "page": str(to)})}>; rel="{name}"')
    if links:
        call.headers["Link"] = ", ".join(links)
    return [shape(one) for one in items[(number - 1) * size : number * size]]


def _url(call: Call) -> str:
    if call.found is None:
        return f"{call.hub.api}{call.path}"
    # GitHub's own links go by the repository's number.
    rest = call.path.split("/", 4)[4:]
    return "/".join([f"{call.hub.api}/repositories/{call.found.id}", *rest])


def _int(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdecimal() else default
