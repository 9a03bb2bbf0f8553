"""One list kept up to date: list, then watch, and list again when the watch can't go on (410), ends in an error or stalls."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from gitops_mk.controller.inventory import Scope, as_kept
from gitops_mk.errors import ClusterError, ExpiredError, MkError
from gitops_mk.model.cluster import LiveObject
from gitops_mk.ports import Cluster

PAUSE_S = 1.0
PAUSE_MAX_S = 60.0
# A kind that is not installed, or that we may not list, may be one day.
ABSENT_S = 300.0
# Nothing heard for twice the stall timeout: what is in memory is no ground for a decision any more.
STALE_S = 180.0


class Watcher:
    """The objects of one scope, trimmed, by `namespace/name`. `run` keeps them so in a thread of its own."""

    def __init__(
        self,
        cluster: Cluster,
        scope: Scope,
        *,
        whole: bool,
        changed: Callable[[LiveObject], None],
        tell: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`whole`: keep objects as they are. `changed` is called with each object that came, changed or went."""
        self.scope = scope
        self._cluster = cluster
        self._whole = whole
        self._changed = changed
        self._tell = tell
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._objects: dict[str, LiveObject] = {}
        self._progress = False
        self._good_until = -math.inf
        self._error = ""

    @property
    def synced(self) -> bool:
        """True while what there is in memory can be trusted: the whole list was seen, and the server was heard since."""
        return self._monotonic() < self._good_until

    @property
    def error(self) -> str:
        """What went wrong last, while it has not been mended."""
        return self._error

    def objects(self) -> tuple[LiveObject, ...]:
        """What there is now."""
        with self._lock:
            return tuple(self._objects.values())

    def run(self, stopping: threading.Event) -> None:
        """List and watch until told to stop."""
        pause = PAUSE_S
        while not stopping.is_set():
            self._progress = False
            wait = ABSENT_S
            try:
                version = self._list_if_allowed()
                if version:
                    self.follow(version, stopping)
            except Exception as exc:  # noqa: BLE001 - a thread that ended would leave the rest with old news for ever
                # A server that gives a list and then breaks off each watch must not be asked for lists all the time.
                wait = PAUSE_S if self._progress else pause
                pause = min(PAUSE_MAX_S, wait * 2)
                if not isinstance(exc, ExpiredError):
                    self._trouble(exc.message if isinstance(exc, MkError) else f"{type(exc).__name__}: {exc}")
            stopping.wait(wait)

    def _list_if_allowed(self) -> str:
        try:
            return self.list()
        except ClusterError as exc:
            if exc.status != 403:
                raise
            # What we may not list is as good as not there: the rest must not wait for it, and nothing is decided by what
            # was seen while we might.
            self._trouble(exc.message)
            self._replace({})
            self._heard(ABSENT_S)
            return ""

    def _trouble(self, said: str) -> None:
        if said != self._error:
            self._tell(f"{self.scope.kind}: {said}")
        self._error = said

    def list(self) -> str:
        """Read the whole list; gives the version to watch from, empty for a kind that is not there. Raises ClusterError."""
        fresh: dict[str, LiveObject] = {}
        version = ""
        for page in self._cluster.pages(self.scope.kind, namespace=self.scope.namespace, labels=self.scope.labels):
            for item in page.items:
                fresh[_key(item)] = as_kept(item, self.scope.kind, whole=self._whole)
            # The first page's: changes since then are told by the watch, whatever later pages showed.
            version = version or page.resource_version
        self._error = ""
        self._replace(fresh)
        self._heard(0.0 if version else ABSENT_S)
        return version

    def follow(self, version: str, stopping: threading.Event) -> None:
        """Take in changes until told to stop. Raises ExpiredError when it can't go on, and ClusterError."""
        while not stopping.is_set():
            for event in self._cluster.watch(
                self.scope.kind, namespace=self.scope.namespace, labels=self.scope.labels, resource_version=version
            ):
                version = _version(event.object) or version
                self._take(event.type, event.object)
                self._progress = True
                self._heard(0.0)
                if stopping.is_set():
                    return
            # The server ends a watch every few minutes, and goes on from where it was. One that ends each at once is
            # not to be asked without a pause.
            self._heard(0.0)
            stopping.wait(PAUSE_S)

    def _replace(self, fresh: dict[str, LiveObject]) -> None:
        with self._lock:
            before, self._objects = self._objects, fresh
        for key in before.keys() | fresh.keys():
            old, new = before.get(key), fresh.get(key)
            if old is None or new is None or _version(old) != _version(new):
                self._changed(new or old or {})

    def _heard(self, silence_s: float) -> None:
        """The server answered just now, and won't be asked again for `silence_s` seconds."""
        self._good_until = self._monotonic() + silence_s + STALE_S

    def _take(self, kind: str, item: LiveObject) -> None:
        if kind == "BOOKMARK":
            return
        kept = as_kept(item, self.scope.kind, whole=self._whole)
        with self._lock:
            if kind == "DELETED":
                self._objects.pop(_key(item), None)
            else:
                self._objects[_key(item)] = kept
        self._changed(kept)


def _key(item: LiveObject) -> str:
    meta = item.get("metadata") or {}
    return f"{meta.get('namespace', '')}/{meta.get('name', '')}"


def _version(item: LiveObject) -> str:
    return str((item.get("metadata") or {}).get("resourceVersion") or "")
