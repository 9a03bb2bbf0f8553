"""Telemetry from pods' logs: every line once, whatever happens to pods and connections, and what is lost is told."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.telemetry.container_log import Pace
from gitops_mk.adapters.telemetry.files import FileSource
from gitops_mk.adapters.telemetry.merging import Merger
from gitops_mk.adapters.telemetry.pod_logs import PodLogSource
from gitops_mk.adapters.telemetry.recording import RecordingSource
from gitops_mk.controller.observe import INTERRUPTED, merged, observe
from gitops_mk.core.detect.observer import Observer
from gitops_mk.core.podlines import CUT, LONGEST, Line
from gitops_mk.errors import ClusterError, InputError, TelemetryError
from gitops_mk.model.telemetry import Environment
from gitops_mk.model.workload import WorkloadRef
from tests.support.cluster import START, SimCluster
from tests.support.reading import Reading as AnyReading
from tests.support.reading import step, steps

REF = WorkloadRef(namespace="ml", kind="Deployment", name="trainer")
PACE = Pace(list_s=0.02, first_retry_s=0.005, last_retry_s=0.02, batch_s=0.005, patience_s=20.0, lag_s=0.05)
ROOT = Path(__file__).resolve().parents[2]


class Reading(AnyReading):
    """The reading of a simulated cluster, in a hurry."""

    def __init__(self, sim: SimCluster, *, pace: Pace = PACE, **options: Any) -> None:
        self.sim = sim
        super().__init__(sim, REF, pace=pace, **options)

    def asked(self, **wanted: object) -> None:
        """Wait until a log is asked for in this way from now on."""
        start = len(self.sim.requests)
        self.until(
            lambda: any(wanted.items() <= request.items() for request in self.sim.requests[start:]),
            f"a request {wanted}",
        )


@pytest.fixture
def sim() -> SimCluster:
    cluster = SimCluster()
    cluster.deployment("trainer")
    cluster.pod("trainer", "a")
    return cluster


class TestFollowing:
    def test_what_is_there_and_what_comes(self, sim: SimCluster) -> None:
        sim.pod("trainer", "b", node="node-b")
        sim.write("a", *steps(1, 2))
        sim.write("b", step(3))

        def script(reading: Reading) -> None:
            reading.seen(3)
            sim.write("b", step(4))
            reading.seen(4)
            sim.write("a", step(5))
            reading.seen(5)

        reading = Reading(sim)
        assert reading.run(script) == steps(1, 2, 3, 4, 5)
        assert reading.source.environment.nodes_seen == ("node-a", "node-b")
        assert reading.notes == ()
        assert reading.source.info.kind == "k8s"
        assert reading.source.info.name == "Deployment ml/trainer"

    def test_only_the_end_of_what_is_there(self, sim: SimCluster) -> None:
        sim.write("a", step(1), at=START - timedelta(seconds=700))
        sim.write("a", step(2), at=START - timedelta(seconds=500))
        assert Reading(sim).run(lambda reading: reading.seen(1)) == [step(2)]
        assert Reading(sim, since_seconds=1000).run(lambda reading: reading.seen(2)) == steps(1, 2)

    def test_ready_pods_come_first(self) -> None:
        sim = SimCluster()
        sim.deployment("trainer")
        for name in "abc":
            sim.pod("trainer", name, ready=name == "c")
            sim.write(name, step(1))
        sim.finish("a")
        opened: list[str] = []

        class Ordered(PodLogSource):
            def _start(self, work: Callable[[], None]) -> None:
                opened.append(getattr(getattr(work, "__self__", None), "_name", ""))
                super()._start(work)

        list(Ordered(sim, REF, follow=False, pace=PACE).chunks())
        assert opened[:3] == ["c", "b", "a"]

    @pytest.mark.parametrize("block", [1, 7, 4096])
    def test_a_broken_connection_loses_and_doubles_nothing(self, sim: SimCluster, block: int) -> None:
        sim.block = block
        sim.write("a", *steps(1, 2, 3))

        def script(reading: Reading) -> None:
            reading.seen(3)
            for number in range(4, 40, 3):
                sim.write("a", step(number))
                # Three at one time, and a part of a line when the connection breaks.
                sim.write("a", step(number + 1), b'{"step": %d,' % (number + 2), at=sim.now)
                if number % 2:
                    reading.seen(number + 1)
                sim.cut("a")
                sim.write("a", b' "step_time_ms": 100}\n', at=sim.now)
                reading.seen(number + 2)

        reading = Reading(sim)
        assert reading.run(script) == steps(*range(1, 40))
        assert all(note == "a: the connection broke" for note in reading.notes)

    def test_a_line_that_comes_late_is_not_lost(self, sim: SimCluster) -> None:
        sim.write("a", *steps(1, 2))

        def script(reading: Reading) -> None:
            reading.seen(2)
            sim.cut("a")
            # Standard error's line is stamped before, and written after.
            sim.write("a", step(3), at=sim.now - timedelta(microseconds=500))
            reading.seen(3)
            sim.cut("a")
            reading.asked(follow=True)

        assert Reading(sim).run(script) == steps(1, 2, 3)

    def test_errors_are_told_once_and_got_over(self, sim: SimCluster) -> None:
        sim.write("a", step(1))
        sim.fail("a", 500, 404, 400, 500, 0, 0)
        reading = Reading(sim)
        assert reading.run(lambda reading: reading.seen(1)) == [step(1)]
        assert reading.notes == (
            "a: the API server says 500: the log of a",
            "a: the server can't be reached",
        )

    def test_pods_that_can_not_be_listed_any_more(self, sim: SimCluster) -> None:
        sim.write("a", step(1))

        def script(reading: Reading) -> None:
            reading.seen(1)
            sim.denied.add(("list", "Pod"))
            reading.until(lambda: bool(reading.notes), "a note")
            sim.write("a", step(2))
            reading.seen(2)

        reading = Reading(sim)
        assert reading.run(script) == steps(1, 2)
        assert reading.notes == ("the pods can't be listed: the API server says 403: you may not list Pod",)

    def test_without_the_right_to_get_pods_what_was_listed_counts(self, sim: SimCluster) -> None:
        sim.denied.add(("get", "Pod"))
        sim.write("a", step(1))

        def script(reading: Reading) -> None:
            reading.seen(1)
            sim.write("a", step(2))
            reading.seen(2)

        assert Reading(sim).run(script) == steps(1, 2)

    def test_logs_of_many_pods_come_in_the_order_of_time(self) -> None:
        sim = SimCluster()
        sim.deployment("trainer")
        names = [f"p{number:02}" for number in range(20)]
        for name in names:
            sim.pod("trainer", name)
        for number in range(2000):
            sim.write(names[number * 7 % 20], step(number))

        def script(reading: Reading) -> None:
            reading.seen(2000)
            for number in range(2000, 2100):
                sim.write(names[number % 20], step(number))
            reading.seen(2100)

        lines = Reading(sim).run(script)
        assert lines[:2000] == steps(*range(2000))
        assert sorted(lines[2000:]) == sorted(steps(*range(2000, 2100)))


class TestRestarts:
    def test_the_rest_of_the_run_before_is_read_once(self, sim: SimCluster) -> None:
        sim.write("a", *steps(1, 2))

        def script(reading: Reading) -> None:
            reading.seen(2)
            sim.fail("a", 500)
            sim.cut("a")
            sim.write("a", step(3), b"last words without an end")
            sim.restart("a")
            sim.write("a", step(4))
            reading.seen(5)
            sim.restart("a")
            sim.write("a", step(5))
            reading.seen(6)

        reading = Reading(sim)
        assert reading.run(script) == [*steps(1, 2, 3), b"last words without an end\n", *steps(4, 5)]
        assert not [note for note in reading.notes if "gap" in note]

    def test_a_restart_that_the_server_tells_late(self, sim: SimCluster) -> None:
        sim.write("a", *steps(1, 2))

        def script(reading: Reading) -> None:
            reading.seen(2)
            sim.cut("a")
            sim.write("a", step(3))
            sim.restart("a", told=False)
            sim.write("a", *steps(4, 5))
            reading.asked(follow=False, previous=False)
            sim.tell("a")
            reading.seen(5)
            sim.write("a", step(6))
            reading.seen(6)

        reading = Reading(sim, pace=PACE._replace(lag_s=4.0))
        assert reading.run(script) == steps(1, 2, 3, 4, 5, 6)
        assert not [note for note in reading.notes if "gap" in note]

    def test_a_stream_that_went_on_into_the_next_run(self, sim: SimCluster) -> None:
        sim.write("a", *steps(1, 2))

        def script(reading: Reading) -> None:
            reading.seen(2)
            # As if nothing had happened: the stream of the first run brings the lines of the second.
            with sim._changed:
                first = sim._runs["a", "trainer"][0]
                sim._runs["a", "trainer"].insert(0, type(first)())
                sim._runs["a", "trainer"][0].lines = first.lines[:1]
                first.lines[:1] = []
                first.lines.insert(0, (sim._runs["a", "trainer"][0].lines[0][0] + timedelta(microseconds=1), b"new\n"))
            sim.tell("a")
            reading.asked(previous=True)
            sim.write("a", step(3))
            reading.seen(4)

        reading = Reading(sim)
        assert sorted(reading.run(script)) == sorted([*steps(1, 2, 3), b"new\n"])

    def test_a_crash_loop_is_not_read_twice(self, sim: SimCluster) -> None:
        sim.write("a", step(1))

        def script(reading: Reading) -> None:
            reading.seen(1)
            sim.write("a", step(2))
            sim.stop("a", waiting=True)
            reading.seen(2)
            time.sleep(0.05)
            sim.restart("a")
            sim.write("a", step(3))
            reading.seen(3)
            sim.stop("a", waiting=True)
            sim.restart("a")
            sim.write("a", step(4))
            reading.seen(4)

        reading = Reading(sim)
        assert reading.run(script) == steps(1, 2, 3, 4)
        assert reading.notes == ()

    def test_a_run_whose_log_is_not_kept_is_a_gap(self, sim: SimCluster) -> None:
        sim.write("a", step(1))

        def script(reading: Reading) -> None:
            reading.seen(1)
            sim.fail("a", *[500] * 3)
            sim.cut("a")
            sim.write("a", step(2))
            sim.restart("a", told=False)
            sim.discard("a", 0)
            sim.tell("a")
            sim.write("a", step(3))
            reading.seen(2)

        reading = Reading(sim)
        assert reading.run(script) == steps(1, 3)
        assert "gap: a/trainer: the log of the run before its restart is not kept" in reading.notes

    def test_several_restarts_at_once(self, sim: SimCluster) -> None:
        sim.write("a", step(1))

        def script(reading: Reading) -> None:
            reading.seen(1)
            with sim._changed:
                for number in (2, 3, 4):
                    sim.restart("a", told=False)
                    sim.write("a", step(number))
                sim.tell("a")
            reading.seen(3)

        reading = Reading(sim)
        assert reading.run(script) == steps(1, 3, 4)
        (note,) = reading.notes
        assert note.startswith("gap: a/trainer: 3 restarts between two looks at it")

    def test_the_run_before_belongs_to_what_is_there(self, sim: SimCluster) -> None:
        sim.write("a", step(0), at=START - timedelta(seconds=900))
        sim.write("a", step(1), b"cut off")
        sim.restart("a")
        sim.write("a", step(2))
        assert Reading(sim).run(lambda reading: reading.seen(3)) == [step(1), b"cut off\n", step(2)]

    def test_any_mixture(self, sim: SimCluster) -> None:
        for seed in range(6):
            self.mixture(random.Random(seed))

    def mixture(self, chance: random.Random) -> None:
        sim = SimCluster()
        sim.deployment("trainer")
        sim.block = chance.choice([3, 50, 4096])
        names = ["a", "b", "c"]
        for name in names:
            sim.pod("trainer", name)
        written = 0

        def script(reading: Reading) -> None:
            nonlocal written
            for _ in range(120):
                name = chance.choice(names)
                what = chance.random()
                if what < 0.7:
                    for _ in range(chance.randrange(1, 6)):
                        sim.write(name, step(written), at=None if chance.random() < 0.7 else sim.now)
                        written += 1
                elif what < 0.85:
                    sim.cut(name)
                elif what < 0.9:
                    sim.fail(name, chance.choice([0, 500, 503]))
                else:
                    sim.restart(name)
                    sim.write(name, step(written))
                    written += 1
                    # Two restarts before anybody looks would truly lose a run.
                    reading.seen(written)
            reading.seen(written)

        reading = Reading(sim)
        lines = reading.run(script)
        assert sorted(lines) == sorted(steps(*range(written)))
        assert not [note for note in reading.notes if "gap" in note]


class TestWhatIsMissing:
    def test_a_rotation_is_no_loss_while_it_is_followed(self, sim: SimCluster) -> None:
        sim.write("a", *steps(1, 2))

        def script(reading: Reading) -> None:
            reading.seen(2)
            sim.rotate("a")
            sim.write("a", step(3))
            reading.seen(3)

        reading = Reading(sim)
        assert reading.run(script) == steps(1, 2, 3)
        assert reading.notes == ()

    def test_a_rotation_while_nobody_reads_is_a_gap(self, sim: SimCluster) -> None:
        sim.write("a", *steps(1, 2))

        def script(reading: Reading) -> None:
            reading.seen(2)
            sim.fail("a", *[500] * 2)
            sim.cut("a")
            sim.write("a", step(3))
            sim.rotate("a")
            sim.write("a", *steps(4, 5))
            reading.seen(4)
            sim.cut("a")
            sim.write("a", step(6))
            reading.seen(5)

        reading = Reading(sim)
        assert reading.run(script) == steps(1, 2, 4, 5, 6)
        gaps = [note for note in reading.notes if note.startswith("gap")]
        between = "2026-01-01T12:00:00.002000000Z and 2026-01-01T12:00:00.004000000Z"
        assert gaps == [f"gap: a/trainer: lines between {between} may be missing: the log was rotated"]

    def test_a_pod_that_is_gone_before_its_log_was_read(self, sim: SimCluster) -> None:
        sim.write("a", step(1))

        def script(reading: Reading) -> None:
            reading.seen(1)
            sim.fail("a", *[500] * 20)
            sim.cut("a")
            sim.write("a", step(2))
            reading.asked(pod="a")
            sim.delete("Pod", "a", "ml")
            reading.until(lambda: any("gone" in note for note in reading.notes), "the gap")

        assert Reading(sim).run(script) == [step(1)]

    def test_the_kubelets_own_words_are_no_telemetry(self, sim: SimCluster) -> None:
        sim.write("a", step(1))
        words = b"failed to create fsnotify watcher: too many open files\n"

        class Talking(SimCluster):
            def _give(self, *args: Any, **options: Any) -> Iterator[bytes]:
                yield from super()._give(*args, **options)
                if not options["follow"]:
                    yield words

        sim.__class__ = Talking
        reading = Reading(sim)
        assert reading.run(lambda reading: reading.seen(1)) == [step(1)]
        assert reading.notes == (f"the kubelet says: {words.decode().strip()}",)


class TestRollouts:
    def test_new_pods_are_read_from_their_beginning(self, sim: SimCluster) -> None:
        sim.write("a", *steps(1, 2))

        def script(reading: Reading) -> None:
            reading.seen(2)
            sim.pod("trainer", "b", node="node-b")
            # It ran, and restarted, before we saw it.
            sim.write("b", step(3), at=START - timedelta(seconds=5000))
            reading.seen(3)
            sim.write("a", step(4))
            sim.delete("Pod", "a", "ml")
            sim.write("b", step(5))
            reading.seen(5)

        reading = Reading(sim)
        assert reading.run(script) == steps(1, 2, 3, 4, 5)
        assert reading.notes == ()

    def test_a_pod_of_the_same_name_is_another(self, sim: SimCluster) -> None:
        sim.write("a", step(1))

        def script(reading: Reading) -> None:
            reading.seen(1)
            with sim._changed:
                sim.delete("Pod", "a", "ml")
                sim.pod("trainer", "a")
                sim.write("a", step(2))
            reading.seen(2)

        assert Reading(sim).run(script) == steps(1, 2)

    def test_pods_of_others_are_left_alone(self, sim: SimCluster) -> None:
        other = sim.pod("trainer", "theirs")
        other["metadata"]["ownerReferences"][0]["name"] = "trainer-two-5d4f8c7b9"
        sim.put(other)
        sim.write("theirs", step(9))
        sim.write("a", step(1))
        assert Reading(sim).run(lambda reading: reading.seen(1)) == [step(1)]

    def test_more_pods_than_are_read(self, sim: SimCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gitops_mk.adapters.telemetry.pod_logs.MAX_PODS", 1)
        sim.pod("trainer", "b")
        sim.write("a", step(1))
        sim.write("b", step(2))
        reading = Reading(sim)
        assert reading.run(lambda reading: reading.seen(1)) == [step(1)]
        assert reading.notes == ("gap: there are 2 pods, and no more than 1 are read",)

    def test_a_pod_without_the_container(self, sim: SimCluster) -> None:
        odd = sim.pod("trainer", "b")
        odd["spec"]["containers"] = [{"name": "x"}, {"name": "y"}]
        sim.put(odd)
        sim.write("a", step(1))
        reading = Reading(sim)
        assert reading.run(lambda reading: reading.seen(1)) == [step(1)]
        assert reading.notes == ("gap: b: trainer has 2 containers, and none is called like it: x, y",)

    def test_a_container_that_starts_later(self) -> None:
        sim = SimCluster()
        sim.deployment("trainer")

        def script(reading: Reading) -> None:
            pod = sim.pod("trainer", "a")
            running = pod["status"]["containerStatuses"][0]["state"]
            pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ContainerCreating"}}
            sim.put(pod)
            time.sleep(0.05)
            pod["status"]["containerStatuses"][0]["state"] = running
            sim.put(pod)
            reading.until(lambda: any(request["pod"] == "a" for request in sim.requests), "a request")
            sim.write("a", step(1))
            reading.seen(1)

        reading = Reading(sim)
        assert reading.run(script) == [step(1)]
        assert reading.notes == ()


class TestOddBytes:
    def test_bytes_pass_as_they_are(self, sim: SimCluster) -> None:
        lines = [b"\xff\xfe\x00\n", b"a\r\n", b"\n", "\u2028 é\n".encode(), b" \x00 \x00\n", b"x" * LONGEST + b"\n"]
        sim.write("a", *lines)
        blocks = b"".join(PodLogSource(sim, REF, follow=False, pace=PACE).chunks())
        assert blocks == b"".join(lines)

    @pytest.mark.parametrize("block", [1000, 70_000])
    @pytest.mark.parametrize("length", [LONGEST + 1, LONGEST + 200, 3_000_000])
    def test_a_long_line_is_one_line_and_no_record(self, sim: SimCluster, length: int, block: int) -> None:
        sim.block = block
        line = b'{"step": 2, "step_time_ms": 100}' + b" " * (length - 32) + b"\n"
        sim.write("a", step(1), line, step(3))
        blocks = list(PodLogSource(sim, REF, follow=False, pace=PACE).chunks())
        assert b"".join(blocks) == step(1) + line[:LONGEST] + CUT + b"\n" + step(3)
        observer = Observer("k8s")
        for one in blocks:
            observer.feed(one)
        counts = observer.finish().ingest
        assert (counts.lines, counts.records, counts.dropped_total) == (3, 2, 1)

    def test_two_gigabytes_without_a_line_end_take_little_memory(self) -> None:
        code = """
