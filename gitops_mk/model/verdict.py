"""Every "no" the product can say, in one file; each has a heading in `docs/reasons.md`."""

from __future__ import annotations

from enum import StrEnum

from gitops_mk.model.base import Frozen


class Reason(StrEnum):
    """Why something was refused. The value is what reports, metrics and exit messages carry."""

    # The safety envelope: why an action is not proposed.
    UNKNOWN_CHORD = "unknown_chord"
    APPROVAL_REQUIRED = "approval_required"
    CHORD_NOT_ALLOWED = "chord_not_allowed"
    UNKNOWN_KNOB = "unknown_knob"
    KNOB_NOT_ALLOWED = "knob_not_allowed"
    INSUFFICIENT_EVIDENCE = "insufficient_evidence"
    REQUIRED_SIGNAL_MISSING = "required_signal_missing"
    HELD_BY_REVIEWER = "held_by_reviewer"
    COOLDOWN_ACTIVE = "cooldown_active"
    BUDGET_EXHAUSTED = "budget_exhausted"
    OUT_OF_BOUNDS = "out_of_bounds"
    MAX_DELTA_EXCEEDED = "max_delta_exceeded"
    INVARIANT_VIOLATED = "invariant_violated"
    GAIN_BELOW_COST = "gain_below_cost"
    PROPOSE_ONLY = "propose_only"

    # Proposing: why no branch was written.
    PAUSED_BY_HUMAN = "paused_by_human"
    TOO_MANY_OPEN = "too_many_open"
    TOO_MANY_PER_HOUR = "too_many_per_hour"
    OUTSIDE_SCHEDULE = "outside_schedule"
    FROZEN = "frozen"

    # A live workload: why nothing is planned for it now.
    NOT_ENABLED = "not_enabled"
    NO_SOURCE = "no_source"
    AMBIGUOUS_SOURCE = "ambiguous_source"
    HELM_ONLY = "helm_only"
    RENDERED_SOURCE = "rendered_source"
    PINNED_SOURCE = "pinned_source"
    OTHER_REPOSITORY = "other_repository"
    FOREIGN_OWNER = "foreign_owner"
    ROLLOUT_IN_PROGRESS = "rollout_in_progress"
    OUT_OF_SYNC = "out_of_sync"
    SUSPENDED = "suspended"
    DEGRADED = "degraded"

    # Verify with the cluster's word; the names of the contract's blockers.
    CLUSTER_UNREACHABLE = "cluster_unreachable"
    NAMESPACE_MISSING = "namespace_missing"
    DEPLOYMENT_MISSING = "deployment_missing"
    RBAC_DENIED = "rbac_denied"
    DRY_RUN_FAILED = "dry_run_failed"

    # Verify: why a pull request does not pass.
    SCOPE_VIOLATION = "scope_violation"
    PLAN_INVALID = "plan_invalid"
    POLICY_CHANGED = "policy_changed"
    RENDER_MISMATCH = "render_mismatch"
    BUILD_FAILED = "build_failed"
    UNPLANNED_CHANGE = "unplanned_change"
    PLAN_STALE = "plan_stale"
    MERGE_CONFLICT = "merge_conflict"
    TIMED_OUT = "timed_out"
    NO_CHECKS_RUN = "no_checks_run"

    # The gate: why nothing is merged.
    KILL_SWITCH = "kill_switch"
    LICENSE_MISSING = "license_missing"
    LICENSE_INVALID = "license_invalid"
    LICENSE_EXPIRED = "license_expired"
    BINDING_MISMATCH = "binding_mismatch"
    ENTITLEMENT_MISSING = "entitlement_missing"
    VERIFY_FAILED = "verify_failed"
    VERIFY_MISSING = "verify_missing"
    VERIFY_STALE = "verify_stale"
    PR_NOT_OPEN = "pr_not_open"
    PR_DRAFT = "pr_draft"
    CHANGES_REQUESTED = "changes_requested"
    REVIEW_REQUIRED = "review_required"
    NOT_OURS = "not_ours"
    AUTO_MERGE = "auto_merge"
    MERGE_QUEUE = "merge_queue"
    CHECK_MISSING = "check_missing"
    CHECK_FAILED = "check_failed"
    MAY_BYPASS = "may_bypass"
    RULES_UNREADABLE = "rules_unreadable"
    NOT_MERGEABLE = "not_mergeable"
    HEAD_MOVED = "head_moved"
    BASE_MOVED = "base_moved"


class Verdict(Frozen):
    """One judgement: allowed, or blocked with one reason and a sentence that says what was found and what was expected."""

    allowed: bool
    rule: str
    reason: Reason | None = None
    message: str = ""

    @classmethod
    def allow(cls, rule: str, message: str = "") -> Verdict:
        """The rule has nothing against it."""
        return cls(allowed=True, rule=rule, message=message)

    @classmethod
    def block(cls, rule: str, reason: Reason, message: str) -> Verdict:
        """The rule says no."""
        return cls(allowed=False, rule=rule, reason=reason, message=message)
