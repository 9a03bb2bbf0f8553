"""One list kept up to date, whatever the server does: expired versions, errors, silence, watches that end at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from gitops_mk.controller.inventory import Scope
from gitops_mk.controller.watcher import ABSENT_S, PAUSE_MAX_S, PAUSE_S, STALE_S, Watcher
from gitops_mk.errors import ClusterError, ExpiredError
from gitops_mk.model.cluster import Page, WatchEvent
from tests.support.cluster import SimCluster
from tests.support.objects import deployment

Json = dict[str, Any]
SCOPE = Scope("Deployment", "ml", "")


def obj(name: str, version: int, **over: Any) -> Json:
    made = deployment(name=name, **over)
    made["metadata"]["resourceVersion"] = str(version)
    return made


def event(kind: str, name: str, version: int) -> WatchEvent:
    return WatchEvent(kind, obj(name, version))


def bookmark(version: int) -> WatchEvent:
    return WatchEvent("BOOKMARK", {"kind": "Deployment", "metadata": {"resourceVersion": str(version)}})


EXPIRED = ExpiredError("too old", status=410, retryable=True)
DOWN = ClusterError("the server can't be reached", retryable=True)
DENIED = ClusterError("the API server says 403: you may not", status=403)


class Scripted:
    """A server that answers each list and each watch by the next line of its script; an exception in one is raised there."""

    context, server, calls = "script", "https://script.invalid", 0

    def __init__(self, lists: Iterable[Any], watches: Iterable[Any] = ()) -> None:
        self._lists = iter(lists)
        self._watches = iter(watches)
        self.listed = 0
        self.watched: list[str] = []

    def pages(self, kind: str, *, namespace: str | None = None, labels: str = "", fields: str = "") -> Iterator[Page]:
        assert (kind, namespace, labels) == (SCOPE.kind, SCOPE.namespace, SCOPE.labels)
        self.listed += 1
        yield from _played(next(self._lists))

    def watch(
        self, kind: str, *, namespace: str | None = None, labels: str = "", resource_version: str
    ) -> Iterator[WatchEvent]:
        self.watched.append(resource_version)
        yield from _played(next(self._watches))


def _played(script: Any) -> Iterator[Any]:
    for line in script if isinstance(script, list) else [script]:
        if isinstance(line, Exception):
            raise line
        yield line


class Stop(threading.Event):
    """Waits take no time, and are counted; set after so many."""

    def __init__(self, after: int, clock: list[float] | None = None) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._after = after
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        if self.is_set():
            return True
        self.waits.append(timeout)
        if self._clock is not None:
            self._clock[0] += timeout
        if len(self.waits) >= self._after:
            self.set()
        return self.is_set()


class Seen:
    """A watcher with what it told."""

    def __init__(self, cluster: Any, *, whole: bool = False) -> None:
        self.changed: list[str] = []
        self.told: list[str] = []
        self.clock = [1000.0]
        self.watcher = Watcher(
            cluster,
            SCOPE,
            whole=whole,
            changed=lambda live: self.changed.append(live["metadata"]["name"]),
            tell=self.told.append,
            monotonic=lambda: self.clock[0],
        )

    def run(self, waits: int) -> list[float]:
        stop = Stop(waits, self.clock)
        self.watcher.run(stop)
        return stop.waits

    @property
    def names(self) -> dict[str, str]:
        return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in self.watcher.objects()}


def page(version: int, *items: Json) -> Page:
    return Page(items, str(version))


def test_a_list_of_pages_is_watched_from_the_version_of_the_first() -> None:
    script = Scripted([[page(10, obj("a", 3)), page(17, obj("b", 9))]], [[event("MODIFIED", "a", 11)]])
    seen = Seen(script)
    seen.run(1)
    assert script.watched == ["10"]
    assert seen.names == {"a": "11", "b": "9"}
    assert seen.changed == ["a", "b", "a"] or seen.changed == ["b", "a", "a"]
    assert seen.watcher.synced
    assert not seen.told


def test_an_object_that_changes_while_the_list_is_read_is_not_lost() -> None:
    """It changed after its page was read: the watch begins before that."""
    script = Scripted(
        [[page(10, obj("a", 3)), page(14, obj("b", 12))]],
        [[event("MODIFIED", "a", 11), event("ADDED", "b", 12), event("DELETED", "a", 13)]],
    )
    seen = Seen(script)
    seen.run(1)
    assert seen.names == {"b": "12"}


def test_the_list_that_expires_on_its_second_page_is_read_anew() -> None:
    script = Scripted(
        [[page(10, obj("a", 3), obj("gone", 4)), EXPIRED], [page(20, obj("a", 3), obj("b", 15))]], [bookmark(21)]
    )
    seen = Seen(script)
    waits = seen.run(2)
    assert script.listed == 2
    assert script.watched == ["20"]
    assert seen.names == {"a": "3", "b": "15"}
    assert waits[0] == PAUSE_S
    assert not seen.told
    assert "gone" not in seen.changed


def test_half_a_list_never_takes_the_place_of_a_whole_one() -> None:
    whole = [page(10, obj("a", 3), obj("b", 4))]
    script = Scripted([whole, [page(30, obj("a", 3)), EXPIRED], [page(31), DOWN]], [DOWN])
    seen = Seen(script)
    seen.run(3)
    assert seen.names == {"a": "3", "b": "4"}


def test_410_as_the_first_event_lists_again_and_less_often_each_time() -> None:
    script = Scripted([page(n, obj("a", n)) for n in range(1, 12)], [EXPIRED] * 11)
    seen = Seen(script)
    waits = seen.run(10)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]
    assert script.listed == 10
    assert not seen.told
    assert seen.watcher.error == ""
    assert seen.watcher.synced


def test_410_after_each_event_still_goes_on() -> None:
    lists = [page(10 * n, obj("a", n)) for n in range(1, 6)]
    watches = [[event("MODIFIED", "a", 10 * n + 1), EXPIRED] for n in range(1, 6)]
    seen = Seen(Scripted(lists, watches))
    assert seen.run(5) == [PAUSE_S] * 5
    assert seen.names == {"a": "51"}


def test_errors_are_told_once_and_waited_out_longer_and_longer() -> None:
    script = Scripted([*([DOWN] * 8), page(5, obj("a", 2))], [bookmark(6)])
    seen = Seen(script)
    waits = seen.run(9)
    assert waits[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, PAUSE_MAX_S, PAUSE_MAX_S]
    assert seen.told == ["Deployment: the server can't be reached"]
    assert seen.names == {"a": "2"}
    assert seen.watcher.error == ""


def test_never_heard_is_not_synced() -> None:
    seen = Seen(Scripted([DOWN] * 3))
    seen.run(3)
    assert not seen.watcher.synced
    assert seen.watcher.error == DOWN.message


@pytest.mark.parametrize("failure", [ValueError("no JSON"), OSError("no token file"), KeyError("x")])
def test_what_nobody_thought_of_does_not_end_the_thread(failure: Exception) -> None:
    script = Scripted([page(1, obj("a", 1)), page(9, obj("a", 8))], [[bookmark(2), failure], [bookmark(10)]])
    seen = Seen(script)
    seen.run(2)
    assert seen.names == {"a": "8"}
    assert len(seen.told) == 1
    assert type(failure).__name__ in seen.told[0]


def test_what_may_not_be_listed_is_as_good_as_not_there() -> None:
    script = Scripted([DENIED, DENIED])
    seen = Seen(script)
    assert seen.run(2) == [ABSENT_S, ABSENT_S]
    assert seen.watcher.synced
    assert seen.watcher.error == DENIED.message
    assert len(seen.told) == 1
    assert seen.watcher.objects() == ()


def test_a_right_that_is_taken_away_leaves_no_old_news() -> None:
    seen = Seen(Scripted([page(1, obj("a", 1)), DENIED], [DOWN]))
    seen.run(2)
    assert seen.watcher.objects() == ()
    assert seen.changed == ["a", "a"]


def test_a_list_without_the_right_to_watch_is_asked_for_again() -> None:
    """Objects stay: they were listed a minute ago."""
    seen = Seen(Scripted([page(n, obj("a", n)) for n in range(1, 9)], [DENIED] * 8))
    assert seen.run(8)[-1] == PAUSE_MAX_S
    assert seen.names == {"a": "8"}
    assert seen.watcher.synced


def test_a_kind_that_is_not_there_may_come() -> None:
    seen = Seen(Scripted([Page((), ""), page(3, obj("a", 2))], [bookmark(4)]))
    assert seen.run(2)[0] == ABSENT_S
    assert seen.watcher.synced
    assert seen.names == {"a": "2"}


def test_a_watch_that_ends_at_once_is_not_asked_without_a_pause() -> None:
    script = Scripted([page(10, obj("a", 3))], [[]] * 20)
    seen = Seen(script)
    waits = seen.run(20)
    assert waits == [PAUSE_S] * 20
    assert script.watched == ["10"] * 20
    assert script.listed == 1


def test_a_watch_goes_on_from_the_last_event_or_bookmark() -> None:
    script = Scripted(
        [page(10, obj("a", 3))], [[event("MODIFIED", "a", 12)], [bookmark(40)], [event("DELETED", "a", 41)], []]
    )
    seen = Seen(script)
    seen.run(4)
    assert script.watched == ["10", "12", "40", "41"]
    assert seen.names == {}
    # A bookmark is no change.
    assert seen.changed == ["a", "a", "a"]


def test_a_version_from_before_a_restart_is_replaced_by_the_list() -> None:
    """Deleted and made again under the same name while the watch was away."""
    new = obj("a", 50)
    new["metadata"]["uid"] = "another"
    script = Scripted([page(10, obj("a", 3)), page(60, new)], [EXPIRED, [bookmark(61)]])
    seen = Seen(script)
    seen.run(2)
    (held,) = seen.watcher.objects()
    assert held["metadata"]["uid"] == "another"
    assert seen.changed == ["a", "a"]


def test_a_list_that_shows_what_is_known_is_no_change() -> None:
    script = Scripted([page(10, obj("a", 3)), page(20, obj("a", 3))], [DOWN, [bookmark(21)]])
    seen = Seen(script)
    seen.run(2)
    assert seen.changed == ["a"]


def test_silence_makes_old_news_of_what_is_known() -> None:
    """F12: the server can't be reached any more. What was seen before is no ground for a decision after a while."""
    script = Scripted([page(10, obj("a", 3)), *([DOWN] * 20)], [[bookmark(11), DOWN]])
    seen = Seen(script)
    seen.run(4)
    fresh = seen.watcher.synced
    seen.clock[0] += STALE_S
    assert (fresh, seen.watcher.synced) == (True, False)
    assert seen.names == {"a": "3"}


