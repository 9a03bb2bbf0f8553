"""Verify's steps over made facts: each says yes to the one good change, and no, with its reason, to every other one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gitops_mk.adapters.resources import built_in, wording
from gitops_mk.core.bundle import policy_bundle, rollback_plan
from gitops_mk.core.checks import registry
from gitops_mk.core.checks.facts import PLAN_MAX_BYTES, Facts, built_knobs
from gitops_mk.core.checks.steps import build, envelope, freshness, invariants, plan, policy, render, scope
from gitops_mk.core.detect.registry import DETECTORS
from gitops_mk.core.envelope.registry import RULES
from gitops_mk.core.planner import Options, decide_actions
from gitops_mk.core.policy import load_policy
from gitops_mk.core.render.component import render as render_plan
from gitops_mk.core.render.describe import commit_message
from gitops_mk.core.trace import trace_events, trace_lines
from gitops_mk.core.weigh.weighing import MOST_LESSONS, weigh
from gitops_mk.model.chord import InvariantName
from gitops_mk.model.git import CommitInfo, PathChange
from gitops_mk.model.knob import annotation_key
from gitops_mk.model.plan import InvariantState, PatchTarget, Plan, PolicyDigests
from gitops_mk.model.settings import CONFIG_PATH
from gitops_mk.model.signal import SignalName
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.model.weighing import Lesson
from gitops_mk.model.workload import WorkloadRef
from tests.support import make

CONFIG = b"version: v1\nworkloads:\n  - {namespace: ml, name: trainer, overlay: overlays/demo, passport: perf}\n"
BASE = {CONFIG_PATH: CONFIG, "overlays/demo/kustomization.yaml": b"resources:\n  - ../../base\n"}
POLICY = load_policy(BASE.get, built_in())
DIGESTS = PolicyDigests(
    catalog_sha256=POLICY.catalog.sha256,
    passport_id="perf",
    passport_sha256=POLICY.passport(POLICY.settings.workloads[0]).sha256,
    config_sha256=POLICY.settings.sha256,
)
TARGET = PatchTarget(api_version="apps/v1", kind="Deployment", name="trainer")
STATES = (
    InvariantState(
        name=InvariantName.GLOBAL_BATCH,
        before=128,
        after=128,
        formula="microbatch_size * grad_accum_steps * world_size",
    ),
    InvariantState(
        name=InvariantName.TAIL_LATENCY,
        before=4,
        after=8,
        formula="dataloader_num_workers * dataloader_prefetch_factor, not less",
    ),
)
MOVES = (make.change("dataloader_num_workers", 2, 4),)
PINNED = {"dataloader_num_workers": 4}
PLAN = make.plan(policy=DIGESTS, invariants=STATES, changes=MOVES, knobs=PINNED)


def built(knobs: dict[str, int], outer: dict[str, int] | None = None, more: str = "") -> str:
    """What kustomize would build of the trainer with these knobs on its pod template."""

    def lines(values: dict[str, int], indent: str) -> str:
        return "".join(f'{indent}{annotation_key(k)}: "{v}"\n' for k, v in sorted(values.items()))

    meta = "  annotations:\n" + lines(outer, "    ") if outer else ""
    return (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n{meta}  name: trainer\n  namespace: ml\n"
        f"spec:\n  replicas: 1\n  template:\n    metadata:\n      annotations:\n{lines(knobs, '        ')}{more}"
    )


AFTER = {**make.KNOBS, **PINNED}


def facts(one: Plan = PLAN, **over: Any) -> Facts:
    files = render_plan(one, BASE)
    commit = CommitInfo(
        sha=make.SHA_B,
        tree=make.TREE,
        parents=(make.SHA_A,),
        author=make.IDENTITY,
        time=1,
        message=commit_message(one, wording()),
    )
    values: dict[str, Any] = {
        "base": make.SHA_A,
        "head": make.SHA_B,
        "tree": make.TREE,
        "now": make.NOW,
        "changes": tuple(PathChange(path, "100644" if path in BASE else "000000", "100644") for path in sorted(files)),
        "commits": (commit,),
        "base_files": BASE,
        "head_files": {**BASE, **files},
        "policy": POLICY,
        "base_build": built(make.KNOBS),
        "head_build": built(AFTER, PINNED),
        "target": TARGET,
    }
    return Facts(**{**values, **over})


def test_the_good_change_passes_every_step() -> None:
    outcome = registry.verify(facts())
    assert [s.message for s in outcome.steps if not s.allowed] == []
    assert outcome.ok
    assert (outcome.plan_digest, outcome.workload, outcome.tree) == (PLAN.digest, make.REF.key, make.TREE)
    assert [s.rule for s in outcome.steps] == [ident for _, ident, _ in registry.STEPS]
    assert [number for number, _, _ in registry.STEPS] == list(range(1, 10))


def test_no_steps_is_a_failure() -> None:
    outcome = registry.verify(facts(), steps=())
    assert not outcome.ok
    assert outcome.reason is Reason.NO_CHECKS_RUN


def test_without_facts_every_step_says_no() -> None:
    bare = Facts(base=make.SHA_A, head=make.SHA_B, tree=None, now=make.NOW)
    outcome = registry.verify(bare)
    assert not any(step.allowed for step in outcome.steps)
    assert outcome.plan_digest is None
    assert bare.plan_or_error == "the change brings no decision record of a configured workload"
    assert bare.passport is None


Check = Callable[[Facts], Verdict]


def with_plan(plan: Plan, **over: Any) -> Facts:
    """Facts in which that plan was found, whatever the files say."""
    found = facts(**over)
    found.__dict__["plan_or_error"] = plan
    return found


def says(check: Check, given: Facts, reason: Reason, word: str) -> None:
    verdict = check(given)
    assert verdict.reason is reason, verdict
    assert word in verdict.message, verdict.message


class TestScope:
    def test_conflict(self) -> None:
        says(scope.check, facts(tree=None), Reason.MERGE_CONFLICT, "conflict")

    def test_nothing(self) -> None:
        says(scope.check, facts(changes=()), Reason.SCOPE_VIOLATION, "change nothing")

    def test_no_policy(self) -> None:
        says(scope.check, facts(policy=None, policy_error="torn"), Reason.SCOPE_VIOLATION, "torn")

    def test_other_files(self) -> None:
        more = (*facts().changes, PathChange("README.md", "100644", "100644"))
        says(scope.check, facts(changes=more), Reason.SCOPE_VIOLATION, "README.md is none")
        says(scope.check, facts(changes=more[-1:]), Reason.SCOPE_VIOLATION, "exactly one workload")

    def test_no_kustomization(self) -> None:
        says(scope.check, facts(base_files={}), Reason.SCOPE_VIOLATION, "no kustomization file")

    @pytest.mark.parametrize(
        ("old", "new"), [("000000", "100755"), ("000000", "120000"), ("100644", "000000"), ("100755", "100644")]
    )
    def test_modes(self, old: str, new: str) -> None:
        changes = tuple(PathChange(c.path, old, new) if c.path.endswith("knobs.yaml") else c for c in facts().changes)
        says(scope.check, facts(changes=changes), Reason.SCOPE_VIOLATION, "expected a regular file")

    def test_links_on_the_way(self) -> None:
        for link in ("overlays", "overlays/demo/modekeeper", "overlays/demo/kustomization.yaml"):
            says(scope.check, facts(special=frozenset({link})), Reason.SCOPE_VIOLATION, f"{link} is a link")
        assert scope.check(facts(special=frozenset({"elsewhere"}))).allowed


class TestPlanStep:
    PATH = "overlays/demo/modekeeper/trainer.plan.json"

    def with_text(self, text: bytes | None) -> Facts:
        good = facts()
        files = dict(good.head_files)
        if text is None:
            del files[self.PATH]
        else:
            files[self.PATH] = text
        return replace(good, head_files=files)

    def test_unreadable(self) -> None:
        says(plan.check, self.with_text(None), Reason.PLAN_INVALID, "not a regular file")
        says(plan.check, self.with_text(b"{"), Reason.PLAN_INVALID, "no valid JSON")
        says(plan.check, self.with_text(b"{}"), Reason.PLAN_INVALID, "field required")
        says(plan.check, self.with_text(b" " * (PLAN_MAX_BYTES + 1)), Reason.PLAN_INVALID, "at most")

    def test_another_workload(self) -> None:
        other = make.plan(policy=DIGESTS, workload=make.REF.model_copy(update={"namespace": "other"}))
        says(plan.check, self.with_text(other.to_text().encode()), Reason.PLAN_INVALID, "the record is for")

    def test_digest(self) -> None:
        forged = PLAN.model_copy(update={"knobs": {"dataloader_num_workers": 8}})
        says(plan.check, self.with_text(forged.to_text().encode()), Reason.PLAN_INVALID, "digest")

    def test_commits(self) -> None:
        [commit] = facts().commits
        says(plan.check, facts(commits=(commit, commit)), Reason.PLAN_INVALID, "2 commits")
        says(plan.check, facts(commits=()), Reason.PLAN_INVALID, "0 commits")
        mute = replace(commit, message="trust me")
        says(plan.check, facts(commits=(mute,)), Reason.PLAN_INVALID, "trailer ModeKeeper-Workload says nothing")


class TestPolicyStep:
    @pytest.mark.parametrize("name", list(PolicyDigests.model_fields))
    def test_each_digest(self, name: str) -> None:
        other = make.plan(policy=DIGESTS.model_copy(update={name: "0" * 64 if name != "passport_id" else "x"}))
        says(policy.check, facts(other), Reason.POLICY_CHANGED, name)

    def test_world_size(self) -> None:
        says(policy.check, facts(make.plan(policy=DIGESTS, world_size=8)), Reason.POLICY_CHANGED, "world_size")

    def test_a_passport_that_is_gone(self) -> None:
        files = {**BASE, CONFIG_PATH: CONFIG.replace(b"perf", b"gone")}
        broken = facts(policy=load_policy(files.get, built_in()))
        says(policy.check, broken, Reason.POLICY_CHANGED, "neither built in")
        assert broken.passport is None


class TestEnvelopeStep:
    def test_a_rule_says_no(self) -> None:
        says(envelope.check, facts(applied=(make.applied(age_s=5),)), Reason.COOLDOWN_ACTIVE, "cooldown")
        other = make.applied(age_s=5, workload="ml/deployment-other")
        assert envelope.check(facts(applied=(other,))).allowed

    def test_a_base_that_does_not_build(self) -> None:
        given = facts(base_build=None, base_build_error="torn")
        says(envelope.check, given, Reason.BUILD_FAILED, "not judged: base does not build: torn")

    def test_a_taken_back_change_is_held(self) -> None:
        old = make.applied(age_s=100_000)
        says(envelope.check, facts(applied=(old,), prs=()), Reason.HELD_BY_REVIEWER, "reverted")
        # Without a forge nobody can say whether it was released.
        assert envelope.check(facts(applied=(old,))).allowed

    def test_targets_are_computed_again(self) -> None:
        """A pull request can't bring values that its chord would not compute, however small the move."""
        other = make.plan(
            policy=DIGESTS, changes=(make.change("dataloader_num_workers", 2, 3),), knobs={"dataloader_num_workers": 3}
        )
        says(
            envelope.check,
            facts(other),
            Reason.PLAN_INVALID,
            "INPUT-STRAGGLER computes dataloader_num_workers 2 to 4 from",
        )
        full = {**make.KNOBS, "dataloader_num_workers": 32, "dataloader_prefetch_factor": 32}
        down = make.plan(
            policy=DIGESTS, chord="BURST-ABSORB", observation=make.observation(SignalName.BURST),
            changes=(make.change("dataloader_prefetch_factor", 32, 32),), knobs={"dataloader_prefetch_factor": 32},
        )  # fmt: skip
        says(envelope.check, facts(down, base_build=built(full)), Reason.GAIN_BELOW_COST, "0 % of the time")
        assert "nothing is left to move" in envelope.other_targets(down, make.state(knobs=full))

    def test_what_it_is_worth_is_computed_again(self) -> None:
        """Reviewers read the promise: a record can't promise more than its evidence gives."""
        settings = POLICY.settings.workloads[0]
        weighing = weigh(PLAN.action(), make.KNOBS, PLAN.observation, POLICY.passport(settings).economics)
        honest = make.plan(policy=DIGESTS, invariants=STATES, changes=MOVES, knobs=PINNED, weighing=weighing)
        assert envelope.check(facts(honest)).allowed
        more = weighing.model_copy(update={"gain": weighing.gain.model_copy(update={"share": 0.9})})
        boast = make.plan(policy=DIGESTS, invariants=STATES, changes=MOVES, knobs=PINNED, weighing=more)
        says(envelope.check, facts(boast), Reason.PLAN_INVALID, "the record promises (0.9, 1260.0, 86400.0), computed")
        none = weighing.model_copy(update={"gain": weighing.gain.model_copy(update={"share": None})})
        assert envelope.other_promise(make.plan(weighing=none), weighing) != ""

    def test_what_earlier_promises_came_to_is_not_left_out(self) -> None:
        """They make the promise more careful: a pull request can't forget what the base remembers."""
        taught = Lesson(commit=make.SHA_C, plan_digest="3" * 64, chord="INPUT-STRAGGLER", promised=0.4, came=0.0)
        before = make.plan(policy=DIGESTS, lessons=(taught,))
        base = {**BASE, "overlays/demo/modekeeper/trainer.plan.json": before.to_text().encode()}
        says(envelope.check, facts(base_files=base), Reason.PLAN_INVALID, "leaves out what came of INPUT-STRAGGLER")
        knows = make.plan(policy=DIGESTS, invariants=STATES, changes=MOVES, knobs=PINNED, lessons=(taught,))
        assert envelope.check(facts(knows, base_files=base)).allowed
        assert envelope.forgotten(make.plan(lessons=(taught,) * MOST_LESSONS), facts(base_files=base)) == ""

    def test_a_chord_without_a_recipe_is_judged_by_the_rules_alone(self) -> None:
        own = POLICY.catalog.chords[3].model_copy(update={"id": "OURS"})
        allowed = POLICY.passport(POLICY.settings.workloads[0])
        assert own.id not in allowed.allowed_chords
        assert envelope.other_targets(make.plan(chord="OURS"), make.state()) == ""

    def test_other_starting_values_are_for_freshness_to_tell(self) -> None:
        assert envelope.other_targets(PLAN, make.state(knobs={**make.KNOBS, "dataloader_num_workers": 3})) == ""

    def test_rollback(self) -> None:
        back = make.plan(
            policy=DIGESTS,
            chord="RECOVER-RELOCK",
            rollback_of="1" * 64,
            changes=(make.change("dataloader_num_workers", 4, 2),),
            knobs={"dataloader_num_workers": 2},
        )
        merged = make.applied(age_s=1)
        given = facts(back, applied=(merged,), base_build=built(AFTER), head_build=built(make.KNOBS))
        assert envelope.check(given).allowed
        for forged in (
            make.applied(digest="2" * 64),
            make.applied(workload="x/y"),
            make.applied(changes={"dataloader_num_workers": (1, 4)}),
        ):
            says(envelope.check, facts(back, applied=(forged,)), Reason.PLAN_INVALID, "not merged or not its opposite")


