"""Plans: what the product wants to change, why, and under which policy; and the `k8s_plan.json` shape of it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from gitops_mk.model.base import Frozen
from gitops_mk.model.canonical import digest, dumps_pretty
from gitops_mk.model.chord import ChordId, InvariantName
from gitops_mk.model.knob import KnobChange, KnobName, KnobValue, annotation_key
from gitops_mk.model.settings import RepoPath
from gitops_mk.model.signal import Observation
from gitops_mk.model.verdict import Reason
from gitops_mk.model.weighing import Lesson, Weighing
from gitops_mk.model.workload import (
    API_VERSIONS,
    TEMPLATED_KINDS,
    Carrier,
    Delivery,
    DnsName,
    KnobMap,
    WorkloadKind,
    WorkloadRef,
)

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Timestamp = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]

_PLACE = re.compile(r"(/[^/\s\x00-\x1f\x7f\"'{}\[\]#&*!|>%@`,:]{1,200}){1,16}\Z")


def _place(value: str) -> str:
    # Not pydantic's own pattern: its engine writes counted repetitions out, and takes 35 ms to make this one.
    if not _PLACE.match(value):
        raise ValueError(f"{value[:80]!r} is no pointer to a map of annotations")
    return value


class InvariantState(Frozen):
    """An invariant's value before and after the plan, and whether it is kept within `tolerance_pct`."""

    name: InvariantName
    before: int
    after: int
    tolerance_pct: float = 0.0
    formula: str = ""

    @property
    def kept(self) -> bool:
        """True when the value stays within the corridor; read-ahead, which guards the tail, may also grow."""
        if self.name is InvariantName.TAIL_LATENCY and self.after >= self.before:
            return True
        return abs(self.after - self.before) * 100.0 <= self.tolerance_pct * self.before


class Action(Frozen):
    """One proposed application of a chord to a workload, before judgement. No changes: a hold."""

    workload: WorkloadRef
    chord: ChordId
    changes: tuple[KnobChange, ...]
    invariants: tuple[InvariantState, ...] = ()
    rationale: str = ""
    # Why no targets could be computed, where that is so, and the reason the envelope gives for it.
    unsolved: str | None = None
    unsolved_reason: Reason | None = None

    @model_validator(mode="after")
    def _one_move_a_knob(self) -> Self:
        names = [c.knob for c in self.changes]
        if len(names) != len(set(names)):
            raise ValueError("a knob moves twice in one action")
        return self

    @property
    def is_hold(self) -> bool:
        """True when the action means to change nothing."""
        return not self.changes and self.unsolved is None


class PolicyDigests(Frozen):
    """The policy a plan was made under; verify compares these with what stands on the base branch."""

    catalog_sha256: Sha256
    passport_id: str
    passport_sha256: Sha256
    config_sha256: Sha256


