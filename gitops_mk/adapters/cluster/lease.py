"""Leader election by a Lease, timed by the monotonic clock: a clock set back or forward makes nobody leader twice.

The order of things is that of client-go's leaderelection (a foreign record counts as held for its duration from when it was
last *seen* to change, never by the times written in it). Nothing relies on it for correctness: every write is compare-and-swap.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gitops_mk.adapters.cluster.client import HttpCluster, path_of
from gitops_mk.errors import ClusterError, MkError

TRIES = 3


@dataclass(frozen=True)
class Pace:
    """Times in seconds: a foreign record holds for `duration_s` from when it was last seen to change; ours counts for `renew_s`
    from before it was written, which leaves the others the difference; `retry_s` lies between two attempts.
    """

    duration_s: float = 15.0
    renew_s: float = 10.0
    retry_s: float = 2.0


class Lease:
    """One candidate for the Lease `namespace/name`. `run` renews in a thread of its own; `lead` tells how it stands."""

    def __init__(
        self,
        cluster: HttpCluster,
        namespace: str,
        name: str,
        *,
        identity: str,
        monotonic: Callable[[], float],
        pace: Pace = Pace(),
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._monotonic = monotonic
        self._pace = pace
        self._until = -math.inf
        self._seen: tuple[str, float] = ("", 0.0)
        self._stopping = threading.Event()

    def lead(self) -> bool:
        """True while what was last written is surely still ours: renewed less than `renew_s` ago."""
        return self._monotonic() < self._until

    def run(self, *, tell: Callable[[str], None]) -> None:
        """Try to take the Lease, and keep it, until `stop`. A server that can't be reached lets it run out."""
        told = ""
        while not self._stopping.is_set():
            said = ""
            try:
                self.attempt()
            except Exception as exc:  # noqa: BLE001 - without this thread nobody would lead here any more, and none be told
                said = exc.message if isinstance(exc, MkError) else f"{type(exc).__name__}: {exc}"
            if said and said != told:
                tell(f"the Lease {self._namespace}/{self._name}: {said}")
            told = said
            self._stopping.wait(self._pace.retry_s)

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
        self._until = -math.inf
        for _ in range(TRIES):
            try:
                self._release()
                return
            except ClusterError as exc:
                # 409: the thread that renews was in the middle of it. Else it runs out by itself.
                if exc.status != 409:
                    return

    def _release(self) -> None:
        path = path_of("Lease", self._namespace, self._name)
        record = dict(self._cluster.request("GET", path))
        if (record.get("spec") or {}).get("holderIdentity") == self._identity:
            record["spec"] = {**record["spec"], "holderIdentity": ""}
            self._cluster.request("PUT", path, body=record)

    def _free(self, record: dict[str, Any]) -> bool:
        spec = record.get("spec") or {}
        version = str((record.get("metadata") or {}).get("resourceVersion"))
        if version != self._seen[0]:
            self._seen = (version, self._monotonic())
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        # Whatever we wrote ourselves: it is another's by now.
        self._until = -math.inf
        return self._monotonic() - self._seen[1] >= float(spec.get("leaseDurationSeconds") or self._pace.duration_s)

    def _write(self, method: str, path: str, record: dict[str, Any], started: float) -> bool:
        if self._stopping.is_set():
            # Given up in the meantime: not to be taken again.
            return False
        old = record.get("spec") or {}
        mine = old.get("holderIdentity") == self._identity
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        record["spec"] = {
            **old,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._pace.duration_s),
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
        self._until = started + self._pace.renew_s
        return True
