"""What a cluster says, and what the configuration says about clusters."""

from __future__ import annotations

from typing import Any

import pytest

from gitops_mk.errors import ConfigError, InputError
from gitops_mk.model.cluster import RESOURCES, ApplyAnswer, ClusterSeen, DryRun, Resource
from gitops_mk.model.passport import Passport
from gitops_mk.model.settings import RepoSettings
from gitops_mk.model.workload import API_VERSIONS
from tests.support import make


class TestCluster:
    def test_api_versions(self) -> None:
        assert Resource("apps", "v1", "deployments").api_version == "apps/v1"
        assert Resource("", "v1", "pods").api_version == "v1"
        for kind, version in API_VERSIONS.items():
            assert RESOURCES[kind].api_version == version
            assert RESOURCES[kind].namespaced

    @pytest.mark.parametrize(
        ("status", "ok"), [(199, False), (200, True), (201, True), (299, True), (300, False), (409, False)]
    )
    def test_answers(self, status: int, ok: bool) -> None:
        assert ApplyAnswer(status, {}).ok is ok

    def test_what_was_not_asked_is_null(self) -> None:
        told = ClusterSeen(context="prod").plain()
        assert {key for key, value in told.items() if value is not None} == {"context", "server", "error", "dry_run"}
        assert told["dry_run"] == DryRun().plain()
        assert (told["dry_run"]["attempted"], told["dry_run"]["ok"]) == (False, None)


class TestPassport:
    def read(self, size: Any) -> Passport:
        return Passport.parse({**make.passport().plain(), "world_size": size}, what="p")

    def test_world_size(self) -> None:
        assert self.read(None).world_size is None
        assert self.read(512).world_size == 512
        assert self.read(512).sha256 != self.read(None).sha256

    @pytest.mark.parametrize("size", [0, -1, 1_000_001, "8", 8.0, True])
    def test_what_is_no_size(self, size: Any) -> None:
        with pytest.raises(InputError, match="world_size"):
            self.read(size)


def settings(**over: Any) -> RepoSettings:
    return RepoSettings.parse({"version": "v1", **over}, what="config", error=ConfigError)


WORKLOAD = {"namespace": "ml", "name": "trainer", "overlay": "a"}


class TestSettings:
    def test_what_holds_when_nothing_is_said(self) -> None:
        found = settings(workloads=[WORKLOAD])
        assert (found.cluster.consult, found.cluster.kill_switch, found.cluster.field_managers) == ("auto", None, ())
        assert (found.discovery.namespaces, found.forge.urls, found.workloads[0].telemetry.container) == ((), (), None)

    def test_what_is_said(self) -> None:
        found = settings(
            cluster={
                "consult": "required",
                "kill_switch": {"namespace": "mk", "name": "kill.switch"},
                "field_managers": ["my-applier"],
            },
            discovery={"namespaces": ["ml", "team-a"]},
            forge={"urls": ["ssh://git@git.example.invalid/team/gitops"]},
            workloads=[{**WORKLOAD, "kind": "JobSet", "telemetry": {"source": "k8s", "container": "trainer"}}],
        )
        assert found.cluster.kill_switch is not None
        assert found.cluster.kill_switch.name == "kill.switch"
        assert found.cluster.field_managers == ("my-applier",)
        assert found.workloads[0].telemetry.container == "trainer"
        assert RepoSettings.parse(found.plain(), what="again") == found
        assert found.sha256 != settings().sha256

    def test_the_longest_that_a_prometheus_may_take(self) -> None:
        said = {"timeout": "60s", "step": "1h", "duration": "30d"}
        found = settings(workloads=[{**WORKLOAD, "telemetry": {"prometheus": said}}]).workloads[0].telemetry.prometheus
        assert found is not None
        assert (found.timeout, found.step, found.duration) == ("60s", "1h", "30d")

    @pytest.mark.parametrize(
        ("over", "where"),
        [
            ({"cluster": {"consult": "sometimes"}}, "cluster.consult"),
            ({"cluster": {"consult": False}}, "cluster.consult"),
            ({"cluster": {"kill_switch": {"namespace": "mk"}}}, "cluster.kill_switch.name"),
            ({"cluster": {"kill_switch": {"namespace": "Mk", "name": "x"}}}, "cluster.kill_switch.namespace"),
            ({"cluster": {"field_managers": [""]}}, "cluster.field_managers.0"),
            ({"cluster": {"field_managers": ["x" * 129]}}, "cluster.field_managers.0"),
            ({"cluster": {"field_managers": "argocd"}}, "cluster.field_managers"),
            ({"discovery": {"namespaces": ["*"]}}, "discovery.namespaces.0"),
            ({"discovery": {"selector": "a=b"}}, "discovery.selector"),
            ({"forge": {"urls": [""]}}, "forge.urls.0"),
            ({"forge": {"urls": ["x" * 501]}}, "forge.urls.0"),
            ({"workloads": [{**WORKLOAD, "telemetry": {"container": "a/b"}}]}, "telemetry.container"),
            ({"workloads": [{**WORKLOAD, "telemetry": {"source": "pods"}}]}, "telemetry.source"),
            *(
                ({"workloads": [{**WORKLOAD, "telemetry": {"prometheus": {name: value}}}]}, f"{name}.*expected at most")
                for name, value in (("timeout", "61s"), ("step", "3600001ms"), ("duration", "31d"))
            ),
            ({"workloads": [{**WORKLOAD, "kind": "Pod"}]}, "workloads.0.kind"),
            ({"workloads": [{**WORKLOAD, "world_size": 0}]}, "workloads.0.world_size"),
        ],
    )
    def test_what_is_refused(self, over: dict[str, Any], where: str) -> None:
        with pytest.raises(ConfigError, match=where):
            settings(**over)
