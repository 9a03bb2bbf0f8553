"""The picture of an observation: well-formed and self-contained whatever stands in it, with the lines where they belong."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.render.plot import plot
from gitops_mk.model.signal import Classification, Evidence, Observation, Signal, SignalName
from gitops_mk.model.telemetry import Environment, IngestCounts, Window

WHOLE = Window(first_step=0, last_step=100, steps=101)
LEVEL = tuple(100.0 + i % 3 for i in range(20)) + tuple(200.0 + i % 3 for i in range(20))
SVG = "{http://www.w3.org/2000/svg}"
ANY = st.text(max_size=30)


def signal(
    name: SignalName = SignalName.DRIFT_STEP,
    *,
    found: bool = True,
    summary: str = "said",
    metric: str = "step_time_ms",
    unit: str = "ms",
    threshold: float | None = None,
    onset: int | None = None,
    culprits: tuple[str, ...] = (),
    series: Sequence[float] = LEVEL,
    values: dict[str, float] | None = None,
    steps: tuple[int, int] | None = (0, 100),
) -> Signal:
    kind = Classification.SIGNAL_FOUND if found else Classification.NO_ACTIONABLE_SIGNAL
    evidence = Evidence(
        summary=summary, metric=metric, unit=unit, threshold=threshold, onset_step=onset, culprits=culprits,
        series=tuple(series), series_steps=steps, values=values or {},
    )  # fmt: skip
    return Signal(name=name, classification=kind, evidence=evidence)


def drawn(*signals: Signal, window: Window = WHOLE) -> tuple[ET.Element, str]:
    observation = Observation(
        signals=signals, environment=Environment(), ingest=IngestCounts(), window=window, source="file", format="jsonl"
    )
    text = plot(observation)
    assert text == plot(observation)
    return ET.fromstring(text), text


def labels(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def paths(root: ET.Element, kind: str) -> list[str]:
    return [p.attrib["d"] for p in root.iter(f"{SVG}path") if p.attrib["class"] == kind]


def test_a_panel_a_found_signal() -> None:
    quiet = signal(SignalName.BURST, found=False)
    root, text = drawn(
        signal(onset=50, threshold=0.5), quiet, signal(SignalName.STRAGGLER, culprits=("worker-1",), unit="ms")
    )
    assert len(list(root.iter(f"{SVG}polyline"))) == 2
    assert "straggler: worker-1" in labels(root)
    assert "onset, step 50" in labels(root)
    assert "threshold 151.5 ms" in labels(root)
    assert "step time (ms)" in labels(root)
    assert "training step; a point is the median of its steps" in labels(root)
    assert paths(root, "o")[0].startswith("M458.0 ")
    assert text.count("http") == 1, "nothing but the name space"
    assert not re.search(r"<script|href|url\(|@import|<!", text)


def test_nothing_found_shows_the_step_time() -> None:
    other = signal(SignalName.DRIFT_LOSS, found=False, metric="loss", unit="loss")
    root, _ = drawn(other, signal(found=False))
    assert "drift step" in labels(root)
    root, _ = drawn(other)
    assert "drift loss" in labels(root)
    assert "loss" in labels(root)
    root, _ = drawn()
    assert "no evidence to draw" in labels(root)


def test_no_series() -> None:
    for series in ((), (math.nan, math.inf, 1.7e308)):
        root, _ = drawn(signal(series=series))
        assert "its detector gives no series" in labels(root)


def test_every_step_a_point() -> None:
    root, _ = drawn(signal(series=[1.0, 2.0], steps=(1, 2)), window=Window(first_step=1, last_step=2, steps=2))
    assert "training step" in labels(root)


@pytest.mark.parametrize("steps", [None, (5, 5)])
def test_a_series_of_unknown_steps_has_no_onset_line(steps: tuple[int, int] | None) -> None:
    root, _ = drawn(signal(onset=50, threshold=0.5, steps=steps))
    assert paths(root, "o") == paths(root, "b") == []
    assert any(label.startswith("the stretch that the detector saw, oldest to newest") for label in labels(root))


def test_an_onset_outside_the_window_is_not_drawn() -> None:
    assert paths(drawn(signal(onset=101))[0], "o") == []


def test_the_label_of_a_late_onset_stands_before_it() -> None:
    root, _ = drawn(signal(onset=90))
    label = next(t for t in root.iter(f"{SVG}text") if t.text == "onset, step 90")
    assert label.attrib["class"] == "ot e"


def test_the_threshold_in_the_unit_of_the_series() -> None:
    own = signal(SignalName.DRIFT_LOSS, metric="loss", unit="loss", threshold=0.05, values={"best_loss": 2.0})
    assert "threshold 2.1" in labels(drawn(own)[0])
    far = signal(SignalName.NEAR_HANG, threshold=44.0, series=[400.0] * 9)
    assert "threshold 18,000 ms, above this picture" in labels(drawn(far)[0])
    no_onset = signal(SignalName.NEAR_HANG, threshold=44.0, series=[100.0] * 9)
    root, _ = drawn(no_onset)
    assert "threshold 4500 ms, above this picture" in labels(root)
    assert paths(root, "b") == []
    # A share of another thing, too few quiet points, and none at all.
    for other in (
        signal(SignalName.COMM_CONGESTION, threshold=0.05, onset=50),
        signal(threshold=0.5, onset=1),
        signal(onset=50),
        signal(threshold=0.5, values={"first_ms": math.inf}),
    ):
        root, _ = drawn(other)
        assert paths(root, "b") == []
        assert not any(label.startswith("threshold") for label in labels(root))


@pytest.mark.parametrize(
    "series",
    [
        [5.0],
        [0.0, 0.0],
        [-1.0, 1.0],
        [7.0] * 64,
        [1e-300, 2e-300],
        [5e-324, 1e-320],
        [-1e299, 1e299],
        [1e9, 1e9 + 1e-7],
    ],
)
def test_any_range_has_an_axis(series: list[float]) -> None:
    root, text = drawn(signal(series=series))
    assert "nan" not in text
    assert 2 <= len(paths(root, "g")) <= 9
    assert len(list(root.iter(f"{SVG}circle"))) == (len(series) == 1)


@given(summary=ANY, culprits=st.lists(ANY, max_size=3), metric=ANY, unit=ANY)
def test_any_text_gives_well_formed_xml(summary: str, culprits: list[str], metric: str, unit: str) -> None:
    root, text = drawn(
        signal(summary=summary, culprits=tuple(culprits), metric=metric, unit=unit, onset=3, threshold=0.1)
    )
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "style", "rect", "text", "path", "polyline"}
    text.encode()


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=64),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_numbers_give_a_picture(series: list[float], threshold: float) -> None:
    _, text = drawn(signal(series=series, threshold=threshold, onset=60))
    coordinates = re.findall(r'(?:points|d|x|y|cy)="([^"]*)"', text)
    assert not any("nan" in c or "inf" in c for c in coordinates)


def test_a_window_without_steps() -> None:
    assert any(label.endswith(": no steps") for label in labels(drawn(window=Window())[0]))
