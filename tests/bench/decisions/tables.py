"""The figures as text: tables for a terminal and for the page, which are the same Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.decisions.replay import HOP, WINDOW, Calm
from tests.bench.decisions.running import PRODUCT
from tests.bench.decisions.score import Rate, Score
from tests.bench.decisions.truth import ACTIONS

BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"


def overview(scores: dict[str, Score]) -> list[str]:
    """One line a reader."""
    head = (
        "reader",
        "macro-F1",
        *(name.replace("_", " ") for name in ACTIONS),
        "false PRs on healthy runs",
        "PRs that name only what is true",
    )
    rows = [
        (
            name,
            f"{number(s.macro_f1)} {interval(s.macro_interval)}".strip(),
            *(number(s.signals[action].f1) for action in ACTIONS),
            share(s.false_pr),
            share(s.right_pr, bounds=False),
        )
        for name, s in scores.items()
    ]
    return table(head, rows)


def by_signal(s: Score) -> list[str]:
    """One line a signal."""
    rows = [
        (
            name.replace("_", " "),
            number(q.precision),
            number(q.recall),
            f"{number(q.f1)} {interval(q.interval)}",
            share(q.by_severity["hard"], bounds=False),
            f"{q.tp} / {q.fp} / {q.fn} / {q.tn}",
        )
        for name, q in s.signals.items()
    ]
    return table(("signal", "precision", "recall", "F1", "recall, hard ones", "TP / FP / FN / TN"), rows)


def further(s: Score, calm: Calm, same: dict[str, tuple[int, int]]) -> list[str]:
    """What no signal has for itself."""
    rows = [
        ("incidents of which a true signal is named", share(s.recall["all"])),
        ("the same, hard ones", share(s.recall["hard"])),
        ("incidents with a signal that leads to action for which there would be a pull request", share(s.pr_recall)),
        ("straggler called: culprits exactly right", share(s.culprits)),
        ("too little evidence, and it says so", share(s.abstained)),
        ("enough evidence, and it says there is too little", share(s.abstained_wrongly)),
        ("crashes", str(s.crashes)),
    ]
    if calm.windows:
        per = 1000.0 / calm.windows
        rows.append(
            (
                f"healthy runs in windows of {WINDOW} lines, every {HOP}: windows that would raise a pull request; pull requests after two, three in a row",
                f"{calm.once}, {calm.twice}, {calm.thrice} of {calm.windows} ({calm.once * per:.1f}, {calm.twice * per:.1f}, {calm.thrice * per:.1f} in 1,000)",
            )
        )
    words = {
        "scaled": "all times 3.7-fold",
        "shifted": "on another day",
        "shuffled": "lines up to three places off",
        "thinned": "one line in ten lost",
        "permuted": "workers in another order",
    }
    rows.extend(
        (f"same answer: {words[name]}", share(Rate(*same[name]), bounds=False)) for name in words if name in same
    )
    return table(("measure", "figure"), [row for row in rows if row[1] != "-"])


def family_table(s: Score, calms: Mapping[str, Calm]) -> list[str]:
    """One line a family: how many traces, pull requests and right answers, which signals were named, and how it passed by in windows."""
    rows = [
        (
            name,
            str(row["traces"]),
            str(row.get("pr", 0)),
            share(Rate(row["traces"] - row.get("wrong", 0), row["traces"])),
            ", ".join(f"{word} {n}" for word, n in sorted(row.items()) if word not in ("traces", "pr", "wrong")),
            windows(calms.get(name, Calm())),
        )
        for name, row in s.families.items()
    ]
    return table(
        ("family", "traces", "PRs", "answered right", "named", "windows; pull requests by two, three; of"), rows
    )


def windows(calm: Calm) -> str:
    """How many windows fired, how many pull requests two and three in a row make, of how many windows."""
    return f"{calm.once}, {calm.twice}, {calm.thrice} of {calm.windows}" if calm.windows else ""


def section(
    title: str,
    note: str,
    scores: dict[str, Score],
    calm: Calm,
    same: dict[str, tuple[int, int]],
    calms: Mapping[str, Calm] | None = None,
) -> list[str]:
    """Everything about one set."""
    ours = scores[PRODUCT]
    lines = [f"### {title}", "", note, "", *overview(scores), ""]
    if any(q.tp + q.fn for q in ours.signals.values()):
        lines += [f"`{PRODUCT}` by signal:", "", *by_signal(ours), ""]
    lines += [*further(ours, calm, same), ""]
    if calms is not None:
        lines += [*family_table(ours, calms), ""]
    return lines


def put(page: Path, body: list[str]) -> None:
    """Put the tables between the markers of a page.

    Raises ValueError when the page has no markers.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the markers {BEGIN} and {END}; put both where the tables belong")
    page.write_text("\n".join((before + BEGIN, *body, END)) + after, encoding="utf-8")


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


def number(value: float) -> str:
    """Three places, or a dash."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def interval(bounds: tuple[float, float]) -> str:
    """Both ends, or nothing."""
    return "" if math.isnan(bounds[0]) else f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"


def share(rate: Rate, *, bounds: bool = True) -> str:
    """So many of so many, in percent, with the interval."""
    if not rate.of:
        return "-"
    text = f"{rate.hits}/{rate.of} = {100 * rate.value:.1f} %"
    low, high = rate.interval
    return f"{text} [{100 * low:.1f}, {100 * high:.1f}]" if bounds else text