class TestRenderStep:
    def test_target(self) -> None:
        # A patch that misses is seen in what kustomize built, whatever it is called.
        assert render.check(facts(target=None, target_error="torn")).allowed
        ref = WorkloadRef(namespace="ml", kind="JobSet", name="trainer")
        place = "/spec/replicatedJobs/1/template/spec/template/metadata/annotations"
        mine = PatchTarget(api_version="jobset.x-k8s.io/v1alpha2", kind="JobSet", name="trainer", places=(place,))
        plan = make.plan(policy=DIGESTS, workload=ref, target=mine)
        says(render.check, with_plan(plan, target=None, target_error="torn"), Reason.RENDER_MISMATCH, "torn")
        other = mine.model_copy(update={"places": (place.replace("/1/", "/0/"),)})
        says(render.check, with_plan(plan, target=other), Reason.RENDER_MISMATCH, "the base has")

    def test_bytes(self) -> None:
        good = facts()
        path = "overlays/demo/modekeeper/trainer.knobs.yaml"
        edited = {**good.head_files, path: good.head_files[path].replace(b'"4"', b'"5"')}
        says(render.check, replace(good, head_files=edited), Reason.RENDER_MISMATCH, path)
        says(
            render.check, replace(good, changes=good.changes[1:]), Reason.RENDER_MISMATCH, "kustomization.yaml differs"
        )

    def test_unrenderable(self) -> None:
        says(render.check, facts(base_files={CONFIG_PATH: CONFIG}), Reason.RENDER_MISMATCH, "no kustomization file")


