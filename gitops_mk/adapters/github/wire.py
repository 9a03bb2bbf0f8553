"""What GitHub's answers mean. Nothing here asks; whatever is not as GitHub documents it is told, not guessed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from gitops_mk.core.render.text import plain
from gitops_mk.errors import ForgeError, InputError
from gitops_mk.model.change import Check, Person, Review
from gitops_mk.model.standing import HeadCheck
from gitops_mk.model.times import format_time

# Who takes part in a repository, by GitHub's word; everybody else's review is a remark.
MEMBERS: Final = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})
VERDICTS: Final = {"APPROVED": "approved", "CHANGES_REQUESTED": "changes_requested", "DISMISSED": "dismissed"}


class Bag:
    """A JSON object that is asked for fields of a kind; raises ForgeError naming the field for any other."""

    def __init__(self, data: Any, what: str) -> None:
        if not isinstance(data, dict):
            raise ForgeError(f"{what}: GitHub's answer is no object")
        self._data: Mapping[str, Any] = data
        self._what = what

    def text(self, name: str) -> str:
        """A string."""
        value = self._data.get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value

    def maybe(self, name: str) -> str | None:
        """A string or null."""
        return None if self._data.get(name) is None else self.text(name)

    def number(self, name: str) -> int:
        """A whole number."""
        value = self._data.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**19:
            raise self._wrong(name, "a number")
        return value

    def flag(self, name: str) -> bool:
        """True or false; null and absent are false."""
        value = self._data.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value is True

    def bag(self, name: str) -> Bag:
        """An object."""
        return Bag(self._data.get(name), f"{self._what}.{name}")

    def has(self, name: str) -> bool:
        """True unless it is absent or null."""
        return self._data.get(name) is not None

    def whether(self, name: str) -> bool | None:
        """True or false, null where GitHub does not know yet."""
        return self.flag(name) if self.has(name) else None

    def rows(self, name: str) -> list[Any]:
        """A list; null and absent are empty."""
        value = self._data.get(name)
        if value is not None and not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value or []

    @property
    def raw(self) -> Mapping[str, Any]:
        """As it came."""
        return self._data

    def _wrong(self, name: str, expected: str) -> ForgeError:
        return ForgeError(f"{self._what}.{name}: GitHub's answer has no {name} that is {expected}")


def person(data: Any) -> Person:
    """An account. One that was deleted is nobody in particular."""
    if data is None:
        return Person(name="ghost", email="ghost@users.noreply.github.com")
    account = Bag(data, "user")
    login, number = plain(account.text("login"), most=100), account.number("id")
    return Person(
        name=login,
        # The address GitHub itself gives to who keeps theirs to themselves.
        email=f"{number}+{login}@users.noreply.github.com",
        account=str(number),
        bot=account.maybe("type") == "Bot",
    )


def moment(text: str) -> str:
    """A time of GitHub's, as ours are written."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError("no time zone")
        return format_time(at)
    except (ValueError, OverflowError) as exc:
        raise ForgeError(f"GitHub's time {text[:40]!r} is none") from exc


def review(data: Any) -> Review | None:
    """A review that says something; None for a remark, one not handed in yet, and one by somebody from outside."""
    found = Bag(data, "review")
    verdict = VERDICTS.get(found.text("state"))
    if verdict is None or not found.has("commit_id") or not found.has("submitted_at"):
        return None
    if found.maybe("author_association") not in MEMBERS:
        return None
    fields = {
        "by": person(found.raw.get("user")).plain(),
        "verdict": verdict,
        "commit": found.text("commit_id"),
        "at": moment(found.text("submitted_at")),
    }
    try:
        return Review.parse(fields, what="review")
    except InputError as exc:
        raise ForgeError(f"GitHub's answer: {exc.message}") from exc


def head_check(data: Any) -> HeadCheck:
    """A check run."""
    run = Bag(data, "check run")
    app = run.raw.get("app")
    done = run.text("status") == "completed"
    return HeadCheck(
        name=run.text("name"),
        # One whose App was deleted is of no App that anybody asks for.
        app=str(Bag(app, "check run.app").number("id")) if app is not None else "0",
        commit=run.text("head_sha"),
        conclusion=(run.maybe("conclusion") or "none") if done else None,
        order=run.number("id"),
    )


def status_check(data: Any, sha: str) -> HeadCheck:
    """A commit status, as a check that no App gave."""
    status = Bag(data, "status")
    state = status.text("state")
    return HeadCheck(
        name=status.text("context"),
        app=None,
        commit=sha,
        conclusion=None if state == "pending" else state,
        order=status.number("id"),
    )


def pack(check: Check) -> str:
    """What a check is bound to, short enough for the description of a status: base, tree and plan."""
    parts = (check.base, check.tree or "", check.plan_digest or "")
    return ".".join(base64.urlsafe_b64encode(bytes.fromhex(part)).decode().rstrip("=") for part in parts)


def unpack(text: str) -> tuple[str, str | None, str | None] | None:
    """Base, tree and plan of a packed text; None for any other."""
    parts = text.split(".")
    if len(parts) != 3:
        return None
    try:
        base, tree, plan = (
            base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True).hex() for part in parts
        )
    except (binascii.Error, ValueError):
        return None
    return (base, tree or None, plan or None) if len(base) in (40, 64) else None


def own_check(name: str, sha: str, conclusion: str, summary: str, packed: str, at: str) -> Check | None:
    """A check that we wrote, as we wrote it; None where what it is bound to can't be read."""
    bound = unpack(packed)
    if bound is None or conclusion not in ("success", "failure"):
        return None
    base, tree, digest = bound
    fields = {
        "name": name, "commit": sha, "base": base, "tree": tree, "plan_digest": digest, "conclusion": conclusion,
        "summary": plain(summary, most=500), "at": at,
    }  # fmt: skip
    try:
        return Check.parse(fields, what="check")
    except InputError:
        return None
