"""The ConfigMap that carries knobs, against every real kustomize on this machine: found, patched, read back, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitops_mk.adapters.kustomize import Kustomize
from gitops_mk.core.checks.facts import built_knobs
from gitops_mk.core.config_map import carrier_of
from gitops_mk.core.render.component import component_yaml, config_map_yaml
from gitops_mk.core.target import find_target, overridden
from gitops_mk.core.yamldocs import changed_leaves, dotted
from gitops_mk.core.yamlpatch import add_component
from gitops_mk.errors import InputError, ManifestError
from gitops_mk.model.plan import PatchTarget
from gitops_mk.model.settings import RepoSettings, WorkloadSettings
from gitops_mk.model.workload import KnobMap
from tests.contract.test_target import kustomization, real_commands

DATA = {"grad_accum_steps": "2", "microbatch_size": "32", "train.yaml": "lr: 0.1\n"}
LITERALS = [f"{key}={value}" for key, value in DATA.items() if key != "train.yaml"]


@pytest.fixture(params=real_commands(), ids=str, scope="module")
def builder(request: pytest.FixtureRequest) -> Kustomize:
    return Kustomize(request.param)


def config_map(name: str = "knobs", namespace: str | None = None, **more: Any) -> bytes:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": DATA, **more}).encode()


def deployment(config_map: str = "knobs") -> bytes:
    spec = {
        "containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": "k", "mountPath": "/k"}]}],
        "volumes": [{"name": "k", "configMap": {"name": config_map}}],
    }
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    labels = {"matchLabels": {"a": "b"}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
    return json.dumps({**body, "spec": {"selector": labels, "template": template}}).encode()


def patched(files: dict[str, bytes], target: PatchTarget, knobs: dict[str, int]) -> dict[str, bytes]:
    return files | {
        "o/kustomization.yaml": add_component(files["o/kustomization.yaml"], "modekeeper"),
        "o/modekeeper/kustomization.yaml": component_yaml(frozenset({"web"})).encode(),
        "o/modekeeper/web.knobs.yaml": config_map_yaml(target, knobs).encode(),
    }


def changes(builder: Kustomize, files: dict[str, bytes], target: PatchTarget, knobs: dict[str, int]) -> list[str]:
    """What a real component with the rendered patch changes in what the overlay builds."""
    found = changed_leaves(builder.build(files, "o"), builder.build(patched(files, target, knobs), "o"))
    assert not found.added
    assert not found.removed
    return [f"{doc.id}: {dotted(leaf.path)} {leaf.before} {leaf.after}" for doc in found.changed for leaf in doc.leaves]


@pytest.mark.parametrize("own", [None, "own"])
@pytest.mark.parametrize(("base_ns", "base_prefix"), [(None, None), ("bns", None), ("bns", "b-")])
@pytest.mark.parametrize(("ns", "prefix"), [(None, None), ("ons", "o-")])
def test_it_is_called_as_the_component_sees_it(
    builder: Kustomize,
    own: str | None,
    base_ns: str | None,
    base_prefix: str | None,
    ns: str | None,
    prefix: str | None,
) -> None:
    files = {
        "base/kustomization.yaml": kustomization(
            resources=["c.yaml", "d.yaml"], namespace=base_ns, namePrefix=base_prefix
        ),
        "base/c.yaml": config_map(namespace=own),
        "base/d.yaml": deployment(),
        "o/kustomization.yaml": kustomization(resources=["../base"], namespace=ns, namePrefix=prefix, nameSuffix="-s"),
    }
    name = f"{prefix or ''}{base_prefix or ''}knobs-s"
    carrier = KnobMap(namespace=ns or base_ns or own or "default", name=name)
    target = find_target(builder, files, "o", carrier)
    assert target == PatchTarget(
        api_version="v1",
        kind="ConfigMap",
        name=f"{base_prefix or ''}knobs",
        namespace=base_ns or own,
        config_map=name,
    )
    where = f"{ns or base_ns or own}/" if ns or base_ns or own else ""
    assert changes(builder, files, target, {"grad_accum_steps": 4}) == [
        f"ConfigMap {where}{name}: data.grad_accum_steps '2' '4'"
    ]


def test_the_volume_goes_along_with_a_renamed_one(builder: Kustomize) -> None:
    files = {
        "base/kustomization.yaml": kustomization(resources=["c.yaml", "d.yaml"]),
        "base/c.yaml": config_map(),
        "base/d.yaml": deployment(),
        "o/kustomization.yaml": kustomization(resources=["../base"], namespace="ml", namePrefix="o-"),
    }
    workload = WorkloadSettings(namespace="ml", name="o-web", overlay="o", delivery="configmap")
    repo = RepoSettings(version="v1", workloads=(workload,))
    assert carrier_of(repo, workload, builder.build(files, "o")) == KnobMap(namespace="ml", name="o-knobs")


@pytest.mark.parametrize("wanted", ["knobs", "hashed"])
def test_a_generated_one_with_a_suffix_is_refused(builder: Kustomize, wanted: str) -> None:
    """By the name it was asked for, or by the one it happens to have today."""
    generator = [{"name": "knobs", "literals": LITERALS}]
    files = {
        "base/kustomization.yaml": kustomization(resources=["d.yaml"], configMapGenerator=generator),
        "base/d.yaml": deployment(),
        "o/kustomization.yaml": kustomization(resources=["../base"], namespace="ml"),
    }
    built = builder.build(files, "o")
    name = wanted
    if wanted == "hashed":
        [name] = {word for word in built.split() if word.startswith("knobs-")}
    with pytest.raises(InputError, match="appends a hash of its contents") as caught:
        find_target(builder, files, "o", KnobMap(namespace="ml", name=name))
    assert "disableNameSuffixHash" in (caught.value.hint or "")


def test_a_generated_one_without_a_suffix_is_a_plain_one_in_the_base_only(builder: Kustomize) -> None:
    generator = [{"name": "knobs", "literals": LITERALS, "options": {"disableNameSuffixHash": True}}]
    base = {
        "base/kustomization.yaml": kustomization(resources=["d.yaml"], configMapGenerator=generator),
        "base/d.yaml": deployment(),
        "o/kustomization.yaml": kustomization(resources=["../base"], namespace="ml"),
    }
    carrier = KnobMap(namespace="ml", name="knobs")
    target = find_target(builder, base, "o", carrier)
    assert changes(builder, base, target, {"microbatch_size": 16}) == [
        "ConfigMap ml/knobs: data.microbatch_size '32' '16'"
    ]
    later = {
        "o/kustomization.yaml": kustomization(resources=["d.yaml"], namespace="ml", configMapGenerator=generator),
        "o/d.yaml": deployment(),
    }
    with pytest.raises(InputError, match="made after the turn of component"):
        find_target(builder, later, "o", carrier)


def test_equal_names_in_two_namespaces_are_told_apart(builder: Kustomize) -> None:
    files = {
        "o/kustomization.yaml": kustomization(resources=["a.yaml", "b.yaml"]),
        "o/a.yaml": config_map(namespace="one"),
        "o/b.yaml": config_map(namespace="two"),
    }
    for namespace in ("one", "two"):
        target = find_target(builder, files, "o", KnobMap(namespace=namespace, name="knobs"))
        assert changes(builder, files, target, {"grad_accum_steps": 4}) == [
            f"ConfigMap {namespace}/knobs: data.grad_accum_steps '2' '4'"
        ]


def test_one_that_is_not_built_is_told(builder: Kustomize) -> None:
    files = {"o/kustomization.yaml": kustomization(resources=["c.yaml"]), "o/c.yaml": config_map("other")}
    with pytest.raises(InputError, match="builds no ConfigMap default/knobs; it builds other"):
        find_target(builder, files, "o", KnobMap(namespace="default", name="knobs"))
    with pytest.raises(ManifestError):
        find_target(builder, files | {"o/c.yaml": b"{"}, "o", KnobMap(namespace="default", name="other"))


def test_a_key_that_the_overlay_sets_after_our_turn_is_told(builder: Kustomize) -> None:
    later = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "knobs"}, "data": {"grad_accum_steps": "7"}}
    files = {
        "o/kustomization.yaml": kustomization(resources=["c.yaml"], patches=[{"patch": json.dumps(later)}]),
        "o/c.yaml": config_map(),
    }
    carrier = KnobMap(namespace="default", name="knobs")
    target = find_target(builder, files, "o", carrier)
    asked = ["grad_accum_steps", "microbatch_size"]
    assert overridden(builder, files, "o", carrier, target, asked) == ("grad_accum_steps",)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,6}|on|yes|null|y|e1|x0", fullmatch=True), st.integers(0, 2**31 - 1), min_size=1, max_size=6))  # fmt: skip
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_rendered_is_built_and_read_back(builder: Kustomize, knobs: dict[str, int]) -> None:
    files = {
        "o/kustomization.yaml": kustomization(resources=["c.yaml"], namespace="ml", nameSuffix="-1"),
        "o/c.yaml": config_map("123"),
    }
    target = PatchTarget(api_version="v1", kind="ConfigMap", name="123", config_map="123-1")
    built = builder.build(patched(files, target, knobs), "o")
    expected = {"grad_accum_steps": 2, "microbatch_size": 32, **knobs}
    assert built_knobs(built, KnobMap(namespace="ml", name="123-1")) == dict(sorted(expected.items()))
