"""Gather what is known of a workload before anything is decided: its files, its values, its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gitops_mk.core.checks.facts import built_knobs
from gitops_mk.core.config_map import carrier_of
from gitops_mk.core.documents import parse_json
from gitops_mk.core.enrolment import LABEL_ENABLED, admitted, is_enrolled, reach, refused_place, world_size
from gitops_mk.core.ledger import holds, since_rollout, stable_profile
from gitops_mk.core.lessons import lessons
from gitops_mk.core.planner import WorkloadState
from gitops_mk.core.policy import BuiltIn, Policy, load_policy
from gitops_mk.core.render.paths import component_dir, plan_path
from gitops_mk.core.target import find_target
from gitops_mk.errors import ConfigError, InputError
from gitops_mk.model.change import AppliedChange, Person, PullRequest
from gitops_mk.model.plan import PatchTarget, Plan
from gitops_mk.model.settings import RepoSettings, WorkloadSettings
from gitops_mk.model.workload import WorkloadRef
from gitops_mk.ports import Forge, ManifestBuilder


def policy_of(files: Mapping[str, bytes], built_in: BuiltIn) -> Policy:
    """The policy of a tree. Raises ConfigError."""
    return load_policy(files.get, built_in)


def identity_of(settings: RepoSettings) -> Person:
    """Who the controller is."""
    return Person(name=settings.identity.name, email=settings.identity.email)


def choose_workload(settings: RepoSettings, name: str | None) -> WorkloadSettings:
    """The workload `namespace/name` or `namespace/kind/name`; the only one when no name is given. Raises InputError."""
    short = Counter(f"{w.namespace}/{w.name}" for w in settings.workloads)
    known = ", ".join(
        f"{w.namespace}/{w.name}" if short[f"{w.namespace}/{w.name}"] == 1 else f"{w.namespace}/{w.kind}/{w.name}"
        for w in settings.workloads
    )
    if name is None:
        if len(settings.workloads) == 1:
            return settings.workloads[0]
        raise InputError(
            f"{len(settings.workloads)} workloads are configured ({known or 'none'}), expected a choice",
            hint="name one with --workload NAMESPACE/NAME",
        )
    found = [
        w
        for w in settings.workloads
        if name in (w.ref.key, f"{w.namespace}/{w.name}", f"{w.namespace}/{w.kind}/{w.name}")
    ]
    if len(found) > 1:
        fitting = ", ".join(f"{w.namespace}/{w.kind}/{w.name}" for w in found)
        raise InputError(
            f"workload {name!r} fits {len(found)} workloads: {fitting}",
            hint="name the kind too: --workload NAMESPACE/KIND/NAME",
        )
    if not found:
        raise InputError(
            f"workload {name!r} is not configured; configured are {known or 'none'}",
            hint="add it to .modekeeper/config.yaml",
        )
    return found[0]


def configured(settings: RepoSettings, ref: WorkloadRef, overlay: str) -> WorkloadSettings:
    """The settings of a plan's workload, listed or open to discovery. Raises InputError when it is neither."""
    found = admitted(settings, ref, overlay)
    if found is None:
        known = ", ".join(str(w.ref) for w in settings.workloads) or "none"
        raise InputError(
            f"the plan is for {ref}, which the configuration does not know; configured are {known}",
            hint="add it to .modekeeper/config.yaml on the base branch",
        )
    return found


def workload_state(
    files: Mapping[str, bytes],
    policy: Policy,
    workload: WorkloadSettings,
    builder: ManifestBuilder,
    *,
    applied: tuple[AppliedChange, ...] = (),
    prs: tuple[PullRequest, ...] = (),
    stable: Mapping[str, int] | None = None,
) -> WorkloadState:
    """A workload as the base branch has it. Raises InputError, ConfigError and ManifestError."""
    ref = workload.ref
    built = builder.build(files, workload.overlay)
    carrier = carrier_of(policy.settings, workload, built)
    target = find_target(builder, files, workload.overlay, carrier)
    if not is_enrolled(policy.settings, ref, built):
        raise InputError(
            f"{ref} is not listed in .modekeeper/config.yaml, and {workload.overlay!r} does not build it with the label "
            f'{LABEL_ENABLED}: "true"',
            hint="list it, or set the label in Git: one on the live object alone enrols nothing",
        )
    refused = refused_place(policy.settings, workload, files, built)
    if refused:
        raise InputError(f"{ref}: {refused}", hint="see `scope` in docs/verify.md: its values can't stand there")
    knobs = built_knobs(built, carrier)
    path = plan_path(workload.overlay, ref.slug)
    text = files.get(path)
    record = parse_json(Plan, text, what=path) if text is not None else None
    if record is not None:
        _refuse_moved(record, target)
    mine = tuple(change for change in applied if change.workload == ref.key)
    passport = policy.passport(workload)
    said_no = holds(prs, mine, {ref.key: knobs}, identity=identity_of(policy.settings))
    return WorkloadState(
        ref=ref,
        overlay=workload.overlay,
        target=target,
        knobs=knobs,
        pinned=frozenset(record.knobs) if record is not None else frozenset(),
        world_size=world_size(workload, passport, built),
        catalog=policy.catalog,
        passport=passport,
        config_sha256=policy.settings.sha256,
        applied=mine,
        holds=tuple(hold for hold in said_no if hold.workload == ref.key),
        reach=reach(ref, built),
        total_steps=workload.total_steps,
        lessons=lessons(record, prs, ref.key),
        stable_profile=stable if stable is not None else stable_profile(mine, knobs),
    )


def _refuse_moved(record: Plan, target: PatchTarget) -> None:
    """Raises InputError where the values that stand in the component go another way than the configuration says now.

    A plan that took their place would take them back along: more than it says.
    """
    old = record.target
    if old.delivery != target.delivery:
        stands, means = f"by {old.delivery}", f"says {target.delivery}"
    elif old.delivery == "configmap" and (old.name, old.namespace) != (target.name, target.namespace):
        stands, means = f"in ConfigMap {old.name}", f"means {target.name}"
    else:
        return
    folder, slug = component_dir(record.overlay), record.workload.slug
    raise InputError(
        f"{record.workload}: {folder} sets its knobs {stands}, the configuration {means}",
        hint=f"move the values by a commit of your own: into the base, and {slug}.* out of {folder} with its `patches:` entry",
    )


def state_on_base(
    forge: Forge, files: Mapping[str, bytes], policy: Policy, workload: WorkloadSettings, builder: ManifestBuilder
) -> WorkloadState:
    """The same with the history that git and the forge keep."""
    prs = forge.list_prs()
    applied = since_rollout(forge.applied(workload.ref.key), prs)
    return workload_state(files, policy, workload, builder, applied=applied, prs=prs)


def required_approvals(policy: Policy, workload: WorkloadSettings) -> int:
    """How many approvals the base asks for. Raises ConfigError."""
    asked = policy.settings.forge.required_approvals
    return policy.passport(workload).gates.approvals if asked is None else asked


def check_base_branch(settings: RepoSettings, branch: str) -> None:
    """Raises ConfigError when the configuration names another base branch than the one it was read from."""
    if settings.base_branch != branch:
        raise ConfigError(
            f".modekeeper/config.yaml on {branch} says base_branch {settings.base_branch!r}",
            hint="make the two agree, so that everybody means the same branch",
        )
