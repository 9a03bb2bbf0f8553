"""The controller: every workload reconciled in its own failure domain, as long as this process leads and is not told to stop."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from gitops_mk.controller.fenced import FencedForge, StoppedError
from gitops_mk.controller.inventory import Inventory, Scope, scopes
from gitops_mk.controller.queue import WorkQueue
from gitops_mk.controller.reconcile import LEFT_ALONE, Desk, Memory, Result, Snapshot, reconcile
from gitops_mk.controller.tools import Workplace
from gitops_mk.controller.watcher import Watcher
from gitops_mk.core.inventory import Found, Home, find, missing
from gitops_mk.core.source import SyncObjects, by_name
from gitops_mk.errors import EXIT_BAD_INPUT, EXIT_FAILED, MkError
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.settings import RepoSettings
from gitops_mk.model.times import format_time
from gitops_mk.ports import Cluster, Election

SYNC_KINDS = ("Application", "Kustomization", "GitRepository")
TICK_S = 1.0
# A main loop that has not come round for so long hangs.
STUCK_S = 600.0


@dataclass
class Status:
    """How the controller stands, for probes and reports."""

    beat: float = 0.0
    trouble: str | None = "starting"
    results: dict[str, Result] = field(default_factory=dict)
    reconciles: int = 0
    errors: int = 0


class Fence:
    """Shut by a signal, and while this process does not lead; `check` is asked before every write."""

    def __init__(self, election: Election | None, stopping: threading.Event) -> None:
        self._election = election
        self._stopping = stopping

    def check(self) -> None:
        """Raises StoppedError when nothing may be written."""
        if self._stopping.is_set():
            raise StoppedError("told to stop: nothing more is written")
        if self._election is not None and not self._election.lead():
            raise StoppedError("the Lease is not ours any more: nothing more is written")


def fenced(place: Workplace, fence: Fence) -> Workplace:
    """The workplace with its forge behind the fence."""
    return replace(place, forge=FencedForge(place.forge, fence.check))


class View:
    """The cluster as the watchers have it: workloads and what the sync tools say of them."""

    def __init__(
        self, cluster: Cluster, home: Home, *, changed: Callable[[], None], tell: Callable[[str], None]
    ) -> None:
        self._home = home
        self._changed = changed
        self._dirty: set[str] = set()
        self._lock = threading.Lock()
        self._sync = {
            kind: Watcher(cluster, Scope(kind, None, ""), whole=True, changed=self._sync_changed, tell=tell)
            for kind in SYNC_KINDS
        }
        self._workloads = [
            Watcher(cluster, scope, whole=False, changed=self._workload_changed, tell=tell)
            for scope in scopes(home.settings)
        ]

    def start(self, stopping: threading.Event) -> None:
        """Watch, each list in a thread of its own."""
        for watcher in (*self._sync.values(), *self._workloads):
            name = f"watch-{watcher.scope.kind}-{watcher.scope.namespace or 'all'}"
            threading.Thread(target=watcher.run, args=(stopping,), name=name, daemon=True).start()

    @property
    def settings(self) -> RepoSettings:
        """The configuration that says what is watched."""
        return self._home.settings

    @property
    def unsynced(self) -> str | None:
        """The first list that was not seen whole yet, and why."""
        for watcher in (*self._sync.values(), *self._workloads):
            if not watcher.synced:
                return f"{watcher.scope.kind} is not listed yet: {watcher.error or 'waiting'}"
        return None

    def take_dirty(self) -> frozenset[str]:
        """The keys of workloads that changed since the last call; `*` when what syncs them did."""
        with self._lock:
            dirty, self._dirty = frozenset(self._dirty), set()
        return dirty

    def inventory(self) -> Inventory:
        """Every workload of ours, from memory."""
        known = SyncObjects(*(by_name(self._sync[kind].objects()) for kind in SYNC_KINDS))
        found = [
            judged
            for watcher in self._workloads
            for live in watcher.objects()
            if (judged := find(live, known, self._home)) is not None
        ]
        notes = tuple(watcher.error for watcher in self._workloads if watcher.error)
        return Inventory((*found, *missing(self._home.settings, found)), notes)

    def _workload_changed(self, live: LiveObject) -> None:
        meta = live.get("metadata") or {}
        self._mark(f"{meta.get('namespace')}/{str(live.get('kind')).lower()}-{meta.get('name')}")

    def _sync_changed(self, _: LiveObject) -> None:
        self._mark("*")

    def _mark(self, key: str) -> None:
        with self._lock:
            self._dirty.add(key)
        self._changed()


class Controller:
    """Reconciles what is due, one workload after the other: writes to a forge are serial anyway."""

    def __init__(self, desk: Desk, *, interval_s: float, election: Election | None, stopping: threading.Event) -> None:
        self.status = Status()
        self._desk = desk
        self._interval_s = interval_s
        self._election = election
        self._stopping = stopping
        self._memories: dict[str, Memory] = {}

    def once(self, inventory: Inventory) -> int:
        """Reconcile every workload once; gives the exit code."""
        self._desk.place.forge.refresh()
        snapshot: Snapshot | None = None
        for found in inventory.found:
            snapshot, _ = self._one(found, snapshot)
        self.publish(inventory)
        if self.status.errors:
            return EXIT_FAILED
        return EXIT_BAD_INPUT if any(result.killed for result in self.status.results.values()) else 0

    def run(self, view: View) -> int | None:
        """Reconcile until told to stop; gives the exit code, 1 when the Lease was lost, which ends the process.

        None: the configuration on the base branch changed, and there are other lists to watch.
        """
        clock, journal = self._desk.tools.clock, self._desk.journal
        queue = WorkQueue(self._interval_s)
        inventory: Inventory | None = None
        led = False
        checked = clock.monotonic()
        while not self._stopping.is_set():
            now = clock.monotonic()
            self.status.beat = now
            leads = self._election is None or self._election.lead()
            if led and not leads:
                journal.log("lease_lost", level="error")
                return EXIT_FAILED
            if leads != led:
                journal.log("leading")
            led = leads
            trouble = view.unsynced
            self.status.trouble = trouble
            if trouble is None:
                dirty = view.take_dirty()
                if inventory is None or dirty:
                    inventory = view.inventory()
                    queue.keep((found.ref.key for found in inventory.found), now)
                    self._nudge(queue, dirty, inventory, now)
                if leads:
                    self._round(queue, inventory, now)
                self.publish(inventory, leader=leads)
                if now - checked >= self._interval_s:
                    checked = now
                    if self._reconfigured(view):
                        journal.log("configuration_changed")
                        return None
            self._stopping.wait(TICK_S)
        return 0

    def _reconfigured(self, view: View) -> bool:
        """True when the base branch has another configuration than the watchers were started for."""
        place = self._desk.place
        try:
            place.forge.refresh()
            return Snapshot.take(place, self._desk.tools).policy.settings != view.settings
        except MkError as exc:
            self.status.trouble = f"the base branch can't be read: {exc.message}"
            self._desk.journal.log("configuration_unreadable", level="error", message=exc.message)
            return False

    def publish(self, inventory: Inventory, *, leader: bool = True) -> None:
        """Metrics of how things stand."""
        reasons = Counter(str(found.not_now.reason) if found.not_now else "ready" for found in inventory.found)
        states = Counter(str(pr.state) for pr in self._prs)
        self._desk.meter.state(prs=states, workloads=reasons, leader=leader)

    _prs: tuple[Any, ...] = ()

    def _nudge(self, queue: WorkQueue, dirty: Iterable[str], inventory: Inventory, now: float) -> None:
        keys = set(dirty)
        for key in {found.ref.key for found in inventory.found} if "*" in keys else keys:
            queue.nudge(key, now)

    def _round(self, queue: WorkQueue, inventory: Inventory, now: float) -> None:
        """Everything that is due, on one fetch; those with nothing to do cost neither that nor a call."""
        by_key = {found.ref.key: found for found in inventory.found}
        snapshot: Snapshot | None = None
        fetched = False
        for key in queue.due(now):
            if self._stopping.is_set():
                return
            found = by_key[key]
            try:
                if found.not_now is None and not fetched:
                    self._desk.place.forge.refresh()
                    fetched = True
            except MkError as exc:
                self.status.trouble = f"the forge can't be reached: {exc.message}"
                self._fail(key, exc)
                queue.failed(key, now)
                continue
            snapshot, ok = self._one(found, snapshot)
            if ok:
                queue.done(key, self._desk.tools.clock.monotonic())
            else:
                queue.failed(key, self._desk.tools.clock.monotonic())

    def _one(self, found: Found, snapshot: Snapshot | None) -> tuple[Snapshot | None, bool]:
        """One workload; whatever it fails with is its own. Gives the snapshot for the next, None when it must be taken anew."""
        key, clock = found.ref.key, self._desk.tools.clock
        started = clock.monotonic()
        self.status.reconciles += 1
        try:
            if found.not_now is None and snapshot is None:
                snapshot = Snapshot.take(self._desk.place, self._desk.tools)
                self._prs = snapshot.prs
            memory = self._memories.setdefault(key, Memory())
            result = (
                reconcile(found, snapshot, memory, self._desk)
                if snapshot is not None
                else Result(LEFT_ALONE, found.not_now.reason if found.not_now else None, _why(found))
            )
        except StoppedError as exc:
            self._note(key, Result("stopped", None, exc.message))
            return None, True
        except MkError as exc:
            self._fail(key, exc)
            return None, False
        except Exception as exc:  # noqa: BLE001 - one workload's defect must not end the others'
            self._fail(key, exc)
            return None, False
        self._desk.meter.reconciled(clock.monotonic() - started)
        self._note(key, result)
        return (None if result.wrote else snapshot), True

    def _note(self, key: str, result: Result) -> None:
        before = self.status.results.get(key)
        self.status.results[key] = result
        # What is left alone is in the report and the metrics: a line for each of thousands would bury the rest.
        quiet = result.state == LEFT_ALONE and (before is None or before.state == LEFT_ALONE)
        if before != result and not quiet:
            self._desk.journal.log(
                "reconciled", workload=key, state=result.state, reason=result.reason, message=result.message
            )

    def _fail(self, key: str, exc: Exception) -> None:
        message = exc.message if isinstance(exc, MkError) else f"{type(exc).__name__}: {exc}"
        self.status.errors += 1
        self.status.results[key] = Result("error", None, message)
        self._desk.meter.failed()
        self._desk.journal.log("reconcile_failed", level="error", workload=key, message=message)


def _why(found: Found) -> str:
    return found.not_now.message if found.not_now else ""


def controller_payload(controller: Controller, inventory: Inventory, cluster: Cluster) -> dict[str, Any]:
    """`controller_latest.json`: how every workload stands."""
    results = controller.status.results
    rows = []
    for found in inventory.found:
        result = results.get(found.ref.key, Result("not looked at yet"))
        rows.append(
            {
                "workload": found.ref.key,
                "knobs": found.knobs,
                "state": result.state,
                "reason": result.reason,
                "message": result.message,
            }
        )
    return {
        "cluster": cluster.context,
        "api_calls": cluster.calls,
        "reconciles": controller.status.reconciles,
        "errors": controller.status.errors,
        "workloads": sorted(rows, key=lambda row: str(row["workload"])),
        "notes": list(inventory.notes),
    }


def told_at(controller: Controller, at: Any) -> str:
    """One line for people."""
    counts = Counter(result.state for result in controller.status.results.values())
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no workloads"
    return f"{format_time(at)} {controller.status.reconciles} reconciles: {told}"