def test_bookmarks_alone_keep_it_fresh() -> None:
    script = Scripted([page(10, obj("a", 3))], [[bookmark(11 + n)] for n in range(400)])
    seen = Seen(script)
    seen.run(int(2 * STALE_S))
    assert seen.clock[0] >= 1000.0 + 2 * STALE_S
    assert seen.watcher.synced


def test_told_to_stop_in_the_midst_of_a_watch() -> None:
    stop = threading.Event()
    taken: list[str] = []

    def changed(live: Any) -> None:
        taken.append(live["metadata"]["resourceVersion"])
        if len(taken) == 3:
            stop.set()

    endless = ([event("MODIFIED", "a", 11 + n) for n in range(1000)],)
    watcher = Watcher(
        Scripted([page(10, obj("a", 3))], endless),  # type: ignore[arg-type]
        SCOPE, whole=True, changed=changed, tell=lambda _: None,
    )  # fmt: skip
    watcher.run(stop)
    assert taken == ["3", "11", "12"]


def test_told_to_stop_before_it_began() -> None:
    script = Scripted([])
    stop = threading.Event()
    stop.set()
    Seen(script).watcher.run(stop)
    assert script.listed == 0


def test_what_is_kept_is_trimmed_and_named() -> None:
    """The items of a list carry neither kind nor version."""
    bare = {key: value for key, value in obj("a", 3).items() if key not in ("kind", "apiVersion")}
    seen = Seen(Scripted([page(10, bare)], [[bookmark(11)]]))
    seen.run(1)
    (held,) = seen.watcher.objects()
    assert (held["kind"], held["apiVersion"]) == ("Deployment", "apps/v1")
    assert held["spec"]["template"]["spec"]["containers"] == [{"name": "trainer"}]


def test_against_the_simulator() -> None:
    sim = SimCluster()
    sim.put(obj("a", 0))
    seen = Seen(sim)
    stop = threading.Event()
    watcher = seen.watcher
    version = watcher.list()
    sim.put(obj("b", 0))
    sim.delete("Deployment", "a", "ml")
    watcher.follow(version, Stop(1))
    assert set(seen.names) == {"b"}
    sim.put(obj("c", 0))
    sim.forget()
    with pytest.raises(ExpiredError):
        watcher.follow(version, stop)
    watcher.list()
    assert set(seen.names) == {"b", "c"}
