"""Telemetry from the logs of a workload's pods."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator

from gitops_mk.adapters.telemetry.container_log import NO_LOG, ContainerLog, Pace, Span
from gitops_mk.adapters.telemetry.merging import Merger
from gitops_mk.core.pods import candidates, choose_container, environment_of, node_of, owned, selector_text
from gitops_mk.errors import ClusterError, InputError, TelemetryError
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.telemetry import Environment, SourceInfo
from gitops_mk.model.workload import WorkloadRef
from gitops_mk.ports import Cluster

SINCE_S = 600
MAX_PODS = 256
MAX_NOTES = 20
# Of one read without `follow`: of all pods together, and of each at least.
LIMIT_BYTES = 268_435_456
LEAST_LIMIT = 1_048_576
JOIN_S = 2.0
REFUSED = frozenset({401, 403})


class PodLogSource:
    """The logs of every pod of a workload, ready ones first, merged by time; container by rule unless it is named.

    What is there of the last `since_seconds` is read, and then, with `follow`, what comes, until `duration_s` is over (None: until
    the caller stops). New pods, as a rollout makes them, are read from their beginning. Without `follow`, at most 256 MiB
    are read. `environment` says which machines the lines came from, and which lines are missing.
    """

    def __init__(
        self,
        cluster: Cluster,
        ref: WorkloadRef,
        *,
        container: str | None = None,
        duration_s: float | None = None,
        follow: bool = True,
        since_seconds: int = SINCE_S,
        format_: str | None = None,
        pace: Pace = Pace(),  # noqa: B008 - a value
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cluster = cluster
        self.pace = pace
        self.stop = threading.Event()
        self._ref = ref
        self._container = container
        self._duration_s = duration_s
        self._follow = follow
        self._since_s = since_seconds
        self._format = format_
        self._monotonic = monotonic
        self._began = monotonic()
        self._merger = Merger(patience_s=pace.patience_s, clock=monotonic)
        self._lock = threading.Lock()
        self._workload: LiveObject = {}
        self._pods: dict[str, LiveObject] = {}
        self._readers: dict[str, ContainerLog] = {}
        self._threads: list[threading.Thread] = []
        self._looking = False
        self._nodes: dict[str, LiveObject] = {}
        self._known: dict[str, LiveObject] = {}
        self._heard: set[str] = set()
        self._opened = False
        self._refused: set[str] = set()
        self._last_error: ClusterError | None = None
        self._told: set[str] = set()
        self._notes: list[str] = []
        self._left_out = 0
        self._bug: BaseException | None = None

    @property
    def info(self) -> SourceInfo:
        """`k8s` and the workload."""
        return SourceInfo(kind="k8s", name=str(self._ref), format=self._format)

    @property
    def environment(self) -> Environment:
        """The machines of the pods whose lines were read, and what is to be said of the reading."""
        with self._lock:
            found = environment_of((self._known[uid] for uid in self._heard), self._nodes)
            more = (f"{self._left_out} more notes like these",) if self._left_out else ()
            return found.model_copy(update={"notes": (*self._notes, *more)})

    def chunks(self) -> Iterator[bytes]:
        """Blocks of whole lines, by time. Raises TelemetryError when nothing can be read, InputError for what is not there."""
        self._began = self._monotonic()
        pods = self._look_first()
        try:
            self._read(pods, new=False)
            self._start(self._keep_looking)
            yield from self._pump()
        except KeyboardInterrupt:
            self._halt()
            yield from self._merger.rest()
            raise
        finally:
            self._halt()
        yield from self._merger.rest()
        self._conclude()

    # -- what the readers are given, and what they tell ----------------------------------------------------------------

    def pod(self, uid: str) -> LiveObject | None:
        """A pod as it was listed last."""
        return self._pods.get(uid)

    def elapsed_s(self) -> int:
        """Whole seconds since the reading began."""
        return math.ceil(self._monotonic() - self._began)

    def gap(self, pod: str, words: str) -> None:
        """Lines are missing."""
        self._note(f"gap: {pod}: {words}")

    def trouble(self, pod: str, exc: ClusterError, *, log_of: str = "") -> None:
        """A request failed: told once a kind; a container that has not started is nothing to tell of."""
        with self._lock:
            self._last_error = exc
            if exc.status in REFUSED:
                self._refused.add(log_of)
        if exc.status not in NO_LOG:
            self._note(f"{pod}: {exc.message}", kind=str(exc.status))

    def opened(self) -> None:
        """A log was there to be read."""
        self._opened = True

    def heard(self, uid: str) -> None:
        """Lines of a pod were read."""
        if uid not in self._heard:
            with self._lock:
                self._heard.add(uid)

    def kubelet_says(self, words: str) -> None:
        """A line that is not the container's."""
        self._note(f"the kubelet says: {words}", kind="kubelet")

    def _note(self, words: str, *, kind: str | None = None) -> None:
        with self._lock:
            if (kind or words) in self._told:
                return
            if len(self._notes) >= MAX_NOTES:
                self._left_out += 1
                return
            self._told.add(kind or words)
            self._notes.append(words)

    # -- pods and readers ----------------------------------------------------------------------------------------------

    def _look_first(self) -> list[LiveObject]:
        ref = self._ref
        try:
            found = self.cluster.get(ref.kind, ref.name, namespace=ref.namespace)
            if found is None:
                raise InputError(
                    f"there is no {ref} in context {self.cluster.context}",
                    hint=f"kubectl get {ref.kind.lower()} -n {ref.namespace} lists what there is",
                )
            self._workload = found
            if ref.templated:
                self._choose(found)
            return self._list()
        except ClusterError as exc:
            raise TelemetryError(exc.message, hint=exc.hint, retryable=exc.retryable) from exc

    def _list(self) -> list[LiveObject]:
        labels = selector_text(self._workload)
        pages = self.cluster.pages("Pod", namespace=self._ref.namespace, labels=labels)
        pods = candidates(owned((pod for page in pages for pod in page.items), self._workload, self._ref))
        with self._lock:
            self._pods = {str(pod["metadata"]["uid"]): pod for pod in pods}
            self._known |= self._pods
        return pods

    def _choose(self, source: LiveObject) -> str:
        annotations = self._workload["metadata"].get("annotations") or {}
        return choose_container(source, annotations, self._ref.name, self._container)

    def _read(self, pods: list[LiveObject], *, new: bool) -> None:
        """Start a reader for each pod that has none. `new`: it came while we read, and is read from its beginning."""
        limit = None if self._follow else max(LEAST_LIMIT, LIMIT_BYTES // max(1, min(len(pods), MAX_PODS)))
        span = Span(None if new else self._since_s, limit, self._follow)
        for pod in pods:
            uid, name = str(pod["metadata"]["uid"]), str(pod["metadata"]["name"])
            if uid in self._readers:
                continue
            if sum(thread.is_alive() for thread in self._threads) >= MAX_PODS:
                self._note(f"gap: there are {len(pods)} pods, and no more than {MAX_PODS} are read", kind="pods")
                return
            try:
                container = self._choose(pod)
            except InputError as exc:
                self._note(f"gap: {name}: {exc.message}")
                continue
            reader = ContainerLog(self, self._merger.open(), pod, container, span)
            self._readers[uid] = reader
            self._start(reader.run)

    def _keep_looking(self) -> None:
        self._ask_nodes()
        while self._follow and not self.stop.wait(self.pace.list_s):
            try:
                self._read(self._list(), new=True)
            except ClusterError as exc:
                self._note(f"the pods can't be listed: {exc.message}", kind=f"pods {exc.status}")
            self._ask_nodes()

    def _ask_nodes(self) -> None:
        """The nodes of the pods, each once; what one may not read is not asked for again."""
        for name in sorted({node_of(pod) for pod in self._pods.values()} - {""} - set(self._nodes)):
            if self.stop.is_set():
                return
            try:
                node = self.cluster.get("Node", name) or {}
            except ClusterError as exc:
                self._note(f"the GPU model of {name} is unknown: {exc.message}", kind="nodes")
                node = {}
            with self._lock:
                self._nodes[name] = node

    def _start(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except Exception as exc:  # noqa: BLE001 - raised again where the lines are taken
                self._bug = exc

        # A daemon: a server that does not answer must not keep the process.
        thread = threading.Thread(target=guarded, name=f"logs of {self._ref}", daemon=True)
        self._threads.append(thread)
        thread.start()

    # -- taking the lines ----------------------------------------------------------------------------------------------

    def _pump(self) -> Iterator[bytes]:
        end = math.inf if self._duration_s is None else self._began + self._duration_s
        while self._monotonic() < end:
            yield from self._merger.take(self.pace.batch_s)
            if self._bug is not None:
                raise self._bug
            if self._readers and not self._opened and self._refused >= self._readers.keys():
                return
            if not self._follow and not any(thread.is_alive() for thread in self._threads):
                return
        for uid, reader in self._readers.items():
            if not reader.backlog_read and uid in self._heard:
                self._note(f"gap: {self._known[uid]['metadata']['name']}: the time was over before its log was read")

    def _halt(self) -> None:
        self.stop.set()
        self._merger.stop()
        end = time.monotonic() + JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _conclude(self) -> None:
        """Raise TelemetryError when there was no log at all."""
        if self._bug is not None:
            raise self._bug
        if self._opened:
            return
        ref, last = self._ref, self._last_error
        if last is not None:
            why = last.message
        elif self._known:
            why = f"no container of its {len(self._known)} pods has started"
        else:
            why = "it has no pods"
        raise TelemetryError(
            f"no log of {ref} could be read: {why}",
            hint=(last.hint if last is not None else None) or f"kubectl -n {ref.namespace} get pods tells more",
            retryable=True,
        )
