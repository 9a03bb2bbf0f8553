"""Following the logs of 100 pods: lines lost, processor time and memory of `mk observe --source k8s`.

The API server is one of ours, in a process of its own, over TLS on loopback: it serves what the kubelet would, at a fixed rate, and
breaks every connection after a while.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme

PODS = 100
LINES_PER_S = 1000
BREAK_S = (4.0, 12.0)
LOST_AT_MOST = 0.0
CORES_AT_MOST = 1.0
PEAK_MIB = 200.0


def measure_logs(mk: Sequence[str], seconds: float, say: Callable[[str], None]) -> dict[str, float]:
    """The figures by name. The job writes for so many seconds; half of the time more is for start and end."""
    with tempfile.TemporaryDirectory(prefix="mk-bench-logs-") as folder:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.logs", folder, str(seconds)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            server.stdout.readline()
            out = Path(folder, "out")
            command = [
                *mk, "observe", "--source", "k8s", "--k8s-namespace", "ml", "--k8s-deployment", "trainer", "--duration",
                f"{int(seconds) + 8}s", "--kubeconfig", str(Path(folder, "kubeconfig")), "--out", str(out),
            ]  # fmt: skip
            begin = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            wall = time.monotonic() - begin
            if status:
                raise subprocess.CalledProcessError(status, command)
            report = json.loads((out / "observe_latest.json").read_text())
        finally:
            server.terminate()
            told, _ = server.communicate()
    written, broken = map(int, told.split()[-2:])
    counts = report["ingest"]
    cores = (used.ru_utime + used.ru_stime) / wall
    peak = used.ru_maxrss / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0)
    say(
        f"pod logs      {written} lines of {PODS} pods at {LINES_PER_S} lines/s, {broken} connections broken: "
        f"{written - counts['lines']} lost or double (none), {cores:.2f} cores (at most {CORES_AT_MOST:.0f}), "
        f"{peak:.0f} MiB (at most {PEAK_MIB:.0f})"
    )
    for note in report["environment"]["notes"]:
        say(f"              {note}")
    return {"logs lost": float(abs(written - counts["lines"])), "logs cores": cores, "logs peak MiB": peak}


class Server:
    """What `mk observe` asks an API server for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lines: list[list[tuple[str, bytes]]] = [[] for _ in range(PODS)]
        self._writer: asyncio.Task[None] | None = None
        self.written = 0
        self.broken = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while request := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                url = urlsplit(request.split()[1].decode())
                parts = url.path.strip("/").split("/")
                if parts[-1] == "log":
                    await self._log(writer, int(parts[-2].removeprefix("p")), parse_qs(url.query))
                    continue
                body = json.dumps(self._object(parts)).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _log(self, writer: asyncio.StreamWriter, pod: int, query: dict[str, list[str]]) -> None:
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        since = query.get("sinceTime", [""])[0][:19]
        follow = "follow" in query
        end = time.monotonic() + random.uniform(*BREAK_S)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        lines, index = self._lines[pod], 0
        while True:
            data = b"".join(text for at, text in lines[index:] if at >= since)
            index = len(lines)
            if data:
                writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                await writer.drain()
            if not follow:
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                return
            if time.monotonic() > end:
                # In the middle of a line, and of a chunk.
                writer.write(b"ff\r\n2026")
                self.broken += 1
                raise ConnectionResetError
            await asyncio.sleep(0.01)

    async def _write(self) -> None:
        begin = time.monotonic()
        total = int(self._seconds * LINES_PER_S)
        while self.written < total:
            due = min(total, int((time.monotonic() - begin) * LINES_PER_S))
            for number in range(self.written, due):
                at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
                line = f'{at} {{"step": {number}, "step_time_ms": 400.5, "loss": 2.5, "throughput": 640.1}}\n'
                self._lines[number % PODS].append((at[:19], line.encode()))
            self.written = due
            await asyncio.sleep(0.01)

    def _object(self, parts: list[str]) -> dict[str, Any]:
        if parts[-2] == "deployments":
            return {
                "kind": "Deployment",
                "metadata": {"name": "trainer", "namespace": "ml", "uid": "d"},
                "spec": {
                    "selector": {"matchLabels": {"app": "trainer"}},
                    "template": {"spec": {"containers": [{"name": "trainer"}]}},
                },
            }
        if parts[-2] == "nodes":
            return {"kind": "Node", "metadata": {"name": parts[-1], "labels": {"nvidia.com/gpu.product": "H100"}}}
        if parts[-2] == "pods":
            return _pod(int(parts[-1].removeprefix("p")))
        return {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": [_pod(number) for number in range(PODS)]}


def _pod(number: int) -> dict[str, Any]:
    owner = {"kind": "ReplicaSet", "name": "trainer-5d4f8c7b9", "uid": "r", "controller": True}
    return {
        "kind": "Pod",
        "metadata": {"name": f"p{number}", "namespace": "ml", "uid": f"u{number}", "ownerReferences": [owner]},
        "spec": {"nodeName": f"node-{number % 8}", "containers": [{"name": "trainer"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "trainer", "restartCount": 0, "state": {"running": {}}}],
        },
    }


async def _main(folder: Path, seconds: float) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(folder / "ca.crt")
    served = Server(seconds)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
    address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "b", "cluster": {"server": address, "certificate-authority": str(folder / "ca.crt")}}],
        "users": [{"name": "b", "user": {"token": "none"}}],
        "contexts": [{"name": "b", "context": {"cluster": "b", "user": "b"}}],
        "current-context": "b",
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(15, stop.set)
    print("ready", flush=True)
    await stop.wait()
    print(served.written, served.broken, flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), float(sys.argv[2])))