class TestBuildStep:
    def head(self, text: str) -> Facts:
        return facts(head_build=text)

    def test_does_not_build(self) -> None:
        says(
            build.check,
            facts(base_build=None, base_build_error="torn"),
            Reason.BUILD_FAILED,
            "base does not build: torn",
        )
        says(build.check, facts(head_build=None), Reason.BUILD_FAILED, "head does not build: it was not built")

    def test_no_plan(self) -> None:
        says(build.check, facts(changes=()), Reason.BUILD_FAILED, "no plan")

    def test_documents(self) -> None:
        good = built(AFTER, PINNED)
        more = good + "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: x\n"
        says(build.check, self.head(more), Reason.UNPLANNED_CHANGE, "Secret x appears or goes")
        says(build.check, self.head(good + "---\n" + good), Reason.BUILD_FAILED, "twice")

    def test_other_leaves(self) -> None:
        good = built(AFTER, PINNED)
        says(
            build.check, self.head(good.replace("replicas: 1", "replicas: 2")), Reason.UNPLANNED_CHANGE, "spec.replicas"
        )
        says(
            build.check,
            self.head(built(AFTER, {"dataloader_num_workers": 5})),
            Reason.UNPLANNED_CHANGE,
            "planned is '4'",
        )
        says(build.check, self.head(good.replace('"4"', "4", 1)), Reason.UNPLANNED_CHANGE, "planned is '4'")

    def test_no_effect(self) -> None:
        says(build.check, self.head(built(make.KNOBS)), Reason.UNPLANNED_CHANGE, "has no effect")

    def test_an_empty_annotations_map_gives_way(self) -> None:
        empty = built(make.KNOBS).replace("metadata:\n  name", "metadata:\n  annotations: {}\n  name", 1)
        assert build.check(facts(base_build=empty)).allowed

    def test_other_knobs_move(self) -> None:
        """A knob that the plan pins but does not move must not move."""
        one = make.plan(policy=DIGESTS, invariants=STATES, changes=MOVES, knobs={**PINNED, "concurrency": 9})
        head = built({**AFTER, "concurrency": 9}, {**PINNED, "concurrency": 9})
        says(build.check, facts(one, head_build=head), Reason.UNPLANNED_CHANGE, "other knobs")


