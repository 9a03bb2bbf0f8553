"""How good the decisions are: two generators of labelled runs, folders of recorded ones, the product and what it is measured against.

usage: python -m tests.bench.decisions [--generator mechanics|processes|all|none] [--scale X] [--seed N] [--corpus DIR] [--real DIR]
       [--jobs N] [--families] [--no-replay] [--keep DIR] [--json FILE] [--markdown docs/decision-quality.md]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.decisions.running import (
    GENERATORS,
    PRODUCT,
    Outcome,
    Task,
    by_family,
    generated,
    recorded,
    run,
    save_labels,
    totals,
)
from tests.bench.decisions.score import Score, healthy, score
from tests.bench.decisions.tables import put, section

SEED = 7


def say(text: str) -> None:
    """Progress, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def note(tasks: list[Task], outcomes: list[Outcome], options: argparse.Namespace) -> str:
    """What the figures of a set stand on."""
    there = sum(bool(o.labels.incident) for o in outcomes)
    well = sum(healthy(o.labels) for o in outcomes)
    made = f", seed {options.seed}, scale {options.scale:g}" if tasks[0].generator else ""
    return (
        f"{len(outcomes)} runs of {len({o.family for o in outcomes})} families: {well} healthy, {there} with an incident, "
        f"{sum(o.labels.insufficient for o in outcomes)} without enough evidence; {sum(o.lines for o in outcomes):,} lines{made}."
    )


def main() -> int:
    """Make or read the sets, ask every reader, print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.decisions", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--generator", choices=[*GENERATORS, "all", "none"], default="all")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is some 600 runs a generator")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--corpus", type=Path, help="a folder with labels.json and traces/")
    parser.add_argument("--real", type=Path, help="a folder with labels.json and gzipped logs of real runs")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--families", action="store_true", help="a table by family")
    parser.add_argument("--no-replay", action="store_true", help="leave out sliding windows and invariances")
    parser.add_argument("--keep", type=Path, help="keep traces and labels here, one folder a generator")
    parser.add_argument("--json", type=Path, dest="as_json", help="write all figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables between the markers of this page")
    options = parser.parse_args()

    sets: dict[str, list[Task]] = {}
    for name in GENERATORS:
        if options.generator not in (name, "all"):
            continue
        keep = options.keep / name if options.keep else None
        if keep:
            (keep / "traces").mkdir(parents=True, exist_ok=True)
        sets[f"Generator `{name}`"] = generated(name, options.scale, options.seed, keep, replay=not options.no_replay)
    for title, folder in (("Recorded corpus", options.corpus), ("Real runs", options.real)):
        if folder is not None:
            try:
                sets[title] = recorded(folder, replay=not options.no_replay)
            except ValueError as exc:
                parser.error(str(exc))

    body: list[str] = []
    figures: dict[str, Any] = {}
    for title, tasks in sets.items():
        start = time.perf_counter()
        say(f"{title}: {len(tasks)} runs")
        outcomes = run(tasks, options.jobs, say)
        if tasks[0].keep is not None:
            save_labels(tasks[0].keep, outcomes, options.seed)
        scores: dict[str, Score] = {reader: score([o.item(reader) for o in outcomes]) for reader in outcomes[0].said}
        calm, same = totals(outcomes)
        lines = section(
            title, note(tasks, outcomes, options), scores, calm, same, by_family(outcomes) if options.families else None
        )
        print("\n".join(lines), flush=True)
        body += lines
        figures[title] = {reader: s.as_dict() for reader, s in scores.items()}
        crashes = [f"{o.ident}: {o.said[PRODUCT].crash}" for o in outcomes if o.said[PRODUCT].crash]
        say("\n".join([f"  {time.perf_counter() - start:.0f} s", *crashes[:20]]))
    if options.as_json:
        options.as_json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.markdown:
        try:
            put(options.markdown, body)
        except (OSError, ValueError) as exc:
            parser.error(str(exc))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
