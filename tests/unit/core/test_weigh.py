"""A gain against a cost: what is promised, what it takes, what remains, and what earlier promises came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.chords.relief import bursts, memory, slow_loader
from gitops_mk.core.chords.sizes import lost_share, slow_worker, stalled_batches, times_grown
from gitops_mk.core.envelope.rules import worth
from gitops_mk.core.lessons import lesson, lessons, promise_and_came
from gitops_mk.core.planner import Options, decide_actions
from gitops_mk.core.weigh.cost import cost_of
from gitops_mk.core.weigh.gain import Moved, gain_of
from gitops_mk.core.weigh.weighing import caution, remaining_s, weigh
from gitops_mk.model.change import OUTCOME_CHECK, Check, PrState, PullRequest
from gitops_mk.model.passport import Economics
from gitops_mk.model.plan import Action
from gitops_mk.model.signal import Evidence, SignalName
from gitops_mk.model.telemetry import Pace, Window
from gitops_mk.model.verdict import Reason
from gitops_mk.model.weighing import Cost, Gain, Lesson, Weighing
from gitops_mk.model.workload import WorkloadRef
from tests.support import make

PACE = Pace(block_steps=8, block_ms=(1000.0, 1000.0))


def seen(name: SignalName, **evidence: Any) -> dict[SignalName, Evidence]:
    return {name: make.signal(name, **evidence).evidence}


def moved(**knobs: tuple[int, int]) -> Moved:
    changes = tuple(make.change(knob, before, after) for knob, (before, after) in knobs.items() if before != after)
    return Moved({knob: before for knob, (before, _) in knobs.items()}, changes)


def weighed(action: Action | None = None, *found: SignalName, **over: Any) -> Weighing:
    observation = make.observation(*(found or (SignalName.STRAGGLER,)), pace=PACE)
    return weigh(
        action or make.action(), make.KNOBS, over.pop("seen", observation), over.pop("by", Economics()), **over
    )


class TestRelief:
    def test_a_loader_that_is_always_slow(self) -> None:
        assert slow_loader(1.0, 1.0, (2, 2), (2, 2)) == pytest.approx(1.0)
        assert slow_loader(1.0, 1.0, (2, 4), (2, 2)) == 0.0
        assert slow_loader(1.0, 1.0, (2, 3), (2, 32)) == pytest.approx(1 / 3)

    def test_deeper_queues_hide_what_is_rare(self) -> None:
        assert slow_loader(1.0, 0.1, (2, 2), (1, 2)) < slow_loader(1.0, 0.1, (2, 2), (1, 1))

    def test_bursts_and_memory(self) -> None:
        assert bursts(10.0, (2, 2), (2, 7)) == 0.0
        assert bursts(10.0, (2, 2), (2, 4)) == pytest.approx(0.6)
        assert memory(32, 16) == 0.5


class TestSizes:
    def test_where_nothing_tells(self) -> None:
        assert lost_share(None) == 0.5
        assert slow_worker(None) == (1.0, 1.0)
        assert stalled_batches(None, make.KNOBS) == 4.0
        assert times_grown(None) == 2.0

    def test_by_the_evidence(self) -> None:
        one = make.signal(SignalName.STRAGGLER, effect=0.25, values={"before_ms": 2.0, "after_ms": 8.0}).evidence
        assert lost_share(one) == 0.2
        assert slow_worker(one) == (0.25, 1.0)
        assert times_grown(one) == 4.0
        assert stalled_batches(one, make.KNOBS) == 4.0
        told = make.signal(SignalName.BURST, values={"stall_steps": 0.4, "cost_share": 1.0, "slow_share": 0.3}).evidence
        assert stalled_batches(told, make.KNOBS) == 1.6
        assert slow_worker(told)[0] == pytest.approx(9.0)
        assert slow_worker(told)[1] == 0.3
        assert lost_share(make.signal(SignalName.BURST, effect=None).evidence) == 0.5


class TestGain:
    def share(self, chord: str, how: Moved, evidence: Mapping[SignalName, Evidence]) -> tuple[Any, Any]:
        gain = gain_of(chord, how, evidence)
        return gain.share, gain.at_most

    def test_half_is_promised_where_no_cause_is_located(self) -> None:
        how = moved(dataloader_num_workers=(2, 4))
        assert self.share("INPUT-STRAGGLER", how, seen(SignalName.STRAGGLER)) == (0.25, 0.5)
        located = gain_of("INPUT-STRAGGLER", how, seen(SignalName.STRAGGLER, cause="input"))
        assert (located.share, located.at_most) == (0.5, 0.5)
        assert "located in input" in located.reasoning

    def test_nothing_where_it_is_located_elsewhere(self) -> None:
        gain = gain_of(
            "INPUT-STRAGGLER", moved(dataloader_num_workers=(2, 4)), seen(SignalName.STRAGGLER, cause="compute")
        )
        assert gain.share == 0.0
        assert "which no such move mends" in gain.reasoning

    def test_a_move_cut_short_promises_less(self) -> None:
        little = self.share(
            "INPUT-STRAGGLER", moved(dataloader_num_workers=(2, 3)), seen(SignalName.STRAGGLER, cause="input")
        )
        assert little[0] == pytest.approx(1 - (1 + 1 / 3) / 2)

    def test_bursts(self) -> None:
        told = seen(SignalName.BURST, effect=0.25, cause="input", values={"stall_steps": 8.0})
        how = moved(dataloader_num_workers=(2, 2), dataloader_prefetch_factor=(2, 4))
        assert self.share("BURST-ABSORB", how, told)[0] == pytest.approx(0.1)

    @pytest.mark.parametrize("name", [SignalName.DRIFT_STEP, SignalName.GPU_SATURATED])
    def test_memory(self, name: SignalName) -> None:
        chord = "SCALAR" if name is SignalName.GPU_SATURATED else "DRIFT-RETUNE"
        how = moved(microbatch_size=(32, 16), grad_accum_steps=(4, 8))
        assert self.share(chord, how, seen(name, effect=0.25, cause="memory"))[0] == pytest.approx(0.2)
        assert self.share(chord, how, seen(name, effect=3.0, cause="memory"))[0] == pytest.approx(0.5)
        assert self.share(chord, how, seen(name, effect=3.0, cause="clock"))[0] == 0.0
        assert self.share(chord, moved(microbatch_size=(16, 32)), seen(name, cause="memory"))[0] == 0.0

    def test_communication(self) -> None:
        told = seen(SignalName.COMM_CONGESTION, effect=0.25, values={"before_ms": 1.0, "after_ms": 2.0})
        assert self.share("COMM-CONGESTION", moved(comm_bucket_mb=(25, 50)), told) == (
            pytest.approx(0.1),
            pytest.approx(0.2),
        )
        assert self.share("COMM-CONGESTION", moved(comm_bucket_mb=(25, 25)), told)[0] == 0.0

    def test_no_knob_cures_a_loss(self) -> None:
        gain = gain_of("DRIFT-RETUNE", moved(microbatch_size=(32, 16)), seen(SignalName.DRIFT_LOSS))
        assert gain.share == 0.0
        assert "cures a loss" in gain.reasoning
        both = {**seen(SignalName.DRIFT_LOSS), **seen(SignalName.DRIFT_STEP, effect=None)}
        assert gain_of("DRIFT-RETUNE", moved(microbatch_size=(32, 16)), both).share == 0.0

    def test_what_is_not_about_time_is_not_weighed(self) -> None:
        for chord in ("RECOVER-RELOCK", "TIMEOUT-GUARD", "NEAR-HANG/TIMEOUT-GUARD"):
            assert not gain_of(chord, moved(), {}).weighed
        risen = gain_of("RECOVER-RELOCK", moved(), seen(SignalName.DRIFT_LOSS))
        assert "the loss rose since" in risen.reasoning

    def test_nothing_measured(self) -> None:
        assert gain_of("INPUT-STRAGGLER", moved(), {}).share is None
        assert gain_of("INPUT-STRAGGLER", moved(), seen(SignalName.STRAGGLER, effect=None)).share is None
        assert gain_of("SCALAR", moved(), seen(SignalName.NEAR_HANG)).share == 0.0

    @given(
        st.sampled_from([s for s in SignalName if s is not SignalName.DRIFT]),
        st.floats(0.0, 50.0),
        st.sampled_from([None, "input", "memory", "clock"]),
        st.integers(1, 64),
        st.integers(1, 64),
    )
    def test_a_gain_is_a_share(
        self, name: SignalName, effect: float, cause: str | None, before: int, after: int
    ) -> None:
        how = moved(
            dataloader_num_workers=(before, after), dataloader_prefetch_factor=(2, 2), microbatch_size=(before, after),
            comm_bucket_mb=(before, after),
        )  # fmt: skip
        gain = gain_of("SCALAR", how, seen(name, effect=effect, cause=cause))
        assert gain.share is not None
        assert gain.at_most is not None
        assert 0.0 <= gain.share <= gain.at_most <= 1.0


class TestCost:
    def test_a_configmap_and_a_next_run_cost_nothing(self) -> None:
        assert cost_of("configmap", Economics(), PACE, in_place=True).total_s == 0.0
        assert cost_of("annotation", Economics(), PACE, in_place=False).total_s == 0.0

    def test_a_restart(self) -> None:
        cost = cost_of(
            "annotation", Economics(restart_s=100, warm_up_s=10, checkpoint_every_s=600), None, in_place=True
        )
        assert cost.total_s == 410.0
        assert "by the passport" in cost.reasoning

    def test_checkpoints_as_the_job_announces_them(self) -> None:
        pace = PACE.model_copy(update={"checkpoint_every": 200})
        cost = cost_of("annotation", Economics(), pace, in_place=True)
        assert cost.redone_s == 100.0
        assert "as the job announces them" in cost.reasoning
        assert cost_of("annotation", Economics(), PACE, in_place=True).redone_s == 900.0


class TestWeighing:
    def test_what_remains(self) -> None:
        seen = make.observation(pace=PACE, window=Window(first_step=0, last_step=399, steps=400))
        assert remaining_s(seen, Economics(), 1000)[0] == 600.0
        assert remaining_s(seen, Economics(), 100)[0] == 0.0
        assert remaining_s(seen, Economics(horizon_s=7), None) == (
            7.0,
            "the passport's horizon: nothing says how many steps the job takes",
        )
        assert remaining_s(make.observation(), Economics(), 1000)[0] == 86_400.0

    def test_the_ratio_decides(self) -> None:
        one = weighed(total_steps=400 + 15_119)
        assert one.gain.share == 0.25
        assert one.saved_s == pytest.approx(3779.75)
        assert one.cost.total_s == 1260.0
        assert not one.worth_it
        assert weighed(total_steps=400 + 15_121).worth_it
        assert one.break_even_s == pytest.approx(5040.0)

    def test_too_small_to_notice(self) -> None:
        tiny = Weighing(gain=Gain(share=0.005, at_most=0.01, reasoning="r"), cost=Cost(reasoning="c"), remaining_s=1e6, remaining_from="x",
                        needed=3.0, least_share=0.01)  # fmt: skip
        assert not tiny.worth_it
        assert "the passport asks for 1 %" in worth.sum_up(tiny)
        free = tiny.model_copy(update={"gain": Gain(share=0.05, at_most=0.1, reasoning="r")})
        assert free.worth_it
        assert free.ratio is None
        assert free.break_even_s == 0.0
        assert "costs nothing" in worth.sum_up(free)
        none = tiny.model_copy(update={"gain": Gain(reasoning="nobody knows")})
        assert (none.worth_it, none.saved_s, none.ratio, none.break_even_s) == (False, None, None, None)
        assert "nobody knows" in worth.sum_up(none)

    def test_caution(self) -> None:
        def taught(promised: float, came: float) -> Lesson:
            return Lesson(
                commit=make.SHA_C, plan_digest="1" * 64, chord="INPUT-STRAGGLER", promised=promised, came=came
            )

        assert caution(()) == 1.0
        assert caution((taught(0.2, 0.0),)) == 0.5
        assert caution((taught(0.2, 0.3),)) == 1.0
        assert caution((taught(0.2, -5.0), taught(0.0, 0.0))) == 0.5
        one = weighed(lessons=(taught(0.2, 0.1), taught(0.2, 0.1).model_copy(update={"chord": "SCALAR"})))
        assert (one.caution, one.lessons) == (0.75, 1)
        assert one.share == pytest.approx(0.1875)

    def test_the_rule(self) -> None:
        ends = make.state(total_steps=10)
        decision = decide_actions(ends, make.observation(SignalName.STRAGGLER, pace=PACE), Options(), make.NOW)
        assert decision.judged[0].verdict.reason is Reason.GAIN_BELOW_COST
        assert "0 s in the 0 s that remain" in decision.judged[0].verdict.message
        fine = decide_actions(make.state(), make.observation(SignalName.STRAGGLER), Options(), make.NOW).chosen
        assert fine is not None
        assert fine.weighing is not None
        [said] = [v for v in fine.verdicts if v.rule == worth.RULE]
        assert "17.1 times the 21 min it costs; the passport asks for 3 times" in said.message
        relock = weighed(make.action("RECOVER-RELOCK"))
        assert relock.worth_it
        assert worth.sum_up(relock) == relock.gain.reasoning
        assert worth.judge(make.context(weighing=None)).allowed

    def test_a_loss_alone_asks_for_no_change(self) -> None:
        decision = decide_actions(make.state(), make.observation(SignalName.DRIFT_LOSS), Options(), make.NOW)
        assert decision.judged[0].verdict.reason is Reason.GAIN_BELOW_COST
        assert "cures a loss" in decision.judged[0].verdict.message

    def test_kinds_that_a_merge_does_not_restart(self) -> None:
        job = WorkloadRef(namespace="ml", kind="Job", name="trainer")
        assert weighed(make.action(workload=job)).cost.total_s == 0.0


class TestLessons:
    def test_far_slower_than_there_are_figures_for(self) -> None:
        told = lesson(self.merged(1, "promised 2 %, came -99999999 %"))
        assert told is not None
        assert told.came == -1000.0

    def merged(self, number: int, summary: str | None, **over: Any) -> PullRequest:
        digest = str(number) * 64
        checks = (
            ()
            if summary is None
            else (
                Check(
                    name=OUTCOME_CHECK, commit=f"{number:040x}", base=make.SHA_C, plan_digest=digest, conclusion="success",
                    summary=summary, at="2026-01-01T00:00:00Z",
                ),
            )
        )  # fmt: skip
        fields = {
            "number": number,
            "state": PrState.MERGED,
            "merge_sha": f"{number:040x}",
            "plan_digest": digest,
            "checks": checks,
        }
        return make.pull_request(**{**fields, **over})

    def test_read_back_what_was_written(self) -> None:
        told = lesson(self.merged(1, f"kept: {promise_and_came(0.25, 0.31)} [1, 2]"))
        assert told == Lesson(
            commit=f"{1:040x}", plan_digest="1" * 64, chord="INPUT-STRAGGLER", promised=0.25, came=0.31
        )
        lost = lesson(self.merged(1, promise_and_came(0.25, -3.5)))
        assert lost is not None
        assert lost.came == -3.5

    @pytest.mark.parametrize("summary", [None, "", "kept", "promised 250.0 %, came 1.0 %", "promised 2 %, came 200 %"])
    def test_what_tells_nothing(self, summary: str | None) -> None:
        assert lesson(self.merged(1, summary)) is None

    def test_an_open_one_tells_nothing(self) -> None:
        assert lesson(make.pull_request()) is None

    def test_git_remembers_what_the_forge_forgets(self) -> None:
        old = Lesson(commit=make.SHA_A, plan_digest="9" * 64, chord="SCALAR", promised=0.1, came=0.1)
        newer = self.merged(2, promise_and_came(0.2, 0.1))
        other = self.merged(3, promise_and_came(0.2, 0.1), workload="ml/deployment-other")
        quiet = self.merged(4, None)
        found = lessons(make.plan(lessons=(old,)), (quiet, other, newer), make.REF.key)
        assert [one.plan_digest[0] for one in found] == ["9", "2"]
        assert lessons(None, (), make.REF.key) == ()
