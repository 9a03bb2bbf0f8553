"""What `ports.ArtifactStore` promises: a file is written whole or not at all, also on a disk that is full or read-only."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gitops_mk.adapters.artifacts import FolderStore
from gitops_mk.errors import InputError
from tests.support.make import NOW


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "out"


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: a write takes what fits and fails after that, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_report_stands_under_its_time_and_as_the_latest(folder: Path) -> None:
    store = FolderStore(folder)
    assert store.out_dir == str(folder)
    assert names(folder) == [], "the probe leaves nothing"
    path = store.report("observe", {"b": 1, "a": [2]}, at=NOW)
    assert path == str(folder / "observe_latest.json")
    assert names(folder) == ["observe_20260301_120000.json", "observe_latest.json"]
    assert Path(path).read_bytes() == (folder / "observe_20260301_120000.json").read_bytes()
    assert Path(path).read_text() == '{\n  "a": [2],\n  "b": 1\n}\n'
    assert Path(path).stat().st_mode & 0o777 == 0o644


def test_text_may_go_into_folders_and_is_replaced(folder: Path) -> None:
    store = FolderStore(folder)
    assert store.text("kustomize/a/b.yaml", "one") == str(folder / "kustomize/a/b.yaml")
    store.text("kustomize/a/b.yaml", b"two")
    assert store.read("kustomize/a/b.yaml") == b"two"
    assert store.read("nothing") is None
    assert names(folder / "kustomize/a") == ["b.yaml"]


def test_events_are_appended_a_line_each(folder: Path) -> None:
    store = FolderStore(folder)
    for number in range(3):
        store.explain("observe_start", {"number": number, "text": "line\nend"}, at=NOW)
    lines = (folder / "explain.jsonl").read_text().splitlines()
    assert [json.loads(line)["payload"]["number"] for line in lines] == [0, 1, 2]
    assert lines[0].startswith('{"event":"observe_start"')
    assert json.loads(lines[0])["ts"] == "2026-03-01T12:00:00.000000Z"


def test_writers_at_the_same_time_leave_whole_lines_and_files(folder: Path) -> None:
    store = FolderStore(folder)

    def write(name: str) -> None:
        for _ in range(40):
            store.explain("e", {"by": name, "pad": name * 3000}, at=NOW)
            store.text("same", name * 50_000)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([json.loads(line) for line in (folder / "explain.jsonl").read_text().splitlines()]) == 120
    assert (store.read("same") or b"") in (b"a" * 50_000, b"b" * 50_000, b"c" * 50_000)
    assert names(folder) == ["explain.jsonl", "same"]


def test_a_name_that_is_no_text_does_not_cost_the_report(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / os.fsdecode(b"out-\xff"))
    store.explain("e", {"path": os.fsdecode(b"\xff")}, at=NOW)
    store.report("r", {"out_dir": store.out_dir}, at=NOW)
    assert json.loads(store.read("r_latest.json") or b"")["out_dir"].endswith("out-?")
    assert json.loads(store.read("explain.jsonl") or b"")["event"] == "e"


def test_a_full_disk_keeps_the_old_file_and_leaves_no_other(folder: Path) -> None:
    store = FolderStore(folder)
    store.text("file", "old")
    store.report("r", {"n": 1}, at=NOW)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    with full_disk(1000):
        with pytest.raises(InputError, match=r"can't be written") as caught:
            store.text("file", "n" * 1001)
        assert "free some space" in (caught.value.hint or "")
        with pytest.raises(InputError):
            store.report("r", {"n": "x" * 1001}, at=NOW)
        with pytest.raises(InputError):
            store.text("new", "n" * 5000)
        store.text("small", "fits")
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before | {"small": b"fits"}


def test_a_full_disk_leaves_no_half_event(folder: Path) -> None:
    store = FolderStore(folder)
    with full_disk(1000):
        for _ in range(3):
            store.explain("e", {"pad": "x" * 200}, at=NOW)
        size = (folder / "explain.jsonl").stat().st_size
        with pytest.raises(InputError, match=r"explain.jsonl can't be written"):
            store.explain("e", {"pad": "y" * 200}, at=NOW)
    assert (folder / "explain.jsonl").stat().st_size == size
    store.explain("e", {"pad": "z"}, at=NOW)
    assert len([json.loads(line) for line in (folder / "explain.jsonl").read_text().splitlines()]) == 4


def test_a_full_disk_is_told_before_anything_is_done(folder: Path) -> None:
    """Zero bytes still fit: the folder's own probe is empty, so the first report tells."""
    with full_disk(0):
        store = FolderStore(folder)
        with pytest.raises(InputError):
            store.text("a", "b")
    assert names(folder) == []


@pytest.mark.parametrize(
    "place", ["a file where the folder should be", "under a file", "/proc", "/dev/null", "too long"]
)
def test_a_folder_that_cannot_be_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    where = {
        "a file where the folder should be": tmp_path / "file",
        "under a file": tmp_path / "file" / "out",
        "/proc": Path("/proc/mk-out"),
        "/dev/null": Path("/dev/null/out"),
        "too long": tmp_path / ("n" * 300),
    }[place]
    with pytest.raises(InputError, match=r"can't be written") as caught:
        FolderStore(where)
    assert "--out" in (caught.value.hint or "")
    assert (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path) == ["file"]


def test_a_folder_in_the_way_of_a_file_is_told(folder: Path) -> None:
    store = FolderStore(folder)
    (folder / "file").mkdir()
    (folder / "explain.jsonl").mkdir()
    with pytest.raises(InputError):
        store.text("file", "x")
    with pytest.raises(InputError):
        store.explain("e", {}, at=NOW)
    with pytest.raises(InputError, match="can't be read"):
        store.read("file")
    assert names(folder) == ["explain.jsonl", "file"]


def test_a_folder_that_went_away_is_made_again_or_told(folder: Path) -> None:
    store = FolderStore(folder)
    folder.rmdir()
    store.text("a", "1")
    assert store.read("a") == b"1"
    (folder / "a").unlink()
    folder.rmdir()
    with pytest.raises(InputError):
        store.explain("e", {}, at=NOW)


def test_killed_while_writing_the_old_file_stands(folder: Path) -> None:
    """At the first write, before the rename: nothing of the new content under the file's name."""
    store = FolderStore(folder)
    store.text("file", "old")
    script = (
        "import os, sys; from pathlib import Path; from gitops_mk.adapters.artifacts import FolderStore\n"
        "store = FolderStore(Path(sys.argv[1]))\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), 9)\n"
        "store.text('file', 'new' * 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert store.read("file") == b"old"
