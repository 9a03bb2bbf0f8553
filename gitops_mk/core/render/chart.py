"""A signal's evidence as a Mermaid chart: what a forge draws in a pull request's text without fetching a picture.

The metric is a line, the threshold a level one, the onset one that steps up; the title names the culprits.
"""

from __future__ import annotations

from typing import Final

from gitops_mk.core.render.plot import TITLES, bounds_of, level_of
from gitops_mk.core.render.text import plain
from gitops_mk.model.signal import Evidence, Signal
from gitops_mk.model.telemetry import Window

FEWEST: Final = 3
# Mermaid's own colour for a line is all but white on white, and its height is a screen's. Of the metric, onset and threshold:
_COLOURS: Final = "#0969da, #cf222e, #9a6700"
_CHART: Final = f'"height": 300}}, "themeVariables": {{"xyChart": {{"plotColorPalette": "{_COLOURS}"}}'
_LOOKS: Final = f'%%{{init: {{"xyChart": {{{_CHART}}}}}}}%%'


def chart(signal: Signal, window: Window) -> str | None:
    """The metric over the steps the detector saw, as a Mermaid `xychart-beta`; None without a series worth a picture."""
    evidence = signal.evidence
    series = evidence.series
    if len(series) < FEWEST:
        return None
    level = level_of(signal, bounds_of(evidence))
    low, high = min(series), max(series)
    # A bar far above everything would squeeze the series into a line: the table tells it.
    if level is not None and level > high + 2.0 * max(high - low, 0.1 * abs(high)):
        level = None
    shown = [*series, *([level] if level is not None else [])]
    low, high = min(shown), max(shown)
    pad = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    bottom, top = (max(0.0, low - pad) if low >= 0 else low - pad), high + pad
    onset = _place(evidence, window, len(series))
    drawn = [list(series)]
    # There are no upright lines: one that steps up at the onset.
    drawn.append([top if onset is not None and place >= onset else bottom for place in range(len(series))])
    if level is not None:
        drawn.append([level] * len(series))
    lines = [
        f'    title "{_title(evidence, onset, level)}"',
        *_steps(evidence, window),
        f'    y-axis "{_word(evidence.unit, 12)}" {bottom:.4g} --> {top:.4g}',
        *(f"    line [{', '.join(f'{value:.4g}' for value in values)}]" for values in drawn),
    ]
    return "\n".join(["```mermaid", _LOOKS, "xychart-beta", *lines, "```"])


def _title(evidence: Evidence, onset: int | None, level: float | None) -> str:
    """What is shown, of whom, since when; Mermaid has no other place for words."""
    told = TITLES.get(evidence.metric, evidence.metric)
    if evidence.culprits:
        told += f", {', '.join(evidence.culprits)}"
    # A longer title is cut at both ends.
    parts = [_word(told, 34)]
    if onset is not None:
        parts.append(f"onset {evidence.onset_step} (red)")
    if level is not None:
        parts.append(f"threshold {level:.4g} (brown)")
    return ", ".join(parts)


def _place(evidence: Evidence, window: Window, points: int) -> int | None:
    """Which point of the series the onset is nearest to."""
    bounds = _bounds(evidence, window)
    if evidence.onset_step is None or bounds is None or not bounds[0] <= evidence.onset_step <= bounds[1]:
        return None
    return round((evidence.onset_step - bounds[0]) / (bounds[1] - bounds[0]) * (points - 1))


def _steps(evidence: Evidence, window: Window) -> list[str]:
    bounds = _bounds(evidence, window)
    return [] if bounds is None else [f'    x-axis "step" {bounds[0]} --> {bounds[1]}']


def _bounds(evidence: Evidence, window: Window) -> tuple[int, int] | None:
    first, last = evidence.series_steps or (window.first_step, window.last_step)
    return None if first is None or last is None or last <= first else (first, last)


def _word(text: str, most: int) -> str:
    # To Mermaid a # begins an entity.
    return plain(text, most=most).replace('"', "").replace("#", "")
