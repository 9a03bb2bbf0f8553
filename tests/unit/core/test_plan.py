"""Recommend, recipes, envelope and planner: every plan keeps the invariant, the bounds and the step, or says why not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from math import prod
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitops_mk.core.chords import solve
from gitops_mk.core.chords.recipes import (
    burst_absorb,
    comm_congestion,
    drift_retune,
    input_straggler,
    near_hang,
    normal_hold,
    recover_relock,
    scalar,
    timeout_guard,
)
from gitops_mk.core.chords.registry import RECIPES
from gitops_mk.core.chords.solve import State
from gitops_mk.core.confirm import Sightings
from gitops_mk.core.envelope import registry
from gitops_mk.core.envelope.rules import budget, delivery, direction, knob_known, solvable
from gitops_mk.core.planner import Options, WorkloadState, compute_action, decide_actions, make_plan
from gitops_mk.core.recommend import FOR_SIGNAL, answered_by, recommend
from gitops_mk.errors import InputError
from gitops_mk.model.change import Hold
from gitops_mk.model.chord import Budget, Intent, InvariantName
from gitops_mk.model.passport import Economics, InvariantRule, KnobLimit, Observability, PassportBudget, Recovery
from gitops_mk.model.signal import Evidence, Observation, SignalName
from gitops_mk.model.telemetry import IngestCounts, Window
from gitops_mk.model.times import parse_time
from gitops_mk.model.verdict import Reason
from gitops_mk.model.weighing import Lesson
from tests.support import make

LIMITS = make.passport().knobs
ALL = frozenset(LIMITS)


def state(knobs: dict[str, int] | None = None, **over: Any) -> State:
    return State(**{"knobs": knobs if knobs is not None else make.KNOBS, "limits": LIMITS, "allowed": ALL, **over})


def seen(name: SignalName, **evidence: Any) -> dict[SignalName, Evidence]:
    return {name: make.signal(name, **evidence).evidence}


def moved(solution: solve.Solution) -> dict[str, int]:
    return {c.knob: c.after for c in solution.changes}


class TestRecommend:
    def ask(self, *found: SignalName, **over: Any) -> tuple[Intent, ...]:
        options: dict[str, Any] = {
            "policy": "chord",
            "away_from_stable": False,
            "stable_intervals": 1,
            "intervals_needed": 3,
        }
        return recommend(make.observation(*found), **{**options, **over})

    @pytest.mark.parametrize(("name", "chord"), FOR_SIGNAL)
    def test_one_cause_one_chord(self, name: SignalName, chord: Intent) -> None:
        assert self.ask(name) == (chord,)
        assert self.ask(name, policy="scalar") == (Intent.SCALAR,)

    def test_order_is_by_how_surely_the_cause_is_located(self) -> None:
        assert self.ask(SignalName.DRIFT_STEP, SignalName.STRAGGLER) == (Intent.INPUT_STRAGGLER, Intent.DRIFT_RETUNE)

    def test_nothing_wrong(self) -> None:
        assert self.ask() == (Intent.NORMAL_HOLD,)
        assert self.ask(away_from_stable=True, stable_intervals=2) == (Intent.NORMAL_HOLD,)
        assert self.ask(away_from_stable=True, stable_intervals=3) == (Intent.RECOVER_RELOCK,)

    def test_a_loss_that_rose_since_a_change_takes_it_back(self) -> None:
        since = {"away_from_stable": True, "since_change": True}
        assert self.ask(SignalName.DRIFT_LOSS, **since) == (Intent.RECOVER_RELOCK,)
        assert self.ask(SignalName.DRIFT_LOSS, away_from_stable=True) == (Intent.DRIFT_RETUNE,)
        assert self.ask(SignalName.DRIFT_STEP, **since) == (Intent.DRIFT_RETUNE,)
        where = make.state(
            stable_profile={**make.KNOBS, "dataloader_num_workers": 1}, applied=(make.applied(age_s=10_000),)
        )
        window = Window(first_step=0, last_step=399, steps=400, first_ts="2026-03-01T11:00:00Z")
        seen = make.observation(SignalName.DRIFT_LOSS, window=window, source="file")
        chosen = decide_actions(where, seen, Options(), make.NOW).chosen
        assert chosen is not None
        early = seen.model_copy(update={"window": window.model_copy(update={"first_ts": "2026-03-01T09:00:00Z"})})
        assert decide_actions(where, early, Options(), make.NOW).chosen is None
        assert (chosen.action.chord, chosen.action.changes[0].after) == (Intent.RECOVER_RELOCK, 1)

    def test_what_is_proven_is_not_walked_back(self) -> None:
        stable = {"away_from_stable": True, "stable_intervals": 3}
        assert self.ask(**stable, proven=True) == (Intent.NORMAL_HOLD,)
        change = make.applied(age_s=10_000)
        taught = Lesson(
            commit=change.commit, plan_digest=change.plan_digest, chord=change.chord, promised=0.2, came=0.2
        )
        where = make.state(stable_profile={**make.KNOBS, "dataloader_num_workers": 1}, applied=(change,))
        options = Options(stable_intervals=3)
        assert decide_actions(where, make.observation(), options, make.NOW).chosen is not None
        assert decide_actions(replace(where, lessons=(taught,)), make.observation(), options, make.NOW).chosen is None

    def test_what_a_chord_answers_to(self) -> None:
        assert answered_by("DRIFT-RETUNE") == {SignalName.DRIFT_STEP, SignalName.DRIFT_LOSS}
        assert SignalName.BURST in answered_by("SCALAR")
        assert answered_by("OURS") == frozenset()
        assert answered_by("RECOVER-RELOCK") == {SignalName.DRIFT_LOSS}


class TestConfirmation:
    def ask(self, confirm: int, sighted: dict[SignalName, int], *found: SignalName, **over: Any) -> tuple[Any, ...]:
        options = Options(confirm=confirm, sighted=sighted, stable_intervals=9, **over)
        where = make.state(stable_profile={**make.KNOBS, "dataloader_num_workers": 1})
        decision = decide_actions(where, make.observation(*found), options, make.NOW)
        return [j.action.chord for j in decision.judged], decision.waiting

    def test_at_first_sight_nothing_is_done(self) -> None:
        assert self.ask(3, {SignalName.BURST: 1}, SignalName.BURST) == (["NORMAL-HOLD"], 1)
        assert self.ask(3, {SignalName.BURST: 2}, SignalName.BURST) == (["NORMAL-HOLD"], 2)
        assert self.ask(3, {SignalName.BURST: 3}, SignalName.BURST) == (["BURST-ABSORB"], 0)
        assert self.ask(1, {}, SignalName.BURST) == (["BURST-ABSORB"], 0)

    def test_each_on_its_own(self) -> None:
        both = {SignalName.BURST: 3, SignalName.STRAGGLER: 1}
        assert self.ask(3, both, SignalName.BURST, SignalName.STRAGGLER) == (["BURST-ABSORB"], 1)

    def test_what_waits_is_not_stable(self) -> None:
        assert self.ask(3, {}, SignalName.BURST) == (["NORMAL-HOLD"], 1)
        assert self.ask(3, {}) == (["RECOVER-RELOCK"], 0)

    def test_what_is_proposed_was_confirmed(self) -> None:
        already = frozenset({SignalName.BURST})
        assert self.ask(3, {SignalName.BURST: 1}, SignalName.BURST, already=already) == (["BURST-ABSORB"], 0)

    def test_counting(self) -> None:
        sightings = Sightings()
        sightings.add(make.observation(SignalName.BURST))
        sightings.add(make.observation(insufficient=True))
        sightings.add(make.observation(SignalName.BURST))
        assert sightings.seen[SignalName.BURST] == 2
        sightings.add(make.observation())
        assert (sightings.seen[SignalName.BURST], sightings.asked[SignalName.BURST]) == (0, 0)
        assert sightings.with_one_more(make.observation(SignalName.COMM_CONGESTION))[SignalName.COMM_CONGESTION] == 1
        told = make.observation(SignalName.BURST)
        quiet = told.model_copy(
            update={"signals": tuple(s.model_copy(update={"actionable": False}) for s in told.signals)}
        )
        sightings.add(quiet)
        assert (sightings.seen[SignalName.BURST], sightings.asked[SignalName.BURST]) == (1, 0)
        sightings.clear()
        assert sightings.seen == {}


class TestRecipes:
    def test_every_chord_has_one(self) -> None:
        assert set(RECIPES) == set(Intent)
        assert {c.id for c in make.catalog().chords} == {str(i) for i in Intent}

    def test_hold(self) -> None:
        assert normal_hold.targets(state()).changes == ()

    def test_drift_splits_the_batch(self) -> None:
        assert moved(drift_retune.targets(state())) == {"grad_accum_steps": 8, "microbatch_size": 16}
        assert "can't cure" not in drift_retune.targets(state()).rationale
        loss = state(seen=seen(SignalName.DRIFT_LOSS))
        assert "can't cure a loss that diverges" in drift_retune.targets(loss).rationale

    def test_smallest_factor_that_fits(self) -> None:
        odd = state({"grad_accum_steps": 2, "microbatch_size": 15})
        assert moved(scalar.targets(replace(odd, seen=seen(SignalName.GPU_SATURATED)))) == {
            "grad_accum_steps": 3,
            "microbatch_size": 10,
        }
        assert moved(drift_retune.targets(odd)) == {"grad_accum_steps": 5, "microbatch_size": 6}
        little = replace(odd, seen=seen(SignalName.DRIFT_STEP, effect=0.1))
        assert moved(drift_retune.targets(little)) == {"grad_accum_steps": 3, "microbatch_size": 10}

    @pytest.mark.parametrize("microbatch", [1, 31 * 31])
    def test_no_factor_fits(self, microbatch: int) -> None:
        tight = {**LIMITS, "grad_accum_steps": KnobLimit(min=1, max=16, max_delta=4)}
        found = drift_retune.targets(state({"grad_accum_steps": 4, "microbatch_size": microbatch}, limits=tight))
        assert found.reason is Reason.INVARIANT_VIOLATED

    def test_huge_values_are_split_by_whole_fractions(self) -> None:
        huge = state({"grad_accum_steps": 3, "microbatch_size": 2**30}, limits={})
        assert moved(drift_retune.targets(huge)) == {"grad_accum_steps": 6, "microbatch_size": 2**29}
        prime = state({"grad_accum_steps": 1, "microbatch_size": 2**31 - 1}, limits={})
        assert drift_retune.targets(prime).reason is Reason.INVARIANT_VIOLATED

    def test_without_limits_values_stay_positive(self) -> None:
        free = state(limits={})
        assert moved(drift_retune.targets(free)) == {"grad_accum_steps": 8, "microbatch_size": 16}
        assert moved(input_straggler.targets(free))["dataloader_num_workers"] == 4
        assert moved(near_hang.targets(free)) == {"timeout_ms": 120_000, "concurrency": 4}

    @pytest.mark.parametrize(
        ("recipe", "knob"),
        [
            (drift_retune, "microbatch_size"),
            (burst_absorb, "dataloader_prefetch_factor"),
            (input_straggler, "dataloader_num_workers"),
            (timeout_guard, "timeout_ms"),
            (comm_congestion, "comm_bucket_mb"),
            (near_hang, "timeout_ms"),
        ],
    )
    def test_missing_knob(self, recipe: Any, knob: str) -> None:
        found = recipe.targets(state({k: v for k, v in make.KNOBS.items() if k != knob}))
        assert found.reason is Reason.UNKNOWN_KNOB
        assert knob in str(found.unsolved)

    def test_input_straggler(self) -> None:
        assert moved(input_straggler.targets(state())) == {"dataloader_num_workers": 4}
        only = state(allowed=frozenset({"dataloader_num_workers"}))
        assert moved(input_straggler.targets(only)) == {"dataloader_num_workers": 4}
        told = seen(SignalName.STRAGGLER, effect=13.0, values={"cost_share": 0.25, "slow_share": 1.0})
        assert moved(input_straggler.targets(state(seen=told))) == {"dataloader_num_workers": 3}
        # Slow in few steps only: deeper queues average them, and less is asked of the loaders.
        rarely = seen(SignalName.STRAGGLER, effect=1.0, values={"slow_share": 0.1})
        short = {**LIMITS, "dataloader_num_workers": KnobLimit(min=1, max=32, max_delta=1)}
        at = {**make.KNOBS, "dataloader_prefetch_factor": 1}
        assert moved(input_straggler.targets(state(at, seen=rarely))) == {"dataloader_num_workers": 4}
        far = input_straggler.targets(state(at, seen=rarely, limits=short))
        assert moved(far) == {"dataloader_num_workers": 3, "dataloader_prefetch_factor": 3}
        full = {**make.KNOBS, "dataloader_num_workers": 32, "dataloader_prefetch_factor": 32}
        assert input_straggler.targets(state(full)).reason is Reason.OUT_OF_BOUNDS

    def test_burst_goes_to_workers_when_queues_are_full(self) -> None:
        assert moved(burst_absorb.targets(state())) == {"dataloader_prefetch_factor": 4}
        full = {**make.KNOBS, "dataloader_prefetch_factor": 32}
        assert moved(burst_absorb.targets(state(full))) == {"dataloader_num_workers": 4}
        stuck = burst_absorb.targets(state(full, allowed=frozenset({"dataloader_prefetch_factor"})))
        assert stuck.reason is Reason.OUT_OF_BOUNDS

    def test_scalar(self) -> None:
        assert moved(scalar.targets(state())) == {"dataloader_prefetch_factor": 3}
        full = {**make.KNOBS, "dataloader_prefetch_factor": 32}
        assert moved(scalar.targets(state(full))) == {"dataloader_num_workers": 3}
        assert moved(scalar.targets(state({"grad_accum_steps": 4, "microbatch_size": 32}))) == {
            "grad_accum_steps": 8,
            "microbatch_size": 16,
        }
        assert "microbatch_size" in moved(scalar.targets(state(seen=seen(SignalName.GPU_SATURATED))))

    def test_advanced(self) -> None:
        assert moved(timeout_guard.targets(state())) == {"timeout_ms": 120_000}
        assert moved(comm_congestion.targets(state())) == {"comm_bucket_mb": 50}
        assert moved(near_hang.targets(state())) == {"timeout_ms": 120_000, "concurrency": 4}
        assert moved(near_hang.targets(state(allowed=frozenset()))) == {"timeout_ms": 120_000}
        stalled = seen(SignalName.NEAR_HANG, values={"longest_ms": 40_000.4})
        assert moved(near_hang.targets(state(seen=stalled, allowed=frozenset()))) == {"timeout_ms": 80_001}
        short = seen(SignalName.NEAR_HANG, values={"longest_ms": 4_000.0})
        assert near_hang.targets(state(seen=short, allowed=frozenset())).reason is Reason.OUT_OF_BOUNDS
        grown = seen(SignalName.COMM_CONGESTION, values={"before_ms": 10.0, "after_ms": 12.5})
        assert moved(comm_congestion.targets(state(seen=grown))) == {"comm_bucket_mb": 32}

    def test_a_knob_with_room_for_thousands_is_tried_at_some(self) -> None:
        wide = {**make.KNOBS, "comm_bucket_mb": 1000}
        grown = seen(SignalName.COMM_CONGESTION, values={"before_ms": 1.0, "after_ms": 4.0})
        found = moved(comm_congestion.targets(state(wide, seen=grown, limits={})))["comm_bucket_mb"]
        assert 4000 <= found <= 4100
        far = seen(SignalName.COMM_CONGESTION, values={"before_ms": 1.0, "after_ms": 40.0})
        assert moved(comm_congestion.targets(state(wide, seen=far, limits={})))["comm_bucket_mb"] == 5823


class TestRelock:
    def back(self, now: dict[str, int], stable: dict[str, int] | None, **over: Any) -> solve.Solution:
        return recover_relock.targets(state({**make.KNOBS, **now}, stable_profile=stable, **over))

    def test_nothing_known_and_nothing_to_do(self) -> None:
        assert self.back({}, None).reason is Reason.REQUIRED_SIGNAL_MISSING
        same = self.back({}, dict(make.KNOBS))
        assert (same.changes, same.unsolved) == ((), None)

    def test_stepwise(self) -> None:
        stable = {**make.KNOBS, "dataloader_num_workers": 2}
        assert moved(self.back({"dataloader_num_workers": 16}, stable)) == {"dataloader_num_workers": 12}
        assert moved(self.back({"dataloader_num_workers": 3}, stable)) == {"dataloader_num_workers": 2}
        assert moved(self.back({"dataloader_num_workers": 1}, stable)) == {"dataloader_num_workers": 2}

    def test_batch_pair_moves_together(self) -> None:
        there = {"grad_accum_steps": 16, "microbatch_size": 8}
        assert moved(self.back(there, dict(make.KNOBS))) == {"grad_accum_steps": 4, "microbatch_size": 32}
        up = {"grad_accum_steps": 2, "microbatch_size": 64}
        assert moved(self.back(up, dict(make.KNOBS))) == {"grad_accum_steps": 4, "microbatch_size": 32}
        short = {**LIMITS, "microbatch_size": KnobLimit(min=1, max=1024, max_delta=10)}
        assert moved(self.back(there, dict(make.KNOBS), limits=short)) == {"grad_accum_steps": 8, "microbatch_size": 16}

    def test_last_step_does_not_overshoot(self) -> None:
        # From 12 x 16 only a factor of 3/2 leads back to 8 x 24; a halving would go past it.
        now = {"grad_accum_steps": 12, "microbatch_size": 16}
        stable = {**make.KNOBS, "grad_accum_steps": 8, "microbatch_size": 24}
        assert moved(self.back(now, stable)) == {"grad_accum_steps": 8, "microbatch_size": 24}

    def test_a_goal_outside_todays_limits_is_come_near_to(self) -> None:
        tight = {**LIMITS, "dataloader_num_workers": KnobLimit(min=3, max=32, max_delta=16)}
        stable = {**make.KNOBS, "dataloader_num_workers": 1}
        assert moved(self.back({"dataloader_num_workers": 8}, stable, limits=tight)) == {"dataloader_num_workers": 4}
        assert moved(self.back({"dataloader_num_workers": 4}, stable, limits=tight)) == {"dataloader_num_workers": 3}
        assert self.back({"dataloader_num_workers": 3}, stable, limits=tight).reason is Reason.OUT_OF_BOUNDS
        free = self.back({"dataloader_num_workers": 8}, stable, limits={})
        assert moved(free) == {"dataloader_num_workers": 4}

    def test_refusals(self) -> None:
        only_one = self.back({"grad_accum_steps": 8}, dict(make.KNOBS))
        assert only_one.reason is Reason.INVARIANT_VIOLATED
        other = self.back({"grad_accum_steps": 8, "microbatch_size": 64}, dict(make.KNOBS))
        assert "another global batch" in str(other.unsolved)
        forbidden = self.back({"concurrency": 16}, dict(make.KNOBS), allowed=frozenset())
        assert forbidden.reason is Reason.KNOB_NOT_ALLOWED
        prime = self.back({"grad_accum_steps": 32, "microbatch_size": 4}, dict(make.KNOBS), limits={
            **LIMITS, "grad_accum_steps": KnobLimit(min=1, max=256, max_delta=1)})  # fmt: skip
        assert prime.reason is Reason.INVARIANT_VIOLATED


KNOB_VALUES = st.fixed_dictionaries(
    {
        "grad_accum_steps": st.integers(1, 256),
        "microbatch_size": st.integers(1, 1024),
        "dataloader_num_workers": st.integers(1, 32),
        "dataloader_prefetch_factor": st.integers(1, 32),
        "concurrency": st.integers(1, 256),
        "timeout_ms": st.integers(1000, 1_800_000),
        "comm_bucket_mb": st.integers(1, 512),
    }
)


def random_case(rng: Random) -> tuple[WorkloadState, Observation, Options]:
    """A workload in any state, and anything that may be seen of it."""
    tops = {"grad_accum_steps": 256, "microbatch_size": 1024, "dataloader_num_workers": 64,
            "dataloader_prefetch_factor": 64, "concurrency": 256, "timeout_ms": 1_800_000, "comm_bucket_mb": 512}  # fmt: skip
    limits, knobs = {}, {}
    for name, top in tops.items():
        low, high = sorted((rng.randint(1, top), rng.randint(1, top)))
        limits[name] = KnobLimit(min=low, max=high, max_delta=max(1, round(top ** rng.random())))
        knobs[name] = rng.randint(low, high) if rng.random() < 0.9 else rng.randint(1, top)
    found = rng.sample([s for s in SignalName if s is not SignalName.DRIFT], rng.randint(0, 3))
    signals = tuple(
        make.signal(
            name, name in found, effect=rng.choice([None, 10 ** rng.uniform(-2, 1.5)]),
            cause=rng.choice([None, "input", "memory", "clock"]),
            values={"cost_share": rng.random(), "slow_share": rng.random(), "stall_steps": 50 * rng.random(),
                    "before_ms": rng.random(), "after_ms": 5 * rng.random(), "longest_ms": 1e6 * rng.random()},
        )
        for name in SignalName if name is not SignalName.DRIFT
    )  # fmt: skip
    passport = make.passport(
        knobs=limits,
        allowed_knobs=tuple(rng.sample(list(tops), rng.randint(1, 7))),
        economics=Economics(min_ratio=rng.choice([0.0, 3.0])),
    )
    history = tuple(make.applied(age_s=rng.randint(4000, 90_000)) for _ in range(rng.randint(0, 2)))
    where = make.state(
        knobs=knobs, passport=passport, applied=history, world_size=rng.randint(1, 64),
        stable_profile=rng.choice([None, {name: rng.randint(1, top) for name, top in tops.items()}]),
    )  # fmt: skip
    options = Options(
        policy=rng.choice(("chord", "scalar")), approve_advanced=rng.random() < 0.5, stable_intervals=rng.randint(0, 4)
    )
    return where, make.observation().model_copy(update={"signals": signals}), options


class TestProperties:
    @settings(max_examples=400, deadline=None)
    @given(
        KNOB_VALUES,
        st.sampled_from([name for name, _ in FOR_SIGNAL]),
        st.sampled_from(["chord", "scalar"]),
        st.integers(1, 64),
    )
    def test_a_plan_keeps_invariant_bounds_and_step(
        self, knobs: dict[str, int], seen: SignalName, policy: Any, world: int
    ) -> None:
        where = make.state(knobs=knobs, world_size=world)
        decision = decide_actions(
            where, make.observation(seen), Options(policy=policy, approve_advanced=True), make.NOW
        )
        assert decision.judged
        if decision.chosen is None:
            assert all(not j.verdict.allowed for j in decision.judged)
            return
        plan = make_plan(where, decision.chosen.action, make.observation(seen), Options(), now=make.NOW, mk_version="0")
        after = {**knobs, **{c.knob: c.after for c in plan.changes}}
        assert (
            after["grad_accum_steps"] * after["microbatch_size"] == knobs["grad_accum_steps"] * knobs["microbatch_size"]
        )
        for one in plan.changes:
            limit = where.passport.knobs[one.knob]
            assert one.before == knobs[one.knob] != one.after
            assert limit.min <= one.after <= limit.max
            assert abs(one.delta) <= limit.max_delta
        assert plan.knobs == {c.knob: c.after for c in plan.changes}

    @pytest.mark.parametrize("seed", range(10))
    def test_ten_thousand_random_states(self, seed: int) -> None:
        """A thousand each: knobs, limits, evidence, history and delivery at random; what may be proposed keeps every promise."""
        rng = Random(seed)
        planned = 0
        for _ in range(1000):
            where, observation, options = random_case(rng)
            decision = decide_actions(where, observation, options, make.NOW)
            if decision.chosen is None:
                assert decision.judged
                continue
            planned += 1
            action, limits = decision.chosen.action, where.passport.knobs
            after = {**where.knobs, **{c.knob: c.after for c in action.changes}}
            batch = ("grad_accum_steps", "microbatch_size")
            assert prod(after[k] for k in batch) == prod(where.knobs[k] for k in batch)
            assert all(state.kept for state in action.invariants)
            assert {c.knob for c in action.changes} <= set(where.passport.allowed_knobs)
            for one in action.changes:
                assert one.before == where.knobs[one.knob] != one.after
                assert limits[one.knob].min <= one.after <= limits[one.knob].max
                assert abs(one.delta) <= limits[one.knob].max_delta
            assert compute_action(where, Intent(action.chord), observation) == action
        assert planned > 50

    @settings(max_examples=200, deadline=None)
    @given(KNOB_VALUES, KNOB_VALUES)
    def test_walking_back_comes_nearer_and_ends(self, now: dict[str, int], stable: dict[str, int]) -> None:
        solution = recover_relock.targets(state(now, stable_profile=stable))
        for one in solution.changes:
            assert abs(one.after - stable[one.knob]) < abs(one.before - stable[one.knob])


class TestEnvelope:
    def reason(self, **over: Any) -> Reason | None:
        return registry.decide(registry.judge(make.context(**over))).reason

    def test_allowed(self) -> None:
        verdict = registry.decide(registry.judge(make.context()))
        assert verdict.allowed
        assert registry.may_propose(verdict)
        assert str(len(registry.RULES)) in verdict.message

    def test_no_rules_is_a_no(self) -> None:
        assert registry.decide(()).reason is Reason.NO_CHECKS_RUN

    def test_unknown_chord(self) -> None:
        assert self.reason(act=make.action("NOPE")) is Reason.UNKNOWN_CHORD

    def test_approval(self) -> None:
        advanced = make.action("COMM-CONGESTION", make.change("comm_bucket_mb", 25, 50))
        seen = make.observation(SignalName.COMM_CONGESTION)
        assert self.reason(act=advanced, observation=seen) is Reason.APPROVAL_REQUIRED
        assert self.reason(act=advanced, observation=seen, approve_advanced=True) is None
        assert self.reason(act=advanced, observation=seen, rollback=make.applied()) is None

    def test_chord_not_allowed(self) -> None:
        assert self.reason(passport=make.passport(allowed_chords=())) is Reason.CHORD_NOT_ALLOWED
        assert self.reason(passport=make.passport(allowed_chords=()), rollback=make.applied()) is None

    def test_evidence(self) -> None:
        assert self.reason(observation=make.observation(SignalName.STRAGGLER, steps=29)) is Reason.INSUFFICIENT_EVIDENCE
        dirty = make.observation(SignalName.STRAGGLER, ingest=IngestCounts(lines=100, dropped_total=21))
        assert self.reason(observation=dirty) is Reason.INSUFFICIENT_EVIDENCE
        assert self.reason(observation=make.observation(insufficient=True)) is Reason.INSUFFICIENT_EVIDENCE
        assert self.reason(observation=make.observation(insufficient=True), rollback=make.applied()) is None
        assert (
            self.reason(act=make.action("NORMAL-HOLD", changes=()), observation=make.observation(insufficient=True))
            is None
        )
        lenient = make.passport(observability=Observability(min_steps=1, max_dropped_pct=100))
        assert self.reason(passport=lenient, observation=make.observation(SignalName.STRAGGLER, steps=2)) is None

    def test_required_signal(self) -> None:
        assert self.reason(observation=make.observation(SignalName.DRIFT_STEP)) is Reason.REQUIRED_SIGNAL_MISSING
        relock = make.action("RECOVER-RELOCK", make.change("dataloader_num_workers", 2, 1))
        stable = {
            "act": relock,
            "observation": make.observation(),
            "passport": make.passport(recovery=Recovery(stable_intervals=2)),
        }
        assert self.reason(**stable, stable_intervals=1) is Reason.REQUIRED_SIGNAL_MISSING
        assert self.reason(**stable, stable_intervals=2) is None

    def test_unsolved(self) -> None:
        unsolved = make.action("INPUT-STRAGGLER", changes=(), unsolved="no room", unsolved_reason=Reason.OUT_OF_BOUNDS)
        assert self.reason(act=unsolved) is Reason.OUT_OF_BOUNDS
        assert solvable.judge(make.context(make.action(changes=(), unsolved="x"))).reason is Reason.INVARIANT_VIOLATED

    def test_knobs(self) -> None:
        strange = make.action("INPUT-STRAGGLER", make.change("mystery", 1, 2))
        assert self.reason(act=strange) is Reason.UNKNOWN_KNOB
        absent = make.context(knobs={})
        assert knob_known.judge(absent).reason is Reason.UNKNOWN_KNOB
        assert self.reason(passport=make.passport(allowed_knobs=())) is Reason.KNOB_NOT_ALLOWED
        foreign = make.action("INPUT-STRAGGLER", make.change("concurrency", 8, 9))
        assert self.reason(act=foreign) is Reason.KNOB_NOT_ALLOWED

    def test_held(self) -> None:
        hold = Hold(
            workload=make.REF.key,
            knobs=("dataloader_num_workers",),
            source="closed",
            pr=3,
            by="Al",
            at="2026-01-01T00:00:00Z",
        )
        assert self.reason(holds=(hold,)) is Reason.HELD_BY_REVIEWER
        assert self.reason(holds=(hold,), rollback=make.applied()) is None
        assert self.reason(holds=(hold.model_copy(update={"workload": "ml/deployment-other"}),)) is None
        assert self.reason(holds=(hold.model_copy(update={"knobs": ("concurrency",)}),)) is None
        assert self.reason(holds=(hold.model_copy(update={"pr": None}),)) is Reason.HELD_BY_REVIEWER

    def test_cooldown(self) -> None:
        passport = make.passport(cooldown_s=900)
        assert (
            self.reason(passport=passport, applied=(make.applied("DRIFT-RETUNE", age_s=899),)) is Reason.COOLDOWN_ACTIVE
        )
        assert self.reason(passport=passport, applied=(make.applied("DRIFT-RETUNE", age_s=900),)) is None
        assert self.reason(passport=passport, applied=(make.applied(age_s=3599),)) is Reason.COOLDOWN_ACTIVE
        assert self.reason(passport=passport, applied=(make.applied(age_s=3600),)) is None
        assert self.reason(passport=passport, applied=(make.applied(age_s=1),), rollback=make.applied()) is None
        unknown = make.context(make.action("NOPE"), applied=(make.applied(age_s=1),))
        assert not registry.decide(registry.judge(unknown)).allowed

    def test_budget(self) -> None:
        often = tuple(make.applied("DRIFT-RETUNE", age_s=7200 + i) for i in range(3))
        tight = make.passport(budget=PassportBudget(max_changes=3, window_s=86_400))
        assert self.reason(passport=tight, applied=often) is Reason.BUDGET_EXHAUSTED
        mine = tuple(make.applied(age_s=7200 + i) for i in range(4))
        assert self.reason(applied=mine) is Reason.BUDGET_EXHAUSTED
        other = {"concurrency": (8, 9)}
        mine = tuple(make.applied(changes=other, age_s=7200 + i) for i in range(4))
        assert self.reason(applied=mine) is Reason.BUDGET_EXHAUSTED
        assert self.reason(applied=mine[:3]) is None
        assert self.reason(applied=mine, rollback=make.applied()) is None
        free = make.catalog(chords=tuple(c.model_copy(update={"budget": None}) for c in make.catalog().chords))
        assert self.reason(applied=mine, catalog=free) is None
        none = make.catalog(
            chords=tuple(
                c.model_copy(update={"budget": Budget(max_changes=0, window_ms=1)}) for c in make.catalog().chords
            )
        )
        assert self.reason(catalog=none) is Reason.BUDGET_EXHAUSTED
        assert budget.judge(make.context(make.action("NOPE"))).allowed

    def test_the_same_way_again_and_again(self) -> None:
        same = tuple(make.applied(age_s=7200 + i) for i in range(3))
        assert self.reason(applied=same) is Reason.BUDGET_EXHAUSTED
        assert self.reason(applied=same[:2]) is None
        assert self.reason(applied=tuple(make.applied(age_s=90_000 + i) for i in range(3))) is None
        back = make.applied(changes={"dataloader_num_workers": (4, 2)}, age_s=7200)
        assert self.reason(applied=(*same[:2], back)) is None
        down = make.action("INPUT-STRAGGLER", make.change("dataloader_num_workers", 2, 1))
        away = tuple(make.applied(changes={"dataloader_num_workers": (4, 2)}, age_s=7200 + i) for i in range(3))
        judged = direction.judge(make.context(down, applied=away))
        assert "was moved down 3 times" in judged.message
        assert direction.judge(make.context(down, applied=away, rollback=away[0])).allowed
        undone = tuple(one.model_copy(update={"rollback_of": "2" * 64}) for one in same)
        assert direction.judge(make.context(applied=undone)).allowed
        relock = make.action("RECOVER-RELOCK", make.change("dataloader_num_workers", 2, 4))
        assert direction.judge(make.context(relock, applied=same)).allowed

    def test_bounds_and_step(self) -> None:
        far = make.action("INPUT-STRAGGLER", make.change("dataloader_num_workers", 30, 33))
        knobs = {**make.KNOBS, "dataloader_num_workers": 30}
        assert self.reason(act=far, knobs=knobs) is Reason.OUT_OF_BOUNDS
        leap = make.action("INPUT-STRAGGLER", make.change("dataloader_num_workers", 2, 7))
        assert self.reason(act=leap) is Reason.MAX_DELTA_EXCEEDED

    def test_invariants(self) -> None:
        seen = {"observation": make.observation(SignalName.DRIFT_STEP)}
        lone = make.action("DRIFT-RETUNE", make.change("grad_accum_steps", 4, 8))
        assert self.reason(act=lone, **seen) is Reason.INVARIANT_VIOLATED
        wide = make.passport(invariants=(InvariantRule(name=InvariantName.GLOBAL_BATCH, tolerance_pct=100.0),))
        assert self.reason(act=lone, passport=wide, **seen) is None
        # Fewer loaders read less far ahead, which is what guards the tail.
        shrink = make.action("INPUT-STRAGGLER", make.change("dataloader_num_workers", 2, 1))
        assert self.reason(act=shrink) is Reason.INVARIANT_VIOLATED

    def test_half_an_invariant_holds_too(self) -> None:
        """A knob that the workload does not carry can't make up for one that moves."""
        lone = {"microbatch_size": 32}
        grown = make.action("DRIFT-RETUNE", make.change("microbatch_size", 32, 128))
        assert (
            self.reason(act=grown, knobs=lone, observation=make.observation(SignalName.DRIFT_STEP))
            is Reason.INVARIANT_VIOLATED
        )

    def test_telemetry_must_be_newer_than_the_last_merge(self) -> None:
        def seen(last: str | None, source: str = "file") -> Any:
            window = Window(first_step=0, last_step=399, steps=400, last_ts=last)
            return make.observation(SignalName.STRAGGLER, window=window, source=source)

        merged = (make.applied(age_s=10_000),)
        at = parse_time(merged[0].at)
        old, new = (at - timedelta(seconds=1)).isoformat(), (at + timedelta(milliseconds=1)).isoformat()
        assert self.reason(observation=seen(old), applied=merged) is Reason.INSUFFICIENT_EVIDENCE
        assert self.reason(observation=seen(new), applied=merged) is None
        assert self.reason(observation=seen(old)) is None
        assert self.reason(observation=seen(None), applied=merged) is None
        assert self.reason(observation=seen(old, "synthetic"), applied=merged) is None
        assert self.reason(observation=seen(old), applied=merged, rollback=make.applied()) is None

    def test_an_exact_undo_passes_limits_that_were_tightened_since(self) -> None:
        undo = make.action("RECOVER-RELOCK", make.change("dataloader_num_workers", 8, 2))
        tight = make.passport(allowed_knobs=(), knobs={"dataloader_num_workers": KnobLimit(min=4, max=6, max_delta=1)})
        given = {
            "act": undo, "passport": tight, "knobs": {**make.KNOBS, "dataloader_num_workers": 8},
            "catalog": make.catalog(chords=make.catalog().chords[:1]),
        }  # fmt: skip
        assert self.reason(**given) is Reason.UNKNOWN_CHORD
        assert self.reason(**given, rollback=make.applied()) is None

    def test_delivery(self) -> None:
        job = make.REF.model_copy(update={"kind": "Job"})
        verdict = registry.decide(registry.judge(make.context(make.action(workload=job))))
        assert verdict.reason is Reason.PROPOSE_ONLY
        assert registry.may_propose(verdict)
        assert delivery.judge(make.context(make.action("NORMAL-HOLD", changes=(), workload=job))).allowed

    def test_every_rule_is_asked_even_after_a_no(self) -> None:
        verdicts = registry.judge(make.context(make.action("NOPE"), passport=make.passport(allowed_chords=())))
        assert len(verdicts) == len(registry.RULES)
        assert sum(not v.allowed for v in verdicts) > 1


