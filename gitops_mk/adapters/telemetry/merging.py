"""Many logs to one, in the order of time: their readers put lines in, one at a time takes them out. Memory is bounded.

A reader that has not caught up with its log holds the others back: what it brings may be older than what they have. That
matters where a rollout replaced a pod: the old one's steps come before the new one's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from gitops_mk.core.podlines import Line

# What may wait in all, and for each reader at least; a line counts with what Python takes to hold it.
ROOM = 33_554_432
LEAST_ROOM = 131_072
OVERHEAD = 200
BLOCK = 262_144


class Feed:
    """One reader's way in. Its methods wait for nobody but `put`, which waits while too much is there already."""

    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self.waiting: deque[Line] = deque()
        self.size = 0
        self.newest = b""
        # When it last brought something, as long as there may be older lines to come.
        self.behind_since: float | None = None
        self.closed = False

    def put(self, lines: Sequence[Line]) -> None:
        """Hand over lines."""
        if lines:
            self._merger.put(self, lines)

    def behind(self) -> None:
        """There may be older lines to come."""
        self.behind_since = self._merger.clock()

    def caught_up(self) -> None:
        """There is nothing more to read just now."""
        self.behind_since = None

    def close(self) -> None:
        """Nothing will come any more."""
        self.behind_since = None
        self.closed = True


class Merger:
    """Where the feeds meet. `patience_s` is for how long a reader that brings nothing holds the others back."""

    def __init__(self, *, patience_s: float, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._patience_s = patience_s
        self._feeds: list[Feed] = []
        self._size = 0
        self._pressed = False
        self._stopped = False
        lock = threading.Lock()
        self._room = threading.Condition(lock)
        self._work = threading.Condition(lock)

    @property
    def idle(self) -> bool:
        """True when all feeds are closed and nothing waits."""
        with self._room:
            return all(feed.closed and not feed.waiting for feed in self._feeds)

    def open(self) -> Feed:
        """A new way in, behind until it says otherwise."""
        feed = Feed(self)
        feed.behind()
        with self._room:
            self._feeds.append(feed)
        return feed

    def stop(self) -> None:
        """Let nobody wait any more; what is there can still be taken."""
        with self._room:
            self._stopped = True
            self._room.notify_all()
            self._work.notify_all()

    def put(self, feed: Feed, lines: Sequence[Line]) -> None:
        """Take lines of one feed; for `Feed.put`."""
        size = sum(len(line.data) for line in lines) + OVERHEAD * len(lines)
        with self._room:
            for line in lines:
                # A log's own order stands, whatever its times say.
                feed.newest = max(feed.newest, line.time)
                feed.waiting.append(Line(feed.newest, line.data))
            if feed.behind_since is not None:
                feed.behind_since = self.clock()
            feed.size += size
            self._size += size
            if self._size > BLOCK:
                self._press()
            while feed.size > max(LEAST_ROOM, ROOM // len(self._feeds)) and not self._stopped:
                self._press()
                self._room.wait()

    def take(self, timeout: float) -> Iterator[bytes]:
        """Blocks of whole lines, those that nobody has older ones for; waits for at most so many seconds."""
        with self._room:
            self._work.wait_for(lambda: self._pressed or self._stopped, timeout)
            lines = self._ready(self._mark())
        return _blocks(lines)

    def rest(self) -> Iterator[bytes]:
        """Blocks of all that waits."""
        with self._room:
            lines = self._ready(None)
        return _blocks(lines)

    def _press(self) -> None:
        if not self._pressed:
            self._pressed = True
            self._work.notify()

    def _mark(self) -> bytes | None:
        """Up to which time lines can be given: None for all."""
        now = self.clock()
        return min((feed.newest for feed in self._feeds if self._holds(feed, now)), default=None)

    def _holds(self, feed: Feed, now: float) -> bool:
        since = feed.behind_since
        return since is not None and (bool(feed.waiting) or now - since < self._patience_s)

    def _ready(self, mark: bytes | None) -> list[Line]:
        out: list[Line] = []
        givers, now = 0, self.clock()
        for feed in self._feeds:
            before, waiting = len(out), feed.waiting
            while waiting and (mark is None or waiting[0].time <= mark):
                out.append(waiting.popleft())
            taken = out[before:]
            if taken:
                givers += 1
                # It may have had to wait for us: its time to bring the next begins now.
                feed.behind_since = None if feed.behind_since is None else now
            size = sum(len(line.data) for line in taken) + OVERHEAD * len(taken)
            feed.size -= size
            self._size -= size
        self._feeds = [feed for feed in self._feeds if feed.waiting or not feed.closed]
        self._pressed = False
        if out:
            self._room.notify_all()
        if givers > 1:
            out.sort(key=itemgetter(0))
        return out


def _blocks(lines: list[Line]) -> Iterator[bytes]:
    part: list[bytes] = []
    size = 0
    for line in lines:
        part.append(line.data)
        size += len(line.data)
        if size >= BLOCK:
            yield b"".join(part)
            part, size = [], 0
    if part:
        yield b"".join(part)
