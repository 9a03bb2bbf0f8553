"""The demo trainer: what it computes, how it loads, how it takes up knobs, and that nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitops_mk.core.detect.observer import Observer
from gitops_mk.demo import faults, loader, trainer
from gitops_mk.demo.annotations import DEFAULTS, KNOB_PREFIX, KnobFile, knobs_of, parse_annotations
from gitops_mk.demo.faults import Device, Fault, Memory, Storage, hiccups
from gitops_mk.demo.loader import Loader, LoaderError, Machine
from gitops_mk.demo.network import (
    ACTIVATION_BYTES,
    FEATURES,
    HIDDEN,
    SAMPLES,
    Accumulator,
    Data,
    Kept,
    Momentum,
    Network,
)
from gitops_mk.demo.runner import Summary, Trainer, summarise
from gitops_mk.errors import InputError, PeerError
from gitops_mk.model.knob import ANNOTATION_PREFIX, KNOWN_KNOBS

GIVE_UP_S = 60.0


def write(path: Path, **knobs: int | str) -> None:
    """Replace the annotations by a rename, as the kubelet does."""
    new = path.with_suffix(".new")
    lines = [f'{KNOB_PREFIX}{name}="{value}"\n' for name, value in {**DEFAULTS, "concurrency": 8, **knobs}.items()]
    new.write_text("".join(lines) + 'kubernetes.io/note="a \\"quoted\\" word\\n"\n')
    new.replace(path)


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def in_group(group: int) -> list[int]:
    """The living processes of a process group; zombies that nobody has reaped yet do not count."""
    if Path("/proc/self/stat").exists():
        rows = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, pgid = stat.read_text().rsplit(") ", 1)[1].split()[:3]
                rows.append([stat.parent.name, pgid, state])
    else:
        told = subprocess.run(["ps", "-axo", "pid=,pgid=,state="], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in told.splitlines()]
    return [int(pid) for pid, pgid, state in rows if int(pgid) == group and state[0] not in "ZX"]


def wait_until_gone(group: int) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while in_group(group):
        assert time.monotonic() < deadline, f"still there: {in_group(group)}"
        time.sleep(0.05)


# Annotations


@given(st.dictionaries(st.from_regex(r"[a-z./_-]{1,12}", fullmatch=True), st.text(max_size=20), max_size=4))
def test_annotations_come_back_as_they_were_written(annotations: dict[str, str]) -> None:
    def quote(text: str) -> str:
        out = ""
        for char in text:
            if char in '"\\':
                out += "\\" + char
            elif char == "\n":
                out += "\\n"
            elif char.isprintable() and ord(char) < 0x10000:
                out += char
            else:
                out += f"\\U{ord(char):08x}" if ord(char) > 0x7F else f"\\x{ord(char):02x}"
        return f'"{out}"'

    text = "".join(f"{key}={quote(value)}\n" for key, value in annotations.items())
    assert parse_annotations(text) == annotations


def test_escaped_bytes_form_characters() -> None:
    assert parse_annotations('a="\\xc3\\xa9\\303\\251\\u00e9\\t"\n\nb=""\n') == {"a": "ééé\t", "b": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=b\n", "line 1 is 'a=b', expected key="),
        ('\na="b\n', "line 2"),
        ('a="\\q"\n', r"escape \\q, which Go does not write"),
        ('a="\\ud800"\n', "no character"),
        ('a="\\UFFFFFFFF"\n', "no character"),
    ],
)
def test_what_is_no_annotations_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_annotations(text)


def test_knobs_are_those_of_the_product() -> None:
    assert KNOB_PREFIX == ANNOTATION_PREFIX
    assert set(DEFAULTS) <= set(KNOWN_KNOBS)
    assert knobs_of({"other": "x", "modekeeper/knob.timeout_ms": "60000"}) == {**DEFAULTS, "timeout_ms": 60000}
    for text in ("", "x", "-1", "1.5", "1" * 12):
        with pytest.raises(InputError, match="expected a number"):
            knobs_of({"modekeeper/knob.concurrency": text})
    for text in ("0", "4097"):
        with pytest.raises(InputError, match="expected 1 to 4096"):
            knobs_of({"modekeeper/knob.microbatch_size": text})


def test_a_knob_file_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "annotations"
    with pytest.raises(InputError, match="can't be read as annotations"):
        KnobFile(path)
    write(path)
    file = KnobFile(path)
    assert not file.poll()
    write(path, microbatch_size=16)
    assert file.poll()
    assert file.knobs["microbatch_size"] == 16
    write(path, microbatch_size=16)
    assert not file.poll()
    path.write_text("half a li")
    assert not file.poll()
    path.unlink()
    assert not file.poll()
    write(path, microbatch_size=8)
    assert file.poll()


# What is computed


@given(
    st.integers(0, 5), st.integers(0, 3 * SAMPLES), st.sampled_from([(32, 4, 16, 8), (32, 4, 128, 1), (24, 2, 8, 6)])
)
@settings(max_examples=12, deadline=None)
def test_gradients_do_not_depend_on_how_the_batch_is_split(seed: int, place: int, split: tuple[int, ...]) -> None:
    network = Network(seed)

    def accumulate(size: int, steps: int) -> Accumulator:
        data, total = Data(seed), Accumulator()
        for i in range(steps):
            x, y = data.batch(place + i * size, size)
            total.add(*network.backward(network.forward(x), y), samples=size)
        return total

    one, two = accumulate(split[0], split[1]), accumulate(split[2], split[3])
    assert abs(one.loss - two.loss) < 1e-9
    for a, b in zip(one.gradients, two.gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


def test_gradients_are_the_slopes_of_the_loss() -> None:
    network = Network(1)
    x, y = Data(1).batch(0, 8)
    _, gradients = network.backward(network.forward(x), y)
    rng = np.random.default_rng(0)
    for parameter, gradient in zip(network.parameters, gradients, strict=True):
        at = tuple(int(rng.integers(0, n)) for n in parameter.shape)
        kept = parameter[at]
        parameter[at] = kept + 1e-6
        up, _ = network.backward(network.forward(x), y)
        parameter[at] = kept - 1e-6
        down, _ = network.backward(network.forward(x), y)
        parameter[at] = kept
        assert gradient[at] == pytest.approx((up - down) / 2e-6, rel=1e-3, abs=1e-5)


def test_training_lowers_the_loss() -> None:
    network, data = Network(7), Data(7)
    optimizer = Momentum(network)
    losses = []
    for step in range(80):
        batch = Accumulator()
        x, y = data.batch(128 * step, 128)
        batch.add(*network.backward(network.forward(x), y), samples=128)
        optimizer.step(batch.gradients)
        losses.append(batch.loss)
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:5])


# The machine


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing waits; how long it would have waited is noted."""
    noted: list[float] = []
    monkeypatch.setattr("gitops_mk.demo.faults.time.sleep", noted.append)
    return noted


