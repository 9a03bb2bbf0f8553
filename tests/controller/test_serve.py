"""The controller's loop: every workload its own failure domain, no write without the right to, and an end when it is time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.controller.inventory import Inventory, confirmed, take_inventory
from gitops_mk.controller.serve import STUCK_S, TICK_S, Controller, Fence, View, controller_payload
from gitops_mk.controller.stoppable import StoppableSource
from gitops_mk.controller.watcher import STALE_S
from gitops_mk.core.inventory import Found, Home
from gitops_mk.core.inventory import find as judge
from gitops_mk.core.live import NotNow
from gitops_mk.errors import ClusterError, ForgeError, StoppedError, TelemetryError
from gitops_mk.model.change import PrState
from gitops_mk.model.gate import KillReading
from gitops_mk.model.settings import RepoSettings
from gitops_mk.model.telemetry import Environment, SourceInfo
from gitops_mk.model.verdict import Reason
from gitops_mk.model.workload import API_VERSIONS
from gitops_mk.ports import TelemetrySource
from tests.support.cluster import SimCluster
from tests.support.desk import Heard, Post, Vote, home, seen, synced, trainer
from tests.support.objects import git_repository, kustomization
from tests.support.world import CONFIG, HookedForge, World, builder

Json = dict[str, Any]
Step = Callable[[], None]
KEY = "ml/deployment-trainer"
PAUSED = NotNow(Reason.SUSPENDED, "it is paused")
NAMES = ("alpha", "beta", "trainer")


class Steps(threading.Event):
    """Told to stop when its steps are done, one each wait; waiting moves the clock, and takes no time."""

    def __init__(self, world: World, steps: list[Step]) -> None:
        super().__init__()
        self._world = world
        self._steps = iter(steps)

    def wait(self, timeout: float | None = None) -> bool:
        if self.is_set():
            return True
        self._world.clock.advance(timeout or 0.0)
        step = next(self._steps, self.set)
        step()
        return self.is_set()


def nothing() -> None:
    """A turn of the loop like any other."""


class Pane:
    """`View` as a test sets it."""

    def __init__(self, post: Post, *found: Found) -> None:
        self.settings: RepoSettings = home(post).settings
        self.unsynced: str | None = None
        self.found = found
        self.changed = False
        self.taken = 0

    def take_changed(self) -> bool:
        changed, self.changed = self.changed, False
        return changed

    def inventory(self) -> Inventory:
        self.taken += 1
        return Inventory(self.found)

    def show(self, *found: Found) -> None:
        self.found, self.changed = found, True


def named(post: Post, name: str, **fields: Any) -> Found:
    """A workload of that name; only `trainer` is in Git."""
    made = seen(post, trainer(), synced(post.world.tip()))
    assert made.settings is not None
    assert made.live is not None
    ref = made.ref.model_copy(update={"name": name})
    live = {**made.live, "metadata": {**made.live["metadata"], "name": name, "uid": f"uid-{name}"}}
    settings = made.settings.model_copy(update={"name": name})
    return replace(made, ref=ref, live=live, settings=settings, **fields)


@pytest.fixture
def post(world: World, tmp_path: Path) -> Post:
    return Post(world, tmp_path / "out", world.forge())


def run(post: Post, pane: Any, *steps: Step, controller: Controller | None = None) -> int | None:
    post.stopping = Steps(post.world, list(steps))
    made = controller or post.controller()
    made._stopping = post.stopping
    return made.run(pane)


def failing(post: Post, *bad: str, raises: Exception) -> Callable[[Found, datetime | None], TelemetrySource]:
    def open_one(found: Found, since: datetime | None) -> TelemetrySource:
        if found.ref.name in bad:
            raise raises
        return Heard("stable")

    return open_one


# -- one workload's failure is its own ---------------------------------------------------------------------------------


@pytest.fixture
def three(world: World) -> None:
    """Three workloads of one make in Git, too."""
    config = world.file(CONFIG).decode()
    base = world.file("base/deployment.yaml").decode()
    files: dict[str, bytes | None] = {}
    for name in ("alpha", "beta"):
        config += f"  - {{namespace: ml, name: {name}, overlay: overlays/{name}, passport: pilot}}\n"
        files[f"overlays/{name}/deployment.yaml"] = base.replace("name: trainer\n", f"name: {name}\n", 1).encode()
        files[f"overlays/{name}/kustomization.yaml"] = b"namespace: ml\nresources: [deployment.yaml]\n"
    world.commit({CONFIG: config.encode(), **files})


def of_three(post: Post) -> list[Found]:
    post.snapshot()
    settings = {w.name: w for w in home(post).settings.workloads}
    return [replace(named(post, name), settings=settings[name]) for name in NAMES]


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("raises", [TelemetryError("no log could be read"), ValueError("a defect")])
def test_one_that_fails_keeps_no_other_waiting_and_backs_off(post: Post, raises: Exception) -> None:
    post.source = failing(post, "alpha", raises=raises)
    controller = post.controller(interval_s=10.0)
    assert run(post, Pane(post, *of_three(post)), *[nothing] * 60, controller=controller) == 0
    looks = {name: sum(key == f"ml/deployment-{name}" for key, _ in post.opened) for name in NAMES}
    # Every 10 s for a minute; after 5, 10, 20, 40 s.
    assert looks["beta"] == looks["trainer"] == 7
    assert looks["alpha"] == 4
    assert controller.status.results["ml/deployment-alpha"].state == "error"
    assert controller.status.results["ml/deployment-beta"].state == "stable"
    assert controller.status.errors == 4 == post.ears.counts["failed"]
    assert len(post.ears.told("reconcile_failed")) == 4


@pytest.mark.usefixtures("three")
def test_a_change_of_one_that_fails_does_not_cut_its_pause(post: Post) -> None:
    found = of_three(post)
    post.source = failing(post, "alpha", raises=TelemetryError("gone"))
    pane = Pane(post, *found)

    def change() -> None:
        pane.show(*(replace(one, source=synced_later(one)) for one in found))

    run(post, pane, nothing, change, nothing, nothing)
    looks = [key for key, _ in post.opened]
    assert looks.count("ml/deployment-alpha") == 1
    assert looks.count("ml/deployment-beta") == 2


def synced_later(found: Found) -> Any:
    return found.source.model_copy(update={"revision": "3" * 40})


def test_a_status_that_flutters_is_no_reason_to_look_again(post: Post) -> None:
    """Argo CD and Flux write to their objects all the time."""
    post.source = lambda found, since: Heard("stable")
    pane = Pane(post, seen(post, trainer()))

    def flutter() -> None:
        pane.show(seen(post, trainer(annotations={"seen": str(post.world.clock.ticks)})))

    run(post, pane, *[flutter] * 20)
    assert pane.taken == 21
    assert len(post.opened) == 1


def test_the_forge_that_is_down_is_asked_once_a_round(post: Post, world: World) -> None:
    fetched = 0

    def before(name: str) -> None:
        nonlocal fetched
        if name == "refresh" and post.ears.counts["down"]:
            fetched += 1
            raise ForgeError("the git server can't be read", retryable=True)

    post.forge = HookedForge(world.forge(), before=before)
    ready = [named(post, f"w{n}") for n in range(5)]
    alone = named(post, "alone", not_now=PAUSED)
    pane = Pane(post, *ready, alone)
    post.ears.counts["down"] = 1
    controller = post.controller()
    states: list[str | None] = []
    run(post, pane, lambda: states.append(controller.status.trouble), controller=controller)
    # The trouble stays told until the next try, and is not forgotten a tick later.
    assert fetched == 1
    assert controller.status.results["ml/deployment-alone"].state == "left alone"
    assert {controller.status.results[f"ml/deployment-w{n}"].state for n in range(5)} == {"error"}
    assert "git server" in str(states[0])
    assert controller.status.trouble == states[0]


def test_the_forge_that_is_back_is_no_trouble_any_more(post: Post, world: World) -> None:
    down = True

    def before(name: str) -> None:
        if name == "refresh" and down:
            raise ForgeError("the git server can't be read", retryable=True)

    found = seen(post, trainer())
    pane = Pane(post, found)
    post.forge = HookedForge(world.forge(), before=before)
    post.source = lambda found, since: Heard("stable")
    controller = post.controller()

    def mend() -> None:
        nonlocal down
        down = False

    run(post, pane, nothing, mend, *[nothing] * 8, controller=controller)
    assert controller.status.trouble is None
    assert controller.status.results[KEY].state == "stable"
    assert post.ears.prs == {}


@pytest.mark.usefixtures("three")
def test_a_long_round_is_no_hanging_one(post: Post) -> None:
    ages: list[float] = []
    controller = post.controller()

    def open_one(found: Found, since: datetime | None) -> TelemetrySource:
        ages.append(post.world.clock.monotonic() - controller.status.beat)
        post.world.clock.advance(STUCK_S / 2)
        raise TelemetryError("slow")

    post.source = open_one
    run(post, Pane(post, *of_three(post)), controller=controller)
    assert ages[:3] == [0.0, 0.0, 0.0]


# -- what is remembered ------------------------------------------------------------------------------------------------


def test_what_is_gone_is_forgotten(post: Post) -> None:
    post.source = lambda found, since: Heard("stable")
    found = seen(post, trainer())
    pane = Pane(post, found)
    controller = post.controller()
    run(post, pane, nothing, lambda: pane.show(), nothing, controller=controller)
    assert controller.status.results == {}
    assert controller._memories == {}


def test_made_anew_under_the_same_name_it_starts_from_nothing(post: Post) -> None:
    seeds = iter(range(100))
    post.source = lambda found, since: Heard("stable", seed=next(seeds))
    found = seen(post, trainer())
    assert found.live is not None
    again = trainer()
    again["metadata"]["uid"] = "another"
    pane = Pane(post, found)
    controller = post.controller(interval_s=2.0)
    counts: list[tuple[str, int]] = []

    def note() -> None:
        memory = controller._memories[KEY]
        counts.append((memory.uid, memory.streak.stable_intervals))

    def replaced() -> None:
        note()
        pane.show(seen(post, again))

    run(post, pane, note, replaced, note, controller=controller)
    assert [uid for uid, _ in counts] == ["6a1f", "6a1f", "another"]
    assert counts[-1][1] == 1


def test_metrics_tell_before_and_after_the_first_snapshot(post: Post) -> None:
    pane = Pane(post)
    run(post, pane)
    assert (post.ears.prs, post.ears.workloads, post.ears.leader) == ({}, {}, True)
    pane.show(seen(post, trainer()), named(post, "other", not_now=PAUSED))
    run(post, pane, *[nothing] * 40)
    assert post.ears.workloads == {"ready": 1, "suspended": 1}
    assert post.ears.prs == {"open": 1}


def test_the_report_has_a_row_for_each(post: Post) -> None:
    controller = post.controller()
    inventory = Inventory((seen(post, trainer()), named(post, "a", not_now=PAUSED)), ("a note",))
    told = controller_payload(controller, inventory, SimCluster())
    assert [row["state"] for row in told["workloads"]] == ["not looked at yet"] * 2
    assert controller.once(inventory, home(post).settings) == 0
    told = controller_payload(controller, inventory, SimCluster())
    assert [(row["workload"], row["state"]) for row in told["workloads"]] == [
        ("ml/deployment-a", "left alone"),
        (KEY, "pull request #1 open"),
    ]
    assert (told["reconciles"], told["errors"], told["notes"]) == (2, 0, ["a note"])


# -- who may write -----------------------------------------------------------------------------------------------------


def test_who_does_not_lead_looks_at_nothing(post: Post) -> None:
    post.election = Vote(False)
    assert run(post, Pane(post, seen(post, trainer())), nothing, nothing) == 0
    assert post.opened == []
    assert post.ears.leader is False


def test_the_lease_lost_ends_the_process_with_1(post: Post) -> None:
    vote = Vote()
    post.election = vote

    def lose() -> None:
        vote.leads = False

    assert run(post, Pane(post), nothing, lose, nothing) == 1
    assert len(post.ears.told("lease_lost")) == 1
    assert len(post.ears.told("leading")) == 1


@pytest.mark.usefixtures("three")
def test_the_lease_lost_within_a_reconcile_writes_nothing_and_ends_the_round(post: Post) -> None:
    vote = Vote()
    post.election = vote

    def lose() -> None:
        vote.leads = False

    post.source = lambda found, since: Heard("straggler", during=lose)
    before = post.world.refs()
    controller = post.controller()
    assert run(post, Pane(post, *of_three(post)), nothing, nothing, controller=controller) == 1
    assert post.world.refs() == before
    assert len(post.opened) == 1
    assert [result.state for result in controller.status.results.values()] == ["stopped"]
    assert controller.status.errors == 0


@pytest.mark.usefixtures("three")
def test_told_to_stop_within_a_reconcile_writes_nothing_and_ends_the_round(post: Post) -> None:
    post.source = lambda found, since: Heard("straggler", during=post.stopping.set)
    before = post.world.refs()
    assert run(post, Pane(post, *of_three(post)), nothing, nothing) == 0
    assert post.world.refs() == before
    assert len(post.opened) == 1


def test_two_controllers_make_one_pull_request(world: World, tmp_path: Path) -> None:
    posts = [Post(world, tmp_path / name, world.forge()) for name in ("one", "two")]
    ready = threading.Barrier(2)

    def meet() -> None:
        ready.wait(30)

    results: dict[str, int | None] = {}

    def work(post: Post) -> None:
        found = seen(post, trainer())
        first = iter([meet])
        post.source = lambda found, since: Heard("straggler", during=lambda: next(first, nothing)())
        # A lost race is tried again after its pause.
        results[post.out.name] = run(post, Pane(post, found), *[nothing] * 40)

    threads = [threading.Thread(target=work, args=(post,)) for post in posts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == {"one": 0, "two": 0}
    forge = world.forge()
    (pr,) = forge.list_prs()
    assert pr.state is PrState.OPEN
    assert {"created"} <= {key.partition(" ")[2] for p in posts for key in p.ears.counts if key.startswith("proposed")}


# -- the configuration -------------------------------------------------------------------------------------------------


def test_another_configuration_on_the_base_is_watched_anew(post: Post) -> None:
    pane = Pane(post)

    def change() -> None:
        text = post.world.file(CONFIG) + b"discovery: {namespaces: [research]}\n"
        post.world.commit({CONFIG: text})

    assert run(post, pane, change, *[nothing] * 60) is None
    assert len(post.ears.told("configuration_changed")) == 1


def test_no_workload_is_looked_at_by_a_configuration_of_before(post: Post) -> None:
    """It is due, and the base branch says something else of it by now."""
    pane = Pane(post, seen(post, trainer()))
    post.world.commit({CONFIG: post.world.file(CONFIG).replace(b"passport: pilot", b"passport: perf")})
    assert run(post, pane, nothing) is None
    assert post.opened == []


def test_a_broken_configuration_is_trouble_and_no_end(post: Post) -> None:
    pane = Pane(post, seen(post, trainer()))
    post.source = lambda found, since: Heard("stable")
    whole = post.world.file(CONFIG)
    controller = post.controller(interval_s=5.0)
    troubles: list[str | None] = []

    def note() -> None:
        troubles.append(controller.status.trouble)

    def breaking() -> None:
        post.world.commit({CONFIG: b"version: v9\n"})

    def mend() -> None:
        note()
        post.world.commit({CONFIG: whole})

    code = run(post, pane, note, breaking, *[nothing] * 6, mend, *[nothing] * 12, note, controller=controller)
    assert code == 0
    assert troubles[0] is None
    assert "config.yaml" in str(troubles[1])
    assert troubles[2] is None


# -- once --------------------------------------------------------------------------------------------------------------


def test_once_is_0_when_all_is_left_alone(post: Post) -> None:
    code = post.controller().once(Inventory((named(post, "a", not_now=PAUSED),)), home(post).settings)
    assert code == 0
    assert post.opened == []


@pytest.mark.usefixtures("three")
def test_once_is_1_when_one_fails_and_the_others_are_looked_at(post: Post) -> None:
    post.source = failing(post, "alpha", raises=TelemetryError("gone"))
    controller = post.controller()
    assert controller.once(Inventory(tuple(of_three(post))), home(post).settings) == 1
    assert [controller.status.results[f"ml/deployment-{name}"].state for name in NAMES] == ["error", "stable", "stable"]


def test_once_told_to_stop_is_1(post: Post) -> None:
    post.stopping.set()
    assert post.controller().once(Inventory((seen(post, trainer()),)), home(post).settings) == 1
    assert post.opened == []


def test_once_is_2_when_the_kill_switch_is_thrown(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEKEEPER_KILL_SWITCH", "1")
    before = post.world.refs()
    assert post.controller().once(Inventory((seen(post, trainer()),)), home(post).settings) == 2
    assert post.world.refs() == before


# -- the view ----------------------------------------------------------------------------------------------------------


class Cluster(SimCluster):
    """A simulator that can fail by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: dict[str, Exception] = {}

    def _ask(self, verb: str, kind: str) -> None:
        super()._ask(verb, kind)
        if kind in self.broken:
            raise self.broken[kind]


