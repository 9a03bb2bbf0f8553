"""An observation as one picture: a self-contained SVG, a panel a found signal, the evidence as its detector gave it."""

from __future__ import annotations

import math
from statistics import median
from typing import Final

from gitops_mk.core.render.text import plain
from gitops_mk.model.signal import Evidence, Observation, Signal, SignalName
from gitops_mk.model.telemetry import Window

WIDTH: Final = 860
PANEL: Final = 290
HEAD: Final = 62
LEFT, RIGHT, TOP, BOTTOM = 78, 22, 62, 52
# The signals whose threshold is a fraction of the level of the very series they show.
ON_SERIES: Final = frozenset({SignalName.DRIFT_STEP, SignalName.DRIFT_LOSS, SignalName.STRAGGLER, SignalName.NEAR_HANG})
# Where a detector tells the quiet level itself.
QUIET: Final = ("first_ms", "best_loss")
FEWEST_QUIET: Final = 3
# Beyond these, differences are no numbers any more; nothing measured comes near.
LARGEST: Final = 1e300
LEAST: Final = 1e-290
TITLES: Final = {
    "step_time_ms": "step time",
    "worker_latencies_ms": "time of the slow worker",
    "comm_ms": "communication a step",
    "gpu_util_pct": "GPU utilisation",
    "gpu_mem_util_pct": "GPU memory",
    "loss": "loss",
}
# Colours are of the style sheet alone, so that a dark page gets a picture that can be read on it.
STYLE: Final = (
    "svg{--paper:#fff;--ink:#1f2328;--soft:#59636e;--grid:#d1d9e0;--line:#0969da;--onset:#cf222e;--bar:#9a6700}"
    "@media (prefers-color-scheme:dark){svg{--paper:#0d1117;--ink:#e6edf3;--soft:#9198a1;--grid:#3d444d;"
    "--line:#4493f8;--onset:#f85149;--bar:#d29922}}"
    "text{font:12px system-ui,sans-serif;fill:var(--ink)}.t{font-size:15px;font-weight:600}.s{fill:var(--soft)}"
    ".e{text-anchor:end}.m{text-anchor:middle}.p{fill:var(--paper)}.g{stroke:var(--grid)}.o{stroke:var(--onset);stroke-width:1.5}"
    ".ot{fill:var(--onset)}.b{stroke:var(--bar);stroke-width:1.5;stroke-dasharray:6 4}.bt{fill:var(--bar)}"
    ".l{fill:none;stroke:var(--line);stroke-width:1.75;stroke-linejoin:round}.d{fill:var(--line)}"
)


