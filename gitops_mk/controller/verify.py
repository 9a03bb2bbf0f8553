"""Verify: gather the facts of one pair of commits, then let `core.checks` judge them. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

from gitops_mk.controller.consult import ask, built_documents, look
from gitops_mk.controller.reading import Reading, read
from gitops_mk.core.checks.facts import Facts
from gitops_mk.core.checks.registry import CLUSTER_STEPS, STEPS, verify
from gitops_mk.core.ledger import since_rollout
from gitops_mk.core.policy import BuiltIn, Policy, load_policy
from gitops_mk.core.target import find_target
from gitops_mk.errors import GitError, InputError, ManifestError
from gitops_mk.model.annotation import Annotation
from gitops_mk.model.change import VERIFY_CHECK, AppliedChange, Check, PullRequest
from gitops_mk.model.cluster import ClusterWord
from gitops_mk.model.gate import VerifyOutcome
from gitops_mk.model.plan import PatchTarget
from gitops_mk.model.settings import WorkloadSettings
from gitops_mk.model.times import format_time
from gitops_mk.model.workload import Carrier, KnobMap
from gitops_mk.ports import Clock, Cluster, Forge, ManifestBuilder, Repo


def verify_commits(
    repo: Repo,
    base: str,
    head: str,
    *,
    builder: ManifestBuilder,
    built_in: BuiltIn,
    applied: tuple[AppliedChange, ...],
    now: datetime,
    prs: tuple[PullRequest, ...] | None = None,
    cluster: Cluster | None = None,
    reading: Reading | None = None,
) -> VerifyOutcome:
    """Verify what merging `head` into `base` would do. Both are SHAs; `reading` is what git said of them, where it was asked."""
    facts = gather(
        repo,
        base,
        head,
        builder=builder,
        built_in=built_in,
        applied=applied,
        now=now,
        prs=prs,
        cluster=cluster,
        reading=reading,
    )
    return verify(facts)


def gather(
    repo: Repo,
    base: str,
    head: str,
    *,
    builder: ManifestBuilder,
    built_in: BuiltIn,
    applied: tuple[AppliedChange, ...],
    now: datetime,
    prs: tuple[PullRequest, ...] | None = None,
    cluster: Cluster | None = None,
    reading: Reading | None = None,
) -> Facts:
    """Everything the steps look at. What can't be had is told in the facts, so that a step can say no to it."""
    # git is asked side by side: each answer is a process of its own.
    with ThreadPoolExecutor(1) as pool:
        log = pool.submit(repo.log, head, first_parent=False, exclude=base, limit=50)
        found = reading or read(repo, base, head)
        policy, policy_error = _policy(found.base_files, built_in)
        commits = log.result()
    if found.tree is None:
        return Facts(
            base=base, head=head, tree=None, now=now, commits=commits, policy=policy, policy_error=policy_error
        )
    facts = Facts(
        base=base,
        head=head,
        tree=found.tree,
        now=now,
        changes=found.changes,
        commits=commits,
        base_files=found.base_files,
        head_files=found.head_files,
        special=found.special,
        policy=policy,
        policy_error=policy_error,
        applied=applied,
        prs=prs,
    )
    if facts.workload is None:
        return facts
    asked = cluster if policy is not None and policy.settings.cluster.consult != "never" else None
    if asked is None:
        return _with_builds(facts, facts.workload, builder)
    ref = facts.workload.ref
    # The cluster's first answers come while kustomize builds.
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(look, asked, ref)
        built = _with_builds(facts, facts.workload, builder)
        carrier = built.carrier or ref
        return _with_cluster(built, carrier, asked, seen.result() if carrier == ref else look(asked, carrier))


def _with_cluster(facts: Facts, ref: Carrier, cluster: Cluster, seen: ClusterWord) -> Facts:
    """The facts with the cluster's word."""
    try:
        base, head = built_documents(facts.base_build, facts.head_build, ref)
    except InputError:
        # Two documents of one name: step 6 says so.
        base = head = None
    return replace(facts, cluster=ask(cluster, ref, base, head, seen=seen))


def _policy(files: Mapping[str, bytes], built_in: BuiltIn) -> tuple[Policy | None, str]:
    try:
        return load_policy(files.get, built_in), ""
    except InputError as exc:
        return None, exc.message


