"""`kustomize/` on a real API server: it takes every object, the pods come up, and the rights hold, dry-runs included.

Each install has names of its own (`modekeeper-` becomes `mkXXXXXXXX-`), so that several can share a cluster.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gitops_mk.adapters.cluster.client import HttpCluster
from gitops_mk.adapters.cluster.credentials import connect
from gitops_mk.adapters.cluster.lease import Lease
from gitops_mk.controller.consult import ask
from gitops_mk.core.dryrun import compare, unplanned
from gitops_mk.core.live import live_knobs
from gitops_mk.core.places import DATA
from gitops_mk.core.refusals import GITOPS_MANAGERS
from gitops_mk.errors import ClusterError
from gitops_mk.model.workload import KnobMap
from tests.cluster.audit import EVERY, MUTATING, position, requests
from tests.cluster.control_plane import Cluster
from tests.cluster.flux import KUSTOMIZATION
from tests.cluster.kube import Json, Kube, KubeError, wait_for
from tests.cluster.kubelet import PodRunner
from tests.support.githttp import GitServer, git_server
from tests.support.manifests import (
    BUILDS,
    CONTROLLER,
    DRY_RUN,
    EVERYWHERE,
    FOLDER,
    KILL_SWITCH,
    OPTIONS,
    OWN_NAMESPACE,
    VERIFY,
    build,
    build_overlay,
    parse,
    rule_lines,
)

if TYPE_CHECKING:
    from tests.cluster.flux import Flux

# Their CRDs are not among the test cluster's. All other objects go to the API server.
NOT_SERVED = {"argoproj.io/v1alpha1/Application", "monitoring.coreos.com/v1/ServiceMonitor"}
FLUX_BUILDS = {"overlays/flux"}
ACCOUNTS = ("controller", "verify")
REVIEWS = "/apis/authorization.k8s.io/v1"
NEVER_RUN = {"apiVersion": "batch/v1", "kind": "Job"}
BATCH_POD = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/job:1"}]}


def own_names(text: str, prefix: str) -> str:
    return text.replace("modekeeper-", f"{prefix}-")


def new_prefix() -> str:
    return f"mk{uuid.uuid4().hex[:8]}"


def kind_of(document: Json) -> str:
    return f"{document['apiVersion']}/{document['kind']}"


def apply_strictly(kube: Kube, documents: list[Json], *, namespace: str | None = None, dry_run: bool = False) -> None:
    """Server-side apply that takes no unknown field, and of which the server has nothing to warn."""
    query: dict[str, str | int | bool] = {"fieldManager": "tests", "force": True, "fieldValidation": "Strict"}
    if dry_run:
        query["dryRun"] = "All"
    for document in documents:
        meta = document["metadata"]
        path = kube.resource(kind_of(document)).path(meta["name"], meta.get("namespace", namespace))
        with kube.open("PATCH", path, document, query=query, content_type="application/apply-patch+yaml") as answer:
            answer.read()
            assert answer.getheader("Warning") is None, f"{path}: {answer.getheader('Warning')}"


@contextmanager
def namespaces_of(kube: Kube, documents: list[Json]) -> Iterator[None]:
    """The namespaces among the documents, really made: nothing can be tried out in one that isn't there."""
    found = [document for document in documents if document["kind"] == "Namespace"]
    apply_strictly(kube, found)
    try:
        yield
    finally:
        for one in found:
            kube.delete("Namespace", one["metadata"]["name"])


@dataclass(frozen=True)
class Install:
    """The controller with some components, and one namespace of workloads that it was let into."""

    cluster: Cluster
    kube: Kube
    prefix: str
    team: str

    @property
    def home(self) -> str:
        return f"{self.prefix}-system"

    def account(self, name: str) -> str:
        return f"{self.home}/{self.prefix}-{name}"

    def client(self, name: str) -> Kube:
        return self.cluster.kube(self.account(name))

    def api(self, name: str) -> HttpCluster:
        """The product's own client."""
        return HttpCluster(lambda: connect(kubeconfig=str(self.cluster.kubeconfig_for(self.account(name)))))

    def may(
        self, name: str, verb: str, resource: str, *, namespace: str = "", called: str = "", subresource: str = ""
    ) -> bool:
        group = resource.partition(".")[2]
        attributes = {"verb": verb, "group": group, "resource": resource.partition(".")[0], "subresource": subresource}
        attributes |= {"namespace": namespace, "name": called}
        namespace_of, _, account = self.account(name).partition("/")
        spec = {
            "user": f"system:serviceaccount:{namespace_of}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace_of}", "system:authenticated"],
            "resourceAttributes": {key: value for key, value in attributes.items() if value},
        }
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        allowed: bool = self.kube.request("POST", f"{REVIEWS}/subjectaccessreviews", review)["status"]["allowed"]
        return allowed


