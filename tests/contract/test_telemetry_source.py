"""What every telemetry source owes its caller, and what files and made-up telemetry owe beyond that."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.telemetry.files import BLOCK, LONGEST, FileSource, whole_lines
from gitops_mk.adapters.telemetry.recording import RecordingSource
from gitops_mk.adapters.telemetry.synthetic import SCENARIOS, SyntheticSource
from gitops_mk.controller.observe import INTERRUPTED, observation_payload, observe
from gitops_mk.core.detect.observer import Observer
from gitops_mk.errors import InputError, TelemetryError
from gitops_mk.model.telemetry import SourceInfo
from gitops_mk.ports import TelemetrySource

LINES = b"".join(b'{"step": %d, "step_time_ms": 100, "note": "%s"}\n' % (i, b"x" * 100) for i in range(9000))


def plain(folder: Path) -> TelemetrySource:
    (folder / "t.jsonl").write_bytes(LINES)
    return FileSource(str(folder / "t.jsonl"))


def gzipped(folder: Path) -> TelemetrySource:
    (folder / "t.jsonl.gz").write_bytes(gzip.compress(LINES))
    return FileSource(str(folder / "t.jsonl.gz"))


def followed(folder: Path) -> TelemetrySource:
    (folder / "t.jsonl").write_bytes(LINES)
    now = iter(range(10_000))
    return FileSource(
        str(folder / "t.jsonl"), follow=True, duration=60, monotonic=lambda: float(next(now)), sleep=lambda _: None
    )


def recorded(folder: Path) -> TelemetrySource:
    return RecordingSource(plain(folder), str(folder / "sub" / "raw.jsonl"))


def made_up(folder: Path) -> TelemetrySource:
    return SyntheticSource("stable", steps=9000)


@pytest.mark.parametrize("make", [plain, gzipped, followed, recorded, made_up])
def test_a_source_gives_bounded_blocks_of_whole_lines(make: Callable[[Path], TelemetrySource], tmp_path: Path) -> None:
    source = make(tmp_path)
    assert isinstance(source.info, SourceInfo)
    blocks = list(source.chunks())
    assert len(blocks) > 1
    assert all(block.endswith(b"\n") and len(block) <= LONGEST + BLOCK for block in blocks)
    observer = Observer(source.info.kind, source.info.format)
    for block in blocks:
        observer.feed(block)
    assert observer.finish().ingest.records == 9000


@pytest.mark.parametrize("make", [plain, gzipped, followed, recorded])
def test_a_file_arrives_byte_for_byte(make: Callable[[Path], TelemetrySource], tmp_path: Path) -> None:
    assert b"".join(make(tmp_path).chunks()) == LINES


def test_the_raw_lines_are_kept(tmp_path: Path) -> None:
    list(recorded(tmp_path).chunks())
    assert (tmp_path / "sub" / "raw.jsonl").read_bytes() == LINES
    (tmp_path / "odd").write_bytes(b"\xff\xfe no line end")
    assert list(FileSource(str(tmp_path / "odd"), record_raw=str(tmp_path / "copy")).chunks()) == [
        b"\xff\xfe no line end"
    ]
    assert (tmp_path / "copy").read_bytes() == b"\xff\xfe no line end"


def test_raw_lines_that_can_not_be_kept(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(TelemetryError, match="can't record") as caught:
        list(RecordingSource(plain(tmp_path), str(tmp_path / "there")).chunks())
    assert caught.value.hint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with pytest.raises(TelemetryError, match="can't record") as caught:
        list(RecordingSource(plain(tmp_path), "/dev/full").chunks())
    assert "disk full" in (caught.value.hint or "")


def test_what_can_not_be_read_is_said_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "cut.gz").write_bytes(gzip.compress(LINES)[:-100])
    (tmp_path / "bad.gz").write_bytes(gzip.compress(LINES)[:20] + b"\x00" * 900)
    for path, words in [
        (tmp_path / "none", "no such file"),
        (tmp_path, "a directory, expected a file"),
        (tmp_path / "empty", "empty, expected telemetry lines"),
        (tmp_path / "cut.gz", "can't be read on"),
        (tmp_path / "empty" / "below", "can't be read"),
        (tmp_path / "bad.gz", "can't be read on"),
    ]:
        with pytest.raises(TelemetryError, match=words) as caught:
            list(FileSource(str(path)).chunks())
        assert caught.value.hint


class Stdin:
    """A pipe in the place of standard input."""

    def __init__(self, data: bytes) -> None:
        self._read, write = os.pipe()
        os.write(write, data)
        os.close(write)
        self.buffer = open(self._read, "rb")  # noqa: PTH123, SIM115 (a descriptor, closed by the test)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Stdin(b'{"step": 1}\n{"step": 2')
    monkeypatch.setattr(sys, "stdin", pipe)
    assert b"".join(FileSource("-", follow=True).chunks()) == b'{"step": 1}\n{"step": 2'
    assert not pipe.buffer.closed
    pipe.buffer.close()


def test_a_pipe_in_the_place_of_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(LINES,))
    writer.start()
    assert b"".join(FileSource(str(tmp_path / "pipe")).chunks()) == LINES
    writer.join()


def test_a_gzipped_file_does_not_grow(tmp_path: Path) -> None:
    (tmp_path / "t.gz").write_bytes(gzip.compress(LINES))
    assert b"".join(FileSource(str(tmp_path / "t.gz"), follow=True).chunks()) == LINES


def test_a_duration_ends_the_reading_of_a_file_as_well(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(LINES)
    now = iter([0.0, 1.0, 99.0])
    source = FileSource(str(tmp_path / "t"), duration=5.0, monotonic=lambda: next(now))
    assert len(b"".join(source.chunks())) == BLOCK


class Script:
    """A sleep that does the next thing to the file instead, and a clock that ends when there is nothing left to do."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps = list(steps)
        self._done = 0

    def monotonic(self) -> float:
        return float(self._done)

    def sleep(self, _: float) -> None:
        self._steps[self._done]()
        self._done += 1

    def follow(self, path: Path) -> bytes:
        source = FileSource(
            str(path), follow=True, duration=float(len(self._steps)), monotonic=self.monotonic, sleep=self.sleep
        )
        return b"".join(source.chunks())


