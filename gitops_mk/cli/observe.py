"""`mk observe`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import (
    PATH,
    cluster_options,
    json_option,
    out_option,
    pod_options,
    prometheus_options,
    telemetry_options,
)

if TYPE_CHECKING:
    from gitops_mk.model.signal import Observation


@click.command(
    epilog="Example: mk observe --source file --path train.jsonl --out report/observe\n\n"
    "Example: mk observe --k8s-namespace ml --k8s-deployment trainer --duration 1m\n\n"
    "Example: mk observe --prometheus-url http://localhost:9090 --prometheus-query 'step_time_s=max(train_step_seconds)'"
)
@click.option(
    "--source", type=click.Choice(["file", "k8s", "prometheus", "synthetic"]), help="Default: by the other options."
)
@telemetry_options
@prometheus_options
@pod_options
@cluster_options
@click.option("--record-raw", type=PATH, help="Keep the raw lines, byte for byte, in this file.")
@click.option("--plot", "plot_file", type=PATH, help="Draw what was seen in this file, as SVG.")
@out_option
@json_option
def observe(
    source: str | None,
    path: str | None,
    fmt: str | None,
    follow: bool,
    duration: str | None,
    scenario: str | None,
    seed: int,
    prometheus: Mapping[str, Any],
    k8s_namespace: str | None,
    k8s_deployment: str | None,
    k8s_kind: str,
    container: str | None,
    kubeconfig: str | None,
    context: str | None,
    record_raw: Path | None,
    plot_file: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Read telemetry and say what it shows: signals, each with its evidence."""
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.adapters.clock import SystemClock
    from gitops_mk.config import parse_duration
    from gitops_mk.controller.observe import observation_payload
    from gitops_mk.controller.observe import observe as run
    from gitops_mk.errors import InputError
    from gitops_mk.model.report import report
    from gitops_mk.wiring import PodsAsked, PrometheusAsked, make_source

    if plot_file is not None and plot_file.suffix.lower() != ".svg":
        raise InputError(f"--plot {plot_file}, expected a name that ends in .svg", hint="for example --plot seen.svg")
    clock = SystemClock()
    telemetry = make_source(
        source=source, path=path, scenario=scenario, seed=seed, follow=follow, fmt=fmt, record_raw=record_raw,
        duration_s=parse_duration(duration) if duration else None,
        pods=PodsAsked(k8s_namespace, k8s_deployment, k8s_kind, container, kubeconfig, context),
        prometheus=PrometheusAsked(**prometheus),
    )  # fmt: skip
    artifacts = FolderStore(out)
    started = clock.now()
    with output.progress("reading lines") as progress:
        seen = run(telemetry, clock=clock, artifacts=artifacts, progress=progress)
    payload = report(observation_payload(seen), started=started, finished=clock.now(), out_dir=artifacts.out_dir)
    written = artifacts.report("observe", payload, at=started)
    if plot_file is not None:
        _draw(seen, plot_file)
    if as_json:
        output.print_json(payload)
        return
    for signal in seen.signals:
        output.say(
            f"{signal.name:16} {signal.classification:22} {signal.evidence.summary}",
            ok=None if not signal.found else False,
        )
    counts = seen.ingest
    output.say(f"{counts.lines} lines, {counts.records} records, {counts.dropped_total} dropped; report {written}")
    for note in telemetry.environment.notes:
        output.say(f"note: {note}")
    if counts.records == 0:
        output.hint("no usable record: expected one JSON object a step with step_time_ms, see docs/telemetry.md")


def _draw(seen: Observation, path: Path) -> None:
    from gitops_mk.adapters.artifacts import write_atomic
    from gitops_mk.core.render.plot import plot
    from gitops_mk.errors import InputError

    try:
        write_atomic(path, plot(seen).encode())
    except OSError as exc:
        raise InputError(
            f"{path} can't be written: {exc.strerror or exc}", hint="name another file with --plot"
        ) from exc
