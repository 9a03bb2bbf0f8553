"""A workload's pods: whose, in which order, which container, how it stands, on which machine."""

from __future__ import annotations

from typing import Any

import pytest

from gitops_mk.core.pods import (
    CONTAINER_ANNOTATION,
    ContainerState,
    candidates,
    choose_container,
    container_state,
    environment_of,
    is_over,
    owned,
    selector_text,
)
from gitops_mk.errors import InputError
from gitops_mk.model.telemetry import Environment
from gitops_mk.model.workload import WorkloadRef

DEPLOYMENT = WorkloadRef(namespace="ml", kind="Deployment", name="trainer")


def pod(*containers: str, name: str = "p", **parts: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": one} for one in containers], **parts.pop("spec", {})}
    return {"kind": "Pod", "metadata": {"name": name, **parts.pop("metadata", {})}, "spec": spec, **parts}


class TestContainer:
    def test_the_one_that_is_asked_for(self) -> None:
        assert choose_container(pod("trainer", "log"), {CONTAINER_ANNOTATION: "trainer"}, "trainer", "log") == "log"

    def test_the_annotation_of_the_workload_or_the_pod(self) -> None:
        assert choose_container(pod("trainer", "log"), {CONTAINER_ANNOTATION: "log"}, "trainer") == "log"
        noted = pod("trainer", "log", metadata={"annotations": {CONTAINER_ANNOTATION: "log"}})
        assert choose_container(noted, {}, "trainer") == "log"
        assert choose_container({"spec": {"template": noted}}, {}, "trainer") == "log"

    def test_the_one_called_like_the_workload(self) -> None:
        assert choose_container(pod("log", "trainer"), {}, "trainer") == "trainer"

    def test_the_only_one(self) -> None:
        assert choose_container(pod("main"), {}, "trainer") == "main"

    @pytest.mark.parametrize("wanted", ["nope", "init", "sidecar"])
    def test_one_that_is_not_there(self, wanted: str) -> None:
        init = {"initContainers": [{"name": "init"}, {"name": "sidecar", "restartPolicy": "Always"}]}
        with pytest.raises(InputError, match=f"no container '{wanted}' .asked for., it has: a, b") as caught:
            choose_container(pod("a", "b", spec=init), {}, "trainer", wanted)
        assert "--container" in (caught.value.hint or "")
        with pytest.raises(InputError, match=f"the annotation {CONTAINER_ANNOTATION} says"):
            choose_container(pod("a", "b", spec=init), {CONTAINER_ANNOTATION: wanted}, "trainer")

    def test_none_or_several(self) -> None:
        with pytest.raises(InputError, match="trainer has 2 containers, and none is called like it: a, b"):
            choose_container(pod("a", "b"), {}, "trainer")
        with pytest.raises(InputError, match="trainer has 0 containers, and none is called like it: none"):
            choose_container({}, {}, "trainer")


class TestWhosePods:
    def test_a_selector_as_text(self) -> None:
        selector = {
            "matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["x", "y"]},
                {"key": "tier", "operator": "NotIn", "values": ["z"]},
                {"key": "on", "operator": "Exists"},
                {"key": "off", "operator": "DoesNotExist"},
            ],
        }
        assert selector_text({"spec": {"selector": selector}}) == "a=1,b=2,tier in (x,y),tier notin (z),on,!off"

    @pytest.mark.parametrize("spec", [{}, {"selector": {}}, {"selector": {"matchLabels": None}}])
    def test_an_empty_selector_is_refused(self, spec: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="Deployment trainer selects no pods"):
            selector_text({"kind": "Deployment", "metadata": {"name": "trainer"}, "spec": spec})

    def test_owners(self) -> None:
        def by(controller: bool = True, **owner: Any) -> dict[str, Any]:
            return pod(name=str(owner.get("name")), metadata={"ownerReferences": [{**owner, "controller": controller}]})

        mine = by(kind="ReplicaSet", name="trainer-5d4f8c7b9", uid="r")
        others = [
            by(kind="ReplicaSet", name="trainer-two-5d4f8c7b9", uid="r2"),
            by(kind="Job", name="trainer-5d4f8c7b9", uid="j"),
            by(kind="ReplicaSet", name="trainer-5d4f8c7b9", controller=False),
            pod(name="bare"),
        ]
        assert owned([*others, mine], {"metadata": {"uid": "d"}}, DEPLOYMENT) == [
            {**mine, "metadata": {**mine["metadata"]}}
        ]
        job = DEPLOYMENT.model_copy(update={"kind": "Job"})
        assert owned([*others, mine], {"metadata": {"uid": "j"}}, job) == [others[1]]

    def test_ready_ones_come_first(self) -> None:
        def one(name: str, phase: str, ready: str | None = None) -> dict[str, Any]:
            conditions = [{"type": "PodScheduled", "status": "True"}]
            conditions += [{"type": "Ready", "status": ready}] if ready else []
            return pod(name=name, status={"phase": phase, "conditions": conditions})

        pods = [
            one("a-pending", "Pending"),
            one("b-failed", "Failed"),
            one("c-done", "Succeeded"),
            one("d-starts", "Running", "False"),
            one("f-ready", "Running", "True"),
            one("e-ready", "Running", "True"),
            pod(name="g-unknown"),
        ]
        names = [found["metadata"]["name"] for found in candidates(pods)]
        assert names == ["e-ready", "f-ready", "d-starts", "b-failed", "c-done", "a-pending", "g-unknown"]
        assert [is_over(one) for one in candidates(pods)] == [False, False, False, True, True, False, False]


