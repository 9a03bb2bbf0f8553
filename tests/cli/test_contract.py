"""What the contract promises of each command: artifacts, fields, exit codes, and the fixed lines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.killswitch import VARIABLE
from gitops_mk.adapters.license_files import KEYRING_VARIABLE, LICENSE_VARIABLE, mint
from gitops_mk.cli.main import COMMANDS
from tests.cli.conftest import Mk, Said, commit_all, git, load, tip

KILL_LINE = "ERROR: MODEKEEPER_KILL_SWITCH=1 blocks apply/mutate operations"
VERIFY_LINE = "ERROR: verify_ok=true is required for apply/mutate operations"
REPORT_KEYS = {"schema_version", "started_at", "finished_at", "duration_s", "out_dir", "mk_version"}
STAMPED = re.compile(r"_\d{8}_\d{6}\.json$")


def names(folder: Path) -> set[str]:
    return {STAMPED.sub("_<ts>.json", p.name) for p in folder.iterdir()}


def is_report(body: dict[str, Any]) -> None:
    assert body.keys() >= REPORT_KEYS
    assert body["schema_version"] == "v0"
    assert isinstance(body["duration_s"], int)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["started_at"])


def events(folder: Path) -> list[str]:
    found = [json.loads(line) for line in (folder / "explain.jsonl").read_text().splitlines()]
    assert all(set(e) == {"ts", "event", "payload"} for e in found)
    return [e["event"] for e in found]


class TestReadOnly:
    def test_observe(self, mk: Mk) -> None:
        said = mk("observe", "--scenario", "straggler", "--out", "o")
        assert said.code == 0
        assert names(Path("o")) == {"explain.jsonl", "observe_<ts>.json", "observe_latest.json"}
        body = load(Path("o/observe_latest.json"))
        is_report(body)
        assert body["environment"].keys() == {"nodes_seen", "gpu_models_seen", "unstable", "notes"}
        assert {"dropped_invalid_json", "dropped_invalid_shape", "dropped_missing_fields", "dropped_total"} <= body[
            "ingest"
        ].keys()
        assert {word for word, holds in body["signals"].items() if holds} == {"straggler", "incident"}
        assert body["signals"].keys() == {
            "drift", "drift_loss", "drift_step", "burst", "straggler", "gpu_saturated", "comm_congestion", "near_hang",
            "incident", "stable",
        }  # fmt: skip
        assert (body["classification"], body["pr_worthy"]) == ("signal_found", True)
        assert body["evidence"].keys() == body["signals"].keys() - {"incident", "stable"}
        assert body["evidence"]["straggler"]["culprits"] == ["worker-1"]
        assert {"effect", "noise", "onset_step", "culprits"} <= body["evidence"]["drift"].keys()
        assert events(Path("o"))[0] == "observe_start"
        assert "observe_ingest" in events(Path("o"))

    def test_record_raw_replays(self, mk: Mk) -> None:
        first = mk("observe", "--scenario", "drift", "--record-raw", "raw.jsonl", "--out", "a", "--json").json
        again = mk("observe", "--path", "raw.jsonl", "--out", "b", "--json").json
        assert first["signals"] == again["signals"]

    def test_stdin(self, tmp_path: Path) -> None:
        lines = "".join(json.dumps({"ts": i, "step": i, "step_time_ms": 10.0}) + "\n" for i in range(40))
        command = [sys.executable, "-m", "gitops_mk", "observe", "--path", "-", "--out", str(tmp_path), "--json"]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["ingest"]["records"] == 40

    def test_chords(self, mk: Mk) -> None:
        listed = mk("chords", "list").out
        assert "NEAR-HANG/TIMEOUT-GUARD" in listed
        assert "cooldown" in mk("chords", "show", "DRIFT-RETUNE").out
        assert "NORMAL-HOLD" in mk("chords", "show", "NORMAL-HOLD").out
        assert mk("chords", "show", "SCALAR", "--json").json["id"] == "SCALAR"
        Path("c.json").write_text(
            json.dumps({"schema_version": "chord_catalog.v1", "chords": mk("chords", "list", "--json").json})
        )
        assert mk("chords", "validate", "--catalog", "c.json", "--out", "o").code == 0
        assert names(Path("o")) == {"chords_validate_<ts>.json", "chords_validate_latest.json"}
        assert mk("chords", "validate", "--catalog", "c.json", "--out", "o", "--json").json["ok"] is True

    def test_passports(self, mk: Mk) -> None:
        for name in [p["id"] for p in mk("passport", "templates", "--json").json]:
            Path("p.json").write_text(mk("passport", "show", "--template", name).out)
            assert mk("passport", "validate", "--file", "p.json", "--json").json["id"] == name
        assert "pilot" in mk("passport", "templates").out
        assert "valid" in mk("passport", "validate", "--file", "p.json").out

    @pytest.mark.parametrize("scenario", ["stable", "drift", "burst", "straggler", "gpu_saturated"])
    def test_closed_loop_dry_run(self, mk: Mk, scenario: str) -> None:
        said = mk("closed-loop", "run", "--scenario", scenario, "--dry-run", "--out", "o", "--json")
        assert said.code == 0
        assert names(Path("o")) == {
            "explain.jsonl", "closed_loop_<ts>.json", "closed_loop_latest.json", "policy_bundle_latest.json",
            "decision_trace_latest.jsonl", "summary.md", "k8s_plan.json", "k8s_plan.records.json", "k8s_plan.kubectl.sh",
        }  # fmt: skip
        body = load(Path("o/closed_loop_latest.json"))
        assert body == said.json
        is_report(body)
        assert body.keys() >= {
            "signals", "environment", "proposed", "results", "verify_ok", "apply_attempted", "apply_ok",
            "apply_blocked_reason", "kill_switch_active", "kill_switch_signal", "license_ok", "license_reason",
            "k8s_plan_path", "k8s_plan_items", "k8s_verify_report_path", "k8s_apply_report_path", "pr",
            "apply_decision_summary", "dry_run",
        }  # fmt: skip
        assert len(body["results"]) == len(body["proposed"])
        assert body["dry_run"] is True
        plan = load(Path("o/k8s_plan.json"))
        assert len(plan) == body["k8s_plan_items"] == (0 if scenario == "stable" else 1)
        for item in plan:
            assert item.keys() == {"apiVersion", "kind", "namespace", "name", "patch", "reason"}
        script = Path("o/k8s_plan.kubectl.sh").read_text()
        assert ("patch" in script.split("set -eu")[1]) is bool(plan)
        assert load(Path("o/policy_bundle_latest.json"))["schema_version"] == "policy_bundle.v1"
        trace = [json.loads(line) for line in Path("o/decision_trace_latest.jsonl").read_text().splitlines()]
        assert {e["schema_version"] for e in trace} == {"decision_trace_event.v0"}
        assert trace[0]["event"] == "inputs"
        assert trace[-1]["event"] == "outcome"

    def test_every_chord_keeps_the_global_batch(self, mk: Mk) -> None:
        for policy in ("chord", "scalar"):
            for scenario in ("drift", "gpu_saturated"):
                body = mk("closed-loop", "run", "--scenario", scenario, "--policy", policy, "--out", "o", "--json").json
                for action in body["proposed"]:
                    moved = {c["knob"]: c["after"] for c in action["changes"]}
                    assert moved.get("grad_accum_steps", 4) * moved.get("microbatch_size", 32) == 128

    def test_advanced_needs_approval(self, mk: Mk) -> None:
        args = ("closed-loop", "run", "--scenario", "comm_congestion", "--passport", "perf", "--json")
        assert mk(*args, "--out", "a").json["results"][0]["reason"] == "approval_required"
        assert mk(*args, "--out", "b", "--approve-advanced").json["results"][0]["status"] == "planned"

    def test_render(self, mk: Mk) -> None:
        mk("closed-loop", "run", "--scenario", "straggler", "--out", "p")
        said = mk("k8s", "render", "--plan", "p/k8s_plan.json", "--out", "r", "--json")
        assert said.code == 0
        assert names(Path("r")) == {
            "explain.jsonl",
            "k8s_plan.kubectl.sh",
            "kustomize",
            "k8s_render_<ts>.json",
            "k8s_render_latest.json",
        }
        assert {p.name for p in Path("r/kustomize").rglob("*") if p.is_file()} == {
            "kustomization.yaml", "trainer.knobs.yaml", "trainer.plan.json",
        }  # fmt: skip
        Path("p/k8s_plan.records.json").unlink()
        assert mk("k8s", "render", "--plan", "p/k8s_plan.json", "--out", "r2").code == 0
        assert {p.name for p in Path("r2/kustomize").rglob("*") if p.is_file()} == {
            "kustomization.yaml",
            "trainer.knobs.yaml",
        }

    def test_watch(self, mk: Mk) -> None:
        said = mk(
            "closed-loop", "watch", "--scenario", "stable", "--interval", "10ms", "--max-iterations", "2", "--out", "w"
        )
        assert said.code == 0
        assert "iter_0002" in said.out
        body = load(Path("w/watch_latest.json"))
        is_report(body)
        assert body["iterations_done"] == 2
        assert body["last_iteration_out_dir"] == "w/iter_0002"
        assert body["counts"]["stable"] == 2
        assert body["stable_intervals"] == 2
        assert Path("w/iter_0002/closed_loop_latest.json").exists()
        assert len(Path("w/watch_summary.md").read_text().splitlines()) <= 10
        counted = mk(
            "closed-loop",
            "watch",
            "--scenario",
            "drift",
            "--interval",
            "1ms",
            "--max-iterations",
            "1",
            "--out",
            "v",
            "--json",
        ).json
        assert counted["counts"]["incident"] == 1

    def test_config(self, mk: Mk, checkout: Path) -> None:
        assert mk("config", "schema").json["title"].startswith("ModeKeeper")
        path = checkout / ".modekeeper/config.yaml"
        assert mk("config", "validate", "--file", path, "--json").json["workloads"] == ["ml/deployment-trainer"]
        assert "Deployment ml/trainer in overlays/demo" in mk("config", "validate", "--file", path).out


class TestTheLoop:
    def apply(self, mk: Mk, *more: str) -> Said:
        return mk("closed-loop", "run", "--scenario", "straggler", "--apply", "--out", "o", *more)

    def test_without_a_licence(self, mk: Mk) -> None:
        said = self.apply(mk)
        assert said.code == 2
        assert said.error.startswith("license_missing: ")
        body = load(Path("o/closed_loop_latest.json"))
        assert body["apply_blocked_reason"] == "license_missing"
        assert (body["verify_ok"], body["apply_attempted"], body["apply_ok"], body["license_ok"]) == (
            True,
            False,
            False,
            False,
        )
        assert body["pr"]["draft"] is True
        assert len(body["results"]) == len(body["proposed"]) == 1
        assert tip(Path("o/gitops/gitops.git"), body["pr"]["branch"]) == body["pr"]["head_sha"]

    def test_with_a_licence(self, mk: Mk, licensed: Path) -> None:
        said = self.apply(mk)
        assert said.code == 0, said.err
        body = load(Path("o/closed_loop_latest.json"))
        assert (body["apply_ok"], body["apply_attempted"], body["apply_blocked_reason"]) == (True, True, None)
        assert body["results"][0]["applied"] is True
        repo = Path("o/gitops/gitops.git")
        assert tip(repo) == body["pr"]["merge_sha"]
        assert tip(repo, body["pr"]["branch"]) is None
        applied = load(Path("o/k8s_apply_latest.json"))
        is_report(applied)
        assert applied["items"] == applied["checks"]["items"]
        assert applied["items"][0]["ok"] is True
        assert applied["merge_sha"] == body["pr"]["merge_sha"]
        verified = load(Path("o/k8s_verify_latest.json"))
        assert verified["ok"] is verified["verify_ok"] is True
        assert verified["verify_blocker"] is None
        assert verified["checks"].keys() >= {"cluster_reachable", "current_context", "items"}
        assert (
            load(Path("o/policy_bundle_latest.json"))["rollback"]["rollback_plan_path"] == "o/rollback_plan_latest.json"
        )
        assert {"k8s_apply_start", "k8s_apply_applied", "k8s_apply_report", "k8s_verify_report"} <= set(
            events(Path("o"))
        )

        again = self.apply(mk)
        assert again.code == 2
        assert load(Path("o/closed_loop_latest.json"))["apply_blocked_reason"] == "cooldown_active"

        back = mk("rollback", "--pr", "1", "--repo", repo, "--out", "back")
        assert back.code == 0, back.err
        assert mk("verify", "--pr", "2", "--repo", repo, "--out", "back").code == 0
        assert mk("apply", "--pr", "2", "--repo", repo, "--out", "back").code == 0
        built = git("show", "main:overlays/demo/modekeeper/trainer.knobs.yaml", cwd=repo)
        assert 'modekeeper/knob.dataloader_num_workers: "2"' in built

    @pytest.mark.parametrize("value", ["1", "", "banana", "00", " 0", "false"])
    def test_kill_switch_stands_above_all(
        self, mk: Mk, licensed: Path, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv(VARIABLE, value)
        monkeypatch.setenv("MODEKEEPER_INTERNAL_OVERRIDE", "1")
        said = self.apply(mk)
        assert said.code == 2
        assert said.err == KILL_LINE + "\n"
        body = load(Path("o/closed_loop_latest.json"))
        assert body["apply_blocked_reason"] == "kill_switch"
        assert body["kill_switch_active"] is True
        assert len(body["results"]) == len(body["proposed"]) == 1
        assert git("for-each-ref", "--format=%(refname)", cwd=Path("o/gitops/gitops.git")).split() == [
            "refs/heads/main"
        ]

    def test_kill_switch_on_every_apply_entry_point(
        self, mk: Mk, licensed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(VARIABLE, "1")
        for args in (
            ("closed-loop", "run", "--scenario", "drift", "--apply"),
            ("closed-loop", "watch", "--scenario", "drift", "--apply", "--max-iterations", "1"),
            ("k8s", "apply", "--plan", "missing.json"),
            ("apply", "--pr", "1"),
        ):
            said = mk(*args, "--out", "k")
            assert said.code == 2, args
            assert said.err == KILL_LINE + "\n", args
        assert load(Path("k/k8s_apply_latest.json"))["block_reason"] == "kill_switch"

    def test_kill_switch_zero_is_clear(self, mk: Mk, licensed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, "0")
        assert self.apply(mk).code == 0

    def test_kill_switch_in_the_repository(self, mk: Mk, licensed: Path, checkout: Path, repo: Path) -> None:
        assert mk("kill-switch", "on", "--reason", "freeze", "--repo", checkout).code == 0
        assert "already" in mk("kill-switch", "on", "--repo", checkout).out
        status = mk("kill-switch", "status", "--repo", checkout, "--json").json
        assert status["active"] is True
        git("pull", "-q", cwd=checkout)
        assert "freeze" in (checkout / ".modekeeper/kill-switch").read_text()
        for args in (("closed-loop", "run", "--scenario", "straggler", "--apply"), ("rollback", "--pr", "1")):
            said = mk(*args, "--repo", checkout, "--out", "o")
            assert said.code == 2
            assert said.err == "ERROR: .modekeeper/kill-switch on the base branch blocks apply/mutate operations\n"
        assert mk("kill-switch", "off", "--repo", checkout).code == 0
        git("pull", "-q", cwd=checkout)
        assert (
            mk("closed-loop", "run", "--scenario", "straggler", "--apply", "--repo", checkout, "--out", "o").code == 0
        )

    def test_off_says_when_another_source_still_stops(
        self, mk: Mk, checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(VARIABLE, "1")
        assert "merges are still stopped: environment" in mk("kill-switch", "off", "--repo", checkout).error
        assert "ACTIVE" in mk("kill-switch", "status").out

    def test_verify_is_required(self, mk: Mk, licensed: Path, repo: Path) -> None:
        mk("closed-loop", "run", "--repo", repo, "--scenario", "straggler", "--out", "p")
        assert mk("propose", "--plan", "p/k8s_plan.json", "--repo", repo, "--out", "p").code == 0
        for args in (("apply", "--pr", "1"), ("k8s", "apply", "--plan", "p/k8s_plan.json")):
            said = mk(*args, "--repo", repo, "--out", "o")
            assert said.code == 2
            assert said.err == VERIFY_LINE + "\n"
            assert load(Path("o/k8s_apply_latest.json"))["block_reason"] == "verify_missing"
        Path("p/k8s_verify_latest.json").write_text('{"verify_ok": false}')
        assert mk("k8s", "apply", "--plan", "p/k8s_plan.json", "--repo", repo, "--out", "o").err == VERIFY_LINE + "\n"
        assert load(Path("o/k8s_apply_latest.json"))["block_reason"] == "verify_failed"
        Path("p/k8s_verify_latest.json").write_text("garbage")
        mk("verify", "--pr", "1", "--repo", repo, "--out", "v")
        assert mk("k8s", "apply", "--plan", "p/k8s_plan.json", "--repo", repo, "--out", "o").code == 2
        Path("p/k8s_verify_latest.json").unlink()
        assert mk("k8s", "apply", "--plan", "p/k8s_plan.json", "--repo", repo, "--out", "o").code == 0
        assert names(Path("o")) >= {
            "explain.jsonl",
            "k8s_apply_<ts>.json",
            "k8s_apply_latest.json",
            "policy_bundle_latest.json",
        }

    def test_license_order(self, mk: Mk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        good, keyring = mint(tmp_path / "good", org="good", days=1)
        monkeypatch.setenv(KEYRING_VARIABLE, str(keyring))
        assert mk("license", "verify").error.startswith("license_missing")
        Path("modekeeper.license.json").write_text(good.read_text())
        assert mk("license", "verify", "--json").json["path"] == "modekeeper.license.json"
        monkeypatch.setenv(LICENSE_VARIABLE, "gone.json")
        assert mk("license", "verify").error.startswith("license_invalid (file_missing)")
        assert mk("license", "verify", "--license", good, "--json").json["ok"] is True
        monkeypatch.setenv(KEYRING_VARIABLE, "gone.json")
        assert mk("license", "verify", "--license", good).error.startswith("license_invalid (keyring_invalid)")
        monkeypatch.delenv(KEYRING_VARIABLE)
        assert mk("license", "verify", "--license", good).error.startswith("license_invalid (unknown_kid)")

    def test_issue_and_rotate(self, mk: Mk) -> None:
        for kid in ("k1", "k2"):
            assert mk("license", "keygen", "--kid", kid, "--seed", f"{kid}.seed", "--keyring", "ring.json").code == 0
            assert Path(f"{kid}.seed").stat().st_mode & 0o777 == 0o600
            made = mk(
                "license",
                "issue",
                "--seed",
                f"{kid}.seed",
                "--kid",
                kid,
                "--org",
                "Acme",
                "--bind",
                "repository=/r",
                "--output",
                f"{kid}.json",
            )
            assert made.code == 0, made.err
        for kid in ("k1", "k2"):
            args = ("license", "verify", "--license", f"{kid}.json", "--keyring", "ring.json")
            assert mk(*args, "--bind", "repository=/r").code == 0
            assert mk(*args, "--bind", "repository=/other").error.startswith("binding_mismatch")
            assert mk(*args).error.startswith("binding_mismatch")
        assert (
            "has a key 'k1' already"
            in mk("license", "keygen", "--kid", "k1", "--seed", "n.seed", "--keyring", "ring.json").error
        )
        assert not Path("n.seed").exists()
        assert (
            "never overwritten"
            in mk("license", "keygen", "--kid", "k3", "--seed", "k1.seed", "--keyring", "ring.json").error
        )
        assert "kid" in mk("license", "keygen", "--kid", "../x", "--seed", "n.seed", "--keyring", "ring.json").error
        assert "expected NAME=VALUE" in mk("license", "verify", "--bind", "x").error
        shown = mk("license", "show", "--license", "k1.json")
        assert "signature not checked" in shown.out
        assert mk("license", "show", "--license", "k1.json", "--json").json["org"] == "Acme"

    def test_mint_dev(self, mk: Mk) -> None:
        out = mk("license", "mint-dev", "--out", "l").out
        assert LICENSE_VARIABLE in out
        assert KEYRING_VARIABLE in out
        assert not list(Path("l").glob("*seed*"))
        assert mk("license", "mint-dev", "--out", "l2", "--json").json["days"] == 7


class TestPullRequests:
    def propose(self, mk: Mk, checkout: Path) -> Said:
        mk("closed-loop", "run", "--repo", checkout, "--scenario", "straggler", "--out", "p")
        return mk("propose", "--plan", "p/k8s_plan.json", "--repo", checkout, "--out", "p", "--json")

    def test_same_plan_is_not_one_write(self, mk: Mk, checkout: Path, repo: Path) -> None:
        first = self.propose(mk, checkout).json
        assert first["items"][0]["outcome"] == "created"
        refs = git("for-each-ref", cwd=repo)
        again = mk("propose", "--plan", "p/k8s_plan.json", "--repo", checkout, "--out", "p", "--json").json
        assert (again["items"][0]["outcome"], again["items"][0]["writes"]) == ("unchanged", 0)
        assert git("for-each-ref", cwd=repo) == refs

    def test_list_show_diff(self, mk: Mk, checkout: Path) -> None:
        assert "no open pull requests" in mk("pr", "list", "--repo", checkout).out
        self.propose(mk, checkout)
        assert "#1  draft" in mk("pr", "list", "--repo", checkout).out
        assert mk("pr", "list", "--repo", checkout, "--json").json[0]["number"] == 1
        assert mk("verify", "--pr", "1", "--repo", checkout, "--out", "v").code == 0
        shown = mk("pr", "show", "1", "--repo", checkout).out
        assert "check modekeeper/verify: success" in shown
        assert "| `dataloader_num_workers` | 2 | **6** |" in shown
        assert mk("pr", "show", "1", "--repo", checkout, "--json").json["chord"] == "INPUT-STRAGGLER"
        diff = mk("pr", "diff", "1", "--repo", checkout).out
        assert '+    modekeeper/knob.dataloader_num_workers: "6"' in diff

    def test_verify_in_ci(self, mk: Mk, checkout: Path) -> None:
        self.propose(mk, checkout)
        git("fetch", "-q", "origin", cwd=checkout)
        branch = "origin/modekeeper/ml/deployment-trainer"
        objects = sorted(p for p in (checkout / ".git/objects").rglob("*"))
        said = mk("verify", "--base", "origin/main", "--head", branch, "--repo", checkout, "--out", "v", "--json")
        assert said.code == 0
        assert [s["number"] for s in said.json["steps"]] == list(range(1, 10))
        assert said.json["cluster"] == "not consulted"
        assert sorted(p for p in (checkout / ".git/objects").rglob("*")) == objects
        wrong = mk("verify", "--base", "origin/main", "--head", "origin/main", "--repo", checkout, "--out", "v")
        assert wrong.code == 1
        assert "scope_violation" in wrong.out

    def test_approvals(self, mk: Mk, checkout: Path, licensed: Path) -> None:
        config = checkout / ".modekeeper/config.yaml"
        config.write_text(config.read_text().replace("required_approvals: 0", "required_approvals: 1"))
        commit_all(checkout)
        self.propose(mk, checkout)
        mk("verify", "--pr", "1", "--repo", checkout, "--out", "v")
        assert mk("apply", "--pr", "1", "--repo", checkout).error.startswith("review_required")
        assert (
            "changes_requested"
            in mk("pr", "approve", "1", "--request-changes", "--comment", "why?", "--repo", checkout).out
        )
        assert mk("apply", "--pr", "1", "--repo", checkout).error.startswith("changes_requested")
        assert "approved" in mk("pr", "approve", "1", "--repo", checkout).out
        said = mk("apply", "--pr", "1", "--repo", checkout, "--json")
        assert said.code == 0, said.err
        assert said.json["ok"] is True
        assert "is merged" in mk("pr", "approve", "1", "--repo", checkout).error
        assert "is merged already" in mk("pr", "close", "1", "--repo", checkout).error

    def test_nobody_approves_their_own(self, mk: Mk, checkout: Path) -> None:
        self.propose(mk, checkout)
        git("config", "user.email", "modekeeper@gitops.invalid", cwd=checkout)
        assert "nobody approves their own" in mk("pr", "approve", "1", "--repo", checkout).error

    def test_closing_holds_until_released(self, mk: Mk, checkout: Path) -> None:
        assert "nothing is on hold" in mk("hold", "list", "--repo", checkout).out
        self.propose(mk, checkout)
        assert "held until released" in mk("pr", "close", "1", "--reason", "not now", "--repo", checkout).out
        body = mk("closed-loop", "run", "--repo", checkout, "--scenario", "straggler", "--out", "h", "--json").json
        assert body["results"][0]["reason"] == "held_by_reviewer"
        assert "not now" in mk("hold", "list", "--repo", checkout).out
        held = mk("propose", "--plan", "p/k8s_plan.json", "--repo", checkout, "--out", "p")
        assert held.code == 2
        assert held.error.startswith("held_by_reviewer")
        assert mk("hold", "list", "--repo", checkout, "--json").json[0]["pr"] == 1
        assert mk("hold", "release", "1", "--repo", checkout).code == 0
        assert mk("propose", "--plan", "p/k8s_plan.json", "--repo", checkout, "--out", "p").code == 0
        assert "closed: not now" in mk("pr", "show", "1", "--repo", checkout).out

    def test_an_empty_plan_proposes_nothing(self, mk: Mk, checkout: Path) -> None:
        mk("closed-loop", "run", "--repo", checkout, "--scenario", "stable", "--out", "e")
        said = mk("propose", "--plan", "e/k8s_plan.json", "--repo", checkout)
        assert said.code == 0
        assert "nothing to propose" in said.out


class TestSetUp:
    def test_init_then_doctor(self, mk: Mk, checkout: Path, licensed: Path) -> None:
        git("rm", "-q", "-r", ".modekeeper", cwd=checkout)
        commit_all(checkout, "start over")
        assert mk("doctor", "--repo", checkout).code == 1
        said = mk("init", "--repo", checkout)
        assert said.code == 0, said.err
        assert "Deployment ml/trainer in overlays/demo" in said.out
        assert "is there already" in mk("init", "--repo", checkout).error
        commit_all(checkout)
        well = mk("doctor", "--repo", checkout)
        assert well.code == 0, well.out
        assert "dataloader_num_workers=2" in well.out
        assert mk("doctor", "--repo", checkout, "--json").json["ok"] is True

    def test_init_elsewhere(self, mk: Mk, repo: Path, tmp_path: Path) -> None:
        assert "is a bare repository" in mk("init", "--repo", repo).error
        empty = tmp_path / "empty"
        git("init", "-q", str(empty))
        assert "no commit yet" in mk("init", "--repo", empty).error
        git("config", "user.name", "A", cwd=empty)
        git("config", "user.email", "a@b.invalid", cwd=empty)
        (empty / "x").touch()
        git("add", "-A", cwd=empty)
        git("commit", "-q", "-m", "x", cwd=empty)
        assert "no workload carries knobs yet" in mk("init", "--repo", empty).out


class TestHelp:
    def test_every_command_has_an_example(self) -> None:
        from gitops_mk.cli.main import cli
        from tests.docs import _walk

        assert cli.epilog
        for path, command in _walk():
            assert command.epilog, path
            assert command.epilog.startswith("Example: "), path
            assert command.help, path

    def test_the_table_of_commands_is_true(self) -> None:
        import click

        from gitops_mk.cli.main import cli

        for name in COMMANDS:
            command = cli.get_command(click.Context(cli), name)
            assert command is not None
            assert command.name == name

    def test_version_and_help_import_little(self) -> None:
        for argument, limit in (("--version", ()), ("--help", ("click",))):
            code = f"import sys; sys.argv=['mk','{argument}']; from gitops_mk.__main__ import main; main(); print(','.join(sys.modules), file=sys.stderr)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            loaded = set(done.stderr.strip().split(","))
            assert not loaded & {
                "pydantic",
                "numpy",
                "msgspec",
                "rich",
                "jinja2",
                "nacl",
                "ruamel.yaml",
                "gitops_mk.wiring",
            }
            assert ("click" in loaded) is ("click" in limit)
            assert done.stdout

    def test_broken_pipe_is_no_error(self) -> None:
        script = f"{sys.executable} -m gitops_mk pr list --help | head -1"
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        assert done.stderr == ""
