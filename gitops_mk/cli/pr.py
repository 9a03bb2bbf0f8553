"""`mk pr`: pull requests of the local forge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mk.cli import output
from gitops_mk.cli.options import json_option, repo_options
from gitops_mk.errors import InputError

if TYPE_CHECKING:
    from gitops_mk.controller.tools import Tools, Workplace
    from gitops_mk.model.change import PullRequest

number_argument = click.argument("number", type=click.IntRange(min=1))


@click.group(epilog="Example: mk pr show 3 --repo ~/gitops")
def pr() -> None:
    """Pull requests: list, show, diff, approve, close."""


@contextmanager
def open_place(repo: Path | None, forge: str | None, base_branch: str | None) -> Iterator[tuple[Workplace, Tools]]:
    """The forge of a GitOps repository, to read. Raises MkError."""
    from gitops_mk.config import Access
    from gitops_mk.wiring import make_tools, open_workplace

    tools = make_tools()
    with open_workplace(Access(repo, forge, base_branch), tools, writes=False) as place:
        yield place, tools


def get_pr(place: Workplace, number: int) -> PullRequest:
    """One pull request. Raises InputError when there is none of that number."""
    found = place.forge.get_pr(number)
    if found is None:
        raise InputError(f"there is no pull request #{number}", hint="`mk pr list` shows those there are")
    return found


@pr.command("list", epilog="Example: mk pr list --all --repo ~/gitops")
@click.option("--all", "everything", is_flag=True, help="Closed and merged ones, too.")
@repo_options
@json_option
def list_(everything: bool, repo: Path | None, forge: str | None, base_branch: str | None, as_json: bool) -> None:
    """List open pull requests."""
    with open_place(repo, forge, base_branch) as (place, _):
        found = place.forge.list_prs(open_only=not everything)
    if as_json:
        output.print_json([item.plain() for item in found])
        return
    rows = [(f"#{p.number}", "draft" if p.draft and p.state == "open" else p.state, p.workload, p.title) for p in found]
    output.table(("pr", "state", "workload", "title"), rows)
    if not rows:
        output.say("no open pull requests")


@pr.command(epilog="Example: mk pr show 3 --repo ~/gitops")
@number_argument
@repo_options
@json_option
def show(number: int, repo: Path | None, forge: str | None, base_branch: str | None, as_json: bool) -> None:
    """Show one pull request: what it says, its checks and its reviews."""
    with open_place(repo, forge, base_branch) as (place, _):
        found = get_pr(place, number)
    if as_json:
        output.print_json(found.plain())
        return
    state = "draft" if found.draft and found.state == "open" else found.state
    output.say(f"#{found.number} {found.title}")
    output.say(f"{state}; {found.branch} ({(found.head_sha or 'gone')[:12]}) to {found.base}; by {found.author.name}")
    for check in found.checks:
        if check.commit == found.head_sha:
            output.say(f"check {check.name}: {check.conclusion}, {check.summary}", ok=check.conclusion == "success")
    for review in found.reviews:
        stale = "" if review.commit == found.head_sha else " (of an earlier commit)"
        output.say(f"review by {review.by.name}: {review.verdict}{stale}")
    if found.close_reason:
        output.say(f"closed: {found.close_reason}")
    output.say()
    output.say(found.body)
    for comment in found.comments:
        output.say(f"-- {comment.by.name}, {comment.at}: {comment.text}")


@pr.command(epilog="Example: mk pr diff 3 --repo ~/gitops")
@number_argument
@repo_options
def diff(number: int, repo: Path | None, forge: str | None, base_branch: str | None) -> None:
    """Print what merging would change, as a unified diff."""
    with open_place(repo, forge, base_branch) as (place, _):
        found = get_pr(place, number)
        head = found.head_sha
        if head is None or place.forge.repo.resolve(head) is None:
            raise InputError(f"#{number}: branch {found.branch} is gone, there is no diff to show")
        base = place.forge.repo.merge_base(place.forge.base_tip(), head) or place.forge.base_tip()
        text = place.forge.repo.diff_text(base, head)
    click.echo(text, nl=False)


@pr.command(epilog="Example: mk pr approve 3 --repo ~/gitops")
@number_argument
@click.option("--request-changes", is_flag=True, help="Ask for changes instead.")
@click.option("--comment", default="", help="A remark that goes with it.")
@repo_options
def approve(
    number: int, request_changes: bool, comment: str, repo: Path | None, forge: str | None, base_branch: str | None
) -> None:
    """Approve the pull request's head commit, under your git identity."""
    from gitops_mk.model.change import PrState, Review
    from gitops_mk.model.times import format_time
    from gitops_mk.wiring import user_identity

    by = user_identity(repo)
    with open_place(repo, forge, base_branch) as (place, tools):
        found = get_pr(place, number)
        if found.state is not PrState.OPEN or found.head_sha is None:
            raise InputError(f"#{number} is {found.state}, expected an open one")
        if by.email.lower() == found.author.email.lower():
            raise InputError(f"#{number} is by {by.name}: nobody approves their own", hint="ask somebody else")
        review = Review(
            by=by,
            verdict="changes_requested" if request_changes else "approved",
            commit=found.head_sha,
            at=format_time(tools.clock.now()),
            comment=comment[:2000],
        )
        place.forge.add_review(number, review)
    output.say(f"#{number} {review.verdict} at {review.commit[:12]} by {by.name}")


@pr.command(epilog='Example: mk pr close 3 --reason "not during the benchmark"')
@number_argument
@click.option("--reason", default="closed by a reviewer", show_default=True, help="Why; kept with the hold.")
@repo_options
def close(number: int, reason: str, repo: Path | None, forge: str | None, base_branch: str | None) -> None:
    """Close a pull request unmerged. Its knobs are held for this workload until `mk hold release`."""
    from gitops_mk.controller.propose import close_pr
    from gitops_mk.model.change import PrState
    from gitops_mk.wiring import user_identity

    by = user_identity(repo)
    with open_place(repo, forge, base_branch) as (place, _):
        found = get_pr(place, number)
        if found.state is not PrState.OPEN:
            raise InputError(f"#{number} is {found.state} already")
        close_pr(place.forge, found, by=by, why=reason[:500])
    output.say(f"#{number} closed; {', '.join(sorted(found.changes))} of {found.workload} held until released")
