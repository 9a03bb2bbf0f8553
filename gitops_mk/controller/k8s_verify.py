"""`k8s_verify_*.json`: a plan against the live cluster, item by item, with one blocker that says what to mend first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gitops_mk.controller.consult import ask, look
from gitops_mk.core.dryrun import Compared, compare, unplanned
from gitops_mk.core.live import foreign_owner, live_knobs
from gitops_mk.core.places import DATA, OBJECT, TEMPLATE, Path, knob_path
from gitops_mk.core.refusals import GITOPS_MANAGERS
from gitops_mk.core.seen import seen_of
from gitops_mk.errors import ClusterError, ConfigError
from gitops_mk.model.cluster import ClusterSeen, ClusterWord, DryRun, Refusal
from gitops_mk.model.gate import VerifyOutcome
from gitops_mk.model.plan import Plan, PlanItem, data_patch, knob_patch
from gitops_mk.model.verdict import Reason
from gitops_mk.model.workload import Carrier, KnobMap
from gitops_mk.ports import Cluster

UNKNOWN = "unknown"


def verify_items(cluster: Cluster, items: Sequence[PlanItem], records: Sequence[Plan]) -> dict[str, Any]:
    """The body of `k8s_verify_latest.json` for a plan. Each item is tried as it is, on the live object it would change.

    `records` are the decision records beside the plan, which say what each knob was planned from. Never raises ClusterError, nor
    ConfigError where there is no usable kubeconfig: that is a cluster that can't be reached, too.
    """
    error, version, context, server = "", None, None, None
    try:
        context, server = cluster.context, cluster.server
        version = cluster.version()
    except (ClusterError, ConfigError) as exc:
        error = exc.message
    by_ref = {record.carrier: record for record in records}
    told, blocker = [], None
    if error:
        first = items[0].ref() if items else None
        blocker = _blocker(Reason.CLUSTER_UNREACHABLE, 0, first, error)
    for index, item in enumerate(items if not error else ()):
        ref = item.ref()
        seen, stale = _judge(cluster, item, by_ref.get(ref))
        told.append(item_payload(ref, seen))
        blocker = blocker or _first_blocker(index, ref, seen, stale)
    if error:
        told = [item_payload(item.ref(), None) for item in items]
    return {
        "ok": blocker is None,
        "verify_ok": blocker is None,
        "cluster": context or "not consulted",
        "checks": {"cluster_reachable": not error, "current_context": context, "items": told},
        "verify_blocker": blocker,
        "diagnostics": {
            "server": server,
            "server_version": version,
            "items": len(items),
            "plan_digest": records[0].digest if len(records) == 1 else None,
            "note": "" if items else "the plan has no items: there was nothing to try",
        },
    }


def k8s_verify_payload(outcome: VerifyOutcome, plans: tuple[Plan, ...]) -> dict[str, Any]:
    """The same file for a pull request: the verdict is that of its own verify, with the cluster's word where there is one."""
    seen = outcome.cluster
    items = [item_payload(plan.carrier, seen) for plan in plans]
    blocker = None
    if not outcome.ok:
        ref = plans[0].carrier if plans else None
        kinds = (
            Reason.CLUSTER_UNREACHABLE,
            Reason.NAMESPACE_MISSING,
            Reason.DEPLOYMENT_MISSING,
            Reason.RBAC_DENIED,
            Reason.DRY_RUN_FAILED,
        )
        kind = outcome.reason if outcome.reason in kinds else None
        detail = outcome.message if kind is not None else f"{outcome.reason}: {outcome.message}"
        blocker = _blocker(kind, 0, ref, detail)
    return {
        "ok": outcome.ok,
        "verify_ok": outcome.ok,
        "cluster": seen.context if seen is not None else "not consulted",
        "checks": {
            "cluster_reachable": None if seen is None else not seen.error,
            "current_context": None if seen is None else seen.context,
            "items": items,
        },
        "verify_blocker": blocker,
        "diagnostics": {
            "base": outcome.base,
            "head": outcome.head,
            "tree": outcome.tree,
            "plan_digest": outcome.plan_digest,
            "steps": [verdict.plain() for verdict in outcome.steps],
        },
    }


