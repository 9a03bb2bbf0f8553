"""Two dry-runs, of the base's document and of the head's, and the difference between what they would store.

Defaulting and mutating webhooks work on both alike, so that their share cancels out: what is left is what a merge does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gitops_mk.core import refusals
from gitops_mk.core.places import knob_path
from gitops_mk.core.yamldocs import Path, dotted
from gitops_mk.model.cluster import ApplyAnswer, DryRun, Refusal, Trial

# What the server writes anew at every apply, and controllers between two of them; no apply touches a status.
_BOOKKEEPING: Final = (("metadata", "managedFields"), ("metadata", "resourceVersion"), ("metadata", "generation"),
                       ("metadata", "uid"), ("metadata", "creationTimestamp"), ("status",))  # fmt: skip


class Difference(NamedTuple):
    """One leaf that the two differ in, as JSON; None on the side that lacks it."""

    path: Path
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{dotted(self.path)} goes from {self.before} to {self.after}"


class Compared(NamedTuple):
    """The head's dry-run for reports, and the leaves in which it differs from the base's; empty where one failed."""

    head: DryRun
    differences: tuple[Difference, ...] = ()


def compare(base: Trial | None, head: Trial | None, *, managers: frozenset[str], mode: str = "server") -> Compared:
    """Judge both dry-runs. A conflict counts where the head has it and the base has not, with a manager outside `managers`."""
    if base is None or head is None:
        return Compared(DryRun(mode="none", message="not attempted"))
    answers = []
    for name, trial in (("base", base), ("head", head)):
        answer = trial.forced or trial.plain
        if answer is None:
            return Compared(refusals.unanswered(f"{name}: {trial.error}", mode, timed_out=trial.timed_out))
        told = refusals.explain(answer, mode)
        if not told.ok:
            return Compared(told.model_copy(update={"message": f"{name}: {told.message}"}))
        answers.append(answer)
    stolen = _new_conflicts(base, head, managers)
    if stolen:
        first = stolen[0]
        return Compared(
            DryRun(
                attempted=True,
                mode=mode,
                ok=False,
                status=409,
                refusal=Refusal.FIELD_CONFLICT,
                by=first.manager,
                reason="Conflict",
                message=f"head: {first.field} is owned by {first.manager}",
                remedy=refusals.REMEDIES[Refusal.FIELD_CONFLICT],
            )
        )
    return Compared(refusals.explain(answers[1], mode), differences(*answers))


def differences(base: ApplyAnswer, head: ApplyAnswer) -> tuple[Difference, ...]:
    """The leaves in which two stored objects differ, without the server's own bookkeeping."""
    before, after = leaves_of(base.body), leaves_of(head.body)
    return tuple(
        Difference(path, before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys(), key=dotted)
        if before.get(path) != after.get(path) and not any(path[: len(own)] == own for own in _BOOKKEEPING)
    )


def unplanned(found: tuple[Difference, ...], places: tuple[Path, ...], knobs: Mapping[str, int]) -> Difference | None:
    """The first difference that the plan does not call for."""
    wanted = {knob_path(place, knob): json.dumps(str(value)) for place in places for knob, value in knobs.items()}
    for one in found:
        # An empty annotations map gives way to the first annotation put into it.
        gone = one.path in places and one.after is None
        if not gone and (one.path not in wanted or wanted[one.path] != one.after):
            return one
    return None


def leaves_of(value: Any) -> dict[Path, str]:
    """Every leaf of a JSON value by its path, as JSON, so that `4` is not `"4"`; an empty map or list is a leaf of its own."""
    found: dict[Path, str] = {}
    todo: list[tuple[Path, Any]] = [((), value)]
    while todo:
        path, item = todo.pop()
        if isinstance(item, Mapping) and item:
            todo.extend(((*path, str(key)), child) for key, child in item.items())
        elif isinstance(item, list) and item:
            todo.extend(((*path, number), child) for number, child in enumerate(item))
        else:
            found[path] = json.dumps(item, ensure_ascii=False)
    return found


def _new_conflicts(base: Trial, head: Trial, managers: frozenset[str]) -> tuple[refusals.Conflict, ...]:
    had = set(refusals.conflicts(base.plain)) if base.plain else set()
    has = refusals.conflicts(head.plain) if head.plain else ()
    return refusals.foreign((c for c in has if c not in had), managers)
