"""What kwok leaves out of a kubelet: logs with content, restarts of containers, and the demo trainer truly running.

kwok serves `pods/log` with the kubelet's own reader from files in the CRI format, so that `timestamps`, `sinceTime`,
`tailLines`, `limitBytes`, `previous` and `follow` are real. One thing isn't: a stream that follows does not end with its
container, it goes on with the next one's log.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Self

from gitops_mk.demo.volume import project
from tests.cluster.control_plane import KWOK_API, Cluster
from tests.cluster.kube import Json, Kube, KubeError, wait_for

TRAINER = "gitops_mk.demo.trainer"
IMAGE = "demo-trainer"
# As container runtimes split long lines.
_CHUNK = 16 * 1024
_STOP_S = 5.0
_BACK_OFF_S = 0.5
_WATCH_S = 1
_TICK = timedelta(microseconds=1)


def cri_lines(content: bytes, at: datetime, *, every: timedelta = _TICK, stream: str = "stdout") -> Iterator[bytes]:
    """Content as the lines of a CRI log: time, stream, `F` or, for a part of a line, `P`, and the text.

    The first line is of the time `at`, each further one `every` later. A last line without a newline stays a part.
    """
    for number, line in enumerate(io.BytesIO(content)):
        stamp = (at + number * every).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode()
        text = line.removesuffix(b"\n")
        parts = [text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK)] or [b""]
        for index, part in enumerate(parts, 1):
            tag = b"F" if index == len(parts) and line.endswith(b"\n") else b"P"
            yield b" ".join((stamp, stream.encode(), tag, part)) + b"\n"


class ContainerLog(NamedTuple):
    """The files of one container's log. Gone with the cluster."""

    current: Path
    previous: Path

    def rotate(self) -> None:
        """What is there becomes the log of the container before."""
        self.current.touch()
        self.current.rename(self.previous)
        self.current.touch()


def container_log(cluster: Cluster, pod: Json, container: str | None = None) -> ContainerLog:
    """The log of one of a pod's containers, the first one if none is named; from now on `pods/log` reads it.

    Raises ValueError when the pod has no such container.
    """
    meta = pod["metadata"]
    names = [one["name"] for part in ("containers", "initContainers") for one in pod["spec"].get(part, ())]
    if container is not None and container not in names:
        raise ValueError(f"the pod {meta['name']} has no container {container!r}, it has {', '.join(names)}")
    base = cluster.logs / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"
    if not base.exists():
        for name in names:
            (base / name).mkdir(parents=True, exist_ok=True)
            (base / name / "current.log").touch()
        owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        logs = [
            {
                "containers": [name],
                "logsFile": str(base / name / "current.log"),
                "previousLogsFile": str(base / name / "previous.log"),
            }
            for name in names
        ]
        found = {"name": meta["name"], "namespace": meta["namespace"], "ownerReferences": [owner]}
        # The owner takes it along when it goes.
        cluster.kube().apply({"apiVersion": KWOK_API, "kind": "Logs", "metadata": found, "spec": {"logs": logs}})
    folder = base / (container or names[0])
    return ContainerLog(folder / "current.log", folder / "previous.log")


def write_logs(
    cluster: Cluster,
    namespace: str,
    pod: str,
    content: bytes | str | Iterable[str],
    *,
    container: str | None = None,
    previous: bool = False,
    at: datetime | None = None,
    every: timedelta = _TICK,
    stream: str = "stdout",
) -> None:
    """Add to what a container has written: bytes, text, or lines to which a newline is added. Returns when it is served.

    The first line is written at the time `at` (now), each further one `every` later. With `previous` it goes to the log of
    the container before the last restart.
    """
    if not isinstance(content, bytes):
        text = content if isinstance(content, str) else "".join(f"{line}\n" for line in content)
        content = text.encode()
    kube = cluster.kube()
    found = kube.get("Pod", pod, namespace)
    name = container or found["spec"]["containers"][0]["name"]
    log = container_log(cluster, found, name)
    with (log.previous if previous else log.current).open("ab") as file:
        file.writelines(cri_lines(content, at or datetime.now(UTC), every=every, stream=stream))
    if content:
        _wait_served(kube, namespace, pod, name, previous)


