"""The pull requests of a repository as of the last turn: one conditional request where nothing changed.

GitHub lists those first that changed last, so a turn reads until it meets what it knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from gitops_mk.adapters.github.api import MAX_PAGES, Api
from gitops_mk.adapters.github.transport import PAGE
from gitops_mk.adapters.github.wire import Bag, moment
from gitops_mk.errors import ForgeError
from gitops_mk.model.change import LABEL_KILL_SWITCH
from gitops_mk.model.times import format_time


class Listing:
    """GitHub's objects by number, as they came. What we wrote ourselves is known at once, however late GitHub lists it."""

    def __init__(self, api: Api, repo: str, *, history_days: int) -> None:
        self._api = api
        self._repo = f"/repos/{repo}"
        self._path = f"{self._repo}/pulls"
        self._history = timedelta(days=history_days)
        self._seen_to: str | None = None
        self._pulls: dict[int, Bag] = {}

    def refresh(self, now: datetime) -> None:
        """Bring it up to date. Raises ForgeError; then the next turn reads it all again."""
        until = self._seen_to or format_time(now - self._history)
        newest = self._seen_to
        try:
            for pull in self._changed(until):
                at = moment(pull.text("updated_at"))
                newest = max(newest or at, at)
                self.learn(pull)
            if self._seen_to is None:
                for data in self._api.pages(self._path, {"state": "open"}):
                    self.learn(Bag(data, "pull request"))
                self._learn_stops()
        except ForgeError:
            self._api.forget(self._path)
            raise
        self._seen_to = newest or until

    def learn(self, pull: Bag) -> None:
        """Take in one that was read or written; an older one than is known is a stale answer."""
        number = pull.number("number")
        known = self._pulls.get(number)
        if known is None or known.text("updated_at") <= pull.text("updated_at"):
            self._pulls[number] = pull

    def all(self) -> list[Bag]:
        """All of them, by number."""
        return [self._pulls[number] for number in sorted(self._pulls)]

    def get(self, number: int) -> Bag | None:
        """One of them."""
        return self._pulls.get(number)

    def _learn_stops(self) -> None:
        """Those with the kill switch's label, however long ago anything happened to them: it holds until it is taken off."""
        labelled = self._api.pages(f"{self._repo}/issues", {"labels": LABEL_KILL_SWITCH, "state": "all"})
        for data in labelled:
            issue = Bag(data, "issue")
            if issue.has("pull_request") and issue.number("number") not in self._pulls:
                self.learn(Bag(self._api.get(f"{self._path}/{issue.number('number')}"), "pull request"))

    def _changed(self, until: str) -> Iterator[Bag]:
        """Those that changed since, newest first; within the same second once more than needed."""
        query: dict[str, Any] = {"state": "all", "sort": "updated", "direction": "desc", "per_page": PAGE}
        for page in range(1, MAX_PAGES + 1):
            changed, rows = (
                self._api.poll(self._path, query)
                if page == 1
                else (True, self._api.get(self._path, {**query, "page": page}))
            )
            if not changed:
                return
            if not isinstance(rows, list):
                raise ForgeError("GitHub's listing of pull requests is none")
            for row in rows:
                pull = Bag(row, "pull request")
                if moment(pull.text("updated_at")) < until:
                    return
                yield pull
            if len(rows) < PAGE:
                return
