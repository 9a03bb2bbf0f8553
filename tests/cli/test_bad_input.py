"""Bad input on every command: one clear line, a hint, exit 2, and nothing half written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Mk, commit_all, git, load, tip
from tests.support.processes import interruptible

LINE = '{"ts": %d, "step": %d, "step_time_ms": %s}\n'


def lines(value: str, count: int = 50) -> str:
    return "".join(LINE % (i, i, value) for i in range(count))


class TestTelemetry:
    @pytest.mark.parametrize(
        "text",
        [
            os.urandom(5000),
            b'{"ts": 1, "step": 1, "step_time_ms": 5',
            lines("NaN").encode(),
            lines("Infinity").encode(),
            lines("-5").encode(),
            lines('"5"').encode(),
            b"\n\n\n",
            b"GET /healthz 200 12ms\n" * 50,
            b"[1]\n" * 50,
            b'{"a": ' + b"[" * 5000 + b"\n",
            b"x" * 3_000_000 + b"\n",
        ],
    )
    def test_unusable_is_insufficient_never_stable(self, mk: Mk, text: bytes) -> None:
        Path("t.jsonl").write_bytes(text)
        said = mk("observe", "--source", "file", "--path", "t.jsonl", "--out", "o", "--json")
        assert said.code == 0, said.err
        body = said.json
        assert body["stable"] is False
        assert body["incident"] is False
        assert body["insufficient_evidence"] is True
        assert load(Path("o/observe_latest.json")) == body

    @pytest.mark.parametrize(
        ("path", "says"),
        [("missing.jsonl", "no such file"), (".", "a directory"), ("empty.jsonl", "empty"), ("x\0y", "")],
    )
    def test_unreadable(self, mk: Mk, path: str, says: str) -> None:
        Path("empty.jsonl").touch()
        said = mk("observe", "--path", path, "--out", "o")
        assert said.code == 2
        assert says in said.error
        assert not Path("o/observe_latest.json").exists()

    def test_options(self, mk: Mk) -> None:
        assert "--path or --scenario is missing" in mk("observe").error
        assert "expected one of stable, drift" in mk("observe", "--scenario", "nope").error
        assert "nothing says where Prometheus is" in mk("observe", "--source", "prometheus").error
        assert "expected a number with a unit" in mk("observe", "--path", "x", "--duration", "5x").error
        assert "is not one of" in mk("observe", "--source", "pigeon").error


class TestOut:
    @pytest.mark.parametrize(
        "args",
        [
            ("observe", "--scenario", "stable"),
            ("closed-loop", "run", "--scenario", "drift"),
            ("chords", "validate", "--catalog", "c.json"),
            ("license", "verify"),
            ("license", "mint-dev"),
            ("closed-loop", "watch", "--scenario", "drift", "--max-iterations", "1"),
        ],
    )
    def test_a_folder_that_cant_be(self, mk: Mk, args: tuple[str, ...]) -> None:
        Path("c.json").write_text("{}")
        Path("file").touch()
        said = mk(*args, "--out", "file/sub")
        assert said.code == 2
        assert "file/sub can't be written: Not a directory" in said.error
        assert "hint: choose another folder with --out" in said.err

    def test_full_disk_leaves_nothing_half_written(self, mk: Mk, tmp_path: Path) -> None:
        """RLIMIT_FSIZE makes every larger write fail as a full disk does, in a process of its own."""
        out = tmp_path / "full"
        code = (
            "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300));"
            "from gitops_mk.cli.main import run;"
            f"sys.exit(run(['observe', '--scenario', 'stable', '--out', {str(out)!r}]))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "can't be written: File too large" in done.stderr
        assert [p.name for p in out.iterdir() if p.name != "explain.jsonl"] == []


class TestFiles:
    @pytest.mark.parametrize("args", [("k8s", "render"), ("propose",), ("k8s", "apply")])
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("{", "no valid JSON at line 1 column 2"),
            ("{}", "expected"),
            ("5", "expected a JSON list"),
            ('[{"a": 1}]', "field required"),
            ('[{"kind": "Deployment", "kind": "Job"}]', "stands twice"),
        ],
    )
    def test_malformed_plan(self, mk: Mk, repo: Path, args: tuple[str, ...], text: str, says: str) -> None:
        Path("p.json").write_text(text)
        more = () if args[-1] == "render" else ("--repo", str(repo))
        said = mk(*args, "--plan", "p.json", "--out", "o", *more)
        assert said.code == 2
        assert "p.json" in said.error
        assert says in said.error or args != ("k8s", "render")

    def test_missing_files(self, mk: Mk) -> None:
        for args in (
            ("k8s", "render", "--plan", "x"),
            ("propose", "--plan", "x"),
            ("passport", "validate", "--file", "x"),
            ("chords", "validate", "--catalog", "x"),
            ("chords", "list", "--catalog", "x"),
            ("config", "validate", "--file", "x"),
            ("license", "show", "--license", "x"),
            ("license", "issue", "--seed", "x", "--kid", "k", "--org", "o", "--output", "y"),
        ):
            said = mk(*args)
            assert said.code == 2, args
            assert "x can't be read: No such file" in said.error

    def test_names_file_line_and_field(self, mk: Mk) -> None:
        Path("c.yaml").write_text(
            "version: v1\nworkloads:\n  - namespace: ml\n    name: '$(touch pwned)'\n    overlay: o\n"
        )
        assert "c.yaml line 4: workloads.0.name" in mk("config", "validate", "--file", "c.yaml").error
        catalog = mk("chords", "list", "--json").json
        catalog[0]["risk_tier"] = "mild"
        Path("c.json").write_text(json.dumps({"schema_version": "chord_catalog.v1", "chords": catalog}, indent=1))
        said = mk("chords", "validate", "--catalog", "c.json", "--out", "o")
        assert said.code == 2
        assert "chords.0.risk_tier" in said.error
        assert " line " in said.error
        assert load(Path("o/chords_validate_latest.json"))["ok"] is False
        passport = json.loads(mk("passport", "show", "--template", "safe").out)
        passport["knobs"]["dataloader_num_workers"]["max_delta"] = "2"
        Path("p.json").write_text(json.dumps(passport, indent=1))
        assert "knobs.dataloader_num_workers.max_delta" in mk("passport", "validate", "--file", "p.json").error

    def test_unknown_names(self, mk: Mk) -> None:
        assert "it has NORMAL-HOLD" in mk("chords", "show", "X").err
        assert "there are pilot" in mk("passport", "show", "--template", "X").err
        assert "did you mean verify" in mk("verfy").err
        assert "see `mk --help`" in mk("frobnicate").err
        assert "see `mk pr --help`" in mk("pr", "frobnicate").err


class TestRepository:
    def plan(self, mk: Mk, repo: Path) -> Path:
        assert mk("closed-loop", "run", "--repo", repo, "--scenario", "straggler", "--out", "p").code == 0
        return Path("p/k8s_plan.json")

    def test_not_a_repository(self, mk: Mk, tmp_path: Path) -> None:
        for args in (
            ("pr", "list"),
            ("verify", "--base", "a", "--head", "b"),
            ("apply", "--pr", "1"),
            ("kill-switch", "on"),
        ):
            assert "is not in a git repository" in mk(*args, "--repo", tmp_path).error
            assert "no such folder" in mk(*args, "--repo", tmp_path / "nowhere").error

    def test_dirty_checkout(self, mk: Mk, checkout: Path) -> None:
        plan = self.plan(mk, checkout)
        (checkout / "base/deployment.yaml").write_text("x")
        before = git("for-each-ref", cwd=checkout)
        for args in (
            ("propose", "--plan", plan),
            ("closed-loop", "run", "--scenario", "straggler", "--apply"),
            ("rollback", "--pr", "1"),
        ):
            said = mk(*args, "--repo", checkout)
            assert said.code == 2
            assert "base/deployment.yaml changed and not committed" in said.error
        assert (checkout / "base/deployment.yaml").read_text() == "x"
        assert git("for-each-ref", cwd=checkout) == before

    def test_detached_checkout(self, mk: Mk, checkout: Path) -> None:
        plan = self.plan(mk, checkout)
        git("checkout", "-q", "--detach", cwd=checkout)
        assert "HEAD is detached, expected a branch" in mk("propose", "--plan", plan, "--repo", checkout).error
        assert mk("pr", "list", "--repo", checkout).code == 0

    def test_a_plan_for_an_unknown_workload(self, mk: Mk, checkout: Path) -> None:
        plan = self.plan(mk, checkout)
        config = checkout / ".modekeeper/config.yaml"
        config.write_text(config.read_text().replace("name: trainer", "name: other"))
        commit_all(checkout)
        for args in (("propose",), ("k8s", "apply")):
            said = mk(*args, "--plan", plan, "--repo", checkout)
            assert said.code == 2
            assert "the plan is for Deployment ml/trainer, which the configuration does not know" in said.error
        assert git("ls-remote", "origin", "refs/heads/modekeeper/*", cwd=checkout) == ""

    def test_two_overlays_claim_one_workload(self, mk: Mk, checkout: Path) -> None:
        config = checkout / ".modekeeper/config.yaml"
        config.write_text(config.read_text() + "  - {namespace: ml, name: trainer, overlay: overlays/two}\n")
        commit_all(checkout)
        said = mk("closed-loop", "run", "--repo", checkout, "--scenario", "drift")
        assert said.code == 2
        assert "two overlays claim Deployment ml/trainer: 'overlays/demo' and 'overlays/two'" in said.error

    def test_an_overlay_that_does_not_build(self, mk: Mk, checkout: Path) -> None:
        (checkout / "overlays/demo/kustomization.yaml").write_text("resources: [gone.yaml]\n")
        commit_all(checkout)
        said = mk("closed-loop", "run", "--repo", checkout, "--scenario", "drift", "--out", "o")
        assert said.code != 0
        assert "gone.yaml" in said.error
        assert not Path("o/closed_loop_latest.json").exists()

    def test_an_overlay_that_builds_another_workload(self, mk: Mk, checkout: Path) -> None:
        config = checkout / ".modekeeper/config.yaml"
        config.write_text(config.read_text().replace("name: trainer", "name: trainer-2"))
        commit_all(checkout)
        said = mk("closed-loop", "run", "--repo", checkout, "--scenario", "drift")
        assert said.code == 2
        assert "ml/trainer" in said.error

    def test_base_branch_that_moved(self, mk: Mk, checkout: Path) -> None:
        plan = self.plan(mk, checkout)
        file = checkout / "base/deployment.yaml"
        file.write_text(file.read_text().replace('num_workers: "2"', 'num_workers: "3"'))
        commit_all(checkout)
        said = mk("propose", "--plan", plan, "--repo", checkout)
        assert said.code == 2
        assert "the plan moves dataloader_num_workers from 2, the base has 3" in said.error

    def test_a_plan_edited_by_hand(self, mk: Mk, repo: Path) -> None:
        plan = self.plan(mk, repo)
        plan.write_text(plan.read_text().replace('"6"', '"8"'))
        said = mk("propose", "--plan", plan, "--repo", repo)
        assert "the plan was changed after it was made" in said.error
        records = plan.with_name("k8s_plan.records.json")
        records.write_text(records.read_text().replace('"after": 6', '"after": 8'))
        assert "digest" in mk("propose", "--plan", plan, "--repo", repo).error
        records.unlink()
        assert "no k8s_plan.records.json beside it" in mk("propose", "--plan", plan, "--repo", repo).error

    def test_a_policy_that_changed_since(self, mk: Mk, checkout: Path) -> None:
        plan = self.plan(mk, checkout)
        config = checkout / ".modekeeper/config.yaml"
        config.write_text(config.read_text().replace("passport: pilot", "passport: safe"))
        commit_all(checkout)
        assert (
            "under another catalog, passport or configuration"
            in mk("propose", "--plan", plan, "--repo", checkout).error
        )

    def test_config_that_names_another_branch(self, mk: Mk, checkout: Path) -> None:
        config = checkout / ".modekeeper/config.yaml"
        config.write_text(config.read_text().replace("base_branch: main", "base_branch: other"))
        commit_all(checkout)
        assert "'other'" in mk("pr", "list", "--repo", checkout).error

    def test_no_remote(self, mk: Mk, checkout: Path) -> None:
        git("remote", "remove", "origin", cwd=checkout)
        said = mk("pr", "list", "--repo", checkout)
        assert "has no remote `origin`" in said.error

    @pytest.mark.parametrize(
        "forge", ["ext::sh -c touch% pwned", "--upload-pack=touch pwned", "http://evil/x", "rel/path", "file:x"]
    )
    def test_remotes_we_dont_use(self, mk: Mk, checkout: Path, forge: str) -> None:
        said = mk("pr", "list", "--repo", checkout, f"--forge={forge}")
        assert said.code == 2
        assert "is not one we use" in said.error
        assert not Path("pwned").exists()

    @pytest.mark.parametrize(
        "ref", ["--output=pwned", "a b", "a..b", "$(touch pwned)", "x\ny", "refs/heads/none", "é" * 300, ""]
    )
    def test_refs(self, mk: Mk, repo: Path, ref: str) -> None:
        said = mk("verify", f"--base={ref}", "--head", "main", "--repo", repo, "--out", "o")
        assert said.code == 2
        assert said.error
        assert not Path("pwned").exists()
        assert not Path("o/verify_latest.json").exists()

    def test_unknown_pull_request(self, mk: Mk, checkout: Path) -> None:
        for args in (
            ("pr", "show", "9"), ("pr", "diff", "9"), ("pr", "close", "9"), ("pr", "approve", "9"), ("apply", "--pr", "9"),
            ("verify", "--pr", "9"), ("rollback", "--pr", "9"),
        ):  # fmt: skip
            said = mk(*args, "--repo", checkout)
            assert said.code == 2, args
            assert "there is no pull request #9" in said.error
        assert "#9 holds nothing" in mk("hold", "release", "9", "--repo", checkout).error

    def test_nothing_is_left_behind(
        self, mk: Mk, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setenv("TMPDIR", str(scratch))
        import tempfile

        monkeypatch.setattr(tempfile, "tempdir", None)
        mk("closed-loop", "run", "--repo", checkout, "--scenario", "straggler", "--apply")
        mk("verify", "--base", "main", "--head", "origin/main", "--repo", checkout)
        mk("pr", "show", "9", "--repo", checkout)
        assert list(scratch.iterdir()) == []
        assert git("status", "--porcelain", cwd=checkout) == ""
        assert tip(checkout, "HEAD") == tip(checkout, "origin/main")


def test_ctrl_c_writes_the_report_of_what_was_seen(tmp_path: Path) -> None:
    log = tmp_path / "t.jsonl"
    log.write_text(lines("5.0", 100))
    command = [
        sys.executable,
        "-m",
        "gitops_mk",
        "observe",
        "--path",
        str(log),
        "--follow",
        "--out",
        str(tmp_path / "o"),
    ]
    process = interruptible(command)
    wait_for(lambda: (tmp_path / "o/explain.jsonl").exists())
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    body = load(tmp_path / "o/observe_latest.json")
    assert body["ingest"]["records"] == 100
    assert any("interrupted" in note for note in body["environment"]["notes"]), out


def test_ctrl_c_in_an_apply_writes_nothing_to_the_repository(tmp_path: Path, repo: Path) -> None:
    log = tmp_path / "t.jsonl"
    log.write_text(lines("5.0", 100))
    command = [
        sys.executable, "-m", "gitops_mk", "closed-loop", "run", "--path", str(log), "--follow", "--apply",
        "--repo", str(repo), "--out", str(tmp_path / "o"),
    ]  # fmt: skip
    process = interruptible(command)
    wait_for(lambda: "observe_start" in read(tmp_path / "o/explain.jsonl"))
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "ERROR: interrupted"
    assert git("for-each-ref", "--format=%(refname)", cwd=repo).split() == ["refs/heads/main"]


def wait_for(ready: Any, timeout: float = 20.0) -> None:
    until = time.monotonic() + timeout
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.05)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
