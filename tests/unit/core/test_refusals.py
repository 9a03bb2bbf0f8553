"""How the API server says no: its own wordings (kube-apiserver 1.36; `tests/cluster/test_dry_run.py` asks the real one)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.refusals import (
    GITOPS_MANAGERS,
    REMEDIES,
    Conflict,
    conflicts,
    explain,
    foreign,
    managers_of,
    unanswered,
)
from gitops_mk.model.cluster import ApplyAnswer, Refusal
from tests.support import objects

HOOK = "hook.example.invalid"
CALLING = f'Internal error occurred: failed calling webhook "{HOOK}": failed to call webhook: '
POST = 'Post "https://policy.ml.svc:443/validate?timeout=10s": '
KNOB_FIELD = ".spec.template.metadata.annotations.modekeeper/knob.dataloader_num_workers"


def answer(status: int, message: str | None, reason: str | None = None, **details: Any) -> ApplyAnswer:
    return ApplyAnswer(status, {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status, **({"details": details} if details else {}),
    })  # fmt: skip


def conflicting(*found: tuple[str, str]) -> ApplyAnswer:
    """The answer for fields that others own."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}" using apps/v1', "field": field}
        for manager, field in found
    ]
    return answer(409, f"Apply failed with {len(found)} conflict(s)", "Conflict", causes=causes)


TYPED = "failed to create typed patch object (ml/trainer; apps/v1, Kind=Deployment): "

