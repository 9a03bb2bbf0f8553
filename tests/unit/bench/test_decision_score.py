from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.bench.decisions import product, replay, running
from tests.bench.decisions.baselines import always, cusum, never, page_hinkley, simple_rules
from tests.bench.decisions.prediction import Prediction
from tests.bench.decisions.reading import content, record, table
from tests.bench.decisions.score import Item, Rate, score
from tests.bench.decisions.tables import BEGIN, END, number, overview, put, section, share
from tests.bench.decisions.truth import UNKNOWN, Labels

DRIFT = Labels(drift=True, drift_loss=True, incident=True, severity="hard")
SLOW = Labels(straggler=True, incident=True, severity="easy", culprits=(3,))
WELL = Labels()
BLIND = Labels(drift=None, drift_step=None, incident=None, pr_ok=False)


def said(*signals: str, culprits: tuple[int, ...] = (), pr: bool | None = None) -> Prediction:
    return Prediction(frozenset(signals), bool(signals) if pr is None else pr, culprits=culprits)


def items(*pairs: tuple[Labels, Prediction]) -> list[Item]:
    return [Item(f"t{i}", "f", labels, prediction) for i, (labels, prediction) in enumerate(pairs)]


def test_figures_by_hand() -> None:
    found = score(
        items(
            (DRIFT, said("drift", "drift_loss")),
            (DRIFT, said()),
            (WELL, said("drift")),
            (WELL, said()),
            (SLOW, said("straggler", culprits=(3,))),
            (SLOW, said("straggler", "burst", culprits=(2,))),
            (BLIND, said("drift", pr=False)),
            (UNKNOWN, Prediction(insufficient=True)),
            (UNKNOWN, said("burst")),
        ),
        draws=200,
    )
    drift, straggler = found.signals["drift"], found.signals["straggler"]
    assert (drift.tp, drift.fp, drift.fn, drift.tn) == (1, 1, 1, 3)
    assert (drift.precision, drift.recall, drift.f1) == (0.5, 0.5, 0.5)
    assert drift.by_severity["hard"] == Rate(1, 2)
    assert (straggler.f1, straggler.interval) == (1.0, (1.0, 1.0))
    assert found.signals["burst"].f1 == 0.0
    assert math.isnan(found.signals["gpu_saturated"].f1)
    assert found.macro_f1 == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    assert found.false_pr == Rate(1, 3)
    assert found.right_pr == Rate(2, 4)
    assert found.recall["all"] == Rate(3, 4)
    assert found.recall["hard"] == Rate(1, 2)
    assert found.pr_recall == Rate(3, 4)
    assert found.culprits == Rate(1, 2)
    assert found.abstained == Rate(1, 2)
    assert found.abstained_wrongly == Rate(0, 7)
    assert found.exact == Rate(4, 7)
    assert found.families["f"]["traces"] == 9


def test_wilson_as_published() -> None:
    low, high = Rate(0, 400).interval
    assert low == 0.0
    assert high == pytest.approx(0.0095, abs=1e-4)
    assert Rate(5, 10).interval == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert math.isnan(Rate(0, 0).value)
    assert math.isnan(Rate(0, 0).interval[0])


def test_intervals_hold_the_figure_and_shrink() -> None:
    few = items(*[(DRIFT, said("drift")), (DRIFT, said()), (WELL, said()), (WELL, said("drift"))] * 5)
    narrow, wide = (score(few * times).signals["drift"] for times in (20, 1))
    assert wide.interval[0] < 0.5 < wide.interval[1]
    assert narrow.interval[1] - narrow.interval[0] < wide.interval[1] - wide.interval[0]


def test_nothing_to_score_is_no_figure() -> None:
    empty = score([])
    assert math.isnan(empty.macro_f1)
    assert number(empty.macro_f1) == share(empty.false_pr) == "-"


def log(
    path: Path, seconds: np.ndarray, loss: np.ndarray, workers: np.ndarray | None = None, util: float = 50.0
) -> Path:
    rows = [
        {"ts": 1_700_000_000_000 + i * 1000, "step": i, "step_time_ms": seconds[i] * 1000, "loss": loss[i], "gpu_util_pct": util}
        | ({} if workers is None else {"worker_latencies_ms": (workers[i] * 1000).tolist()})
        for i in range(len(seconds))
    ]  # fmt: skip
    path.write_bytes(b"\n".join(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in rows) + b"\n")
    return path


