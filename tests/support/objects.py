"""Live objects as Kubernetes, Argo CD and Flux make them, and objects as nobody should make them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from gitops_mk.model.knob import annotation_key

Json = dict[str, Any]

REPO = "https://git.example.invalid/team/gitops.git"
COMMIT = "1" * 40
OTHER_COMMIT = "2" * 40

JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "text", [], [None], ["x"], [[]], [{}], {}, {"x": None}, {"x": [1]}]
)


def deployment(
    knobs: Mapping[str, int | str] | None = None,
    *,
    kind: str = "Deployment",
    name: str = "trainer",
    namespace: str = "ml",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    managers: Mapping[str, tuple[str, ...]] | None = None,
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
) -> Json:
    """A Deployment (or another kind of its make) at rest. `managers`: by field manager, the knobs on the template it owns."""
    values = {"dataloader_num_workers": 2} if knobs is None else knobs
    noted = {annotation_key(knob): str(value) for knob, value in values.items()}
    fields = [
        {
            "manager": manager,
            "operation": "Update",
            "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:spec": {
                    "f:template": {"f:metadata": {"f:annotations": {f"f:{annotation_key(one)}": {} for one in owned}}}
                }
            },
        }
        for manager, owned in (managers or {}).items()
    ]
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": "6a1f",
            "resourceVersion": "7",
            "generation": 3,
            # The API server leaves empty ones out.
            **({"labels": dict(labels)} if labels else {}),
            **({"annotations": dict(annotations)} if annotations else {}),
            **({"managedFields": fields} if fields else {}),
        },
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": noted},
                "spec": {"containers": [{"name": "trainer", "image": "example.invalid/trainer:1"}]},
            },
            **(spec or {}),
        },
        "status": {
            "observedGeneration": 3,
            "replicas": 2,
            "updatedReplicas": 2,
            "readyReplicas": 2,
            "availableReplicas": 2,
            "desiredNumberScheduled": 2,
            "updatedNumberScheduled": 2,
            "numberAvailable": 2,
            **(status or {}),
        },
    }


def application(name: str = "train", namespace: str = "argocd", *, lists: Json | None = None, **over: Any) -> Json:
    """An Application of Argo CD that is synced and healthy. `lists`: an object among its `status.resources`."""
    resources = []
    if lists is not None:
        meta = lists["metadata"]
        group, _, version = lists["apiVersion"].rpartition("/")
        resources.append(
            {
                "group": group,
                "version": version,
                "kind": lists["kind"],
                "namespace": meta["namespace"],
                "name": meta["name"],
                "status": "Synced",
            }
        )
    spec = {
        "project": "default",
        "source": {"repoURL": REPO, "path": "overlays/demo", "targetRevision": "main"},
        "destination": {"namespace": "ml", "server": "https://kubernetes.default.svc"},
        **over.pop("spec", {}),
    }
    status = {
        "sync": {"status": "Synced", "revision": COMMIT},
        "health": {"status": "Healthy"},
        "sourceType": "Kustomize",
        "operationState": {"phase": "Succeeded"},
        "resources": resources,
        **over.pop("status", {}),
    }
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
        "status": status,
    }


def tracked(app: str = "train", *, object_id: str = "apps/Deployment:ml/trainer") -> dict[str, str]:
    """The annotation by which Argo CD tracks an object."""
    return {"argocd.argoproj.io/tracking-id": f"{app}:{object_id}"}


def kustomization(name: str = "apps", namespace: str = "flux-system", **over: Any) -> Json:
    """A Kustomization of Flux that is ready."""
    ready = {"type": "Ready", "status": "True", "reason": "ReconciliationSucceeded", "message": "Applied revision"}
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "path": "./overlays/demo",
            "sourceRef": {"kind": "GitRepository", "name": "gitops"},
            **over.pop("spec", {}),
        },
        "status": {
            "lastAppliedRevision": f"main@sha1:{COMMIT}",
            "lastAttemptedRevision": f"main@sha1:{COMMIT}",
            "conditions": [{"type": "Reconciling", "status": "False"}, ready],
            **over.pop("status", {}),
        },
    }


def git_repository(name: str = "gitops", namespace: str = "flux-system", **spec: Any) -> Json:
    """A GitRepository of Flux."""
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"url": REPO, "ref": {"branch": "main"}, **spec},
    }


FLUX_LABELS = {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON value, but the root."""
    found: list[tuple[str | int, ...]] = []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        found += [(*at, key), *paths(child, (*at, key))]
    return found


@st.composite
def damaged(draw: st.DrawFn, value: Json, *, most: int = 3) -> Json:
    """The object with junk in some places, or without them."""
    broken = copy.deepcopy(value)
    for path in draw(st.lists(st.sampled_from(paths(value)), min_size=1, max_size=most)):
        at: Any = broken
        for key in path[:-1]:
            at = at[key] if _has(at, key) else None
        if _has(at, path[-1]):
            if isinstance(at, dict) and draw(st.booleans()):
                del at[path[-1]]
            else:
                at[path[-1]] = draw(JUNK)
    return broken


def _has(at: Any, key: str | int) -> bool:
    if isinstance(at, list):
        return isinstance(key, int) and key < len(at)
    return isinstance(at, dict) and key in at
