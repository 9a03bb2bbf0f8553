"""One container's log, read by a thread of its own: what is there, then what comes, through restarts and broken connections."""

from __future__ import annotations

import copy
import threading
from typing import NamedTuple, Protocol

from gitops_mk.adapters.telemetry.merging import Feed
from gitops_mk.core.podlines import Line, PodLines
from gitops_mk.core.pods import ContainerState, container_state, is_over
from gitops_mk.errors import ClusterError
from gitops_mk.model.cluster import LiveObject
from gitops_mk.ports import Cluster

# Blocks are split into lines this many bytes at a time: as objects, lines take several times their bytes.
SLICE = 32_768
TRIES = 3
LOOKS = 8
# What the server answers for a container that has not started, and for a run whose log is not kept.
NO_LOG = frozenset({400, 404})


class Pace(NamedTuple):
    """How often things are done, in seconds. `lag_s`: how long the server may take to tell of a restart."""

    list_s: float = 5.0
    first_retry_s: float = 0.5
    last_retry_s: float = 8.0
    batch_s: float = 0.25
    patience_s: float = 10.0
    lag_s: float = 2.0


class Span(NamedTuple):
    """What to read: the last so many seconds (None: all), at most so many bytes of a run (None: all), and whether to follow."""

    since_s: int | None
    limit_bytes: int | None
    follow: bool


class Desk(Protocol):
    """What the readers share, and whom they tell what happens."""

    cluster: Cluster
    pace: Pace
    stop: threading.Event

    def pod(self, uid: str) -> LiveObject | None:
        """A pod as it was listed last; None when it was not."""
        ...

    def elapsed_s(self) -> int:
        """Whole seconds since the reading began, rounded up."""
        ...

    def gap(self, pod: str, words: str) -> None:
        """Lines are missing."""
        ...

    def trouble(self, pod: str, exc: ClusterError, *, log_of: str = "") -> None:
        """A request failed: for the log of the pod of that uid, or for the pod itself."""
        ...

    def opened(self) -> None:
        """A log was there to be read."""
        ...

    def heard(self, uid: str) -> None:
        """Lines of a pod were read."""
        ...

    def kubelet_says(self, words: str) -> None:
        """A line that is not the container's."""
        ...


