"""How GitHub's API is spoken to: in order, at its pace, never twice for one thing, and with each call counted.

PyGithub carries the requests. Its own retries are off: it would repeat a write whose answer was lost.
Limits and their headers: GitHub REST API docs, "Best practices for using the REST API" and "Rate limits for the REST API".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from gitops_mk.adapters.github import transport
from gitops_mk.adapters.github.budget import GRAPHQL, PATIENCE_S, REST, Budget
from gitops_mk.adapters.github.transport import MAX_ANSWER, PAGE, make_requester, refuse_optimised
from gitops_mk.core.render.text import plain
from gitops_mk.errors import ForgeError

if TYPE_CHECKING:
    from github.Auth import Auth
    from github.Requester import Requester

    from gitops_mk.adapters.github.auth import Credentials, Mint
    from gitops_mk.ports import Clock

# More than that in one listing is nobody's pull request.
MAX_PAGES: Final = 100
# GitHub asks for a second between two writes.
PACE_S: Final = 1.0
TRIES: Final = 3
_LIMITED = re.compile(r"rate limit|abuse detection", re.IGNORECASE)


class Refused(ForgeError):  # noqa: N818 - an answer, named for what it says
    """GitHub said no. `status` is HTTP's."""

    def __init__(self, message: str, *, status: int, hint: str | None = None, retryable: bool = False) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.status = status


class Unanswered(ForgeError):  # noqa: N818 - what became of the call
    """No answer came, or one that says nothing of what became of the call: it may have taken effect."""


