"""`mk explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Mk


def test_a_folder_a_file_and_json(mk: Mk) -> None:
    assert mk("observe", "--scenario", "straggler", "--out", "o").code == 0
    said = mk("explain", "o")
    assert said.code == 0
    assert "straggler: worker-1 takes" in said.out
    assert mk("explain", "o/observe_latest.json", "--json").json["lines"] == said.out.splitlines()
    mk("closed-loop", "run", "--scenario", "drift", "--dry-run", "--out", "o")
    assert "DRIFT-RETUNE was planned" in mk("explain", "o").out


def test_a_pull_request(mk: Mk) -> None:
    mk("closed-loop", "run", "--scenario", "straggler", "--apply", "--out", "c")
    said = mk("explain", "--pr", "1", "--repo", "c/gitops/gitops.git")
    assert said.code == 0, said.err
    assert "INPUT-STRAGGLER moves dataloader_num_workers from 2 to 6" in said.out
    missing = mk("explain", "--pr", "9", "--repo", "c/gitops/gitops.git")
    assert (missing.code, missing.error) == (2, "there is no pull request #9")


def test_bad_input(mk: Mk) -> None:
    assert mk("explain").error == "expected either PATH or --pr"
    assert mk("explain", "o", "--pr", "1").code == 2
    assert "can't be read" in mk("explain", "nowhere").error
    Path("empty").mkdir()
    assert "holds neither closed_loop_latest.json nor observe_latest.json" in mk("explain", "empty").error
    Path("odd.json").write_text("[]")
    assert "is no report of observe or closed-loop" in mk("explain", "odd.json").error
    Path("odd.json").write_text("{")
    assert mk("explain", "odd.json").code == 2
