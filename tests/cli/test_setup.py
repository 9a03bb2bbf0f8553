"""`mk init` and `mk doctor` on repositories as people have them: what they leave out, they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.controller.setup import builds_on, config_yaml, find_workloads
from gitops_mk.controller.state import choose_workload
from gitops_mk.core.documents import parse_yaml
from gitops_mk.errors import InputError, ManifestError
from gitops_mk.model.settings import CONFIG_PATH, RepoSettings, WorkloadSettings
from tests.cli.conftest import Mk, commit_all, git
from tests.support.world import builder

KNOBS = {"modekeeper/knob.dataloader_num_workers": "2", "modekeeper/knob.dataloader_prefetch_factor": "2"}


def manifest(name: str, namespace: str | None = None, *, kind: str = "Deployment", notes: Any = KNOBS) -> bytes:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    template = {
        "metadata": {"labels": {"a": "b"}, "annotations": notes},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    return json.dumps({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}).encode()


def kustomization(*resources: str, **fields: Any) -> bytes:
    return json.dumps({"resources": list(resources), **fields}).encode()


def put(checkout: Path, files: dict[str, bytes]) -> None:
    """Make these the whole repository, and push them."""
    git("rm", "-q", "-r", ".", cwd=checkout)
    for path, data in files.items():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_bytes(data)
    commit_all(checkout)


def listed(checkout: Path) -> list[tuple[str, str, str]]:
    settings = parse_yaml(RepoSettings, (checkout / CONFIG_PATH).read_bytes(), what=CONFIG_PATH)
    return [(w.namespace, w.name, w.overlay) for w in settings.workloads]


def settings(*workloads: dict[str, str]) -> RepoSettings:
    return RepoSettings.parse({"version": "v1", "workloads": list(workloads)}, what="settings")


def test_an_overlay_that_names_no_namespace_goes_all_the_way(mk: Mk, checkout: Path, licensed: Path) -> None:
    put(checkout, {"prod/kustomization.yaml": kustomization("d.yaml"), "prod/d.yaml": manifest("trainer")})
    said = mk("init", "--repo", checkout)
    assert said.code == 0, said.err
    assert listed(checkout) == [("default", "trainer", "prod")]
    commit_all(checkout)
    well = mk("doctor", "--repo", checkout)
    assert well.code == 0, well.out
    assert "dataloader_num_workers=2" in well.out
    assert mk("closed-loop", "run", "--scenario", "straggler", "--repo", checkout, "--out", "p").code == 0
    proposed = mk("propose", "--plan", "p/k8s_plan.json", "--repo", checkout, "--out", "p")
    assert proposed.code == 0, proposed.err
    verified = mk("verify", "--pr", "1", "--repo", checkout, "--out", "v")
    assert verified.code == 0, verified.out + verified.err


def test_two_workloads_that_would_share_a_file_are_not_both_listed(mk: Mk, checkout: Path) -> None:
    put(
        checkout,
        {
            "prod/kustomization.yaml": kustomization("one.yaml", "two.yaml"),
            "prod/one.yaml": manifest("trainer", "one"),
            "prod/two.yaml": manifest("trainer", "two"),
        },
    )
    said = mk("init", "--repo", checkout)
    assert said.code == 0, said.err
    assert listed(checkout) == [("one", "trainer", "prod")]
    assert "note: Deployment two/trainer in prod is left out" in said.out
    assert "Deployment two/trainer and Deployment one/trainer share the file 'trainer' in 'prod'" in said.out
    assert "give one of them another name, or an overlay of its own" in said.out


def test_overlays_that_build_the_same_workload_are_named(mk: Mk, checkout: Path) -> None:
    put(
        checkout,
        {
            "base/kustomization.yaml": kustomization("d.yaml"),
            "base/d.yaml": manifest("trainer", "ml"),
            "apps/prod/kustomization.yaml": kustomization("../../base"),
            "apps/stage/kustomization.yaml": kustomization("../../base"),
            "apps/test/kustomization.yaml": kustomization("../../base"),
        },
    )
    said = mk("init", "--repo", checkout)
    assert listed(checkout) == [("ml", "trainer", "apps/prod")]
    assert (
        "note: Deployment ml/trainer is also built by apps/stage, apps/test: one overlay a workload; "
        "edit `overlay` (apps/prod) to choose another" in " ".join(said.out.split())
    )


def test_what_can_not_be_read_is_left_out_and_the_rest_is_listed(mk: Mk, checkout: Path) -> None:
    put(
        checkout,
        {
            "prod/kustomization.yaml": kustomization("a.yaml", "b.yaml", "c.yaml"),
            "prod/a.yaml": manifest("bad", "ml", notes=KNOBS | {"port": 8080}),
            "prod/b.yaml": manifest("trainer", "ml"),
            "prod/c.yaml": manifest("old", "ml").replace(b"apps/v1", b"example.com/v1"),
            "away/kustomization.yaml": kustomization("https://example.invalid/base"),
        },
    )
    said = mk("init", "--repo", checkout)
    assert said.code == 0, said.err
    assert listed(checkout) == [("ml", "trainer", "prod")]
    out = " ".join(said.out.split())
    assert "note: Deployment ml/bad in prod is left out: " in out
    assert "spec.template.metadata.annotations.port is 8080 (int), expected text in quotes" in out
    assert "note: away is left out: away/kustomization.yaml: `resources` names the remote" in out
    (checkout / CONFIG_PATH).unlink()
    assert "names the remote" in mk("init", "--repo", checkout, "--overlay", "away").error


def test_a_name_that_yaml_would_read_otherwise_is_quoted() -> None:
    files = {"123/kustomization.yaml": kustomization("d.yaml"), "123/d.yaml": manifest("on", "0x1f")}
    found = find_workloads(files, builder(), ["123/", "123"])
    text = config_yaml("1.10", found.workloads)
    read = parse_yaml(RepoSettings, text.encode(), what="config")
    assert read.base_branch == "1.10"
    assert [(w.namespace, w.name, w.overlay) for w in read.workloads] == [("0x1f", "on", "123")]
    assert found.notes == []
    with pytest.raises(ManifestError):
        find_workloads(files, builder(), ["none"])


def test_doctor_tells_who_else_a_change_reaches_and_what_it_can_not_move(
    mk: Mk, checkout: Path, licensed: Path
) -> None:
    fixed = {"modekeeper/knob.dataloader_num_workers": "8"}
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "trainer"},
        "spec": {"template": {"metadata": {"annotations": fixed}}},
    }
    workload = WorkloadSettings.parse({"namespace": "ml", "name": "trainer", "overlay": "overlays/prod"}, what="w")
    put(
        checkout,
        {
            CONFIG_PATH: config_yaml("main", [workload]).encode(),
            "overlays/prod/kustomization.yaml": kustomization(
                "d.yaml", namespace="ml", patches=[{"patch": json.dumps(patch)}]
            ),
            "overlays/prod/d.yaml": manifest("trainer"),
            "clusters/east/kustomization.yaml": kustomization("../../overlays/prod"),
            "clusters/west/kustomization.yaml": kustomization("../east"),
        },
    )
    said = mk("doctor", "--repo", checkout, "--json")
    assert said.code == 0, said.out
    told = {line["check"]: line for line in said.json["checks"]}
    reach = told["Deployment ml/trainer, reach"]
    assert reach["detail"] == "clusters/east, clusters/west build on overlays/prod: a change reaches them too"
    assert not reach["needed"]
    patches = told["Deployment ml/trainer, patches"]
    assert patches["detail"].startswith("overlays/prod sets dataloader_num_workers after our component")
    assert not patches["needed"]


def test_what_builds_on_an_overlay() -> None:
    files = {
        "kustomization.yaml": kustomization("a"),
        "a/kustomization.yaml": kustomization("b"),
        "a/b/kustomization.yaml": kustomization(),
        "bad/kustomization.yaml": kustomization("../a", "gone"),
    }
    assert builds_on(files, ["a/b/", "a", "."]) == {"a/b/": (".", "a"), "a": (".",), ".": ()}


def test_choosing_between_two_kinds_of_one_name() -> None:
    one = {"namespace": "ml", "name": "trainer", "overlay": "o"}
    both = settings(one, one | {"kind": "StatefulSet"}, one | {"name": "web"})
    with pytest.raises(InputError, match=r"fits 2 workloads: ml/Deployment/trainer, ml/StatefulSet/trainer$") as caught:
        choose_workload(both, "ml/trainer")
    assert "NAMESPACE/KIND/NAME" in (caught.value.hint or "")
    assert choose_workload(both, "ml/StatefulSet/trainer").kind == "StatefulSet"
    with pytest.raises(InputError, match=r"configured are ml/Deployment/trainer, ml/StatefulSet/trainer, ml/web$"):
        choose_workload(both, "ml/other")
    with pytest.raises(InputError, match="3 workloads are configured"):
        choose_workload(both, None)
    with pytest.raises(InputError, match="configured are none"):
        choose_workload(settings(), "ml/other")
    with pytest.raises(InputError, match=r"0 workloads are configured \(none\)"):
        choose_workload(settings(), None)
    assert choose_workload(settings(one), None).name == "trainer"


def test_a_large_file_somewhere_in_the_repository_is_no_hindrance(mk: Mk, checkout: Path, licensed: Path) -> None:
    (checkout / "model.bin").write_bytes(bytes(5 * 1024 * 1024))
    commit_all(checkout)
    said = mk("doctor", "--repo", checkout)
    assert said.code == 0, said.out
    (checkout / "base/model.yaml").write_bytes(b"#" * (5 * 1024 * 1024))
    path = checkout / "base/kustomization.yaml"
    path.write_text(path.read_text().replace("resources:", "resources:\n  - model.yaml"))
    commit_all(checkout)
    said = mk("doctor", "--repo", checkout)
    assert said.code == 1
    assert "base/model.yaml has 5242880 bytes, more than the 4194304" in " ".join(said.out.split())


def test_verify_takes_a_commit_by_its_distance(mk: Mk, checkout: Path) -> None:
    (checkout / "note").write_text("x")
    commit_all(checkout)
    said = mk("verify", "--base", "HEAD~1", "--head", "HEAD", "--repo", checkout, "--out", "v")
    assert said.code == 1, said.err
    assert "scope" in said.out + said.err
    assert (
        "is no git ref"
        in mk("verify", "--base", "HEAD..main", "--head", "HEAD", "--repo", checkout, "--out", "v").error
    )