def restart_container(
    cluster: Cluster,
    namespace: str,
    pod: str,
    container: str | None = None,
    *,
    exit_code: int = 1,
    reason: str = "Error",
) -> int:
    """A container ended and runs again: its log is the previous one, `restartCount` is one more. Gives the new count."""
    kube = cluster.kube()
    found = kube.get("Pod", pod, namespace)
    name = container or found["spec"]["containers"][0]["name"]
    container_log(cluster, found, name).rotate()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    statuses = found["status"]["containerStatuses"]
    status = next(one for one in statuses if one["name"] == name)
    began = status.get("state", {}).get("running", {}).get("startedAt", now)
    ended = {"exitCode": exit_code, "reason": reason, "startedAt": began, "finishedAt": now}
    status["lastState"] = {"terminated": ended}
    status["state"] = {"running": {"startedAt": now}}
    status["restartCount"] += 1
    # A merge patch replaces the whole list, which was read just now.
    kube.patch("Pod", pod, {"status": {"containerStatuses": statuses}}, namespace, subresource="status")
    count: int = status["restartCount"]
    return count


def _wait_served(kube: Kube, namespace: str, pod: str, container: str, previous: bool) -> None:
    def served() -> bool | None:
        # Before kwok has heard of the files it gives an empty log, or refuses the previous one.
        with suppress(KubeError):
            return bool(kube.log(namespace, pod, container=container, previous=previous, limitBytes=1)) or None
        return None

    wait_for(served, 15, f"the log of {namespace}/{pod}")


class PodRunner:
    """Runs the demo trainer for every running pod of a namespace whose container names it, as long as the context lasts.

    A container names it by its command (`python -m gitops_mk.demo.trainer`) or its image (`…/demo-trainer:…`). The pod's
    annotations are a local file in the Downward API's format, put in the place of the mounted one in the arguments and
    kept up to date; so is a folder for each ConfigMap that is mounted whole. What the trainer prints is the container's log. It is stopped with the pod, and started again, as a
    restart of the container, when it ends by itself. `labels` is a selector for the pods to look at.
    """

    def __init__(self, cluster: Cluster, namespace: str, *, labels: str = "") -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._labels = labels
        self._kube = cluster.kube()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"pods of {namespace}", daemon=True)
        self._running: dict[str, _Container] = {}
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for one in self._running.values():
            one.stop()

    @property
    def pids(self) -> dict[str, int]:
        """The process of each pod that runs now, by the pod's name."""
        return {one.pod: one.pid for one in list(self._running.values()) if one.pid}

    def wait_lines(self, pod: str, lines: int, timeout: float = 60.0) -> None:
        """Wait until a pod's trainer has written so many lines since its last start. TimeoutError after `timeout` seconds."""

        def done() -> bool | None:
            if self.failure is not None:
                raise self.failure
            found = next((one for one in list(self._running.values()) if one.pod == pod), None)
            return True if found is not None and found.lines >= lines else None

        wait_for(done, timeout, f"{lines} lines of {self._namespace}/{pod}")

    def _watch(self) -> None:
        try:
            while not self._stopping.is_set():
                # A list at every turn: no answer to a watch that grew too old is needed, and nothing is missed for long.
                self._look()
        except BaseException as exc:  # noqa: BLE001 - told to whoever waits
            self.failure = exc

    def _look(self) -> None:
        path = self._kube.resource("Pod").path(None, self._namespace)
        query: dict[str, str | int | bool] = {"labelSelector": self._labels}
        listed = self._kube.request("GET", path, query=query)
        pods = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
        for one in self._running.values():
            one.mount()
        for uid in [uid for uid in self._running if uid not in pods]:
            self._running.pop(uid).stop()
        for pod in pods.values():
            self._see(pod)
        query |= {"watch": True, "timeoutSeconds": _WATCH_S, "resourceVersion": listed["metadata"]["resourceVersion"]}
        with self._kube.open("GET", path, query=query) as answer:
            for line in iter(answer.readline, b""):
                event = json.loads(line)
                if event["type"] == "ERROR" or self._stopping.is_set():
                    return
                self._see(event["object"], gone=event["type"] == "DELETED")

    def _see(self, pod: Json, *, gone: bool = False) -> None:
        meta = pod["metadata"]
        uid: str = meta["uid"]
        running = self._running.get(uid)
        if gone or "deletionTimestamp" in meta:
            if running is not None:
                self._running.pop(uid).stop()
        elif running is not None:
            running.annotate(meta.get("annotations", {}))
        elif pod.get("status", {}).get("phase") == "Running":
            container = next((one for one in pod["spec"]["containers"] if _is_trainer(one)), None)
            if container is not None:
                self._running[uid] = _Container(self._cluster, pod, container)


