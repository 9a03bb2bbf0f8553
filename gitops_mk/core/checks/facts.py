"""Everything verify looks at, collected before the first step is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from gitops_mk.core import places, yamldocs
from gitops_mk.core.config_map import carrier_of
from gitops_mk.core.dryrun import Compared, compare
from gitops_mk.core.enrolment import admitted, world_size
from gitops_mk.core.policy import Policy
from gitops_mk.core.refusals import GITOPS_MANAGERS
from gitops_mk.core.render.paths import PLAN_SUFFIX, plan_path
from gitops_mk.errors import InputError
from gitops_mk.model.change import AppliedChange, PullRequest
from gitops_mk.model.cluster import ClusterWord
from gitops_mk.model.git import CommitInfo, PathChange
from gitops_mk.model.knob import KNOWN_KNOBS
from gitops_mk.model.passport import Passport
from gitops_mk.model.plan import PatchTarget, Plan
from gitops_mk.model.settings import RepoSettings, WorkloadSettings
from gitops_mk.model.workload import Carrier, KnobMap

PLAN_MAX_BYTES = 512 * 1024


@dataclass(frozen=True)
class Facts:
    """`tree` is what merging `head` into `base` gives (None: they conflict), and what is judged as the result.

    `changes` and `head_files` are that tree's against the base's. `special` are the paths, in either, that are links or
    submodules. A failed build or a missing target carries its words in `…_error`. `policy` is the base's own.
    `cluster` is what a cluster said; None where none was consulted.
    `prs` are all pull requests, which say what people hold and released; None where there is no forge to ask, as in CI.
    """

    base: str
    head: str
    tree: str | None
    now: datetime
    changes: tuple[PathChange, ...] = ()
    commits: tuple[CommitInfo, ...] = ()
    base_files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    head_files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    special: frozenset[str] = frozenset()
    policy: Policy | None = None
    policy_error: str = ""
    base_build: str | None = field(default=None, repr=False)
    base_build_error: str = ""
    head_build: str | None = field(default=None, repr=False)
    head_build_error: str = ""
    target: PatchTarget | None = None
    target_error: str = ""
    applied: tuple[AppliedChange, ...] = ()
    prs: tuple[PullRequest, ...] | None = None
    cluster: ClusterWord | None = field(default=None, repr=False)

    @cached_property
    def workload(self) -> WorkloadSettings | None:
        """The one workload whose decision record the change brings, listed or open to discovery; None for none, or several.

        One that is not listed must also be enrolled by what the base builds: step 1 asks.
        """
        if self.policy is None:
            return None
        settings = self.policy.settings
        changed = {change.path for change in self.changes}
        touched = [w for w in settings.workloads if plan_path(w.overlay, w.ref.slug) in changed]
        listed = {plan_path(w.overlay, w.ref.slug) for w in touched}
        others = sorted(path for path in changed - listed if path.endswith(PLAN_SUFFIX))
        if len(touched) + len(others) != 1:
            return None
        return touched[0] if touched else self._discovered(settings, others[0])

    def _discovered(self, settings: RepoSettings, path: str) -> WorkloadSettings | None:
        plan = self._record(path)
        if isinstance(plan, str) or plan_path(plan.overlay, plan.workload.slug) != path:
            return None
        return admitted(settings, plan.workload, plan.overlay)

    @cached_property
    def plan_or_error(self) -> Plan | str:
        """The decision record the change brings, or why it can't be read."""
        if self.workload is None:
            return "the change brings no decision record of a configured workload"
        return self._record(plan_path(self.workload.overlay, self.workload.ref.slug))

    def _record(self, path: str) -> Plan | str:
        text = self.head_files.get(path)
        if text is None:
            return f"{path} is not a regular file"
        if len(text) > PLAN_MAX_BYTES:
            return f"{path} has {len(text)} bytes, expected at most {PLAN_MAX_BYTES}"
        try:
            return Plan.parse_json(text, what=path)
        except InputError as exc:
            return exc.message

    @property
    def plan(self) -> Plan | None:
        """The decision record, if it can be read."""
        found = self.plan_or_error
        return found if isinstance(found, Plan) else None

    @cached_property
    def passport(self) -> Passport | None:
        """The workload's passport as it stands on the base."""
        if self.policy is None or self.workload is None:
            return None
        try:
            return self.policy.passport(self.workload)
        except InputError:
            return None

    @cached_property
    def compared(self) -> Compared | None:
        """The two server-side dry-runs, compared; None where no cluster was consulted."""
        if self.cluster is None or self.policy is None:
            return None
        managers = GITOPS_MANAGERS | frozenset(self.policy.settings.cluster.field_managers)
        return compare(self.cluster.base, self.cluster.head, managers=managers)

    @cached_property
    def world_size(self) -> int:
        """The workload's data-parallel workers, as the base has it."""
        if self.workload is None or self.passport is None:
            return 1
        try:
            return world_size(self.workload, self.passport, self.base_build)
        except InputError:
            return 1

    @cached_property
    def carrier_or_error(self) -> Carrier | str | None:
        """The object that carries the workload's knobs, as the base has it; or why that is none to deliver by.

        None without a workload.
        """
        if self.workload is None or self.policy is None:
            return None
        try:
            return carrier_of(self.policy.settings, self.workload, self.base_build)
        except InputError as exc:
            return exc.message

    @property
    def carrier(self) -> Carrier | None:
        """The same object, where it can be told."""
        found = self.carrier_or_error
        return None if isinstance(found, str) else found

    @cached_property
    def base_knobs(self) -> dict[str, int]:
        """The workload's knobs as the base builds them; none where that can't be read, which step 6 says."""
        return self._knobs(self.base_build)

    @cached_property
    def head_knobs(self) -> dict[str, int]:
        """The workload's knobs as the merged tree builds them; none where that can't be read."""
        return self._knobs(self.head_build)

    def _knobs(self, build: str | None) -> dict[str, int]:
        try:
            return built_knobs(build, self.carrier)
        except InputError:
            return {}


