"""Faults on demand: answers that are lost, late or wrong, and things that happen just before or after a request."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do to a request. `kind` says when; made by the class methods."""

    kind: str
    code: int = 0
    seconds: float = 0.0
    extra: tuple[tuple[str, str], ...] = ()
    body: Any = None
    call: Callable[[], object] | None = None

    @classmethod
    def status(cls, code: int, body: Any = None) -> Fault:
        """Answer with this status; nothing is done."""
        return cls("status", code, body=body)

    @classmethod
    def status_after(cls, code: int, body: Any = None) -> Fault:
        """Do what was asked, then answer with this status all the same."""
        return cls("status_after", code, body=body)

    @classmethod
    def drop(cls) -> Fault:
        """Cut the connection; nothing is done."""
        return cls("drop")

    @classmethod
    def drop_after(cls) -> Fault:
        """Do what was asked, then cut the connection instead of answering."""
        return cls("drop_after")

    @classmethod
    def delay(cls, seconds: float) -> Fault:
        """Wait before the request is served."""
        return cls("delay", seconds=seconds)

    @classmethod
    def headers(cls, code: int, headers: Mapping[str, str], body: Any = None) -> Fault:
        """Answer with this status and these headers (a rate limit, say); nothing is done."""
        return cls("status", code, extra=tuple(headers.items()), body=body)

    @classmethod
    def before(cls, call: Callable[[], object]) -> Fault:
        """Call this before the request is served."""
        return cls("before", call=call)

    @classmethod
    def during(cls, call: Callable[[], object]) -> Fault:
        """Call this inside a merge, when everything was checked and the base branch is about to be moved."""
        return cls("during", call=call)

    @classmethod
    def after(cls, call: Callable[[], object]) -> Fault:
        """Call this when the request was served, before it is answered."""
        return cls("after", call=call)


@dataclass(eq=False, slots=True)
class _Planned:
    method: str
    path: re.Pattern[str]
    action: Fault
    nth: int
    times: int
    seen: int = 0


@dataclass(eq=False)
class Faults:
    """The faults planned. They are matched by method and a regular expression over the path with its query."""

    planned: list[_Planned] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, method: str, path: str, action: Fault, nth: int = 1, times: int = 1) -> None:
        """Plan a fault for the `nth` match from now on, and for `times` matches in a row. The method `*` is any."""
        with self._lock:
            self.planned.append(_Planned(method, re.compile(path), action, nth, times))

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self.planned.clear()

    @property
    def pending(self) -> int:
        """How many haven't happened in full."""
        with self._lock:
            return sum(one.seen < one.nth + one.times - 1 for one in self.planned)

    def of(self, method: str, path: str) -> list[Fault]:
        """What happens to this request; it is counted."""
        found = []
        with self._lock:
            for one in self.planned:
                if one.method in ("*", method) and one.path.search(path):
                    one.seen += 1
                    if one.nth <= one.seen < one.nth + one.times:
                        found.append(one.action)
        return found