class _Container:
    """The trainer of one pod, in a thread that starts it, writes its log, and starts it again."""

    def __init__(self, cluster: Cluster, pod: Json, container: Json) -> None:
        self.pod: str = pod["metadata"]["name"]
        self.lines = 0
        self._namespace: str = pod["metadata"]["namespace"]
        self._name: str = container["name"]
        self._cluster = cluster
        self._log = container_log(cluster, pod, self._name)
        self._annotations = self._log.current.with_name("annotations")
        self._written: Mapping[str, str] | None = None
        self.annotate(pod["metadata"].get("annotations", {}))
        folder = self._log.current.parent
        self._mounts = {path: (name, folder / f"configmap-{name}") for path, name in _mounted_maps(pod, container)}
        self._mounted: dict[str, Mapping[str, str]] = {}
        self.mount()
        self._argv = _argv(
            pod, container, self._annotations, {path: str(there) for path, (_, there) in self._mounts.items()}
        )
        self._env = {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}
        for one in container.get("env", ()):
            if one.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath") == "spec.nodeName":
                self._env[one["name"]] = pod["spec"]["nodeName"]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.pod, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Its process while it runs."""
        process = self._process
        return None if process is None else process.pid

    def annotate(self, annotations: Mapping[str, str]) -> None:
        """Replace the file of annotations when they are others."""
        if annotations != self._written:
            self._written = dict(annotations)
            scratch = self._annotations.with_suffix(".new")
            # JSON's quotes and escapes are among Go's.
            text = "".join(f"{k}={json.dumps(v, ensure_ascii=False)}\n" for k, v in sorted(annotations.items()))
            scratch.write_text(text, encoding="utf-8")
            scratch.rename(self._annotations)

    def mount(self) -> None:
        """Bring mounted ConfigMaps up to date; a kubelet takes up to a minute and a half for it."""
        for name, folder in self._mounts.values():
            found = self._cluster.kube().find("ConfigMap", name, self._namespace)
            if found is not None and found.get("data", {}) != self._mounted.get(name):
                self._mounted[name] = found.get("data", {})
                project(folder, self._mounted[name])

    def stop(self) -> None:
        """SIGTERM, after a while SIGKILL, as the kubelet does."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        self._thread.join(_STOP_S)
        self._signal(signal.SIGKILL)
        self._thread.join()

    def _signal(self, number: int) -> None:
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                # Its loaders are in its group.
                os.killpg(process.pid, number)

    def _run(self) -> None:
        while not self._stopping.is_set():
            status = self._once()
            if self._stopping.wait(_BACK_OFF_S):
                return
            with suppress(KubeError):
                reason = "Error" if status else "Completed"
                restart_container(self._cluster, self._namespace, self.pod, self._name, exit_code=status, reason=reason)

    def _once(self) -> int:
        env = {**os.environ, **self._env, "PYTHONUNBUFFERED": "1"}
        self.lines = 0
        with subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        ) as process:
            self._process = process
            if self._stopping.is_set():
                self._signal(signal.SIGTERM)
            assert process.stdout is not None
            for line in process.stdout:
                with self._log.current.open("ab") as file:
                    file.writelines(cri_lines(line, datetime.now(UTC)))
                self.lines += 1
            status = process.wait()
            self._process = None
        # As a shell and the kubelet count signals.
        return status if status >= 0 else 128 - status


def _is_trainer(container: Json) -> bool:
    words = [*container.get("command", ()), *container.get("args", ())]
    return TRAINER in words or PurePosixPath(container["image"]).name.partition(":")[0] == IMAGE


def _argv(pod: Json, container: Json, annotations: Path, folders: Mapping[str, str]) -> list[str]:
    command = [*container.get("command", ())] or [sys.executable, "-m", TRAINER]
    if PurePosixPath(command[0]).name.startswith("python"):
        command[0] = sys.executable
    here = str(annotations)
    mounted = set(_mounted_annotations(pod, container))
    words = [*command, *container.get("args", ())]
    return [_replaced(word, lambda path: here if path in mounted else folders.get(path, path)) for word in words]


def _replaced(word: str, place: Callable[[str], str]) -> str:
    option, equals, path = word.partition("=")
    return f"{option}={place(path)}" if equals and option.startswith("--") else place(word)


def _mounted_maps(pod: Json, container: Json) -> Iterator[tuple[str, str]]:
    """Where the container has ConfigMaps mounted whole, and their names."""
    volumes: dict[str, Any] = {
        one["name"]: one.get("configMap", {}).get("name") for one in pod["spec"].get("volumes", ())
    }
    for mount in container.get("volumeMounts", ()):
        name = volumes.get(mount["name"])
        if name is not None and "subPath" not in mount:
            yield mount["mountPath"], name


def _mounted_annotations(pod: Json, container: Json) -> Iterator[str]:
    """Where the container finds the pod's annotations as a file."""
    volumes: dict[str, Any] = {one["name"]: one.get("downwardAPI", {}) for one in pod["spec"].get("volumes", ())}
    for mount in container.get("volumeMounts", ()):
        for item in volumes.get(mount["name"], {}).get("items", ()):
            if item.get("fieldRef", {}).get("fieldPath") == "metadata.annotations":
                yield str(PurePosixPath(mount["mountPath"]) / item["path"])
