"""Why the API server would not take an object, from its `Status`; and what a person can do about it.

Statuses carry no machine-readable cause beyond the reason, so that the well-known wordings of the API server tell the rest
(Kubernetes API conventions, "Response Status Kind"; dynamic admission control, "Webhook response").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from gitops_mk.core.objects import items, part, text
from gitops_mk.core.render.text import plain
from gitops_mk.model.cluster import ApplyAnswer, DryRun, LiveObject, Refusal

REMEDIES: Final[dict[Refusal, str]] = {
    Refusal.SCHEMA: "mend the manifest: the API server names the field",
    Refusal.ADMISSION: "ask the owners of that webhook or policy, or change what it objects to",
    Refusal.WEBHOOK_NO_DRY_RUN: "give the webhook `sideEffects: None` or `NoneOnDryRun`, or exempt the namespace from it",
    Refusal.NAMESPACE_MISSING: "create the namespace, or mend `namespace` in .modekeeper/config.yaml",
    Refusal.KIND_MISSING: "install the CRD of that kind, or mend its apiVersion",
    Refusal.RBAC: "give the verify account the right to patch: component kustomize/components/verify-dry-run",
    Refusal.FIELD_CONFLICT: "let one of the two managers go: the field is theirs now",
    Refusal.TIMEOUT: "try again; if it stays, look at the webhook or the API server",
    Refusal.UNREACHABLE: "check the kubeconfig and the network",
    Refusal.OTHER: "see the API server's own words",
}

# Those that apply what stands in Git: a conflict with one of them is the very change we propose. `before-first-apply` is
# what the API server calls the owner of fields of an object that nobody's name stands on.
GITOPS_MANAGERS: Final = frozenset(
    {
        "argocd-application-controller",
        "argocd-controller",
        "argocd-server",
        "before-first-apply",
        "flux-client-side-apply",
        "helm-controller",
        "kubectl",
        "kubectl-client-side-apply",
        "kubectl-last-applied",
        "kustomize-controller",
        "modekeeper",
    }
)

MAX_WORDS: Final = 600

_WEBHOOK = re.compile(r'(?:admission webhook|calling webhook) "([^"]{1,253})"')
# `ValidatingAdmissionPolicy 'x' with binding …`, and for a mutating one no more than `policy 'x' with binding …`.
_POLICY = re.compile(r"[Pp]olicy '([^']{1,253})' with binding")
_NAMESPACE = re.compile(r'namespaces? "[^"]*" not found')
_MANAGER = re.compile(r'conflict with "([^"]{1,253})"')
_CONFLICTS = "FieldManagerConflict"
_RIGHTS = re.compile(r"cannot [a-z]+ (?:resource|path) ")
# No field's name (`timeoutSeconds`), and no part of an address (`?timeout=10s` stands in that of every webhook).
_SLOW = re.compile(r"deadline exceeded|(?<![?&/\w])timeout\b|Client\.Timeout|timed out", re.IGNORECASE)


class Conflict(NamedTuple):
    """A field that somebody else owns."""

    manager: str
    field: str


def conflicts(answer: ApplyAnswer) -> tuple[Conflict, ...]:
    """The conflicts that a 409 names."""
    if answer.status != 409:
        return ()
    found = []
    for cause in items(part(answer.body, "details"), "causes"):
        match = _MANAGER.search(text(cause, "message"))
        if cause.get("reason") == _CONFLICTS:
            # A manager whose name can't be read is somebody all the same.
            found.append(Conflict(match[1] if match else "unknown", text(cause, "field")))
    return tuple(found)


def foreign(found: Iterable[Conflict], trusted: frozenset[str] = GITOPS_MANAGERS) -> tuple[Conflict, ...]:
    """Those with managers that don't apply what stands in Git."""
    return tuple(conflict for conflict in found if conflict.manager not in trusted)


def explain(answer: ApplyAnswer, mode: str) -> DryRun:
    """An answer as reports tell it: typed, with who said no, and a remedy."""
    if answer.ok:
        return DryRun(attempted=True, mode=mode, ok=True, status=answer.status, message="accepted")
    message = text(answer.body, "message") or "the API server gave no reason"
    reason = text(answer.body, "reason") or "Unknown"
    refusal, by = _kind(answer, reason, message)
    return DryRun(
        attempted=True,
        mode=mode,
        ok=False,
        status=answer.status,
        refusal=refusal,
        by=by,
        reason=reason,
        message=plain(message, most=MAX_WORDS),
        remedy=REMEDIES[refusal],
    )


def unanswered(message: str, mode: str, *, timed_out: bool) -> DryRun:
    """No answer at all."""
    refusal = Refusal.TIMEOUT if timed_out else Refusal.UNREACHABLE
    return DryRun(
        attempted=True,
        mode=mode,
        ok=False,
        refusal=refusal,
        reason="NoAnswer",
        message=message,
        remedy=REMEDIES[refusal],
    )


def _kind(answer: ApplyAnswer, reason: str, message: str) -> tuple[Refusal, str | None]:
    webhook, policy = _WEBHOOK.search(message), _POLICY.search(message)
    slow = answer.status >= 500 and _SLOW.search(message) is not None
    # What a webhook says in its denial is its own affair.
    if webhook and "denied the request" not in message:
        if "does not support dry run" in message:
            return Refusal.WEBHOOK_NO_DRY_RUN, webhook[1]
        # One that can't be reached is a failure of its own, and not the API server's.
        return (Refusal.TIMEOUT if slow else Refusal.ADMISSION), webhook[1]
    if webhook:
        return Refusal.ADMISSION, webhook[1]
    if policy:
        return Refusal.ADMISSION, policy[1]
    found = conflicts(answer)
    if found:
        return Refusal.FIELD_CONFLICT, found[0].manager
    if answer.status == 404:
        return (Refusal.NAMESPACE_MISSING if _NAMESPACE.search(message) else Refusal.KIND_MISSING), None
    if answer.status == 403 and "is being terminated" in message:
        return Refusal.NAMESPACE_MISSING, None
    if answer.status == 401 or (answer.status == 403 and _RIGHTS.search(message)):
        return Refusal.RBAC, None
    if answer.status == 403:
        return Refusal.ADMISSION, None
    # Server-side apply tells of unknown fields and wrong types by a 500.
    if answer.status in (400, 422) or "typed patch object" in message:
        return Refusal.SCHEMA, None
    if slow or reason == "Timeout" or answer.status in (429, 503, 504):
        return Refusal.TIMEOUT, None
    return Refusal.OTHER, None


def managers_of(live: LiveObject, path: tuple[str, ...]) -> tuple[str, ...]:
    """The field managers that own the field at `path`, by name (`metadata.managedFields`, format FieldsV1)."""
    found = set()
    for entry in items(part(live, "metadata"), "managedFields"):
        above = part(entry, "fieldsV1", *(f"f:{key}" for key in path[:-1]))
        if f"f:{path[-1]}" in above:
            found.add(text(entry, "manager") or "unknown")
    return tuple(sorted(found))