def flux_objects(sim: SimCluster, revision: str) -> None:
    status = {"lastAppliedRevision": f"main@sha1:{revision}", "lastAttemptedRevision": f"main@sha1:{revision}"}
    sim.put({"kind": "Kustomization", **kustomization(status=status)})
    sim.put({"kind": "GitRepository", **git_repository()})


@pytest.fixture
def sim(world: World) -> Cluster:
    made = Cluster()
    flux_objects(made, world.tip())
    made.put(trainer())
    return made


class Glass(View):
    """A view whose lists are read when a test says so."""

    def __init__(self, cluster: Any, home: Home) -> None:
        self.clock = 1000.0
        self.told: list[str] = []
        super().__init__(cluster, home, tell=self.told.append, monotonic=lambda: self.clock)

    def look(self) -> None:
        for watcher in (*self._sync.values(), *self._workloads):
            try:
                watcher._list_if_allowed()
            except ClusterError as exc:
                watcher._trouble(exc.message)


def reasons(view: View) -> dict[str, str | None]:
    return {f.ref.key: str(f.not_now.reason) if f.not_now else None for f in view.inventory().found}


def test_the_view_before_the_first_list(post: Post, sim: Cluster) -> None:
    view = Glass(sim, home(post))
    assert view.unsynced == "Application is not listed yet: waiting"


