"""A Kubernetes API server in memory: `ports.Cluster` over objects and logs that a test moves. It refuses what the real one refuses,
as far as the tests lean on it; `tests/cluster` asks the real one the same.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from gitops_mk.errors import ClusterError, ExpiredError
from gitops_mk.model.cluster import RESOURCES, ApplyAnswer, LiveObject, Page, WatchEvent

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
PAGE = 500
IDLE_S = 0.002

Json = dict[str, Any]
Key = tuple[str, str, str]


class Run:
    """One run of a container: what it wrote, with its times. `kept` is where the file begins that rotation left."""

    def __init__(self) -> None:
        self.lines: list[tuple[datetime, bytes]] = []
        self.kept = 0
        self.over = False
        self.cuts = 0


class SimCluster:
    """Objects by kind, namespace and name; logs by pod and container. Safe to use from several threads."""

    context = "sim"
    server = "https://sim.invalid"

    def __init__(self) -> None:
        self.calls = 0
        self.now = START
        self.block = 4096
        self.denied: set[tuple[str, str]] = set()
        self.requests: list[dict[str, Any]] = []
        self._objects: dict[Key, Json] = {}
        self._events: list[tuple[int, Key, str, Json]] = []
        self._runs: dict[tuple[str, str], list[Run]] = {}
        self._failing: dict[str, list[int]] = {}
        self._version = 0
        self._oldest = 0
        self._changed = threading.Condition(threading.RLock())

    # -- what a test does: objects -------------------------------------------------------------------------------------

    def put(self, obj: Mapping[str, Any]) -> Json:
        """Make or replace an object; gives it as it is stored."""
        with self._changed:
            key = _key(obj)
            before = self._objects.get(key)
            stored: Json = copy.deepcopy(dict(obj))
            self._version += 1
            meta = stored.setdefault("metadata", {})
            meta["resourceVersion"] = str(self._version)
            meta.setdefault("uid", before["metadata"]["uid"] if before else f"uid-{self._version}")
            self._objects[key] = stored
            self._tell("MODIFIED" if before else "ADDED", key, stored)
            return copy.deepcopy(stored)

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        """Take an object away; a pod's logs end and go with it."""
        with self._changed:
            gone = self._objects.pop((kind, namespace, name))
            self._version += 1
            self._tell("DELETED", (kind, namespace, name), gone)
            for runs in (runs for (pod, _), runs in self._runs.items() if kind == "Pod" and pod == name):
                runs[-1].over = True

    def forget(self) -> None:
        """Compact the history: watches from any older version expire."""
        with self._changed:
            self._oldest = self._version

    # -- what a test does: a workload and its pods ---------------------------------------------------------------------

    def deployment(
        self, name: str, namespace: str = "ml", *, containers: Sequence[str] = ("trainer",), **annotations: str
    ) -> Json:
        """A Deployment whose pods are labelled `app=NAME`."""
        noted = {key.replace("__", "/").replace("_", "."): value for key, value in annotations.items()}
        return self.put({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace, "annotations": noted},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": one} for one in containers]},
                },
            },
        })  # fmt: skip

    def pod(
        self,
        workload: str,
        name: str,
        namespace: str = "ml",
        *,
        node: str = "node-a",
        ready: bool = True,
        **labels: str,
    ) -> Json:
        """A pod of that Deployment whose containers run."""
        template = self._objects["Deployment", namespace, workload]["spec"]["template"]
        names = [one["name"] for one in template["spec"]["containers"]]
        with self._changed:
            for one in names:
                self._runs[name, one] = [Run()]
        owner = {"kind": "ReplicaSet", "name": f"{workload}-5d4f8c7b9", "uid": f"rs-{workload}", "controller": True}
        return self.put({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": workload, **labels}, "ownerReferences": [owner]},
            "spec": {"nodeName": node, "containers": [{"name": one} for one in names]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
                "containerStatuses": [
                    {"name": one, "restartCount": 0, "state": {"running": {"startedAt": _text(self.now)}}} for one in names
                ],
            },
        })  # fmt: skip

    def node(self, name: str, **labels: str) -> Json:
        """A node with labels, given with `__` for `/` and `_` for `.`."""
        found = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
        return self.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": found}})

    def write(self, pod: str, *lines: bytes, container: str = "trainer", at: datetime | None = None) -> None:
        """Add lines to a log, without a newline a part of one; each is a millisecond later than the one before."""
        with self._changed:
            for line in lines:
                if at is None:
                    self.now += timedelta(milliseconds=1)
                self._runs[pod, container][-1].lines.append((at or self.now, line))
            self._changed.notify_all()

    def restart(self, pod: str, *, container: str = "trainer", namespace: str = "ml", told: bool = True) -> None:
        """A container ended and runs again. Not `told`: the kubelet knows, and the API server not yet (see `tell`)."""
        with self._changed:
            runs = self._runs[pod, container]
            runs[-1].over = True
            runs.append(Run())
            self.now += timedelta(seconds=1)
            self._changed.notify_all()
        if told:
            self.tell(pod, container=container, namespace=namespace)

    def stop(self, pod: str, *, container: str = "trainer", namespace: str = "ml", waiting: bool = False) -> None:
        """A container ended; `waiting`: it is to be started again, later."""
        with self._changed:
            self._runs[pod, container][-1].over = True
            ended = {"terminated": {"exitCode": 1, "finishedAt": _text(self.now)}}
            state = {"waiting": {"reason": "CrashLoopBackOff"}} if waiting else ended
            self._set(pod, container, namespace, state=state, **({"lastState": ended} if waiting else {}))
            self._changed.notify_all()

    def finish(self, pod: str, *, container: str = "trainer", namespace: str = "ml") -> None:
        """The pod is over for good."""
        self.stop(pod, container=container, namespace=namespace)
        with self._changed:
            found = self._objects["Pod", namespace, pod]
            self.put({**found, "status": {**found["status"], "phase": "Succeeded"}})

    def tell(self, pod: str, *, container: str = "trainer", namespace: str = "ml") -> None:
        """Let the API server know of the restarts."""
        with self._changed:
            count = len(self._runs[pod, container]) - 1
            last = {"terminated": {"exitCode": 1, "finishedAt": _text(self.now)}}
            running = {"running": {"startedAt": _text(self.now)}}
            self._set(pod, container, namespace, state=running, lastState=last, restartCount=count)

    def rotate(self, pod: str, *, container: str = "trainer") -> None:
        """What was written so far is in a file that new requests don't read."""
        with self._changed:
            run = self._runs[pod, container][-1]
            run.kept = len(run.lines)

    def discard(self, pod: str, run: int, *, container: str = "trainer") -> None:
        """A run's log is not kept any more."""
        with self._changed:
            self._runs[pod, container][run] = Run()
            self._runs[pod, container][run].kept = -1

    def cut(self, pod: str, *, container: str = "trainer") -> None:
        """Break the connections on which the log is read now."""
        with self._changed:
            self._runs[pod, container][-1].cuts += 1
            self._changed.notify_all()

    def fail(self, pod: str, *statuses: int) -> None:
        """Answer the next requests for a pod's logs with these; 0 is no answer."""
        with self._changed:
            self._failing.setdefault(pod, []).extend(statuses)

    # -- ports.Cluster -------------------------------------------------------------------------------------------------

    def version(self) -> str:
        """A version."""
        return "v1.34.0"

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> LiveObject | None:
        """One object; None when it is not there."""
        with self._changed:
            self._ask("get", kind)
            found = self._objects.get((kind, namespace or "", name))
            return copy.deepcopy(found)

    def pages(self, kind: str, *, namespace: str | None = None, labels: str = "") -> Iterator[Page]:
        """All objects of a kind that the selector takes."""
        with self._changed:
            self._ask("list", kind)
            items = [
                copy.deepcopy(obj)
                for (one, space, _), obj in sorted(self._objects.items())
                if one == kind and namespace in (None, "", space) and selects(labels, obj)
            ]
            version = str(self._version)
        for start in range(0, max(1, len(items)), PAGE):
            yield Page(tuple(items[start : start + PAGE]), version)

    def watch(
        self, kind: str, *, namespace: str | None = None, labels: str = "", resource_version: str
    ) -> Iterator[WatchEvent]:
        """Changes since that version; ends when there are no more."""
        with self._changed:
            self._ask("watch", kind)
            since = int(resource_version or 0)
            if since < self._oldest:
                raise ExpiredError("the version is too old", status=410, retryable=True)
            found = [
                WatchEvent(event, copy.deepcopy(obj))
                for version, key, event, obj in self._events
                if version > since and key[0] == kind and namespace in (None, "", key[1]) and selects(labels, obj)
            ]
        yield from found

    def can_i(self, verb: str, kind: str, *, namespace: str | None = None, name: str = "") -> bool:
        """Whatever is not `denied`, by verb and kind."""
        return (verb, kind) not in self.denied

    def dry_run_apply(self, kind: str, namespace: str, name: str, document: bytes, *, force: bool) -> ApplyAnswer:
        """As it would be stored: the live object with the document laid over it. 404 without the namespace."""
        import yaml  # type: ignore[import-untyped]

        with self._changed:
            self._ask("patch", kind)
            if RESOURCES[kind].namespaced and ("Namespace", "", namespace) not in self._objects:
                words = f'namespaces "{namespace}" not found'
                return ApplyAnswer(
                    404, {"kind": "Status", "reason": "NotFound", "message": words, "details": {"kind": "namespaces"}}
                )
            live = copy.deepcopy(self._objects.get((kind, namespace, name), {}))
            return ApplyAnswer(200, _laid(live, yaml.safe_load(document)))

    @contextmanager
    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        previous: bool = False,
        since_time: str | None = None,
        since_seconds: int | None = None,
        limit_bytes: int | None = None,
    ) -> Iterator[Iterator[bytes]]:
        """A container's log as a kubelet gives it."""
        with self._changed:
            asked = {"follow": follow, "previous": previous, "since_time": since_time, "since_seconds": since_seconds}
            self.requests.append({"pod": pod, "container": container, "limit_bytes": limit_bytes, **asked})
            self._ask("get", "Pod/log")
            if self._failing.get(pod):
                raise _error(self._failing[pod].pop(0), f"the log of {pod}")
            if ("Pod", namespace, pod) not in self._objects:
                raise _error(404, f'pods "{pod}" not found')
            run = self._run(namespace, pod, container, previous=previous)
            since = datetime.fromisoformat(since_time).replace(microsecond=0) if since_time else None
            if since_seconds is not None:
                since = self.now - timedelta(seconds=since_seconds)
            cuts = run.cuts
        yield self._give(run, run.kept, since, limit_bytes, cuts, follow=follow)

    # -- within --------------------------------------------------------------------------------------------------------

    def _give(
        self, run: Run, index: int, since: datetime | None, limit: int | None, cuts: int, *, follow: bool
    ) -> Iterator[bytes]:
        room = limit if limit is not None else 1 << 60
        fresh = True
        while room > 0:
            with self._changed:
                if run.cuts != cuts:
                    raise ClusterError("the connection broke", retryable=True)
                if index >= len(run.lines):
                    if not follow or run.over:
                        return
                    self._changed.wait(IDLE_S)
                    batch: list[tuple[datetime, bytes]] = []
                else:
                    batch = run.lines[index : index + 500]
                    index += len(batch)
            out = []
            for at, line in batch:
                if since is None or at >= since:
                    # A part of a line has its time only in front of the first part.
                    out.append((_stamp(at) if fresh else b"") + line)
                    fresh = line.endswith(b"\n")
            data = b"".join(out)[:room]
            room -= len(data)
            if not data:
                yield b""
            for start in range(0, len(data), self.block):
                yield data[start : start + self.block]

    def _run(self, namespace: str, pod: str, container: str, *, previous: bool) -> Run:
        runs = self._runs.get((pod, container))
        if runs is None:
            raise _error(400, f"container {container} is not valid for pod {pod}")
        status = self._status(pod, container, namespace)
        if "waiting" in status["state"] and not status.get("lastState"):
            raise _error(400, f'container "{container}" in pod "{pod}" is waiting to start')
        if previous and "waiting" not in status["state"]:
            if len(runs) < 2 or runs[-2].kept < 0:
                raise _error(400, f'previous terminated container "{container}" in pod "{pod}" not found')
            return runs[-2]
        return runs[-1]

    def _status(self, pod: str, container: str, namespace: str) -> Json:
        statuses = self._objects["Pod", namespace, pod]["status"]["containerStatuses"]
        found: Json = next(one for one in statuses if one["name"] == container)
        return found

    def _set(self, pod: str, container: str, namespace: str, **fields: Any) -> None:
        found = copy.deepcopy(self._objects["Pod", namespace, pod])
        for one in found["status"]["containerStatuses"]:
            if one["name"] == container:
                one.update(fields)
        self.put(found)

    def _ask(self, verb: str, kind: str) -> None:
        self.calls += 1
        if (verb, kind) in self.denied:
            raise _error(403, f"you may not {verb} {kind}")

    def _tell(self, event: str, key: Key, obj: Json) -> None:
        self._events.append((self._version, key, event, copy.deepcopy(obj)))
        self._changed.notify_all()


