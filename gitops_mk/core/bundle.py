"""`policy_bundle.v1` and the rollback plan: which policy decided, on what, from where, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitops_mk.model.plan import Plan, PolicyDigests


def policy_bundle(
    *,
    policy_id: str,
    policy_version: str,
    params: Mapping[str, Any],
    digests: PolicyDigests,
    provenance: Mapping[str, Any],
    verify_report: str | None,
    rollback_plan: str | None,
) -> dict[str, Any]:
    """The bundle; the same decision on the same machine gives the same bytes."""
    return {
        "schema_version": "policy_bundle.v1",
        "policy": {"id": policy_id, "version": policy_version, "params": dict(params)},
        "inputs": {
            "passport_id": digests.passport_id,
            "passport_sha256": digests.passport_sha256,
            "chord_catalog_sha256": digests.catalog_sha256,
        },
        "provenance": dict(provenance),
        "rollback": {
            "mode": "pull_request" if rollback_plan else "none",
            "from_verify_report": verify_report,
            "rollback_plan_path": rollback_plan,
        },
    }


def rollback_plan(plans: tuple[Plan, ...], *, verify_report: str | None) -> dict[str, Any]:
    """What would undo these plans: each knob back to where it stood; carried out by `mk rollback --pr N`."""
    return {
        "schema_version": "rollback_plan.v0",
        "from_verify_report": verify_report,
        "items": [
            {
                "workload": plan.workload.plain(),
                "rollback_of": plan.digest,
                "changes": [c.reversed().plain() for c in plan.changes],
            }
            for plan in plans
        ],
    }
