"""Kubernetes Events on a workload: `kubectl describe` shows what happened to it, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gitops_mk.adapters.cluster.client import HttpCluster, path_of
from gitops_mk.errors import ClusterError
from gitops_mk.model.cluster import LiveObject

COMPONENT = "modekeeper"
MAX_MESSAGE = 1_000
KEPT = 4_096


class EventAnnouncer:
    """Creates an Event, or counts up the one that says the same of the same object."""

    def __init__(self, cluster: HttpCluster, *, tell: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._tell = tell
        self._counts: dict[str, int] = {}

    def announce(self, workload: LiveObject, *, reason: str, message: str, warning: bool = False) -> None:
        """Record an Event on the workload. Never raises: nothing depends on it."""
        meta = workload.get("metadata") or {}
        namespace, name = str(meta.get("namespace")), str(meta.get("name"))
        told = message[:MAX_MESSAGE]
        key = hashlib.sha256("\0".join((str(meta.get("uid")), reason, told)).encode()).hexdigest()[:16]
        event_name = f"{name[:200]}.{key}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        count = self._counts.get(key, 0) + 1
        try:
            if count > 1:
                self._cluster.request(
                    "PATCH",
                    path_of("Event", namespace, event_name),
                    body={"count": count, "lastTimestamp": now},
                    headers={"Content-Type": "application/merge-patch+json"},
                )
            else:
                self._create(workload, namespace, event_name, reason, told, now, warning=warning)
        except ClusterError as exc:
            if exc.status in (404, 409):
                # Its time ran out, or a controller before us made it: from here on it is counted again.
                count = 0 if exc.status == 404 else 1
            else:
                self._tell(f"an Event could not be recorded: {exc.message}")
        if len(self._counts) >= KEPT:
            self._counts.clear()
        self._counts[key] = count

    def _create(
        self,
        workload: LiveObject,
        namespace: str,
        event_name: str,
        reason: str,
        message: str,
        now: str,
        *,
        warning: bool,
    ) -> None:
        meta = workload.get("metadata") or {}
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": event_name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": workload.get("apiVersion"),
                "kind": workload.get("kind"),
                "namespace": namespace,
                "name": meta.get("name"),
                "uid": meta.get("uid"),
                "resourceVersion": meta.get("resourceVersion"),
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._cluster.request("POST", path_of("Event", namespace), body=body)
