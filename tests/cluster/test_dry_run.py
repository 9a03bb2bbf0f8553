"""What a real API server says to dry-runs: each way of saying no is told apart, and what a merge changes is exactly the difference."""

from __future__ import annotations

import base64
import http.client as http_client
import json
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gitops_mk.adapters.cluster.client import HttpCluster
from gitops_mk.controller.consult import ask
from gitops_mk.core.dryrun import Compared, compare, unplanned
from gitops_mk.core.live import foreign_owner
from gitops_mk.core.places import OBJECT, TEMPLATE
from gitops_mk.core.refusals import GITOPS_MANAGERS, conflicts, explain
from gitops_mk.model.cluster import ClusterWord, DryRun, Refusal
from gitops_mk.model.knob import annotation_key
from gitops_mk.model.workload import WorkloadRef
from gitops_mk.wiring import open_cluster
from tests.cluster.certificates import Keys
from tests.cluster.control_plane import Cluster
from tests.cluster.kube import Json, Kube, KubeError, wait_for

WORKERS = "dataloader_num_workers"
ADMISSION = "admissionregistration.k8s.io/v1"
Answer = Callable[[Json], Json]


def deployment(workers: int | None = 2, *, replicas: int | None = 1, **spec: Any) -> Json:
    knobs = {} if workers is None else {annotation_key(WORKERS): str(workers)}
    labels = {"app": "trainer"}
    body: Json = {
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels, "annotations": knobs},
            "spec": {"containers": [{"name": "trainer", "image": "example.invalid/trainer:1"}]},
        },
    }
    if replicas is not None:
        body["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "trainer", "annotations": knobs},
        "spec": {**body, **spec},
    }


@pytest.fixture
def http(cluster: Cluster) -> HttpCluster:
    return open_cluster(str(cluster.kubeconfig))


@pytest.fixture
def ref(namespace: str) -> WorkloadRef:
    return WorkloadRef(namespace=namespace, kind="Deployment", name="trainer")


def asked(http: HttpCluster, ref: WorkloadRef, base: Json, head: Json) -> ClusterWord:
    return ask(http, ref, json.dumps(base).encode(), json.dumps(head).encode())


def tried(http: HttpCluster, ref: WorkloadRef, base: Json, head: Json) -> Compared:
    word = asked(http, ref, base, head)
    assert not word.error
    assert word.can_patch
    return compare(word.base, word.head, managers=GITOPS_MANAGERS)


def applied(kube: Kube, namespace: str, manifest: Json, manager: str) -> Json:
    """Apply it, and wait until no controller has anything left to write about it."""
    kube.apply(manifest, namespace, manager=manager)
    return kube.wait_rollout("trainer", namespace)


def refused(http: HttpCluster, ref: WorkloadRef, document: Json, kind: str = "Deployment") -> DryRun:
    """One document, tried alone."""
    name = document["metadata"]["name"]
    told = explain(http.dry_run_apply(kind, ref.namespace, name, json.dumps(document).encode(), force=False), "server")
    assert told.ok is False, told
    assert told.remedy
    return told


# -- schema, names and rights ------------------------------------------------------------------------------------------


def test_schema(http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef) -> None:
    told = refused(http, ref, deployment(foo=1))
    assert (told.refusal, told.status) == (Refusal.SCHEMA, 500)
    assert ".spec.foo: field not declared in schema" in told.message
    numbers = deployment()
    numbers["spec"]["template"]["metadata"]["annotations"]["modekeeper/knob.timeout_ms"] = 60_000
    told = refused(http, ref, numbers)
    assert (told.refusal, told.status) == (Refusal.SCHEMA, 500)
    assert "timeout_ms: expected string" in told.message
    assert refused(http, ref, deployment(replicas="two")).refusal is Refusal.SCHEMA  # type: ignore[arg-type]
    probing = deployment()
    probing["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] = {
        "exec": {"command": ["true"]},
        "timeoutSeconds": -1,
    }
    told = refused(http, ref, probing)
    assert (told.refusal, told.status, told.reason) == (Refusal.SCHEMA, 422, "Invalid")
    applied(kube, namespace, deployment(), "kustomize-controller")
    other = deployment(selector={"matchLabels": {"app": "other"}})
    other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    compared = tried(http, ref, deployment(), other)
    assert compared.head.refusal is Refusal.SCHEMA
    assert compared.head.message.startswith("head: ")
    assert "field is immutable" in compared.head.message
    assert compared.differences == ()


