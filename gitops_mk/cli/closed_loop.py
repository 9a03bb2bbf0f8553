"""`mk closed-loop`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import (
    cluster_options,
    json_option,
    license_option,
    out_option,
    pod_options,
    prometheus_options,
    repo_options,
    telemetry_options,
)
from gitops_mk.errors import EXIT_BAD_INPUT, InputError, MkError

if TYPE_CHECKING:
    from gitops_mk.controller.loop import LoopResult, Target
    from gitops_mk.controller.tools import Tools, Workplace
    from gitops_mk.controller.watch import Tally


@click.group("closed-loop", epilog="Example: mk closed-loop run --scenario drift --dry-run --out report/cl")
def closed_loop() -> None:
    """Observe, plan, render; with --apply also propose, verify and merge, through the gate."""


def loop_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What `run` and `watch` share."""
    for option in (
        json_option,
        out_option,
        license_option,
        repo_options,
        cluster_options,
        pod_options,
        prometheus_options,
        telemetry_options,
        click.option("--observe-source", type=click.Choice(["file", "k8s", "prometheus", "synthetic"]),
                     help="Default: by the other options, then by the configuration."),
        click.option("--workload", help="NAMESPACE/NAME, when the configuration has several."),
        click.option("--passport", help="Built-in passport for the embedded repository's dry run."),
        click.option("--approve-advanced", is_flag=True, help="Approve chords of risk tier advanced."),
        click.option("--policy", type=click.Choice(["chord", "scalar"]), default="chord", show_default=True),
        click.option("--apply/--dry-run", default=False, help="--dry-run touches nothing and is the default."),
    ):  # fmt: skip
        function = option(function)
    return function


@dataclass(frozen=True)
class _Arguments:
    """What both commands were told."""

    apply: bool
    policy: str
    approve_advanced: bool
    passport: str | None
    workload: str | None
    observe_source: str | None
    path: str | None
    fmt: str | None
    follow: bool
    duration: str | None
    scenario: str | None
    seed: int
    prometheus: Mapping[str, Any]
    k8s_namespace: str | None
    k8s_deployment: str | None
    k8s_kind: str
    container: str | None
    kubeconfig: str | None
    context: str | None
    repo: Path | None
    forge: str | None
    base_branch: str | None
    license_path: Path | None
    out: Path
    as_json: bool


@closed_loop.command(epilog="Example: mk closed-loop run --scenario straggler --apply --license-path license.json")
@loop_options
def run(**given: Any) -> int:
    """One turn of the loop."""
    arguments = _Arguments(**given)
    tools, killed = _begin(arguments)
    try:
        with _opened(arguments, tools) as place:
            result = _turn(arguments, tools, place, arguments.out)
    except MkError:
        if killed is None:
            raise
        # The switch stands above every other problem.
        output.fixed_error(killed)
        return EXIT_BAD_INPUT
    return _finish(arguments, result, killed)


@closed_loop.command(epilog="Example: mk closed-loop watch --path train.jsonl --interval 30s --max-iterations 20")
@click.option("--interval", default="30s", show_default=True, help="Pause between turns.")
@click.option("--max-iterations", type=click.IntRange(min=1), help="Stop after so many turns. Default: at Ctrl-C.")
@loop_options
def watch(interval: str, max_iterations: int | None, **given: Any) -> int:
    """Turn after turn, each in a folder of its own."""
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.config import parse_duration
    from gitops_mk.controller.watch import watch as run_watch

    arguments = _Arguments(**given)
    interval_s = parse_duration(interval)
    tools, killed = _begin(arguments)
    artifacts = FolderStore(arguments.out)

    def turn(folder: str, tally: Tally) -> LoopResult:
        # A seed of its own each turn: watching the same synthetic minute again would prove nothing.
        moved = replace(arguments, seed=arguments.seed + int(folder[-4:]) - 1)
        with _opened(arguments, tools) as place:
            result = _turn(moved, tools, place, arguments.out / folder, tally)
        if not arguments.as_json:
            output.say(f"{folder}: {_headline(result)}")
        return result

    tally = run_watch(
        turn, interval_s=interval_s, max_iterations=max_iterations, clock=tools.clock, artifacts=artifacts
    )
    if arguments.as_json:
        output.print_json({"iterations_done": tally.iterations, "counts": dict(tally.counts), "errors": tally.errors})
    for error in tally.errors[-1:]:
        from gitops_mk.cli.main import tell

        tell(error, None)
    if killed is not None:
        output.fixed_error(killed)
    return tally.exit_code


def _begin(arguments: _Arguments) -> tuple[Tools, str | None]:
    """The tools, and the kill switch's line when the environment throws it and this call would write."""
    from gitops_mk.adapters.killswitch import read_environment
    from gitops_mk.wiring import find_cluster, is_configured, make_tools

    reading = read_environment()
    line = output.kill_line(reading.source, reading.detail) if arguments.apply and reading.active else None
    # The embedded repository's workload is in no cluster.
    real = arguments.repo is not None or is_configured(Path())
    cluster = find_cluster(arguments.kubeconfig, arguments.context) if arguments.apply and real else None
    return make_tools(cluster), line