SAID: list[tuple[Refusal, str | None, ApplyAnswer]] = [
    # Server-side apply's own reading of the schema: 500, and no reason.
    (Refusal.SCHEMA, None, answer(500, TYPED + ".spec.foo: field not declared in schema")),
    (Refusal.SCHEMA, None, answer(500, TYPED + ".spec.replicas: expected numeric (int or float), got string")),
    (
        Refusal.SCHEMA,
        None,
        answer(
            500,
            TYPED + "errors:\n  .metadata.annotations.modekeeper/knob.timeout_ms: expected string, got "
            "&value.valueUnstructured{Value:5}\n  .spec.x: i/o timeout",
        ),
    ),
    (Refusal.SCHEMA, None, answer(400, "error decoding YAML: error converting YAML to JSON: yaml: line 1", "BadRequest")),
    (
        Refusal.SCHEMA,
        None,
        answer(
            422,
            'Deployment.apps "trainer" is invalid: spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable',
            "Invalid",
            name="trainer",
            causes=[{"reason": "FieldValueInvalid", "field": "spec.selector"}],
        ),
    ),
    (
        Refusal.SCHEMA,
        None,
        answer(
            422,
            'Deployment.apps "trainer" is invalid: spec.template.spec.containers[0].livenessProbe.timeoutSeconds: Invalid '
            "value: -1: must be greater than or equal to 0",
            "Invalid",
        ),
    ),
    # Admission.
    (Refusal.ADMISSION, HOOK, answer(403, f'admission webhook "{HOOK}" denied the request: no')),
    (Refusal.ADMISSION, HOOK, answer(400, f'admission webhook "{HOOK}" denied the request without explanation')),
    (
        Refusal.ADMISSION,
        HOOK,
        answer(
            504,
            f'admission webhook "{HOOK}" denied the request: context deadline exceeded; it does not support dry run, and '
            'user "x" cannot patch resource "deployments"',
            "Timeout",
        ),
    ),
    (Refusal.ADMISSION, HOOK, answer(500, CALLING + POST + "dial tcp 10.96.0.7:443: connect: connection refused")),
    (Refusal.ADMISSION, HOOK, answer(500, CALLING + POST + "EOF", "InternalError")),
    (Refusal.ADMISSION, HOOK, answer(500, CALLING + 'Post "https://p.ml.svc:443/?timeout=10s": service "p" not found')),
    (Refusal.ADMISSION, HOOK, answer(500, CALLING + POST + "tls: failed to verify certificate: x509: unknown authority")),
    (Refusal.TIMEOUT, HOOK, answer(500, CALLING + POST + "context deadline exceeded", "InternalError")),
    (Refusal.TIMEOUT, HOOK, answer(500, CALLING + POST + "dial tcp 10.96.0.7:443: i/o timeout")),
    (Refusal.TIMEOUT, HOOK, answer(500, CALLING + POST + "net/http: TLS handshake timeout")),
    (
        Refusal.TIMEOUT,
        HOOK,
        answer(500, CALLING + POST + "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"),
    ),
    (
        Refusal.WEBHOOK_NO_DRY_RUN,
        HOOK,
        answer(400, f'admission webhook "{HOOK}" does not support dry run', "BadRequest"),
    ),
    (
        Refusal.ADMISSION,
        "limit",
        answer(
            422,
            'deployments.apps "trainer" is forbidden: ValidatingAdmissionPolicy \'limit\' with binding \'all\' denied request: '
            "no more than 4",
            "Invalid",
        ),
    ),
    (
        Refusal.ADMISSION,
        "limit",
        answer(
            403,
            "deployments.apps \"trainer\" is forbidden: ValidatingAdmissionPolicy 'limit' with binding 'all' denied request: "
            'they cannot patch resource "x"',
            "Forbidden",
        ),
    ),
    (
        Refusal.ADMISSION,
        "label",
        answer(403, "policy 'label' with binding 'all' denied request: JSON Patch: remove operation does not apply", "Invalid"),
    ),
    (
        Refusal.ADMISSION,
        None,
        answer(
            403,
            'deployments.apps "trainer" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: '
            "count/deployments.apps=1, limited: count/deployments.apps=1",
            "Forbidden",
        ),
    ),
    (
        Refusal.ADMISSION,
        None,
        answer(
            403,
            'deployments.apps "trainer" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource '
            "you can't set finalizers on",
            "Forbidden",
        ),
    ),
    # Names and rights.
    (Refusal.NAMESPACE_MISSING, None, answer(404, 'namespaces "ml" not found', "NotFound", name="ml", kind="namespaces")),
    (
        Refusal.NAMESPACE_MISSING,
        None,
        answer(
            403,
            'deployments.apps "trainer" is forbidden: unable to create new content in namespace ml because it is being terminated',
            "Forbidden",
        ),
    ),
    (Refusal.KIND_MISSING, None, ApplyAnswer(404, {"message": "404 page not found"})),
    (Refusal.KIND_MISSING, None, answer(404, "the server could not find the requested resource", "NotFound")),
    (
        Refusal.RBAC,
        None,
        answer(
            403,
            'deployments.apps "trainer" is forbidden: User "system:serviceaccount:ml:reader" cannot patch resource "deployments" '
            'in API group "apps" in the namespace "ml"',
            "Forbidden",
        ),
    ),
    (Refusal.RBAC, None, answer(401, "Unauthorized", "Unauthorized")),
    (Refusal.FIELD_CONFLICT, "tuner", conflicting(("tuner", KNOB_FIELD), ("hpa", ".spec.replicas"))),
    # The server itself.
    (Refusal.TIMEOUT, None, answer(504, "Timeout: request did not complete within the allotted timeout", "Timeout")),
    (Refusal.TIMEOUT, None, answer(500, "etcdserver: request timed out")),
    (Refusal.TIMEOUT, None, answer(429, "Too many requests, please try again later.", "TooManyRequests")),
    (Refusal.TIMEOUT, None, answer(503, "the server is currently unable to handle the request", "ServiceUnavailable")),
    (Refusal.OTHER, None, answer(409, "the object has been modified; please apply your changes to the latest version")),
    (Refusal.OTHER, None, answer(500, "etcdserver: leader changed")),
    (Refusal.OTHER, None, answer(415, "the body of the request was in an unknown format", "UnsupportedMediaType")),
    (Refusal.OTHER, None, answer(500, None)),
    (Refusal.OTHER, None, ApplyAnswer(500, {})),
]  # fmt: skip