def built_knobs(build: str | None, ref: Carrier | None) -> dict[str, int]:
    """The knobs on the pod templates of a workload, or in a ConfigMap, in what kustomize built; none when it is not in there.

    Raises InputError for an annotation that is no text, and for a ConfigMap's built-in knob that is no decimal integer.
    """
    if build is None or ref is None:
        return {}
    leaves = yamldocs.find_document(build, ref.api_version, ref.kind, ref.namespace, ref.name)
    if leaves is None:
        return {}
    return document_knobs(leaves)


def document_knobs(leaves: yamldocs.Leaves) -> dict[str, int]:
    """The knobs of one built object. Raises InputError as `built_knobs` does."""
    kind = leaves.id.kind
    if kind == KnobMap.kind:
        return _data_knobs(leaves)
    texts: dict[places.Path, str] = {}
    for place in places.carriers(kind, leaves.leaves):
        texts |= {(*place, key): text for key, text in yamldocs.annotations_of(leaves, place).items()}
    return places.knobs_at(kind, texts)


def _data_knobs(leaves: yamldocs.Leaves) -> dict[str, int]:
    data = {path: leaf for path, leaf in leaves.leaves.items() if path[:-1] == places.DATA}
    # What a ConfigMap holds besides is nobody's business; unquoted, a number is none of its values.
    found = places.knobs_at(leaves.id.kind, {path: leaf.text for path, leaf in data.items() if leaf.type == "str"})
    for knob in KNOWN_KNOBS:
        leaf = data.get(places.knob_path(places.DATA, knob))
        if leaf is not None and knob not in found:
            raise InputError(f"{leaves.id}: data.{knob} is {leaf}, expected a decimal integer in quotes")
    return found


def planned_places(plan: Plan) -> tuple[places.Path, ...]:
    """The maps that the plan's patch sets its knobs in: of annotations, or a ConfigMap's data."""
    if plan.target.config_map is not None:
        return (places.DATA,)
    if plan.target.places:
        return tuple(places.parse_pointer(text) for text in plan.target.places)
    return (places.OBJECT, places.TEMPLATE)
