"""Replay: what the policy's memory makes of one window after the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.replay import MOST_LINES, Act, Replay, Row, check_windows, stretches
from gitops_mk.errors import InputError
from gitops_mk.model.chord import Intent
from gitops_mk.model.signal import Classification, Evidence, Observation, Signal, SignalName
from gitops_mk.model.telemetry import Environment, IngestCounts, Window

ANSWERS = {
    "S": (Classification.SIGNAL_FOUND, True),
    "r": (Classification.SIGNAL_FOUND, False),
    ".": (Classification.NO_ACTIONABLE_SIGNAL, False),
    "?": (Classification.INSUFFICIENT_EVIDENCE, False),
}


def seen(straggler: str, drift: str | None = None, culprits: tuple[str, ...] = ("worker-1",)) -> Observation:
    """`S` found and actionable, `r` found for people to read, `.` not there, `?` can't tell."""
    signals = []
    for name, letter in ((SignalName.STRAGGLER, straggler), (SignalName.DRIFT_STEP, drift)):
        if letter is None:
            continue
        classification, actionable = ANSWERS[letter]
        evidence = Evidence(summary="said", metric="m", effect=0.5, culprits=culprits if letter in "Sr" else ())
        signals.append(Signal(name=name, classification=classification, evidence=evidence, actionable=actionable))
    return Observation(
        signals=tuple(signals),
        environment=Environment(),
        ingest=IngestCounts(),
        window=Window(),
        source="file",
        format="jsonl",
    )


def rows(straggler: str, drift: str = "", confirm: int = 2) -> list[Row]:
    replay = Replay(confirm=confirm)
    return [replay.add(seen(letter, drift[i] if i < len(drift) else None)) for i, letter in enumerate(straggler)]


def acts(straggler: str, drift: str = "", confirm: int = 2) -> str:
    words = {Act.HOLD: "h", Act.REPORT: "r", Act.WAIT: "w", Act.PROPOSE: "P", Act.OPEN: "o", Act.CLOSE: "c"}
    return "".join(words[row.act] for row in rows(straggler, drift, confirm))


@pytest.mark.parametrize(
    ("straggler", "drift", "confirm", "expected"),
    [
        ("..SSS..", "", 2, "hhwPoch"),
        ("S.S.SS", "", 2, "whwhwP"),
        ("SSS", "", 1, "Poo"),
        ("rrSrSS", "", 2, "rrwrwP"),
        ("S?S", "", 2, "whP"),
        ("SS?r.", "", 2, "wPooc"),
        ("SS.SS", "", 2, "wPcwP"),
        # Another cause keeps its count while the first is answered, and is proposed once that is closed.
        ("SS..", "SSSS", 2, "wPoo"),
        ("SS..", "..SS", 2, "wPcP"),
    ],
)
def test_what_is_done(straggler: str, drift: str, confirm: int, expected: str) -> None:
    assert acts(straggler, drift, confirm) == expected


def test_what_a_row_says() -> None:
    said = rows("?.rSSS.")
    assert [row.says for row in said] == [
        "hold: evidence is insufficient",
        "hold",
        "report only",
        "wait for confirmation (1 of 2)",
        "propose INPUT-STRAGGLER",
        "open already: INPUT-STRAGGLER",
        "close: cause gone",
    ]
    assert [row.number for row in said] == [1, 2, 3, 4, 5, 6, 7]
    assert [row.signals[0].in_a_row for row in said if row.signals] == [1, 2, 3, 4]
    assert [row.confirmed for row in said] == [0, 0, 0, 1, 2, 3, 0]
    assert [row.pr_worthy for row in said] == [False, False, False, True, True, True, False]
    assert said[4].chord is Intent.INPUT_STRAGGLER
    assert said[4].signals[0].culprits == ("worker-1",)


def test_only_what_is_confirmed_chooses_the_chord() -> None:
    last = rows(".S", "SS")[-1]
    assert (last.act, last.chord) == (Act.PROPOSE, Intent.DRIFT_RETUNE)


def test_the_scalar_policy() -> None:
    replay = Replay(confirm=1, policy="scalar")
    assert replay.add(seen("S")).says == "propose SCALAR"


def test_rows_without_news_are_put_together() -> None:
    parts = stretches(rows("...SSSSS.."))
    assert [len(p.rows) for p in parts] == [3, 1, 1, 3, 1, 1]
    assert (parts[0].first.number, parts[0].last.number) == (1, 3)
    assert stretches([]) == ()


def test_another_culprit_is_news() -> None:
    replay = Replay(confirm=1)
    said = [replay.add(seen("S", culprits=(who,))) for who in ("worker-1", "worker-1", "worker-1", "worker-2")]
    assert [len(p.rows) for p in stretches(said)] == [1, 2, 1]


@given(st.text(alphabet="Sr.?", max_size=40), st.integers(1, 4))
def test_a_proposal_is_confirmed_and_never_repeated_while_open(letters: str, confirm: int) -> None:
    is_open = False
    for row in rows(letters, confirm=confirm):
        if row.act is Act.PROPOSE:
            assert not is_open
            assert row.confirmed >= confirm
        assert (row.act in {Act.OPEN, Act.CLOSE}) == (is_open and row.act is not Act.PROPOSE)
        is_open = row.act in {Act.PROPOSE, Act.OPEN}
    assert sum(len(p.rows) for p in stretches(rows(letters, confirm=confirm))) == len(letters)


@pytest.mark.parametrize(
    ("window", "hop", "confirm", "message"),
    [
        (29, 1, 2, "--window 29, expected 30"),
        (MOST_LINES + 1, 1, 2, "--window"),
        (30, 0, 2, "--hop 0, expected 1 to the window's 30"),
        (30, 31, 2, "--hop 31"),
        (30, 30, 0, "--confirm 0"),
    ],
)
def test_sizes_that_make_no_sense(window: int, hop: int, confirm: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_windows(window=window, hop=hop, confirm=confirm)
    assert caught.value.hint
    check_windows(window=30, hop=30, confirm=1)
