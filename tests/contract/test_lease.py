"""Leader election by a Lease, with clocks that a test sets: who leads, when another may, and what a jump of the clock does."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from gitops_mk.adapters.cluster.lease import Lease, Pace
from gitops_mk.errors import ClusterError

Json = dict[str, Any]
PACE = Pace()


class Server:
    """The API server as far as one Lease needs it: compare-and-swap by resourceVersion. `fails` are statuses to answer with."""

    def __init__(self) -> None:
        self.record: Json | None = None
        self.version = 0
        self.fails: list[int | None] = []
        self.lost: list[str] = []
        self.asked: list[str] = []
        self.lock = threading.Lock()
        self.between: dict[str, Any] = {}

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        act = self.between.pop(method, None)
        if act is not None:
            act()
        with self.lock:
            self.asked.append(method)
            if self.fails:
                status = self.fails.pop(0)
                raise ClusterError("it fails", status=status, retryable=True)
            answer = self._answer(method, copy.deepcopy(dict(body or {})))
            if method in self.lost:
                self.lost.remove(method)
                raise ClusterError("the answer was lost on its way", retryable=True)
            return answer

    def _answer(self, method: str, body: Json) -> Json:
        if method == "GET":
            if self.record is None:
                raise ClusterError("not found", status=404)
            return copy.deepcopy(self.record)
        if method == "POST" and self.record is not None:
            raise ClusterError("already exists", status=409)
        if method == "PUT":
            assert self.record is not None
            if body["metadata"].get("resourceVersion") != self.record["metadata"]["resourceVersion"]:
                raise ClusterError("the object has been modified", status=409)
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.record = body
        return copy.deepcopy(body)

    @property
    def spec(self) -> Json:
        assert self.record is not None
        found: Json = self.record["spec"]
        return found


class Candidate:
    """One process with a clock of its own."""

    def __init__(self, server: Server, name: str) -> None:
        self.clock = 1000.0
        self.name = name
        self.lease = Lease(server, "ns", "mk", identity=name, monotonic=lambda: self.clock)  # type: ignore[arg-type]

    def attempt(self) -> bool:
        return self.lease.attempt()

    def leads(self) -> bool:
        return self.lease.lead()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def one(server: Server) -> Candidate:
    return Candidate(server, "one")


@pytest.fixture
def two(server: Server) -> Candidate:
    return Candidate(server, "two")


def test_the_first_one_leads_and_the_other_waits(server: Server, one: Candidate, two: Candidate) -> None:
    assert not one.leads()
    assert (one.attempt(), two.attempt()) == (True, False)
    assert (one.leads(), two.leads()) == (True, False)
    assert server.spec["holderIdentity"] == "one"
    assert (server.spec["leaseDurationSeconds"], server.spec["leaseTransitions"]) == (15, 1)


def test_without_renewal_it_stops_to_lead_before_the_other_may(one: Candidate, two: Candidate) -> None:
    one.attempt()
    two.attempt()
    one.clock += PACE.renew_s
    two.clock += PACE.renew_s
    assert not one.leads()
    assert not two.attempt()
    two.clock += PACE.duration_s - PACE.renew_s - 0.01
    assert not two.attempt()
    two.clock += 0.02
    assert two.attempt()
    assert two.leads()


def test_what_is_renewed_is_never_taken(server: Server, one: Candidate, two: Candidate) -> None:
    one.attempt()
    for _ in range(100):
        one.clock += 9.0
        two.clock += 9.0
        assert one.leads()
        assert one.attempt()
        assert not two.attempt()
    assert server.spec["leaseTransitions"] == 1


def test_it_is_counted_from_when_it_was_seen_and_not_from_when_it_was_written(one: Candidate, two: Candidate) -> None:
    one.attempt()
    two.clock += 3600.0
    assert not two.attempt(), "seen for the first time just now"
    two.clock += PACE.duration_s
    assert two.attempt()


@pytest.mark.parametrize("wall", ["1970-01-01T00:00:00.000000Z", "2126-01-01T00:00:00.000000Z", "2016-12-31T23:59:60Z"])
def test_times_that_are_written_count_for_nothing(server: Server, two: Candidate, wall: str) -> None:
    """A holder whose wall clock is years away (F17)."""
    spec = {"holderIdentity": "far", "leaseDurationSeconds": 15, "renewTime": wall, "acquireTime": wall}
    server.record = {"metadata": {"name": "mk", "resourceVersion": "7"}, "spec": spec}
    assert not two.attempt()
    two.clock += 14.0
    assert not two.attempt()
    two.clock += 1.5
    assert two.attempt()
    assert server.spec["leaseTransitions"] == 1


def test_a_process_that_was_halted_does_not_believe_it_leads(one: Candidate, two: Candidate) -> None:
    """SIGSTOP, a drained node, a swapping machine: when it goes on, its own clock tells."""
    one.attempt()
    two.attempt()
    two.clock += 20.0
    assert two.attempt()
    one.clock += 20.0
    assert not one.leads()
    assert not one.attempt()


def test_a_slow_answer_counts_from_before_it_was_asked(server: Server, one: Candidate) -> None:
    def slow() -> None:
        one.clock += 12.0

    server.between["POST"] = slow
    assert one.attempt()
    assert not one.leads()


def test_who_sees_another_in_its_place_does_not_lead_any_more(server: Server, one: Candidate) -> None:
    one.attempt()
    server.spec["holderIdentity"] = "by hand"
    server.record["metadata"]["resourceVersion"] = "99"  # type: ignore[index]
    assert one.leads()
    assert not one.attempt()
    assert not one.leads()


def test_a_lease_that_was_deleted_is_made_again(server: Server, one: Candidate, two: Candidate) -> None:
    one.attempt()
    server.record = None
    assert one.attempt()
    assert not two.attempt()


def test_released_it_can_be_taken_at_once(server: Server, one: Candidate, two: Candidate) -> None:
    one.attempt()
    assert not two.attempt()
    one.lease.stop()
    assert not one.leads()
    assert server.spec["holderIdentity"] == ""
    assert two.attempt()
    assert server.spec["leaseTransitions"] == 2


def test_given_up_it_is_not_taken_again_by_the_thread_that_renews(server: Server, one: Candidate) -> None:
    one.attempt()
    # Told to stop while an attempt is on its way.
    server.between["GET"] = one.lease.stop
    assert not one.attempt()
    assert server.spec["holderIdentity"] == ""


def test_giving_up_in_the_midst_of_a_renewal_is_tried_again(server: Server, one: Candidate) -> None:
    one.attempt()

    def renewed() -> None:
        server.version += 1
        server.record["metadata"]["resourceVersion"] = str(server.version)  # type: ignore[index]

    server.between["PUT"] = renewed
    one.lease.stop()
    assert server.spec["holderIdentity"] == ""


def test_who_does_not_lead_takes_nothing_from_who_does(server: Server, one: Candidate, two: Candidate) -> None:
    one.attempt()
    two.attempt()
    two.lease.stop()
    assert server.spec["holderIdentity"] == "one"
    one.clock += 60.0
    before = len(server.asked)
    one.lease.stop()
    assert len(server.asked) == before, "long run out: it may be another's by now"


@pytest.mark.parametrize("status", [None, 500, 503, 403, 429])
def test_a_server_that_fails_lets_it_run_out(server: Server, one: Candidate, status: int | None) -> None:
    one.attempt()
    server.fails = [status] * 2
    one.clock += 5.0
    with pytest.raises(ClusterError):
        one.attempt()
    assert one.leads()
    one.clock += 5.0
    assert not one.leads()
    with pytest.raises(ClusterError):
        one.attempt()
    assert one.attempt()
    assert one.leads()


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_write_whose_answer_is_lost_is_found_again(server: Server, one: Candidate, method: str) -> None:
    if method == "PUT":
        one.attempt()
        one.clock += 12.0
    server.lost = [method]
    with pytest.raises(ClusterError):
        one.attempt()
    assert not one.leads(), "nobody knows"
    assert one.attempt()
    assert one.leads()


def test_what_others_wrote_into_it_stays(server: Server, one: Candidate) -> None:
    one.attempt()
    server.spec["strategy"] = "OldestEmulationVersion"
    assert one.attempt()
    assert server.spec["strategy"] == "OldestEmulationVersion"


def test_of_many_at_once_one_leads(server: Server) -> None:
    crowd = [Candidate(server, f"c{n}") for n in range(20)]
    for wave in range(3):
        results: list[bool] = []
        ready = threading.Barrier(len(crowd))

        def try_it(one: Candidate, results: list[bool] = results, ready: threading.Barrier = ready) -> None:
            ready.wait(30)
            results.append(one.attempt())

        threads = [threading.Thread(target=try_it, args=(one,)) for one in crowd]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sum(results) == 1, wave
        assert sum(one.leads() for one in crowd) == 1
        for one in crowd:
            # Silence for as long as it takes, once it was seen by all.
            if not one.leads():
                one.attempt()
            one.clock += 30.0


class Waits(threading.Event):
    """Told to stop after so many waits, which take no time."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._after = after

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        if len(self.waits) >= self._after:
            self.set()
        return self.is_set()


def test_it_goes_on_trying_and_tells_of_a_trouble_once(server: Server, one: Candidate) -> None:
    told: list[str] = []
    stop = one.lease._stopping = Waits(8)
    server.fails = [403, 403, 403]
    one.lease.run(tell=told.append)
    assert stop.waits == [PACE.retry_s] * 8
    assert told == ["the Lease ns/mk: it fails"]
    assert server.spec["holderIdentity"] == "one"


def test_what_nobody_thought_of_does_not_end_the_trying(server: Server, one: Candidate) -> None:
    told: list[str] = []
    one.lease._stopping = Waits(3)

    def no_token() -> None:
        raise FileNotFoundError("token")

    server.between["GET"] = no_token
    one.lease.run(tell=told.append)
    assert told == ["the Lease ns/mk: FileNotFoundError: token"]
    assert one.leads()