class TestFreshnessStep:
    def test_stale(self) -> None:
        says(freshness.check, facts(base_build=built(AFTER)), Reason.PLAN_STALE, "stands at 4")
        pinned = make.plan(policy=DIGESTS, knobs={"dataloader_num_workers": 4, "concurrency": 9})
        says(freshness.check, facts(pinned), Reason.PLAN_STALE, "concurrency stands at 8")

    def test_incoherent(self) -> None:
        other = make.plan(policy=DIGESTS, knobs={"dataloader_num_workers": 5})
        says(freshness.check, facts(other), Reason.PLAN_STALE, "pinned to 5 but moved to 4")
        none = make.plan(policy=DIGESTS, knobs={"concurrency": 8})
        says(freshness.check, facts(none), Reason.PLAN_STALE, "does not pin")


class TestInvariantsStep:
    def test_broken(self) -> None:
        head = built({**AFTER, "grad_accum_steps": 8})
        says(invariants.check, facts(head_build=head), Reason.INVARIANT_VIOLATED, "global_batch goes from 128 to 256")

    def test_the_reviewer_was_told_otherwise(self) -> None:
        lie = make.plan(policy=DIGESTS, invariants=())
        says(invariants.check, facts(lie), Reason.INVARIANT_VIOLATED, "states other invariants")

    def test_none_apply(self) -> None:
        few = {"comm_bucket_mb": 25}
        one = make.plan(
            policy=DIGESTS,
            chord="NOPE",
            changes=(make.change("comm_bucket_mb", 25, 50),),
            knobs={"comm_bucket_mb": 50},
            invariants=(),
        )
        given = facts(one, base_build=built(few), head_build=built({"comm_bucket_mb": 50}))
        assert invariants.check(given).message == "none apply"


