"""One list kept up to date: list, then watch, and list again when the watch can't go on (410), ends in an error or stalls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gitops_mk.controller.inventory import Scope
from gitops_mk.core.inventory import trim
from gitops_mk.errors import ClusterError, ExpiredError
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.workload import API_VERSIONS
from gitops_mk.ports import Cluster

PAUSE_S = 1.0
PAUSE_MAX_S = 60.0
# A kind that is not installed, or that we may not list, may be one day.
ABSENT_S = 300.0


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
    ) -> None:
        """`whole`: keep objects as they are. `changed` is called with each object that came, changed or went."""
        self.scope = scope
        self._cluster = cluster
        self._whole = whole
        self._changed = changed
        self._tell = tell
        self._lock = threading.Lock()
        self._objects: dict[str, LiveObject] = {}
        self._synced = False
        self._error = ""

    @property
    def synced(self) -> bool:
        """True once the whole list was seen."""
        return self._synced

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
            try:
                version = self.list()
                pause = PAUSE_S
                wait = ABSENT_S if not version else self.follow(version, stopping)
            except ExpiredError:
                continue
            except ClusterError as exc:
                if exc.status != 403 or not self._error:
                    self._tell(f"{self.scope.kind}: {exc.message}")
                self._error = exc.message
                # What we may not list is as good as not there: the rest must not wait for it.
                self._synced = self._synced or exc.status == 403
                wait = ABSENT_S if exc.status == 403 else pause
                pause = min(PAUSE_MAX_S, pause * 2)
            stopping.wait(wait)

    def list(self) -> str:
        """Read the whole list; gives the version to watch from, empty for a kind that is not there. Raises ClusterError."""
        fresh: dict[str, LiveObject] = {}
        version = ""
        for page in self._cluster.pages(self.scope.kind, namespace=self.scope.namespace, labels=self.scope.labels):
            for item in page.items:
                fresh[_key(item)] = self._kept(item)
            # The first page's: changes since then are told by the watch, whatever later pages showed.
            version = version or page.resource_version
        with self._lock:
            before, self._objects = self._objects, fresh
        self._synced, self._error = True, ""
        for key in before.keys() | fresh.keys():
            old, new = before.get(key), fresh.get(key)
            if old is None or new is None or _version(old) != _version(new):
                self._changed(new or old or {})
        return version

    def follow(self, version: str, stopping: threading.Event) -> float:
        """Take in changes until the watch ends; gives how long to wait. Raises ExpiredError when it can't go on."""
        while not stopping.is_set():
            for event in self._cluster.watch(
                self.scope.kind, namespace=self.scope.namespace, labels=self.scope.labels, resource_version=version
            ):
                version = _version(event.object) or version
                self._take(event.type, event.object)
                if stopping.is_set():
                    return 0.0
            # The server ends a watch every few minutes: go on from where it was.
        return 0.0

    def _take(self, kind: str, item: LiveObject) -> None:
        if kind == "BOOKMARK":
            return
        kept = self._kept(item)
        with self._lock:
            if kind == "DELETED":
                self._objects.pop(_key(item), None)
            else:
                self._objects[_key(item)] = kept
        self._changed(kept)

    def _kept(self, item: LiveObject) -> LiveObject:
        if self._whole:
            return item
        named: dict[str, Any] = {"kind": self.scope.kind, "apiVersion": API_VERSIONS.get(self.scope.kind)}
        return trim({**item, **named})


def _key(item: LiveObject) -> str:
    meta = item.get("metadata") or {}
    return f"{meta.get('namespace', '')}/{meta.get('name', '')}"


def _version(item: LiveObject) -> str:
    return str((item.get("metadata") or {}).get("resourceVersion") or "")
