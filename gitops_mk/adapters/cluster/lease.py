"""Leader election by a Lease, timed by the monotonic clock: a clock set back or forward makes nobody leader twice.

The order of things is that of client-go's leaderelection (a foreign record counts as held for its duration from when it was
last *seen* to change, never by the times written in it). Nothing relies on it for correctness: every write is compare-and-swap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gitops_mk.adapters.cluster.client import HttpCluster, path_of
from gitops_mk.errors import ClusterError

DURATION_S = 15.0
RENEW_S = 10.0
RETRY_S = 2.0


class Lease:
    """One candidate for the Lease `namespace/name`. `run` renews in a thread of its own; `lead` tells how it stands."""

    def __init__(
        self, cluster: HttpCluster, namespace: str, name: str, *, identity: str, monotonic: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._monotonic = monotonic
        self._until = 0.0
        self._seen: tuple[str, float] = ("", 0.0)
        self._stopping = threading.Event()

    def lead(self) -> bool:
        """True while what was last written is surely still ours: renewed less than 10 of its 15 seconds ago."""
        return self._monotonic() < self._until

    def run(self, *, tell: Callable[[str], None]) -> None:
        """Try to take the Lease, and keep it, until `stop`. A server that can't be reached lets it run out."""
        while not self._stopping.is_set():
            try:
                self.attempt()
            except ClusterError as exc:
                tell(exc.message)
            self._stopping.wait(RETRY_S)

    def attempt(self) -> bool:
        """One try. Raises ClusterError when the server would not answer."""
        started = self._monotonic()
        path = path_of("Lease", self._namespace, self._name)
        try:
            record = dict(self._cluster.request("GET", path))
        except ClusterError as exc:
            if exc.status != 404:
                raise
            record = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}}
            return self._write("POST", path_of("Lease", self._namespace), record, started)
        if not self._free(record):
            return False
        return self._write("PUT", path, record, started)

    def stop(self) -> None:
        """Give it up, so that another need not wait."""
        self._stopping.set()
        if not self.lead():
            return
        self._until = 0.0
        path = path_of("Lease", self._namespace, self._name)
        try:
            record = dict(self._cluster.request("GET", path))
            if (record.get("spec") or {}).get("holderIdentity") == self._identity:
                record["spec"] = {**record["spec"], "holderIdentity": ""}
                self._cluster.request("PUT", path, body=record)
        except ClusterError:
            # It runs out by itself.
            return

    def _free(self, record: dict[str, Any]) -> bool:
        spec = record.get("spec") or {}
        version = str((record.get("metadata") or {}).get("resourceVersion"))
        if version != self._seen[0]:
            self._seen = (version, self._monotonic())
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        return self._monotonic() - self._seen[1] >= float(spec.get("leaseDurationSeconds") or DURATION_S)

    def _write(self, method: str, path: str, record: dict[str, Any], started: float) -> bool:
        old = record.get("spec") or {}
        mine = old.get("holderIdentity") == self._identity
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        record["spec"] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(DURATION_S),
            "acquireTime": old.get("acquireTime") if mine and old.get("acquireTime") else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if mine else 1),
        }
        try:
            self._cluster.request(method, path, body=record)
        except ClusterError as exc:
            if exc.status == 409:
                return False
            raise
        # Counted from before the request: it may have taken long.
        self._until = started + RENEW_S
        return True
