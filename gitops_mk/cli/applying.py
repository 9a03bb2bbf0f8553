"""What `mk apply` and `mk k8s apply` share: both end at the one gate, and tell its answer in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gitops_mk.cli import output
from gitops_mk.controller.plan import RECORDS_FILE, read_records, write_bundle
from gitops_mk.errors import EXIT_BAD_INPUT, InputError, MkError

if TYPE_CHECKING:
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.config import Access
    from gitops_mk.controller.apply import Applied
    from gitops_mk.controller.tools import Tools, Workplace
    from gitops_mk.model.change import PullRequest
    from gitops_mk.model.gate import KillReading
    from gitops_mk.model.plan import Plan

VERIFY_REPORT = "k8s_verify_latest.json"


def apply_command(
    access: Access,
    out: Path,
    *,
    as_json: bool,
    number: int | None = None,
    plan_path: Path | None = None,
    cluster: tuple[str | None, str | None] = (None, None),
) -> int:
    """Gate and merge the pull request `number`, or the one that proposes the plan at `plan_path`; gives the exit code.

    `cluster`: the kubeconfig and its context, where they are named.
    """
    from gitops_mk.adapters.artifacts import FolderStore
    from gitops_mk.adapters.killswitch import read_environment
    from gitops_mk.cli.main import tell
    from gitops_mk.controller.loop import apply_and_report, exit_code_of
    from gitops_mk.wiring import find_cluster, make_tools, open_workplace

    reading = read_environment()
    tools = make_tools(None if reading.active else find_cluster(*cluster))
    artifacts = FolderStore(out)
    if reading.active:
        # Above everything else, so that no other problem can hide it.
        _report_killed(artifacts, tools, reading)
        if as_json:
            output.print_json({"ok": False, "block_reason": "kill_switch"})
        output.fixed_error(output.kill_line(reading.source, reading.detail))
        return EXIT_BAD_INPUT
    try:
        plan = _plan(plan_path) if plan_path is not None else None
        with open_workplace(access, tools, writes=False) as place:
            pr = _pull_request(place, number, plan, tools)
            beside = _verify_report(plan_path, plan)
            applied, path = apply_and_report(
                place, pr, plan, tools, artifacts, verify_report=beside[0], reported_ok=beside[1]
            )
            _bundle(place, pr, plan, tools, artifacts, beside[0])
    except MkError as exc:
        artifacts.explain("k8s_apply_error", {"message": exc.message}, at=tools.clock.now())
        tell(exc.message, exc.hint)
        return exc.exit_code
    _print(applied, path, as_json=as_json)
    return exit_code_of(applied)


def _plan(path: Path) -> Plan:
    from gitops_mk.cli.files import read_beside, read_file

    plans = read_records(read_file(path), read_beside(path, RECORDS_FILE), what=str(path))
    if len(plans) != 1:
        raise InputError(f"{path} has {len(plans)} plans, expected one to apply", hint="an empty plan needs no apply")
    return plans[0]


def _verify_report(plan_path: Path | None, plan: Plan | None) -> tuple[str | None, bool | None]:
    """The verify report beside the plan and what it says; an unreadable one says no."""
    from gitops_mk.cli.files import read_beside
    from gitops_mk.model.canonical import loads_strict

    if plan_path is None:
        return None, None
    path = plan_path.parent / VERIFY_REPORT
    try:
        text = read_beside(plan_path, VERIFY_REPORT)
        if text is None:
            return None, None
        data = loads_strict(text, what=str(path))
    except InputError:
        return str(path), False
    if not isinstance(data, dict):
        return str(path), False
    seen = data.get("diagnostics", {})
    if isinstance(seen, dict) and plan is not None and seen.get("plan_digest") not in (None, plan.digest):
        # Of an earlier plan in the same folder: it says nothing of this one.
        return str(path), None
    return str(path), data.get("verify_ok") is True


def _pull_request(place: Workplace, number: int | None, plan: Plan | None, tools: Tools) -> PullRequest | None:
    if number is not None:
        pr = place.forge.get_pr(number)
        if pr is None:
            raise InputError(f"there is no pull request #{number}", hint="`mk pr list` shows those there are")
        return pr
    if plan is None:
        raise InputError("expected a pull request or a plan")
    from gitops_mk.controller.propose import open_pr
    from gitops_mk.controller.state import configured, policy_of

    policy = policy_of(place.forge.repo.files(place.forge.base_tip()), tools.built_in)
    configured(policy.settings, plan.workload, plan.overlay)
    return open_pr(place.forge, plan.workload.branch)


def _bundle(
    place: Workplace,
    pr: PullRequest | None,
    plan: Plan | None,
    tools: Tools,
    artifacts: FolderStore,
    verify: str | None,
) -> None:
    """`policy_bundle_latest.json`, when the workload still is one the base configures."""
    from gitops_mk.controller.state import policy_of, state_on_base
    from gitops_mk.core.enrolment import by_key
    from gitops_mk.core.planner import Options

    key = plan.workload.key if plan else pr.workload if pr else None
    files = place.forge.repo.files(place.forge.base_tip())
    policy = policy_of(files, tools.built_in)
    digest = plan.digest if plan else pr.plan_digest if pr else None
    workload = by_key(policy.settings, key or "", files, files.get, digest=digest)
    if workload is None:
        return
    state = state_on_base(place.forge, files, policy, workload, tools.builder)
    options = Options()
    if plan is not None:
        options = Options(approve_advanced=plan.approved_advanced, stable_intervals=plan.stable_intervals)
    write_bundle(artifacts, state, plan, options, tools, verify_report=verify)


def _report_killed(artifacts: FolderStore, tools: Tools, reading: KillReading) -> None:
    from gitops_mk.controller.apply import Applied
    from gitops_mk.controller.loop import apply_payload
    from gitops_mk.model.report import report
    from gitops_mk.model.verdict import Reason

    now = tools.clock.now()
    applied = Applied(False, None, None, reason=Reason.KILL_SWITCH, message=reading.detail, kill=(reading,))
    payload = report(apply_payload(applied, None, None), started=now, finished=now, out_dir=artifacts.out_dir)
    artifacts.report("k8s_apply", payload, at=now)
    artifacts.explain("k8s_apply_blocked", {"reason": "kill_switch", "source": reading.source}, at=now)


def _print(applied: Applied, path: str, *, as_json: bool) -> None:
    if as_json:
        from gitops_mk.controller.loop import apply_payload

        output.print_json(apply_payload(applied, None, None))
    elif applied.decision is not None:
        for verdict in applied.decision.verdicts:
            why = f"{verdict.reason}: {verdict.message}" if verdict.reason else verdict.message
            output.say(f"{'open  ' if verdict.allowed else 'CLOSED'} {verdict.rule:13} {why}", ok=verdict.allowed)
        output.say(f"{applied.message if applied.ok else 'nothing was merged'}; report {path}", ok=applied.ok)
    if applied.ok:
        return
    active = applied.kill_active
    if active is not None:
        output.fixed_error(output.kill_line(active.source, active.detail))
    else:
        output.explain_block(applied.reason, applied.message)