@contextmanager
def installed(cluster: Cluster, kube: Kube, scratch: Path, *, components: list[str]) -> Iterator[Install]:
    prefix, team = new_prefix(), f"t-{uuid.uuid4().hex[:10]}"
    system = parse(own_names(build_overlay(scratch / "system", ["base"], components=components), prefix))
    rights = parse(own_names(build_overlay(scratch / "team", ["workload-namespace"], namespace=team), prefix))
    made = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team}}, *system, *rights]
    made = [document for document in made if kind_of(document) not in NOT_SERVED]
    try:
        apply_strictly(kube, made)
        # The account of whom nothing was granted: others are compared with it.
        wait_for(lambda: kube.find("ServiceAccount", "default", team), 30, "the team's account")
        yield Install(cluster, kube, prefix, team)
    finally:
        for document in made:
            if not kube.resource(kind_of(document)).namespaced:
                kube.delete(kind_of(document), document["metadata"]["name"])


@pytest.fixture(scope="module")
def plain(cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """The base with nothing added."""
    with installed(cluster, kube, tmp_path_factory.mktemp("plain"), components=[]) as found:
        yield found


@pytest.fixture(scope="module")
def full(cluster: Cluster, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """The base with every component, and the policy at work."""
    with installed(cluster, kube, tmp_path_factory.mktemp("full"), components=OPTIONS) as found:
        kube.apply([deployment("probe", replicas=0)], found.team)
        mine = found.client("controller")

        def refused() -> bool | None:
            # A policy is heard of a moment after it is made.
            try:
                mine.patch(
                    "Deployment", "probe", {"metadata": {"annotations": {"tried": uuid.uuid4().hex}}}, found.team
                )
            except KubeError as exc:
                return "dry-run-only" in exc.message or None
            return None

        wait_for(refused, 30, "the policy")
        yield found


def deployment(name: str, *, replicas: int = 1) -> Json:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "example.invalid/web:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod},
    }


def job(name: str) -> Json:
    return {**NEVER_RUN, "metadata": {"name": name}, "spec": {"template": {"spec": BATCH_POD}}}


# -- the API server takes it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BUILDS if name not in FLUX_BUILDS])
def test_the_api_server_takes_every_build(kube: Kube, namespace: str, name: str) -> None:
    documents = parse(own_names(build(FOLDER / name), new_prefix()))
    served = [document for document in documents if kind_of(document) not in NOT_SERVED]
    assert served or name == "overlays/argocd"
    with namespaces_of(kube, served):
        apply_strictly(kube, served, namespace=namespace, dry_run=True)


@pytest.mark.parametrize("component", OPTIONS)
def test_the_api_server_takes_every_component(kube: Kube, tmp_path: Path, component: str) -> None:
    documents = parse(own_names(build_overlay(tmp_path, ["base"], components=[component]), new_prefix()))
    served = [document for document in documents if kind_of(document) not in NOT_SERVED]
    with namespaces_of(kube, served):
        apply_strictly(kube, served, dry_run=True)


# -- the pods --------------------------------------------------------------------------------------------------------


def test_two_pods_become_ready_and_one_may_go(plain: Install) -> None:
    kube, name = plain.kube, f"{plain.prefix}-controller"
    kube.wait_rollout(name, plain.home)
    pods = kube.objects("Pod", plain.home)
    assert len(pods) == 2
    for pod in pods:
        ready = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
        assert ready["Ready"] == "True"
        assert pod["spec"]["serviceAccountName"] == name

    def budget() -> Json | None:
        status: Json = kube.get("PodDisruptionBudget", name, plain.home).get("status", {})
        return status if status.get("currentHealthy") == 2 else None

    assert wait_for(budget, 30, "the budget to count the pods")["disruptionsAllowed"] == 1


WEAKER: dict[str, tuple[Json, Json]] = {
    "host network": ({"hostNetwork": True}, {}),
    "host path": ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, {}),
    "root": ({}, {"runAsUser": 0}),
    "escalation": ({}, {"allowPrivilegeEscalation": True}),
    "capabilities": ({}, {"capabilities": {"drop": []}}),
    "no seccomp profile": ({"securityContext": {"runAsNonRoot": True}}, {}),
}


