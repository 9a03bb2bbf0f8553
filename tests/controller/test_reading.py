"""Reading ahead: what verify is going to ask, begun early; wrong guesses cost nothing, and nothing is left running."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters import children
from gitops_mk.adapters.git import GitRepo
from gitops_mk.controller.builds import KEPT_BUILDS, CachingBuilder
from gitops_mk.controller.reading import ReadAhead, read
from gitops_mk.core.render.paths import plan_path
from gitops_mk.errors import InputError, ManifestError
from tests.support.make import ALICE
from tests.support.world import BRANCH, KNOBS_PATH, OVERLAY, World, copy_of


class Recorder:
    """A builder that says what it was asked for, and does what it is told."""

    def __init__(self, build: Callable[[], str] = lambda: "built") -> None:
        self.asked: list[tuple[str, bytes | None]] = []
        self._build = build

    def build(self, files: Mapping[str, bytes], overlay: str) -> str:
        self.asked.append((overlay, files.get(KNOBS_PATH)))
        return self._build()

    def version(self) -> str:
        return "v5"

    def warm(self) -> None:
        return


@contextmanager
def ahead_of(repo: GitRepo, builder: Any, base: str = "main", head: str = BRANCH) -> Iterator[ReadAhead]:
    ahead = ReadAhead(lambda: nullcontext(repo), builder, base, head, end_children=children.end_all)
    try:
        yield ahead
    finally:
        ahead.close()


@pytest.fixture
def made(proposed: Path, tmp_path: Path) -> World:
    return World(copy_of(proposed, tmp_path / "gitops.git"))


def test_what_was_read_is_what_the_commits_say_and_both_builds_are_begun(made: World) -> None:
    repo = made.server
    recorder = Recorder()
    builder = CachingBuilder(recorder)
    with ahead_of(repo, builder) as ahead:
        opened, reading = ahead.result()
        assert opened is repo
        assert reading == read(made.server, made.tip(), made.tip(BRANCH))
        assert reading.head_files[KNOBS_PATH]
        assert builder.build(reading.base_files, OVERLAY) == builder.build(reading.head_files, OVERLAY) == "built"
    assert len(recorder.asked) == 2
    assert {overlay for overlay, _ in recorder.asked} == {OVERLAY}
    assert {knobs for _, knobs in recorder.asked} == {None, reading.head_files[KNOBS_PATH]}


def test_a_change_without_a_record_or_with_two_begins_no_build(made: World) -> None:
    repo = made.server
    tip = made.tip()
    for files in ({"a": b"1"}, {plan_path("a", "x"): b"1", plan_path("b", "x"): b"1"}):
        tree = repo.write_tree(tip, files)
        head = repo.write_commit(tree=tree, parents=[tip], message="m", author=ALICE, time=1)
        recorder = Recorder()
        with ahead_of(repo, recorder, tip, head) as ahead:
            assert {change.path for change in ahead.result()[1].changes} == set(files)
            ahead._thread.join()
        assert recorder.asked == []


def test_what_cannot_be_read_is_told_to_who_asks(made: World) -> None:
    with ahead_of(made.server, Recorder(), head="none") as ahead, pytest.raises(InputError, match="head 'none'"):
        ahead.result()


def test_histories_without_a_common_commit_give_no_tree(made: World) -> None:
    repo = made.server
    alone = repo.write_commit(tree=repo.write_tree(None, {"a": b"1"}), parents=[], message="m", author=ALICE, time=1)
    found = read(repo, made.tip(), alone)
    assert (found.tree, found.head_files, found.changes) == (None, {}, ())
    assert OVERLAY + "/kustomization.yaml" in found.base_files


def test_a_program_that_hangs_is_ended_with_the_command(made: World) -> None:
    started = threading.Event()
    ended = []

    def hang() -> str:
        with children.running([sys.executable, "-c", "import time; time.sleep(600)"], os.environ) as process:
            started.set()
            ended.append(process.wait())
        return ""

    with ahead_of(made.server, Recorder(hang)):
        assert started.wait(60)
    assert ended
    assert set(ended) == {-9}


def test_what_the_early_way_imports_holds_no_model() -> None:
    code = (
        "import sys, gitops_mk.cli.main, gitops_mk.cli.verify, gitops_mk.wiring\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('pydantic', 'ruamel', 'urllib3', 'rich')])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


class TestBuilds:
    def test_who_asks_for_a_build_that_was_begun_waits_for_it(self) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def build() -> str:
            begun.set()
            assert go_on.wait(60)
            return "once"

        recorder = Recorder(build)
        builder = CachingBuilder(recorder)
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(builder.build({"a": b"1"}, "o"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert begun.wait(60)
        go_on.set()
        for thread in threads:
            thread.join()
        assert found == ["once"] * 3
        assert len(recorder.asked) == 1

    def test_what_failed_is_tried_anew(self) -> None:
        answers = iter([ManifestError("no"), None])

        def build() -> str:
            error = next(answers)
            if error is not None:
                raise error
            return "built"

        builder = CachingBuilder(Recorder(build))
        with pytest.raises(ManifestError, match="no"):
            builder.build({}, "o")
        assert builder.build({}, "o") == "built"

    def test_the_oldest_is_forgotten(self) -> None:
        recorder = Recorder()
        builder = CachingBuilder(recorder)
        for number in (*range(KEPT_BUILDS + 1), KEPT_BUILDS, 0):
            builder.build({}, f"o{number}")
        assert [overlay for overlay, _ in recorder.asked][-2:] == [f"o{KEPT_BUILDS}", "o0"]