def selects(selector: str, obj: Mapping[str, Any]) -> bool:
    """Whether a label selector takes an object: `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`."""
    labels = obj["metadata"].get("labels") or {}
    terms, depth, start = [], 0, 0
    for at, char in enumerate(selector + ","):
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            terms.append(selector[start:at].strip())
            start = at + 1
    return all(_takes(term, labels) for term in terms if term)


def _takes(term: str, labels: Mapping[str, str]) -> bool:
    if term.startswith("!"):
        return term[1:] not in labels
    for word in (" notin ", " in "):
        key, found, values = term.partition(word)
        if found:
            inside = labels.get(key.strip()) in [value.strip() for value in values.strip(" ()").split(",")]
            return inside is (word == " in ")
    for sign in ("!=", "==", "="):
        key, found, value = term.partition(sign)
        if found:
            return (labels.get(key) == value) is (sign != "!=")
    return term in labels


def _key(obj: Mapping[str, Any]) -> Key:
    kind = str(obj["kind"])
    return (
        kind,
        str(obj["metadata"].get("namespace", "")) if RESOURCES[kind].namespaced else "",
        obj["metadata"]["name"],
    )


def _laid(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _laid(below.get(key), value) for key, value in above.items()}}
    return above


def _error(status: int, words: str) -> ClusterError:
    if not status:
        return ClusterError("the server can't be reached", retryable=True)
    hint = "give this identity the right" if status == 403 else None
    return ClusterError(f"the API server says {status}: {words}", status=status, hint=hint, retryable=status >= 500)


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _stamp(at: datetime) -> bytes:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()
