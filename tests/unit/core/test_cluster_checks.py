"""Verify's steps with the cluster's word, and workloads that enrol themselves: each step says yes to the good change alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gitops_mk.adapters.resources import built_in
from gitops_mk.core.checks import registry
from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.checks.steps import cluster, dry_run, live, rights, scope
from gitops_mk.core.policy import load_policy
from gitops_mk.core.render.component import render
from gitops_mk.model.cluster import ApplyAnswer, ClusterWord, Refusal, Trial
from gitops_mk.model.git import PathChange
from gitops_mk.model.knob import annotation_key
from gitops_mk.model.plan import PatchTarget, Plan
from gitops_mk.model.settings import CONFIG_PATH
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.model.workload import WorkloadRef
from tests.support import make, objects

Check = Callable[[Facts], Verdict]

CONSULT = b"cluster: {consult: %s, field_managers: [tuner]}\n"
LISTED = b"version: v1\nworkloads:\n  - {namespace: ml, name: trainer, overlay: overlays/demo, passport: perf}\n"
OPEN = b"version: v1\ndiscovery: {namespaces: [ml]}\n"
KEY = annotation_key("dataloader_num_workers")
PLAN = make.plan()


def stored(workers: int = 2, *, outer: int | None = None, **over: Any) -> ApplyAnswer:
    noted = {} if outer is None else {KEY: str(outer)}
    return ApplyAnswer(200, objects.deployment({"dataloader_num_workers": workers}, annotations=noted, **over))


def word(**over: Any) -> ClusterWord:
    """What a cluster says to the good change."""
    fields: dict[str, Any] = {
        "context": "prod",
        "server": "https://prod.example.invalid",
        "namespace_exists": True,
        "live": objects.deployment(),
        "can_get": True,
        "can_patch": True,
        "base": Trial(plain=stored()),
        "head": Trial(plain=stored(4, outer=4)),
    }
    return ClusterWord(**{**fields, **over})


def facts(one: Plan = PLAN, config: bytes = LISTED, **over: Any) -> Facts:
    """The facts of the good change, as far as these steps look at them."""
    base = {CONFIG_PATH: config, "overlays/demo/kustomization.yaml": b"resources:\n  - ../../base\n"}
    files = render(one, base)
    fields: dict[str, Any] = {
        "base": make.SHA_A,
        "head": make.SHA_B,
        "tree": make.TREE,
        "now": make.NOW,
        "changes": tuple(PathChange(path, "100644" if path in base else "000000", "100644") for path in sorted(files)),
        "base_files": base,
        "head_files": {**base, **files},
        "policy": load_policy(base.get, built_in()),
        "cluster": word(),
    }
    return Facts(**{**fields, **over})


def says(check: Check, given: Facts, reason: Reason | None, text: str) -> None:
    verdict = check(given)
    assert verdict.reason is reason, verdict
    assert verdict.allowed is (reason is None)
    assert text in verdict.message, verdict.message


class TestSteps:
    def test_asked_only_where_there_is_an_answer(self) -> None:
        numbers = [number for number, _, _ in registry.steps_for(facts())]
        assert numbers == list(range(1, 13))
        assert registry.steps_for(facts(cluster=None)) == registry.STEPS
        assert registry.steps_for(facts(cluster=ClusterWord("prod", error="refused"))) == registry.STEPS

    def test_what_the_cluster_said_is_told(self) -> None:
        steps = registry.CLUSTER_STEPS
        outcome = registry.verify(facts(), steps)
        assert outcome.ok
        assert outcome.cluster is not None
        assert (outcome.cluster.context, outcome.cluster.uid, outcome.cluster.dry_run.ok) == ("prod", "6a1f", True)
        assert registry.verify(facts(cluster=None), registry.STEPS).cluster is None

    def test_without_facts_every_one_says_no(self) -> None:
        bare = Facts(base=make.SHA_A, head=make.SHA_B, tree=None, now=make.NOW)
        assert not any(step(bare).allowed for _, _, step in registry.CLUSTER_STEPS)
        assert bare.compared is None
        assert bare.world_size == 1


class TestCluster:
    def config(self, consult: bytes) -> bytes:
        return LISTED + CONSULT % consult

    def test_asked(self) -> None:
        says(cluster.check, facts(), None, "context prod")

    @pytest.mark.parametrize("consult", [b"auto", b"never"])
    def test_it_need_not_be(self, consult: bytes) -> None:
        says(cluster.check, facts(config=self.config(consult), cluster=None), None, f"is `{consult.decode()}`")

    def test_it_must_be(self) -> None:
        required = self.config(b"required")
        says(cluster.check, facts(config=required, cluster=None), Reason.CLUSTER_UNREACHABLE, "is `required`")
        says(cluster.check, facts(config=required), None, "context prod")

    def test_without_a_configuration_it_must_be(self) -> None:
        says(cluster.check, facts(policy=None, cluster=None), Reason.CLUSTER_UNREACHABLE, "not consulted")

    def test_unreachable(self) -> None:
        error = ClusterWord("prod", error="connection refused")
        says(cluster.check, facts(cluster=error), Reason.CLUSTER_UNREACHABLE, "context prod: connection refused")


class TestLive:
    def no(self, reason: Reason, text: str, one: Plan = PLAN, **over: Any) -> None:
        says(live.check, facts(one, cluster=word(**over)), reason, text)

    def test_there(self) -> None:
        says(live.check, facts(), None, "UID 6a1f, generation 3")

    def test_not_asked(self) -> None:
        says(live.check, facts(policy=None), Reason.CLUSTER_UNREACHABLE, "not judged")
        says(live.check, facts(cluster=None), Reason.CLUSTER_UNREACHABLE, "not asked")
        self.no(Reason.CLUSTER_UNREACHABLE, "not asked", error="refused")

    def test_not_there(self) -> None:
        self.no(Reason.NAMESPACE_MISSING, "no namespace ml in prod", namespace_exists=False, live=None)
        self.no(Reason.DEPLOYMENT_MISSING, "no Deployment ml/trainer in prod", live=None)
        # We may not read namespaces: the workload that stands in one proves it.
        says(live.check, facts(cluster=word(namespace_exists=None)), None, "UID")

    def test_other_values(self) -> None:
        self.no(
            Reason.VERIFY_STALE,
            "runs at 3, the plan starts from 2",
            live=objects.deployment({"dataloader_num_workers": 3}),
        )
        self.no(Reason.VERIFY_STALE, "runs at None", live=objects.deployment({}))
        self.no(Reason.VERIFY_STALE, "UID None, generation None", live={"metadata": ["odd"]})

    def test_another_owner(self) -> None:
        owned = objects.deployment(managers={"tuner": ("dataloader_num_workers",)})
        self.no(Reason.FOREIGN_OWNER, "owned by tuner", live=owned)
        says(live.check, facts(config=LISTED + CONSULT % b"auto", cluster=word(live=owned)), None, "UID")

    def test_a_kind_that_takes_values_at_its_next_run(self) -> None:
        ref = WorkloadRef(namespace="ml", kind="Job", name="trainer")
        job = make.plan(workload=ref, target=PatchTarget(api_version="batch/v1", kind="Job", name="trainer"))
        config = LISTED.replace(b"name: trainer", b"name: trainer, kind: Job")
        says(live.check, facts(job, config, cluster=word(live=None)), None, "no Job ml/trainer runs now")
        running = objects.deployment({}, kind="Job")
        says(live.check, facts(job, config, cluster=word(live=running)), None, "its next run takes the values")


class TestRights:
    def test_both(self) -> None:
        says(rights.check, facts(), None, "get, and patch")

    @pytest.mark.parametrize(
        ("over", "verb"), [({"can_get": False}, "get"), ({"can_patch": False}, "patch"), ({"can_patch": None}, "patch")]
    )
    def test_one_is_missing(self, over: dict[str, Any], verb: str) -> None:
        says(
            rights.check,
            facts(cluster=word(**over)),
            Reason.RBAC_DENIED,
            f"may not {verb} the workload; give the verify",
        )

    def test_not_asked(self) -> None:
        says(rights.check, facts(cluster=None), Reason.CLUSTER_UNREACHABLE, "not asked")
        says(rights.check, facts(cluster=word(error="x")), Reason.CLUSTER_UNREACHABLE, "not asked")


class TestDryRun:
    def no(self, reason: Reason, text: str, **over: Any) -> None:
        says(dry_run.check, facts(cluster=word(**over)), reason, text)

    def test_exactly_the_planned_leaves(self) -> None:
        says(dry_run.check, facts(), None, "2 leaves change")

    def test_not_attempted(self) -> None:
        says(dry_run.check, facts(cluster=None), Reason.DRY_RUN_FAILED, "no dry-run")
        self.no(Reason.DRY_RUN_FAILED, "none: not attempted; see the steps above", head=None)

    def test_refused(self) -> None:
        denied = ApplyAnswer(403, {"message": 'admission webhook "w.example.invalid" denied the request: no'})
        self.no(
            Reason.DRY_RUN_FAILED, "admission by w.example.invalid: head: admission webhook", head=Trial(plain=denied)
        )
        self.no(Reason.DRY_RUN_FAILED, "timeout: base: silent; try again", base=Trial(error="silent", timed_out=True))

    def test_something_else_changes_along(self) -> None:
        self.no(
            Reason.UNPLANNED_CHANGE,
            "would store, spec.replicas goes from 2 to 3",
            head=Trial(plain=stored(4, outer=4, spec={"replicas": 3})),
        )
        self.no(
            Reason.UNPLANNED_CHANGE,
            'metadata.labels.team goes from "a" to None',
            base=Trial(plain=stored(labels={"team": "a"})),
        )
        self.no(Reason.UNPLANNED_CHANGE, 'goes from "2" to "5"', head=Trial(plain=stored(5, outer=4)))

    @pytest.mark.parametrize("outer", [None, 4])
    def test_the_template_stays_as_it_is(self, outer: int | None) -> None:
        # The note on the object alone rolls nothing out.
        self.no(
            Reason.UNPLANNED_CHANGE, "dataloader_num_workers stays as it is", head=Trial(plain=stored(2, outer=outer))
        )

    def test_managers_of_the_configuration(self) -> None:
        cause = {"reason": "FieldManagerConflict", "message": 'conflict with "tuner"', "field": f".spec.{KEY}"}
        held = ApplyAnswer(409, {"details": {"causes": [cause]}})
        head = Trial(held, stored(4, outer=4))
        self.no(Reason.DRY_RUN_FAILED, f"{Refusal.FIELD_CONFLICT} by tuner", head=head)
        says(dry_run.check, facts(config=LISTED + CONSULT % b"auto", cluster=word(head=head)), None, "2 leaves")
        assert facts(policy=None).compared is None


def built(label: str = '"true"', ref: WorkloadRef = make.REF) -> str:
    return (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  labels:\n    modekeeper.dev/enabled: {label}\n"
        f"  name: {ref.name}\n  namespace: {ref.namespace}\nspec:\n  replicas: 2\n"
    )


class TestDiscovery:
    def test_enrolled_on_the_base(self) -> None:
        given = facts(config=OPEN, base_build=built())
        assert given.workload is not None
        assert (given.workload.ref, given.workload.overlay) == (make.REF, "overlays/demo")
        says(scope.check, given, None, "4 files of Deployment ml/trainer")
        assert given.plan == PLAN
        assert given.world_size == 2

    @pytest.mark.parametrize(
        "build", [None, built('"false"'), built(ref=make.REF.model_copy(update={"name": "other"}))]
    )
    def test_not_enrolled_on_the_base(self, build: str | None) -> None:
        # Whatever the head says: a pull request enrols nothing.
        given = facts(config=OPEN, base_build=build, head_build=built())
        says(scope.check, given, Reason.SCOPE_VIOLATION, "neither listed on the base")

    def test_an_overlay_that_others_build_on(self) -> None:
        given = facts(config=OPEN, base_build=built())
        files = {**given.base_files, "prod/kustomization.yaml": b"resources: [../overlays/demo]\n"}
        says(scope.check, replace(given, base_files=files), Reason.SCOPE_VIOLATION, "prod builds on overlays/demo")

    def test_a_namespace_that_is_shut(self) -> None:
        shut = facts(config=OPEN.replace(b"[ml]", b"[other]"), base_build=built())
        assert shut.workload is None
        says(scope.check, shut, Reason.SCOPE_VIOLATION, "expected the files of exactly one workload")

    def moved(
        self, given: Facts, text: bytes | None, path: str = "overlays/demo/modekeeper/trainer.plan.json"
    ) -> Facts:
        """The facts with another decision record, or none, at that path."""
        old = "overlays/demo/modekeeper/trainer.plan.json"
        files = {name: data for name, data in given.head_files.items() if name != old}
        kept = (change for change in given.changes if change.path != old)
        changes = (*kept, PathChange(path, "000000", "100644"))
        return replace(given, head_files=files if text is None else {**files, path: text}, changes=changes)

    def test_a_record_that_is_none(self) -> None:
        given = facts(config=OPEN, base_build=built())
        for text in (None, b"{}", b" " * 600_000):
            assert self.moved(given, text).workload is None

    def test_a_record_in_the_wrong_place(self) -> None:
        given = facts(config=OPEN, base_build=built())
        text = given.head_files["overlays/demo/modekeeper/trainer.plan.json"]
        assert self.moved(given, text).workload is not None
        for path in (
            "overlays/other/modekeeper/trainer.plan.json",
            "overlays/demo/modekeeper/other.plan.json",
            "x.plan.json",
        ):
            assert self.moved(given, text, path).workload is None

    def test_two_records(self) -> None:
        given = facts(config=OPEN, base_build=built())
        more = (*given.changes, PathChange("overlays/demo/modekeeper/other.plan.json", "000000", "100644"))
        assert replace(given, changes=more).workload is None
        assert replace(facts(), changes=more).workload is None

    def test_a_base_that_holds_it_twice(self) -> None:
        given = facts(config=OPEN, base_build=built() + "---\n" + built())
        says(scope.check, given, Reason.SCOPE_VIOLATION, "twice")


@pytest.mark.parametrize("side", ["base_build", "head_build"])
@pytest.mark.parametrize(
    "build",
    [built() + "---\n" + built(), "- torn", built() + "  template:\n    metadata:\n      annotations: {a: 1}\n"],
)
def test_a_build_that_cannot_be_read_is_a_no(side: str, build: str) -> None:
    builds: dict[str, Any] = {"base_build": built(), "head_build": built(), side: build}
    outcome = registry.verify(facts(**builds))
    assert not outcome.ok
    assert not outcome.steps[5].allowed
    assert facts(**builds).world_size in (1, 2)


def test_places_of_a_kind_with_several_templates() -> None:
    pointer = "/spec/replicatedJobs/0/template/spec/template/metadata/annotations"
    ref = WorkloadRef(namespace="ml", kind="JobSet", name="trainer")
    target = PatchTarget(api_version="jobset.x-k8s.io/v1alpha2", kind="JobSet", name="trainer", places=(pointer,))

    def answer(workers: int) -> ApplyAnswer:
        template = {"metadata": {"annotations": {KEY: str(workers)}}}
        jobs = [{"name": "worker", "template": {"spec": {"template": template}}}]
        return ApplyAnswer(201, {"kind": "JobSet", "metadata": {"name": "trainer"}, "spec": {"replicatedJobs": jobs}})

    given = facts(
        make.plan(workload=ref, target=target),
        LISTED.replace(b"name: trainer", b"name: trainer, kind: JobSet"),
        cluster=word(live=None, base=Trial(plain=answer(2)), head=Trial(plain=answer(4))),
    )
    says(dry_run.check, given, None, "1 leaves change")
    other = word(live=None, base=Trial(plain=answer(2)), head=Trial(plain=answer(2)))
    says(dry_run.check, replace(given, cluster=other), Reason.UNPLANNED_CHANGE, "stays as it is")