class TestPlanner:
    def test_hold_makes_no_plan(self) -> None:
        decision = decide_actions(make.state(), make.observation(), Options(), make.NOW)
        assert decision.chosen is None
        assert decision.judged[0].action.is_hold
        with pytest.raises(InputError, match="changes nothing"):
            make_plan(
                make.state(), decision.judged[0].action, make.observation(), Options(), now=make.NOW, mk_version="0"
            )

    def test_one_chord_at_a_time(self) -> None:
        seen = make.observation(SignalName.STRAGGLER, SignalName.DRIFT_STEP)
        decision = decide_actions(make.state(), seen, Options(), make.NOW)
        assert decision.chosen is decision.judged[0]
        assert len(decision.judged) == 2

    def test_first_blocked_second_chosen(self) -> None:
        seen = make.observation(SignalName.STRAGGLER, SignalName.DRIFT_STEP)
        where = make.state(passport=make.passport(allowed_chords=("DRIFT-RETUNE",)))
        decision = decide_actions(where, seen, Options(), make.NOW)
        assert decision.chosen is decision.judged[1]

    def test_pinned_knobs_stay_pinned(self) -> None:
        where = make.state(pinned=frozenset({"concurrency"}))
        decision = decide_actions(where, make.observation(SignalName.DRIFT_STEP), Options(), make.NOW)
        assert decision.chosen is not None
        plan = make_plan(
            where,
            decision.chosen.action,
            make.observation(SignalName.DRIFT_STEP),
            Options(),
            now=make.NOW,
            mk_version="0",
        )
        assert plan.knobs == {"concurrency": 8, "grad_accum_steps": 8, "microbatch_size": 16}

    def test_chord_missing_from_the_catalog(self) -> None:
        where = make.state(catalog=make.catalog(chords=make.catalog().chords[:1]))
        decision = decide_actions(where, make.observation(SignalName.STRAGGLER), Options(), make.NOW)
        assert decision.judged[0].verdict.reason is Reason.UNKNOWN_CHORD

    def test_recover_after_stable_intervals(self) -> None:
        where = make.state(stable_profile={**make.KNOBS, "dataloader_num_workers": 1})
        for intervals, chord in ((2, Intent.NORMAL_HOLD), (3, Intent.RECOVER_RELOCK)):
            decision = decide_actions(where, make.observation(), Options(stable_intervals=intervals), make.NOW)
            assert decision.judged[0].action.chord == chord
        assert decision.chosen is not None

    def test_unsolved_is_told(self) -> None:
        where = make.state(knobs={**make.KNOBS, "microbatch_size": 1})
        decision = decide_actions(where, make.observation(SignalName.DRIFT_STEP), Options(), make.NOW)
        assert decision.judged[0].verdict.reason is Reason.INVARIANT_VIOLATED
        assert replace(decision, chosen=None).chosen is None