def test_the_view_has_what_the_cluster_has(post: Post, sim: Cluster) -> None:
    view = Glass(sim, home(post))
    view.look()
    assert view.unsynced is None
    assert view.take_changed()
    assert not view.take_changed()
    assert reasons(view) == {KEY: None}
    sim.put(trainer(spec={"paused": True}))
    view.look()
    assert view.take_changed()
    assert reasons(view) == {KEY: "suspended"}
    sim.delete("Deployment", "trainer", "ml")
    view.look()
    assert view.take_changed()
    assert reasons(view) == {KEY: "deployment_missing"}


def test_the_view_agrees_with_a_list_asked_for_once(post: Post, sim: Cluster) -> None:
    view = Glass(sim, home(post))
    view.look()
    once = take_inventory(sim, home(post))
    assert [(f.ref, f.source, f.not_now) for f in once.found] == [
        (f.ref, f.source, f.not_now) for f in view.inventory().found
    ]


def test_a_server_that_is_silent_for_long_is_trouble(post: Post, sim: Cluster) -> None:
    view = Glass(sim, home(post))
    view.look()
    sim.broken = dict.fromkeys([*API_VERSIONS, "Application", "Kustomization", "GitRepository"], DOWN)
    view.look()
    troubles = [view.unsynced]
    view.clock += STALE_S + 301
    troubles.append(view.unsynced)
    assert troubles[0] is None
    assert DOWN.message in str(troubles[1])
    assert view.take_changed()