def _with_builds(facts: Facts, workload: WorkloadSettings, builder: ManifestBuilder) -> Facts:
    with ThreadPoolExecutor(2) as pool:
        base, head = (
            pool.submit(_build, builder, files, workload.overlay) for files in (facts.base_files, facts.head_files)
        )
        # Read while kustomize works: the first record of a process takes as long as its model takes to be made.
        _ = facts.plan
        (base_build, base_error), (head_build, head_error) = base.result(), head.result()
    target: PatchTarget | None = None
    target_error = base_error
    built = replace(facts, base_build=base_build)
    carrier = built.carrier
    if isinstance(built.carrier_or_error, str):
        target_error = built.carrier_or_error
    elif carrier is not None and base_build is not None and (isinstance(carrier, KnobMap) or not carrier.templated):
        try:
            target = find_target(builder, facts.base_files, workload.overlay, carrier)
        except (InputError, ManifestError) as exc:
            target_error = exc.message
    return replace(
        facts,
        base_build=base_build,
        base_build_error=base_error,
        head_build=head_build,
        head_build_error=head_error,
        target=target,
        target_error=target_error,
    )


def _build(builder: ManifestBuilder, files: Mapping[str, bytes], overlay: str) -> tuple[str | None, str]:
    try:
        return builder.build(files, overlay), ""
    except (InputError, ManifestError) as exc:
        return None, exc.message


def verify_pr(
    forge: Forge,
    pr: PullRequest,
    *,
    builder: ManifestBuilder,
    built_in: BuiltIn,
    clock: Clock,
    cluster: Cluster | None = None,
) -> VerifyOutcome:
    """Verify a pull request as it stands. Raises InputError when its branch is gone."""
    if pr.head_sha is None:
        raise InputError(f"#{pr.number}: branch {pr.branch} is gone, there is nothing to verify")
    prs = forge.list_prs()
    return verify_commits(
        forge.repo,
        forge.base_tip(),
        pr.head_sha,
        builder=builder,
        built_in=built_in,
        applied=since_rollout(forge.applied(), prs),
        now=clock.now(),
        prs=prs,
        cluster=cluster,
    )


def record_check(forge: Forge, pr: PullRequest, outcome: VerifyOutcome, *, clock: Clock) -> PullRequest:
    """Write the outcome on the pull request, bound to the commits it is about; not again what stands there already."""
    check = Check(
        name=VERIFY_CHECK,
        commit=outcome.head,
        base=outcome.base,
        plan_digest=outcome.plan_digest,
        conclusion="success" if outcome.ok else "failure",
        summary=f"{len(outcome.steps)} steps passed" if outcome.ok else f"{outcome.reason}: {outcome.message}",
        tree=outcome.tree,
        at=format_time(clock.now()),
    )
    newest = pr.newest_check(VERIFY_CHECK, outcome.head)
    if newest is not None and newest.model_copy(update={"at": check.at}) == check:
        return pr
    return forge.add_check(pr.number, check, annotations=_remarks(forge.repo, outcome))


def _remarks(repo: Repo, outcome: VerifyOutcome) -> Sequence[Annotation]:
    """Where in the change the steps that said no found it."""
    if outcome.ok or outcome.tree is None:
        return ()
    from gitops_mk.core.workflow import annotate

    try:
        return annotate(outcome, repo.diff(outcome.base, outcome.tree), repo.files(outcome.tree))
    except GitError:
        # A tree too large to read; the check says so without them.
        return ()


def verify_payload(outcome: VerifyOutcome) -> dict[str, object]:
    """`verify_latest.json`."""
    return {
        "ok": outcome.ok,
        "verify_ok": outcome.ok,
        "base": outcome.base,
        "head": outcome.head,
        "tree": outcome.tree,
        "plan_digest": outcome.plan_digest,
        "workload": outcome.workload,
        "reason": outcome.reason,
        "message": outcome.message,
        "cluster": outcome.cluster.plain() if outcome.cluster is not None else "not consulted",
        "steps": [
            {"number": number, "id": ident, **verdict.plain()}
            for (number, ident, _), verdict in zip(STEPS + CLUSTER_STEPS, outcome.steps, strict=False)
        ],
    }
