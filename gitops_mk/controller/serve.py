"""The controller: every workload reconciled in its own failure domain, as long as this process leads and is not told to stop."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gitops_mk.controller.aftermath import finish_merge
from gitops_mk.controller.batch import push_ahead
from gitops_mk.controller.fenced import FencedBoard, FencedForge, FencedInbox
from gitops_mk.controller.inbox import act_on_ticks, answer_words, show
from gitops_mk.controller.inventory import SYNC_KINDS, Inventory, Scope, scopes
from gitops_mk.controller.queue import WorkQueue
from gitops_mk.controller.reconcile import LEFT_ALONE, Desk, Memory, Result, Snapshot, Undertaking, carry_out, decide
from gitops_mk.controller.state import identity_of
from gitops_mk.controller.tools import Workplace
from gitops_mk.controller.watcher import Watcher
from gitops_mk.core.inventory import Found, Home, find, missing
from gitops_mk.core.objects import part
from gitops_mk.core.render.dashboard import Row
from gitops_mk.core.source import SyncObjects, by_name
from gitops_mk.errors import EXIT_BAD_INPUT, EXIT_FAILED, MkError, StoppedError
from gitops_mk.model.change import PullRequest
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.gate import first_active
from gitops_mk.model.settings import RepoSettings
from gitops_mk.ports import Cluster, Election, KillSwitch

TICK_S = 1.0
# Workloads that are decided before any of them is carried out, so that their branches go by one push.
TOGETHER = 500
DECIDED = "decided"
# A main loop that has not come round for so long hangs.
STUCK_S = 600.0


@dataclass
class Status:
    """How the controller stands, for probes and reports."""

    beat: float = 0.0
    cluster_trouble: str | None = "starting"
    forge_trouble: str | None = None
    results: dict[str, Result] = field(default_factory=dict)
    reconciles: int = 0
    errors: int = 0

    @property
    def trouble(self) -> str | None:
        """Why it can't do its work now; None when it can."""
        return self.cluster_trouble or self.forge_trouble


class Fence:
    """Shut by a signal, by a kill switch, and while this process does not lead; `check` is asked before every write."""

    def __init__(
        self, election: Election | None, stopping: threading.Event, kill_switch: KillSwitch | None = None
    ) -> None:
        self._election = election
        self._stopping = stopping
        self._kill_switch = kill_switch

    def check(self) -> None:
        """Raises StoppedError when nothing may be written."""
        self.check_ourselves()
        killed = first_active(self._kill_switch.read()) if self._kill_switch is not None else None
        if killed is not None:
            raise StoppedError(f"{killed.source}: {killed.detail}: nothing more is written")

    def check_ourselves(self) -> None:
        """The same without the kill switch, which the gate has just read: reading it again would fetch, and what is merged
        must be what the gate saw.
        """
        if self._stopping.is_set():
            raise StoppedError("told to stop: nothing more is written")
        if self._election is not None and not self._election.lead():
            raise StoppedError("the Lease is not ours any more: nothing more is written")


def fenced(place: Workplace, fence: Fence) -> Workplace:
    """The workplace with its forge behind the fence."""
    return replace(
        place,
        forge=FencedForge(place.forge, fence.check, at_merge=fence.check_ourselves),
        inbox=FencedInbox(place.inbox, fence.check) if place.inbox is not None else None,
        board=FencedBoard(place.board, fence.check) if place.board is not None else None,
    )


