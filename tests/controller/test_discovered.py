"""Workloads that no configuration lists: verify and the gate take each for what it is, in its own overlay, and for no other."""

from __future__ import annotations

from typing import Any

import pytest

from gitops_mk.controller.proposing import propose_plan
from gitops_mk.controller.rollback import propose_rollback
from gitops_mk.controller.state import policy_of, state_on_base
from gitops_mk.core.enrolment import admitted
from gitops_mk.core.planner import Options, compute_action, make_plan
from gitops_mk.core.render.component import component_yaml, render
from gitops_mk.core.render.describe import commit_message
from gitops_mk.core.render.paths import knobs_path, plan_path
from gitops_mk.errors import InputError
from gitops_mk.model.change import PullRequest
from gitops_mk.model.chord import Intent
from gitops_mk.model.plan import PatchTarget, Plan
from gitops_mk.model.signal import SignalName
from gitops_mk.model.verdict import Reason
from gitops_mk.model.workload import WorkloadRef
from tests.support.make import observation
from tests.support.world import CONFIG, Files, World, builder

A = WorkloadRef(namespace="team-a", kind="Deployment", name="trainer")
B = WorkloadRef(namespace="team-b", kind="Deployment", name="trainer")
OPEN = b"version: v1\nforge:\n  required_approvals: 0\ndiscovery:\n  namespaces: [team-a, team-b]\n"
LABEL = b'  labels:\n    modekeeper.dev/enabled: "true"\n'


def manifest(name: str = "trainer", *, namespace: str = "", label: bytes = LABEL, workers: int = 2) -> bytes:
    where = f"  namespace: {namespace}\n" if namespace else ""
    return (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n{where}".encode()
        + label
        + f"""spec:
  selector:
    matchLabels: {{app: trainer}}
  template:
    metadata:
      labels: {{app: trainer}}
      annotations:
        modekeeper/knob.dataloader_num_workers: "{workers}"
        modekeeper/knob.dataloader_prefetch_factor: "2"
    spec:
      containers:
        - name: trainer
          image: example.invalid/trainer:1
""".encode()
    )


def overlay(namespace: str, *resources: str) -> bytes:
    where = f"namespace: {namespace}\n" if namespace else ""
    return f"{where}resources:\n{''.join(f'  - {one}{chr(10)}' for one in resources)}".encode()


TWO_TEAMS: Files = {
    CONFIG: OPEN,
    "apps/kustomization.yaml": overlay("", "trainer.yaml"),
    "apps/trainer.yaml": manifest(),
    "a/kustomization.yaml": overlay("team-a", "../apps"),
    "b/kustomization.yaml": overlay("team-b", "../apps"),
}
ONE_OVERLAY: Files = {
    CONFIG: OPEN,
    "both/kustomization.yaml": overlay("", "a.yaml", "b.yaml"),
    "both/a.yaml": manifest(namespace="team-a"),
    "both/b.yaml": manifest(namespace="team-b"),
}


def plan_for(world: World, ref: WorkloadRef, folder: str, **over: Any) -> Plan:
    """The plan that an honest controller makes, with fields of its own."""
    forge = world.forge()
    files = forge.repo.files(forge.base_tip())
    policy = policy_of(files, world.tools.built_in)
    settings = admitted(policy.settings, ref, folder)
    assert settings is not None
    state = state_on_base(forge, files, policy, settings, builder())
    seen = observation(SignalName.STRAGGLER)
    action = compute_action(state, Intent.INPUT_STRAGGLER, seen)
    plan = make_plan(state, action, seen, Options(), now=world.clock.now(), mk_version="0.0.0")
    return replan(plan, **over)


def replan(plan: Plan, **over: Any) -> Plan:
    return Plan.make(**{**{name: getattr(plan, name) for name in Plan.model_fields if name != "digest"}, **over})


def proposed(world: World, plan: Plan) -> PullRequest:
    pr = propose_plan(world.place(), plan, world.tools).pr
    assert pr is not None
    return pr


def merged(world: World, plan: Plan) -> PullRequest:
    pr = proposed(world, plan)
    forge = world.forge()
    outcome = world.verify(forge, pr.number)
    assert outcome.ok, outcome.message
    applied = world.apply(forge, pr.number)
    assert applied.ok, (applied.reason, applied.message)
    return pr


def branch(world: World, plan: Plan, more: Files | None = None) -> Any:
    """Verify of a branch that anybody could push: the plan rendered as it should be, and what else is in `more`."""
    server, base = world.server, world.tip()
    tree = server.write_tree(base, {**render(plan, server.files(base)), **(more or {})})
    world.put("by-hand", tree=tree, parents=[base], message=commit_message(plan, world.tools.wording))
    from gitops_mk.controller.verify import verify_commits

    return verify_commits(
        server, base, world.tip("by-hand"), builder=builder(), built_in=world.tools.built_in, applied=server.applied(base),
        now=world.clock.now(),
    )  # fmt: skip


def test_two_of_one_name_each_in_its_own_overlay(world: World) -> None:
    world.commit(TWO_TEAMS)
    first = merged(world, plan_for(world, A, "a"))
    merged(world, plan_for(world, B, "b"))
    _, back = propose_rollback(world.place(), first, world.tools)
    assert back.pr is not None
    assert back.pr.workload == A.key


def test_a_listed_one_of_the_same_name_does_not_hide_a_discovered_one(world: World) -> None:
    listed = b"workloads:\n  - {namespace: team-a, name: trainer, overlay: a}\n"
    world.commit({**TWO_TEAMS, CONFIG: OPEN + listed})
    merged(world, plan_for(world, A, "a"))
    merged(world, plan_for(world, B, "b"))