@contextmanager
def _opened(arguments: _Arguments, tools: Tools) -> Iterator[Workplace | None]:
    """The configured repository; else, to apply, the embedded one; else nothing at all."""
    from gitops_mk.config import Access
    from gitops_mk.demo.embedded import make_embedded
    from gitops_mk.wiring import is_configured, open_workplace

    access = Access(arguments.repo, arguments.forge, arguments.base_branch, arguments.license_path, out=arguments.out)
    if arguments.repo is None and not is_configured(Path()):
        if not arguments.apply:
            yield None
            return
        if arguments.workload or arguments.forge:
            raise InputError("this folder is in no configured GitOps repository", hint="name it with --repo")
        access = replace(access, repo=make_embedded(arguments.out / "gitops"))
    with open_workplace(access, tools, writes=arguments.apply) as place:
        yield place


def _turn(
    arguments: _Arguments, tools: Tools, place: Workplace | None, out: Path, tally: Tally | None = None
) -> LoopResult:
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.config import parse_duration
    from gitops_mk.controller.loop import run_once
    from gitops_mk.core.confirm import Sightings
    from gitops_mk.core.planner import Options
    from gitops_mk.wiring import PodsAsked, PrometheusAsked, make_source

    target = _target(arguments, tools, place)
    source = make_source(
        source=arguments.observe_source,
        path=arguments.path,
        scenario=arguments.scenario,
        seed=arguments.seed,
        follow=arguments.follow,
        duration_s=parse_duration(arguments.duration) if arguments.duration else None,
        fmt=arguments.fmt,
        pods=PodsAsked(
            arguments.k8s_namespace,
            arguments.k8s_deployment,
            arguments.k8s_kind,
            arguments.container,
            arguments.kubeconfig,
            arguments.context,
        ),
        prometheus=PrometheusAsked(**arguments.prometheus),
        workload=target.workload,
    )
    options = Options(
        policy="scalar" if arguments.policy == "scalar" else "chord",
        approve_advanced=arguments.approve_advanced,
        stable_intervals=tally.streak.stable_intervals if tally else 0,
        confirm=target.policy.settings.limits.confirmations if tally else 1,
        sightings=tally.streak.sightings if tally else Sightings(),
    )
    with output.progress("reading lines") as progress:
        return run_once(
            target,
            source,
            options,
            tools,
            FolderStore(out),
            apply=arguments.apply,
            seen_before=tally.streak.window if tally else None,
            progress=progress,
        )


def _target(arguments: _Arguments, tools: Tools, place: Workplace | None) -> Target:
    from gitops_mk.controller.loop import Target, target_of
    from gitops_mk.controller.state import choose_workload, policy_of
    from gitops_mk.demo.embedded import embedded_files
    from gitops_mk.model.settings import CONFIG_PATH

    if place is not None:
        if arguments.passport:
            raise InputError(
                "--passport is for dry runs outside a repository",
                hint="a repository's passport is set in its .modekeeper/config.yaml, on the base branch",
            )
        return target_of(place, tools, lambda policy: choose_workload(policy.settings, arguments.workload))
    files = embedded_files()
    if arguments.passport:
        if arguments.passport not in tools.built_in.passports:
            raise InputError(
                f"no built-in passport {arguments.passport!r}", hint=f"there are {', '.join(tools.built_in.passports)}"
            )
        files[CONFIG_PATH] = files[CONFIG_PATH].replace(b"passport: pilot", f"passport: {arguments.passport}".encode())
    policy = policy_of(files, tools.built_in)
    return Target(workload=choose_workload(policy.settings, arguments.workload), policy=policy, files=files)


def _headline(result: LoopResult) -> str:
    seen = ", ".join(result.observation.found) or ("stable" if result.observation.stable else "insufficient evidence")
    actions = ", ".join(f"{r['chord']} {r['status']}" for r in result.planned.results)
    return f"{seen}; {actions}; {result.payload['apply_decision_summary']}"


def _finish(arguments: _Arguments, result: LoopResult, killed: str | None) -> int:
    if arguments.as_json:
        output.print_json(result.payload)
    else:
        output.say(_headline(result), ok=None if result.exit_code == 0 else False)
        if result.planned.plan is not None:
            for change in result.planned.plan.changes:
                output.say(f"  {change.knob}: {change.before} -> {change.after}")
        output.say(f"report {result.payload['out_dir']}/closed_loop_latest.json")
    if killed is not None:
        output.fixed_error(killed)
    elif result.killed is not None:
        output.fixed_error(output.kill_line(result.killed.source, result.killed.detail))
    else:
        output.explain_block(result.payload["apply_blocked_reason"], result.payload["apply_blocked_message"] or "")
    return result.exit_code