DOWN = ClusterError("the server can't be reached", retryable=True)


def open_to(post: Post, *namespaces: str) -> Home:
    text = post.world.file(CONFIG) + f"discovery: {{namespaces: [{', '.join(namespaces)}]}}\n".encode()
    post.world.commit({CONFIG: text})
    return home(post)


def test_one_kind_that_fails_keeps_only_its_own_waiting(post: Post, sim: Cluster) -> None:
    """A conversion webhook of one CRD is down."""
    where = open_to(post, "ml")
    flux_objects(sim, post.world.tip())
    sim.broken["RayJob"] = ClusterError("the API server says 500: conversion webhook", status=500)
    view = Glass(sim, where)
    view.look()
    assert view.unsynced is None
    assert reasons(view) == {KEY: None}
    assert view.inventory().notes == ("the API server says 500: conversion webhook",)


def test_a_listed_workload_whose_list_fails_is_not_called_missing(post: Post, sim: Cluster) -> None:
    where = open_to(post, "ml")
    sim.broken["Deployment"] = ClusterError("the API server says 500: oops", status=500)
    view = Glass(sim, where)
    view.look()
    assert view.unsynced is None
    (found,) = view.inventory().found
    assert found.not_now is not None
    assert found.not_now.reason is Reason.CLUSTER_UNREACHABLE