def test_an_overlay_that_others_build_on_is_no_place_for_a_discovered_one(world: World) -> None:
    """A change there reaches workloads that no plan names, in namespaces that no configuration opens."""
    world.commit({
        CONFIG: OPEN,
        "apps/kustomization.yaml": overlay("team-a", "trainer.yaml"),
        "apps/trainer.yaml": manifest(),
        "prod/kustomization.yaml": overlay("payments", "../apps/"),
    })  # fmt: skip
    with pytest.raises(InputError, match="prod builds on"):
        plan_for(world, A, "apps")
    files = world.server.files(world.tip())
    policy = policy_of(files, world.tools.built_in)
    world.commit({"prod/kustomization.yaml": overlay("payments", "other.yaml"), "prod/other.yaml": manifest("other")})
    plan = plan_for(world, A, "apps")
    world.commit({"prod/kustomization.yaml": overlay("payments", "../apps/"), "prod/other.yaml": None})
    assert policy.settings.workloads == ()
    outcome = branch(world, plan)
    assert (outcome.reason, outcome.ok) == (Reason.SCOPE_VIOLATION, False), outcome.message
    assert "prod builds on" in outcome.message


def test_the_record_of_another_workload_is_not_replaced(world: World) -> None:
    """Two namespaces in one overlay: they would share a file, and the second would take the first's values away."""
    world.commit(ONE_OVERLAY)
    plan_b = plan_for(world, B, "both")
    merged(world, plan_for(world, A, "both"))
    with pytest.raises(InputError, match="team-a"):
        plan_for(world, B, "both")
    # Even where nothing that is built would differ: the values of the first stand in its manifest by now.
    world.commit({"both/a.yaml": manifest(namespace="team-a", workers=4)})
    files = world.server.files(world.tip())
    policy = policy_of(files, world.tools.built_in)
    assert policy.settings.sha256 == plan_b.policy.config_sha256
    outcome = branch(world, plan_b)
    assert (outcome.reason, outcome.ok) == (Reason.SCOPE_VIOLATION, False), outcome.message
    assert "team-a" in outcome.message


def test_a_label_that_the_change_brings_itself_enrols_nothing(world: World) -> None:
    world.commit(TWO_TEAMS)
    plan = plan_for(world, A, "a")
    world.commit({"apps/trainer.yaml": manifest(label=b"")})
    outcome = branch(world, plan, {"apps/trainer.yaml": manifest()})
    assert outcome.reason is Reason.SCOPE_VIOLATION
    assert branch(world, plan).reason is Reason.SCOPE_VIOLATION


@pytest.mark.parametrize(
    "over",
    [
        {"workload": WorkloadRef(namespace="payments", kind="Deployment", name="trainer")},
        {"workload": WorkloadRef(namespace="team-a", kind="StatefulSet", name="trainer")},
        {"workload": B},
        {"overlay": "apps"},
        {"overlay": "b"},
        {"overlay": "docs"},
    ],
)
def test_another_namespace_kind_or_overlay(world: World, over: dict[str, Any]) -> None:
    world.commit({**TWO_TEAMS, "docs/kustomization.yaml": b"resources: []\n"})
    plan = plan_for(world, A, "a")
    if over.get("workload", A).kind == "StatefulSet":
        over = {**over, "target": PatchTarget(api_version="apps/v1", kind="StatefulSet", name="trainer")}
    outcome = branch(world, replan(plan, **over))
    assert not outcome.ok
    assert outcome.reason is Reason.SCOPE_VIOLATION, outcome.message


def test_two_records_in_one_change(world: World) -> None:
    world.commit(TWO_TEAMS)
    plan, second = plan_for(world, A, "a"), plan_for(world, B, "b")
    files = world.server.files(world.tip())
    outcome = branch(world, plan, dict(render(second, files)))
    assert outcome.reason is Reason.SCOPE_VIOLATION


def test_a_record_that_lies_about_its_own_place(world: World) -> None:
    world.commit(TWO_TEAMS)
    plan = plan_for(world, A, "a")
    moved = {plan_path("b", A.slug): plan.to_text().encode(), knobs_path("b", A.slug): b"{}\n"}
    hidden: Files = {**dict.fromkeys(render(plan, world.server.files(world.tip())), None), **moved}
    hidden = {**hidden, "a/kustomization.yaml": TWO_TEAMS["a/kustomization.yaml"]}
    assert branch(world, plan, hidden).reason is Reason.SCOPE_VIOLATION


def test_the_gate_judges_the_workload_that_verify_saw(world: World) -> None:
    """A pull request's own word on what it is for decides nothing: kind and approvals are those of what it brings."""
    world.commit({**TWO_TEAMS, CONFIG: OPEN})
    pr = proposed(world, plan_for(world, A, "a"))
    forge = world.forge()
    assert world.verify(forge, pr.number).ok
    live = forge.get_pr(pr.number)
    assert live is not None

    class Lying:
        def __getattr__(self, name: str) -> Any:
            return getattr(forge, name)

        def get_pr(self, number: int) -> PullRequest | None:
            found = forge.get_pr(number)
            return found and found.model_copy(update={"workload": B.key})

        live = get_pr

    applied = world.apply(Lying())
    assert not applied.ok
    assert applied.reason is Reason.VERIFY_STALE, applied.message


def test_a_component_that_says_more_than_its_records(world: World) -> None:
    world.commit(TWO_TEAMS)
    plan = plan_for(world, A, "a")
    more = component_yaml(frozenset({"trainer"})) + "  - patch: '[]'\n"
    outcome = branch(world, plan, {"a/modekeeper/kustomization.yaml": more.encode()})
    assert outcome.reason is Reason.RENDER_MISMATCH