def append(path: Path, data: bytes) -> Callable[[], object]:
    def act() -> None:
        with path.open("ab") as stream:
            stream.write(data)

    return act


def test_following_sees_what_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"1\n")
    nothing = append(path, b"")
    assert Script(append(path, b"2\n3"), nothing, append(path, b"4\n"), nothing, nothing).follow(path) == b"1\n2\n34\n"


def test_following_an_empty_file_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.touch()
    assert Script(append(path, b"")).follow(path) == b""


def test_following_a_truncated_file_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"old 1\nold 2\n")
    nothing = append(path, b"")
    assert Script(lambda: path.write_bytes(b"new\n"), nothing, nothing).follow(path) == b"old 1\nold 2\nnew\n"


def test_following_a_rotated_file_loses_nothing(tmp_path: Path) -> None:
    path, old = tmp_path / "t", tmp_path / "t.1"
    path.write_bytes(b"1\n")

    def rotate() -> None:
        append(path, b"2\n3 cut")()
        path.rename(old)

    def renew() -> None:
        path.write_bytes(b"4\n")

    nothing = append(old, b"")
    assert Script(rotate, nothing, renew, nothing, nothing).follow(path) == b"1\n2\n3 cut\n4\n"

    def at_once() -> None:
        append(path, b"5\n6 cut")()
        path.replace(old)
        path.write_bytes(b"7\n")

    assert Script(at_once, nothing, nothing).follow(path) == b"4\n5\n6 cut\n7\n"


