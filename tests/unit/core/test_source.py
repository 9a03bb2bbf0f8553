"""From a live object to its place in Git: by what Argo CD and Flux say, and by nothing that only looks like it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.source import NoSource, Source, SyncObjects, at_revision, by_name, find_source, same_repository
from gitops_mk.model.cluster import LiveObject
from gitops_mk.model.verdict import Reason
from tests.support import objects
from tests.support.objects import (
    COMMIT,
    FLUX_LABELS,
    OTHER_COMMIT,
    REPO,
    application,
    git_repository,
    kustomization,
    tracked,
)


def found(live: LiveObject, *known: LiveObject, flux: tuple[LiveObject, ...] = ()) -> Source | NoSource:
    """With these Applications, and with a Kustomization and a GitRepository where they are given."""
    return find_source(live, SyncObjects(by_name(known), by_name(flux[:1]), by_name(flux[1:])))


def is_source(answer: Source | NoSource) -> Source:
    assert isinstance(answer, Source), answer
    return answer


def says(answer: Source | NoSource, reason: Reason, word: str) -> None:
    assert isinstance(answer, NoSource), answer
    assert answer.reason is reason, answer
    assert word in answer.message


def argo(**over: Any) -> Source | NoSource:
    return found(objects.deployment(annotations=tracked()), application(**over))


def flux(*, repo: dict[str, Any] | None = None, **over: Any) -> Source | NoSource:
    return found(objects.deployment(labels=FLUX_LABELS), flux=(kustomization(**over), git_repository(**(repo or {}))))


class TestArgoCdClaims:
    def test_by_tracking_id(self) -> None:
        answer = is_source(argo())
        assert answer == Source(
            tool="argocd", owner="Application argocd/train", repo_url=REPO, branch="main", overlay="overlays/demo",
            revision=COMMIT, synced=True,
        )  # fmt: skip

    def test_in_any_namespace(self) -> None:
        live = objects.deployment(annotations=tracked("team-a_train"))
        other = application(namespace="team-b")
        assert is_source(found(live, other, application(namespace="team-a"))).owner == "Application team-a/train"
        says(found(live, other), Reason.NO_SOURCE, "team-a_train:apps")

    def test_two_of_one_name(self) -> None:
        live = objects.deployment(annotations=tracked())
        mine, theirs = application(lists=live), application(namespace="team-a")
        assert is_source(found(live, mine, theirs)).owner == "Application argocd/train"
        says(
            found(live, application(), theirs),
            Reason.AMBIGUOUS_SOURCE,
            "2 Applications claim it: argocd/train, team-a/train",
        )

    @pytest.mark.parametrize(
        "other",
        [
            "apps/Deployment:ml/serving",
            "apps/Deployment:prod/trainer",
            "apps/StatefulSet:ml/trainer",
            "/Deployment:ml/trainer",
        ],
    )
    def test_an_id_that_was_copied(self, other: str) -> None:
        live = objects.deployment(annotations=tracked(object_id=other))
        says(found(live, application()), Reason.NO_SOURCE, "names another object")
        # Not even where the older label says the same.
        live["metadata"]["labels"] = {"app.kubernetes.io/instance": "train"}
        says(found(live, application(lists=live)), Reason.NO_SOURCE, "names another object")

    def test_an_application_that_is_gone(self) -> None:
        says(found(objects.deployment(annotations=tracked())), Reason.NO_SOURCE, "an Application that is not there")

    @pytest.mark.parametrize("key", ["app.kubernetes.io/instance", "argocd.argoproj.io/instance"])
    def test_by_label(self, key: str) -> None:
        live = objects.deployment(labels={key: "train"})
        assert is_source(found(live, application(lists=live))).owner == "Application argocd/train"
        other = application(lists=objects.deployment(name="other"))
        says(found(live, other, application("two")), Reason.NO_SOURCE, "neither Argo CD nor Flux")
        live = objects.deployment(labels={key: "team-a_train"})
        assert is_source(found(live, application(namespace="team-a", lists=live))).owner == "Application team-a/train"

    def test_by_both_labels(self) -> None:
        labels = {"app.kubernetes.io/instance": "train", "argocd.argoproj.io/instance": "train"}
        live = objects.deployment(labels=labels)
        assert is_source(found(live, application(lists=live))).synced

    def test_a_label_of_helm(self) -> None:
        labels = {"app.kubernetes.io/instance": "train", "app.kubernetes.io/managed-by": "Helm"}
        live = objects.deployment(labels=labels, annotations={"meta.helm.sh/release-name": "train"})
        says(found(live, application()), Reason.HELM_ONLY, "Helm release train")

    def test_a_kind_of_another_group(self) -> None:
        volcano = {**objects.deployment(kind="Job"), "apiVersion": "batch.volcano.sh/v1alpha1"}
        live = objects.deployment(kind="Job", labels={"app.kubernetes.io/instance": "train"})
        says(found(live, application(lists=volcano)), Reason.NO_SOURCE, "neither")

    def test_a_broken_id_leaves_it_to_the_label(self) -> None:
        annotations = {"argocd.argoproj.io/tracking-id": "train"}
        live = objects.deployment(labels={"app.kubernetes.io/instance": "train"}, annotations=annotations)
        assert is_source(found(live, application(lists=live))).tool == "argocd"

    def test_two_tools(self) -> None:
        live = objects.deployment(labels=FLUX_LABELS, annotations=tracked())
        answer = found(live, application(), flux=(kustomization(), git_repository()))
        says(
            answer, Reason.AMBIGUOUS_SOURCE, "Application argocd/train and Kustomization flux-system/apps both claim it"
        )


class TestArgoCdSources:
    PLAIN = {"repoURL": REPO, "path": "overlays/demo", "targetRevision": "main"}
    CHART = {"repoURL": "https://charts.example.invalid", "chart": "trainer", "targetRevision": "1.*"}
    VALUES = {"repoURL": "https://git.example.invalid/team/values.git", "ref": "values", "targetRevision": "dev"}

    def several(self, *sources: Any, **status: Any) -> Source | NoSource:
        return argo(spec={"sources": list(sources)}, status=status)

    def test_one_with_a_path_among_several(self) -> None:
        sync = {"status": "Synced", "revisions": ["1.2.3", OTHER_COMMIT, COMMIT]}
        answer = is_source(
            self.several(self.CHART, self.VALUES, self.PLAIN, sync=sync, sourceTypes=["Helm", "", "Kustomize"])
        )
        assert (answer.repo_url, answer.branch, answer.revision) == (REPO, "main", COMMIT)
        # It may lend values, too.
        lending = {**self.PLAIN, "ref": "values"}
        assert is_source(self.several(self.CHART, lending)).overlay == "overlays/demo"

    def test_fewer_revisions_than_sources(self) -> None:
        assert (
            is_source(self.several(self.VALUES, self.PLAIN, sync={"status": "Synced", "revisions": [COMMIT]})).revision
            is None
        )

    def test_several_with_a_path(self) -> None:
        says(self.several(self.PLAIN, {**self.PLAIN, "path": "b"}), Reason.AMBIGUOUS_SOURCE, "2 sources with a path")
        says(argo(spec={"source": None}), Reason.AMBIGUOUS_SOURCE, "0 sources with a path")

    def test_only_charts(self) -> None:
        says(self.several(self.CHART, self.VALUES), Reason.HELM_ONLY, "no source but Helm charts")
        says(argo(status={"sourceType": "Helm"}), Reason.HELM_ONLY, "no source but")
        says(argo(spec={"source": {**self.PLAIN, "helm": {"valueFiles": ["a"]}}}), Reason.HELM_ONLY, "no source but")

    def test_rendered_elsewhere(self) -> None:
        says(argo(spec={"source": {**self.PLAIN, "plugin": {"name": "x"}}}), Reason.RENDERED_SOURCE, "plugin")
        says(argo(status={"sourceType": "Plugin"}), Reason.RENDERED_SOURCE, "plugin")
        dry = {"drySource": {"repoURL": REPO, "path": "a", "targetRevision": "main"}, "syncSource": {"path": "a"}}
        says(argo(spec={"source": None, "sourceHydrator": dry}), Reason.RENDERED_SOURCE, "hydrator")

    @pytest.mark.parametrize(
        "revision",
        [
            COMMIT, "ABCDEF0123" * 4, "3" * 64, "refs/tags/v1.0.0", "refs/pull/7/head", "1.*", "v1.*", "*", "1.x", "v1.2.x", "1.x.x",
            ">=1.0.0 <2.0.0", "^1.2", "~1.2.3", "1.2 - 1.4", "1.2 || 1.4", "=1.2.3",
        ],
    )  # fmt: skip
    def test_pinned(self, revision: str) -> None:
        says(argo(spec={"source": {**self.PLAIN, "targetRevision": revision}}), Reason.PINNED_SOURCE, "and no branch")

    @pytest.mark.parametrize(
        ("revision", "branch"),
        [
            (None, "HEAD"), ("", "HEAD"), ("HEAD", "HEAD"), ("refs/heads/main", "main"), ("release/1.2", "release/1.2"),
            ("feature.x", "feature.x"), ("x", "x"), ("v1.2.3", "v1.2.3"), ("deadbeef", "deadbeef"), ("max", "max"),
        ],
    )  # fmt: skip
    def test_a_name(self, revision: str | None, branch: str) -> None:
        # A tag looks like a branch: whoever asks compares it with the base branch.
        assert is_source(argo(spec={"source": {**self.PLAIN, "targetRevision": revision}})).branch == branch

    @pytest.mark.parametrize(
        ("path", "overlay"),
        [
            (".", "."),
            ("./", "."),
            ("/", "."),
            ("./a/b/", "a/b"),
            ("/a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("..a", "..a"),
        ],
    )
    def test_paths(self, path: str, overlay: str) -> None:
        assert is_source(argo(spec={"source": {**self.PLAIN, "path": path}})).overlay == overlay

    @pytest.mark.parametrize("over", [{"path": "../b"}, {"path": "a/../.."}, {"repoURL": None}, {"repoURL": ""}])
    def test_no_folder_of_a_repository(self, over: dict[str, Any]) -> None:
        says(argo(spec={"source": {**self.PLAIN, **over}}), Reason.NO_SOURCE, "which is no folder of a repository")


class TestArgoCdState:
    def test_out_of_sync(self) -> None:
        # The revision is the one that was compared, and not what runs.
        answer = is_source(argo(status={"sync": {"status": "OutOfSync", "revision": COMMIT}}))
        assert (answer.synced, answer.revision) == (False, None)

    @pytest.mark.parametrize("revision", ["main", "", None, 7, f"{COMMIT} ", "sha256:" + "1" * 64])
    def test_what_is_no_commit(self, revision: Any) -> None:
        assert is_source(argo(status={"sync": {"status": "Synced", "revision": revision}})).revision is None

    @pytest.mark.parametrize(
        ("status", "moving"),
        [
            ({"operationState": {"phase": "Running"}}, "a sync is under way"),
            ({"operationState": {"phase": "Terminating"}}, "a sync is under way"),
            ({"operationState": {"phase": "Failed", "message": "one\n two"}}, "the last sync failed: one two"),
            ({"operationState": {"phase": "Error", "message": "x" * 200}}, "the last sync failed: " + "x" * 159 + "…"),
            ({"operationState": None, "health": {"status": "Degraded"}}, "health is Degraded"),
            ({"health": {"status": "Missing"}}, "health is Missing"),
            ({"health": {"status": "Progressing"}}, ""),
            ({"health": None}, ""),
        ],
    )
    def test_trouble(self, status: dict[str, Any], moving: str) -> None:
        assert is_source(argo(status=status)).moving == moving

    def test_suspended(self) -> None:
        assert is_source(argo(status={"health": {"status": "Suspended"}})).suspended


class TestFlux:
    def test_ready(self) -> None:
        assert is_source(flux()) == Source(
            tool="flux", owner="Kustomization flux-system/apps", repo_url=REPO, branch="main", overlay="overlays/demo",
            revision=COMMIT, synced=True,
        )  # fmt: skip

    @pytest.mark.parametrize(
        "revision",
        [f"main@sha1:{COMMIT}", f"main/{COMMIT}", f"feature/a/{COMMIT}", f"refs/heads/main@sha1:{COMMIT}", COMMIT],
    )
    def test_revisions(self, revision: str) -> None:
        status = {"lastAppliedRevision": revision, "lastAttemptedRevision": f"main@sha1:{COMMIT}"}
        answer = is_source(flux(status=status))
        assert (answer.revision, answer.synced) == (COMMIT, True)

    @pytest.mark.parametrize("revision", [None, "", "main", "main@sha1:", f"main@sha1:{COMMIT[:7]}"])
    def test_no_revision(self, revision: str | None) -> None:
        answer = is_source(flux(status={"lastAppliedRevision": revision}))
        assert (answer.revision, answer.synced) == (None, False)

    def test_behind(self) -> None:
        answer = is_source(flux(status={"lastAttemptedRevision": f"main@sha1:{OTHER_COMMIT}"}))
        assert (answer.revision, answer.synced) == (COMMIT, False)

    def test_not_ready(self) -> None:
        bad = {"type": "Ready", "status": "False", "message": "kustomize build failed"}
        answer = is_source(flux(status={"conditions": [bad]}))
        assert (answer.synced, answer.moving) == (False, "not ready: kustomize build failed")
        assert is_source(flux(status={"conditions": None})).moving == "not ready: no status yet"

    def test_suspended(self) -> None:
        assert is_source(
            flux(spec={"path": "a", "suspend": True, "sourceRef": {"kind": "GitRepository", "name": "gitops"}})
        ).suspended
        assert is_source(flux(repo={"suspend": True})).suspended

    @pytest.mark.parametrize(
        ("path", "overlay"),
        [(None, "."), ("", "."), ("./", "."), ("./overlays/demo", "overlays/demo"), ("a/../b/", "b")],
    )
    def test_paths(self, path: str | None, overlay: str) -> None:
        assert is_source(flux(spec={"path": path})).overlay == overlay

    def test_a_path_outside(self) -> None:
        says(flux(spec={"path": "./../other"}), Reason.NO_SOURCE, "no folder of a repository")

    @pytest.mark.parametrize(
        ("ref", "branch"),
        [
            (None, "master"), ({}, "master"), ({"branch": "dev"}, "dev"),
            ({"branch": "dev", "name": "refs/heads/main", "semver": "1.*", "tag": "v1"}, "main"),
        ],
    )  # fmt: skip
    def test_branches(self, ref: Any, branch: str) -> None:
        assert is_source(flux(repo={"ref": ref})).branch == branch

    @pytest.mark.parametrize(
        ("ref", "word"),
        [
            ({"branch": "main", "commit": COMMIT, "name": "refs/heads/main"}, "follows commit"),
            ({"branch": "main", "tag": "v1"}, "follows tag 'v1'"),
            ({"branch": "main", "tag": "v1", "semver": "1.x"}, "follows semver '1.x'"),
            ({"name": "refs/tags/v1"}, "follows name 'refs/tags/v1'"),
            ({"name": "refs/pull/7/head"}, "follows name"),
        ],
    )
    def test_pinned(self, ref: dict[str, str], word: str) -> None:
        says(flux(repo={"ref": ref}), Reason.PINNED_SOURCE, word)

    @pytest.mark.parametrize("kind", ["OCIRepository", "Bucket", "ExternalArtifact", None])
    def test_no_git(self, kind: str | None) -> None:
        answer = flux(spec={"sourceRef": {"kind": kind, "name": "gitops"}})
        says(answer, Reason.RENDERED_SOURCE, f"reads {kind}, expected a GitRepository")

    def test_a_repository_in_another_namespace(self) -> None:
        live = objects.deployment(labels=FLUX_LABELS)
        ref = {"kind": "GitRepository", "name": "gitops", "namespace": "shared"}
        mine = kustomization(spec={"path": "a", "sourceRef": ref})
        assert is_source(found(live, flux=(mine, git_repository(namespace="shared")))).overlay == "a"
        says(
            found(live, flux=(mine, git_repository())),
            Reason.NO_SOURCE,
            "GitRepository shared/gitops, which is not there",
        )

    def test_a_kustomization_that_is_gone(self) -> None:
        live = objects.deployment(labels=FLUX_LABELS)
        says(found(live), Reason.NO_SOURCE, "Kustomization flux-system/apps, which is not there")

    def test_labels_that_were_copied(self) -> None:
        entries = [None, {"id": "ml_other_apps_Deployment", "v": "v1"}]
        says(flux(status={"inventory": {"entries": entries}}), Reason.NO_SOURCE, "neither Argo CD nor Flux")
        entries.append({"id": "ml_trainer_apps_Deployment", "v": "v1"})
        assert is_source(flux(status={"inventory": {"entries": entries}})).tool == "flux"

    def test_half_a_label(self) -> None:
        for label, value in FLUX_LABELS.items():
            says(found(objects.deployment(labels={label: value})), Reason.NO_SOURCE, "neither")

    def test_a_helm_release(self) -> None:
        live = objects.deployment(
            labels={"helm.toolkit.fluxcd.io/name": "trainer", "helm.toolkit.fluxcd.io/namespace": "ml"}
        )
        says(found(live), Reason.HELM_ONLY, "Helm release trainer")


class TestRepositories:
    @pytest.mark.parametrize(
        ("a", "b"),
        [
            (REPO, "git@git.example.invalid:team/gitops.git"),
            (REPO, "ssh://git@git.example.invalid/team/gitops"),
            (REPO, "ssh://git@git.example.invalid:22/team/gitops.git/"),
            (REPO, "https://user:p@ss@GIT.example.invalid:443/team/gitops"),
            (REPO, "http://git.example.invalid:80/team/gitops"),
            (REPO, " https://git.example.invalid/team/gitops.git\n"),
            ("/srv/git/x.git", "file:///srv/git/x"),
            ("/srv/git/x.git", "/srv/git/./x.git/"),
            ("git@host:/srv/x.git", "ssh://host/srv/x"),
        ],
    )
    def test_one(self, a: str, b: str) -> None:
        assert same_repository(a, b)
        assert same_repository(b, a)

    @pytest.mark.parametrize(
        "other",
        [
            "https://git.example.invalid/team/other.git", "https://git.example.invalid/gitops.git",
            "https://other.example.invalid/team/gitops.git", "https://git.example.invalid:8443/team/gitops.git",
            "/team/gitops.git", "", "https://", "team/gitops",
            "https://git.example.invalid@other.example.invalid/team/gitops.git",
        ],
    )  # fmt: skip
    def test_another(self, other: str) -> None:
        assert not same_repository(REPO, other)

    @given(st.text(max_size=40))
    def test_any_text_can_be_read(self, text: str) -> None:
        assert same_repository(text, text)


class TestRevisions:
    def test_at(self) -> None:
        source = is_source(argo())
        assert at_revision(source, COMMIT, frozenset())
        assert at_revision(source, OTHER_COMMIT, frozenset({COMMIT}))
        assert not at_revision(source, OTHER_COMMIT, frozenset())
        nobody = source.model_copy(update={"revision": None})
        assert not at_revision(nobody, COMMIT, frozenset({COMMIT}))


LIVE = objects.deployment(annotations=tracked(), labels={**FLUX_LABELS, "app.kubernetes.io/instance": "train"})
BY_TRACKING = objects.deployment(annotations=tracked())
BY_LABEL = objects.deployment(labels={"app.kubernetes.io/instance": "train"})
BY_FLUX = objects.deployment(labels=FLUX_LABELS)
MANY = application(
    lists=LIVE,
    spec={"sources": [TestArgoCdSources.VALUES, TestArgoCdSources.PLAIN]},
    status={"sourceTypes": ["", "Kustomize"], "sync": {"status": "Synced", "revisions": [OTHER_COMMIT, COMMIT]}},
)


@given(
    st.sampled_from([LIVE, BY_TRACKING, BY_LABEL, BY_FLUX]) | objects.damaged(LIVE),
    objects.damaged(MANY) | objects.damaged(application(lists=LIVE)),
    objects.damaged(kustomization(status={"inventory": {"entries": [{"id": "ml_trainer_apps_Deployment"}]}})),
    objects.damaged(git_repository()),
)
def test_nothing_raises(live: Any, app: Any, one: Any, repo: Any) -> None:
    known = SyncObjects({"argocd/train": app}, {"flux-system/apps": one}, {"flux-system/gitops": repo})
    answer = find_source(live, known)
    assert isinstance(answer, NoSource) or (answer.repo_url and answer.branch and answer.overlay)
    assert len(by_name([live, app, one, repo])) <= 4