def test_no_such_namespace_or_kind(http: HttpCluster, kube: Kube, ref: WorkloadRef) -> None:
    nowhere = ref.model_copy(update={"namespace": f"no-{uuid.uuid4().hex[:10]}"})
    told = refused(http, nowhere, deployment())
    assert (told.refusal, told.status) == (Refusal.NAMESPACE_MISSING, 404)
    assert asked(http, nowhere, deployment(), deployment(4)).namespace_exists is False
    job = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": "trainer"}}
    told = refused(http, ref, job, "JobSet")
    assert (told.refusal, told.status) == (Refusal.KIND_MISSING, 404)


def test_a_namespace_that_goes(http: HttpCluster, kube: Kube, ref: WorkloadRef) -> None:
    going = ref.model_copy(update={"namespace": f"t-{uuid.uuid4().hex[:10]}"})
    finalizer = "example.invalid/hold"
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": going.namespace}})
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": [finalizer]}}
    kube.create(held, going.namespace)
    try:
        kube.delete("Namespace", going.namespace)
        told = refused(http, going, deployment())
        assert (told.refusal, told.status) == (Refusal.NAMESPACE_MISSING, 403)
        assert "is being terminated" in told.message
    finally:
        kube.patch("ConfigMap", "held", {"metadata": {"finalizers": None}}, going.namespace)


def test_a_quota(http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef) -> None:
    spec = {"hard": {"count/deployments.apps": "0"}}
    kube.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": spec}, namespace)
    told = until_refused(http, ref, deployment())
    assert (told.refusal, told.status) == (Refusal.ADMISSION, 403)
    assert "exceeded quota: none" in told.message


def test_rights(cluster: Cluster, kube: Kube, namespace: str, ref: WorkloadRef) -> None:
    kube.apply(deployment(), namespace)
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]
    kube.service_account(namespace, "reader", rules=rules)
    reader = open_cluster(str(cluster.kubeconfig_for(f"{namespace}/reader")))
    told = refused(reader, ref, deployment(4))
    assert (told.refusal, told.status, told.by) == (Refusal.RBAC, 403, None)
    assert 'cannot patch resource "deployments"' in told.message
    word = asked(reader, ref, deployment(), deployment(4))
    assert (word.can_get, word.can_patch, word.base, word.head) == (True, False, None, None)
    assert compare(word.base, word.head, managers=GITOPS_MANAGERS).head.attempted is False


# -- admission ---------------------------------------------------------------------------------------------------------


def until_refused(http: HttpCluster, ref: WorkloadRef, document: Json) -> DryRun:
    """Try until the server has learnt of a policy that was just made."""

    def once() -> DryRun | None:
        name = document["metadata"]["name"]
        answer = http.dry_run_apply("Deployment", ref.namespace, name, json.dumps(document).encode(), force=True)
        told = explain(answer, "server")
        return None if told.ok else told

    return wait_for(once, 30, "a refusal")


@contextmanager
def made(kube: Kube, *objects: Json) -> Iterator[None]:
    """Objects of the whole cluster, for as long as the context lasts."""
    try:
        for one in objects:
            kube.create(one)
        yield
    finally:
        for one in objects:
            kube.delete(one["kind"], one["metadata"]["name"])


def only_in(namespace: str) -> Json:
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


RULES = {
    "apiGroups": ["apps"],
    "apiVersions": ["v1"],
    "operations": ["CREATE", "UPDATE"],
    "resources": ["deployments"],
}


