"""Which workloads are ours, by the configuration and by what the base branch builds; and how many workers they have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gitops_mk.core.enrolment import Reach, admitted, by_key, is_enrolled, reach, ref_of_key, refused_place, world_size
from gitops_mk.errors import InputError
from gitops_mk.model.plan import PatchTarget, Plan
from gitops_mk.model.settings import Discovery, RepoSettings, WorkloadSettings
from gitops_mk.model.workload import API_VERSIONS, WorkloadRef
from tests.support import make

LISTED = WorkloadSettings(namespace="ml", name="trainer", overlay="overlays/demo", passport="perf")
SETTINGS = RepoSettings(version="v1", workloads=(LISTED,), discovery=Discovery(namespaces=("open",)))
FREE = WorkloadRef(namespace="open", kind="StatefulSet", name="free")
SHUT = WorkloadRef(namespace="shut", kind="Deployment", name="free")


def document(ref: WorkloadRef = FREE, meta: str = "", spec: str = "") -> str:
    return (
        f"apiVersion: {ref.api_version}\nkind: {ref.kind}\nmetadata:\n{meta}  name: {ref.name}\n  namespace: {ref.namespace}\n"
        f"spec:\n  x: y\n{spec}"
    )


def record(path: str) -> bytes | None:
    """A decision record of `FREE` at any path that can be one."""
    folder = path.removesuffix("statefulset-free.plan.json").removesuffix("modekeeper/").rstrip("/") or "."
    target = PatchTarget(api_version="apps/v1", kind="StatefulSet", name="free")
    try:
        return make.plan(workload=FREE, overlay=folder, target=target).to_text().encode()
    except ValidationError:
        return None


def labelled(value: str) -> str:
    return f"  labels:\n    modekeeper.dev/enabled: {value}\n"


class TestAdmitted:
    def test_listed_ones_have_their_own_entry(self) -> None:
        assert admitted(SETTINGS, make.REF, "elsewhere") is LISTED

    def test_others_where_discovery_is_open(self) -> None:
        found = admitted(SETTINGS, FREE, "a/b")
        assert found is not None
        assert (found.ref, found.overlay, found.passport) == (FREE, "a/b", None)
        assert admitted(SETTINGS, SHUT, "a/b") is None

    @pytest.mark.parametrize("overlay", ["../a", "/a", "", "a/.git", "-a", "a:b", "a/../b", "x" * 600])
    def test_a_folder_that_no_configuration_could_name(self, overlay: str) -> None:
        assert admitted(SETTINGS, FREE, overlay) is None


class TestByKey:
    def test_listed(self) -> None:
        assert by_key(SETTINGS, make.REF.key, (), record) is LISTED

    @pytest.mark.parametrize(
        ("paths", "overlay"),
        [
            (("modekeeper/statefulset-free.plan.json", "README.md"), "."),
            (("a/b/modekeeper/statefulset-free.plan.json",), "a/b"),
        ],
    )
    def test_by_its_decision_record(self, paths: tuple[str, ...], overlay: str) -> None:
        found = by_key(SETTINGS, FREE.key, paths, record)
        assert found is not None
        assert (found.ref, found.overlay) == (FREE, overlay)

    @pytest.mark.parametrize(
        "paths",
        [
            (),
            ("xmodekeeper/statefulset-free.plan.json",),
            ("a/modekeeper/free.plan.json",),
            ("a/modekeeper/statefulset-free.plan.json", "b/modekeeper/statefulset-free.plan.json"),
            ("a:b/modekeeper/statefulset-free.plan.json",),
        ],
    )
    def test_none_or_several(self, paths: tuple[str, ...]) -> None:
        assert by_key(SETTINGS, FREE.key, paths, record) is None

    def test_of_several_the_one_with_the_digest(self) -> None:
        paths = ("a/modekeeper/statefulset-free.plan.json", "b/modekeeper/statefulset-free.plan.json")
        for path, overlay in zip(paths, "ab", strict=True):
            plan = Plan.parse_json(record(path) or b"", what=path)
            found = by_key(SETTINGS, FREE.key, paths, record, digest=plan.digest)
            assert found is not None
            assert found.overlay == overlay
        assert by_key(SETTINGS, FREE.key, paths, record, digest="0" * 64) is None

    def test_none_of_ours(self) -> None:
        assert by_key(SETTINGS, SHUT.key, ("modekeeper/free.plan.json",), record) is None
        assert by_key(SETTINGS, "no key", ("modekeeper/free.plan.json",), record) is None

    @given(st.sampled_from(sorted(API_VERSIONS)), st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True))
    def test_keys_are_read_as_they_are_written(self, kind: Any, name: str) -> None:
        ref = WorkloadRef(namespace="ml", kind=kind, name=name)
        assert ref_of_key(ref.key) == ref

    @given(st.text(max_size=30))
    def test_any_text_can_be_read(self, key: str) -> None:
        found = ref_of_key(key)
        assert found is None or found.key == key

    @pytest.mark.parametrize(
        "key", ["", "ml", "ml/trainer", "ml/deployment", "ml/pod-x", "ML/deployment-x", "ml/deployment-"]
    )
    def test_no_keys(self, key: str) -> None:
        assert ref_of_key(key) is None


class TestEnrolled:
    def test_listed(self) -> None:
        assert is_enrolled(SETTINGS, make.REF, None)

    @pytest.mark.parametrize(
        ("value", "enrolled"), [('"true"', True), ('"false"', False), ('"True"', False), ('""', False)]
    )
    def test_by_its_label(self, value: str, enrolled: bool) -> None:
        assert is_enrolled(SETTINGS, FREE, document(meta=labelled(value))) is enrolled

    def test_not_in_the_build(self) -> None:
        assert not is_enrolled(SETTINGS, FREE, None)
        assert not is_enrolled(SETTINGS, FREE, document())
        assert not is_enrolled(SETTINGS, FREE, document(SHUT, labelled('"true"')))

    def test_a_label_of_the_pods_is_none_of_its_own(self) -> None:
        spec = '  template:\n    metadata:\n      labels:\n        modekeeper.dev/enabled: "true"\n'
        assert not is_enrolled(SETTINGS, FREE, document(spec=spec))


class TestRefusedPlace:
    """A component reaches whatever builds on its overlay, and holds one record a name."""

    MINE = WorkloadSettings(namespace="open", name="free", kind="StatefulSet", overlay="apps")
    RECORD = "apps/modekeeper/statefulset-free.plan.json"

    def test_a_folder_of_its_own(self) -> None:
        files = {
            "apps/kustomization.yaml": b"resources: [a.yaml]\n",
            "other/kustomization.yaml": b"resources: [b.yaml]\n",
        }
        assert refused_place(SETTINGS, self.MINE, files, document()) == ""

    @pytest.mark.parametrize(
        "text",
        [b"resources: [../apps]\n", b"bases: ['./../apps/']\n", b"components:\n- ../apps\n", b"resources: [../apps\n"],
    )
    def test_a_folder_that_others_build_on(self, text: bytes) -> None:
        files = {"apps/kustomization.yaml": b"", "prod/kustomization.yaml": text}
        assert "prod builds on apps" in refused_place(SETTINGS, self.MINE, files, document())
        # Who lists a workload there has chosen the place.
        listed = SETTINGS.model_copy(update={"workloads": (self.MINE,)})
        assert refused_place(listed, self.MINE, files, document()) == ""

    def test_a_folder_that_is_only_named(self) -> None:
        files = {
            "apps/kustomization.yaml": b"",
            "prod/kustomization.yaml": b"resources: [apps.yaml]\n",
            "x.yaml": b"apps",
        }
        assert refused_place(SETTINGS, self.MINE, files, document()) == ""

    def test_a_record_of_another(self) -> None:
        assert refused_place(SETTINGS, self.MINE, {self.RECORD: record(self.RECORD) or b""}, document()) == ""
        twin = WorkloadSettings(namespace="ml", name="free", kind="StatefulSet", overlay="apps")
        taken = {self.RECORD: record(self.RECORD) or b""}
        assert "is the record of StatefulSet open/free" in refused_place(SETTINGS, twin, taken, document())
        # One that is built no more has left its place.
        assert refused_place(SETTINGS, twin, taken, document(SHUT)) == ""


def gpus(*counts: str, resource: str = "nvidia.com/gpu", part: str = "limits") -> str:
    containers = "".join(
        f"      - name: c{number}\n        resources:\n          {part}:\n            {resource}: {count}\n"
        for number, count in enumerate(counts)
    )
    return f"  template:\n    spec:\n      containers:\n{containers}"


class TestWorldSize:
    def size(self, build: str | None, passport: int | None = None, configured: int | None = None) -> int:
        workload = LISTED.model_copy(
            update={"namespace": "open", "kind": "StatefulSet", "name": "free", "world_size": configured}
        )
        return world_size(workload, make.passport(world_size=passport), build)

    def noted(self, value: str, where: str = "object") -> str:
        note = f"modekeeper.dev/world-size: {value}\n"
        if where == "object":
            return document(meta=f"  annotations:\n    {note}", spec="  replicas: 2\n")
        return document(spec=f"  replicas: 2\n  template:\n    metadata:\n      annotations:\n        {note}")

    def test_in_this_order(self) -> None:
        assert self.size(self.noted('"16"'), 32, 64) == 64
        assert self.size(self.noted('"16"'), 32) == 16
        assert self.size(self.noted('"16"', "template"), 32) == 16
        assert self.size(document(spec="  replicas: 2\n"), 32) == 32
        assert self.size(None, 32) == 32
        assert self.size(document(spec="  replicas: 2\n" + gpus("8"))) == 16
        assert self.size(None) == 1

    @pytest.mark.parametrize("value", ['"0"', '"-4"', '"many"', '""', '"99999999"', '"٤"', '"1e3"'])
    def test_an_annotation_that_is_no_number(self, value: str) -> None:
        assert self.size(self.noted(value)) == 2

    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            ("", 1), ("  replicas: 0\n", 1), ("  replicas: 4\n", 4), ("  parallelism: 4\n", 4), ('  replicas: "4"\n', 4),
            (gpus("4", "4"), 8), (gpus('"8"'), 8), (gpus("0"), 1), (gpus("some"), 1), (gpus("8", part="requests"), 1),
            (gpus("8", resource="amd.com/gpu"), 8), (gpus("8", resource="gpu.intel.com/i915"), 8), (gpus("8", resource="cpu"), 1),
        ],
    )  # fmt: skip
    def test_pods_times_gpus(self, spec: str, expected: int) -> None:
        assert self.size(document(spec=spec)) == expected

    def test_two_of_that_name(self) -> None:
        with pytest.raises(InputError, match="twice"):
            self.size(document() + "---\n" + document())


class TestReach:
    """What a restart takes down."""

    FREE = WorkloadRef(namespace="open", kind="StatefulSet", name="free")

    def test_pods_and_all_their_gpus(self) -> None:
        assert reach(self.FREE, document(spec="  replicas: 2\n" + gpus("8"))) == Reach(pods=2, gpus=16)
        assert reach(self.FREE, document(spec="  replicas: 0\n" + gpus("8"))) == Reach(pods=0, gpus=0)

    def test_where_the_build_does_not_say(self) -> None:
        assert reach(self.FREE, None) is None
        other = self.FREE.model_copy(update={"name": "other"})
        assert reach(other, document(spec="  replicas: 2\n")) is None
