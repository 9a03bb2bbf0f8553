"""Do what people with write access ask for in comments, once, and say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from gitops_mk.controller.apply import ask_gate
from gitops_mk.controller.door import Door
from gitops_mk.controller.holding import all_holds
from gitops_mk.controller.propose import commit_of, hands_off_commits
from gitops_mk.controller.state import identity_of, policy_of
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.controller.verify import record_check, verify_pr
from gitops_mk.core.commands import Command, parse_command
from gitops_mk.core.enrolment import by_key
from gitops_mk.core.policy import Policy
from gitops_mk.core.render.dashboard import Row, render_dashboard, ticked
from gitops_mk.core.render.paths import plan_path
from gitops_mk.core.render.text import markdown
from gitops_mk.errors import InputError, MkError
from gitops_mk.model.change import LABEL_RELEASED, PrState, PullRequest
from gitops_mk.model.gate import first_active
from gitops_mk.model.plan import Plan
from gitops_mk.model.times import format_time
from gitops_mk.ports import Inbox, Word


def answer_words(place: Workplace, tools: Tools, door: Door) -> int:
    """Answer every command that stands unanswered; gives how many. Raises MkError where the forge can't be read.

    A command that fails is answered with why. While a kill switch is on, nothing is done and nothing is answered.
    """
    inbox = place.inbox
    if inbox is None:
        return 0
    words = inbox.words()
    if not words or first_active(place.kill_switch.read()) is not None:
        return 0
    policy = policy_of(place.forge.repo.files(place.forge.base_tip()), tools.built_in)
    for word in words:
        _answer(place, inbox, word, policy, tools, door)
    return len(words)


def act_on_ticks(place: Workplace, tools: Tools, door: Door) -> int:
    """Do what the dashboard's ticked boxes ask for; gives how many were. Whoever may edit our issue may write here."""
    text = place.board.read() if place.board is not None else None
    found = ticked(text) if text else ()
    if not found or first_active(place.kill_switch.read()) is not None:
        return 0
    policy = policy_of(place.forge.repo.files(place.forge.base_tip()), tools.built_in)
    for tick in found:
        pr = place.forge.get_pr(tick.pr)
        command = parse_command(f"/modekeeper {tick.verb}")
        if pr is None or not isinstance(command, Command):
            continue
        door.forget(tick.pr)
        with suppress(InputError):
            _ACTS[command.verb](place, pr, command, policy, tools)
    return len(found)


def show(place: Workplace, rows: Sequence[Row], tools: Tools) -> None:
    """Make the dashboard say how everything stands; nothing is written while nothing changed."""
    board = place.board
    if board is None:
        return
    forge = place.forge
    policy = policy_of(forge.repo.files(forge.base_tip()), tools.built_in)
    if not policy.settings.forge.dashboard:
        return
    killed = first_active(place.kill_switch.read())
    page = render_dashboard(
        sorted(rows, key=lambda row: row.workload),
        forge.list_prs(),
        all_holds(place, tools),
        forge.applied()[-20:],
        killed.detail if killed is not None else None,
    )
    if board.read() != page and killed is None:
        board.write(page)


def _answer(place: Workplace, inbox: Inbox, word: Word, policy: Policy, tools: Tools, door: Door) -> None:
    asked = parse_command(word.text)
    if asked is None:
        return
    if not word.may_write:
        inbox.answer(word, well=False, text=f"{markdown(word.by.name)} has no write access here: nothing was done.")
        return
    if isinstance(asked, str):
        inbox.answer(word, well=False, text=f"{asked}.")
        return
    try:
        pr = place.forge.get_pr(word.pr)
        if pr is None:
            raise InputError(f"#{word.pr} is none of ours")
        text = _ACTS[asked.verb](place, pr, asked, policy, tools)
    except MkError as exc:
        inbox.answer(word, well=False, text=f"`{asked.verb}`: {markdown(exc.message, most=400)}")
        return
    door.forget(word.pr)
    inbox.answer(word, well=True, text=f"`{asked.verb}`: {text}")


def _verify(place: Workplace, pr: PullRequest, command: Command, policy: Policy, tools: Tools) -> str:
    _expect_open(pr)
    outcome = verify_pr(
        place.forge, pr, builder=tools.builder, built_in=tools.built_in, clock=tools.clock, cluster=tools.cluster
    )
    record_check(place.forge, pr, outcome, clock=tools.clock)
    said = "ok" if outcome.ok else f"{outcome.reason}: {markdown(outcome.message, most=300)}"
    return f"{said} for {outcome.head[:12]} on {outcome.base[:12]}"


def _rebase(place: Workplace, pr: PullRequest, command: Command, policy: Policy, tools: Tools) -> str:
    """The branch's own plan, made anew on today's base."""
    _expect_open(pr)
    forge, identity = place.forge, identity_of(policy.settings)
    tip, base = forge.branch_tip(pr.branch), forge.base_tip()
    if tip is None or hands_off_commits(forge, tip, base, identity=identity, workload=pr.workload):
        raise InputError("somebody else's commit is on the branch: it is theirs")
    files = forge.repo.files(base)
    paths = [entry.path for entry in forge.repo.tree(tip)]
    workload = by_key(policy.settings, pr.workload, paths, partial(forge.repo.read, tip), digest=pr.plan_digest)
    if workload is None:
        raise InputError(f"the configuration does not know {pr.workload} any more")
    path = plan_path(workload.overlay, workload.ref.slug)
    plan = Plan.parse_json(forge.repo.read(tip, path) or b"", what=path)
    commit = commit_of(forge, plan, files, base, identity=identity, wording=tools.wording)
    if commit == tip:
        return f"stands on {base[:12]} already"
    forge.push_branch(pr.branch, old=tip, new=commit)
    return f"{commit[:12]} on {base[:12]}"


def _hold(place: Workplace, pr: PullRequest, command: Command, policy: Policy, tools: Tools) -> str:
    _expect_open(pr)
    if command.span is None:
        raise InputError("a hold needs its length")
    until = format_time(tools.clock.now() + command.span)
    place.forge.update_pr(pr, pr.model_copy(update={"held_until": until}))
    return f"it is not merged before {until}"


def _release(place: Workplace, pr: PullRequest, command: Command, policy: Policy, tools: Tools) -> str:
    if pr.state is PrState.OPEN:
        place.forge.update_pr(pr, pr.model_copy(update={"held_until": None}))
        return "it may be merged when the gate opens"
    place.forge.update_pr(pr, pr.model_copy(update={"labels": (*pr.labels, LABEL_RELEASED)}))
    return f"{', '.join(sorted(pr.changes))} of {pr.workload} may be proposed again"


def _explain(place: Workplace, pr: PullRequest, command: Command, policy: Policy, tools: Tools) -> str:
    """What the gate would say now, every verdict of it."""
    if pr.state is not PrState.OPEN:
        return f"it is {pr.state}"
    asked = ask_gate(place, pr, tools, plan_digest=None, reported_ok=None)
    lines = [
        f"- {verdict.rule}: {'open' if verdict.allowed else verdict.reason}"
        + (f". {markdown(verdict.message, most=300)}" if verdict.message else "")
        for verdict in asked.decision.verdicts
    ]
    return "\n\n" + "\n".join(lines)


def _expect_open(pr: PullRequest) -> None:
    if pr.state is not PrState.OPEN:
        raise InputError(f"#{pr.number} is {pr.state}, expected an open one")


_ACTS: dict[str, Callable[[Workplace, PullRequest, Command, Policy, Tools], str]] = {
    "verify": _verify,
    "rebase": _rebase,
    "hold": _hold,
    "release": _release,
    "explain": _explain,
}