import re
import resource
import sys
from pathlib import Path

from tests.contract.test_pod_logs import PACE, REF, step
from tests.support.cluster import SimCluster
from gitops_mk.adapters.telemetry.pod_logs import PodLogSource
from gitops_mk.core.detect.observer import Observer

class Sparse(SimCluster):
    def _give(self, run, *args, **options):
        yield b"2026-01-01T12:00:00.000000000Z "
        for _ in range(8192):
            yield NOTHING
        yield b"\\n2026-01-01T12:00:01.000000000Z " + step(1)

NOTHING = bytes(262144)
sim = Sparse()
sim.deployment("trainer")
sim.pod("trainer", "a")
observer = Observer("k8s")
for block in PodLogSource(sim, REF, follow=False, pace=PACE, since_seconds=1).chunks():
    observer.feed(block)
counts = observer.finish().ingest
# Linux counts what the process was before it became this one in the usage, and in KiB; macOS in bytes.
status = Path("/proc/self/status")
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) if status.exists() else used // 1024
print(counts.lines, counts.records, peak)
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        lines, records, peak = map(int, done.stdout.split())
        assert (lines, records) == (2, 1)
        assert peak < 200 * 1024


class TestOneRead:
    def test_what_is_there(self, sim: SimCluster) -> None:
        sim.pod("trainer", "b")
        sim.write("a", *steps(1, 3), b"half a li")
        sim.write("b", *steps(2, 4), b"the end")
        sim.finish("b")
        lines = b"".join(PodLogSource(sim, REF, follow=False, since_seconds=60, pace=PACE).chunks())
        assert sorted(lines.splitlines(keepends=True)) == sorted([*steps(1, 2, 3, 4), b"the end\n"])
        assert all(request["since_seconds"] in (60, 61) and not request["follow"] for request in sim.requests)

    def test_it_is_tried_again_but_not_for_ever(self, sim: SimCluster) -> None:
        sim.write("a", step(1))
        sim.fail("a", 500, 500)
        assert b"".join(PodLogSource(sim, REF, follow=False, pace=PACE).chunks()) == step(1)
        sim.fail("a", *[500] * 9)
        with pytest.raises(TelemetryError, match="no log of Deployment ml/trainer could be read: .* 500"):
            list(PodLogSource(sim, REF, follow=False, pace=PACE).chunks())

    def test_its_size_is_bounded(self, sim: SimCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gitops_mk.adapters.telemetry.pod_logs.LIMIT_BYTES", 100)
        monkeypatch.setattr("gitops_mk.adapters.telemetry.pod_logs.LEAST_LIMIT", 100)
        sim.write("a", *steps(1, 2))
        source = PodLogSource(sim, REF, follow=False, pace=PACE)
        assert b"".join(source.chunks()) == step(1)
        assert source.environment.notes == ("gap: a/trainer: only the first 100 bytes of the log were read",)


class TestRefusals:
    def read(self, sim: SimCluster, ref: WorkloadRef = REF, **options: Any) -> None:
        list(PodLogSource(sim, ref, pace=PACE, **{"duration_s": 0.1, **options}).chunks())

    def test_a_workload_that_is_not_there(self, sim: SimCluster) -> None:
        with pytest.raises(InputError, match="there is no Deployment ml/other in context sim") as caught:
            self.read(sim, REF.model_copy(update={"name": "other"}))
        assert "kubectl get deployment -n ml" in (caught.value.hint or "")

    def test_a_container_that_is_not_there(self, sim: SimCluster) -> None:
        with pytest.raises(InputError, match="no container 'x' .* it has: trainer"):
            self.read(sim, container="x")

    def test_no_right_to_look(self, sim: SimCluster) -> None:
        sim.denied.add(("get", "Deployment"))
        with pytest.raises(TelemetryError, match="403") as caught:
            self.read(sim)
        assert caught.value.hint

    def test_no_right_to_read_logs_is_said_at_once(self, sim: SimCluster) -> None:
        sim.denied.add(("get", "Pod/log"))
        with pytest.raises(TelemetryError, match="no log of Deployment ml/trainer .* 403") as caught:
            self.read(sim, duration_s=None)
        assert caught.value.hint == "give this identity the right"

    def test_no_pods(self) -> None:
        sim = SimCluster()
        sim.deployment("trainer")
        with pytest.raises(TelemetryError, match="it has no pods") as caught:
            self.read(sim)
        assert caught.value.hint == "kubectl -n ml get pods tells more"

    def test_no_container_has_started(self, sim: SimCluster) -> None:
        pod = sim.get("Pod", "a", namespace="ml")
        assert pod is not None
        sim.put({**pod, "status": {"phase": "Pending"}})
        with pytest.raises(TelemetryError, match="no container of its 1 pods has started"):
            self.read(sim)

    def test_an_empty_log_is_no_error(self, sim: SimCluster) -> None:
        self.read(sim)

    def test_what_breaks_in_a_reader_is_raised(self, sim: SimCluster) -> None:
        sim.write("a", b"x\n")

        def broken(*_: object, **__: object) -> Iterator[bytes]:
            raise ZeroDivisionError

        sim._give = broken  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            self.read(sim, duration_s=None)


class TestWhereTheyCameFrom:
    def test_nodes_and_gpus(self, sim: SimCluster) -> None:
        sim.node("node-a", nvidia_com__gpu_product="NVIDIA-H100-80GB-HBM3")
        sim.node("node-b", nvidia_com__gpu_product="NVIDIA-A100-SXM4-40GB")
        sim.pod("trainer", "quiet", node="node-b")
        sim.write("a", step(1))
        source = PodLogSource(sim, REF, follow=False, pace=PACE)
        assert source.environment == Environment()
        list(source.chunks())
        assert source.environment == Environment(nodes_seen=("node-a",), gpu_models_seen=("NVIDIA-H100-80GB-HBM3",))
        sim.write("quiet", step(2))
        source = PodLogSource(sim, REF, follow=False, pace=PACE)
        list(source.chunks())
        assert source.environment.unstable
        assert source.environment.nodes_seen == ("node-a", "node-b")

    def test_nodes_that_may_not_be_read(self, sim: SimCluster) -> None:
        sim.denied.add(("get", "Node"))
        sim.write("a", step(1))
        source = PodLogSource(sim, REF, follow=False, pace=PACE)
        list(source.chunks())
        assert source.environment.nodes_seen == ("node-a",)
        assert source.environment.notes == (
            "the GPU model of node-a is unknown: the API server says 403: you may not get Node",
        )

    def test_notes_are_bounded(self, sim: SimCluster) -> None:
        source = PodLogSource(sim, REF, pace=PACE)
        for number in range(30):
            source.gap("a", str(number))
            source.gap("a", str(number))
        assert len(source.environment.notes) == 21
        assert source.environment.notes[-1].endswith("more notes like these")

    def test_records_and_pods_are_put_together(self) -> None:
        told = Environment(nodes_seen=("pod-1",), gpu_models_seen=("NVIDIA H100",), notes=("n",))
        known = Environment(nodes_seen=("node-a",), gpu_models_seen=("NVIDIA-H100",), notes=("gap: x",))
        assert merged(told, known) == Environment(
            nodes_seen=("node-a", "pod-1"), gpu_models_seen=("NVIDIA H100",), notes=("n", "gap: x")
        )
        assert merged(told, Environment(gpu_models_seen=("L4",))).unstable
        assert merged(Environment(), known.model_copy(update={"unstable": True})).unstable


class Store:
    out_dir = ""

    def report(self, name: str, payload: Any, *, at: datetime) -> str:
        raise AssertionError

    text = report

    def explain(self, event: str, payload: Any, *, at: datetime) -> None:
        json.dumps(payload)


class Wall:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        raise AssertionError

    def sleep(self, seconds: float) -> None:
        raise AssertionError


def test_ctrl_c_gives_the_report_of_what_was_seen(sim: SimCluster, tmp_path: Path) -> None:
    sim.write("a", *steps(*range(100)))
    sim.write("a", b"\xff\x00 not a record\n")

    class Interrupted(PodLogSource):
        def _pump(self) -> Iterator[bytes]:
            while self._merger._size < 101 * 200:
                time.sleep(0.002)
            raise KeyboardInterrupt

    raw = tmp_path / "raw.jsonl"
    source = RecordingSource(Interrupted(sim, REF, pace=PACE), str(raw))
    seen = observe(source, clock=Wall(), artifacts=Store(), min_steps=30)  # type: ignore[arg-type]
    assert (seen.ingest.lines, seen.ingest.records) == (101, 100)
    assert seen.environment.notes[-1] == INTERRUPTED
    assert seen.environment.nodes_seen == ("node-a",)
    # What was recorded says the same again.
    again = observe(FileSource(str(raw)), clock=Wall(), artifacts=Store(), min_steps=30)  # type: ignore[arg-type]
    assert raw.read_bytes() == b"".join(steps(*range(100))) + b"\xff\x00 not a record\n"
    assert again.ingest == seen.ingest
    assert again.signals == seen.signals


def test_a_reader_that_has_not_caught_up_holds_the_others_back() -> None:
    now = 0.0
    merger = Merger(patience_s=5.0, clock=lambda: now)
    slow, quick = merger.open(), merger.open()
    quick.put([Line(b"2", b"quick 2\n"), Line(b"4", b"quick 4\n")])
    quick.caught_up()
    assert list(merger.take(0.0)) == []
    slow.put([Line(b"1", b"slow 1\n"), Line(b"3", b"slow 3\n"), Line(b"2", b"late\n")])
    assert list(merger.take(0.0)) == [b"slow 1\nquick 2\nslow 3\nlate\n"]
    now = 4.0
    assert list(merger.take(0.0)) == []
    now = 5.0
    assert list(merger.take(0.0)) == [b"quick 4\n"]
    quick.behind()
    quick.put([])
    slow.put([Line(b"9", b"slow 9\n")])
    quick.close()
    slow.close()
    assert not merger.idle
    assert list(merger.rest()) == [b"slow 9\n"]
    assert merger.idle


def test_who_brings_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitops_mk.adapters.telemetry.merging.ROOM", 1000)
    monkeypatch.setattr("gitops_mk.adapters.telemetry.merging.LEAST_ROOM", 1000)
    merger = Merger(patience_s=5.0, clock=time.monotonic)
    feed = merger.open()
    put = []

    def bring() -> None:
        for number in range(50):
            feed.put([Line(b"%02d" % number, b"x" * 400 + b"\n")])
            put.append(number)
        feed.close()

    thread = threading.Thread(target=bring, daemon=True)
    thread.start()
    taken = b""
    while not merger.idle:
        taken += b"".join(merger.take(0.05))
        assert len(put) <= taken.count(b"\n") + 50
    thread.join()
    assert taken.count(b"\n") == 50
    blocked = threading.Thread(target=lambda: merger.put(merger.open(), [Line(b"1", b"y" * 5000)]), daemon=True)
    blocked.start()
    merger.stop()
    blocked.join()
    assert ClusterError("x").status is None
