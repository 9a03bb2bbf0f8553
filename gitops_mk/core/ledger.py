"""What git remembers of us: merged chords, read from the trailers of commits on the base branch.

Git and the forge are the only database: cooldowns, budgets, holds and the last stable profile come from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from gitops_mk.model.change import (
    LABEL_RELEASED,
    ROLLOUT_CHECK,
    TRAILER_CHANGE,
    TRAILER_CHORD,
    TRAILER_DIGEST,
    TRAILER_ROLLBACK,
    TRAILER_WORKLOAD,
    AppliedChange,
    Hold,
    Person,
    PrState,
    PullRequest,
)
from gitops_mk.model.chord import Intent
from gitops_mk.model.git import CommitInfo
from gitops_mk.model.times import from_epoch, parse_time
from gitops_mk.model.workload import Delivery

# The kubelet brings a ConfigMap's new values within about that long.
PROJECTED: Final = timedelta(seconds=90)
_TRAILER = re.compile(r"^(ModeKeeper-[A-Za-z-]+): (.{1,300})$")
_CHANGE = re.compile(r"^([a-z][a-z0-9_]{0,47}) (\d{1,10}) (\d{1,10})\Z")
_DIGEST = re.compile(r"^[0-9a-f]{64}\Z")


def trailers(message: str) -> dict[str, list[str]]:
    """Our trailers in the last paragraph of a commit message (git-interpret-trailers' rule), values in order."""
    found: dict[str, list[str]] = {}
    for line in message.rstrip().split("\n\n")[-1].splitlines():
        match = _TRAILER.match(line)
        if match:
            found.setdefault(match[1], []).append(match[2].strip())
    return found


def applied_change(commit: CommitInfo, message: str | None = None) -> AppliedChange | None:
    """The chord a commit on the base branch merged; None when it merged none of ours.

    `message`: where the trailers stand when not in the commit itself (a merge by hand keeps them in its second parent).
    """
    found = trailers(commit.message if message is None else message)
    one = {key: found.get(key, []) for key in (TRAILER_WORKLOAD, TRAILER_CHORD, TRAILER_DIGEST)}
    if any(len(values) != 1 for values in one.values()) or not _DIGEST.match(one[TRAILER_DIGEST][0]):
        return None
    changes: dict[str, tuple[int, int]] = {}
    for text in found.get(TRAILER_CHANGE, []):
        match = _CHANGE.match(text)
        if match:
            changes[match[1]] = (int(match[2]), int(match[3]))
    return AppliedChange(
        commit=commit.sha,
        at=from_epoch(max(0, commit.time)),
        workload=one[TRAILER_WORKLOAD][0],
        chord=one[TRAILER_CHORD][0],
        plan_digest=one[TRAILER_DIGEST][0],
        changes=changes,
        rollback_of=_rollback_of(found),
    )


def _rollback_of(found: Mapping[str, list[str]]) -> str | None:
    values = found.get(TRAILER_ROLLBACK, [])
    return values[0] if len(values) == 1 and _DIGEST.match(values[0]) else None


def since_rollout(applied: Sequence[AppliedChange], prs: Iterable[PullRequest]) -> tuple[AppliedChange, ...]:
    """The same changes, each dated from its rollout where that is on record: before it, the workload ran as it did before.

    The record is the check `modekeeper/rollout` on the merge commit, which the controller writes when it saw the rollout end.
    """
    ended = {
        pr.merge_sha: check.at
        for pr in prs
        if pr.merge_sha is not None and (check := pr.newest_check(ROLLOUT_CHECK, pr.merge_sha)) is not None
    }
    return tuple(
        change.model_copy(update={"at": max(change.at, ended[change.commit])}) if change.commit in ended else change
        for change in applied
    )


def in_force(change: AppliedChange, delivery: Delivery) -> datetime:
    """From when telemetry is of the merged values, given a change dated from its rollout: a ConfigMap's reach the pods later."""
    since = parse_time(change.at)
    return since + PROJECTED if delivery == "configmap" else since


def stable_profile(applied: Sequence[AppliedChange], knobs: Mapping[str, int]) -> dict[str, int] | None:
    """The knob values from before our unbroken run of chords: what RECOVER-RELOCK may walk back to.

    `applied` are the workload's own, oldest first; `knobs` what the base builds now. None when nothing of ours is in
    force: none was merged, a person has edited the values or taken a chord back since, or the chord came again after a
    walk back, which proves that the workload needs it.
    """
    values = dict(knobs)
    seen_incident_chord = False
    for change in reversed(applied):
        if change.rollback_of is not None or any(
            values.get(knob) != after for knob, (_, after) in change.changes.items()
        ):
            break
        if change.chord == Intent.RECOVER_RELOCK and seen_incident_chord:
            return None
        seen_incident_chord = seen_incident_chord or change.chord != Intent.RECOVER_RELOCK
        values.update({knob: before for knob, (before, _) in change.changes.items()})
    return values if seen_incident_chord else None


def holds(
    prs: Iterable[PullRequest],
    applied: Sequence[AppliedChange],
    knobs: Mapping[str, Mapping[str, int]],
    *,
    identity: Person,
) -> tuple[Hold, ...]:
    """What people said no to: pull requests of ours that somebody else closed, and merged changes that were taken back.

    `knobs`: by workload key, what the base builds now. A change is taken back by a rollback that was merged, or when its
    knobs stand where they stood before it. A hold ends when its pull request carries `modekeeper/released`.
    """
    prs = tuple(prs)
    return (*_closed(prs, identity), *_taken_back(prs, applied, knobs))


def _closed(prs: tuple[PullRequest, ...], identity: Person) -> Iterator[Hold]:
    for pr in prs:
        # On a forge with accounts we close under the one that opened it, which is not who our commits are by.
        by_us = pr.closed_by is not None and pr.closed_by.key in (identity.key, pr.author.key)
        # Who closes a rollback declines an undo; that is no word against the chord.
        if pr.state is not PrState.CLOSED or by_us or pr.rollback_of is not None:
            continue
        if LABEL_RELEASED not in pr.labels and pr.changes:
            yield Hold(
                workload=pr.workload,
                knobs=tuple(sorted(pr.changes)),
                source="closed",
                pr=pr.number,
                by=pr.closed_by.name if pr.closed_by else "somebody",
                at=pr.updated_at,
                detail=pr.close_reason or "",
            )


def _taken_back(
    prs: tuple[PullRequest, ...], applied: Sequence[AppliedChange], knobs: Mapping[str, Mapping[str, int]]
) -> Iterator[Hold]:
    # By commit: the same decision made again has the same digest.
    merged = {pr.merge_sha: pr for pr in prs if pr.state is PrState.MERGED}
    latest = {(change.workload, knob): change for change in applied for knob in change.changes}
    held: dict[str, list[str]] = {}
    for (workload, knob), change in latest.items():
        before, after = change.changes[knob]
        now = knobs.get(workload, {}).get(knob)
        stands = now == after if change.rollback_of is not None else now == before
        if stands and before != after:
            held.setdefault(change.commit, []).append(knob)
    for change in applied:
        pr = merged.get(change.commit)
        if change.commit not in held or (pr is not None and LABEL_RELEASED in pr.labels):
            continue
        yield Hold(
            workload=change.workload,
            knobs=tuple(sorted(held[change.commit])),
            source="reverted",
            pr=pr.number if pr else None,
            by="a commit on the base branch" if change.rollback_of is None else "a rollback",
            at=change.at,
            detail=f"{change.chord} of {change.commit[:12]} "
            + ("was taken back" if change.rollback_of is None else "took a chord back"),
        )