@pytest.fixture
def calm(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    workers = rng.normal(0.9, 0.005, (400, 4))
    return log(tmp_path / "calm.jsonl", rng.normal(1.0, 0.01, 400), np.linspace(4, 2, 400), workers)


@pytest.fixture
def ill(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    workers = rng.normal(0.9, 0.005, (400, 4))
    workers[:, 1] *= 2.0
    seconds = rng.normal(1.0, 0.01, 400)
    seconds[200:] *= 1.4
    seconds[150] = 3.0
    return log(tmp_path / "ill.jsonl", seconds, np.linspace(2, 4, 400), workers, util=95.0)


def test_baselines_on_two_toys(calm: Path, ill: Path) -> None:
    for baseline in (never, simple_rules, page_hinkley, cusum):
        assert baseline(calm) == Prediction()
    assert simple_rules(ill).signals == {"drift", "burst", "straggler", "gpu_saturated"} == always(calm).signals
    assert simple_rules(ill).culprits == (1,)
    assert page_hinkley(ill).signals == cusum(ill).signals == {"drift"}
    assert never(ill) == Prediction()


def test_baselines_read_short_and_odd_logs(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_bytes(b'not json\n[1]\n{"step_time": 0.5, "loss": NaN}\n{"step_time_ms": -1}\n{"step_time": "x"}\n')
    read = table(content(path))
    assert read.seconds.tolist() == [0.5]
    assert math.isnan(read.loss[0])
    assert [baseline(path).pr for baseline in (simple_rules, page_hinkley, cusum)] == [False] * 3


def test_the_product_answers_in_the_words_of_the_bench(calm: Path, tmp_path: Path) -> None:
    assert product.predict(calm) == product.predict_bytes(calm.read_bytes())
    assert not product.predict(calm).insufficient
    short = tmp_path / "short.jsonl"
    short.write_bytes(b"".join(calm.read_bytes().splitlines(keepends=True)[:9]))
    assert product.predict(short).insufficient
    assert product.places(("worker-12", "worker-3", "node-a")) == (3, 12)


def test_every_retelling_keeps_what_was_said(calm: Path) -> None:
    lines = calm.read_bytes().splitlines()
    rng = np.random.default_rng(0)
    first, last = record(lines[0]), record(replay.scaled(lines, rng)[-1])
    before = record(lines[-1])
    assert first is not None
    assert last is not None
    assert before is not None
    assert last["step_time_ms"] == pytest.approx(replay.FACTOR * before["step_time_ms"])
    assert last["ts"] - first["ts"] == pytest.approx(replay.FACTOR * (before["ts"] - first["ts"]))
    moved = record(replay.shifted(lines, rng)[0])
    assert moved is not None
    assert moved["ts"] - first["ts"] == replay.LATER * 1000
    stamped = [b'{"ts": "2026-01-01T00:00:00.000+00:00"}', b'{"ts": "2026-01-01T00:00:10.000+00:00"}']
    assert replay.scaled(stamped, rng)[1] == b'{"ts": "2026-01-01T00:00:37.000+00:00"}'
    odd = [b'{"ts": "yesterday", "worker_latencies_ms": [null, 1.0]}']
    assert replay.scaled(odd, rng) == [b'{"ts": "yesterday", "worker_latencies_ms": [null, 3.7]}']
    assert sorted(replay.shuffled(lines, rng)) == sorted(lines) != replay.shuffled(lines, rng)
    assert 300 < len(replay.thinned(lines, rng)) < 400
    assert replay.invariances(lines, lambda _: Prediction(), rng) == dict.fromkeys((*replay.CHANGES, "permuted"), True)


def test_culprits_move_with_their_workers(ill: Path) -> None:
    def slowest(data: bytes) -> Prediction:
        return Prediction(culprits=(int(np.argmax(table(data).workers.mean(axis=0))),))

    lines = ill.read_bytes().splitlines()
    assert all(replay.invariances(lines, slowest, np.random.default_rng(3)).values())
    stuck = replay.invariances(lines, lambda _: Prediction(culprits=(1,)), np.random.default_rng(3))
    assert stuck["permuted"] is False


def test_windows_count_what_fires_in_a_row() -> None:
    fires = iter([True, True, True, False, True, False])
    lines = [b"{}"] * (replay.WINDOW + 5 * replay.HOP)
    seen = replay.stream(lines, lambda _: Prediction(pr=next(fires)), np.random.default_rng(0))
    assert seen == replay.Calm(6, 4, 1, 1)
    assert seen + seen == replay.Calm(12, 8, 2, 2)


def test_what_was_kept_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    readers = {"never": never, "broken": lambda _: 1 / 0}
    made = [
        task
        for task in running.generated("mechanics", 0.01, 3, tmp_path)
        if task.family in ("short", "throttled_of_two")
    ]
    outcomes = running.run(made, 1, print, readers)  # type: ignore[arg-type]
    running.save_labels(tmp_path, outcomes, 3)
    again = running.recorded(tmp_path)
    assert [task.labels for task in again] == [outcome.labels for outcome in outcomes]
    assert [running.work(task, {"never": never}).lines for task in again] == [outcome.lines for outcome in outcomes]
    assert outcomes[0].said["broken"].crash.startswith("ZeroDivisionError")
    (tmp_path / "traces" / f"{outcomes[0].ident}.jsonl").unlink()
    with pytest.raises(ValueError, match="there is no"):
        running.recorded(tmp_path)
    with pytest.raises(ValueError, match="no labels.json"):
        running.recorded(tmp_path / "traces")


def test_tables_go_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nwas here\n{END}\nafter\n")
    scores = {running.PRODUCT: score(items((DRIFT, said("drift")), (WELL, said())))}
    body = section("Set", "Two.", scores, replay.Calm(10, 1, 0, 0), {"scaled": (2, 2)}, {"f": replay.Calm(10, 1, 0, 0)})
    put(page, body)
    put(page, body)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n### Set\n")
    assert text.endswith(f"\n{END}\nafter\n")
    assert text.count("| modekeeper |") == 1
    assert "was here" not in text
    assert "(100.0, 0.0, 0.0 in 1,000)" in text
    assert len(overview(scores)) == 3
    page.write_text("no markers")
    with pytest.raises(ValueError, match="lacks the markers"):
        put(page, body)
