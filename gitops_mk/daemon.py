"""The process of the controller: signals, threads, and the order in which things start and stop. No decision is made here."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gitops_mk.adapters.artifacts import FolderStore
from gitops_mk.adapters.cluster.events import EventAnnouncer
from gitops_mk.adapters.cluster.lease import Lease
from gitops_mk.adapters.health import HealthServer
from gitops_mk.adapters.journal import StderrJournal
from gitops_mk.adapters.killswitch import RecentKillSwitch
from gitops_mk.adapters.metrics import Metrics
from gitops_mk.config import Access
from gitops_mk.controller.inventory import Inventory, take_inventory
from gitops_mk.controller.reconcile import Desk
from gitops_mk.controller.serve import STUCK_S, Controller, Fence, View, controller_payload, fenced
from gitops_mk.controller.stoppable import StoppableSource
from gitops_mk.errors import EXIT_FAILED, ConfigError, MkError
from gitops_mk.model.canonical import dumps_pretty
from gitops_mk.model.report import report
from gitops_mk.wiring import home_of, make_tools, open_cluster, open_workplace, telemetry_of

if TYPE_CHECKING:
    from gitops_mk.adapters.cluster.client import HttpCluster
    from gitops_mk.controller.tools import Tools, Workplace
    from gitops_mk.core.inventory import Found
    from gitops_mk.ports import TelemetrySource

# A pod is killed 15 s after SIGTERM (terminationGracePeriodSeconds); done before that, come what may.
GRACE_S = 9.0
RELEASE_S = 3.0
REPORT_S = 10.0
REPORT = "controller_latest.json"


@dataclass(frozen=True)
class ControllerOptions:
    """What one run of the controller was told. `window_s`: how much of the logs a reconcile looks at, in seconds."""

    access: Access
    out: Path
    kubeconfig: str | None = None
    context: str | None = None
    once: bool = False
    merge: bool = False
    interval_s: float = 60.0
    window_s: float = 600.0
    listen: str | None = None
    lease: str | None = None


def run_controller(options: ControllerOptions) -> tuple[int, dict[str, object]]:
    """Run until SIGTERM, SIGINT, the loss of the Lease, or once; gives the exit code and the last report.

    Raises MkError for what keeps it from starting.
    """
    cluster = open_cluster(options.kubeconfig, options.context)
    # A kubeconfig that can't be used ends it here, and not in some thread.
    _ = cluster.context
    stopping = threading.Event()
    # The watchers' and the Lease's threads may wait for a server; the thread that decides may not.
    asked = cluster.until(stopping)
    tools = make_tools(asked)
    journal = StderrJournal(tools.clock.now)
    metrics = Metrics(lambda: cluster.calls)
    store = FolderStore(options.out, history=False)
    lease = None if options.once else _lease(options, cluster)
    with _Signals(stopping, journal), open_workplace(options.access, tools, writes=True) as place:
        metrics.watch_forge(place.forge.usage)
        recent = RecentKillSwitch(place.kill_switch, tools.clock)
        desk = Desk(
            place=fenced(replace(place, kill_switch=recent), Fence(lease, stopping, recent)),
            tools=tools,
            meter=metrics,
            announcer=EventAnnouncer(
                asked, tell=lambda text: journal.log("event_failed", level="warning", message=text)
            ),
            journal=journal,
            source_of=_sources(cluster, options, stopping),
            artifacts_of=lambda found: FolderStore(
                options.out / found.ref.namespace / f"{found.ref.kind.lower()}-{found.ref.name}", history=False
            ),
            merge=options.merge,
            patient=not options.once,
        )
        controller = Controller(desk, interval_s=options.interval_s, election=lease, stopping=stopping)
        if options.once:
            home = home_of(place, tools)
            inventory = take_inventory(asked, home)
            code = controller.once(inventory, home.settings)
            return code, _report(controller, inventory, cluster, tools, store)
        return _serve(controller, cluster, place, tools, metrics, journal, options, lease, stopping, store)


def _serve(
    controller: Controller,
    cluster: HttpCluster,
    place: Workplace,
    tools: Tools,
    metrics: Metrics,
    journal: StderrJournal,
    options: ControllerOptions,
    lease: Lease | None,
    stopping: threading.Event,
    store: FolderStore,
) -> tuple[int, dict[str, object]]:
    def tell(text: str) -> None:
        journal.log("cluster_trouble", level="warning", message=text)

    controller.status.beat = tools.clock.monotonic()
    health = None
    try:
        if options.listen is not None:
            health = HealthServer(
                options.listen,
                alive=lambda: _hanging(controller, tools),
                ready=lambda: controller.status.trouble,
                metrics=metrics.text,
            )
            journal.log("listening", port=health.port)
        if lease is not None:
            threading.Thread(target=lease.run, kwargs={"tell": tell}, name="lease", daemon=True).start()
        code: int | None = None
        while code is None:
            view = View(cluster, home_of(place, tools), tell=tell)
            with _watching(view), _reporting(controller, view, cluster, tools, store, journal, options.interval_s):
                code = controller.run(view)
        return code, _report(controller, view.inventory(), cluster, tools, store)
    finally:
        stopping.set()
        if lease is not None:
            # A server that does not answer must not keep us: it runs out by itself.
            giving_up = threading.Thread(target=lease.stop, name="release", daemon=True)
            giving_up.start()
            giving_up.join(RELEASE_S)
        if health is not None:
            health.close()
        journal.log("stopped")


@contextmanager
def _watching(view: View) -> Iterator[None]:
    """The view kept up to date. Its threads end by themselves: each waits for its server."""
    over = threading.Event()
    view.start(over)
    try:
        yield
    finally:
        over.set()


@contextmanager
def _reporting(
    controller: Controller,
    view: View,
    cluster: HttpCluster,
    tools: Tools,
    store: FolderStore,
    journal: StderrJournal,
    interval_s: float,
) -> Iterator[None]:
    """`controller_latest.json`, as often as workloads are looked at, so that a person can look in."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(min(interval_s, REPORT_S)):
            try:
                _report(controller, view.inventory(), cluster, tools, store)
            except MkError as exc:
                journal.log("report_failed", level="error", message=exc.message)

    thread = threading.Thread(target=keep, name="reports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        # What it is about to write is older than the last report.
        over.set()
        thread.join()


def _report(
    controller: Controller, inventory: Inventory, cluster: HttpCluster, tools: Tools, store: FolderStore
) -> dict[str, object]:
    now = tools.clock.now()
    payload = report(
        controller_payload(controller, inventory, cluster), started=now, finished=now, out_dir=store.out_dir
    )
    store.text(REPORT, dumps_pretty(payload))
    return payload


def _sources(
    cluster: HttpCluster, options: ControllerOptions, stopping: threading.Event
) -> Callable[[Found, datetime | None], TelemetrySource]:
    def open_one(found: Found, since: datetime | None) -> TelemetrySource:
        window = options.window_s
        if since is not None:
            window = min(window, max(1.0, (datetime.now(UTC) - since).total_seconds()))
        if found.settings is None:
            raise ConfigError(f"{found.ref} is not configured")
        return StoppableSource(telemetry_of(cluster, found.settings, window_s=window), stopping)

    return open_one


def _lease(options: ControllerOptions, cluster: HttpCluster) -> Lease | None:
    if options.lease is None:
        return None
    namespace, _, name = options.lease.partition("/")
    if not namespace or not name or "/" in name:
        raise ConfigError(
            f"--lease {options.lease!r}, expected NAMESPACE/NAME", hint="for example modekeeper-system/modekeeper"
        )
    identity = f"{socket.gethostname()}_{os.getpid()}_{os.urandom(4).hex()}"
    return Lease(cluster, namespace, name, identity=identity, monotonic=time.monotonic)


def _hanging(controller: Controller, tools: Tools) -> str | None:
    silent = tools.clock.monotonic() - controller.status.beat
    return f"no round for {silent:.0f} s" if silent > STUCK_S else None


class _Signals:
    """SIGTERM and SIGINT ask to stop; what has not stopped after the grace is ended.

    Python's own handlers run in the midst of whatever the main thread does, which may hold the very lock that an Event or the
    journal needs, or be waiting in C. So they do nothing; a thread of its own reads what signal.set_wakeup_fd tells.
    """

    def __init__(self, stopping: threading.Event, journal: StderrJournal) -> None:
        self._stopping = stopping
        self._journal = journal
        self._over = threading.Event()
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, lambda *_: None)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup)
        self._over.set()
        self._writer.close()

    def _listen(self) -> None:
        with self._reader:
            while told := self._reader.recv(1):
                if told[0] in self._before:
                    break
            else:
                return
        self._stopping.set()
        # Before anything is said: stderr may be what hangs.
        threading.Thread(target=self._end, name="grace", daemon=True).start()
        self._journal.log("stopping", signal=signal.Signals(told[0]).name)

    def _end(self) -> None:
        if not self._over.wait(GRACE_S):
            # Something outside does not answer. Nothing was written since the signal, and nothing half; the Lease runs out.
            os._exit(EXIT_FAILED)


def with_url(access: Access, repo: str) -> Access:
    """The access with the repository at a path, or at a server's address."""
    from gitops_mk.config import is_url

    return replace(access, url=repo) if is_url(repo) else replace(access, repo=Path(repo))
