"""Knobs in a mounted ConfigMap: one moment at a look, whatever the kubelet does meanwhile; and a trainer that runs on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.demo import trainer
from gitops_mk.demo.annotations import DEFAULTS
from gitops_mk.demo.knob_files import KnobFiles, knobs_of_files
from gitops_mk.demo.runner import Trainer
from gitops_mk.demo.volume import project
from gitops_mk.errors import InputError

GIVE_UP_S = 60.0


def texts(**knobs: int | str) -> dict[str, str]:
    return {name: str(value) for name, value in {**DEFAULTS, **knobs}.items()}


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True), st.integers(1, 4096)))
def test_each_key_is_a_knob(knobs: dict[str, int]) -> None:
    assert knobs_of_files({name: str(value) for name, value in knobs.items()}) == dict(
        sorted({**DEFAULTS, **knobs}.items())
    )


@pytest.mark.parametrize("value", ["", "fast", "0", "4097", "1.5", "-1", "9" * 12, "2\n"])
def test_a_knob_that_is_needed_is_a_number(value: str) -> None:
    with pytest.raises(InputError, match="expected a number from 1 to 4096"):
        knobs_of_files({"grad_accum_steps": value})
    assert knobs_of_files(
        {"train.yaml": "lr: 1", "seed": value if value != "2\n" else "x", "Upper": "1"}
    ).keys() >= set(DEFAULTS)


def test_a_change_is_seen_at_the_next_look_and_once(tmp_path: Path) -> None:
    project(tmp_path, texts(concurrency=8))
    found = KnobFiles(tmp_path)
    assert found.knobs == {**DEFAULTS, "concurrency": 8}
    assert not found.poll()
    project(tmp_path, texts(concurrency=8, grad_accum_steps=8, note="text"))
    assert found.poll()
    assert found.knobs["grad_accum_steps"] == 8
    assert not found.poll()
    project(tmp_path, texts(concurrency=8, grad_accum_steps=8))
    assert not found.poll(), "another folder with the same values"
    assert "grad_accum_steps=8" in found.told()["config_map"]


def test_what_makes_no_sense_for_a_moment_changes_nothing(tmp_path: Path) -> None:
    project(tmp_path, texts())
    found = KnobFiles(tmp_path)
    for link in (None, "", "..gone"):
        if link is None:
            project(tmp_path, texts(microbatch_size="many"))
        else:
            (tmp_path / "..data").unlink(missing_ok=True)
        if link:
            (tmp_path / "..data").symlink_to(link)
        assert not found.poll()
        assert found.knobs == DEFAULTS
    (tmp_path / "..data").unlink()
    project(tmp_path, texts(microbatch_size=16))
    assert found.poll()
    assert found.knobs["microbatch_size"] == 16


def test_a_folder_that_is_no_mounted_config_map(tmp_path: Path) -> None:
    (tmp_path / "grad_accum_steps").write_text("4")
    with pytest.raises(InputError, match="expected a ConfigMap mounted whole"):
        KnobFiles(tmp_path)


def test_no_look_sees_two_moments(tmp_path: Path) -> None:
    """The product stays what it was in every state that was ever mounted, so it must in every one that is seen."""
    project(tmp_path, texts(grad_accum_steps=4, microbatch_size=32))
    found = KnobFiles(tmp_path)
    stop = threading.Event()

    def kubelet() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            steps = 2 ** (turn % 8)
            project(tmp_path, texts(grad_accum_steps=steps, microbatch_size=128 // steps))

    thread = threading.Thread(target=kubelet)
    thread.start()
    try:
        seen: set[int] = set()
        while len(seen) < 5:
            if found.poll():
                assert found.knobs["grad_accum_steps"] * found.knobs["microbatch_size"] == 128
                seen.add(found.knobs["grad_accum_steps"])
    finally:
        stop.set()
        thread.join()


def test_the_volume_is_what_a_kubelet_makes(tmp_path: Path) -> None:
    folder = tmp_path / "knobs"
    project(folder, {"a": "1", "b": "2"})
    first = (folder / "..data").readlink()
    project(folder, {"b": "3", "c": "4"})
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("..")) == ["b", "c"]
    assert (folder / "b").readlink() == Path("..data/b")
    assert (folder / "b").read_text() == "3"
    assert not (folder / first).exists()
    assert (folder / "..data").readlink() != first
    shutil.rmtree(folder)


# -- the trainer -------------------------------------------------------------------------------------------------------


def test_a_running_trainer_takes_a_change_up_between_two_steps(tmp_path: Path) -> None:
    folder, log = tmp_path / "knobs", tmp_path / "log"
    project(folder, texts())
    with Trainer(knobs_dir=folder, log=log) as running:
        running.wait_for_steps(8, GIVE_UP_S)
        pid = running.pid
        project(folder, texts(grad_accum_steps=8, microbatch_size=16, dataloader_num_workers=3))
        first = running.wait_for_change(GIVE_UP_S)
        running.wait_for_steps(first + 2, GIVE_UP_S)
        assert running.pid == pid
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(r["event"], r["step"]) for r in records if "event" in r] == [("resume", 1), ("schedule", first)]
    steps = [r for r in records if "loss" in r]
    assert [r["step"] for r in steps] == list(range(1, len(steps) + 1))
    for record in steps:
        assert record["knobs"]["grad_accum_steps"] == (4 if record["step"] < first else 8)
        assert record["knobs"]["grad_accum_steps"] * record["knobs"]["microbatch_size"] == 128
        assert len(record.get("worker_latencies_ms", [])) in ((2,) if record["step"] < first else (0, 3))


def test_where_the_knobs_come_from_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project(tmp_path / "knobs", texts())
    env = {**os.environ, "MODEKEEPER_KNOBS_DIR": str(tmp_path / "knobs")}
    argv = [sys.executable, "-m", "gitops_mk.demo.trainer", "--max-steps", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=env)
    assert json.loads(done.stdout.splitlines()[0])["config_map"] == [f"{k}={v}" for k, v in sorted(DEFAULTS.items())]
    monkeypatch.delenv("MODEKEEPER_KNOBS_DIR", raising=False)
    for args in ([], ["--annotations", "a", "--knobs-dir", "b"]):
        with pytest.raises(SystemExit):
            trainer.main(args)
    assert "MODEKEEPER_KNOBS_DIR" in capsys.readouterr().err