@pytest.mark.parametrize("what", [None, *WEAKER])
def test_the_namespace_takes_no_weaker_pod_than_ours(plain: Install, what: str | None) -> None:
    kube = plain.kube
    ours = kube.get("Deployment", f"{plain.prefix}-controller", plain.home)["spec"]["template"]["spec"]
    of_pod, of_container = WEAKER.get(what or "", ({}, {}))
    container: Json = {"name": "main", "image": "example.invalid/i:1"}
    container["securityContext"] = {**ours["containers"][0]["securityContext"], **of_container}
    spec = {"securityContext": ours["securityContext"], **of_pod, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "weaker"}, "spec": spec}
    if what is None:
        assert kube.create(pod, plain.home, dry_run=True)
        return
    with pytest.raises(KubeError, match='violates PodSecurity "restricted') as caught:
        kube.create(pod, plain.home, dry_run=True)
    assert caught.value.status == 403


def test_the_demo_trains_and_the_controller_reads_its_log(plain: Install) -> None:
    kube = plain.kube
    documents = parse(own_names(build(FOLDER / "overlays" / "demo"), plain.prefix))
    demo = f"{plain.prefix}-demo"
    with namespaces_of(kube, documents):
        apply_strictly(kube, documents)
        kube.wait_rollout("trainer", demo)
        (pod,) = kube.objects("Pod", demo)
        name = pod["metadata"]["name"]
        with PodRunner(plain.cluster, demo) as runner:
            runner.wait_lines(name, 5)
            lines = [json.loads(line) for line in plain.client("controller").log(demo, name).splitlines()]
    started = next(line["knobs"] for line in lines if "knobs" in line)
    assert started["dataloader_num_workers"] == 2
    assert any("step_time_ms" in line for line in lines)


# -- rights ----------------------------------------------------------------------------------------------------------


def held(install: Install, account: str, namespace: str) -> set[str]:
    """All rights of an account in a namespace as the server's authoriser lists them, less what every account has."""

    def rules(client: Kube) -> set[str]:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        status = client.request("POST", f"{REVIEWS}/selfsubjectrulesreviews", review)["status"]
        assert not status["incomplete"]
        return {*rule_lines(status["resourceRules"]), *rule_lines(status["nonResourceRules"])}

    everybody = rules(install.cluster.kube(f"{install.team}/default"))
    return {line.replace(f"{install.prefix}-", "modekeeper-") for line in rules(install.client(account)) - everybody}


def merged(lines: set[str]) -> set[str]:
    """One line a resource: the authoriser lists each Role's rules by themselves."""
    verbs: dict[str, set[str]] = {}
    for line in lines:
        some, _, resource = line.partition(" ")
        verbs.setdefault(resource, set()).update(some.split(","))
    return {f"{','.join(sorted(some))} {resource}" for resource, some in verbs.items()}


def expect_held(install: Install, account: str, namespace: str, expected: set[str]) -> None:
    """What an account holds, once RBAC has heard of all of it."""
    last: set[str] = set()

    def as_expected() -> bool | None:
        nonlocal last
        last = merged(held(install, account, namespace))
        return last == expected or None

    try:
        wait_for(as_expected, 15, f"the rights of {account} in {namespace}")
    except TimeoutError as exc:
        raise AssertionError(f"{exc}; too many {sorted(last - expected)}, missing {sorted(expected - last)}") from None


def test_the_golden_table_is_what_the_server_grants(plain: Install, full: Install, namespace: str) -> None:
    for install, more, switch in ((plain, set(), set()), (full, DRY_RUN, KILL_SWITCH)):
        expected = {
            ("controller", install.team): CONTROLLER | EVERYWHERE | more,
            ("controller", install.home): OWN_NAMESPACE | EVERYWHERE | switch,
            ("controller", namespace): EVERYWHERE,
            ("verify", install.team): VERIFY | more,
            ("verify", install.home): set(),
            ("verify", namespace): set(),
        }
        for (account, where), lines in expected.items():
            expect_held(install, account, where, merged(lines))


