"""A real control plane on loopback: etcd, kube-apiserver, controller-manager, scheduler, and kwok as kubelet and nodes."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.build import CONTROL_PLANE, binaries
from tests.cluster.certificates import Keys, write_kubeconfig
from tests.cluster.kube import Kube, KubeError
from tests.cluster.process import Components, PortTakenError, free_port, listening, memory

FACTS = "cluster.json"
_ATTEMPTS = 3
_START_S = 60.0
KWOK_API = "kwok.x-k8s.io/v1alpha1"
_DEFAULT_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"
_Issue = Callable[..., Path]

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True, slots=True)
class Node:
    """A node that kwok plays."""

    name: str
    instance_type: str
    gpu: str | None = None
    gpus: int = 8
    labels: Mapping[str, str] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        """The object, as its kubelet would register it."""
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "node.kubernetes.io/instance-type": self.instance_type,
            "topology.kubernetes.io/zone": "zone-a",
        }
        resources = {"cpu": "96", "memory": "1Ti", "pods": "250"}
        if self.gpu is not None:
            labels |= {"nvidia.com/gpu.product": self.gpu, "nvidia.com/gpu.count": str(self.gpus)}
            resources["nvidia.com/gpu"] = str(self.gpus)
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {**labels, **self.labels}},
            "status": {"allocatable": resources, "capacity": resources},
        }


NODES = (
    Node("node-h100", "p5.48xlarge", "NVIDIA-H100-80GB-HBM3"),
    Node("node-a100", "p4d.24xlarge", "NVIDIA-A100-SXM4-40GB"),
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: what one needs to use it. Anyone on this machine can load it from its folder."""

    folder: Path
    server: str
    ca: Path
    cert: Path
    key: Path
    kubeconfig: Path
    audit_log: Path
    logs: Path
    started_s: float
    nodes: tuple[str, ...]
    programs: Mapping[str, Path]
    pids: Mapping[str, int]

    @classmethod
    def load(cls, folder: Path) -> Cluster:
        """The cluster whose facts stand in a folder. Raises FileNotFoundError when there are none."""
        facts = json.loads((folder / FACTS).read_text())
        for name in ("folder", "ca", "cert", "key", "kubeconfig", "audit_log", "logs"):
            facts[name] = Path(facts[name])
        facts["nodes"] = tuple(facts["nodes"])
        facts["programs"] = {name: Path(path) for name, path in facts["programs"].items()}
        return cls(**facts)

    def save(self) -> None:
        """Write the facts to its folder, whole or not at all."""
        scratch = self.folder / f".{FACTS}"
        scratch.write_text(json.dumps(asdict(self), default=str, indent=1))
        scratch.rename(self.folder / FACTS)

    def kube(self, service_account: str | None = None) -> Kube:
        """A client: of the admin, or of a service account, `NAMESPACE/NAME`."""
        if service_account is None:
            return Kube(self.server, self.ca, cert=self.cert, key=self.key)
        return Kube(self.server, self.ca, token=self._token(service_account))

    def kubeconfig_for(self, service_account: str, *, seconds: int = 3600) -> Path:
        """A new kubeconfig file with a bearer token of a service account, `NAMESPACE/NAME`, good for so many seconds."""
        namespace, name = service_account.split("/")
        handle, path = tempfile.mkstemp(prefix=f"{namespace}-{name}-", suffix=".kubeconfig", dir=self.folder)
        os.close(handle)
        token = self._token(service_account, seconds)
        return write_kubeconfig(Path(path), self.server, self.ca, token=token, namespace=namespace)

    def kubectl(
        self, *args: str, kubeconfig: Path | None = None, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, as the admin unless another kubeconfig is given. With `check`, a failure raises AssertionError."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": str(kubeconfig or self.kubeconfig)}
        argv = [str(self.programs["kubectl"]), *args]
        done = subprocess.run(argv, env=env, input=stdin, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def memory(self) -> dict[str, int]:
        """Resident bytes of each component."""
        return {name: memory(pid) for name, pid in self.pids.items()}

    def _token(self, service_account: str, seconds: int = 3600) -> str:
        namespace, name = service_account.split("/")
        return self.kube().token(namespace, name, seconds)


@contextmanager
def started(*, nodes: Sequence[Node] = NODES, folder: Path | None = None) -> Iterator[Cluster]:
    """A cluster of one's own, for as long as the context lasts; to be entered in the main thread.

    `folder` is where all its files go; it is made, and removed at the end. Raises Unavailable when the programs can't be
    had, StartError when one doesn't start.
    """
    programs = binaries(*CONTROL_PLANE)
    base = folder or Path(tempfile.mkdtemp(prefix="mk-cluster-"))
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            home = base / str(attempt)
            home.mkdir(parents=True)
            with Components(home) as components:
                try:
                    cluster = _start(base, home, programs, components, nodes)
                except PortTakenError:
                    if attempt == _ATTEMPTS:
                        raise
                    continue
                cluster.save()
                yield cluster
                return
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _start(
    base: Path, home: Path, programs: Mapping[str, Path], components: Components, nodes: Sequence[Node]
) -> Cluster:
    began = time.monotonic()
    keys = Keys(home / "keys")
    admin = keys.issue("admin", user="admin", group="system:masters")
    api_port, node_port = free_port(), free_port()
    server = f"https://127.0.0.1:{api_port}"
    audit_log = home / "audit.jsonl"
    sa_private = _start_api(home, programs, components, keys, api_port, audit_log)

    kube = Kube(server, keys.ca, cert=admin[0], key=admin[1])
    components.wait_until(lambda: _ok(kube, "/readyz"), "answer of kube-apiserver", _START_S)
    config = write_kubeconfig(home / "admin.kubeconfig", server, keys.ca, client=admin)

    def kubeconfig(user: str, group: str | None = None) -> Path:
        client = keys.issue(user.replace(":", "-"), user=user, group=group)
        return write_kubeconfig(home / f"{user.replace(':', '-')}.kubeconfig", server, keys.ca, client=client)

    _start_controllers(programs, components, kubeconfig, keys.ca, sa_private)
    logs = home / "logs"
    logs.mkdir()
    _serve_logs(kube, logs)
    for node in nodes:
        kube.request("POST", "/api/v1/nodes", node.manifest())
    _start_kwok(programs, components, kubeconfig("kwok", "system:masters"), keys, node_port)

    components.wait_until(lambda: _all_ready(kube, len(nodes)), "ready nodes", _START_S)
    components.wait_until(lambda: _ok(kube, _DEFAULT_ACCOUNT), "service account from kube-controller-manager", _START_S)
    components.wait_until(lambda: listening(node_port), "port of kwok", _START_S)
    return Cluster(
        folder=base,
        server=server,
        ca=keys.ca,
        cert=admin[0],
        key=admin[1],
        kubeconfig=config,
        audit_log=audit_log,
        logs=logs,
        started_s=round(time.monotonic() - began, 2),
        nodes=tuple(node.name for node in nodes),
        programs=programs,
        pids={name: one.pid for name, one in components.running.items()},
    )


def _start_api(
    home: Path, programs: Mapping[str, Path], components: Components, keys: Keys, port: int, audit_log: Path
) -> Path:
    """Start etcd and, without waiting for it, kube-apiserver. Gives the key that service-account tokens are signed with."""
    etcd = f"http://127.0.0.1:{free_port()}"
    components.start(
        "etcd",
        [
            programs["etcd"],
            f"--data-dir={home / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            # There is one member: nobody ever calls it here.
            "--listen-peer-urls=http://127.0.0.1:0",
            "--log-level=warn",
            # What is lost with the machine is not missed.
            "--unsafe-no-fsync",
        ],
    )
    policy = home / "audit-policy.json"
    policy.write_text(json.dumps(_AUDIT_POLICY))
    serving, kubelet = keys.issue("apiserver"), keys.issue("kubelet-client", user="apiserver", group="system:masters")
    private, public = keys.service_account_pair()
    components.start(
        "kube-apiserver",
        [
            programs["kube-apiserver"],
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={serving[0]}",
            f"--tls-private-key-file={serving[1]}",
            f"--client-ca-file={keys.ca}",
            f"--etcd-servers={etcd}",
            "--authorization-mode=RBAC",
            f"--kubelet-certificate-authority={keys.ca}",
            f"--kubelet-client-certificate={kubelet[0]}",
            f"--kubelet-client-key={kubelet[1]}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={private}",
            f"--service-account-key-file={public}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={audit_log}",
            "--audit-log-mode=blocking-strict",
            "--audit-log-maxsize=0",
            # No other server and no pod is to find this one.
            "--endpoint-reconciler-type=none",
            # Nodes come ready; a taint would only cost the time until it is taken off.
            "--disable-admission-plugins=TaintNodesByCondition",
            "--profiling=false",
        ],
    )
    return private


def _start_controllers(
    programs: Mapping[str, Path], components: Components, kubeconfig: _Issue, ca: Path, sa_private: Path
) -> None:
    # Neither serves anything: a port less to collide.
    manager = kubeconfig("system:kube-controller-manager", "system:masters")
    components.start(
        "kube-controller-manager",
        [
            programs["kube-controller-manager"],
            f"--kubeconfig={manager}",
            f"--service-account-private-key-file={sa_private}",
            f"--root-ca-file={ca}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ],
    )
    components.start(
        "kube-scheduler",
        [
            programs["kube-scheduler"],
            f"--kubeconfig={kubeconfig('system:kube-scheduler')}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ],
    )


def _start_kwok(programs: Mapping[str, Path], components: Components, kubeconfig: Path, keys: Keys, port: int) -> None:
    serving = keys.issue("kwok")
    components.start(
        "kwok",
        [
            programs["kwok"],
            f"--kubeconfig={kubeconfig}",
            "--manage-all-nodes=true",
            "--node-ip=127.0.0.1",
            f"--node-port={port}",
            f"--server-address=127.0.0.1:{port}",
            f"--tls-cert-file={serving[0]}",
            f"--tls-private-key-file={serving[1]}",
            "--node-lease-duration-seconds=40",
            "--enable-crds=Logs,ClusterLogs",
        ],
    )


def _serve_logs(kube: Kube, logs: Path) -> None:
    """Teach the API server kwok's two kinds for logs, and give every pod an empty log until it has one of its own."""
    for kind, plural, scope in (("Logs", "logs", "Namespaced"), ("ClusterLogs", "clusterlogs", "Cluster")):
        kube.request(
            "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", _definition(kind, plural, scope)
        )
    empty = logs / "empty.log"
    empty.touch()
    spec = {"logs": [{"logsFile": str(empty)}]}
    kube.resource("ClusterLogs", timeout=15)
    kube.apply({"apiVersion": KWOK_API, "kind": "ClusterLogs", "metadata": {"name": "empty"}, "spec": spec})


def _definition(kind: str, plural: str, scope: str) -> dict[str, Any]:
    group, version = KWOK_API.split("/")
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": plural, "listKind": f"{kind}List"},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
            ],
        },
    }


def _ok(kube: Kube, path: str) -> bool:
    try:
        with kube.open("GET", path, accept="*/*", timeout=5) as answer:
            answer.read()
    except (OSError, KubeError, http.client.HTTPException):
        return False
    return True


def _all_ready(kube: Kube, count: int) -> bool:
    nodes = kube.request("GET", "/api/v1/nodes")["items"]
    ready = [
        node
        for node in nodes
        if not node["spec"].get("taints")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))
    ]
    return len(ready) >= count
