"""What the controller works with in tests: a real repository, live objects that a test moves, and ears for what it tells."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from gitops_mk.adapters.artifacts import FolderStore
from gitops_mk.adapters.telemetry.synthetic import SyntheticSource
from gitops_mk.controller.reconcile import Desk, Snapshot
from gitops_mk.controller.serve import Controller, Fence, fenced
from gitops_mk.core.inventory import Found, Home, find
from gitops_mk.core.source import SyncObjects, by_name
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.telemetry import Environment, SourceInfo
from gitops_mk.ports import Election, Forge, TelemetrySource
from tests.support.make import KNOBS
from tests.support.objects import FLUX_LABELS, REPO, deployment, git_repository, kustomization
from tests.support.world import World

Json = dict[str, Any]


class Ears:
    """`ports.Meter`, `ports.Journal` and `ports.Announcer` in one: it remembers."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.logged: list[tuple[str, dict[str, object]]] = []
        self.events: list[tuple[str, str]] = []
        self.workloads: Mapping[str, int] = {}
        self.prs: Mapping[str, int] = {}
        self.leader: bool | None = None
        self.lags: list[float] = []

    def planned(self, chord: str) -> None:
        self.counts[f"planned {chord}"] += 1

    def proposed(self, outcome: str) -> None:
        self.counts[f"proposed {outcome}"] += 1

    def gate(self, reason: str) -> None:
        self.counts[f"gate {reason}"] += 1

    def lines(self, count: int) -> None:
        self.counts["lines"] += count

    def failed(self) -> None:
        self.counts["failed"] += 1

    def reconciled(self, seconds: float) -> None:
        self.counts["reconciled"] += 1

    def rolled_out(self, seconds: float) -> None:
        self.lags.append(seconds)

    def state(self, *, prs: Mapping[str, int], workloads: Mapping[str, int], leader: bool) -> None:
        self.prs, self.workloads, self.leader = dict(prs), dict(workloads), leader

    def log(self, event: str, *, level: str = "info", **fields: object) -> None:
        self.logged.append((event, fields))

    def announce(self, workload: LiveObject, *, reason: str, message: str, warning: bool = False) -> None:
        assert workload.get("kind")
        self.events.append((reason, message))

    def told(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.logged if name == event]


class Vote:
    """`ports.Election` by hand."""

    def __init__(self, leads: bool = True) -> None:
        self.leads = leads
        self.asked = 0

    def lead(self) -> bool:
        self.asked += 1
        return self.leads


class Heard:
    """Telemetry that is made up, with the kind that the controller reads; `during` is called in the midst of it."""

    def __init__(self, scenario: str, *, during: Callable[[], None] | None = None, seed: int = 0) -> None:
        self._source = SyntheticSource(scenario, seed=seed)
        self._during = during

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def environment(self) -> Environment:
        return self._source.environment

    def chunks(self) -> Iterator[bytes]:
        for block in self._source.chunks():
            if self._during is not None:
                self._during()
            yield block


@dataclass
class Post:
    """One controller at one repository. `source` opens the telemetry of a workload, and may raise."""

    world: World
    out: Path
    forge: Forge
    merge: bool = False
    patient: bool = False
    election: Election | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    ears: Ears = field(default_factory=Ears)
    source: Callable[[Found, datetime | None], TelemetrySource] = lambda found, since: Heard("straggler")
    opened: list[tuple[str, datetime | None]] = field(default_factory=list)

    @property
    def desk(self) -> Desk:
        def open_one(found: Found, since: datetime | None) -> TelemetrySource:
            self.opened.append((found.ref.key, since))
            return self.source(found, since)

        return Desk(
            patient=self.patient,
            place=fenced(self.world.place(self.forge), Fence(self.election, self.stopping)),
            tools=self.world.tools,
            meter=self.ears,
            announcer=self.ears,
            journal=self.ears,
            source_of=open_one,
            artifacts_of=lambda found: FolderStore(self.out / found.ref.key, history=False),
            merge=self.merge,
        )

    def controller(self, interval_s: float = 30.0) -> Controller:
        return Controller(self.desk, interval_s=interval_s, election=self.election, stopping=self.stopping)

    def snapshot(self) -> Snapshot:
        self.forge.refresh()
        return Snapshot.take(self.world.place(self.forge), self.world.tools)


def trainer(over: Mapping[str, int] | None = None, *, flux: bool = True, **fields: Any) -> Json:
    """The embedded repository's trainer as a cluster has it, at rest."""
    labels = {**(FLUX_LABELS if flux else {}), **fields.pop("labels", {})}
    return deployment({**KNOBS, **(over or {})}, labels=labels, **fields)


def synced(revision: str, **over: Any) -> SyncObjects:
    """Flux, which has applied that commit."""
    status = {
        "lastAppliedRevision": f"main@sha1:{revision}",
        "lastAttemptedRevision": f"main@sha1:{revision}",
        **over.pop("status", {}),
    }
    return SyncObjects({}, by_name([kustomization(status=status, **over)]), by_name([git_repository()]))


def home(post: Post) -> Home:
    """The repository under the address that Flux knows it by."""
    return Home(urls=(REPO,), branch="main", settings=post.snapshot().policy.settings)


def seen(post: Post, live: Json, known: SyncObjects | None = None) -> Found:
    """A live object, judged; Flux is up to date with the base branch unless told otherwise."""
    judged = find(live, known or synced(post.world.tip()), home(post))
    assert judged is not None
    return judged
