"""Where the tests' Prometheus comes from, and what a run says that has none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.prometheus.programs import FOLDER, NAMES, programs
from tests.support.unavailable import Unavailable

ROOT = Path(__file__).resolve().parents[2]


def outcome(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A run of a test that needs a Prometheus, where there is neither Go nor one."""
    test = tmp_path / "test_one.py"
    test.write_text("def test_one(prometheus): raise AssertionError\n")
    kept = {k: v for k, v in os.environ.items() if k != "CI" and not k.startswith(("PYTEST", "MODEKEEPER", "COV"))}
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.support.prometheus.plugin",
        "-p",
        "no:cacheprovider",
        str(test),
    ]
    full = {**kept, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(argv, cwd=tmp_path, env=full, capture_output=True, text=True, check=False)


def test_without_one_the_summary_says_what_was_not_tested(tmp_path: Path) -> None:
    done = outcome(tmp_path)
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("NOT TESTED: ")]
    assert line.startswith("NOT TESTED: no Prometheus: it is built with Go, and there is no `go` on the PATH")
    assert line.endswith("(1 test)")


@pytest.mark.parametrize("name", ["CI", "MODEKEEPER_REQUIRE_PROMETHEUS"])
def test_where_one_is_required_its_absence_fails(tmp_path: Path, name: str) -> None:
    done = outcome(tmp_path, **{name: "true" if name == "CI" else "1"})
    assert done.returncode == 1
    assert "no Prometheus: it is built with Go" in done.stdout


def test_a_folder_comes_first_then_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("own", "path"):
        (tmp_path / folder).mkdir()
        for name in NAMES:
            (tmp_path / folder / name).write_text("#!/bin/sh\n")
            (tmp_path / folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv(FOLDER, raising=False)
    assert programs() == (tmp_path / "path" / "prometheus", tmp_path / "path" / "promtool")
    monkeypatch.setenv(FOLDER, str(tmp_path / "own"))
    assert programs() == (tmp_path / "own" / "prometheus", tmp_path / "own" / "promtool")
    (tmp_path / "own" / "promtool").unlink()
    with pytest.raises(Unavailable, match="has no prometheus and promtool"):
        programs()
