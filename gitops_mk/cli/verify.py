"""`mk verify`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import PATH, cluster_options, json_option, out_option
from gitops_mk.errors import EXIT_FAILED, InputError, MkError

if TYPE_CHECKING:
    from gitops_mk.controller.reading import ReadAhead
    from gitops_mk.controller.tools import Tools
    from gitops_mk.core.workflow import Event
    from gitops_mk.model.annotation import Annotation
    from gitops_mk.model.gate import VerifyOutcome


@click.command(epilog="Example: mk verify --base origin/main --head HEAD")
@click.option("--base", help="The base: a branch, ref or SHA. Its policy is what judges.")
@click.option("--head", help="The head of the pull request.")
@click.option("--pr", type=click.IntRange(min=1), help="Instead: a pull request of the local forge; records the check.")
@click.option(
    "--event",
    type=PATH,
    help="Instead: the file of a GitHub event, pull_request or merge_group. In GitHub Actions: the job's own.",
)
@click.option("--repo", type=PATH, help="The repository. Default: this folder.")
@click.option("--forge", help="With --pr or an event: the git server. Default: the checkout's remote `origin`.")
@click.option(
    "--wait", default="60s", show_default=True, help="With an event: how long GitHub may take to try the merge."
)
@click.option(
    "--deadline", default="8m", show_default=True, help="With an event: when to conclude in any case, with a no."
)
@click.option(
    "--others",
    type=click.Choice(["fail", "pass"]),
    default="fail",
    show_default=True,
    help="With an event: exit code 0 for a change that is none of ModeKeeper's; its verify_ok stays false.",
)
@click.option("--no-cluster", is_flag=True, help="Don't ask a cluster, even where a kubeconfig is at hand.")
@cluster_options
@out_option
@json_option
def verify(
    base: str | None,
    head: str | None,
    pr: int | None,
    event: Path | None,
    repo: Path | None,
    forge: str | None,
    wait: str,
    deadline: str,
    others: str,
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
    if base is None and head is None and pr is None:
        from gitops_mk.adapters import actions

        if event is not None or actions.in_actions(os.environ):
            asked = _Asked(repo, forge, others == "pass", no_cluster, kubeconfig, context, out, as_json)
            return _in_actions(asked, event, wait=wait, deadline=deadline)
    if event is not None:
        raise InputError("--event takes the place of --base, --head and --pr: give one of them alone")
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


class _Asked(NamedTuple):
    """What the options say of a verify in GitHub Actions. `others_pass`: exit code 0 for what is none of ours."""

    repo: Path | None
    forge: str | None
    others_pass: bool
    no_cluster: bool
    kubeconfig: str | None
    context: str | None
    out: Path
    as_json: bool


def _in_actions(asked: _Asked, event_path: Path | None, *, wait: str, deadline: str) -> int:
    """Verify what the job's event is about; whatever happens, there is a report, a summary and an exit code in the end."""
    # All that concluding takes is loaded first: the work may be cut off in the midst of an import.
    from gitops_mk.adapters import actions, children
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.adapters.clock import SystemClock
    from gitops_mk.config import parse_duration
    from gitops_mk.core import workflow
    from gitops_mk.model.canonical import dumps_pretty, sha256_hex
    from gitops_mk.model.report import report

    wait_s, deadline_s = parse_duration(wait), parse_duration(deadline)
    clock = SystemClock()
    started = clock.now()
    job = actions.find_job(os.environ, event_path)
    artifacts = FolderStore(asked.out)
    event: Event | None = None
    notes: tuple[Annotation, ...] = ()
    code = EXIT_FAILED
    done: actions.Concluded[_Judged] | None = None
    try:
        event = job.event()
        asks_for = event
        done = actions.Concluded(lambda: _judge(asked, asks_for, wait_s), within_s=deadline_s)
        if done.cut_off:
            payload = workflow.undecided_payload(None, event.head, "timed_out", done.cut_off)
        elif done.error is not None:
            raise done.error
        elif done.value is not None:
            payload, notes = done.value
    except BaseException as exc:  # noqa: BLE001 - whatever went wrong is concluded like a no
        message = exc.message if isinstance(exc, MkError) else f"{type(exc).__name__}: {exc}"
        hint = exc.hint if isinstance(exc, MkError) else None
        code = exc.exit_code if isinstance(exc, MkError) else EXIT_FAILED
        payload = workflow.undecided_payload(
            event.base if event else None,
            event.head if event else None,
            None,
            f"{message}; hint: {hint}" if hint else message,
        )
    if payload["ok"] or (asked.others_pass and payload.get("applicable") is False):
        code = 0
    payload = {"applicable": True, "note": "", "event": event.plain() if event else None, **payload}
    payload = report(payload, started=started, finished=clock.now(), out_dir=artifacts.out_dir)
    path = artifacts.report("verify", payload, at=started)
    outputs = {"verify_ok": "true" if payload["ok"] else "false", "reason": _reason(payload), "report": path}
    actions.write_outputs(job, outputs)
    actions.write_summary(job, workflow.summary(payload, sha256_hex(dumps_pretty(payload).encode("utf-8", "replace"))))
    if asked.as_json:
        # In a string of JSON this is the same text, and to the runner no command.
        actions.put(dumps_pretty(payload).replace("##[", "#\\u0023["))
    else:
        said = "ok" if payload["ok"] else "not ok" if payload["applicable"] else "of nothing: it is none of ours"
        actions.say([*workflow.step_lines(payload), f"verify {said}; report {path}"], notes[: workflow.MAX_ANNOTATIONS])
        if code and not notes:
            actions.error(f"verify: {payload['reason'] or 'error'}", workflow.inert(str(payload["message"])))
    if done is not None:
        if done.cut_off and not done.leave(children.end_all):
            actions.leave_now(code)
        done.restore()
    return code


