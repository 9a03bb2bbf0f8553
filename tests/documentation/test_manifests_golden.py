"""What `kustomize/` gives and asks for, without a cluster: a golden table of rights, one image, one build for every choice."""

from __future__ import annotations

import re
import shlex
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gitops_mk import __version__
from gitops_mk.adapters.kustomize import Kustomize
from gitops_mk.cli.controller import controller
from gitops_mk.core.enrolment import is_enrolled
from gitops_mk.demo.annotations import knobs_of
from gitops_mk.model.cluster import RESOURCES
from gitops_mk.model.settings import Discovery, RepoSettings
from gitops_mk.model.workload import API_VERSIONS, WorkloadRef
from tests.support.manifests import (
    BUILDS,
    COMPONENTS,
    CONTROLLER,
    DRY_RUN,
    EVERYWHERE,
    FOLDER,
    KILL_SWITCH,
    OPTIONS,
    OWN_NAMESPACE,
    ROOT,
    VERIFY,
    build,
    build_overlay,
    parse,
    rights,
)

HOME = "modekeeper-system"
DOCKERFILE = ROOT / ".ci" / "Dockerfile"


def lines(account: str, where: str, table: set[str]) -> set[str]:
    return {f"{HOME}/{account} {where} may {right}" for right in table}


def one(documents: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = [d for d in documents if d["kind"] == kind and (not name or d["metadata"]["name"] == name)]
    return found


# -- builds ----------------------------------------------------------------------------------------------------------


def test_the_folder_is_as_the_docs_say() -> None:
    assert BUILDS == [
        "base",
        "overlays/argocd",
        "overlays/controller",
        "overlays/demo",
        "overlays/flux",
        "workload-namespace",
    ]
    assert COMPONENTS == ["github-app", "image", "kill-switch", "license", "metrics", "verify-dry-run"]


@pytest.mark.parametrize("name", BUILDS)
def test_every_kustomization_builds(name: str) -> None:
    assert parse(build(FOLDER / name))


@pytest.mark.parametrize(
    "chosen", list(chain.from_iterable(combinations(OPTIONS, n) for n in range(len(OPTIONS) + 1))), ids="+".join
)
def test_every_choice_of_components_builds(chosen: tuple[str, ...], tmp_path: Path) -> None:
    plain = parse(build(FOLDER / "base"))
    built = parse(build_overlay(tmp_path, ["base"], components=chosen))
    more = {"github-app": 0, "kill-switch": 3, "license": 0, "metrics": 2, "verify-dry-run": 3}
    assert len(built) == len(plain) + sum(more[name] for name in chosen)


# -- rights ----------------------------------------------------------------------------------------------------------


def test_the_controller_reads_and_leads_and_that_is_all() -> None:
    documents = [*parse(build(FOLDER / "base")), *parse(build(FOLDER / "overlays" / "demo"))]
    assert set(rights(documents)) == (
        lines("modekeeper-controller", "everywhere", EVERYWHERE)
        | lines("modekeeper-controller", f"in {HOME}", OWN_NAMESPACE)
        | lines("modekeeper-controller", "in modekeeper-demo", CONTROLLER)
        | lines("modekeeper-verify", "in modekeeper-demo", VERIFY)
    )


def test_all_that_any_choice_gives(tmp_path: Path) -> None:
    everything = build_overlay(tmp_path / "system", ["base"], components=OPTIONS)
    team = build_overlay(tmp_path / "team", ["workload-namespace"], namespace="team-a")
    found = set(rights([*parse(everything), *parse(team)]))
    assert found == (
        lines("modekeeper-controller", "everywhere", EVERYWHERE)
        | lines("modekeeper-controller", f"in {HOME}", OWN_NAMESPACE | KILL_SWITCH)
        | lines("modekeeper-controller", "in team-a", CONTROLLER | DRY_RUN)
        | lines("modekeeper-verify", "in team-a", VERIFY | DRY_RUN)
    )
    writes = {verb for line in found for verb in line.split(" may ")[1].split()[0].split(",")} - {
        "get",
        "list",
        "watch",
    }
    assert writes == {"create", "patch", "update"}
    for word in ("*", "secrets", "exec", "impersonate", "escalate", "bind ", "portforward", "token"):
        assert not [line for line in found if word in line], word


def test_the_dry_run_right_comes_with_its_policy_and_never_alone() -> None:
    for path in FOLDER.rglob("*.yaml"):
        for document in YAML(typ="safe").load_all(path):
            if document["kind"] in ("Role", "ClusterRole") and path.parent.name != "verify-dry-run":
                for rule in document["rules"]:
                    writes = set(rule["verbs"]) - {"get", "list", "watch"}
                    assert not writes or set(rule["resources"]) <= {"events", "leases"}, f"{path}: {rule}"
            if document["kind"] == "ClusterRoleBinding":
                assert document["roleRef"]["name"] == "modekeeper-cluster-reader", path
    kustomization = YAML(typ="safe").load(FOLDER / "components/verify-dry-run/kustomization.yaml")
    assert kustomization["resources"] == ["policy.yaml", "clusterrole.yaml"]


def test_the_policy_covers_every_right_it_comes_with(tmp_path: Path) -> None:
    built = parse(build_overlay(tmp_path, ["base"], components=["verify-dry-run"]))
    policy, binding = one(built, "ValidatingAdmissionPolicy"), one(built, "ValidatingAdmissionPolicyBinding")
    groups, core = policy["spec"]["matchConstraints"]["resourceRules"]
    role = one(built, "ClusterRole", "modekeeper-dry-run")
    rights = [(group, set(given["resources"])) for given in role["rules"] for group in given["apiGroups"]]
    assert set(groups["apiGroups"]) == {group for group, _ in rights if group}
    assert groups["resources"] == ["*/*"]
    # The core group has what they really write, too: Events.
    assert [resources for group, resources in rights if not group] == [{"configmaps"}]
    assert (core["apiGroups"], core["resources"]) == ([""], ["configmaps"])
    for rule in (groups, core):
        assert rule["apiVersions"] == ["*"]
        assert set(rule["operations"]) == {"CREATE", "UPDATE", "DELETE"}
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


def test_every_kind_of_workload_is_in_the_table() -> None:
    for kind in API_VERSIONS:
        name = f"{RESOURCES[kind].plural}.{RESOURCES[kind].group}"
        assert f"get,list,watch {name}" in CONTROLLER
        assert f"get {name}" in VERIFY
        assert f"create,patch {name}" in DRY_RUN


# -- the Deployment and its image ------------------------------------------------------------------------------------


def test_the_image_is_named_in_one_place_and_is_this_version() -> None:
    (named,) = [path for path in FOLDER.rglob("*.yaml") if "ghcr.io" in path.read_text()]
    assert named == FOLDER / "components/image/kustomization.yaml"
    for folder, name in (("base", "modekeeper-controller"), ("overlays/demo", "trainer")):
        (container,) = one(parse(build(FOLDER / folder)), "Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"ghcr.io/OWNER/modekeeper-gitops:{__version__}"


def test_the_base_proposes_and_never_merges() -> None:
    for folder in ("base", "overlays/controller"):
        (container,) = one(parse(build(FOLDER / folder)), "Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["args"][:2] == ["controller", "run"]
        # Raises for an option that the command does not have.
        context = controller.commands["run"].make_context("run", list(container["args"][2:]))
        assert context.params["merge"] is False
        assert context.params["once"] is False


def test_names_that_belong_together_are_the_same(tmp_path: Path) -> None:
    built = parse(build_overlay(tmp_path, ["base"], components=OPTIONS))
    spec = one(built, "Deployment")["spec"]
    labels = spec["template"]["metadata"]["labels"].items()
    for chosen in (
        spec["selector"]["matchLabels"],
        one(built, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(built, "Service")["spec"]["selector"],
        *(c["labelSelector"]["matchLabels"] for c in spec["template"]["spec"]["topologySpreadConstraints"]),
    ):
        assert chosen.items() <= labels
    service, monitor = one(built, "Service"), one(built, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    (container,) = spec["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    args = dict(zip(container["args"][2::2], container["args"][3::2], strict=True))
    assert args["--listen"] == f"0.0.0.0:{port['containerPort']}"
    assert args["--lease"] == f"{HOME}/modekeeper-controller"
    assert args["--out"] in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert args["--repo"] == "$(GITOPS_REPO)"
    assert one(built, "NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"] == port["containerPort"]


def test_what_argo_cd_and_flux_sync_is_there() -> None:
    application = one(parse(build(FOLDER / "overlays/argocd")), "Application")["spec"]
    flux = parse(build(FOLDER / "overlays/flux"))
    source, sync = one(flux, "GitRepository"), one(flux, "Kustomization")["spec"]
    assert sync["sourceRef"]["name"] == source["metadata"]["name"]
    for path in (application["source"]["path"], sync["path"]):
        assert (ROOT / path / "kustomization.yaml").is_file()
    switch = one(parse(build(FOLDER / "overlays/controller")), "ConfigMap")
    (ignored,) = application["ignoreDifferences"]
    assert (ignored["name"], ignored["namespace"]) == (switch["metadata"]["name"], switch["metadata"]["namespace"])
    assert ignored["jsonPointers"] == ["/data/kill"]
    assert "RespectIgnoreDifferences=true" in application["syncPolicy"]["syncOptions"]
    assert switch["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/ssa"] == "IfNotPresent"
    assert switch["data"] == {"kill": "0"}


def test_the_demo_is_a_workload_that_modekeeper_finds_and_can_build() -> None:
    files = {str(path.relative_to(ROOT)): path.read_bytes() for path in FOLDER.rglob("*.yaml")}
    built = Kustomize().build(files, "kustomize/overlays/demo")
    settings = RepoSettings(version="v1", discovery=Discovery(namespaces=("modekeeper-demo",)))
    ref = WorkloadRef(namespace="modekeeper-demo", kind="Deployment", name="trainer")
    assert is_enrolled(settings, ref, built)
    template = one(parse(built), "Deployment")["spec"]["template"]["metadata"]
    assert knobs_of(template["annotations"])["dataloader_num_workers"] == 2


# -- the Dockerfile --------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def test_the_image_is_pinned_and_not_root() -> None:
    found = instructions()
    (base,) = [rest for word, rest in found if word == "ARG"]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)
    assert all(rest.startswith("${PYTHON_IMAGE}") for word, rest in found if word == "FROM")
    fetches = [rest for word, rest in found if word == "RUN" and re.search(r"pip.* (install|download)", rest)]
    for line in fetches:
        assert "--require-hashes --no-deps --only-binary :all:" in line or line.count("--no-index") == line.count(
            " install "
        )
    (user,) = [rest for word, rest in found if word == "USER"]
    spec = one(parse(build(FOLDER / "base")), "Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{spec['runAsUser']}:{spec['runAsGroup']}"
    assert found[-1] == ("ENTRYPOINT", '["mk"]')


def test_what_the_image_is_made_of_is_let_in() -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            for name in shlex.split(rest)[:-1]:
                assert (ROOT / name).exists()
                assert f"!{name}" in ignored
