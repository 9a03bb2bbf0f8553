"""The safety gates, each closed on purpose: what blocks, with which reason and exit code. Nothing is ever merged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gitops_mk.adapters.artifacts import FolderStore
from gitops_mk.adapters.git import GitRepo
from gitops_mk.adapters.killswitch import VARIABLE
from gitops_mk.adapters.license_files import KEYRING_VARIABLE, LICENSE_VARIABLE, mint
from gitops_mk.adapters.telemetry.synthetic import SyntheticSource
from gitops_mk.config import Access
from gitops_mk.controller.loop import run_once, target_of
from gitops_mk.controller.tools import Tools
from gitops_mk.core.planner import Options
from gitops_mk.demo.embedded import make_embedded
from gitops_mk.demo.narrator import Narrator
from gitops_mk.errors import IntegrityError
from gitops_mk.model.canonical import dumps_pretty
from gitops_mk.wiring import open_workplace


@dataclass(frozen=True)
class Case:
    """One closed gate: what is wrong, and the reason and exit code that must come of it."""

    key: str
    title: str
    reason: str
    environment: Mapping[str, str]
    verify_ok: bool | None = None


def show_gates(out: Path, tools: Tools, narrator: Narrator) -> None:
    """Run `mk k8s apply` into each closed gate, as a person would. Raises IntegrityError when one lets anything through."""
    repo = make_embedded(out / "gitops")
    with open_workplace(Access(repo=repo), tools, writes=False) as place:
        target = target_of(place, tools, lambda policy: policy.settings.workloads[0])
        run_once(target, SyntheticSource("straggler"), Options(), tools, FolderStore(out / "plan"), apply=True)
    before = GitRepo(repo).resolve("main")
    license_path, keyring = mint(out / "license", org="demo", days=1)
    _, stranger = mint(out / "stranger", org="stranger", days=1)
    good = {LICENSE_VARIABLE: str(license_path), KEYRING_VARIABLE: str(keyring)}
    cases = (
        Case("A", "no licence", "license_missing", {}),
        Case(
            "A2", "a licence is named, but not there", "license_invalid", {LICENSE_VARIABLE: str(out / "nowhere.json")}
        ),
        Case(
            "B", "the licence's kid is not in the keyring", "license_invalid", {**good, KEYRING_VARIABLE: str(stranger)}
        ),
        Case("C", "verify said no (verify_ok=false)", "verify_failed", good, verify_ok=False),
        Case("D", "the kill switch is thrown, with a valid licence", "kill_switch", {**good, VARIABLE: "1"}),
    )
    rows = []
    for case in cases:
        narrator.step(f"{case.key}: {case.title}")
        code, reason, said = _run(case, repo, out)
        for line in said.splitlines():
            narrator.say(line)
        if reason != case.reason or code != 2 or GitRepo(repo).resolve("main") != before:
            raise IntegrityError(f"case {case.key} gave {reason} and exit {code}, expected {case.reason} and exit 2")
        rows.append((case.key, case.title, reason, str(code)))
    narrator.step("Every gate held; the base branch is where it was")
    narrator.table(("case", "what is wrong", "reason", "exit"), rows)


def _run(case: Case, repo: Path, out: Path) -> tuple[int, str, str]:
    """One `mk k8s apply`, in a process of its own; gives its exit code, the reason it reported, and what it said."""
    folder = FolderStore(out / f"case-{case.key}")
    for name in ("k8s_plan.json", "k8s_plan.records.json", "k8s_verify_latest.json"):
        text = FolderStore(out / "plan").read(name)
        if text is None:
            raise IntegrityError(f"the plan's {name} was not written")
        if name == "k8s_verify_latest.json" and case.verify_ok is not None:
            report = json.loads(text)
            text = dumps_pretty({**report, "ok": case.verify_ok, "verify_ok": case.verify_ok}).encode()
        folder.text(name, text)
    hidden = (LICENSE_VARIABLE, KEYRING_VARIABLE, VARIABLE)
    env = {key: value for key, value in os.environ.items() if key not in hidden} | dict(case.environment)
    command = [
        sys.executable, "-m", "gitops_mk", "k8s", "apply", "--repo", str(repo.resolve()),
        "--plan", "k8s_plan.json", "--out", ".",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder.folder, env=_absolute(env), capture_output=True, text=True, timeout=120, check=False
    )
    reported = json.loads(folder.read("k8s_apply_latest.json") or b"{}")
    return (
        done.returncode,
        str(reported.get("block_reason")),
        f"$ mk k8s apply --plan k8s_plan.json\n{done.stderr.strip()}",
    )


def _absolute(env: dict[str, str]) -> dict[str, str]:
    """Paths among our variables made absolute: the command runs in a folder of its own."""
    for name in (LICENSE_VARIABLE, KEYRING_VARIABLE):
        if name in env:
            env[name] = str(Path(env[name]).resolve())
    return env
