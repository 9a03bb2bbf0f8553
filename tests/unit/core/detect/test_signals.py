"""Each signal where it is, none where it is not, with the evidence a reviewer needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gitops_mk.core.detect.registry import DETECTORS
from gitops_mk.model.signal import Classification, Observation, SignalName

FOUND, NOTHING, UNKNOWN = (
    Classification.SIGNAL_FOUND,
    Classification.NO_ACTIONABLE_SIGNAL,
    Classification.INSUFFICIENT_EVIDENCE,
)


def names(seen: Observation) -> list[str]:
    return [str(name) for name in seen.found]


def evidence(seen: Observation, name: SignalName) -> Any:
    signal = seen.signal(name)
    assert signal is not None
    return signal.evidence


def kind(seen: Observation, name: SignalName) -> Classification:
    signal = seen.signal(name)
    assert signal is not None
    return signal.classification


# Healthy things that real jobs do.


def test_a_quiet_job_is_stable(job: Any) -> None:
    seen = job().observe()
    assert seen.stable
    assert {s.classification for s in seen.signals} == {NOTHING}
    assert [s.name for s in seen.signals] == [name for name, _ in DETECTORS]


def test_one_outlier_is_no_incident(job: Any) -> None:
    j = job()
    j.pause[300] = 20 * 400
    assert j.observe().stable


def test_warm_up_is_no_incident(job: Any) -> None:
    j = job()
    j.workers[:30] *= np.linspace(20, 2, 30)[:, None]
    assert j.observe().stable


def test_checkpoint_and_evaluation_pauses_are_planned(job: Any) -> None:
    j = job(n=900)
    j.pause[50::50] = 5 * 400
    j.pause[51::50] = 2 * 400
    j.pause[130::130] += 30 * 400
    assert j.observe().stable


def test_an_asynchronous_checkpoint_is_planned_with_its_tail(job: Any) -> None:
    j = job(n=900)
    for k in range(100, 900, 100):
        j.workers[k : k + 8] *= 1.4
        j.pause[k] = 400
    assert j.observe().stable


def test_checkpoints_stay_planned_when_one_of_them_hangs(job: Any) -> None:
    j = job(n=900)
    j.pause[100::100] = 3 * 400
    j.pause[500] = 150 * 400
    assert names(j.observe()) == ["near_hang"]


def test_a_cadence_in_a_short_run_needs_three_pauses(job: Any) -> None:
    j = job(n=170)
    for k in (50, 100, 150):
        j.pause[k : k + 2] = 6 * 400
    assert j.observe().stable


def test_slow_steps_too_close_to_tell_a_cadence(job: Any) -> None:
    j = job(n=400)
    j.workers[np.arange(400) % 3 == 0] *= 1.5
    assert names(j.observe()) == []


def test_slow_steps_too_far_apart_to_tell_a_cadence(job: Any) -> None:
    j = job(n=120)
    for k in (20, 70, 119):
        j.pause[k] = 1600
    assert j.observe().stable


def test_random_single_slow_steps_are_no_burst(job: Any) -> None:
    j = job(n=1500)
    j.workers[np.random.default_rng(3).random(1500) < 0.05] *= 2.0
    assert names(j.observe()) == []


def test_a_learning_rate_step_is_no_drift(job: Any) -> None:
    j = job()
    x = np.arange(j.n)
    j.loss += np.where(x > 250, 0.8 * np.exp(-(x - 250) / 60), 0)
    assert j.observe().stable


def test_high_utilisation_alone_is_no_incident(job: Any) -> None:
    j = job()
    j.util[:] = 100.0
    assert j.observe().stable
    j = job()
    j.util[300:] = 100.0
    j.mem[300:] = 98.5
    assert j.observe().stable


def test_utilisation_that_rises_because_steps_got_faster(job: Any) -> None:
    j = job()
    j.util[300:] = 99.8
    j.workers[300:] *= 0.7
    assert j.observe().stable


def test_longer_steps_with_the_same_throughput_are_planned(job: Any) -> None:
    j = job()
    j.workers[300:] *= 2
    j.comm[300:] *= 2
    j.throughput[300:] *= 2
    seen = j.observe()
    assert seen.stable
    assert "throughput did not fall" in evidence(seen, SignalName.DRIFT_STEP).summary


def test_a_schedule_in_steps_without_throughput_is_no_drift(job: Any) -> None:
    j = job()
    j.throughput = None
    j.workers[200:] *= 1.4
    j.workers[400:] *= 1.4
    seen = j.observe()
    assert seen.stable
    assert "planned schedule" in evidence(seen, SignalName.DRIFT_STEP).summary


def test_what_went_up_and_came_down_is_no_drift(job: Any) -> None:
    j = job()
    j.workers *= (1 + 0.3 * np.interp(np.arange(j.n), [0, 450, 460, 600], [0, 1, 0, 0]))[:, None]
    assert j.observe().stable


def test_a_long_rise_that_ended_is_no_drift(job: Any) -> None:
    j = job()
    j.workers *= (1 + 0.4 * np.interp(np.arange(j.n), [0, 515, 520, 600], [0, 1, 0, 0]))[:, None]
    assert j.observe().stable


def test_workers_that_differ_a_little_or_take_turns(job: Any) -> None:
    j = job(workers=8)
    j.workers *= np.linspace(0.97, 1.04, 8)
    j.workers[np.arange(j.n), np.arange(j.n) % 8] *= 1.3
    assert "straggler" not in names(j.observe())


def test_announced_pauses_are_planned(job: Any) -> None:
    j = job()
    for k in (77, 130, 289, 333, 512):
        j.pause[k : k + 2] = 5 * 400
        j.extra.append({"event": "checkpoint", "step": k})
    j.pause[400:404] = 8 * 400
    j.extra.append({"event": "resume", "step": 400})
    j.extra.append({"event": "eval"})
    seen = j.observe()
    assert seen.stable
    assert "7 lines announced planned events" in seen.environment.notes


def test_warming_up_again_after_a_resume_is_planned(job: Any) -> None:
    j = job()
    j.step[300:] -= 100
    j.workers[300:307] *= 8
    seen = j.observe()
    assert seen.stable
    assert seen.ingest.resumes == 1
    assert "the job resumed 1 times" in seen.environment.notes


def test_all_steps_alike_to_the_last_bit(observe: Any) -> None:
    seen = observe(
        [{"step": i, "step_time_ms": 100, "worker_latencies_ms": [90, 90, 90], "loss": 0} for i in range(200)]
    )
    assert seen.stable


# Incidents.


def test_drift_of_step_time(job: Any) -> None:
    j = job()
    j.workers *= (1 + 0.4 * np.clip((np.arange(j.n) - 200) / 400, 0, 1))[:, None]
    seen = j.observe()
    assert names(seen) == ["drift_step"]
    found = evidence(seen, SignalName.DRIFT_STEP)
    assert 0.2 < found.effect < 0.6
    assert found.metric == "step_time_ms"
    assert 150 < found.onset_step < 500
    assert found.duration_steps == j.n - found.onset_step
    assert "gradually" in found.summary
    assert 0 < len(found.series) <= 64


def test_drift_as_a_level_change_that_throughput_confirms(job: Any) -> None:
    j = job()
    j.workers[350:] *= 1.25
    seen = j.observe()
    assert names(seen) == ["drift_step"]
    found = evidence(seen, SignalName.DRIFT_STEP)
    assert found.effect == pytest.approx(0.23, abs=0.03)
    assert "at once" in found.summary


def test_drift_without_throughput_must_be_gradual_and_large(job: Any) -> None:
    j = job()
    j.throughput = None
    j.workers *= (1 + 0.5 * np.clip((np.arange(j.n) - 250) / 350, 0, 1))[:, None]
    assert names(j.observe()) == ["drift_step"]
    j = job()
    j.throughput = None
    j.workers *= (1 + 0.4 * np.arange(j.n) / j.n)[:, None]
    assert j.observe().stable


def test_drift_of_loss(job: Any) -> None:
    j = job()
    x = np.arange(j.n)
    j.loss = np.where(x < 300, j.loss, j.loss[300] * (1 + 0.4 * (x - 300) / 300))
    seen = j.observe()
    assert names(seen) == ["drift_loss"]
    found = evidence(seen, SignalName.DRIFT_LOSS)
    assert found.metric == "loss"
    assert 0.2 < found.effect < 0.5
    assert 290 < found.onset_step < 480


def test_a_loss_that_rises_from_the_start(job: Any) -> None:
    j = job()
    j.loss = 2.0 * (1 + np.arange(j.n) / j.n)
    assert evidence(j.observe(), SignalName.DRIFT_LOSS).metric == "loss"


def test_a_loss_that_jumps_and_stays(job: Any) -> None:
    j = job()
    j.loss[450:] = 1e9
    assert evidence(j.observe(), SignalName.DRIFT_LOSS).metric == "loss"


def test_a_loss_that_turns_up_at_the_very_end(job: Any) -> None:
    j = job(n=240)
    j.loss = np.full(240, 2.0) - np.arange(240) * 1e-3
    j.loss[-48:] = np.linspace(1.9, 2.4, 48)
    assert evidence(j.observe(), SignalName.DRIFT_LOSS).metric == "loss"


@pytest.mark.parametrize("first", [0, 500])
def test_a_loss_that_is_no_number(job: Any, first: int) -> None:
    j = job()
    j.loss[first:] = np.nan
    seen = j.observe()
    assert names(seen) == ["drift_loss"]
    assert evidence(seen, SignalName.DRIFT_LOSS).onset_step == first


def test_loss_in_a_few_steps_only_is_no_evidence_of_drift(job: Any, observe: Any) -> None:
    records = job().records()
    for i, record in enumerate(records):
        record["loss"] = float(i) if i % 40 == 0 else None
    assert observe(records).stable


def test_a_loss_that_is_no_number_for_a_while_only(job: Any) -> None:
    j = job()
    j.loss[200:300] = np.nan
    assert j.observe().stable


def test_a_run_that_is_nearly_all_planned_tells_nothing_of_a_trend(job: Any) -> None:
    j = job()
    j.loss = None
    j.extra = [{"event": "resume", "step": k} for k in range(50, 600, 8)]
    assert kind(j.observe(), SignalName.DRIFT_STEP) is UNKNOWN
    j.extra = [{"event": "resume", "step": k} for k in range(0, 600, 8)]
    assert kind(j.observe(), SignalName.DRIFT_STEP) is UNKNOWN


def test_burst(job: Any) -> None:
    j = job()
    for k in (80, 151, 237, 340, 452, 533):
        j.workers[k : k + 8] *= 2.2
    seen = j.observe()
    assert names(seen) == ["burst"]
    found = evidence(seen, SignalName.BURST)
    assert found.onset_step == 80
    assert found.values["episodes"] == 6
    assert 0.05 < found.effect < 0.15


def test_few_long_stretches_at_equal_distances_are_bursts(job: Any) -> None:
    j = job()
    for k in (100, 200, 300, 400, 500):
        j.workers[k : k + 9] *= 2.2
    assert names(j.observe()) == ["burst"]


@pytest.mark.parametrize("count", [2, 4, 32])
def test_straggler(job: Any, count: int) -> None:
    j = job(workers=count)
    j.workers[60:, 1] *= 6.2
    seen = j.observe()
    assert names(seen) == ["straggler"]
    found = evidence(seen, SignalName.STRAGGLER)
    assert found.culprits == ("worker-1",)
    assert found.effect == pytest.approx(5.2, abs=0.4)
    assert found.onset_step == 60
    assert found.summary.startswith("worker-1 takes 6.2x the time of its peers in 90% of steps since step 60")


def test_a_worker_that_is_always_a_little_behind(job: Any) -> None:
    j = job(workers=8)
    j.workers[:, 5] *= 1.13
    j.workers *= np.exp(np.random.default_rng(1).normal(0, 0.03, j.workers.shape))
    assert evidence(j.observe(), SignalName.STRAGGLER).culprits == ("worker-5",)


def test_a_worker_that_is_far_behind_now_and_then(job: Any) -> None:
    j = job(workers=8)
    for k in range(40, 600, 50):
        j.workers[k : k + 10, 3] *= 1.6
    seen = j.observe()
    assert names(seen) == ["straggler"]
    burst = evidence(seen, SignalName.BURST)
    assert "explained by straggler" in burst.summary or "no stretches" in burst.summary


def test_several_stragglers_are_all_named(job: Any) -> None:
    j = job(workers=24)
    for k in (2, 7, 9, 11, 20):
        j.workers[:, k] *= 1.5
    found = evidence(j.observe(), SignalName.STRAGGLER)
    assert found.culprits == ("worker-2", "worker-7", "worker-9", "worker-11", "worker-20")
    assert "and others take up to 1.5x the time of their peers" in found.summary


def test_two_workers_one_of_them_slow_at_times(observe: Any) -> None:
    records = [
        {"step": i, "step_time_ms": 100, "worker_latencies_ms": [12, 75 if i % 3 == 0 else 12]} for i in range(120)
    ]
    assert evidence(observe(records), SignalName.STRAGGLER).culprits == ("worker-1",)


def test_workers_are_called_as_the_records_call_them(observe: Any) -> None:
    base = {"step_time_ms": 100, "worker_latencies_ms": [10, 11, 10, 30]}
    seen = observe([{**base, "step": i, "worker_nodes": ["a", "b", "c", "gpu-7"]} for i in range(60)])
    assert evidence(seen, SignalName.STRAGGLER).culprits == ("gpu-7",)
    seen = observe([{**base, "step": i, "worker_ranks": [8, 9, 10, 11]} for i in range(60)])
    assert evidence(seen, SignalName.STRAGGLER).culprits == ("worker-11",)


def test_a_column_of_workers_that_never_reports(observe: Any) -> None:
    records = [{"step": i, "step_time_ms": 100, "worker_latencies_ms": [10, 10, None, 10]} for i in range(60)]
    assert observe(records).stable


def test_the_gpu_gets_pinned_and_steps_slower(job: Any) -> None:
    j = job()
    j.util[300:] = 99.7
    j.workers[300:] *= 1.4
    seen = j.observe()
    assert names(seen) == ["gpu_saturated"]
    found = evidence(seen, SignalName.GPU_SATURATED)
    assert found.onset_step == pytest.approx(300, abs=30)
    assert found.effect == pytest.approx(0.37, abs=0.05)
    assert "explained by gpu_saturated" in evidence(seen, SignalName.DRIFT_STEP).summary


def test_the_gpu_without_throughput(job: Any) -> None:
    j = job()
    j.throughput = None
    j.util[300:] = 99.7
    j.workers[300:] *= 1.4
    assert names(j.observe()) == ["gpu_saturated"]


def test_the_gpu_memory_runs_full(job: Any) -> None:
    j = job()
    j.mem = np.clip(75 + np.arange(j.n) * 0.08, 0, 99)
    j.workers[300:] *= 1.15
    j.workers[300::5] *= 1.8
    seen = j.observe()
    assert names(seen) == ["gpu_saturated"]
    assert evidence(seen, SignalName.GPU_SATURATED).metric == "gpu_mem_util_pct"


def test_memory_that_is_full_all_the_time(job: Any) -> None:
    j = job()
    j.mem[:] = 98.0
    assert j.observe().stable


def test_too_few_steady_steps_around_the_change(job: Any) -> None:
    j = job(n=40)
    j.util[20:] = 99.8
    j.workers[20:] *= 1.5
    j.extra.append({"event": "resume", "step": 18})
    j.extra += [{"event": "resume", "step": k} for k in (22, 30, 38)]
    assert "gpu_saturated" not in names(j.observe())


def test_communication_takes_more(job: Any) -> None:
    j = job()
    j.comm[300:] *= 5
    seen = j.observe()
    assert names(seen) == ["comm_congestion"]
    found = evidence(seen, SignalName.COMM_CONGESTION)
    assert found.onset_step == pytest.approx(300, abs=32)
    assert found.values["after_ms"] == pytest.approx(150, rel=0.1)


def test_communication_given_as_such(observe: Any) -> None:
    records = [
        {"step": i, "step_time_ms": 400 + (i > 150) * 100 + i % 7, "comm_ms": 30 + (i > 150) * 100 + i % 3}
        for i in range(300)
    ]
    assert names(observe(records)) == ["comm_congestion"]


def test_near_hang(job: Any) -> None:
    j = job()
    j.pause[[210, 340]] = 100 * 400
    seen = j.observe()
    assert names(seen) == ["near_hang"]
    found = evidence(seen, SignalName.NEAR_HANG)
    assert found.onset_step == 210
    assert found.values["stalled_steps"] == 2


# One cause a symptom.


def test_a_late_straggler_explains_the_drift(job: Any) -> None:
    j = job(n=900)
    j.workers[400:, 2] *= 1.6
    seen = j.observe()
    assert names(seen) == ["straggler"]
    assert "explained by straggler" in evidence(seen, SignalName.DRIFT_STEP).summary
    assert kind(seen, SignalName.DRIFT_STEP) is NOTHING


def test_a_drift_of_its_own_stays_beside_a_straggler(job: Any) -> None:
    j = job(n=900)
    j.workers[:, 2] *= 1.6
    j.workers *= (1 + 0.4 * np.arange(j.n) / j.n)[:, None]
    assert names(j.observe()) == ["drift_step", "straggler"]


def test_congestion_explains_the_drift_but_not_the_loss(job: Any) -> None:
    j = job(n=900)
    j.comm[400:] *= 6
    j.loss[600:] = np.nan
    assert names(j.observe()) == ["drift_loss", "comm_congestion"]
    j = job(n=900)
    j.comm[400:] *= 6
    assert names(j.observe()) == ["comm_congestion"]


# Not enough to say anything.


def test_fields_that_are_missing_make_their_detectors_abstain(job: Any) -> None:
    j = job()
    j.raw = j.workers.max(axis=1)
    j.workers = j.util = j.mem = j.loss = j.throughput = None
    seen = j.observe()
    assert {s.name for s in seen.signals if s.classification is UNKNOWN} == {
        SignalName.DRIFT_LOSS,
        SignalName.STRAGGLER,
        SignalName.GPU_SATURATED,
        SignalName.COMM_CONGESTION,
    }
    assert seen.stable


def test_worker_times_beyond_the_step_time_say_nothing_of_communication(job: Any) -> None:
    j = job()
    j.raw = j.workers.max(axis=1) * 0.5
    assert kind(j.observe(), SignalName.COMM_CONGESTION) is UNKNOWN


@pytest.mark.parametrize("n", [0, 1, 5, 29])
def test_too_few_steps(job: Any, n: int) -> None:
    seen = job(n=n).observe()
    assert seen.insufficient
    assert {s.classification for s in seen.signals} == {UNKNOWN}


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 17])
def test_any_number_of_steps_can_be_looked_at(job: Any, n: int) -> None:
    seen = job(n=n).observe(min_steps=0)
    assert not seen.incident
    assert seen.stable == (n > 0)


def test_too_many_unusable_lines(job: Any) -> None:
    j = job(n=100)
    j.extra = [{"step_time_ms": "n/a"}] * 30
    seen = j.observe()
    assert seen.insufficient
    assert "23 % of 130 lines unusable" in seen.signals[0].evidence.summary
    assert j.observe(max_dropped_pct=25.0).stable


# What an independent generator found.


def drifts(job: Any, shape: Any, **options: Any) -> Observation:
    j = job(n=1200, **options)
    j.workers *= (1 + shape(np.arange(j.n) / j.n))[:, None]
    seen: Observation = j.observe()
    return seen


@pytest.mark.parametrize("onset", [0.08, 0.5, 0.92])
def test_slower_at_once_early_or_late(job: Any, onset: float) -> None:
    seen = drifts(job, lambda x: np.where(x >= onset, 0.2, 0.0))
    assert names(seen) == ["drift_step"]
    assert seen.pr_worthy
    assert abs(evidence(seen, SignalName.DRIFT_STEP).onset_step - 1200 * onset) < 60


def test_a_ramp_in_the_last_third(job: Any) -> None:
    seen = drifts(job, lambda x: 0.4 * np.clip((x - 0.7) / 0.3, 0, 1))
    assert names(seen) == ["drift_step"]


def test_slower_amid_frequent_checkpoints(job: Any) -> None:
    j = job(n=1200)
    j.pause[::15] = 6 * 400
    j.workers[600:] *= 1.2
    assert names(j.observe()) == ["drift_step"]


def test_levels_that_a_run_goes_between_are_no_drift(job: Any) -> None:
    j = job(n=1200)
    for first in (200, 500, 800, 1130):
        j.workers[first : first + 70] *= 1.6
    assert "drift_step" not in names(j.observe())


def test_a_run_that_still_settles_hides_no_early_drift(job: Any) -> None:
    j = job(n=1200, noise=0.002)
    j.workers[:25] *= 1.25
    j.workers[25:50] *= 1.12
    j.workers[100:] *= 1.2
    assert names(j.observe()) == ["drift_step"]


def test_an_unconfirmed_drift_is_for_people_to_read(job: Any) -> None:
    j = job(n=1200)
    j.throughput = None
    j.workers *= (1 + 0.8 * np.clip((np.arange(1200) / 1200 - 0.3) / 0.7, 0, 1))[:, None]
    seen = j.observe()
    assert names(seen) == ["drift_step"]
    assert not seen.pr_worthy
    assert seen.classification is FOUND


def test_what_only_the_last_records_show(job: Any) -> None:
    j = job(n=9000)
    j.workers[8850:] *= 1.3
    assert names(j.observe()) == ["drift_step"]
    small = job(n=9000)
    small.workers[8850:] *= 1.1
    assert small.observe().stable


def test_a_loss_that_steps_up_and_stays_while_it_goes_on_falling(job: Any) -> None:
    j = job(n=1200)
    x = np.arange(1200) / 1200
    j.loss = (1 + 6 * np.exp(-4 * x)) * (1 + np.random.default_rng(3).normal(0, 0.004, 1200))
    j.loss[400:] = 2.75 * (1.09 - 0.03 * x[400:]) * (1 + np.random.default_rng(4).normal(0, 0.004, 800))
    seen = j.observe()
    assert names(seen) == ["drift_loss"]
    assert seen.facets()["drift"]


def test_a_loss_that_steps_up_and_comes_down_again(job: Any) -> None:
    j = job(n=1200)
    x = np.arange(1200) / 1200
    j.loss = j.loss + np.where(x >= 0.4, 0.8 * np.exp(-(x - 0.4) * 15), 0.0)
    assert j.observe().stable


def test_a_loss_that_is_hardly_ever_finite_says_little(job: Any) -> None:
    j = job(n=1200)
    j.loss[:1100] = np.nan
    seen = j.observe()
    assert kind(seen, SignalName.DRIFT_LOSS) is UNKNOWN


def test_a_late_straggler_in_a_long_run(job: Any) -> None:
    j = job(n=2000)
    j.workers[1850:, 2] *= 1.5
    seen = j.observe()
    assert names(seen) == ["straggler"]
    assert evidence(seen, SignalName.STRAGGLER).culprits == ("worker-2",)


def staged(job: Any, observe: Any, stages: list[int], slow: dict[int, float]) -> Observation:
    j = job(n=600, workers=len(stages))
    for index, times in slow.items():
        j.workers[:, index] *= times
    records = j.records()
    for record in records:
        record["pp_stage"] = stages
    seen: Observation = observe(records)
    return seen


def test_a_long_stage_is_no_straggler(job: Any, observe: Any) -> None:
    seen = staged(job, observe, [0, 0, 1, 1], {2: 1.5, 3: 1.5})
    assert seen.stable
    assert "rebalance the stages" in evidence(seen, SignalName.STRAGGLER).summary


def test_a_straggler_within_its_stage(job: Any, observe: Any) -> None:
    seen = staged(job, observe, [0, 0, 0, 1, 1, 1], {3: 1.5, 4: 1.5, 5: 2.1})
    assert evidence(seen, SignalName.STRAGGLER).culprits == ("worker-5",)


def test_alone_in_its_stage_nobody_can_say(job: Any, observe: Any) -> None:
    assert "straggler" not in names(staged(job, observe, [0, 0, 0, 1], {3: 1.6}))


def test_a_schedule_that_was_announced_is_no_drift(job: Any) -> None:
    j = job(n=1200)
    j.workers[600:] *= 1.3
    j.extra = [{"event": "schedule", "step": 601}, {"event": "schedule"}]
    seen = j.observe()
    assert seen.stable
    assert "announced" in evidence(seen, SignalName.DRIFT_STEP).summary
    j.extra = [{"event": "schedule", "step": 100}]
    assert names(j.observe()) == ["drift_step"]
