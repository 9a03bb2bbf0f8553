"""From a list of traces to what every reader says about them, on several processes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.decisions import mechanics, processes, product
from tests.bench.decisions.baselines import BASELINES
from tests.bench.decisions.families import Family
from tests.bench.decisions.prediction import Prediction, Predictor
from tests.bench.decisions.reading import content
from tests.bench.decisions.replay import LONG, Calm, invariances, stream
from tests.bench.decisions.score import Item, healthy
from tests.bench.decisions.truth import Labels

GENERATORS: dict[str, dict[str, Family]] = {"mechanics": mechanics.FAMILIES, "processes": processes.FAMILIES}
PRODUCT = "modekeeper"
# Replaying is a hundred times the work of reading once: one trace in so many is taken.
STREAM_EACH, VARY_EACH, VARY_LINES = 2, 5, 5_000


@dataclass(frozen=True)
class Task:
    """One trace to make, or one file to read."""

    number: int
    generator: str = ""
    family: str = ""
    seed: int = 0
    path: Path | None = None
    labels: Labels = field(default_factory=Labels)
    keep: Path | None = None
    replay: bool = True


@dataclass(frozen=True)
class Outcome:
    """What came of one task."""

    ident: str
    family: str
    labels: Labels
    lines: int
    steps: int
    workers: int
    said: dict[str, Prediction]
    calm: Calm = field(default_factory=Calm)
    same: dict[str, bool] = field(default_factory=dict)

    def item(self, reader: str) -> Item:
        """For the score of one reader."""
        return Item(self.ident, self.family, self.labels, self.said[reader])


def generated(name: str, scale: float, seed: int, keep: Path | None = None, *, replay: bool = True) -> list[Task]:
    """The tasks of a generator; at least one trace of each family, whatever the scale."""
    return [
        Task(number, name, family.name, seed, keep=keep, replay=replay)
        for family in GENERATORS[name].values()
        for number in range(max(1, round(family.count * scale)))
    ]


def recorded(folder: Path, *, replay: bool = True) -> list[Task]:
    """The tasks of a folder with `labels.json`, and logs beside it or in `traces/`.

    Raises ValueError when the folder is not of that shape.
    """
    listing = folder / "labels.json"
    if not listing.is_file():
        raise ValueError(f"{folder} has no labels.json; expected labels.json with its logs beside it or in traces/")
    tasks: list[Task] = []
    for ident, about in json.loads(listing.read_bytes())["traces"].items():
        places = (folder / "traces" / f"{ident}.jsonl", folder / f"{ident}.jsonl.gz", folder / f"{ident}.jsonl")
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise ValueError(f"{listing} lists {ident}, but there is no {places[0].name} or {places[1].name} for it")
        labels = read_labels(about["labels"])
        tasks.append(Task(len(tasks), family=about.get("family", ident), path=path, labels=labels, replay=replay))
    return tasks


def read_labels(found: dict[str, Any]) -> Labels:
    """Labels from `labels.json`; a signal that is not listed is not scored."""
    known: dict[str, Any] = {f.name: found.get(f.name) for f in fields(Labels)}
    known["insufficient"] = bool(known["insufficient"])
    known["culprits"] = tuple(known["culprits"] or ())
    return Labels(**known)


def run(
    tasks: list[Task], jobs: int, say: Callable[[str], None], readers: dict[str, Predictor] | None = None
) -> list[Outcome]:
    """Every task's outcome, in the tasks' order."""
    if jobs <= 1:
        return [work(task, readers) for task in tasks]
    done: dict[int, Outcome] = {}
    with ProcessPoolExecutor(jobs) as pool:
        waiting = {pool.submit(work, task, readers): i for i, task in enumerate(tasks)}
        for future in as_completed(waiting):
            done[waiting[future]] = future.result()
            if len(done) % 100 == 0 or len(done) == len(tasks):
                say(f"  {len(done)}/{len(tasks)}")
    return [done[i] for i in range(len(tasks))]


def work(task: Task, readers: dict[str, Predictor] | None = None) -> Outcome:
    """One task: made or read, and put to every reader as a file."""
    asked = readers or {PRODUCT: product.predict} | BASELINES
    if task.path is not None:
        lines = content(task.path).splitlines()
        said = {name: _ask(reader, task.path) for name, reader in asked.items()}
        return _outcome(task, task.path.name.partition(".")[0], task.labels, lines, 0, 0, said)
    trace = GENERATORS[task.generator][task.family].make(task.generator, task.seed, task.number)
    with tempfile.TemporaryDirectory(prefix="mk-decisions-") as own:
        path = (task.keep / "traces" if task.keep else Path(own)) / f"{trace.ident}.jsonl"
        path.write_bytes(b"\n".join(trace.lines) + b"\n")
        said = {name: _ask(reader, path) for name, reader in asked.items()}
    return _outcome(task, trace.ident, trace.labels, trace.lines, trace.steps, trace.workers, said)


def save_labels(folder: Path, outcomes: list[Outcome], seed: int) -> None:
    """`labels.json` beside the kept traces, in the shape that `recorded` reads."""
    traces = {
        o.ident: {
            "family": o.family,
            "n_steps": o.steps,
            "workers": o.workers,
            "lines": o.lines,
            "labels": o.labels.as_dict(),
        }
        for o in outcomes
    }
    (folder / "labels.json").write_text(
        json.dumps({"schema": "mk.corpus.v0", "seed": seed, "traces": traces}, indent=1) + "\n"
    )


def totals(outcomes: list[Outcome]) -> tuple[Calm, dict[str, tuple[int, int]]]:
    """The replays of all outcomes together: calm, and by change how many said the same of how many."""
    calm = sum((o.calm for o in outcomes), Calm())
    same: dict[str, tuple[int, int]] = {}
    for name, held in _flat(outcomes):
        hits, of = same.get(name, (0, 0))
        same[name] = (hits + held, of + 1)
    return calm, same


def by_family(outcomes: list[Outcome]) -> dict[str, Calm]:
    """The replays by family."""
    calms: dict[str, Calm] = {}
    for outcome in outcomes:
        calms[outcome.family] = calms.get(outcome.family, Calm()) + outcome.calm
    return calms


def _flat(outcomes: list[Outcome]) -> Iterator[tuple[str, bool]]:
    for outcome in outcomes:
        yield from outcome.same.items()


def _outcome(
    task: Task, ident: str, labels: Labels, lines: list[bytes], steps: int, workers: int, said: dict[str, Prediction]
) -> Outcome:
    rng = np.random.default_rng([task.seed, task.number, len(lines)])
    calm, same = Calm(), {}
    if task.replay and PRODUCT in said and not said[PRODUCT].crash:
        if healthy(labels) and len(lines) >= LONG and task.number % STREAM_EACH == 0:
            calm = stream(lines, product.predict_bytes, rng)
        if not labels.insufficient and len(lines) <= VARY_LINES and task.number % VARY_EACH == 0:
            same = invariances(lines, product.predict_bytes, rng)
    return Outcome(ident, task.family, labels, len(lines), steps or len(lines), workers, said, calm, same)


def _ask(reader: Predictor, path: Path) -> Prediction:
    try:
        return reader(path)
    except Exception as exc:  # noqa: BLE001 - a reader that fails is a finding, not the end of the bench
        return Prediction(crash=f"{type(exc).__name__}: {exc}")