class TestState:
    def state(self, **status: Any) -> ContainerState:
        return container_state(pod(status={"containerStatuses": [{"name": "x"}, {"name": "c", **status}]}), "c")

    def test_it_runs(self) -> None:
        assert self.state(restartCount=0, state={"running": {"startedAt": "t"}}) == (0, True, False, False, "t")

    def test_it_runs_again(self) -> None:
        found = self.state(restartCount=3, state={"running": {}}, lastState={"terminated": {"exitCode": 1}})
        assert found == (3, True, False, True, None)

    def test_it_is_over(self) -> None:
        assert self.state(restartCount=0, state={"terminated": {"exitCode": 0}}) == (0, True, True, False, None)

    def test_it_waits_after_a_crash(self) -> None:
        """The log of the run that is over is the current one: there is no other `previous`."""
        found = self.state(restartCount=2, state={"waiting": {}}, lastState={"terminated": {"exitCode": 1}})
        assert found == (2, True, True, False, None)

    def test_it_has_not_begun(self) -> None:
        assert self.state(restartCount=0, state={"waiting": {}}) == (0, False, True, False, None)
        assert container_state(pod(), "c") == (0, False, True, False, None)


def test_machines() -> None:
    def node(**labels: str) -> dict[str, Any]:
        return {"metadata": {"labels": labels}}

    nodes = {
        "n1": {"metadata": {"labels": {"nvidia.com/gpu.product": "H100", "cloud.google.com/gke-accelerator": "x"}}},
        "n2": {"metadata": {"labels": {"k8s.amazonaws.com/accelerator": "nvidia-a100"}}},
        "cpu": node(zone="a"),
    }

    def on(*names: str) -> Environment:
        return environment_of([pod(spec={"nodeName": name} if name else {}) for name in names], nodes)

    assert on("", "n1", "n1") == Environment(nodes_seen=("n1",), gpu_models_seen=("H100",))
    assert on("n1", "n2") == Environment(
        nodes_seen=("n1", "n2"), gpu_models_seen=("H100", "nvidia-a100"), unstable=True
    )
    assert on("cpu", "unknown") == Environment(nodes_seen=("cpu", "unknown"), unstable=True)
    assert on() == Environment()


@pytest.mark.parametrize(
    ("kind", "selector"),
    [
        ("JobSet", "jobset.sigs.k8s.io/jobset-name=train"),
        ("TrainJob", "jobset.sigs.k8s.io/jobset-name=train"),
        ("PyTorchJob", "training.kubeflow.org/job-name=train"),
        ("RayJob", "ray.io/cluster=train-x7"),
    ],
)
def test_jobs_of_several_roles_label_their_pods(kind: str, selector: str) -> None:
    live = {"kind": kind, "metadata": {"name": "train"}, "status": {"rayClusterName": "train-x7"}}
    assert selector_text(live) == selector
    pods = [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]
    assert owned(pods, live, WorkloadRef.model_validate({"namespace": "ml", "kind": kind, "name": "train"})) == pods


def test_a_ray_job_without_a_cluster_has_no_pods_yet() -> None:
    with pytest.raises(InputError, match="no cluster yet"):
        selector_text({"kind": "RayJob", "metadata": {"name": "train"}, "status": {}})