FORBIDDEN = [
    ("get", "secrets", ""), ("list", "secrets", ""), ("watch", "secrets", ""), ("create", "secrets", ""),
    ("list", "configmaps", ""), ("get", "configmaps", ""), ("update", "configmaps", ""), ("patch", "configmaps", ""),
    ("create", "configmaps", ""), ("delete", "configmaps", ""),
    ("create", "pods", ""), ("delete", "pods", ""), ("patch", "pods", ""), ("create", "pods", "exec"),
    ("get", "pods", "exec"), ("create", "pods", "attach"), ("create", "pods", "portforward"), ("create", "pods", "eviction"),
    ("patch", "pods", "ephemeralcontainers"), ("update", "deployments.apps", ""), ("delete", "deployments.apps", ""),
    ("deletecollection", "deployments.apps", ""), ("patch", "deployments.apps", "scale"),
    ("patch", "deployments.apps", "status"), ("delete", "jobs.batch", ""), ("create", "serviceaccounts", "token"),
    ("impersonate", "serviceaccounts", ""), ("impersonate", "users", ""), ("patch", "nodes", ""), ("get", "nodes", "proxy"),
    ("bind", "clusterroles.rbac.authorization.k8s.io", ""), ("escalate", "roles.rbac.authorization.k8s.io", ""),
    ("create", "rolebindings.rbac.authorization.k8s.io", ""), ("delete", "leases.coordination.k8s.io", ""),
    ("list", "leases.coordination.k8s.io", ""), ("update", "applications.argoproj.io", ""),
    ("patch", "kustomizations.kustomize.toolkit.fluxcd.io", ""),
    ("delete", "validatingadmissionpolicies.admissionregistration.k8s.io", ""), ("*", "*", ""),
]  # fmt: skip


def test_what_neither_account_may_anywhere(plain: Install, full: Install, namespace: str) -> None:
    # In its team's namespace one ConfigMap may carry the knobs: it is read by name, and tried out with the component.
    in_team = {plain.team: {("get", "configmaps")}, full.team: {("get", "configmaps"), ("patch", "configmaps")}}
    for install in (plain, full):
        for account in ACCOUNTS:
            for where in (install.team, install.home, namespace, ""):
                for verb, resource, subresource in FORBIDDEN:
                    if (verb, resource) in in_team.get(where, ()):
                        continue
                    assert not install.may(account, verb, resource, namespace=where, subresource=subresource), (
                        f"{account} may {verb} {resource}/{subresource} in {where or 'the cluster'}"
                    )


@pytest.mark.parametrize("account", ACCOUNTS)
def test_without_the_component_nothing_can_be_tried(plain: Install, account: str, kube: Kube) -> None:
    for kind in ("deployments.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch", "jobsets.jobset.x-k8s.io"):
        for verb in ("patch", "create"):
            assert not plain.may(account, verb, kind, namespace=plain.team)
    kube.apply([deployment("web", replicas=0)], plain.team)
    with pytest.raises(KubeError) as caught:
        plain.client(account).patch("Deployment", "web", {"metadata": {"labels": {"a": "b"}}}, plain.team, dry_run=True)
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")


def test_the_lease_is_led_by_one_and_another_name_is_not_ours(plain: Install) -> None:
    name = f"{plain.prefix}-controller"
    client = plain.api("controller")
    first, second = (
        Lease(client, plain.home, name, identity=who, monotonic=time.monotonic) for who in ("first", "second")
    )
    assert wait_for(lambda: granted(first.attempt), 15, "RBAC to hear of the role")
    assert not second.attempt()
    assert first.attempt()
    first.stop()
    assert second.attempt()
    foreign = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "another"}, "spec": {}}
    plain.kube.create(foreign, plain.home)
    with pytest.raises(ClusterError) as caught:
        Lease(client, plain.home, "another", identity="first", monotonic=time.monotonic).attempt()
    assert caught.value.status == 403


def granted(attempt: Callable[[], bool]) -> bool | None:
    try:
        return attempt() or None
    except ClusterError as exc:
        if exc.status == 403:
            return None
        raise


def test_the_kill_switch_can_be_read_and_not_thrown_by_the_controller(full: Install) -> None:
    mine, name = full.client("controller"), f"{full.prefix}-kill-switch"
    assert mine.get("ConfigMap", name, full.home)["data"] == {"kill": "0"}
    with pytest.raises(KubeError) as caught:
        mine.patch("ConfigMap", name, {"data": {"kill": "0"}}, full.home)
    assert caught.value.status == 403


