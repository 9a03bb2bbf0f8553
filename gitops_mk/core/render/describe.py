"""The words of a pull request and of its commit: deterministic, short, and never longer than a forge takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gitops_mk.core.render.chart import chart
from gitops_mk.core.render.figures import brief, duration, share
from gitops_mk.core.render.text import markdown, plain
from gitops_mk.errors import InputError
from gitops_mk.model.change import (
    TRAILER_CHANGE,
    TRAILER_CHORD,
    TRAILER_DIGEST,
    TRAILER_ROLLBACK,
    TRAILER_WORKLOAD,
)
from gitops_mk.model.passport import Passport
from gitops_mk.model.plan import Plan
from gitops_mk.model.verdict import Verdict

if TYPE_CHECKING:
    from jinja2 import Environment, Template

    from gitops_mk.core.enrolment import Reach

MAX_BODY = 60_000


@dataclass(frozen=True)
class Wording:
    """The templates, as text."""

    pr_body: str
    commit_message: str


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    env = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)  # noqa: S701 - Markdown, escaped by the `md` filter
    env.filters["md"] = markdown
    env.filters["percent"] = lambda value: f"{100 * value:.0f} %"
    env.filters["brief"] = brief
    env.filters["share"] = share
    env.filters["duration"] = duration
    return env


@lru_cache(maxsize=8)
def _template(text: str) -> Template:
    return _environment().from_string(text)


def pr_title(plan: Plan) -> str:
    """The chord, the workload, and the moves as far as they fit on a line."""
    moves = ", ".join(f"{c.knob} {c.before} → {c.after}" for c in plan.changes)
    verb = "Roll back" if plan.rollback_of else plan.chord
    return plain(f"{verb}: {plan.workload.namespace}/{plan.workload.name} ({moves})", most=160)


def commit_message(plan: Plan, wording: Wording) -> str:
    """Subject, reason and the trailers that the ledger reads back."""
    return _template(wording.commit_message).render(plan=plan, trailers=trailers(plan))


def trailers(plan: Plan) -> str:
    """The trailers of a plan, a line each."""
    lines = [
        f"{TRAILER_WORKLOAD}: {plan.workload.key}",
        f"{TRAILER_CHORD}: {plan.chord}",
        f"{TRAILER_DIGEST}: {plan.digest}",
    ]
    if plan.rollback_of is not None:
        lines.append(f"{TRAILER_ROLLBACK}: {plan.rollback_of}")
    lines += [f"{TRAILER_CHANGE}: {c.knob} {c.before} {c.after}" for c in plan.changes]
    return "\n".join(lines)


def pr_body(
    plan: Plan,
    passport: Passport,
    verdicts: Sequence[Verdict],
    wording: Wording,
    *,
    tier: str,
    reach: Reach | None = None,
) -> str:
    """What the reviewer sees. Raises InputError should it ever exceed what a forge takes: it is never cut silently."""
    found = [s for s in plan.observation.signals if s.found]
    context: dict[str, Any] = {
        "plan": plan,
        "rows": [(c, passport.knobs.get(c.knob)) for c in plan.changes],
        "found": found,
        "rejected": [s for s in plan.observation.signals if not s.found],
        "charts": [c for c in (chart(s, plan.observation.window) for s in found) if c],
        "verdicts": verdicts,
        "tier": tier,
        "passport": passport,
        "in_place": plan.workload.in_place,
        "config_map": plan.target.config_map,
        "reach": reach,
        "weighing": plan.weighing,
    }
    body = _template(wording.pr_body).render(context)
    if len(body) > MAX_BODY:
        raise InputError(f"the pull request's body would be {len(body)} characters, a forge takes {MAX_BODY}")
    return body