class Api:
    """One GitHub, spoken to as one account. Not for several threads at once: writes to it are serial anyway."""

    def __init__(self, url: str, credentials: Credentials, clock: Clock, *, pace_s: float = PACE_S) -> None:
        refuse_optimised()
        self.url = url
        self.credentials = credentials
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._pace_s = pace_s
        self._last_write = float("-inf")
        self._requester: Requester | None = None
        self._signed_by: Auth | None = None
        self._etags: dict[tuple[str, str], tuple[str, Any]] = {}
        self.budget = Budget(clock)

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, urgent: bool = False) -> Any:
        """Read, past every cache. Raises Refused and Unanswered; a lost answer is asked for again."""
        return self._read(path, query, {}, urgent=urgent)[1]

    def find(self, path: str, query: Mapping[str, Any] | None = None, *, urgent: bool = False) -> Any | None:
        """The same; None where there is no such thing."""
        try:
            return self.get(path, query, urgent=urgent)
        except Refused as exc:
            if exc.status == 404:
                return None
            raise

    def poll(self, path: str, query: Mapping[str, Any]) -> tuple[bool, Any]:
        """Read what rarely changes: whether it did, and what it is. An unchanged answer (304) costs no budget."""
        key = path, json.dumps(dict(query), sort_keys=True)
        etag, known = self._etags.get(key, ("", None))
        status, data, headers = self._read_whole(path, query, {"If-None-Match": etag} if etag else {}, urgent=False)
        if status == 304:
            return False, known
        if "etag" in headers:
            self._etags[key] = (headers["etag"], data)
        return True, data

    def forget(self, path: str) -> None:
        """What was polled there is asked for whole the next time."""
        for key in [key for key in self._etags if key[0] == path]:
            del self._etags[key]

    def pages(
        self, path: str, query: Mapping[str, Any] | None = None, *, of: str | None = None, urgent: bool = False
    ) -> Iterator[Any]:
        """Every item of a listing, by page number: no address that an answer names is ever followed.

        `of`: the field that holds the items. Raises ForgeError for one that does not end.
        """
        for number in range(1, MAX_PAGES + 1):
            data = self.get(path, {**(query or {}), "per_page": PAGE, "page": number}, urgent=urgent)
            items = data if of is None else data.get(of) if isinstance(data, dict) else None
            if not isinstance(items, list):
                raise ForgeError(f"GitHub's {path} is no listing")
            yield from items
            if len(items) < PAGE:
                return
        raise ForgeError(f"GitHub's {path} has more than {MAX_PAGES * PAGE} entries: too many to be read")

    # -- writing -----------------------------------------------------------------------------------------------------

    def send(self, verb: str, path: str, body: Mapping[str, Any] | None = None, *, urgent: bool = False) -> Any:
        """Write once. Raises Refused, or Unanswered when it may have taken effect: read before asking again."""
        self._pace()
        try:
            status, data, _ = self._call(verb, path, None, body, {}, urgent=urgent)
        finally:
            self._last_write = self._clock.monotonic()
        return None if status == 204 else data

    def graphql(self, query: str, variables: Mapping[str, Any], *, write: bool = False, urgent: bool = False) -> Any:
        """Ask by GraphQL, where REST has no word for it. Raises Refused for what GitHub calls an error."""
        if write:
            self._pace()
        try:
            _, answer, _ = self._call(
                "POST", self._graphql_url, None, {"query": query, "variables": dict(variables)}, {}, urgent=urgent
            )
        finally:
            if write:
                self._last_write = self._clock.monotonic()
        errors = answer.get("errors") if isinstance(answer, dict) else None
        if errors or not isinstance(answer, dict):
            said = errors[0].get("message", "") if isinstance(errors, list) and errors else "no answer"
            raise Refused(f"GitHub said: {plain(str(said), most=300)}", status=200)
        return answer.get("data")

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _graphql_url(self) -> str:
        # An Enterprise Server has it beside the REST API, not below.
        return f"{self.url.removesuffix('/v3')}/graphql"

    def _pace(self) -> None:
        wait = self._last_write + self._pace_s - self._clock.monotonic()
        if wait > 0:
            self._clock.sleep(wait)

    def _read(
        self, path: str, query: Mapping[str, Any] | None, headers: Mapping[str, str], *, urgent: bool
    ) -> tuple[int, Any]:
        status, data, _ = self._read_whole(path, query, headers, urgent=urgent)
        return status, data

    def _read_whole(
        self, path: str, query: Mapping[str, Any] | None, headers: Mapping[str, str], *, urgent: bool
    ) -> tuple[int, Any, Mapping[str, str]]:
        for attempt in range(TRIES):
            try:
                return self._call("GET", path, query, None, headers, urgent=urgent)
            except Unanswered:
                if attempt == TRIES - 1:
                    raise
                self._clock.sleep(0.5 * 2**attempt)
        raise ForgeError("unreachable")

    def _call(
        self,
        verb: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        *,
        urgent: bool,
    ) -> tuple[int, Any, Mapping[str, str]]:
        """One call, and again only where GitHub did not look at it: a token that ran out, or "too fast"."""
        renewed = False
        for _ in range(TRIES):
            self.budget.admit(urgent=urgent, resource=GRAPHQL if path == self._graphql_url else REST)
            status, got, text = self._once(verb, path, query, body, headers)
            now = self._clock.now().timestamp()
            self.budget.learn(got, now)
            if status == 401 and not renewed and self.credentials.renew():
                renewed = True
                continue
            if _too_fast(status, got, text):
                wait = self.budget.struck(got, now)
                if wait > PATIENCE_S:
                    raise Refused(f"GitHub asks for {wait:.0f} s of silence", status=status, retryable=True)
                continue
            self.budget.well()
            return self._understood(verb, path, status, got, text)
        raise Refused("GitHub says again and again that it is asked too fast", status=429, retryable=True)

    def _understood(
        self, verb: str, path: str, status: int, headers: Mapping[str, str], text: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        if status == 304:
            return status, None, headers
        where = f"{verb} {path.partition('?')[0]}"
        try:
            data = json.loads(text) if text else None
        except (ValueError, RecursionError) as exc:
            raise Unanswered(f"GitHub's answer to {where} is no JSON ({status})", retryable=True) from exc
        if status >= 500:
            raise Unanswered(f"GitHub could not answer {where}: {status}", retryable=True)
        if status >= 300:
            said = plain(_said(data), most=300)
            hint = None
            if status == 401:
                hint = "the token is not known, or has run out"
            elif status == 403:
                hint = "the token, or the App, lacks a permission: `mk doctor` says which"
            raise Refused(f"GitHub answered {status} to {where}: {said}", status=status, hint=hint)
        return status, data, headers

    def _once(
        self,
        verb: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, Mapping[str, str], str]:
        self.calls[verb if path != self._graphql_url else "GraphQL"] += 1
        return _asked(self._connection(), verb, path, query, headers, body)

    def _connection(self) -> Requester:
        auth = self.credentials.auth()
        if self._requester is None or auth is not self._signed_by:
            if self._requester is not None:
                self._requester.close()
            self._requester, self._signed_by = make_requester(self.url, auth), auth
        return self._requester


def minter(url: str) -> Mint:
    """How an App asks for its tokens: `auth.Mint`."""

    def ask(auth: Auth, verb: str, path: str, body: Mapping[str, Any] | None) -> Any:
        refuse_optimised()
        requester = make_requester(url, auth)
        try:
            status, headers, text = _asked(requester, verb, path, None, {}, body)
        finally:
            requester.close()
        if status >= 500:
            raise Unanswered(f"GitHub could not answer {verb} {path}: {status}", retryable=True)
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise Unanswered(f"GitHub's answer to {verb} {path} is no JSON ({status})", retryable=True) from exc
        if status >= 300:
            hint = "check the App's number and key, and that it is installed on the repository"
            said = f"GitHub answered {status} to the App's {verb} {path}: {plain(_said(data), most=300)}"
            raise Refused(said, status=status, hint=hint, retryable=_too_fast(status, headers, text))
        return data

    return ask


def _asked(
    requester: Requester,
    verb: str,
    path: str,
    query: Mapping[str, Any] | None,
    headers: Mapping[str, str],
    body: Mapping[str, Any] | None,
) -> tuple[int, Mapping[str, str], str]:
    """One request. Raises Unanswered, and ForgeError for an answer that is not taken."""
    try:
        return transport.ask(requester, verb, path, query, headers, body)
    except transport.NoAnswer as exc:
        raise Unanswered(f"GitHub can't be reached: {exc}", retryable=True) from exc
    except transport.Elsewhere as exc:
        raise ForgeError(f"GitHub's answer points elsewhere: {plain(str(exc), most=200)}") from exc
    except transport.TooLarge as exc:
        raise ForgeError(f"GitHub's answer to {verb} {path} has more than {MAX_ANSWER} bytes") from exc


def _too_fast(status: int, headers: Mapping[str, str], text: str) -> bool:
    """A limit, and not a permission: both come as 403."""
    if status == 429:
        return True
    said = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0" or _LIMITED.search(text[:2000])
    return status == 403 and bool(said)


def _said(data: Any) -> str:
    if not isinstance(data, dict):
        return "nothing"
    errors = data.get("errors")
    more = (
        "; ".join(str(e.get("message") or e) if isinstance(e, dict) else str(e) for e in errors)
        if isinstance(errors, list)
        else ""
    )
    return f"{data.get('message', '')} {more}".strip() or "nothing"