# -- dry-runs only ---------------------------------------------------------------------------------------------------


@pytest.fixture
def web(full: Install) -> Json:
    """A workload of the team's."""
    name = f"web-{uuid.uuid4().hex[:6]}"
    (made,) = full.kube.apply([deployment(name, replicas=0)], full.team)
    return made


PATCH: dict[str, Any] = {"spec": {"template": {"metadata": {"annotations": {"modekeeper/knob.concurrency": "4"}}}}}


def test_the_server_finds_nothing_wrong_with_the_policy(full: Install) -> None:
    def checked() -> Json | None:
        status: Json = full.kube.get("ValidatingAdmissionPolicy", f"{full.prefix}-dry-run-only").get("status", {})
        return status if "typeChecking" in status else None

    assert wait_for(checked, 30, "the policy's type check")["typeChecking"] == {}


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_patch_is_refused_and_its_dry_run_is_not(full: Install, web: Json, account: str) -> None:
    mine, name = full.client(account), web["metadata"]["name"]
    tried = mine.patch("Deployment", name, PATCH, full.team, dry_run=True)
    assert tried["spec"]["template"]["metadata"]["annotations"] == PATCH["spec"]["template"]["metadata"]["annotations"]
    with pytest.raises(KubeError, match=r"send it with dryRun=All") as caught:
        mine.patch("Deployment", name, PATCH, full.team)
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
    after = full.kube.get("Deployment", name, full.team)
    assert after["spec"] == web["spec"]
    assert after["metadata"]["generation"] == web["metadata"]["generation"]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_config_map_of_knobs_can_be_tried_and_not_changed(full: Install, plain: Install, account: str) -> None:
    """What carries a workload's knobs without a restart: a dry-run shows the new value, and nothing is stored."""
    name = f"knobs-{uuid.uuid4().hex[:6]}"

    def knobs(value: str) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"grad_accum_steps": value},
        }

    for install in (full, plain):
        install.kube.apply([knobs("2")], install.team, manager="kustomize-controller")
    client, document = full.api(account), json.dumps(knobs("4")).encode()
    carrier = KnobMap(namespace=full.team, name=name)
    word = ask(client, carrier, json.dumps(knobs("2")).encode(), document)
    assert (word.error, word.can_get, word.can_patch) == ("", True, True)
    assert live_knobs({"kind": "ConfigMap", **(word.live or {})}) == {"grad_accum_steps": 2}
    compared = compare(word.base, word.head, managers=GITOPS_MANAGERS)
    assert [str(one) for one in compared.differences] == ['data.grad_accum_steps goes from "2" to "4"']
    assert unplanned(compared.differences, (DATA,), {"grad_accum_steps": 4}) is None
    mine = full.client(account)
    with pytest.raises(KubeError, match=r"send it with dryRun=All") as caught:
        mine.patch("ConfigMap", name, {"data": {"grad_accum_steps": "4"}}, full.team)
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
    assert full.kube.get("ConfigMap", name, full.team)["data"] == {"grad_accum_steps": "2"}

    # Without the component it can be read, and nothing can be tried.
    word = ask(plain.api(account), KnobMap(namespace=plain.team, name=name), document, document)
    assert (word.can_get, word.can_patch, word.base, word.head) == (True, False, None, None)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_new_object_is_refused_and_its_dry_run_is_not(full: Install, account: str) -> None:
    mine, name = full.client(account), f"run-{uuid.uuid4().hex[:6]}"
    assert mine.create(job(name), full.team, dry_run=True)["metadata"]["name"] == name
    for make in (lambda: mine.create(job(name), full.team), lambda: mine.apply([job(name)], full.team)):
        with pytest.raises(KubeError, match=r"send it with dryRun=All"):
            make()
    assert full.kube.find("Job", name, full.team) is None


@pytest.mark.parametrize("account", ACCOUNTS)
def test_our_own_dry_run_gets_through(full: Install, web: Json, account: str) -> None:
    client = full.api(account)
    name = web["metadata"]["name"]
    document = json.dumps(deployment(name, replicas=3)).encode()
    answer = client.dry_run_apply("Deployment", full.team, name, document, force=True)
    assert answer.ok, answer.body
    assert answer.body["spec"]["replicas"] == 3
    assert client.dry_run_apply(
        "Job", full.team, f"{name}-mk-next", json.dumps(job(f"{name}-mk-next")).encode(), force=True
    ).ok
    assert full.kube.get("Deployment", name, full.team)["spec"]["replicas"] == 0


