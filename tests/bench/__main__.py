"""How long `mk` takes to start, how long `mk observe` takes a million lines, how much memory it needs, and what following the
logs of 100 pods costs; 500 pull requests on GitHub's simulator; against a real control plane, what verify of one pull request and a reconcile over 5,000 Deployments cost.

usage: python -m tests.bench [--lines N] [--runs N] [--json]
The exit code is 1 when a required ratio is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tests.bench import cluster, github, logs
from tests.bench.cluster import measure_cluster
from tests.bench.github import measure_github
from tests.bench.logs import measure_logs
from tests.support.unavailable import Unavailable

MK = [sys.executable, "-m", "gitops_mk"]
SCRIPT = Path(sys.executable).parent / "mk"
BARE = [sys.executable, "-c", "pass"]
LOOP = "import sys, orjson\nwith open(sys.argv[1], 'rb') as f:\n    for line in f: orjson.loads(line)"

START_AT_MOST = 8.0
OBSERVE_AT_MOST = 4.0
OBSERVE_AIM = 2.0
PEAK_MIB = 200.0
GROWTH_AT_MOST = 1.15


def write_lines(path: Path, n: int) -> None:
    """So many step lines of a job with eight workers, as a trainer would log them."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="ascii") as out:
        for base in range(0, n, 10_000):
            m = min(10_000, n - base)
            ms = rng.normal(400, 8, m).tolist()
            workers = np.round(rng.normal(380, 6, (m, 8)), 2).tolist()
            out.writelines(
                f'{{"ts": {1_760_000_000_000 + (base + i) * 400}, "step": {base + i}, "step_time_ms": {ms[i]:.3f}, '
                f'"loss": 2.5, "throughput": {256_000 / ms[i]:.3f}, "worker_latencies_ms": {workers[i]}, '
                f'"gpu_util_pct": 91.2, "node": "node-a", "gpu_model": "NVIDIA H100 80GB HBM3"}}\n'
                for i in range(m)
            )


def seconds(command: Sequence[str]) -> float:
    """Wall time of one run; raises CalledProcessError when it fails."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def ratio(command: Sequence[str], yardstick: Sequence[str], runs: int) -> tuple[float, float, float]:
    """The medians of both, taken in turns, and their ratio."""
    seconds(command)
    seconds(yardstick)
    pairs = [(seconds(command), seconds(yardstick)) for _ in range(runs)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return ours, theirs, ours / theirs


def peak_mib(command: Sequence[str]) -> float:
    """The largest resident size of one run, in MiB, asked of a fresh process so that no other child counts."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    out = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True).stdout
    # Linux counts in KiB, macOS in bytes.
    return int(out) / (1024.0 * 1024.0 if sys.platform == "darwin" else 1024.0)


def measure(lines: int, runs: int, say: Callable[[str], None]) -> dict[str, float]:
    """All figures by name."""
    mk = [str(SCRIPT)] if SCRIPT.exists() else MK
    figures: dict[str, float] = {}
    for option in ("--version", "--help"):
        ours, theirs, times = ratio([*mk, option], BARE, runs)
        figures[f"mk {option} ratio"] = times
        say(
            f"mk {option:10} {ours * 1000:6.0f} ms, bare python {theirs * 1000:.0f} ms: {times:.1f}x (at most {START_AT_MOST:.0f}x)"
        )
    with tempfile.TemporaryDirectory(prefix="mk-bench-") as folder:
        small, large = Path(folder, "small.jsonl"), Path(folder, "large.jsonl")
        write_lines(small, max(1, lines // 5))
        write_lines(large, lines)
        command = [*mk, "observe", "--source", "file", "--out", str(Path(folder, "out")), "--path"]
        say(f"{lines} lines, {large.stat().st_size / 1e6:.0f} MB, 8 workers")
        loop = [sys.executable, "-c", LOOP, str(large)]
        ours, theirs, times = ratio([*command, str(large)], loop, max(3, runs // 6))
        figures["mk observe ratio"] = times
        say(
            f"mk observe    {ours:6.2f} s ({lines / ours:,.0f} lines/s), bare orjson loop {theirs:.2f} s: {times:.2f}x "
            f"(at most {OBSERVE_AT_MOST:.0f}x, aim {OBSERVE_AIM:.0f}x)"
        )
        few, many = peak_mib([*command, str(small)]), peak_mib([*command, str(large)])
        figures |= {"peak MiB, a fifth of the lines": few, "peak MiB": many, "peak growth": many / few}
        say(
            f"peak memory   {few:6.0f} MiB at a fifth of the lines, {many:.0f} MiB at all: "
            f"{many / few:.2f}x (at most {PEAK_MIB:.0f} MiB)"
        )
    figures |= measure_logs(mk, 20.0, say)
    figures |= measure_github(say)
    try:
        return figures | measure_cluster(mk, max(5, runs // 2), say)
    except Unavailable as exc:
        say(f"NOT MEASURED: verify and reconcile with a cluster: {exc}")
        return figures


def missed(figures: dict[str, float]) -> list[str]:
    """The names of the figures that are not within what is required."""
    limits = {
        "mk --version ratio": START_AT_MOST,
        "mk --help ratio": START_AT_MOST,
        "mk observe ratio": OBSERVE_AT_MOST,
        "peak MiB": PEAK_MIB,
        "peak growth": GROWTH_AT_MOST,
        "logs lost": logs.LOST_AT_MOST,
        "logs cores": logs.CORES_AT_MOST,
        "logs peak MiB": logs.PEAK_MIB,
        "verify ratio": cluster.VERIFY_AT_MOST,
        "reconcile ratio": cluster.RECONCILE_AT_MOST,
        "reconcile peak MiB": cluster.PEAK_MIB,
        "github first s": github.FIRST_AT_MOST_S,
        "github again s": github.AGAIN_AT_MOST_S,
        "github again requests": github.AGAIN_REQUESTS,
        "github pushes": 1.0,
    }
    measured = figures.keys() & limits.keys()
    return [name for name, limit in limits.items() if name in measured and figures[name] > limit]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    figures = measure(options.lines, options.runs, (lambda _: None) if options.as_json else print)
    over = missed(figures)
    if options.as_json:
        print(
            json.dumps(
                {"figures": {k: round(v, 3) for k, v in figures.items()}, "missed": over}, indent=2, sort_keys=True
            )
        )
    elif over:
        print(f"MISSED: {', '.join(over)}")
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
