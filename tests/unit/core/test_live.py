"""What a live workload carries, who owns it, whether it may be planned for now; and how little of its object is kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.dryrun import Compared
from gitops_mk.core.inventory import Found, Home, absent, find, missing, namespaces_of, trim
from gitops_mk.core.live import NotNow, at_rest, foreign_owner, live_knobs
from gitops_mk.core.seen import seen_of
from gitops_mk.core.source import NoSource, Source, SyncObjects, by_name
from gitops_mk.model.cluster import ClusterWord, DryRun
from gitops_mk.model.settings import ClusterSettings, Discovery, RepoSettings, WorkloadSettings
from gitops_mk.model.verdict import Reason
from tests.support import objects
from tests.support.objects import COMMIT, REPO, application, tracked

SOURCE = Source(
    tool="argocd", owner="Application argocd/train", repo_url=REPO, branch="main", overlay="overlays/demo", revision=COMMIT, synced=True
)  # fmt: skip
LISTED = WorkloadSettings(namespace="ml", name="trainer", overlay="overlays/demo")
OPEN = RepoSettings(version="v1", discovery=Discovery(namespaces=("ml",)))
LABEL = {"modekeeper.dev/enabled": "true"}


class TestKnobs:
    def test_of_the_template(self) -> None:
        knobs: dict[str, int | str] = {"concurrency": 8, "timeout_ms": "01", "comm_bucket_mb": "many"}
        live = objects.deployment(knobs, annotations={"modekeeper/knob.dataloader_num_workers": "4"})
        live["spec"]["template"]["metadata"]["annotations"]["modekeeper/knob.microbatch_size"] = 32
        assert live_knobs(live) == {"concurrency": 8}

    def test_no_number_is_too_long_to_be_read(self) -> None:
        assert live_knobs(objects.deployment({"concurrency": "9" * 10_000, "timeout_ms": 2**31 - 1})) == {
            "timeout_ms": 2**31 - 1
        }

    @pytest.mark.parametrize("template", [None, [], {"metadata": None}, {"metadata": {"annotations": ["a"]}}])
    def test_none(self, template: object) -> None:
        assert live_knobs(objects.deployment(spec={"template": template})) == {}


class TestOwners:
    def test_those_that_apply_what_stands_in_git(self) -> None:
        live = objects.deployment(
            managers={"argocd-controller": ("concurrency",), "kustomize-controller": ("concurrency",)}
        )
        assert foreign_owner(live, ["concurrency"]) is None
        assert foreign_owner(objects.deployment(), ["concurrency"]) is None

    def test_others(self) -> None:
        live = objects.deployment(
            managers={"tuner": ("concurrency",), "kubectl-edit": ("concurrency",), "x": ("timeout_ms",)}
        )
        found = foreign_owner(live, ["timeout_ms", "concurrency"])
        assert found is not None
        assert found.reason is Reason.FOREIGN_OWNER
        assert found.message.startswith("concurrency is owned by kubectl-edit, tuner: ")
        assert foreign_owner(live, ["concurrency"], ("tuner", "kubectl-edit")) is None
        assert foreign_owner(live, []) is None


class TestAtRest:
    def reason(self, source: Source | None = SOURCE, **live: Any) -> Reason | None:
        found = at_rest(objects.deployment(**live), source)
        return None if found is None else found.reason

    def test_it_is(self) -> None:
        assert self.reason() is None
        assert self.reason(None) is None

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"suspended": True}, Reason.SUSPENDED),
            ({"moving": "health is Degraded"}, Reason.DEGRADED),
            ({"moving": "a sync is under way"}, Reason.OUT_OF_SYNC),
            ({"synced": False}, Reason.OUT_OF_SYNC),
        ],
    )
    def test_by_its_source(self, change: dict[str, Any], reason: Reason) -> None:
        assert self.reason(SOURCE.model_copy(update=change)) is reason

    def test_by_its_rollout(self) -> None:
        late = [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]
        assert self.reason(spec={"paused": True}) is Reason.SUSPENDED
        assert self.reason(status={"conditions": late}) is Reason.DEGRADED
        assert self.reason(status={"updatedReplicas": 1}) is Reason.ROLLOUT_IN_PROGRESS
        # What Git has comes first: a rollout of something else is no news.
        assert (
            self.reason(SOURCE.model_copy(update={"synced": False}), status={"updatedReplicas": 1})
            is Reason.OUT_OF_SYNC
        )


def judge(
    live: dict[str, Any], app: dict[str, Any] | None = None, settings: RepoSettings = OPEN, *, branch: str = "main"
) -> Found | None:
    known = SyncObjects(by_name([app] if app is not None else []))
    return find(live, known, Home((REPO,), branch, settings))


def judged(*args: Any, **options: Any) -> Found:
    found = judge(*args, **options)
    assert found is not None
    return found


def listing(**over: Any) -> RepoSettings:
    return RepoSettings(version="v1", workloads=(LISTED,), **over)


class TestFind:
    LIVE = objects.deployment(labels=LABEL, annotations=tracked())

    def test_by_its_label(self) -> None:
        found = judged(self.LIVE, application())
        assert (found.not_now, found.knobs, found.source) == (None, {"dataloader_num_workers": 2}, SOURCE)
        assert found.settings is not None
        assert (found.settings.overlay, found.settings.passport, found.ref.key) == (
            "overlays/demo",
            None,
            "ml/deployment-trainer",
        )

    def test_by_the_configuration(self) -> None:
        live = objects.deployment(annotations=tracked())
        assert judged(live, application(), listing()).settings is LISTED
        assert judged(live, application(), listing()).not_now is None

    def test_neither(self) -> None:
        assert judge(objects.deployment(annotations=tracked()), application()) is None
        for value in ("True", "1", "", None, True, ["true"]):
            assert (
                judge(
                    {
                        **self.LIVE,
                        "metadata": {**self.LIVE["metadata"], "labels": {**LABEL, "modekeeper.dev/enabled": value}},
                    }
                )
                is None
            )

    @pytest.mark.parametrize("name", ["x" * 201, "UPPER", None, 7])
    def test_names_that_we_do_not_take(self, name: Any) -> None:
        assert judge({**self.LIVE, "metadata": {**self.LIVE["metadata"], "name": name}}) is None

    @pytest.mark.parametrize("kind", ["Pod", "ReplicaSet", None, ["Deployment"]])
    def test_other_kinds(self, kind: Any) -> None:
        assert judge({**self.LIVE, "kind": kind}) is None

    def test_a_namespace_that_is_shut(self) -> None:
        shut = RepoSettings(version="v1", discovery=Discovery(namespaces=("other",)))
        found = judged(self.LIVE, application(), shut)
        assert found.not_now is not None
        assert (found.not_now.reason, found.settings) == (Reason.NOT_ENABLED, None)

    def test_without_knobs(self) -> None:
        found = judged(objects.deployment({}, labels=LABEL, annotations=tracked()), application())
        assert found.not_now is not None
        assert found.not_now.reason is Reason.UNKNOWN_KNOB

    def test_owned_by_another(self) -> None:
        live = objects.deployment(labels=LABEL, annotations=tracked(), managers={"tuner": ("dataloader_num_workers",)})
        found = judged(live, application())
        assert found.not_now is not None
        assert found.not_now.reason is Reason.FOREIGN_OWNER
        ours = OPEN.model_copy(update={"cluster": ClusterSettings(field_managers=("tuner",))})
        assert judged(live, application(), ours).not_now is None

    def test_not_at_rest(self) -> None:
        found = judged(self.LIVE, application(status={"sync": {"status": "OutOfSync"}}))
        assert found.not_now is not None
        assert found.not_now.reason is Reason.OUT_OF_SYNC

    def test_a_folder_that_no_configuration_could_name(self) -> None:
        odd = application(spec={"source": {"repoURL": REPO, "path": "a:b", "targetRevision": "main"}})
        found = judged(self.LIVE, odd)
        assert found.not_now is not None
        assert (found.not_now.reason, found.settings) == (Reason.NO_SOURCE, None)
        assert "'a:b'" in found.not_now.message


class TestElsewhere:
    LIVE = TestFind.LIVE

    def reason(self, app: dict[str, Any] | None, settings: RepoSettings = OPEN, **options: Any) -> Reason | None:
        found = judged(self.LIVE, app, settings, **options)
        return None if found.not_now is None else found.not_now.reason

    def reading(self, **source: Any) -> dict[str, Any]:
        return application(
            spec={"source": {"repoURL": REPO, "path": "overlays/demo", "targetRevision": "main", **source}}
        )

    def test_no_source(self) -> None:
        assert self.reason(None) is Reason.NO_SOURCE
        # It says that an Application made it, and there is none to be seen: who knows where it comes from.
        assert self.reason(None, listing()) is Reason.NO_SOURCE
        # Where no sync tool claims it, a listed one is taken at the configuration's word.
        assert judged(objects.deployment(), None, listing()).not_now is None

    def test_no_usable_source(self) -> None:
        for settings in (OPEN, listing()):
            assert self.reason(self.reading(chart="trainer"), settings) is Reason.HELM_ONLY
            assert self.reason(self.reading(targetRevision="1.*"), settings) is Reason.PINNED_SOURCE

    def test_another_repository(self) -> None:
        assert (
            self.reason(self.reading(repoURL="https://git.example.invalid/team/other.git")) is Reason.OTHER_REPOSITORY
        )
        assert self.reason(self.reading(repoURL="git@git.example.invalid:team/gitops")) is None

    @pytest.mark.parametrize("branch", ["main", "HEAD", "refs/heads/main", None])
    def test_the_base_branch(self, branch: str | None) -> None:
        assert self.reason(self.reading(targetRevision=branch)) is None

    @pytest.mark.parametrize("branch", ["dev", "v1.2.3", "Main", "deadbeef"])
    def test_another_branch_or_a_tag(self, branch: str) -> None:
        assert self.reason(self.reading(targetRevision=branch)) is Reason.OTHER_REPOSITORY

    def test_another_overlay_than_the_configuration_says(self) -> None:
        assert self.reason(self.reading(path="overlays/other"), listing()) is Reason.AMBIGUOUS_SOURCE
        assert self.reason(self.reading(path="./overlays/demo/"), listing()) is None
        assert self.reason(self.reading(path="overlays/other")) is None


class TestMissing:
    def test_listed_and_not_there(self) -> None:
        (found,) = missing(listing(), (), {})
        assert found == absent(LISTED)
        assert isinstance(found.source, NoSource)
        assert (found.live, found.knobs, found.settings) == (None, {}, LISTED)
        assert missing(listing(), (judged(TestFind.LIVE, application(), listing()),), {}) == ()

    def test_a_list_that_was_not_given_tells_of_nothing_gone(self) -> None:
        (found,) = missing(listing(), (), {("Deployment", "ml"): "may not list", ("Job", "ml"): "no"})
        assert found == absent(LISTED, "may not list")
        assert (found.not_now, found.settings) == (NotNow(Reason.CLUSTER_UNREACHABLE, "may not list"), LISTED)

    def test_namespaces(self) -> None:
        assert namespaces_of(listing(discovery=Discovery(namespaces=("ml", "a")))) == ("a", "ml")


class TestTrim:
    FULL = objects.deployment(
        labels=LABEL,
        annotations={**tracked(), "kubectl.kubernetes.io/last-applied-configuration": "{}" * 1000},
        managers={"argocd-controller": ("dataloader_num_workers",), "other": (), "tuner": ("concurrency",)},
        spec={"minReadySeconds": 5},
    )

    def test_what_is_left_out(self) -> None:
        kept = trim(self.FULL)
        assert set(kept["metadata"]["annotations"]) == set(tracked())
        assert [entry["manager"] for entry in kept["metadata"]["managedFields"]] == ["argocd-controller", "tuner"]
        assert kept["spec"]["template"]["spec"]["containers"] == [{"name": "trainer"}]
        assert "minReadySeconds" not in kept["spec"]
        assert trim(kept) == kept

    def test_a_kind_of_several_templates_keeps_its_spec(self) -> None:
        jobset = {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {},
            "spec": {"replicatedJobs": [{}]},
        }
        assert trim(jobset)["spec"] == jobset["spec"]

    @given(
        st.sampled_from(["Deployment", "StatefulSet", "DaemonSet", "Job"]),
        objects.damaged(FULL, most=2) | st.just(FULL),
        st.booleans(),
    )
    def test_it_is_judged_the_same(self, kind: str, live: dict[str, Any], is_listed: bool) -> None:
        live = {**live, "kind": kind}
        settings = listing() if is_listed else OPEN
        whole, kept = judge(live, application(), settings), judge(trim(live), application(), settings)
        assert (whole is None) == (kept is None)
        if whole is not None and kept is not None:
            assert (whole.not_now, whole.knobs, whole.source, whole.settings) == (
                kept.not_now,
                kept.knobs,
                kept.source,
                kept.settings,
            )


class TestSeen:
    LIVE = objects.deployment()

    def test_what_is_there(self) -> None:
        word = ClusterWord("c", server="https://c", namespace_exists=True, live=self.LIVE, can_get=True, can_patch=True)
        told = seen_of(word, Compared(DryRun(attempted=True, mode="server", ok=True)))
        assert (told.workload_exists, told.uid, told.generation) == (True, "6a1f", 3)
        assert (told.context, told.server, told.can_get, told.can_patch, told.dry_run.ok) == (
            "c",
            "https://c",
            True,
            True,
            True,
        )

    def test_what_is_not(self) -> None:
        told = seen_of(ClusterWord("c", can_get=True), None)
        assert (told.workload_exists, told.uid, told.dry_run.attempted) == (False, None, False)

    def test_what_we_may_not_read_may_be_there(self) -> None:
        assert seen_of(ClusterWord("c", can_get=False), None).workload_exists is None
        assert seen_of(ClusterWord("c", error="refused", can_get=True), None).workload_exists is None

    @given(objects.damaged(LIVE))
    def test_nothing_raises(self, live: dict[str, Any]) -> None:
        assert seen_of(ClusterWord("c", live=live, can_get=True), None).workload_exists