def test_a_listed_workload_that_may_not_be_listed_is_not_called_missing(post: Post, sim: Cluster) -> None:
    sim.denied.add(("list", "Deployment"))
    view = Glass(sim, home(post))
    view.look()
    assert reasons(view) == {KEY: Reason.CLUSTER_UNREACHABLE}
    once = take_inventory(sim, home(post))
    assert [item.not_now.reason for item in once.found if item.not_now] == [Reason.CLUSTER_UNREACHABLE]
    assert [note.partition(":")[0] for note in once.notes] == ["may not list Deployment in ml"]


def test_a_sync_tool_that_can_not_be_asked_keeps_all_waiting(post: Post, sim: Cluster) -> None:
    sim.broken["Kustomization"] = DOWN
    view = Glass(sim, home(post))
    view.look()
    assert view.unsynced == f"Kustomization is not listed yet: {DOWN.message}"


def test_what_may_not_be_listed_is_noted(post: Post, sim: Cluster) -> None:
    sim.denied.add(("list", "Application"))
    view = Glass(sim, home(post))
    view.look()
    assert view.unsynced is None
    assert any("may not list Application" in note for note in view.inventory().notes)
    assert view.told == [f"Application: {note}" for note in view.inventory().notes]


def test_an_object_that_can_not_be_read_hides_no_other(
    post: Post, sim: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(live: Any, known: Any, home: Home) -> Found | None:
        if live["metadata"]["name"] == "odd":
            raise ValueError("never seen")
        return judge(live, known, home)

    monkeypatch.setattr("gitops_mk.controller.serve.find", find)
    sim.put(trainer(name="odd"))
    view = Glass(sim, home(post))
    view.look()
    assert reasons(view) == {KEY: None}
    assert any("ml/odd can't be read: never seen" in note for note in view.inventory().notes)


# -- discovery ---------------------------------------------------------------------------------------------------------

ENABLED = {"modekeeper.dev/enabled": "true"}


def test_the_label_in_a_namespace_that_is_not_open(post: Post, sim: Cluster) -> None:
    sim.put(trainer(name="guest", labels=ENABLED))
    view = Glass(sim, home(post))
    view.look()
    assert reasons(view) == {"ml/deployment-guest": "not_enabled", KEY: None}


def test_held_against_git_a_label_by_hand_is_not_ready(post: Post, sim: Cluster) -> None:
    where = open_to(post, "ml")
    sim.put(trainer(name="guest", labels=ENABLED))
    inventory = take_inventory(sim, where)
    assert {f.ref.name: f.not_now for f in inventory.found} == {"guest": None, "trainer": None}
    files = post.snapshot().files
    told = {
        f.ref.name: f.not_now and f.not_now.reason for f in confirmed(inventory, files, where.settings, builder()).found
    }
    assert told == {"guest": Reason.NOT_ENABLED, "trainer": None}
    broken = {**files, "overlays/demo/kustomization.yaml": b"resources: [gone]\n"}
    told = {
        f.ref.name: f.not_now and f.not_now.reason
        for f in confirmed(inventory, broken, where.settings, builder()).found
    }
    assert told == {"guest": Reason.BUILD_FAILED, "trainer": None}


# -- telemetry that can be left ----------------------------------------------------------------------------------------


class Silent:
    """Telemetry of a server that says nothing, until the test lets it."""

    def __init__(self, *blocks: Any) -> None:
        self.info = SourceInfo(kind="k8s", name="w", format=None)
        self.environment = Environment()
        self.asked = threading.Event()
        self.over = threading.Event()
        self.closed = threading.Event()
        self._blocks = blocks

    def chunks(self) -> Iterator[bytes]:
        try:
            for block in self._blocks:
                if isinstance(block, Exception):
                    raise block
                yield block
            self.asked.set()
            self.over.wait(60)
        finally:
            self.closed.set()


def test_blocks_come_as_they_are() -> None:
    source = StoppableSource(SyntheticLike(), threading.Event())
    assert list(source.chunks()) == [b"a\n", b"b\n", b"c\n"]
    assert source.info.kind == "k8s"
    assert source.environment == Environment()


class SyntheticLike(Silent):
    def chunks(self) -> Iterator[bytes]:
        yield from (b"a\n", b"b\n", b"c\n")


def test_what_the_source_raises_is_raised() -> None:
    with pytest.raises(TelemetryError, match="gone"):
        list(StoppableSource(Silent(b"a\n", TelemetryError("gone")), threading.Event()).chunks())


def test_a_silent_server_does_not_keep_who_is_told_to_stop() -> None:
    stopping, silent = threading.Event(), Silent(b"a\n")
    blocks = StoppableSource(silent, stopping).chunks()
    assert next(blocks) == b"a\n"
    assert silent.asked.wait(30)
    stopping.set()
    with pytest.raises(StoppedError):
        next(blocks)
    silent.over.set()
    assert silent.closed.wait(30)


def test_who_leaves_early_leaves_no_reader_behind() -> None:
    silent = Silent(*[b"x\n"] * 100)
    blocks = StoppableSource(silent, threading.Event()).chunks()
    assert next(blocks) == b"x\n"
    blocks.close()  # type: ignore[attr-defined]
    assert silent.closed.wait(30)


def test_the_tick_is_short_enough_to_stop_in_time() -> None:
    assert TICK_S <= 2.0


class Counting:
    """A forge that writes down its pushes."""

    def __init__(self, forge: Any) -> None:
        self.pushes: list[tuple[str, ...]] = []
        self._forge = forge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._forge, name)

    def push_branch(self, branch: str, *, old: str | None, new: str | None) -> None:
        self.pushes.append((branch,))
        self._forge.push_branch(branch, old=old, new=new)

    def push_branches(self, moves: Any) -> Any:
        self.pushes.append(tuple(moves))
        return self._forge.push_branches(moves)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("limited", [True, False])
