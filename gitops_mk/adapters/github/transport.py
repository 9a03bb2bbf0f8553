"""PyGithub's connection, held to what we can bear: no retries, no pauses, no endless answer, no secret in a log.

PyGithub logs every request with its answer at DEBUG, and the answer that brings an App's token brings it in the clear.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, ItemsView, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from gitops_mk._version import __version__
from gitops_mk.errors import ConfigError

if TYPE_CHECKING:
    import requests
    from github.Auth import Auth
    from github.Requester import Requester

TIMEOUT_S: Final = 20
PAGE: Final = 100
MAX_ANSWER: Final = 32 * 1024 * 1024
_CHUNK: Final = 64 * 1024
# PyGithub makes numbers of these, and falls over one that is none.
_NUMBERS: Final = frozenset({"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"})


class TooLarge(Exception):  # noqa: N818 - an answer, named for what it is
    """The answer has more than `MAX_ANSWER` bytes; the rest of it was not read."""


class Answer:
    """An answer as PyGithub reads one: its text of bounded size, its headers without those that it can't take."""

    def __init__(self, response: requests.Response) -> None:
        self.status = response.status_code
        self.headers = {
            name: value
            for name, value in response.headers.items()
            if name.lower() not in _NUMBERS or number(value) is not None
        }
        self._text = _bounded(response)

    def getheaders(self) -> ItemsView[str, str]:
        """The headers."""
        return self.headers.items()

    def read(self) -> str:
        """The body."""
        return self._text


def _bounded(response: requests.Response) -> str:
    data = bytearray()
    with response:
        for chunk in response.iter_content(_CHUNK):
            data += chunk
            if len(data) > MAX_ANSWER:
                raise TooLarge
    # JSON is UTF-8, whatever a header says of it.
    return data.decode("utf-8", "replace")


def number(text: str | None) -> float | None:
    """A number that a header may mean; None for anything else."""
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and abs(value) < 1e12 else None


@cache
def _requester_class() -> type[Requester]:
    """PyGithub's requester over connections of our own. Made when first asked for: PyGithub takes a while to load."""
    from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, Requester

    def getresponse(self: Any) -> Answer:
        verb: Callable[..., requests.Response] = getattr(self.session, self.verb.lower())
        return Answer(
            verb(
                f"{self.protocol}://{self.host}:{self.port}{self.url}",
                headers=self.headers,
                data=self.input,
                timeout=self.timeout,
                verify=self.verify,
                allow_redirects=False,
                stream=True,
            )
        )

    made = {"getresponse": getresponse}
    http = type("BoundedHttp", (HTTPRequestsConnectionClass,), made)
    https = type("BoundedHttps", (HTTPSRequestsConnectionClass,), made)
    # Where PyGithub keeps them; by its own `injectConnectionClasses` a connection would serve one request only.
    return type(
        "BoundedRequester",
        (Requester,),
        {"_Requester__httpConnectionClass": http, "_Requester__httpsConnectionClass": https},
    )


class _Silence(logging.Filter):
    """Lets nothing pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        return False


_SILENCE: Final = _Silence()


def make_requester(url: str, auth: Auth | None) -> Requester:
    """PyGithub's own connection, without its retries, its pauses and its log."""
    log = logging.getLogger("github.Requester")
    if _SILENCE not in log.filters:
        log.addFilter(_SILENCE)
    return _requester_class()(
        auth=auth,
        base_url=url,
        timeout=TIMEOUT_S,
        user_agent=f"modekeeper-gitops/{__version__}",
        per_page=PAGE,
        verify=True,
        retry=None,
        pool_size=None,
        seconds_between_requests=None,
        seconds_between_writes=None,
    )


def ask(
    requester: Requester,
    verb: str,
    path: str,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> tuple[int, Mapping[str, str], str]:
    """One request: status, headers by lower-case name, text. Raises NoAnswer, Elsewhere and TooLarge."""
    import requests

    try:
        return requester.requestJson(
            verb, path, parameters=dict(query) if query else None, headers=dict(headers or {}), input=body
        )
    except (requests.RequestException, OSError) as exc:
        raise NoAnswer(type(exc).__name__) from exc
    except (RuntimeError, AssertionError) as exc:
        # PyGithub's words for a redirect that leaves the server, or leads nowhere.
        raise Elsewhere(str(exc)) from exc


class NoAnswer(Exception):  # noqa: N818 - what became of the call
    """The connection failed: the request may have been carried out."""


class Elsewhere(Exception):  # noqa: N818 - where it leads
    """The answer points to another server."""


def refuse_optimised() -> None:
    """Raises ConfigError under `python -O`, which takes out PyGithub's checks of where a token is sent."""
    if sys.flags.optimize:
        raise ConfigError("python -O takes out safety checks of the GitHub client", hint="run without -O")
