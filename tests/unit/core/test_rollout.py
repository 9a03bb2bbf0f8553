"""When a workload has come to rest: by the conditions of `kubectl rollout status`, and by all pods being of the newest template."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from gitops_mk.core.rollout import RolloutState, rollout
from tests.support import objects


def state(kind: str = "Deployment", *, spec: dict[str, Any] | None = None, **status: Any) -> tuple[str, str]:
    found = rollout(objects.deployment(kind=kind, spec=spec, status=status))
    assert found.done is (found.state is RolloutState.DONE)
    return found.state.value, found.message


DEADLINE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_at_rest(kind: str) -> None:
    assert state(kind)[0] == "done"


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
@pytest.mark.parametrize("seen", [2, None, "3", True])
def test_a_status_of_before(kind: str, seen: object) -> None:
    assert state(kind, observedGeneration=seen) == ("in_progress", "generation 3 has not been observed yet")


class TestDeployment:
    @pytest.mark.parametrize(
        ("status", "said"),
        [
            ({"updatedReplicas": 1}, "1 of 2 pods are of the newest template"),
            ({"updatedReplicas": None}, "0 of 2 pods are of the newest template"),
            ({"replicas": 3}, "1 old pods are still there"),
            ({"availableReplicas": 1}, "1 of 2 new pods are available"),
        ],
    )
    def test_under_way(self, status: dict[str, Any], said: str) -> None:
        assert state(**status) == ("in_progress", said)

    def test_too_late(self) -> None:
        conditions = [None, {"type": "Available", "status": "True"}, DEADLINE]
        assert state(conditions=conditions, updatedReplicas=1)[0] == "degraded"
        assert state(conditions=[{**DEADLINE, "reason": "NewReplicaSetAvailable"}])[0] == "done"

    def test_paused(self) -> None:
        assert state(spec={"paused": True}, observedGeneration=1)[0] == "suspended"

    def test_replicas(self) -> None:
        none: dict[str, Any] = {"replicas": 0, "updatedReplicas": 0, "availableReplicas": 0}
        assert state(spec={"replicas": 0}, **none) == ("done", "0 pods are available")
        one: dict[str, Any] = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
        assert state(spec={"replicas": None}, **one) == ("done", "1 pods are available")


class TestStatefulSet:
    def test_under_way(self) -> None:
        assert state("StatefulSet", readyReplicas=1) == ("in_progress", "1 of 2 pods are ready")
        assert state("StatefulSet", updatedReplicas=1) == ("in_progress", "1 of 2 pods are of the newest template")

    @pytest.mark.parametrize(
        "strategy", [{"type": "OnDelete"}, {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}]
    )
    def test_held_back(self, strategy: dict[str, Any]) -> None:
        spec = {"updateStrategy": strategy}
        waits = "1 of 2 pods are of the newest template; the rest waits for a person"
        assert state("StatefulSet", spec=spec, updatedReplicas=1) == ("in_progress", waits)
        assert state("StatefulSet", spec=spec)[0] == "done"


class TestDaemonSet:
    def test_under_way(self) -> None:
        said = "0 of 2 pods are of the newest template"
        assert state("DaemonSet", updatedNumberScheduled=0) == ("in_progress", said)
        assert state("DaemonSet", numberAvailable=1) == ("in_progress", "1 of 2 pods are available")
        held = {"updateStrategy": {"type": "OnDelete"}}
        assert state("DaemonSet", spec=held, updatedNumberScheduled=0) == (
            "in_progress",
            said + "; the rest waits for a person",
        )

    def test_on_no_node(self) -> None:
        assert state("DaemonSet", desiredNumberScheduled=0, updatedNumberScheduled=0, numberAvailable=0)[0] == "done"


def test_other_kinds() -> None:
    assert state("Job", observedGeneration=None) == ("done", "a kind without rollouts")
    assert state("Job", spec={"suspend": True})[0] == "suspended"
    assert rollout({"kind": ["Deployment"]}).done


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_nothing_at_all(kind: str) -> None:
    assert rollout({"kind": kind, "metadata": None, "spec": [], "status": "no"}).state in RolloutState


@given(objects.damaged(objects.deployment(status={"conditions": [DEADLINE]}, spec={"updateStrategy": {}}), most=5))
def test_nothing_raises(live: dict[str, Any]) -> None:
    for kind in ("Deployment", "StatefulSet", "DaemonSet", live.get("kind")):
        assert rollout({**live, "kind": kind}).message