def test_built_knobs() -> None:
    assert built_knobs(None, make.REF) == {}
    assert built_knobs(built(make.KNOBS), None) == {}
    assert built_knobs(built(make.KNOBS), make.REF.model_copy(update={"name": "x"})) == {}
    assert built_knobs(built(make.KNOBS), make.REF) == dict(sorted(make.KNOBS.items()))
    unnamed = built(make.KNOBS).replace("  namespace: ml\n", "")
    assert built_knobs(unnamed, make.REF) == {}
    assert built_knobs(unnamed, make.REF.model_copy(update={"namespace": "default"})) == built_knobs(
        built(make.KNOBS), make.REF
    )


def test_trace_tells_inputs_signals_verdicts_and_outcome() -> None:
    seen = make.observation(SignalName.STRAGGLER)
    decision = decide_actions(make.state(), seen, Options(), make.NOW)
    text = trace_lines(trace_events(make.state(), seen, decision, {"planned": "x"}, ts="2026-01-01T00:00:00Z"))
    assert text.count('"event":"signal"') == len(DETECTORS)
    assert text.count('"event":"verdict"') == len(RULES)
    assert text.splitlines()[-1].count('"event":"outcome"') == 1


def test_bundle_is_deterministic_and_links_the_way_back() -> None:
    def bundle(rollback: str | None) -> dict[str, Any]:
        return policy_bundle(
            policy_id="chord", policy_version="v1", params={}, digests=DIGESTS, provenance={"host": "h"},
            verify_report=None, rollback_plan=rollback,
        )  # fmt: skip

    assert bundle(None) == bundle(None)
    assert bundle(None)["rollback"]["mode"] == "none"
    assert bundle("r.json")["rollback"] == {
        "mode": "pull_request",
        "from_verify_report": None,
        "rollback_plan_path": "r.json",
    }
    [item] = rollback_plan((PLAN,), verify_report=None)["items"]
    assert item["changes"] == [
        {"knob": "dataloader_num_workers", "before": 4, "after": 2},
    ]