def test_one_loader_of_a_straggler_reads_slowly(slept: list[float]) -> None:
    for index in range(4):
        Storage(Fault.STRAGGLER, 7, index, 0.0).read(32)
    slow = slept.pop(1)
    assert 0.045 < slow < 0.065
    assert max(slept) < 0.006
    Storage(Fault.NONE, 7, 1, 0.0).read(32)
    assert slept[-1] < 0.006


def test_hiccups_are_irregular_and_the_same_for_all_loaders(
    slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(islice(hiccups(7), 200))
    assert found == list(islice(hiccups(7), 200))
    assert found != list(islice(hiccups(8), 200))
    gaps = [b[0] - a[1] for a, b in pairwise(found)]
    assert min(gaps) >= 0.3
    assert np.std(gaps) > 0.3 * np.mean(gaps)
    storages = [Storage(Fault.BURST, 7, index, 100.0) for index in range(2)]
    for start, end in found[:20]:
        for now, slow in ((start - 0.01, False), ((start + end) / 2, True), (end + 0.01, False)):
            monkeypatch.setattr("gitops_mk.demo.faults.time.monotonic", lambda now=now: 100.0 + now)
            for storage in storages:
                storage.read(32)
                assert (slept.pop() > 0.03) is slow


def activations(samples: int) -> Kept:
    rng = np.random.default_rng(samples)
    return Kept(
        rng.normal(size=(samples, FEATURES)),
        rng.normal(size=(samples, HIDDEN)),
        rng.normal(size=(samples, HIDDEN)),
        rng.normal(size=(samples, 10)),
    )


@pytest.mark.parametrize(("samples", "swaps"), [(32, True), (16, False), (64, True), (1, False)])
def test_activations_that_do_not_fit_take_the_way_over_the_disk(samples: int, swaps: bool, slept: list[float]) -> None:
    memory = Memory(Fault.DRIFT, time.monotonic() - 3600)
    kept = activations(samples)
    back = memory.through(kept)
    assert bool(slept) is swaps
    for a, b in zip(kept, back, strict=True):
        np.testing.assert_array_equal(a, b)
    memory.close()


def test_room_shrinks_gradually_and_only_under_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, healthy = Memory(Fault.DRIFT, 0.0), Memory(Fault.NONE, 0.0)
    rooms = []
    for now in range(30):
        monkeypatch.setattr("gitops_mk.demo.faults.time.monotonic", lambda now=now: float(now))
        rooms.append(memory.room())
        assert healthy.room() == rooms[0]
    assert rooms == sorted(rooms, reverse=True)
    assert len(set(rooms)) > 10
    need = 32 * ACTIVATION_BYTES
    assert rooms[0] > need > rooms[-1] > need / 2
    memory.close()
    healthy.close()


def test_a_device_takes_its_time_and_no_more(slept: list[float]) -> None:
    Device().finish(32, 0.001)
    Device().finish(32, 10.0)
    assert slept == [pytest.approx(32 * faults.DEVICE_S_A_SAMPLE - 0.001), 0.0]


# Loading


def load(monkeypatch: pytest.MonkeyPatch, **knobs: int) -> Loader:
    # Started afresh, not forked: the test runner may have threads.
    monkeypatch.setattr(loader, "_FORK", False)
    machine = Machine(Fault.NONE, 7, time.monotonic())
    return Loader(machine, **{"start": 0, "size": 8, "workers": 2, "prefetch": 3, **knobs}, alive=lambda: True)


def drain(made: Loader) -> None:
    for _ in range(100):
        made.next()


def test_batches_come_in_order_whatever_the_loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(7)
    made = load(monkeypatch, start=SAMPLES - 20, workers=3)
    for i in range(8):
        batch = made.next()
        x, y = data.batch(SAMPLES - 20 + 8 * i, 8)
        np.testing.assert_array_equal(batch.x, x)
        np.testing.assert_array_equal(batch.y, y)
        assert made.latencies_ms[i % 3] == batch.latency_ms > 0
        assert made.place == SAMPLES - 20 + 8 * (i + 1)
    pids = made.pids
    assert len(pids) == 3
    made.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_loader_that_dies_is_told_and_the_rest_is_cleaned_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made = load(monkeypatch)
    made.next()
    os.kill(made.pids[0], signal.SIGTERM)
    made.next()  # Loaders ignore the request to end: they end with their parent.
    os.kill(made.pids[1], signal.SIGKILL)
    with pytest.raises(LoaderError, match="loader 1 is gone"):
        drain(made)
    made.close()


def test_waiting_ends_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    made = load(monkeypatch, workers=1, prefetch=1)
    made._alive = lambda: False
    monkeypatch.setattr(loader, "_POLL_S", 0.0)
    with pytest.raises(LoaderError, match="told to stop"):
        drain(made)
    made.close()


# The whole, as processes


def test_knobs_are_taken_up_between_two_steps_and_all_is_logged(tmp_path: Path) -> None:
    annotations, log = tmp_path / "annotations", tmp_path / "log"
    write(annotations)
    told: list[int] = []
    with Trainer(annotations=annotations, log=log, seed=7) as running:
        assert running.wait_for_steps(12, GIVE_UP_S, told.append) >= 12
        write(annotations, grad_accum_steps=8, microbatch_size=16)
        first = running.wait_for_change(GIVE_UP_S)
        running.wait_for_steps(first + 4, GIVE_UP_S)
        write(annotations, grad_accum_steps=8, microbatch_size=16, dataloader_num_workers=4, concurrency=9)
        second = running.wait_for_change(GIVE_UP_S)
        running.wait_for_steps(second + 2, GIVE_UP_S)
        group = running.pid
        assert group is not None
        assert len(in_group(group)) == 5
    wait_until_gone(group)
    records = lines_of(log)
    steps = [r for r in records if "step_time_ms" in r]
    assert [r["step"] for r in steps] == list(range(1, len(steps) + 1))
    assert told[-1] >= 12
    assert told == sorted(set(told))
    events = [(r["event"], r["step"], r.get("changed")) for r in records if "event" in r]
    assert events == [
        ("resume", 1, None),
        ("schedule", first, {"grad_accum_steps": [4, 8], "microbatch_size": [32, 16]}),
        ("schedule", second, {"concurrency": [8, 9], "dataloader_num_workers": [2, 4]}),
    ]
    for record in steps:
        knobs = record["knobs"]
        assert knobs["grad_accum_steps"] * knobs["microbatch_size"] == 128
        assert knobs["grad_accum_steps"] == (4 if record["step"] < first else 8)
        assert len(record["worker_latencies_ms"]) == (2 if record["step"] < second else 4)
        assert record["node"] == "demo-node-0"
        assert record["ts"].endswith("Z")
        assert 0 <= record["data_wait_ms"] <= record["step_time_ms"]
        assert record["throughput"] == pytest.approx(128000 / record["step_time_ms"], rel=1e-3)
    summary = summarise(log, 1, len(steps))
    assert summary.steps == len(steps)
    assert summary.median_step_ms <= summary.p95_step_ms
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_the_product_reads_the_log(tmp_path: Path) -> None:
    annotations, log = tmp_path / "annotations", tmp_path / "log"
    write(annotations, microbatch_size=4)
    with Trainer(annotations=annotations, log=log, fault="straggler") as running:
        running.wait_for_steps(40, GIVE_UP_S)
        running.stop()
    observer = Observer("file")
    observer.feed(log.read_bytes())
    seen = observer.finish()
    assert seen.ingest.dropped_total == 0
    assert seen.ingest.records >= 40
    assert seen.environment.nodes_seen == ("demo-node-0",)
    assert [signal.name for signal in seen.signals if signal.found] == ["straggler"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_trainer_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    annotations, log = tmp_path / "annotations", tmp_path / "log"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    write(annotations, dataloader_num_workers=3)
    running = Trainer(annotations=annotations, log=log, fault="drift")
    running.start()
    running.wait_for_steps(3, GIVE_UP_S)
    group = running.pid
    assert group is not None
    members = in_group(group)
    assert len(members) == 4
    for maps in (Path(f"/proc/{pid}/maps") for pid in members if Path("/proc/self/maps").exists()):
        assert "/dev/shm" not in maps.read_text()
    os.kill(group, number)
    with pytest.raises(PeerError, match=f"ended with status {-9 if number == signal.SIGKILL else 0}"):
        running.wait_for_steps(10**6, GIVE_UP_S)
    running.stop()
    wait_until_gone(group)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations", "log"]
    assert all(lines_of(log))


def test_the_trainer_ends_with_its_parent(tmp_path: Path) -> None:
    annotations, log = tmp_path / "annotations", tmp_path / "log"
    write(annotations)
    code = (
        "import sys, time; from pathlib import Path; from gitops_mk.demo.runner import Trainer\n"
        "t = Trainer(annotations=Path(sys.argv[1]), log=Path(sys.argv[2])); t.start(); t.wait_for_steps(2, 60)\n"
        "print(t.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, annotations, log], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        group = int(parent.stdout.readline())
        assert in_group(group)
        parent.kill()
    wait_until_gone(group)


def test_steps_can_be_limited_and_logged_to_standard_output(tmp_path: Path) -> None:
    write(tmp_path / "annotations", microbatch_size=1, dataloader_num_workers=5)
    argv = [sys.executable, "-m", "gitops_mk.demo.trainer", "--annotations", str(tmp_path / "annotations")]
    done = subprocess.run([*argv, "--max-steps", "3"], capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3]
    # With more loaders than microbatches a step, the first step has not heard of all of them.
    assert ["worker_latencies_ms" in r for r in records[1:]] == [False, True, True]


def test_bad_annotations_end_the_trainer_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "annotations"
    path.write_text('modekeeper/knob.microbatch_size="many"\n')
    with (
        Trainer(annotations=path, log=tmp_path / "log") as running,
        pytest.raises(PeerError, match=r"ended with status 2 before step 1: ERROR: annotations: .* expected a number"),
    ):
        running.wait_for_steps(1, GIVE_UP_S)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert trainer.main(["--annotations", str(path)]) == 2
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert "expected a number" in capsys.readouterr().err


def test_a_trainer_that_does_not_run_or_come_on_is_told(tmp_path: Path) -> None:
    write(tmp_path / "annotations")
    running = Trainer(annotations=tmp_path / "annotations", log=tmp_path / "log")
    assert running.steps() == 0
    with pytest.raises(PeerError, match="does not run"):
        running.wait_for_steps(1, 1.0)
    with running:
        with pytest.raises(InputError, match="runs already"):
            running.start()
        with pytest.raises(PeerError, match="did not come to a change of knobs within 0"):
            running.wait_for_change(0.0)
    running.stop()
    assert running.pid is None


def test_a_trainer_that_ignores_the_request_is_ended_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Trainer(annotations=tmp_path / "a", log=tmp_path / "log")
    ready = tmp_path / "ready"
    code = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork()\n"
    code += "open(sys.argv[1], 'w').close()\ntime.sleep(600)"
    running._argv = [sys.executable, "-c", code, str(ready)]
    monkeypatch.setattr("gitops_mk.demo.runner._STOP_S", 0.2)
    running.start()
    while not ready.exists():
        time.sleep(0.02)
    group = running.pid
    assert group is not None
    running.stop()
    wait_until_gone(group)


def test_a_log_is_summed_up_by_steps(tmp_path: Path) -> None:
    log = tmp_path / "log"
    records: list[object] = [
        {"step": i, "step_time_ms": 10.0 * i, "throughput": 100.0, "loss": float(i)} for i in range(1, 21)
    ]
    text = "\n".join(json.dumps(r) for r in [{"event": "resume", "step": 1}, [], *records]) + '\nhalf a li\n{"step'
    log.write_text(text)
    assert summarise(log, 1, 20) == Summary(20, 105.0, 190.0, 100.0, 10.5)
    assert summarise(log, 3, 3) == Summary(1, 30.0, 30.0, 100.0, 3.0)
    with pytest.raises(InputError, match="no steps from 30 to 40"):
        summarise(log, 30, 40)
    with pytest.raises(InputError, match="can't be read"):
        summarise(tmp_path / "gone", 1, 2)