class ContainerLog:
    """Reads one container of one pod into a feed until it is over, or `desk.stop` is set. `run` is the thread's work.

    A run of the container (what is between two restarts) is read to the end of what is there, and then followed; where the
    connection ends, it is read on from the last line. After a restart, the rest of the run before is read once. What can't be
    had any more is told as a gap.
    """

    def __init__(self, desk: Desk, feed: Feed, pod: LiveObject, container: str, span: Span) -> None:
        self._desk = desk
        self._feed = feed
        self._container = container
        self._span = span
        meta = pod["metadata"]
        self._namespace, self._name, self._uid = str(meta["namespace"]), str(meta["name"]), str(meta["uid"])
        # The run that is read, as `restartCount` counts them. All of a pod is read from its first run on.
        self._first = container_state(pod, container)
        self._run = self._first.restarts if span.since_s is not None else 0
        self._lines = PodLines()
        # Whether that run is over and was read to its end; whether the last reading came to the end of what was there.
        self._complete = False
        self._clean = True
        self._wait_s = desk.pace.first_retry_s
        self._brought = False
        self._failures = 0
        self._status: int | None = None
        self.backlog_read = False

    def run(self) -> None:
        """Read it all."""
        try:
            if self._span.since_s is not None and self._run and self._first.previous:
                # What was asked for may reach back behind the last restart.
                self._read_previous(PodLines(), self._span.since_s)
            while self._turn() and not self._desk.stop.is_set():
                self._pause()
        finally:
            self._feed.close()

    def _turn(self) -> bool:
        """See how the container stands, read what is there, follow. False when nothing more will come."""
        pod = self._current()
        if pod is None:
            if not self._complete and not self._clean:
                self._gap("the pod is gone, and its log was not read to its end")
            return False
        state = container_state(pod, self._container)
        if state.restarts > self._run:
            self._feed.behind()
            self._restarted(state)
        if self._complete or not state.readable:
            self._feed.caught_up()
            return self._span.follow and not is_over(pod)
        self._feed.behind()
        read = self._read(self._lines)
        self._feed.caught_up()
        if not read:
            self._failures += 1
            return self._span.follow or self._failures < TRIES
        self.backlog_read = True
        if state.ended:
            self._put(self._lines.finish())
            self._complete = True
        elif self._span.follow and self._lines.newest is not None:
            # Asked to follow from a line that is there: else the server would not even answer before the next one is written.
            self._read(self._lines, follow=True)
        return self._span.follow

    def _current(self) -> LiveObject | None:
        try:
            pod = self._desk.cluster.get("Pod", self._name, namespace=self._namespace)
        except ClusterError as exc:
            self._desk.trouble(self._name, exc)
            return self._desk.pod(self._uid)
        return pod if pod is not None and pod["metadata"].get("uid") == self._uid else None

    def _restarted(self, state: ContainerState) -> None:
        """Read what is left of the run before, and go on to the one that `state` tells of."""
        between = state.restarts - self._run - 1
        if between > int(self._complete):
            self._gap(f"{between + 1} restarts between two looks at it: only the log of the last run before is kept")
        lines = PodLines() if between else self._lines
        kept: PodLines | None = None
        if between or not self._complete:
            if not state.previous or not self._read_previous(lines, None):
                self._gap("the log of the run before its restart is not kept")
            elif not lines.reached:
                # The server told of the restart late: the last lines are the new run's already.
                kept = lines
                if not lines.known:
                    self._gap("what it wrote right before its restart may be missing")
        self._run, self._complete, self._clean = state.restarts, False, True
        self._lines = kept or PodLines()
        self._span = self._span._replace(since_s=None)

    def _read_previous(self, lines: PodLines, since_s: int | None) -> bool:
        """The run before, once. False when its log is not kept."""
        for attempt in range(TRIES):
            if attempt:
                self._pause()
            if self._read(lines, previous=True, since_s=since_s):
                # Where its last line was not seen, what is left over is the beginning of another run's.
                if lines.reached:
                    self._put(lines.finish())
                return True
            if self._status in NO_LOG or self._desk.stop.is_set():
                break
        return False

    def _read(
        self, lines: PodLines, *, follow: bool = False, previous: bool = False, since_s: int | None = None
    ) -> bool:
        """One request. True when it came to the end of what is there."""
        self._clean = False
        since_time = lines.begin()
        before = copy.deepcopy(lines) if since_time and not previous else None
        if since_time is None and since_s is None and self._span.since_s is not None:
            since_s = self._span.since_s + self._desk.elapsed_s()
        limit, got, told = self._span.limit_bytes, 0, lines.untimed
        try:
            with self._desk.cluster.logs(
                self._namespace,
                self._name,
                self._container,
                follow=follow,
                previous=previous,
                since_time=since_time,
                since_seconds=since_s if since_time is None else None,
                limit_bytes=limit,
            ) as blocks:
                self._desk.opened()
                for block in blocks:
                    if self._desk.stop.is_set():
                        return False
                    got += len(block)
                    for start in range(0, len(block), SLICE):
                        new = lines.feed(block[start : start + SLICE])
                        if lines.missing and before is not None:
                            if self._restarted_meanwhile():
                                # These are the next run's lines: first the rest of this one.
                                self._lines = before
                                return False
                            before = None
                            self._gap(
                                f"lines between {' and '.join(lines.missing)} may be missing: the log was rotated"
                            )
                        self._put(new)
                    if not block and self._is_elsewhere():
                        break
        except ClusterError as exc:
            self._status = exc.status
            # That a stream breaks off is nothing to tell: what is there is read again, and says whether the server is.
            if not follow or exc.status is not None:
                self._desk.trouble(self._name, exc, log_of=self._uid)
            return False
        if previous and lines.missing:
            self._gap(f"lines between {' and '.join(lines.missing)} may be missing: the log was rotated")
        if lines.untimed > told:
            self._desk.kubelet_says(lines.last_words.decode("utf-8", "replace"))
        if limit is not None and got >= limit:
            self._gap(f"only the first {limit} bytes of the log were read")
        self._clean = True
        return True

    def _restarted_meanwhile(self) -> bool:
        for _ in range(LOOKS):
            if self._desk.stop.wait(self._desk.pace.lag_s / LOOKS):
                return False
            pod = self._current()
            if pod is None or container_state(pod, self._container).restarts > self._run:
                return pod is not None
        return False

    def _is_elsewhere(self) -> bool:
        """True when the container was restarted, or the pod is gone: nothing more will come here."""
        pod = self._desk.pod(self._uid)
        return pod is None or container_state(pod, self._container).restarts > self._run

    def _put(self, lines: list[Line]) -> None:
        if lines:
            self._brought = True
            self._desk.heard(self._uid)
            self._feed.put(lines)

    def _gap(self, words: str) -> None:
        self._desk.gap(f"{self._name}/{self._container}", words)

    def _pause(self) -> None:
        """Wait, longer each time that nothing came."""
        pace = self._desk.pace
        self._wait_s = pace.first_retry_s if self._brought else min(2 * self._wait_s, pace.last_retry_s)
        self._brought = False
        self._desk.stop.wait(self._wait_s)
