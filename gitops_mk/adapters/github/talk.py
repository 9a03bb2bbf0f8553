"""What people say on our pull requests, and our one comment there that answers; and the issue that shows how everything stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gitops_mk.adapters.github.api import Api, Refused
from gitops_mk.adapters.github.wire import Bag, person
from gitops_mk.core.commands import parse_command
from gitops_mk.errors import InputError
from gitops_mk.model.base import Frozen
from gitops_mk.model.canonical import dumps_canonical
from gitops_mk.ports import Word

if TYPE_CHECKING:
    from gitops_mk.adapters.github.forge import GitHubForge

_STATUS = re.compile(r"\n*<!-- modekeeper:status (\{[^\n]*\}) -->\s*\Z")
# Of a pull request that is talked about a lot, the answers that are remembered.
KEPT: Final = 200
MAX_ANSWER: Final = 20_000
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
        self._read_at: dict[int, str] = {}
        self._mine: dict[int, tuple[int, Answered, str]] = {}

    def words(self) -> tuple[Word, ...]:
        """Those that stand unanswered, oldest first."""
        found: list[Word] = []
        for pr in self._forge.list_prs():
            if self._read_at.get(pr.number) == pr.updated_at:
                continue
            waiting = self._waiting(pr.number)
            found += waiting
            if not waiting:
                self._read_at[pr.number] = pr.updated_at
        return tuple(sorted(found, key=lambda word: word.id))

    def answer(self, word: Word, *, well: bool, text: str) -> None:
        """A reaction on the comment, then our own comment: killed in between, the command is carried out once more."""
        reaction = {"content": "+1" if well else "confused"}
        try:
            self._api.send("POST", f"{self._path}/issues/comments/{word.id}/reactions", reaction)
        except Refused as exc:
            # Somebody deleted the comment meanwhile.
            if exc.status != 404:
                raise
        number, answered, _ = self._mine.get(word.pr, (0, Answered(), ""))
        done = Answered(done=(*answered.done, word.id)[-KEPT:])
        body = _with_done(f"{_cut(text)}\n\n(asked by {word.by.name} in comment {word.id})", done)
        if number:
            self._api.send("PATCH", f"{self._path}/issues/comments/{number}", {"body": body})
        else:
            made = self._api.send("POST", f"{self._path}/issues/{word.pr}/comments", {"body": body})
            number = Bag(made, "comment").number("id")
        self._mine[word.pr] = (number, done, body)

    def _waiting(self, number: int) -> list[Word]:
        rows = [Bag(row, "comment") for row in self._api.pages(f"{self._path}/issues/{number}/comments")]
        us = self._forge.identity.key
        answered = Answered()
        for row in rows:
            # Only what we said ourselves tells what was answered.
            if row.raw.get("user") is not None and person(row.raw.get("user")).key == us:
                kept = _done_of(row.maybe("body") or "")
                if kept is not None:
                    answered = kept
                    self._mine[number] = (row.number("id"), kept, row.maybe("body") or "")
        waiting = []
        may: dict[str, bool] = {}
        for row in rows:
            text = row.maybe("body") or ""
            if parse_command(text) is None or row.number("id") in answered.done or row.raw.get("user") is None:
                continue
            by = person(row.raw.get("user"))
            if by.key == us or by.bot:
                continue
            if by.key not in may:
                may[by.key] = self._forge.may_write(by)
            waiting.append(Word(pr=number, id=row.number("id"), by=by, text=text[:4000], may_write=may[by.key]))
        return waiting


class GitHubBoard:
    """`ports.Board`: an open issue of ours, known by its label."""

    def __init__(self, forge: GitHubForge) -> None:
        self._forge = forge
        self._api: Api = forge.api
        self._path = f"/repos/{forge.name}"
        self._number: int | None = None
        self._text: str | None = None

    def read(self) -> str | None:
        """What it says now."""
        query = {"state": "open", "labels": DASHBOARD_LABEL, "creator": self._forge.identity.name, "per_page": 5}
        changed, rows = self._api.poll(f"{self._path}/issues", query)
        if changed:
            mine = [Bag(row, "issue") for row in rows if "pull_request" not in row]
            found = next((one for one in mine if person(one.raw.get("user")).key == self._forge.identity.key), None)
            self._number = found.number("number") if found is not None else None
            self._text = (found.maybe("body") or "").replace("\r\n", "\n") if found is not None else None
        return self._text

    def write(self, text: str) -> None:
        """Make it say that; the issue is opened where there is none."""
        if self._number is None:
            self._forge.ensure_label(DASHBOARD_LABEL)
            body = {"title": DASHBOARD_TITLE, "body": text, "labels": [DASHBOARD_LABEL]}
            self._number = Bag(self._api.send("POST", f"{self._path}/issues", body), "issue").number("number")
        else:
            self._api.send("PATCH", f"{self._path}/issues/{self._number}", {"body": text})
        self._text = text


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
