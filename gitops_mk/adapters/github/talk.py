"""What people say on our pull requests, and our one comment there that answers; and the issue that shows how everything stands."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from gitops_mk.adapters.github.api import Api, Refused
from gitops_mk.adapters.github.pulls import labels_of
from gitops_mk.adapters.github.wire import Bag, person
from gitops_mk.core.commands import parse_command
from gitops_mk.errors import ForgeError, InputError
from gitops_mk.model.base import Frozen
from gitops_mk.model.canonical import dumps_canonical
from gitops_mk.model.times import parse_time
from gitops_mk.ports import Word

if TYPE_CHECKING:
    from gitops_mk.adapters.github.forge import GitHubForge

_STATUS = re.compile(r"\n*<!-- modekeeper:status (\{[^\n]*\}) -->\s*\Z")
# Of a pull request that is talked about a lot, the answers that are remembered.
KEPT: Final = 200
MAX_ANSWER: Final = 20_000
MAX_WORD: Final = 4000
# Nobody speaks in a second that long ago, whatever our clock and GitHub's differ by.
QUIET: Final = timedelta(hours=1)
DASHBOARD_LABEL: Final = "modekeeper/dashboard"
DASHBOARD_TITLE: Final = "ModeKeeper dashboard"


class Answered(Frozen):
    """The comments that were answered, by number."""

    done: tuple[int, ...] = ()


class GitHubInbox:
    """`ports.Inbox`. Comments are read where a pull request changed since they were read last."""

    def __init__(self, forge: GitHubForge) -> None:
        self._forge = forge
        self._api: Api = forge.api
        self._path = f"/repos/{forge.name}"
        self._read: dict[int, tuple[str, int]] = {}
        self._mine: dict[int, int] = {}
        self._done: dict[int, Answered] = {}

    def words(self) -> tuple[Word, ...]:
        """Those that stand unanswered, oldest first."""
        found: list[Word] = []
        for pr in self._forge.list_prs():
            at, times = self._read.get(pr.number, ("", 0))
            # GitHub's times are whole seconds: what is said within the one we read in is seen the second time only.
            if at == pr.updated_at and times > 1:
                continue
            waiting = self._waiting(pr.number)
            found += waiting
            if not waiting:
                long_ago = parse_time(pr.updated_at) + QUIET < self._forge.clock.now()
                self._read[pr.number] = (pr.updated_at, 2 if long_ago or at == pr.updated_at else 1)
        return tuple(sorted(found, key=lambda word: word.id))

    def answer(self, word: Word, *, well: bool, text: str) -> None:
        """Our own comment, which remembers what was answered, then a reaction: killed in between, that is all that is missing."""
        done = Answered(done=(*self._done.get(word.pr, Answered()).done, word.id)[-KEPT:])
        self._say(word.pr, _with_done(f"{_cut(text)}\n\n(asked by {word.by.name} in comment {word.id})", done))
        self._done[word.pr] = done
        self._react(word, "+1" if well else "confused")

    def _react(self, word: Word, content: str) -> None:
        try:
            self._api.send("POST", f"{self._path}/issues/comments/{word.id}/reactions", {"content": content})
        except Refused as exc:
            # Somebody deleted the comment meanwhile.
            if exc.status != 404:
                raise

    def _say(self, pr: int, body: str) -> None:
        if pr in self._mine:
            try:
                self._api.send("PATCH", f"{self._path}/issues/comments/{self._mine[pr]}", {"body": body})
            except Refused as exc:
                if exc.status != 404:
                    raise
            else:
                return
        made = self._api.send("POST", f"{self._path}/issues/{pr}/comments", {"body": body})
        self._mine[pr] = Bag(made, "comment").number("id")

    def _waiting(self, number: int) -> list[Word]:
        rows = [Bag(row, "comment") for row in self._api.pages(f"{self._path}/issues/{number}/comments")]
        us = self._forge.identity.key
        self._mine.pop(number, None)
        for row in rows:
            # Only what we said ourselves tells what was answered.
            if row.has("user") and person(row.raw.get("user")).key == us:
                kept = _done_of(row.maybe("body") or "")
                if kept is not None:
                    self._mine[number], self._done[number] = row.number("id"), kept
        waiting = []
        may: dict[str, bool] = {}
        for row in rows:
            text = row.maybe("body") or ""
            if parse_command(text) is None or not row.has("user"):
                continue
            by = person(row.raw.get("user"))
            if by.key == us or by.bot or self._answered(number, row):
                continue
            if by.key not in may:
                may[by.key] = self._forge.may_write(by)
            waiting.append(Word(pr=number, id=row.number("id"), by=by, text=text[:MAX_WORD], may_write=may[by.key]))
        return waiting

    def _answered(self, number: int, row: Bag) -> bool:
        done, one = self._done.get(number, Answered()).done, row.number("id")
        # They are answered in order, so what came before all that are remembered was answered, too.
        if one in done or (len(done) >= KEPT and one < min(done)):
            return True
        # Where somebody deleted our comment, our reaction is what is left of the answer; the next comment remembers it again.
        if number in self._mine or not self._reacted(row):
            return False
        self._done[number] = Answered(done=(*done, one)[-KEPT:])
        return True

    def _reacted(self, row: Bag) -> bool:
        if not row.has("reactions") or row.bag("reactions").number("total_count") == 0:
            return False
        found = self._api.pages(f"{self._path}/issues/comments/{row.number('id')}/reactions")
        return any(person(Bag(one, "reaction").raw.get("user")).key == self._forge.identity.key for one in found)


class GitHubBoard:
    """`ports.Board`: an open issue of ours, known by its label."""

    def __init__(self, forge: GitHubForge) -> None:
        self._forge = forge
        self._api: Api = forge.api
        self._path = f"/repos/{forge.name}"
        self._issue: Bag | None = None
        self._looked = False

    def read(self) -> str | None:
        """What it says now."""
        query = {"state": "open", "labels": DASHBOARD_LABEL, "creator": self._forge.identity.name, "per_page": 5}
        changed, rows = self._api.poll(f"{self._path}/issues", query)
        if changed:
            if not isinstance(rows, list):
                raise ForgeError("GitHub's listing of issues is none")
            mine = [issue for issue in (Bag(row, "issue") for row in rows) if self._is_ours(issue)]
            self._learn(mine[0] if mine else None)
        self._looked = True
        return (self._issue.maybe("body") or "").replace("\r\n", "\n") if self._issue is not None else None

    def write(self, text: str) -> None:
        """Make it say that; the issue is opened where there is none."""
        if not self._looked:
            self.read()
        if self._issue is None:
            self._forge.ensure_label(DASHBOARD_LABEL)
            body = {"title": DASHBOARD_TITLE, "body": text, "labels": [DASHBOARD_LABEL]}
            made = self._api.send("POST", f"{self._path}/issues", body)
        else:
            made = self._api.send("PATCH", f"{self._path}/issues/{self._issue.number('number')}", {"body": text})
        self._issue = Bag(made, "issue")
        # An unchanged listing would be one from before.
        self._api.forget(f"{self._path}/issues")

    def _is_ours(self, issue: Bag) -> bool:
        return not issue.has("pull_request") and person(issue.raw.get("user")).key == self._forge.identity.key

    def _learn(self, listed: Bag | None) -> None:
        """Take in what was listed. A listing may lag behind what we wrote: an older text, or none at all, is looked up."""
        known = self._issue
        if known is not None and (listed is None or listed.text("updated_at") < known.text("updated_at")):
            found = self._api.find(f"{self._path}/issues/{known.number('number')}")
            issue = Bag(found, "issue") if found is not None else None
            stands = (
                issue is not None
                and issue.text("state") == "open"
                and DASHBOARD_LABEL in labels_of(issue, (DASHBOARD_LABEL,))
            )
            listed = issue if stands else listed
        self._issue = listed


def _with_done(text: str, done: Answered) -> str:
    return f"{text}\n\n<!-- modekeeper:status {dumps_canonical(done.plain()).decode()} -->\n"


def _done_of(body: str) -> Answered | None:
    found = _STATUS.search(body.replace("\r\n", "\n"))
    if found is None:
        return None
    try:
        return Answered.parse_json(found[1], what="the status comment")
    except InputError:
        return None


def _cut(text: str) -> str:
    """An answer of a length that is read; what is left out is said."""
    return text if len(text) <= MAX_ANSWER else f"{text[:MAX_ANSWER]}\n\n({len(text) - MAX_ANSWER} characters left out)"