class View:
    """The cluster as the watchers have it: workloads and what the sync tools say of them."""

    def __init__(
        self,
        cluster: Cluster,
        home: Home,
        *,
        tell: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._changed = threading.Event()
        self._deaf: frozenset[Scope] = frozenset()
        self._sync = {
            kind: Watcher(
                cluster, Scope(kind, None, ""), whole=True, changed=self._mark, tell=tell, monotonic=monotonic
            )
            for kind in SYNC_KINDS
        }
        self._workloads = [
            Watcher(cluster, scope, whole=False, changed=self._mark, tell=tell, monotonic=monotonic)
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
        """The list that keeps all from being decided, and why: one that was not seen whole yet, or not heard of for long.

        A kind of workloads that fails while others don't keeps only its own waiting.
        """
        failing = [watcher for watcher in self._workloads if watcher.error and not watcher.synced]
        own = failing if len(failing) < len(self._workloads) else []
        for watcher in (*self._sync.values(), *self._workloads):
            if not watcher.synced and watcher not in own:
                return f"{_named(watcher.scope)} is not listed yet: {watcher.error or 'waiting'}"
        return None

    def take_changed(self) -> bool:
        """True when something changed since the last call."""
        deaf = frozenset(watcher.scope for watcher in self._workloads if not watcher.synced)
        changed = self._changed.is_set() or deaf != self._deaf
        self._changed.clear()
        self._deaf = deaf
        return changed

    def inventory(self) -> Inventory:
        """Every workload of ours, from memory."""
        known = SyncObjects(*(by_name(self._sync[kind].objects()) for kind in SYNC_KINDS))
        notes = [watcher.error for watcher in (*self._sync.values(), *self._workloads) if watcher.error]
        found: list[Found] = []
        for watcher in self._workloads:
            for live in watcher.objects() if watcher.synced else ():
                try:
                    judged = find(live, known, self._home)
                except Exception as exc:  # noqa: BLE001 - one object that nobody thought of must not hide the others
                    meta = part(live, "metadata")
                    notes.append(f"{live.get('kind')} {meta.get('namespace')}/{meta.get('name')} can't be read: {exc}")
                    continue
                if judged is not None:
                    found.append(judged)
        unheard = {(one.scope.kind, one.scope.namespace): one.error for one in self._workloads if one.error}
        return Inventory((*found, *missing(self._home.settings, found, unheard)), tuple(notes))

    def _mark(self, _: LiveObject) -> None:
        self._changed.set()


class Turn:
    """What the workloads of one round share: one fetch and one snapshot, taken when the first of them needs it.

    A forge that can't be had is not asked again for each.
    """

    def __init__(self, desk: Desk, settings: RepoSettings) -> None:
        self.fetched = False
        self.prs: tuple[PullRequest, ...] = ()
        self._desk = desk
        self._settings = settings
        self._snapshot: Snapshot | None = None
        self._failure: Exception | None = None

    @property
    def trouble(self) -> str | None:
        """Why there is no snapshot to be had."""
        return _message(self._failure) if self._failure is not None else None

    def snapshot(self) -> Snapshot:
        """The repository as it stands. Raises MkError."""
        if self._failure is not None:
            raise self._failure
        if self._snapshot is None:
            try:
                if not self.fetched:
                    self._desk.place.forge.refresh()
                self._snapshot = Snapshot.take(self._desk.place, self._desk.tools)
            except Exception as exc:
                self._failure = exc
                raise
            self.fetched, self.prs = True, self._snapshot.prs
        return self._snapshot

    def reconfigured(self) -> bool:
        """True when the base branch has another configuration than the one that workloads were found by."""
        try:
            return self.snapshot().policy.settings != self._settings
        except Exception:  # noqa: BLE001 - told by whoever asks for the snapshot
            return False

    def spent(self) -> None:
        """Something was written, or failed: the next looks again, at what is known by now."""
        self._snapshot = None


class Controller:
    """Reconciles what is due, one workload after the other: writes to a forge are serial anyway."""

    def __init__(self, desk: Desk, *, interval_s: float, election: Election | None, stopping: threading.Event) -> None:
        self.status = Status()
        self._desk = desk
        self._interval_s = interval_s
        self._election = election
        self._stopping = stopping
        self._memories: dict[str, Memory] = {}
        self._prs: tuple[PullRequest, ...] = ()
        self._listened = float("-inf")

    def once(self, inventory: Inventory, settings: RepoSettings) -> int:
        """Reconcile every workload once; gives the exit code: 1 for errors, or when it was told to stop before the end."""
        turn = Turn(self._desk, settings)
        self._account()
        self._listen(turn)
        decided: dict[str, Undertaking] = {}
        for found in inventory.found:
            if self._stopping.is_set():
                break
            begun = self._begin(found, turn)
            if isinstance(begun, Undertaking):
                decided[found.ref.key] = begun
            if len(decided) >= TOGETHER:
                self._carry_out(None, decided, turn)
        self._carry_out(None, decided, turn)
        self._show()
        self._told_by(turn)
        self.publish(inventory)
        if self.status.errors or self._stopping.is_set():
            return EXIT_FAILED
        return EXIT_BAD_INPUT if any(result.killed for result in self.status.results.values()) else 0

    def run(self, view: View) -> int | None:
        """Reconcile until told to stop; gives the exit code, 1 when the Lease was lost, which ends the process.

        None: the configuration on the base branch changed, and there are other lists to watch.
        """
        clock, journal = self._desk.tools.clock, self._desk.journal
        queue = WorkQueue(self._interval_s)
        inventory: Inventory | None = None
        seen: dict[str, object] = {}
        led = False
        checked = clock.monotonic()
        while not self._stopping.is_set():
            now = clock.monotonic()
            self.status.beat = now
            leads = self._leads()
            if led and not leads:
                journal.log("lease_lost", level="error")
                return EXIT_FAILED
            if leads != led:
                journal.log("leading")
            led = leads
            self.status.cluster_trouble = view.unsynced
            if self.status.cluster_trouble is None:
                if view.take_changed() or inventory is None:
                    inventory = view.inventory()
                    seen = self._take_in(queue, inventory, seen, now)
                turn = Turn(self._desk, view.settings)
                changed = leads and self._round(queue, inventory, turn)
                if now - checked >= self._interval_s:
                    changed = changed or turn.reconfigured()
                    if turn.trouble is not None:
                        journal.log("configuration_unreadable", level="error", message=turn.trouble)
                if turn.fetched or turn.trouble is not None:
                    checked = now
                self._told_by(turn)
                self.publish(inventory, leader=leads)
                if changed:
                    journal.log("configuration_changed")
                    return None
            self._stopping.wait(TICK_S)
        return 0

    def publish(self, inventory: Inventory, *, leader: bool = True) -> None:
        """Metrics of how things stand."""
        reasons = Counter(str(found.not_now.reason) if found.not_now else "ready" for found in inventory.found)
        states = Counter(str(pr.state) for pr in self._prs)
        self._desk.meter.state(prs=states, workloads=reasons, leader=leader)

    def _leads(self) -> bool:
        return self._election is None or self._election.lead()

    def _take_in(
        self, queue: WorkQueue, inventory: Inventory, before: Mapping[str, object], now: float
    ) -> dict[str, object]:
        """Queue what is there, sooner where it stands otherwise than before; a status that merely flutters is no news."""
        seen = {found.ref.key: _standing(found) for found in inventory.found}
        queue.keep(seen, now)
        for key, standing in seen.items():
            if before.get(key) != standing:
                queue.nudge(key, now)
        for remembered in (self._memories, self.status.results):
            for key in remembered.keys() - seen.keys():
                del remembered[key]
        return seen

    def _round(self, queue: WorkQueue, inventory: Inventory, turn: Turn) -> bool:
        """Everything that is due; those with nothing to do cost neither a fetch nor a call. True: the configuration changed."""
        clock = self._desk.tools.clock
        by_key = {found.ref.key: found for found in inventory.found}
        self._account()
        self._listen(turn)
        decided: dict[str, Undertaking] = {}
        for key in queue.due(clock.monotonic()):
            if self._stopping.is_set() or not self._leads():
                for waiting in decided:
                    self._note(waiting, Result("stopped", None, "decided, and not carried out"))
                return False
            # Many workloads make a long round, which is no hanging one.
            self.status.beat = clock.monotonic()
            found = by_key[key]
            if found.not_now is None and turn.reconfigured():
                return True
            begun = self._begin(found, turn)
            if isinstance(begun, Undertaking):
                decided[key] = begun
            else:
                self._ended(queue, key, went_well=begun)
            if len(decided) >= TOGETHER:
                self._carry_out(queue, decided, turn)
        self._carry_out(queue, decided, turn)
        if turn.fetched:
            self._show()
        return False

    def _account(self) -> None:
        """A merge that an earlier run asked for and did not live to look at; a wrong one throws the kill switch."""
        place, journal = self._desk.place, self._desk.journal
        try:
            merged = finish_merge(place, self._desk.tools)
        except StoppedError:
            return
        except Exception as exc:  # noqa: BLE001 - told, and looked at again at the next turn
            self.status.errors += 1
            journal.log("merge_unaccounted", level="error", message=_message(exc))
            return
        if merged is not None:
            journal.log("merge_accounted", commit=merged)

    def _listen(self, turn: Turn) -> None:
        """Do what people asked for on the forge; whatever that fails with keeps nobody's workload waiting."""
        place = self._desk.place
        now = self._desk.tools.clock.monotonic()
        if (place.inbox is None and place.board is None) or now - self._listened < self._interval_s:
            return
        self._listened = now
        try:
            turn.snapshot()
            heard = answer_words(place, self._desk.tools, self._desk.door)
            heard += act_on_ticks(place, self._desk.tools, self._desk.door)
        except StoppedError:
            return
        except Exception as exc:  # noqa: BLE001 - told, and tried again at the next turn
            self._desk.journal.log("inbox_failed", level="warning", message=_message(exc))
            return
        if heard:
            turn.spent()
            self._desk.journal.log("heard", commands=heard)

    def _show(self) -> None:
        """The dashboard, where there is one."""
        if self._desk.place.board is None or not self._leads():
            return
        rows = [Row(key, r.state, r.reason, r.message) for key, r in self.status.results.items()]
        try:
            show(self._desk.place, rows, self._desk.tools)
        except StoppedError:
            return
        except Exception as exc:  # noqa: BLE001 - told, and tried again at the next turn
            self._desk.journal.log("dashboard_failed", level="warning", message=_message(exc))

    def _carry_out(self, queue: WorkQueue | None, decided: dict[str, Undertaking], turn: Turn) -> None:
        """What was decided for many workloads: their branches by one push, then each of them on its own."""
        self._push_ahead(list(decided.values()), turn)
        for key, undertaking in decided.items():
            self.status.beat = self._desk.tools.clock.monotonic()
            act = partial(carry_out, undertaking, self._memory(undertaking.found), self._desk)
            went_well = self._guarded(undertaking.found, turn, act)
            if queue is not None:
                self._ended(queue, key, went_well=went_well)
            if self._stopping.is_set() or not self._leads():
                break
        decided.clear()

    def _push_ahead(self, decided: list[Undertaking], turn: Turn) -> None:
        wanted = [one for undertaking in decided if (one := undertaking.begun.wanted()) is not None]
        if len(wanted) < 2:
            return
        place, tools = self._desk.place, self._desk.tools
        try:
            if first_active(place.kill_switch.read()) is not None:
                return
            snapshot = turn.snapshot()
            identity = identity_of(snapshot.policy.settings)
            push_ahead(
                place.forge,
                wanted,
                snapshot.files,
                snapshot.base,
                identity=identity,
                wording=tools.wording,
                clock=tools.clock,
            )
        except Exception as exc:  # noqa: BLE001 - each of them is proposed on its own below, and tells its own troubles
            self._desk.journal.log("push_ahead_failed", level="warning", message=_message(exc))

    def _ended(self, queue: WorkQueue, key: str, *, went_well: bool) -> None:
        now = self._desk.tools.clock.monotonic()
        if went_well:
            queue.done(key, now)
        else:
            queue.failed(key, now)

    def _begin(self, found: Found, turn: Turn) -> Undertaking | bool:
        """Look at one workload: what is to be carried out, or how it went where nothing is."""
        begun: list[Undertaking] = []

        def look() -> Result:
            if found.not_now is not None:
                self._memory(found).streak.broken()
                return Result(LEFT_ALONE, found.not_now.reason, found.not_now.message)
            decided = decide(found, turn.snapshot(), self._memory(found), self._desk)
            if isinstance(decided, Undertaking):
                begun.append(decided)
                return Result(DECIDED)
            return decided

        self.status.reconciles += 1
        went_well = self._guarded(found, turn, look)
        return begun[0] if begun else went_well

    def _guarded(self, found: Found, turn: Turn, act: Callable[[], Result]) -> bool:
        """One workload; whatever it fails with is its own. True when it went well."""
        key, clock = found.ref.key, self._desk.tools.clock
        started = clock.monotonic()
        try:
            result = act()
        except StoppedError as exc:
            self._note(key, Result("stopped", None, exc.message))
            return True
        except Exception as exc:  # noqa: BLE001 - one workload's defect must not end the others'
            turn.spent()
            self._memory(found).streak.broken()
            self._fail(key, exc)
            return False
        if result.wrote:
            turn.spent()
        if result.state == DECIDED:
            return True
        self._desk.meter.reconciled(clock.monotonic() - started)
        self._note(key, result)
        return True

    def _memory(self, found: Found) -> Memory:
        """Of this very object: one that was made anew under the same name starts from nothing."""
        uid = str(part(found.live, "metadata").get("uid"))
        memory = self._memories.get(found.ref.key)
        if memory is None or memory.uid != uid:
            memory = self._memories[found.ref.key] = Memory(uid)
        return memory

    def _told_by(self, turn: Turn) -> None:
        if turn.trouble is not None:
            self.status.forge_trouble = f"the repository can't be read: {turn.trouble}"
        elif turn.fetched:
            self.status.forge_trouble = None
            self._prs = turn.prs

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
        message = _message(exc)
        self.status.errors += 1
        self.status.results[key] = Result("error", None, message)
        self._desk.meter.failed()
        self._desk.journal.log("reconcile_failed", level="error", workload=key, message=message)


def _named(scope: Scope) -> str:
    return f"{scope.kind} in {scope.namespace}" if scope.namespace else scope.kind


def _standing(found: Found) -> object:
    """All of a workload that a decision depends on, but its telemetry."""
    uid = part(found.live, "metadata").get("uid")
    return found.source, found.settings, found.not_now, found.knobs, uid


def _message(exc: Exception) -> str:
    return exc.message if isinstance(exc, MkError) else f"{type(exc).__name__}: {exc}"


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