def item_payload(ref: Carrier, seen: ClusterSeen | None) -> dict[str, Any]:
    """One entry of `checks.items[]`; what was not asked is null. The keys are the contract's, whatever the kind."""
    dry_run = seen.dry_run if seen is not None else DryRun(message="cluster: not consulted")
    return {
        "namespace": ref.namespace,
        "name": ref.name,
        "kind": ref.kind,
        "namespace_exists": seen.namespace_exists if seen else None,
        "deployment_exists": seen.workload_exists if seen else None,
        "uid": seen.uid if seen else None,
        "generation": seen.generation if seen else None,
        "auth_can_i_get_deployments": seen.can_get if seen else None,
        "auth_can_i_patch_deployments": seen.can_patch if seen else None,
        "dry_run": dry_run.plain(),
    }


def _judge(cluster: Cluster, item: PlanItem, record: Plan | None) -> tuple[ClusterSeen, str]:
    """What the cluster says of an item, and why it is out of date, where it is."""
    ref = item.ref()
    word = look(cluster, ref)
    if word.live is None or word.can_patch is not True or not ref.in_place:
        return seen_of(word, None), ""
    # The values as they run and as they are planned, applied to the same live object: the difference is the plan's.
    planned, runs = item.knobs(), live_knobs(word.live)
    now = {knob: value for knob, value in runs.items() if knob in planned}
    word = ask(cluster, ref, _document(item, now), _document(item, planned), seen=word)
    compared = _compare(word, planned, now, (DATA,) if isinstance(ref, KnobMap) else (OBJECT, TEMPLATE))
    stale = ""
    for change in record.changes if record is not None else ():
        if runs.get(change.knob) != change.before:
            stale = (
                f"{Reason.VERIFY_STALE}: {change.knob} runs at {runs.get(change.knob)}, planned from {change.before}"
            )
    owner = foreign_owner(word.live or {}, planned)
    if owner is not None and not stale:
        stale = f"{owner.reason}: {owner.message}"
    return seen_of(word, compared), stale


def _compare(word: ClusterWord, planned: dict[str, int], now: dict[str, int], places: tuple[Path, ...]) -> Compared:
    compared = compare(word.base, word.head, managers=GITOPS_MANAGERS)
    stray = unplanned(compared.differences, places, planned)
    moved = {one.path for one in compared.differences}
    stays = [k for k, v in planned.items() if now.get(k) != v and knob_path(places[-1], k) not in moved]
    wrong = f"something else changes along: {stray}" if stray is not None else ""
    if stays and not wrong:
        wrong = f"{', '.join(stays)} would not move: something in the cluster sets it back"
    if compared.head.ok and wrong:
        changed = compared.head.model_copy(update={"ok": False, "refusal": Refusal.ADMISSION, "message": wrong})
        return Compared(changed, compared.differences)
    return compared


def _document(item: PlanItem, knobs: dict[str, int]) -> bytes:
    patch = data_patch(knobs) if item.kind == KnobMap.kind else knob_patch(knobs)
    body: dict[str, Any] = {"apiVersion": item.apiVersion, "kind": item.kind, **patch}
    body["metadata"] = {"name": item.name, "namespace": item.namespace, **patch.get("metadata", {})}
    return json.dumps(body, sort_keys=True).encode()


def _first_blocker(index: int, ref: Carrier, seen: ClusterSeen, stale: str) -> dict[str, Any] | None:
    if seen.error:
        return _blocker(Reason.CLUSTER_UNREACHABLE, index, ref, seen.error)
    if seen.namespace_exists is False:
        return _blocker(Reason.NAMESPACE_MISSING, index, ref, f"there is no namespace {ref.namespace}")
    if seen.workload_exists is False and ref.in_place:
        return _blocker(Reason.DEPLOYMENT_MISSING, index, ref, f"there is no {ref}")
    for verb, allowed in (("get", seen.can_get), ("patch", seen.can_patch)):
        if allowed is not True:
            return _blocker(Reason.RBAC_DENIED, index, ref, f"this identity may not {verb} {ref}")
    if ref.in_place and seen.dry_run.ok is not True:
        told = seen.dry_run
        by = f" by {told.by}" if told.by else ""
        return _blocker(Reason.DRY_RUN_FAILED, index, ref, f"{told.refusal}{by}: {told.message}; {told.remedy}")
    return _blocker(None, index, ref, stale) if stale else None


def _blocker(kind: Reason | None, index: int, ref: Carrier | None, detail: str) -> dict[str, Any]:
    return {
        "kind": kind or UNKNOWN,
        "index": index,
        "namespace": ref.namespace if ref else None,
        "name": ref.name if ref else None,
        "detail": detail,
    }
