"""`mk replay` and the picture of `mk observe`."""

from __future__ import annotations

import gzip
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from gitops_mk.adapters.telemetry.synthetic import SyntheticSource
from gitops_mk.cli import output
from gitops_mk.controller import replay as module
from gitops_mk.core.parse.reader import MAX_LINE

if TYPE_CHECKING:
    from tests.cli.conftest import Mk


def trace(scenario: str = "straggler", steps: int = 600) -> bytes:
    return b"".join(SyntheticSource(scenario, steps=steps).chunks())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_bytes(trace())
    return path


def test_the_table_and_the_artifacts(mk: Mk, file: Path) -> None:
    said = mk("replay", file)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].split("  ")[0] == "STEPS"
    assert "wait for confirmation (2 of 3)" in said.out
    assert "propose INPUT-STRAGGLER" in said.out
    assert "(worker-1)" in said.out
    assert "6 windows, 1 proposals; the whole recording at once shows: straggler" in said.out
    report = json.loads(Path("report/replay_latest.json").read_text())
    assert report["schema_version"] == "v0"
    assert [row["act"] for row in report["rows"]] == ["wait", "wait", "propose", *["open_already"] * 3]
    assert report["rows"][0]["window"]["first_step"] == 0
    assert report["rows"][1]["window"] | {"first_ts": "", "last_ts": ""} == {
        "first_step": 60, "last_step": 359, "steps": 300, "first_ts": "", "last_ts": "",
    }  # fmt: skip
    assert report["whole"]["ingest"]["lines"] == 600
    events = [json.loads(line)["event"] for line in Path("report/explain.jsonl").read_text().splitlines()]
    assert events == ["replay_start", *["replay_window"] * 6, "replay_report"]


def test_json_has_every_row(mk: Mk, tmp_path: Path) -> None:
    path = tmp_path / "quiet.jsonl.gz"
    path.write_bytes(gzip.compress(trace("stable")))
    said = mk("replay", path, "--json", "--hop", 10, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert {row["says"] for row in said.json["rows"]} == {"hold"}
    assert len(said.json["rows"]) == 31
    assert "hold (31 windows)" in mk("replay", path, "--hop", 10).out


def test_standard_input_the_scalar_policy_and_a_short_trace(
    mk: Mk, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        said = mk("replay", "-", "--policy", "scalar", "--confirm", 1, "--window", 5000, "--json")
    assert [row["says"] for row in said.json["rows"]] == ["propose SCALAR"]


def test_csv_keeps_its_header_in_every_window(mk: Mk, tmp_path: Path) -> None:
    records = [json.loads(line) for line in trace("drift").splitlines()]
    path = tmp_path / "train.csv"
    body = "\n".join(f"{r['step']},{r['step_time_ms']}" for r in records)
    path.write_text(f"\ufeffstep,step_time_ms\n\n{body}")
    said = mk("replay", path, "--json")
    assert [row["window"]["steps"] for row in said.json["rows"]] == [300] * 6
    assert said.json["whole"]["format"] == "csv"
    out = mk("replay", path).out
    assert "drift_step" in out
    assert "report only" in out, "nothing but the step time says that it got slower"


def test_a_trainers_own_table_and_a_format_asked_for_by_name(mk: Mk, tmp_path: Path) -> None:
    records = [json.loads(line) for line in trace("stable").splitlines()]
    path = tmp_path / "metrics.csv"
    body = "\n".join(f"{r['step']},0,{r['loss']},{r['step_time_ms'] / 1000}" for r in records)
    path.write_text(f"step,epoch,train_loss,time/train_batch\n{body}\n".replace("time/train_batch", "step_time"))
    for more in ((), ("--format", "lightning-csv")):
        said = mk("replay", path, "--json", *more)
        assert said.code == 0, said.err
        assert [row["window"]["steps"] for row in said.json["rows"]] == [300] * 6
        assert said.json["whole"]["format"] == "lightning-csv"


def test_lines_that_are_too_long_or_no_records_are_counted(mk: Mk, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    records = trace().splitlines(keepends=True)
    huge = b"x" * (2 * MAX_LINE)
    path.write_bytes(b"".join([*records[:300], huge, b"\n", *records[300:], huge]))
    said = mk("replay", path, "--json")
    assert said.json["whole"]["ingest"]["lines"] == 602
    assert said.json["whole"]["ingest"]["dropped_total"] == 2
    assert said.json["rows"][1]["window"]["steps"] == 299


def test_progress_is_told(mk: Mk, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(output, "progress", lambda what: nullcontext(told.append))
    assert mk("replay", file, "--hop", 150).code == 0
    assert told == [300, 450, 600]


def test_little_evidence_is_said(mk: Mk, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"".join(trace().splitlines(keepends=True)[:9]))
    said = mk("replay", path)
    assert "not enough evidence" in said.out
    assert "hold: evidence is insufficient" in said.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", 29], "--window 29, expected 30 to 100000"),
        (["--hop", 0], "--hop 0, expected 1 to"),
        (["--window", 30, "--hop", 31], "--hop 31, expected 1 to the window's 30"),
        (["--confirm", 0], "--confirm 0, expected 1 or more"),
    ],
)
def test_sizes_that_make_no_sense(mk: Mk, file: Path, options: list[object], message: str) -> None:
    said = mk("replay", file, *options)
    assert said.code == 2
    assert message in said.error
    assert "hint: " in said.err
    assert not Path("report").exists()


def test_a_trace_that_is_not_there_or_says_nothing(mk: Mk, tmp_path: Path) -> None:
    said = mk("replay", "none.jsonl")
    assert (said.code, said.error) == (2, "none.jsonl: no such file")
    assert "--path" not in said.err
    path = tmp_path / "text.log"
    path.write_text("hello\nworld\n")
    said = mk("replay", path)
    assert said.code == 2
    assert "no usable line among 2" in said.error
    path.write_text("\n\n")
    assert "no usable line among 0" in mk("replay", path).error


def test_a_window_that_takes_too_much_memory(mk: Mk, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    said = mk("replay", file)
    assert said.code == 2
    assert "expected a window to fit" in said.error


def test_the_picture(mk: Mk) -> None:
    said = mk("observe", "--scenario", "straggler", "--plot", "pictures/seen.svg", "--json")
    assert said.code == 0, said.err
    first = Path("pictures/seen.svg").read_bytes()
    assert b"worker-1 takes" in first
    assert ET.fromstring(first).tag.endswith("svg")
    mk("observe", "--scenario", "straggler", "--plot", "again.svg")
    assert Path("again.svg").read_bytes() == first


def test_a_picture_that_can_not_be_written(mk: Mk) -> None:
    said = mk("observe", "--scenario", "stable", "--plot", "seen.png")
    assert (said.code, said.error) == (2, "--plot seen.png, expected a name that ends in .svg")
    Path("taken").write_text("a file")
    said = mk("observe", "--scenario", "stable", "--plot", "taken/seen.svg")
    assert said.code == 2
    assert "can't be written" in said.error