@pytest.mark.parametrize("account", ACCOUNTS)
def test_not_even_wider_rights_let_them_write(full: Install, web: Json, account: str) -> None:
    """Somebody gave them the run of the namespace: the policy holds for deletes, subresources and all kinds of these groups."""
    kube, name = full.kube, web["metadata"]["name"]
    namespace, _, called = full.account(account).partition("/")
    rbac = "rbac.authorization.k8s.io"
    bound: Json = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"wide-{account}"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": called}],
    }
    kube.apply([bound], full.team)
    try:
        wait_for(
            lambda: full.may(account, "delete", "deployments.apps", namespace=full.team) or None, 15, "the binding"
        )
        mine = full.client(account)
        path = mine.resource("Deployment").path(name, full.team)
        every = mine.resource("Deployment").path(None, full.team)
        cron = {"schedule": "@daily", "jobTemplate": {"spec": {"template": {"spec": BATCH_POD}}}}
        writes: list[tuple[str, str, object, str]] = [
            ("DELETE", path, None, "application/json"),
            ("DELETE", every, None, "application/json"),
            ("PATCH", f"{path}/scale", {"spec": {"replicas": 5}}, "application/merge-patch+json"),
            ("PATCH", f"{path}/status", {"status": {"replicas": 5}}, "application/merge-patch+json"),
            ("PUT", path, kube.get("Deployment", name, full.team), "application/json"),
            ("POST", mine.resource("CronJob").path(None, full.team),
             {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": cron}, "application/json"),
        ]  # fmt: skip
        for method, where, body, content in writes:
            with pytest.raises(KubeError, match=r"send it with dryRun=All"):
                mine.request(method, where, body, content_type=content)
            mine.request(method, where, body, content_type=content, query={"dryRun": "All"})
        after = kube.get("Deployment", name, full.team)
        assert (
            after["metadata"]["resourceVersion"] == web["metadata"]["resourceVersion"] or after["spec"] == web["spec"]
        )
    finally:
        kube.delete("RoleBinding", f"wide-{account}", full.team)


def test_nobody_else_is_held_up(full: Install, web: Json) -> None:
    name = web["metadata"]["name"]
    rule = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}
    full.kube.service_account(full.team, "team-ci", rules=[rule])
    theirs = full.cluster.kube(f"{full.team}/team-ci")

    def patched() -> Json | None:
        try:
            return theirs.patch("Deployment", name, PATCH, full.team)
        except KubeError as exc:
            if "RBAC" in exc.message or "cannot patch" in exc.message:
                return None
            raise

    wait_for(patched, 15, "RBAC to hear of the team's account")
    stored = full.kube.get("Deployment", name, full.team)["spec"]["template"]["metadata"]["annotations"]
    assert stored == PATCH["spec"]["template"]["metadata"]["annotations"]


# -- Flux ------------------------------------------------------------------------------------------------------------


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=Alice", "-c", "user.email=alice@example.invalid", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *args], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


class Fork:
    """A repository with this folder in it, as an operator's fork, served over HTTP."""

    def __init__(self, server: GitServer, work: Path, prefix: str) -> None:
        self.bare, self.work, self.url = server.root / "fork.git", work, server.remote("fork.git")
        self.bare.mkdir(parents=True)
        git(self.bare, "init", "--bare", "--initial-branch=main")
        git(work.parent, "clone", self.url, str(work))
        shutil.copytree(FOLDER, work / "kustomize")
        for path in work.glob("kustomize/**/*.yaml"):
            path.write_text(own_names(path.read_text(), prefix))

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.work / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    def push(self, message: str) -> str:
        git(self.work, "add", ".")
        git(self.work, "commit", "-m", message)
        git(self.work, "push", "origin", "HEAD:main")
        return git(self.work, "rev-parse", "HEAD")


def test_flux_installs_it_and_leaves_a_thrown_kill_switch_alone(kube: Kube, flux: Flux, tmp_path: Path) -> None:
    prefix = new_prefix()
    home, switch = f"{prefix}-system", f"{prefix}-kill-switch"
    with git_server(tmp_path / "served") as server:
        fork = Fork(server, tmp_path / "work", prefix)
        first = fork.push("install")
        # As the docs say: the URL is edited. And this Flux looks after a namespace of another name.
        overlay = build(FOLDER / "overlays" / "flux").replace("namespace: flux-system", f"namespace: {flux.namespace}")
        documents = parse(re.sub(r"url: https://\S+", f"url: {fork.url}", overlay))
        apply_strictly(kube, documents, dry_run=True)
        apply_strictly(kube, documents)
        try:
            flux.wait_applied("modekeeper", first)
            kube.wait_rollout(f"{prefix}-controller", home)
            assert kube.get("ConfigMap", switch, home)["data"] == {"kill": "0"}

            kube.patch("ConfigMap", switch, {"data": {"kill": "1"}}, home)
            fork.edit("kustomize/overlays/controller/repository.yaml", "spec:\n", "spec:\n  replicas: 3\n")
            flux.sync("modekeeper", "modekeeper", fork.push("three replicas"))
            assert kube.get("Deployment", f"{prefix}-controller", home)["spec"]["replicas"] == 3
            assert kube.get("ConfigMap", switch, home)["data"] == {"kill": "1"}
        finally:
            suspend(kube, flux, "modekeeper")
            kube.delete("Namespace", home)
            for kind in ("ClusterRole", "ClusterRoleBinding"):
                kube.delete(kind, f"{prefix}-cluster-reader")


def suspend(kube: Kube, flux: Flux, name: str) -> None:
    kube.patch(KUSTOMIZATION, name, {"spec": {"suspend": True}}, flux.namespace)


CONFIG = """\
version: v1
forge: {{kind: local, urls: ["{url}"]}}
cluster:
  consult: required
  kill_switch: {{namespace: {home}, name: {switch}}}
discovery:
  namespaces: [{demo}]
"""


def test_the_rights_it_ships_are_enough_and_none_is_missing(full: Install, flux: Flux, tmp_path: Path) -> None:
    """The real controller under its own account on the demo: it finds it by its label, reads its log, tries its change out."""
    kube, demo = full.kube, f"{full.prefix}-demo"
    with git_server(tmp_path / "served") as server:
        fork = Fork(server, tmp_path / "work", full.prefix)
        words = {"url": fork.url, "home": full.home, "switch": f"{full.prefix}-kill-switch", "demo": demo}
        (fork.work / ".modekeeper").mkdir()
        (fork.work / ".modekeeper" / "config.yaml").write_text(CONFIG.format(**words))
        tip = fork.push("the demo")
        flux.git_repository("demo", fork.url)
        flux.kustomization("demo", source="demo", path="./kustomize/overlays/demo")
        try:
            flux.wait_applied("demo", tip)
            kube.wait_rollout("trainer", demo)
            (pod,) = kube.objects("Pod", demo)
            start = position(full.cluster.audit_log)
            with PodRunner(full.cluster, demo) as runner:
                runner.wait_lines(pod["metadata"]["name"], 160, timeout=90)
                told = run_controller(full, fork.url, tmp_path / "out")
        finally:
            suspend(kube, flux, "demo")
            kube.delete("Namespace", demo)
    (row,) = told["workloads"]
    assert (row["state"], row["message"]) == ("pull request #1 open", "pull request: created #1; verify: ok")
    assert told["notes"] == []
    asked = list(requests(full.cluster.audit_log, f"system:serviceaccount:{full.home}:", verbs=EVERY, start=start))
    assert not [r for r in asked if r.code == 403]
    done = {(r.verb, r.what, r.dry_run) for r in asked}
    assert ("get", "pods/log", False) in done
    assert ("patch", "deployments.apps", True) in done
    assert {one for one in done if one[0] in MUTATING} <= {
        ("create", "selfsubjectaccessreviews.authorization.k8s.io", False),
        ("create", "events", False),
        ("patch", "deployments.apps", True),
    }


def run_controller(full: Install, url: str, out: Path) -> Json:
    config = full.cluster.kubeconfig_for(full.account("controller"))
    done = subprocess.run(
        [sys.executable, "-m", "gitops_mk", "controller", "run", "--once", "--repo", url, "--out", str(out), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "MODEKEEPER_GIT_ALLOW_HTTP": "1", "KUBECONFIG": str(config)},
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    told: Json = json.loads(done.stdout)
    return told
