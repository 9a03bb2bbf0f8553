"""`mk verify`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import PATH, cluster_options, json_option, out_option
from gitops_mk.errors import EXIT_FAILED, InputError

if TYPE_CHECKING:
    from gitops_mk.controller.reading import ReadAhead
    from gitops_mk.controller.tools import Tools
    from gitops_mk.model.gate import VerifyOutcome


@click.command(epilog="Example: mk verify --base origin/main --head HEAD")
@click.option("--base", help="The base: a branch, ref or SHA. Its policy is what judges.")
@click.option("--head", help="The head of the pull request.")
@click.option("--pr", type=click.IntRange(min=1), help="Instead: a pull request of the local forge; records the check.")
@click.option("--repo", type=PATH, help="The repository. Default: this folder.")
@click.option("--forge", help="With --pr: the git server. Default: the checkout's remote `origin`.")
@click.option("--no-cluster", is_flag=True, help="Don't ask a cluster, even where a kubeconfig is at hand.")
@cluster_options
@out_option
@json_option
def verify(
    base: str | None,
    head: str | None,
    pr: int | None,
    repo: Path | None,
    forge: str | None,
    no_cluster: bool,
    kubeconfig: str | None,
    context: str | None,
    out: Path,
    as_json: bool,
) -> int:
    """Judge what merging a pull request would do; exit 0 ok, 1 not ok, 2 bad input.

    Offline, and by the cluster's word where a kubeconfig or an in-cluster identity is at hand.

    Every step is described in docs/verify.md. Nothing is written but the report.
    """
    if (pr is None) == (base is None and head is None) or (pr is None and (base is None or head is None)):
        raise InputError("expected --base and --head, or --pr", hint="for example --base origin/main --head HEAD")
    from gitops_mk.wiring import early_builder, find_cluster, make_tools, read_ahead

    with ExitStack() as stack:
        # Begun before the models are imported, which takes longer than what git and kustomize do meanwhile (ADR 0013).
        builder = stack.enter_context(early_builder())
        ahead = stack.enter_context(read_ahead(repo, base or "", head or "", builder)) if pr is None else None
        # The builds wait for this one alone.
        import gitops_mk.core.kustomization  # noqa: F401
        from gitops_mk.adapters.artifacts import FolderStore
        from gitops_mk.controller.verify import verify_payload
        from gitops_mk.model.report import report

        cluster = None if no_cluster else find_cluster(kubeconfig, context)
        if cluster is not None:
            cluster.warm()
        tools = make_tools(cluster, builder)
        artifacts = FolderStore(out)
        started = tools.clock.now()
        outcome = _of_commits(ahead, tools) if ahead is not None else _of_pr(pr or 0, repo, forge, tools)
    payload = report(verify_payload(outcome), started=started, finished=tools.clock.now(), out_dir=artifacts.out_dir)
    path = artifacts.report("verify", payload, at=started)
    if as_json:
        output.print_json(payload)
    else:
        _print(payload)
        output.say(f"verify {'ok' if outcome.ok else 'not ok'}; report {path}", ok=outcome.ok)
    return 0 if outcome.ok else EXIT_FAILED


def _of_pr(number: int, repo: Path | None, forge: str | None, tools: Tools) -> VerifyOutcome:
    from gitops_mk.config import Access
    from gitops_mk.controller.verify import record_check, verify_pr
    from gitops_mk.wiring import open_workplace

    with open_workplace(Access(repo, forge), tools, writes=False) as place:
        pr = place.forge.get_pr(number)
        if pr is None:
            raise InputError(f"there is no pull request #{number}", hint="`mk pr list` shows those there are")
        outcome = verify_pr(
            place.forge, pr, builder=tools.builder, built_in=tools.built_in, clock=tools.clock, cluster=tools.cluster
        )
        record_check(place.forge, pr, outcome, clock=tools.clock)
    return outcome


def _of_commits(ahead: ReadAhead, tools: Tools) -> VerifyOutcome:
    from gitops_mk.controller.verify import verify_commits

    objects, reading = ahead.result()
    return verify_commits(
        objects,
        reading.base,
        reading.head,
        builder=tools.builder,
        built_in=tools.built_in,
        applied=objects.applied(reading.base),
        now=tools.clock.now(),
        cluster=tools.cluster,
        reading=reading,
    )


def _print(payload: dict[str, object]) -> None:
    steps = payload["steps"]
    for step in steps if isinstance(steps, list) else []:
        mark = "ok " if step["allowed"] else "NO "
        why = f"{step['reason']}: {step['message']}" if step["reason"] else step["message"]
        output.say(f"{step['number']} {mark} {step['id']:11} {why}", ok=step["allowed"])
