"""The search for a patch's target, against every real kustomize on this machine."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import pytest

from gitops_mk.adapters.kustomize import Kustomize
from gitops_mk.adapters.kustomize_command import ENV_COMMAND, Command, probe
from gitops_mk.core.checks.facts import built_knobs
from gitops_mk.core.render.component import component_yaml, knobs_yaml
from gitops_mk.core.target import find_target, overridden, probe_inner, probe_marked
from gitops_mk.core.yamldocs import annotations_of, changed_leaves, find_document
from gitops_mk.core.yamlpatch import add_component
from gitops_mk.errors import InputError, ManifestError
from gitops_mk.model.plan import PatchTarget, knob_patch
from gitops_mk.model.settings import WorkloadSettings
from gitops_mk.model.workload import WorkloadRef
from tests.support import make


def real_commands() -> list[Command]:
    """Every usable binary; without one these tests would prove nothing, so that is an error."""
    paths = [os.environ.get(ENV_COMMAND), shutil.which("kustomize"), shutil.which("kubectl")]
    probed = [probe(path) for path in dict.fromkeys(paths) if path]
    usable = [command for command in probed if isinstance(command, Command)]
    if not usable:
        raise RuntimeError(
            "no kustomize on this machine: run python -m gitops_mk.adapters.kustomize_install --into DIR"
        )
    return usable


@pytest.fixture(params=real_commands(), ids=str)
def builder(request: pytest.FixtureRequest) -> Kustomize:
    return Kustomize(request.param)


def manifest(name: str, namespace: str | None = None, kind: str = "Deployment", api: str = "apps/v1") -> bytes:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    return json.dumps({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}).encode()


def kustomization(**fields: Any) -> bytes:
    return json.dumps({name: value for name, value in fields.items() if value}).encode()


def workload(name: str, namespace: str = "default", kind: Any = "Deployment") -> WorkloadRef:
    return WorkloadRef(namespace=namespace, kind=kind, name=name)


def hits(builder: Kustomize, files: dict[str, bytes], target: PatchTarget, wanted: WorkloadRef) -> bool:
    """Whether a real component with a strategic-merge patch of that name changes the workload, and only it."""
    where = {"name": target.name} | ({"namespace": target.namespace} if target.namespace else {})
    patch = {"apiVersion": target.api_version, "kind": target.kind} | knob_patch({"x": 7})
    patch["metadata"] = where | patch["metadata"]
    tree = files | {
        "o/kustomization.yaml": add_component(files["o/kustomization.yaml"], "modekeeper"),
        "o/modekeeper/kustomization.yaml": kustomization(
            apiVersion="kustomize.config.k8s.io/v1alpha1", kind="Component", patches=[{"path": "w.knobs.yaml"}]
        ),
        "o/modekeeper/w.knobs.yaml": json.dumps(patch).encode(),
    }
    built = builder.build(tree, "o")
    doc = find_document(built, wanted.api_version, wanted.kind, wanted.namespace, wanted.name)
    assert doc is not None
    return built.count("modekeeper/knob.x") == 2 and annotations_of(doc)["modekeeper/knob.x"] == "7"


@pytest.mark.parametrize("own", [None, "own"])
@pytest.mark.parametrize(("base_ns", "base_prefix"), [(None, None), ("bns", None), (None, "b-"), ("bns", "b-")])
@pytest.mark.parametrize(("ns", "prefix"), [(None, None), ("ons", "o-")])
def test_the_target_is_the_name_before_the_overlays_own_transformers(
    builder: Kustomize,
    own: str | None,
    base_ns: str | None,
    base_prefix: str | None,
    ns: str | None,
    prefix: str | None,
) -> None:
    files = {
        "base/kustomization.yaml": kustomization(resources=["d.yaml"], namespace=base_ns, namePrefix=base_prefix),
        "base/d.yaml": manifest("web", own),
        "o/kustomization.yaml": kustomization(resources=["../base"], namespace=ns, namePrefix=prefix, nameSuffix="-s"),
    }
    wanted = workload(f"{prefix or ''}{base_prefix or ''}web-s", ns or base_ns or own or "default")
    target = find_target(builder, files, "o", wanted)
    assert target == PatchTarget(
        api_version="apps/v1", kind="Deployment", name=f"{base_prefix or ''}web", namespace=base_ns or own
    )
    assert hits(builder, files, target, wanted)


def test_one_base_used_twice_is_told_apart(builder: Kustomize) -> None:
    files = {
        "base/kustomization.yaml": kustomization(resources=["d.yaml"]),
        "base/d.yaml": manifest("web"),
        "a/kustomization.yaml": kustomization(resources=["../base"], namePrefix="a-"),
        "b/kustomization.yaml": kustomization(resources=["../base"], namePrefix="b-"),
        "o/kustomization.yaml": kustomization(resources=["../a", "../b"], namePrefix="o-", namespace="train"),
    }
    for letter in "ab":
        wanted = workload(f"o-{letter}-web", "train")
        target = find_target(builder, files, "o", wanted)
        assert target.name == f"{letter}-web"
        assert hits(builder, files, target, wanted)


def test_equal_names_in_two_namespaces_are_told_apart(builder: Kustomize) -> None:
    files = {
        "one/kustomization.yaml": kustomization(resources=["d.yaml"], namespace="one"),
        "one/d.yaml": manifest("web"),
        "two/kustomization.yaml": kustomization(resources=["d.yaml"], namespace="two"),
        "two/d.yaml": manifest("web"),
        "o/kustomization.yaml": kustomization(resources=["../one", "../two"], nameSuffix="-x"),
    }
    for namespace in ("one", "two"):
        wanted = workload("web-x", namespace)
        target = find_target(builder, files, "o", wanted)
        assert (target.name, target.namespace) == ("web", namespace)
        assert hits(builder, files, target, wanted)


def test_a_name_that_another_resource_once_had_does_not_hide_the_rest(builder: Kustomize) -> None:
    files = {
        "a/kustomization.yaml": kustomization(resources=["d.yaml"], namePrefix="a-"),
        "a/d.yaml": manifest("web"),
        "b/kustomization.yaml": kustomization(resources=["d.yaml"], namePrefix="b-"),
        "b/d.yaml": manifest("a-web"),
        "o/kustomization.yaml": kustomization(resources=["../a", "../b"], namePrefix="o-"),
    }
    wanted = workload("o-b-a-web")
    target = find_target(builder, files, "o", wanted)
    assert target.name == "b-a-web"
    assert hits(builder, files, target, wanted)
    with pytest.raises(ManifestError, match="a-web"):
        find_target(builder, files, "o", workload("o-a-web"))


def test_components_before_ours_count_and_later_ones_do_not(builder: Kustomize) -> None:
    def component(**fields: Any) -> bytes:
        return kustomization(apiVersion="kustomize.config.k8s.io/v1alpha1", kind="Component", **fields)

    files = {
        "base/kustomization.yaml": kustomization(resources=["d.yaml"]),
        "base/d.yaml": manifest("web"),
        "c1/kustomization.yaml": component(namePrefix="c1-", namespace="early"),
        "c2/kustomization.yaml": component(namePrefix="c2-", namespace="late"),
        # What stands in our component today must not matter, not even when it is broken.
        "o/modekeeper/kustomization.yml": component(patches=[{"path": "gone.yaml"}]),
        "o/kustomization.yaml": kustomization(resources=["../base"], components=["../c1", "./modekeeper/", "../c2"]),
    }
    target = find_target(builder, files, "o", workload("c2-c1-web", "late"))
    assert target == PatchTarget(api_version="apps/v1", kind="Deployment", name="c1-web", namespace="early")


def test_other_kinds_and_the_repository_root_work(builder: Kustomize) -> None:
    files = {
        "kustomization.yaml": b"bases: []\nresources:\n- j.yaml # the job\nnamespace: train\nnamePrefix: x-\n",
        "j.yaml": manifest("job", kind="Job", api="batch/v1") + b"\n---\n" + manifest("job"),
    }
    target = find_target(builder, files, ".", workload("x-job", "train", "Job"))
    assert target == PatchTarget(api_version="batch/v1", kind="Job", name="job")


@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        (
            workload("web"),
            "it builds Deployment train/p-web .apps/v1., StatefulSet train/p-db .apps/v1.",
            "set namespace",
        ),
        (workload("p-web", "train", "Job"), "builds no Job train/p-web .batch/v1.", "set namespace"),
        (workload("p-web", "other"), "builds no Deployment other/p-web", "set namespace"),
    ],
)
def test_a_workload_that_is_not_built_is_told_with_those_that_are(
    builder: Kustomize, wanted: WorkloadRef, message: str, hint: str
) -> None:
    files = {
        "o/kustomization.yaml": kustomization(resources=["d.yaml", "s.yaml"], namespace="train", namePrefix="p-"),
        "o/d.yaml": manifest("web"),
        "o/s.yaml": manifest("db", kind="StatefulSet"),
    }
    with pytest.raises(InputError, match=message) as caught:
        find_target(builder, files, "o", wanted)
    assert hint in (caught.value.hint or "")


def test_a_missing_namespace_is_named_as_the_cause(builder: Kustomize) -> None:
    files = {"o/kustomization.yaml": kustomization(resources=["d.yaml"]), "o/d.yaml": manifest("web")}
    with pytest.raises(InputError, match="builds no Deployment train/web") as caught:
        find_target(builder, files, "o", workload("web", "train"))
    assert "add `namespace: train`" in (caught.value.hint or "")


def test_an_overlay_without_workloads_and_a_long_list_are_told(builder: Kustomize) -> None:
    with pytest.raises(InputError, match="it builds no workload at all"):
        find_target(builder, {"o/kustomization.yaml": kustomization(namePrefix="x-")}, "o", workload("web"))
    many = b"\n---\n".join(manifest(f"w{i:02}") for i in range(15))
    files = {"o/kustomization.yaml": kustomization(resources=["d.yaml"]), "o/d.yaml": many}
    with pytest.raises(InputError, match=r"w00 \(apps/v1\), .*w11 \(apps/v1\), and 3 more$"):
        find_target(builder, files, "o", workload("web"))


def test_a_workload_of_a_later_component_cant_be_patched(builder: Kustomize) -> None:
    files = {
        "o/kustomization.yaml": kustomization(resources=["e.yaml"], components=["modekeeper", "../late"]),
        "o/e.yaml": manifest("early"),
        "late/kustomization.yaml": kustomization(
            apiVersion="kustomize.config.k8s.io/v1alpha1", kind="Component", resources=["d.yaml"]
        ),
        "late/d.yaml": manifest("web"),
    }
    with pytest.raises(InputError, match="made after the turn of component 'modekeeper'"):
        find_target(builder, files, "o", workload("web"))


def test_a_broken_overlay_is_kustomizes_error(builder: Kustomize) -> None:
    files = {
        "o/kustomization.yaml": kustomization(resources=["d.yaml"], patches=[{"path": "d.yaml"}]),
        "o/d.yaml": b"{",
    }
    with pytest.raises(ManifestError, match="can't build 'o'"):
        find_target(builder, files, "o", workload("web"))


def test_a_folder_without_a_kustomization_is_told() -> None:
    with pytest.raises(InputError, match=r"o: no kustomization.yaml, expected the folder of an overlay"):
        probe_inner({}, "o")
    with pytest.raises(InputError, match=r"o: no kustomization.yaml, expected the folder of an overlay"):
        probe_marked({}, "o", [])


def template_patch(name: str, annotations: dict[str, str | None]) -> dict[str, str]:
    template = {"metadata": {"annotations": annotations}}
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}}
    return {"patch": json.dumps(head | {"spec": {"template": template}})}


def test_knobs_that_the_overlay_sets_after_our_turn_are_told(builder: Kustomize) -> None:
    later = {"modekeeper/knob.a": "4", "modekeeper/knob.gone": None}
    files = {
        "base/kustomization.yaml": kustomization(
            resources=["d.yaml"], patches=[template_patch("web", {"modekeeper/knob.free": "1"})]
        ),
        "base/d.yaml": manifest("web"),
        "o/kustomization.yaml": kustomization(
            resources=["../base"], namePrefix="p-", namespace="train", patches=[template_patch("web", later)]
        ),
    }
    wanted = workload("p-web", "train")
    target = find_target(builder, files, "o", wanted)
    assert overridden(builder, files, "o", wanted, target, ["gone", "free", "a", "new", "a"]) == ("gone", "a")
    assert overridden(builder, files, "o", wanted, target, ()) == ()
    # What stands in our component today is replaced, as a proposal would.
    own = files | {
        "o/kustomization.yaml": kustomization(resources=["../base"], components=["modekeeper"]),
        "o/modekeeper/kustomization.yaml": b"{",
    }
    assert overridden(builder, own, "o", workload("web"), target, ["a", "free"]) == ()


def test_overridden_fails_as_the_search_does(builder: Kustomize) -> None:
    files = {"o/kustomization.yaml": kustomization(resources=["d.yaml"]), "o/d.yaml": manifest("web")}
    target = find_target(builder, files, "o", workload("web"))
    with pytest.raises(InputError, match="builds no Deployment default/other"):
        overridden(builder, files, "o", workload("other"), target, ["a"])
    with pytest.raises(ManifestError, match="gone"):
        overridden(builder, files, "o", workload("web"), target.model_copy(update={"name": "gone"}), ["a"])
    with pytest.raises(InputError, match=r"no kustomization.yaml"):
        overridden(builder, {}, "o", workload("web"), target, ["a"])


def test_an_overlay_that_names_no_namespace_is_told_verified_and_read_as_default(builder: Kustomize) -> None:
    files = {
        "base/kustomization.yaml": kustomization(
            resources=["d.yaml"], patches=[template_patch("web", {"modekeeper/knob.comm_bucket_mb": "25"})]
        ),
        "base/d.yaml": manifest("web"),
        "o/kustomization.yaml": kustomization(resources=["../base"], namePrefix="p-"),
    }
    wanted = workload("p-web")
    target = find_target(builder, files, "o", wanted)
    assert target.namespace is None
    assert overridden(builder, files, "o", wanted, target, ["comm_bucket_mb"]) == ()
    before = builder.build(files, "o")
    assert built_knobs(before, wanted) == {"comm_bucket_mb": 25}
    settings = WorkloadSettings.parse({"namespace": "default", "name": "p-web", "overlay": "o"}, what="a workload")
    assert settings.ref == wanted
    plan = make.plan(
        workload=wanted,
        target=target,
        overlay="o",
        chord="NOPE",
        changes=(make.change("comm_bucket_mb", 25, 50),),
        knobs={"comm_bucket_mb": 50},
        invariants=(),
    )
    after = builder.build(
        files
        | {
            "o/kustomization.yaml": add_component(files["o/kustomization.yaml"], "modekeeper"),
            "o/modekeeper/kustomization.yaml": component_yaml(frozenset({wanted.slug})).encode(),
            f"o/modekeeper/{wanted.slug}.knobs.yaml": knobs_yaml(plan).encode(),
        },
        "o",
    )
    assert built_knobs(after, wanted) == {"comm_bucket_mb": 50}
    changed = changed_leaves(before, after)
    assert [document.id.whole.namespace for document in changed.changed] == ["default"]
