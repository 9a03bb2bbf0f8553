"""The page that shows how a whole repository stands: what is open, held, left alone, drifted and applied; its boxes act."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gitops_mk.core.render.text import markdown
from gitops_mk.model.change import AppliedChange, Hold, PrState, PullRequest
from gitops_mk.model.verdict import Reason

MARK: Final = "<!-- modekeeper:dashboard -->"
MAX_PAGE: Final = 60_000
MOST_ROWS: Final = 50
LIMITED: Final = frozenset({Reason.TOO_MANY_OPEN, Reason.TOO_MANY_PER_HOUR, Reason.OUTSIDE_SCHEDULE, Reason.FROZEN})
DRIFTED: Final = frozenset({Reason.OUT_OF_SYNC, Reason.DEGRADED, Reason.SUSPENDED})
_TICKED = re.compile(r"^- \[[xX]\] .{0,300}<!-- mk:(rebase|verify|release)=([1-9][0-9]{0,8}) -->\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """How one workload stands."""

    workload: str
    state: str
    reason: str | None
    message: str


@dataclass(frozen=True)
class Tick:
    """A box that somebody ticked."""

    verb: str
    pr: int


def ticked(text: str) -> tuple[Tick, ...]:
    """The boxes that are ticked on a page."""
    found = _TICKED.finditer(text.replace("\r\n", "\n"))
    return tuple(dict.fromkeys(Tick(match[1], int(match[2])) for match in found))


def render_dashboard(
    rows: Sequence[Row],
    prs: Sequence[PullRequest],
    holds: Iterable[Hold],
    applied: Sequence[AppliedChange],
    killed: str | None,
) -> str:
    """The page; equal for an equal state, so that nothing is written while nothing changes."""
    open_ = [pr for pr in prs if pr.state is PrState.OPEN]
    by_branch: Mapping[str, Row] = {row.workload: row for row in rows}
    parts = [MARK, "Everything ModeKeeper does in this repository. Tick a box, and it is done at the next turn."]
    if killed:
        parts.append(f"**The kill switch is on:** {markdown(killed)}. Nothing is written or merged.")
    parts.append(_section("Open", [_open(pr, by_branch.get(pr.workload)) for pr in open_]))
    parts.append(_section("Held", [_held(hold) for hold in holds]))
    parts.append(_section("Waiting for room, or for their time", [_row(row) for row in rows if row.reason in LIMITED]))
    parts.append(_section("Drifted", [_row(row) for row in rows if row.reason in DRIFTED]))
    newest = list(reversed(applied))
    parts.append(_section("Applied", [_applied(change) for change in newest]))
    page = "\n\n".join(parts) + "\n"
    if len(page) > MAX_PAGE:
        left = len(page) - MAX_PAGE
        page = f"{page[:MAX_PAGE].rpartition(chr(10))[0]}\n\n({left} characters left out: `mk pr list` has them all)\n"
    return page


def _section(title: str, lines: Sequence[str]) -> str:
    more = [f"- and {len(lines) - MOST_ROWS} more"] if len(lines) > MOST_ROWS else []
    return "\n".join([f"### {title} ({len(lines)})", *(lines[:MOST_ROWS] or ["- none"]), *more])


def _open(pr: PullRequest, row: Row | None) -> str:
    why = f": {markdown(row.message, most=160)}" if row is not None and row.message else ""
    held = f", on hold until {pr.held_until}" if pr.held_until else ""
    draft = ", a draft" if pr.draft else ""
    return (
        f"- #{pr.number} {markdown(pr.title, most=120)}{draft}{held}{why}\n"
        f"- [ ] rebase #{pr.number} <!-- mk:rebase={pr.number} -->\n"
        f"- [ ] verify #{pr.number} <!-- mk:verify={pr.number} -->"
    )


def _held(hold: Hold) -> str:
    said = f"{markdown(hold.workload)}: {markdown(', '.join(hold.knobs))}, {hold.source} by {markdown(hold.by)}"
    if hold.pr is None:
        return f"- {said}"
    return f"- [ ] release #{hold.pr}: {said} <!-- mk:release={hold.pr} -->"


def _row(row: Row) -> str:
    return f"- {markdown(row.workload)}: {row.reason}. {markdown(row.message, most=160)}"


def _applied(change: AppliedChange) -> str:
    moved = ", ".join(f"{knob} {old} to {new}" for knob, (old, new) in sorted(change.changes.items()))
    return f"- {change.at[:10]} {markdown(change.workload)}: {markdown(change.chord)}, {markdown(moved)} ({change.commit[:12]})"