@pytest.mark.parametrize(("reason", "status"), [("Invalid", 422), ("Forbidden", 403)])
def test_a_policy(http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef, reason: str, status: int) -> None:
    name = f"limit-{namespace}"
    said = "a trainer cannot patch resources, timeout or not"
    rule = {"expression": "object.spec.replicas < 5", "message": said, "reason": reason}
    policy = {
        "apiVersion": ADMISSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"namespaceSelector": only_in(namespace), "resourceRules": [RULES]},
            "validations": [rule],
        },
    }
    binding = {
        "apiVersion": ADMISSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    applied(kube, namespace, deployment(), "argocd-controller")
    with made(kube, policy, binding):
        told = until_refused(http, ref, deployment(replicas=5))
        compared = tried(http, ref, deployment(), deployment(4, replicas=5))
    assert (told.refusal, told.by, told.status) == (Refusal.ADMISSION, name, status)
    assert said in told.message
    assert (compared.head.refusal, compared.head.by) == (Refusal.ADMISSION, name)


class Webhook:
    """An admission webhook on loopback. `answer` makes its response of a request; None: it is silent until it ends."""

    def __init__(self, folder: Path) -> None:
        keys = Keys(folder / "keys")
        cert, key = keys.issue("webhook")
        self._bundle = base64.b64encode(keys.ca.read_bytes()).decode()
        self.answer: Answer | None = lambda _: {"allowed": True}
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.answer is None:
                    outer.over.wait(30)
                    return
                response = {"uid": review["request"]["uid"], **outer.answer(review["request"])}
                body = json.dumps({**review, "response": response}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server has
                """Not a word."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """The API server hangs up on who is silent."""

        self._server = Server(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(cert, key)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def configuration(self, kind: str, namespace: str, *, effects: str = "None", seconds: int = 10) -> Json:
        """It, registered for the Deployments of one namespace."""
        name = f"hook.{namespace}.example.invalid"
        return {
            "apiVersion": ADMISSION,
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [
                {
                    "name": name,
                    "clientConfig": {
                        "url": f"https://127.0.0.1:{self._server.server_address[1]}/",
                        "caBundle": self._bundle,
                    },
                    "rules": [RULES],
                    "namespaceSelector": only_in(namespace),
                    "sideEffects": effects,
                    "timeoutSeconds": seconds,
                    "failurePolicy": "Fail",
                    "admissionReviewVersions": ["v1"],
                }
            ],
        }

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    hook = Webhook(tmp_path)
    yield hook
    hook.close()


def test_a_webhook_that_denies(
    http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef, webhook: Webhook
) -> None:
    said = "timeout too long: you cannot patch resource names, ask the owners"
    webhook.answer = lambda _: {"allowed": False, "status": {"code": 403, "message": said}}
    configuration = webhook.configuration("Validating", namespace)
    with made(kube, configuration):
        told = until_refused(http, ref, deployment())
    assert (told.refusal, told.by, told.status) == (Refusal.ADMISSION, configuration["metadata"]["name"], 403)
    assert said in told.message


def test_a_webhook_with_side_effects(
    http: HttpCluster, kube: Kube, cluster: Cluster, namespace: str, ref: WorkloadRef, webhook: Webhook
) -> None:
    configuration = webhook.configuration("Validating", namespace, effects="Some")
    name = configuration["metadata"]["name"]
    with pytest.raises(KubeError, match="sideEffects: Unsupported value"):
        kube.create(configuration)
    # A server of today takes none of them any more, and keeps those that it took in its youth.
    configuration["metadata"] |= {
        "uid": str(uuid.uuid4()),
        "creationTimestamp": "2019-09-18T00:00:00Z",
        "generation": 1,
    }
    key = f"/registry/validatingwebhookconfigurations/{name}"
    store(cluster, key, configuration)
    try:
        told = until_refused(http, ref, deployment())
        assert (told.refusal, told.by, told.status) == (Refusal.WEBHOOK_NO_DRY_RUN, name, 400)
        assert tried(http, ref, deployment(), deployment(4)).head.refusal is Refusal.WEBHOOK_NO_DRY_RUN
    finally:
        kube.delete("ValidatingWebhookConfiguration", name)


def store(cluster: Cluster, key: str, value: Json) -> None:
    """Put an object into etcd, past the API server."""
    arguments = Path(f"/proc/{cluster.pids['etcd']}/cmdline").read_text().split("\0")
    (address,) = (one.partition("=")[2] for one in arguments if one.startswith("--advertise-client-urls="))
    body = {"key": key, "value": json.dumps(value)}
    data = json.dumps({name: base64.b64encode(text.encode()).decode() for name, text in body.items()})
    connection = http_client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        connection.request("POST", "/v3/kv/put", data, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
    finally:
        connection.close()


def test_a_webhook_that_is_silent(
    http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef, webhook: Webhook
) -> None:
    webhook.answer = None
    configuration = webhook.configuration("Validating", namespace, seconds=1)
    with made(kube, configuration):
        told = until_refused(http, ref, deployment())
    assert (told.refusal, told.by, told.status) == (Refusal.TIMEOUT, configuration["metadata"]["name"], 500)


def test_a_webhook_that_is_gone(
    http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef, webhook: Webhook
) -> None:
    configuration = webhook.configuration("Validating", namespace)
    webhook.close()
    with made(kube, configuration):
        told = until_refused(http, ref, deployment())
    assert (told.refusal, told.by, told.status) == (Refusal.ADMISSION, configuration["metadata"]["name"], 500)
    assert "timeout=10s" in told.message
    assert "connection refused" in told.message


NOTE = "example.invalid/injected"


def injecting(webhook: Webhook, value: Callable[[int], str]) -> None:
    """Let it add an annotation to whatever it sees; `value` gives it, of the number of calls so far."""
    calls = iter(range(10_000))

    def answer(request: Json) -> Json:
        noted = {**request["object"]["metadata"].get("annotations", {}), NOTE: value(next(calls))}
        patch = [{"op": "add", "path": "/metadata/annotations", "value": noted}]
        return {
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }

    webhook.answer = answer


def until_injected(http: HttpCluster, ref: WorkloadRef) -> None:
    def once() -> bool | None:
        answer = http.dry_run_apply(
            "Deployment", ref.namespace, ref.name, json.dumps(deployment()).encode(), force=True
        )
        return True if NOTE in answer.body["metadata"]["annotations"] else None

    wait_for(once, 30, "the webhook's work")


def test_what_a_webhook_adds_to_both_cancels_out(
    http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef, webhook: Webhook
) -> None:
    applied(kube, namespace, deployment(), "kustomize-controller")
    injecting(webhook, lambda _: "same")
    with made(kube, webhook.configuration("Mutating", namespace)):
        until_injected(http, ref)
        compared = tried(http, ref, deployment(), deployment(4))
        assert compared.head.ok
        assert moved(compared) == PLANNED
        # What differs from call to call is told: nobody can say whether a merge would be the cause.
        injecting(webhook, str)
        compared = tried(http, ref, deployment(), deployment(4))
        stray = unplanned(compared.differences, (OBJECT, TEMPLATE), {WORKERS: 4})
        assert stray is not None
        assert stray.path == (*OBJECT, NOTE)


# -- field managers ----------------------------------------------------------------------------------------------------

KEY = annotation_key(WORKERS)
PLANNED = {(*OBJECT, KEY): ('"2"', '"4"'), (*TEMPLATE, KEY): ('"2"', '"4"')}


def moved(compared: Compared) -> dict[tuple[str | int, ...], tuple[str | None, str | None]]:
    return {one.path: (one.before, one.after) for one in compared.differences}


@pytest.mark.parametrize("manager", ["argocd-controller", "kustomize-controller", "kubectl"])
def test_exactly_the_planned_leaves(
    http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef, manager: str
) -> None:
    before = applied(kube, namespace, deployment(), manager)
    word = asked(http, ref, deployment(), deployment(4))
    assert word.live is not None
    assert (word.namespace_exists, word.can_get, word.can_patch) == (True, True, True)
    assert word.head is not None
    assert word.head.plain is not None
    # Whoever applied it owns the values: force is needed, and in order.
    assert {one.manager for one in conflicts(word.head.plain)} == {manager}
    compared = compare(word.base, word.head, managers=GITOPS_MANAGERS)
    assert compared.head.ok
    assert moved(compared) == PLANNED
    after = kube.get("Deployment", "trainer", namespace)
    assert (after["spec"], after["metadata"]["annotations"][KEY]) == (before["spec"], "2")


def test_a_workload_that_is_not_there_yet(http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef) -> None:
    word = asked(http, ref, deployment(), deployment(4))
    assert word.live is None
    compared = compare(word.base, word.head, managers=GITOPS_MANAGERS)
    assert (compared.head.ok, compared.head.status) == (True, 201)
    assert moved(compared) == PLANNED
    assert kube.find("Deployment", "trainer", namespace) is None


def test_the_first_knob(http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef) -> None:
    applied(kube, namespace, deployment(None), "argocd-controller")
    compared = tried(http, ref, deployment(None), deployment(4))
    assert compared.head.ok
    assert moved(compared) == {path: (None, after) for path, (_, after) in PLANNED.items()}
    assert unplanned(compared.differences, (OBJECT, TEMPLATE), {WORKERS: 4}) is None


def test_another_manager_on_the_knob(http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef) -> None:
    applied(kube, namespace, deployment(), "argocd-controller")
    annotations = {"metadata": {"annotations": {KEY: "2"}}}
    tuning = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "trainer"},
        "spec": {"template": annotations},
    }
    kube.apply(tuning, namespace, manager="tuner")
    compared = tried(http, ref, deployment(), deployment(4))
    assert (compared.head.ok, compared.head.refusal, compared.head.by) == (False, Refusal.FIELD_CONFLICT, "tuner")
    assert KEY in compared.head.message
    live = kube.get("Deployment", "trainer", namespace)
    owner = foreign_owner(live, [WORKERS])
    assert owner is not None
    assert "owned by tuner" in owner.message
    # Where the configuration trusts it, it is one of those that apply what stands in Git.
    word = asked(http, ref, deployment(), deployment(4))
    assert compare(word.base, word.head, managers=GITOPS_MANAGERS | {"tuner"}).head.ok
    assert foreign_owner(live, [WORKERS], ("tuner",)) is None


def test_another_manager_on_the_replicas(cluster: Cluster, kube: Kube, namespace: str, ref: WorkloadRef) -> None:
    http = open_cluster(str(cluster.kubeconfig))
    applied(kube, namespace, deployment(), "argocd-controller")
    path = kube.resource("Deployment").path("trainer", namespace) + "/scale"
    kube.request(
        "PATCH", path, {"spec": {"replicas": 3}}, query={"fieldManager": "kube-controller-manager"},
        content_type="application/merge-patch+json",
    )  # fmt: skip
    word = asked(http, ref, deployment(), deployment(4))
    assert word.base is not None
    assert word.base.plain is not None
    (taken,) = conflicts(word.base.plain)
    assert taken == ("kube-controller-manager", ".spec.replicas")
    compared = compare(word.base, word.head, managers=GITOPS_MANAGERS)
    assert compared.head.ok
    assert moved(compared) == PLANNED
    assert foreign_owner(kube.get("Deployment", "trainer", namespace), [WORKERS]) is None


def test_an_object_that_nobody_owns(http: HttpCluster, kube: Kube, namespace: str, ref: WorkloadRef) -> None:
    applied(kube, namespace, deployment(), "tests")
    kube.patch("Deployment", "trainer", {"metadata": {"managedFields": [{}]}}, namespace)
    word = asked(http, ref, deployment(), deployment(4))
    assert word.head is not None
    assert word.head.plain is not None
    assert {one.manager for one in conflicts(word.head.plain)} == {"before-first-apply"}
    compared = compare(word.base, word.head, managers=GITOPS_MANAGERS)
    assert compared.head.ok
    assert moved(compared) == PLANNED
