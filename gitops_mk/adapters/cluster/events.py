"""Kubernetes Events on a workload: `kubectl describe` shows what happened to it, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from gitops_mk.adapters.cluster.client import HttpCluster, path_of
from gitops_mk.core.objects import number
from gitops_mk.errors import ClusterError, StoppedError
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
        event_name = f"{name[:200].rstrip('-.')}.{key}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            count = self._record(workload, namespace, event_name, reason, told, now, warning=warning, key=key)
        except (ClusterError, StoppedError, OSError) as exc:
            # Nothing is known of it any more: the next time it is made, or found.
            self._counts.pop(key, None)
            self._tell(f"an Event could not be recorded: {exc}")
            return
        if len(self._counts) >= KEPT:
            self._counts.clear()
        self._counts[key] = count

    def _record(
        self,
        workload: LiveObject,
        namespace: str,
        event_name: str,
        reason: str,
        message: str,
        now: str,
        *,
        warning: bool,
        key: str,
    ) -> int:
        """Count it up, or create it; gives the count."""
        count = self._counts.get(key, 0) + 1
        if count > 1:
            try:
                self._patch(namespace, event_name, {"count": count, "lastTimestamp": now})
                return count
            except ClusterError as exc:
                # The server keeps Events for an hour.
                if exc.status != 404:
                    raise
        try:
            self._create(workload, namespace, event_name, reason, message, now, warning=warning)
            return 1
        except ClusterError as exc:
            if exc.status != 409:
                raise
        # A controller before us made it. We may not read Events, but an answer to a patch tells how often it came.
        found = self._patch(namespace, event_name, {"lastTimestamp": now})
        count = number(found, "count", 1) + 1
        self._patch(namespace, event_name, {"count": count})
        return count

    def _patch(self, namespace: str, event_name: str, body: Mapping[str, Any]) -> LiveObject:
        return self._cluster.request(
            "PATCH",
            path_of("Event", namespace, event_name),
            body=body,
            headers={"Content-Type": "application/merge-patch+json"},
        )

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
