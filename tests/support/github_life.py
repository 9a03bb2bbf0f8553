"""One controller's turn on GitHub as a process of its own, so that it can be killed for good: propose, verify, merge."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gitops_mk.adapters.intents import IntentFile
from gitops_mk.adapters.telemetry.synthetic import SyntheticSource
from gitops_mk.config import Access
from gitops_mk.controller.aftermath import finish_merge
from gitops_mk.controller.loop import run_once, target_of
from gitops_mk.core.planner import Options
from gitops_mk.wiring import make_tools, open_workplace
from tests.support.make import StandingClock
from tests.support.world import LICENSED


@dataclass(frozen=True)
class Told:
    """What such a process is told: the remote, the folder it keeps its records in, who it is, and what time it is."""

    remote: str
    out: str
    token: str
    at: datetime


class Quiet:
    """Reports that nobody reads: `ports.ArtifactStore`."""

    out_dir = "nowhere"

    def report(self, name: str, payload: Any, *, at: datetime) -> str:
        return name

    def text(self, name: str, content: str) -> str:
        return name

    def explain(self, event: str, payload: Any, *, at: datetime) -> None:
        return None


def live(told: Told) -> None:
    """One turn. Exits with 0, or with 3 where it failed, which the next turn makes up for."""
    os.environ["MODEKEEPER_GIT_ALLOW_HTTP"] = "1"
    os.environ["MODEKEEPER_GITHUB_TOKEN"] = told.token
    tools = replace(make_tools(), clock=StandingClock(told.at))
    with open_workplace(Access(url=told.remote, out=Path(told.out)), tools, writes=True) as opened:
        place = replace(opened, license_status=lambda: LICENSED, intents=IntentFile(Path(told.out)))
        finish_merge(place, tools)
        place.forge.refresh()
        target = target_of(place, tools, lambda policy: policy.settings.workloads[0])
        run_once(target, SyntheticSource("straggler"), Options(), tools, Quiet(), apply=True)