def plot(observation: Observation) -> str:
    """The picture, as SVG 1.1 text. Equal observations give equal text; it names no file, script or font from elsewhere.

    Each found signal has a panel; where there is none, the step time has one. The onset is an upright line, the threshold a
    dashed one where it is a fraction of what is shown. A series that does not say which steps it covers is drawn by age.
    """
    signals = [s for s in observation.signals if s.found] or _quiet(observation)
    height = HEAD + PANEL * max(1, len(signals))
    seen = observation.classification.replace("_", " ")
    window, found = observation.window, ", ".join(s.replace("_", " ") for s in observation.found)
    title = f"{found or seen}: {_span(window)}"
    counts = observation.ingest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{_text(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="p" width="{WIDTH}" height="{height}"/>',
        _label(20, 28, title, "t"),
        _label(20, 48, f"{counts.lines} lines, {counts.records} records, {counts.dropped_total} dropped", "s"),
    ]
    for number, signal in enumerate(signals):
        parts += _panel(signal, window, HEAD + PANEL * number)
    if not signals:
        parts.append(_label(20, HEAD + 40, "no evidence to draw"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _quiet(observation: Observation) -> list[Signal]:
    return [s for s in observation.signals if s.evidence.metric == "step_time_ms"][:1] or list(observation.signals[:1])


def _span(window: Window) -> str:
    if window.first_step is None or window.last_step is None:
        return "no steps"
    return f"steps {window.first_step} to {window.last_step}"


def _panel(signal: Signal, window: Window, y0: int) -> list[str]:
    evidence = signal.evidence
    name = signal.name.replace("_", " ")
    head = f"{name}: {plain(', '.join(evidence.culprits), most=60)}" if evidence.culprits else name
    out = [_label(20, y0 + 22, head, "t"), _label(20, y0 + 42, plain(evidence.summary, most=125))]
    values = [v for v in evidence.series if abs(v) < LARGEST]
    if not values:
        return [*out, _label(LEFT, y0 + 90, "its detector gives no series", "s")]
    bounds = bounds_of(evidence)
    level = level_of(signal, bounds)
    low, high = min(values), max(values)
    # A bar far above everything would squeeze the series into a line: it is then told, not drawn.
    near = level is not None and level <= high + 2.0 * max(high - low, 0.1 * abs(high))
    if level is not None and near:
        low, high = min(low, level), max(high, level)
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    left, right, top, bottom = LEFT, WIDTH - RIGHT, y0 + TOP, y0 + PANEL - BOTTOM

    def up(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    for tick in ticks:
        out.append(f'<path class="g" d="M{left} {up(tick):.1f}H{right}"/>')
        out.append(_label(left - 8, up(tick) + 4, f"{tick:g}", "s e"))
    middle = (top + bottom) / 2
    shown = f"{TITLES.get(evidence.metric, evidence.metric)}{_unit(evidence)}"
    out.append(
        f'<text class="s m" x="16" y="{middle:.1f}" transform="rotate(-90 16 {middle:.1f})">{_text(plain(shown, most=40))}</text>'
    )
    out += _below(bounds, left, right, bottom, blocks=window.steps > len(values))
    width = (right - left) / max(1, len(values) - 1)
    points = " ".join(f"{left + i * width:.1f},{up(v):.1f}" for i, v in enumerate(values))
    out.append(f'<polyline class="l" points="{points}"/>')
    if len(values) == 1:
        out.append(f'<circle class="d" cx="{left}" cy="{up(values[0]):.1f}" r="3"/>')
    if level is not None:
        bar = f"threshold {_short(level)}{' ' + evidence.unit if evidence.unit != evidence.metric else ''}"
        if near:
            out.append(f'<path class="b" d="M{left} {up(level):.1f}H{right}"/>')
            out.append(_label(right - 4, up(level) - 5, bar, "bt e"))
        else:
            out.append(_label(right - 4, top + 12, f"{bar}, above this picture", "bt e"))
    return out + _onset(evidence, bounds, left, right, top, bottom)


def _onset(
    evidence: Evidence, bounds: tuple[int, int] | None, left: int, right: int, top: int, bottom: int
) -> list[str]:
    onset = evidence.onset_step
    if onset is None or bounds is None or not bounds[0] <= onset <= bounds[1]:
        return []
    x = left + (onset - bounds[0]) / (bounds[1] - bounds[0]) * (right - left)
    flip = x > (left + right) / 2
    return [
        f'<path class="o" d="M{x:.1f} {top}V{bottom}"/>',
        _label(x - 5 if flip else x + 5, top - 4, f"onset, step {onset}", "ot e" if flip else "ot"),
    ]


def _below(bounds: tuple[int, int] | None, left: int, right: int, bottom: int, *, blocks: bool) -> list[str]:
    centre = (left + right) / 2
    point = "; a point is the median of its steps" if blocks else ""
    if bounds is None:
        return [_label(centre, bottom + 36, f"the stretch that the detector saw, oldest to newest{point}", "s m")]
    first, last = bounds
    out = [_label(centre, bottom + 36, f"training step{point}", "s m")]
    for share, kind in ((0.0, "s"), (0.25, "s m"), (0.5, "s m"), (0.75, "s m"), (1.0, "s e")):
        out.append(_label(left + share * (right - left), bottom + 18, f"{first + share * (last - first):.0f}", kind))
    return out


def bounds_of(evidence: Evidence) -> tuple[int, int] | None:
    """First and last step of a series, where it has them."""
    covered = evidence.series_steps
    return covered if covered is not None and covered[0] < covered[1] else None


def level_of(signal: Signal, bounds: tuple[int, int] | None) -> float | None:
    """The threshold in the unit of the series: so much above the quiet level, which is the detector's own or that before
    the onset.
    """
    evidence = signal.evidence
    if signal.name not in ON_SERIES or evidence.threshold is None:
        return None
    quiet = next((evidence.values[key] for key in QUIET if key in evidence.values), None)
    if quiet is None and evidence.onset_step is None:
        quiet = median(evidence.series)
    elif quiet is None and bounds is not None and evidence.onset_step is not None:
        share = (evidence.onset_step - bounds[0]) / (bounds[1] - bounds[0])
        before = evidence.series[: max(0, math.floor(share * len(evidence.series)))]
        quiet = median(before) if len(before) >= FEWEST_QUIET else None
    level = math.nan if quiet is None else quiet + abs(quiet) * evidence.threshold
    return level if abs(level) < LARGEST else None


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose the range, three to about seven of them."""
    span = high - low
    # So small a range is rounding, and a line of equal values still needs an axis.
    if span <= max(1e-9 * max(abs(low), abs(high)), LEAST):
        span = abs(high) if abs(high) > LEAST else 1.0
        low, high = low - span / 4, high + span / 4
    rough = (high / 5.0) - (low / 5.0)
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * factor for factor in (1.0, 2.0, 5.0, 10.0) if scale * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def _unit(evidence: Evidence) -> str:
    return "" if evidence.unit == evidence.metric else f" ({evidence.unit})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def _label(x: float, y: float, text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<text{attribute} x="{x:.1f}" y="{y:.1f}">{_text(text)}</text>'


def _text(text: str) -> str:
    """Text between tags: escaped, and without what XML 1.0 has no place for."""
    allowed = "".join(c for c in text if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff")
    return allowed.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