def test_following_ends_when_the_caller_does(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"1\n")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    chunks: Iterator[bytes] = FileSource(str(path), follow=True, sleep=interrupt).chunks()
    assert next(chunks) == b"1\n"
    with pytest.raises(KeyboardInterrupt):
        next(chunks)


def test_a_line_without_end_comes_in_pieces() -> None:
    stream = io.BytesIO(b"a\n" + b"x" * (3 * LONGEST) + b"\nb")
    pieces = list(whole_lines(iter(lambda: stream.read(BLOCK), b"")))
    assert max(map(len, pieces)) <= LONGEST + 2 * BLOCK
    assert b"".join(pieces) == stream.getvalue()
    assert pieces[-1] == b"b"


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("seed", [0, 1])
def test_each_scenario_shows_what_it_is_called_after(scenario: str, seed: int) -> None:
    observer = Observer("synthetic")
    blocks = list(SyntheticSource(scenario, seed=seed).chunks())
    for block in blocks:
        observer.feed(block)
    seen = observer.finish()
    quiet = {"stable", "recovered", "empty"}
    assert [str(name) for name in seen.found] == (
        [] if scenario in quiet else ["drift_step" if scenario == "drift" else scenario]
    )
    assert seen.insufficient == (scenario == "empty")
    assert blocks == list(SyntheticSource(scenario, seed=seed).chunks())


def test_another_seed_is_another_run() -> None:
    assert list(SyntheticSource("stable", seed=1).chunks()) != list(SyntheticSource("stable", seed=2).chunks())
    assert list(SyntheticSource("burst", steps=0).chunks()) == []


def test_a_scenario_that_is_none() -> None:
    with pytest.raises(InputError, match="'foo', expected one of stable, drift, burst, straggler") as caught:
        SyntheticSource("foo")
    assert caught.value.hint
    with pytest.raises(InputError, match="-1 steps"):
        SyntheticSource("stable", steps=-1)


# What the controller makes of a source.


class Noon:
    """A clock that stands still."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError


class Events:
    """An artifact store that remembers what was explained."""

    out_dir = "nowhere"

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def report(self, name: str, payload: Any, *, at: datetime) -> str:
        raise AssertionError

    def text(self, name: str, content: str) -> str:
        raise AssertionError

    def explain(self, event: str, payload: Any, *, at: datetime) -> None:
        assert at == Noon().now()
        self.seen.append((event, dict(payload)))


class Interrupted(SyntheticSource):
    """A source that the user stops half-way."""

    def chunks(self) -> Iterator[bytes]:
        yield next(super().chunks())
        raise KeyboardInterrupt


def test_observing_explains_every_stage() -> None:
    events = Events()
    told: list[int] = []
    seen = observe(SyntheticSource("straggler", steps=1500), clock=Noon(), artifacts=events, progress=told.append)
    assert [name for name, _ in events.seen] == ["observe_start", "observe_ingest", "observe_signals", "observe_report"]
    assert events.seen[0][1] == {"source": "synthetic", "name": "straggler", "format": "jsonl"}
    assert events.seen[1][1]["records"] == 1500
    assert events.seen[2][1]["found"] == ["straggler"]
    assert events.seen[3][1] == {"incident": True, "stable": False, "insufficient_evidence": False, "pr_worthy": True}
    assert told == [1000, 1500]
    payload = observation_payload(seen)
    assert payload["incident"] is True
    assert payload["source"] == "synthetic"
    assert payload["evidence"]["straggler"]["culprits"] == ["worker-1"]
    json.dumps(payload, allow_nan=False)


def test_an_interrupted_observation_reports_what_was_seen() -> None:
    seen = observe(Interrupted("stable", steps=2000), clock=Noon(), artifacts=Events())
    assert seen.ingest.records == 1000
    assert seen.stable
    assert seen.environment.notes[-1] == INTERRUPTED


def test_the_least_that_is_asked_for_is_passed_on() -> None:
    seen = observe(SyntheticSource("stable", steps=50), clock=Noon(), artifacts=Events(), min_steps=60)
    assert seen.insufficient