@pytest.mark.parametrize(("refusal", "by", "said"), SAID, ids=[f"{i}-{r}" for i, (r, _, _) in enumerate(SAID)])
def test_wordings(refusal: Refusal, by: str | None, said: ApplyAnswer) -> None:
    told = explain(said, "server")
    assert (told.refusal, told.by, told.status) == (refusal, by, said.status)
    assert (told.attempted, told.ok, told.mode, told.remedy) == (True, False, "server", REMEDIES[refusal])
    assert told.message
    assert told.reason


def test_every_refusal_has_a_remedy() -> None:
    assert set(REMEDIES) == set(Refusal)


def test_accepted() -> None:
    told = explain(ApplyAnswer(200, {"kind": "Deployment", "message": "not a status"}), "server")
    assert (told.ok, told.refusal, told.message, told.status) == (True, None, "accepted", 200)


def test_words_are_cut_to_one_line() -> None:
    told = explain(answer(500, "a\n  b\t" + "c" * 1000), "server")
    assert told.message.startswith("a b c")
    assert len(told.message) == 600
    assert told.message.endswith("c…")
    assert told.reason == "Unknown"


def test_no_answer() -> None:
    assert unanswered("silent", "server", timed_out=True).refusal is Refusal.TIMEOUT
    told = unanswered("refused", "server", timed_out=False)
    assert (told.refusal, told.ok, told.status, told.reason) == (Refusal.UNREACHABLE, False, None, "NoAnswer")


class TestConflicts:
    def test_of_a_scale(self) -> None:
        cause = {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kube-controller-manager" with subresource "scale" using apps/v1',
            "field": ".spec.replicas",
        }
        found = conflicts(answer(409, "Apply failed with 1 conflict", "Conflict", causes=[cause]))
        assert found == (Conflict("kube-controller-manager", ".spec.replicas"),)
        assert foreign(found) == found

    def test_only_of_that_kind(self) -> None:
        causes = [
            {"reason": "UnexpectedServerResponse", "message": 'conflict with "x"'},
            {"reason": "FieldManagerConflict"},
        ]
        # One whose manager can't be read is a conflict all the same.
        assert conflicts(answer(409, "", causes=causes)) == (Conflict("unknown", ""),)
        held = conflicting(("x", ".spec"))
        assert conflicts(ApplyAnswer(200, held.body)) == ()

    def test_with_those_that_apply_what_stands_in_git(self) -> None:
        found = (Conflict("argocd-controller", "a"), Conflict("tuner", "b"), Conflict("before-first-apply", "c"))
        assert foreign(found) == (Conflict("tuner", "b"),)
        assert foreign(found, GITOPS_MANAGERS | {"tuner"}) == ()

    @given(objects.damaged(dict(conflicting(("tuner", KNOB_FIELD)).body)), st.sampled_from([400, 403, 404, 409, 500]))
    def test_nothing_raises(self, body: dict[str, Any], status: int) -> None:
        told = explain(ApplyAnswer(status, body), "server")
        assert told.remedy == REMEDIES[told.refusal or Refusal.OTHER]


class TestManagers:
    PATH = ("spec", "template", "metadata", "annotations", "modekeeper/knob.concurrency")

    def test_by_name(self) -> None:
        live = objects.deployment(
            managers={"tuner": ("concurrency",), "hpa": (), "argocd-controller": ("concurrency",)}
        )
        assert managers_of(live, self.PATH) == ("argocd-controller", "tuner")
        assert managers_of(live, (*self.PATH[:-1], "modekeeper/knob.timeout_ms")) == ()

    def test_without_a_name(self) -> None:
        live = objects.deployment(managers={"tuner": ("concurrency",)})
        live["metadata"]["managedFields"][0]["manager"] = None
        assert managers_of(live, self.PATH) == ("unknown",)

    def test_absent(self) -> None:
        assert managers_of({}, self.PATH) == ()
        assert managers_of({"metadata": {"managedFields": None}}, self.PATH) == ()

    @given(objects.damaged(objects.deployment(managers={"a": ("concurrency",), "b": ("concurrency",)})))
    def test_nothing_raises(self, live: dict[str, Any]) -> None:
        assert set(managers_of(live, self.PATH)) <= {"a", "b", "unknown", "text"}