def _reason(payload: Mapping[str, object]) -> str:
    return "" if payload["ok"] else str(payload["reason"] or "error")


_Judged = tuple[dict[str, object], "tuple[Annotation, ...]"]


def _judge(asked: _Asked, event: Event, wait_s: float) -> _Judged:
    """The report's own part, and the annotations. Raises MkError."""
    from gitops_mk.adapters import actions, children, git
    from gitops_mk.adapters.clock import SystemClock
    from gitops_mk.core import workflow
    from gitops_mk.errors import ConfigError
    from gitops_mk.wiring import early_builder

    git_dir, _ = git.find_git_dir(asked.repo or Path())
    if git.is_shallow(git_dir):
        raise InputError(
            "the checkout's history is cut off: cooldowns and budgets are read from it",
            hint="actions/checkout with fetch-depth: 0",
        )
    remote = asked.forge or git.remote_url(git_dir)
    if remote is None:
        raise ConfigError(f"{git_dir} has no remote `origin`", hint="name the git server with --forge")
    with ExitStack() as stack:
        builder = stack.enter_context(early_builder())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mk-objects-", ignore_cleanup_errors=True))
        repo = git.GitRepo(git_dir, scratch=Path(folder))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        settling = pool.submit(actions.settle, repo, remote, event, SystemClock(), wait_s=wait_s)
        # Loaded while the server is asked.
        import gitops_mk.core.kustomization  # noqa: F401
        from gitops_mk.controller.reading import ReadAhead
        from gitops_mk.controller.verify import verify_payload
        from gitops_mk.wiring import find_cluster, make_tools

        cluster = None if asked.no_cluster else find_cluster(asked.kubeconfig, asked.context)
        if cluster is not None:
            cluster.warm()
        tools = make_tools(cluster, builder)
        found = settling.result()
        if isinstance(found, actions.Halted):
            return workflow.undecided_payload(found.base, event.head, found.reason, found.message), ()
        ahead = ReadAhead(lambda: nullcontext(repo), builder, found.base, found.head, end_children=children.end_all)
        stack.callback(ahead.close)
        _, reading = ahead.result()
        changes, files = reading.changes, reading.head_files
        if reading.tree is not None and not workflow.concerns_us(
            changes, reading.base_files, files, branch=event.head_branch
        ):
            said = "it changes nothing of ModeKeeper's, and is for people to review"
            payload = workflow.undecided_payload(found.base, found.head, "not_ours", said)
            return payload | {"applicable": False, "note": found.note, "tree": reading.tree}, ()
        outcome = _of_commits(ahead, tools)
    return verify_payload(outcome) | {"note": found.note}, workflow.annotate(outcome, changes, files)


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