class PatchTarget(Frozen):
    """The target as a component sees it: before the overlay's own prefix, suffix and namespace (ADR 0003).

    `places`: for kinds without `spec.template`, the annotation maps that carry the knobs, as JSON pointers (RFC 6901).
    `config_map`: where a ConfigMap is the target (ADR 0019), its name as the overlay builds it.
    """

    api_version: str
    kind: WorkloadKind | Literal["ConfigMap"]
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}$")]
    namespace: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}$")] | None = None
    places: tuple[Annotated[str, AfterValidator(_place)], ...] = ()
    config_map: DnsName | None = None

    @model_validator(mode="after")
    def _where(self) -> Self:
        expected = API_VERSIONS.get(self.kind, KnobMap.api_version)
        if self.api_version != expected:
            raise ValueError(f"api_version {self.api_version!r}, expected {expected!r} for a {self.kind}")
        if (self.kind == KnobMap.kind) != (self.config_map is not None):
            raise ValueError(f"config_map {self.config_map!r} for a {self.kind}, expected one for a ConfigMap only")
        if (self.kind in TEMPLATED_KINDS or self.kind == KnobMap.kind) == bool(self.places):
            raise ValueError(
                f"a {self.kind} has {len(self.places)} places, expected them for kinds without spec.template only"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Records and digests of plans that set annotations are what they were before there was another way.
        plain: dict[str, Any] = handler(self)
        if self.config_map is None:
            del plain["config_map"]
        return plain

    @property
    def delivery(self) -> Delivery:
        """How the values reach the workload."""
        return "annotation" if self.config_map is None else "configmap"

    def carrier(self, workload: WorkloadRef) -> Carrier:
        """The object that is patched, as the overlay builds it and the cluster knows it."""
        return workload if self.config_map is None else KnobMap(namespace=workload.namespace, name=self.config_map)


class Plan(Frozen):
    """The decision record `<workload>.plan.json`, committed beside the values it explains.

    `knobs` are all values the component pins after the change. `digest` covers the decision and the policy, not the
    evidence nor the time: the same decision made again is the same plan.
    """

    schema_version: Literal["plan.v1"] = "plan.v1"
    workload: WorkloadRef
    overlay: RepoPath
    target: PatchTarget
    chord: ChordId
    approved_advanced: bool = False
    changes: Annotated[tuple[KnobChange, ...], Field(min_length=1)]
    knobs: dict[KnobName, KnobValue]
    invariants: tuple[InvariantState, ...]
    policy: PolicyDigests
    rollback_of: Sha256 | None = None
    world_size: Annotated[int, Field(ge=1)] = 1
    stable_intervals: Annotated[int, Field(ge=0)] = 0
    rationale: str
    observation: Observation
    weighing: Weighing | None = None
    lessons: tuple[Lesson, ...] = ()
    created_at: Timestamp
    mk_version: str
    digest: Sha256

    @classmethod
    def make(cls, **fields: Any) -> Plan:
        """A plan with its digest computed."""
        draft = cls(**fields, digest="0" * 64)
        return draft.model_copy(update={"digest": draft.compute_digest()})

    def compute_digest(self) -> str:
        """The digest of the decision: what, where, from which values, under which policy."""
        return digest(
            {
                "schema_version": self.schema_version,
                "workload": self.workload.plain(),
                "overlay": self.overlay,
                "target": self.target.plain(),
                "chord": self.chord,
                "approved_advanced": self.approved_advanced,
                "changes": [c.plain() for c in sorted(self.changes, key=lambda c: c.knob)],
                "knobs": dict(self.knobs),
                "policy": self.policy.plain(),
                "rollback_of": self.rollback_of,
            }
        )

    @property
    def promised(self) -> float | None:
        """The share of a step's time that it promises to save; None for a plan that promises no time."""
        return self.weighing.share if self.weighing is not None and self.weighing.gain.weighed else None

    def to_text(self) -> str:
        """The bytes of `<workload>.plan.json`."""
        return dumps_pretty(self.plain())

    @property
    def carrier(self) -> Carrier:
        """The object that the plan patches: the workload, or the ConfigMap that carries its knobs."""
        return self.target.carrier(self.workload)

    def action(self) -> Action:
        """The action the plan carries out, to be judged again."""
        return Action(
            workload=self.workload,
            chord=self.chord,
            changes=self.changes,
            invariants=self.invariants,
            rationale=self.rationale,
        )


class PlanItem(Frozen):
    """One entry of `k8s_plan.json`: all knobs of one workload, as the patch that sets them on it or on its ConfigMap."""

    apiVersion: str  # noqa: N815 - the name in the file
    kind: str
    namespace: str
    name: str
    patch: dict[str, Any]
    reason: str

    @model_validator(mode="after")
    def _sane(self) -> Self:
        self.ref()
        self.knobs()
        return self

    def ref(self) -> Carrier:
        """Which object it is for. Raises ValueError when that can be neither a workload nor a ConfigMap."""
        named = {"namespace": self.namespace, "name": self.name}
        ref: Carrier
        if self.kind == KnobMap.kind:
            ref = KnobMap.model_validate(named)
        else:
            ref = WorkloadRef.model_validate(named | {"kind": self.kind})
        if ref.api_version != self.apiVersion:
            raise ValueError(f"apiVersion {self.apiVersion!r}, expected {ref.api_version!r} for kind {self.kind}")
        return ref

    def knobs(self) -> dict[str, int]:
        """The knob values it sets. Raises ValueError when the patch sets anything else or the two places differ."""
        if self.kind == KnobMap.kind:
            return self._data()
        templated = self.kind in TEMPLATED_KINDS
        try:
            outer = self.patch["metadata"]["annotations"]
            inner = self.patch["spec"]["template"]["metadata"]["annotations"] if templated else outer
        except (KeyError, TypeError) as exc:
            raise ValueError("patch: expected metadata.annotations and spec.template.metadata.annotations") from exc
        expected: dict[str, Any] = {"metadata": {"annotations": outer}}
        if templated:
            expected["spec"] = {"template": {"metadata": {"annotations": inner}}}
        if self.patch != expected or outer != inner or not isinstance(outer, dict) or not outer:
            raise ValueError("patch: expected the same knob annotations in both places, and nothing else")
        values: dict[str, int] = {}
        for key, text in outer.items():
            knob = _knob(key.removeprefix("modekeeper/knob."), _decimal(key, text))
            if key != annotation_key(knob.knob):
                raise ValueError(f"patch: annotation {key!r} is not a knob")
            values[knob.knob] = knob.after
        return dict(sorted(values.items()))

    def _data(self) -> dict[str, int]:
        data = self.patch.get("data")
        if set(self.patch) != {"data"} or not isinstance(data, dict) or not data:
            raise ValueError("patch: expected knobs under data, and nothing else")
        return {key: _knob(key, _decimal(key, text)).after for key, text in sorted(data.items())}


def _knob(name: str, value: int) -> KnobChange:
    return KnobChange.model_validate({"knob": name, "before": 0, "after": value})


def _decimal(key: str, text: Any) -> int:
    if not isinstance(text, str) or not (text.isascii() and text.isdecimal()) or str(int(text)) != text:
        raise ValueError(f"patch: {key} is {text!r}, expected a decimal integer in quotes")
    return int(text)


def knob_patch(knobs: dict[str, int], *, templated: bool = True) -> dict[str, Any]:
    """The merge patch that sets `knobs` on the object and on its pod template.

    Where that stands in a list or a map of roles, a merge patch can't reach it: only the object is annotated, and what is
    proposed is in the kustomize files.
    """
    annotations = {annotation_key(k): str(v) for k, v in sorted(knobs.items())}
    if not templated:
        return {"metadata": {"annotations": annotations}}
    return {
        "metadata": {"annotations": annotations},
        "spec": {"template": {"metadata": {"annotations": dict(annotations)}}},
    }


def data_patch(knobs: dict[str, int]) -> dict[str, Any]:
    """The merge patch that sets `knobs` in a ConfigMap: each under its bare name, and nothing else."""
    return {"data": {knob: str(value) for knob, value in sorted(knobs.items())}}


def plan_item(action: Action, reason: str, carrier: Carrier | None = None) -> PlanItem:
    """The `k8s_plan.json` entry of an action that changes something; `carrier` is the workload itself where none is given."""
    ref = carrier or action.workload
    knobs = {c.knob: c.after for c in action.changes}
    return PlanItem(
        apiVersion=ref.api_version,
        kind=ref.kind,
        namespace=ref.namespace,
        name=ref.name,
        patch=data_patch(knobs) if isinstance(ref, KnobMap) else knob_patch(knobs, templated=ref.templated),
        reason=reason,
    )
