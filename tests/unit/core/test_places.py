"""Where workloads carry their knobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gitops_mk.core.live import live_knobs
from gitops_mk.core.places import TEMPLATE, Path, carriers, knobs_at, parse_pointer, pointer, texts_of
from gitops_mk.core.target import find_target, overridden
from gitops_mk.errors import InputError
from gitops_mk.model.plan import PatchTarget, PlanItem, knob_patch
from gitops_mk.model.workload import WorkloadRef

KEY = "modekeeper/knob.grad_accum_steps"


def test_kinds_with_one_template_carry_them_there() -> None:
    assert carriers("Deployment", []) == (TEMPLATE,)
    live = {"spec": {"template": {"metadata": {"annotations": {KEY: "4"}}}}}
    assert knobs_at("Deployment", texts_of(live)) == {"grad_accum_steps": 4}


def test_roles_carry_them_where_they_stand() -> None:
    roles = [
        {"template": {"spec": {}}},
        {"template": {"spec": {"template": {"metadata": {"annotations": {KEY: "4", "x": "1"}}}}}},
    ]
    texts = texts_of({"spec": {"replicatedJobs": roles}, "metadata": {"annotations": {KEY: "9"}}})
    place: Path = ("spec", "replicatedJobs", 1, "template", "spec", "template", "metadata", "annotations")
    assert carriers("JobSet", texts) == (place,)
    assert knobs_at("JobSet", texts) == {"grad_accum_steps": 4}
    assert carriers("Pod", texts) == ()


def test_two_roles_must_agree() -> None:
    def job(worker: str) -> dict[Path, str]:
        specs = {
            name: {"template": {"metadata": {"annotations": {KEY: value}}}}
            for name, value in (("Master", "4"), ("Worker", worker))
        }
        return texts_of({"spec": {"pytorchReplicaSpecs": specs}})

    assert knobs_at("PyTorchJob", job("4")) == {"grad_accum_steps": 4}
    assert knobs_at("PyTorchJob", job("5")) == {}
    assert knobs_at("PyTorchJob", job("many")) == {"grad_accum_steps": 4}


@given(
    st.lists(st.one_of(st.integers(0, 99), st.text(min_size=1).filter(lambda t: not (t.isascii() and t.isdecimal()))))
)
def test_pointers_go_there_and_back(path: list[int | str]) -> None:
    assert parse_pointer(pointer(tuple(path))) == tuple(path)


@pytest.mark.parametrize(
    ("kind", "api", "places"),
    [
        ("Deployment", "apps/v1", ("/metadata/annotations",)),
        ("JobSet", "jobset.x-k8s.io/v1alpha2", ()),
        ("Deployment", "apps/v2", ()),
        ("JobSet", "jobset.x-k8s.io/v1alpha2", ('/spec/a"/b',)),
        ("JobSet", "jobset.x-k8s.io/v1alpha2", ("/spec/a\n/b",)),
    ],
)
def test_a_target_says_where_exactly_where_it_must(kind: str, api: str, places: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        PatchTarget.model_validate({"api_version": api, "kind": kind, "name": "t", "places": places})


@pytest.mark.parametrize("name", ["", "a\nb", "a b", "a:b", 'a"b', "x" * 300])
def test_a_target_has_a_name_that_can_be_written(name: str) -> None:
    with pytest.raises(ValidationError):
        PatchTarget.model_validate({"api_version": "apps/v1", "kind": "Deployment", "name": name})


class Builds:
    """A builder that gives what it was told, one after the other."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def build(self, files: object, overlay: str) -> str:
        return self.texts.pop(0)


FILES = {"o/kustomization.yaml": b"resources: [a.yaml]\n"}
REF = WorkloadRef(namespace="ml", kind="JobSet", name="train")
JOBSET = "apiVersion: jobset.x-k8s.io/v1alpha2\nkind: JobSet\nmetadata:\n  name: {name}\n  namespace: ml\n{more}"


def test_an_object_without_a_knob_is_found_all_the_same() -> None:
    mark = '  annotations:\n    modekeeper/probe: "0"\n'
    found = find_target(
        Builds(JOBSET.format(name="train", more=""), JOBSET.format(name="train", more=mark)), FILES, "o", REF
    )
    assert found.places == ("/metadata/annotations",)


def test_an_object_of_an_impossible_name_hides_no_other() -> None:
    mark = '  annotations:\n    modekeeper/probe: "0"\n'
    inner = JOBSET.format(name="'a b'", more="") + "---\n" + JOBSET.format(name="train", more="")
    found = find_target(Builds(inner, JOBSET.format(name="train", more=mark)), FILES, "o", REF)
    assert found.name == "train"


def test_a_knob_in_a_role_that_is_set_again_later() -> None:
    target = PatchTarget(
        api_version="jobset.x-k8s.io/v1alpha2",
        kind="JobSet",
        name="train",
        places=("/spec/replicatedJobs/0/template/spec/template/metadata/annotations",),
    )
    role = (
        "spec:\n  replicatedJobs:\n  - template:\n      spec:\n        template:\n          metadata:\n"
        "            annotations:\n              modekeeper/knob.a: {}\n              modekeeper/knob.b: modekeeper/probe\n"
    )
    assert overridden(
        Builds(JOBSET.format(name="train", more=role.format('"4"'))), FILES, "o", REF, target, ("a", "b")
    ) == ("a",)
    with pytest.raises(InputError):
        overridden(Builds(JOBSET.format(name="other", more="")), FILES, "o", REF, target, ("a",))


def test_a_plan_item_of_roles_annotates_the_object_only() -> None:
    """A merge patch can't reach into lists; what is proposed stands in the kustomize files."""
    patch = knob_patch({"grad_accum_steps": 8}, templated=False)
    item = PlanItem(apiVersion="ray.io/v1", kind="RayJob", namespace="ml", name="train", patch=patch, reason="r")
    assert item.knobs() == {"grad_accum_steps": 8}
    with pytest.raises(ValidationError, match="nothing else"):
        PlanItem(
            apiVersion="ray.io/v1", kind="RayJob", namespace="ml", name="train", patch=knob_patch({"a": 8}), reason="r"
        )


def test_a_live_object_of_roles_has_the_knobs_of_its_roles() -> None:
    role = {"template": {"spec": {"template": {"metadata": {"annotations": {KEY: "4"}}}}}}
    assert live_knobs({"kind": "JobSet", "spec": {"replicatedJobs": [role]}}) == {"grad_accum_steps": 4}
    assert live_knobs({"kind": "JobSet"}) == {}