def test_plans_of_many_go_by_one_push_as_far_as_there_is_room(post: Post, limited: bool) -> None:
    if not limited:
        config = post.world.file(CONFIG) + b"limits: {max_open_prs: null, max_prs_per_hour: null}\n"
        post.world.commit({CONFIG: config})
    counting: Any = Counting(post.forge)
    post.forge = counting
    controller = post.controller()
    assert run(post, Pane(post, *of_three(post)), nothing, controller=controller) == 0
    (pushed,) = counting.pushes
    prs = post.world.forge().list_prs()
    assert len(pushed) == len(prs) == (2 if limited else 3)
    waiting = [r for r in controller.status.results.values() if r.reason == "too_many_per_hour"]
    assert len(waiting) == (1 if limited else 0)


def test_a_kill_switch_that_is_thrown_between_two_writes_stops_the_second(post: Post) -> None:
    killed: list[bool] = []

    class Switch:
        def read(self, *, pr: Any = None) -> tuple[KillReading, ...]:
            return (KillReading(source="test", configured=True, active=bool(killed), detail="thrown"),)

    fence = Fence(None, post.stopping, Switch())
    fence.check()
    killed.append(True)
    with pytest.raises(StoppedError, match="thrown"):
        fence.check()
    fence.check_ourselves()
