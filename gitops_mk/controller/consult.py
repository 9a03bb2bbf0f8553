"""Ask a cluster about one workload: is it there, may we, and what would it make of the change. Nothing is stored."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from gitops_mk.core.objects import part
from gitops_mk.core.refusals import conflicts
from gitops_mk.core.yamldocs import document_text
from gitops_mk.errors import ClusterError
from gitops_mk.model.cluster import ClusterWord, Trial
from gitops_mk.model.workload import Carrier
from gitops_mk.ports import Cluster

_NAME: Final = re.compile(rb"^(metadata:\n(?:  .*\n)*?  name: )(.*)$", re.MULTILINE)
# A finished or running object of such a kind can't take a new template: its next run is tried under this name.
NEXT_RUN: Final = "-mk-next"
TRIES: Final = 3


def look(cluster: Cluster, ref: Carrier) -> ClusterWord:
    """What the cluster has of `ref`, and what we may do with it. Never raises ClusterError."""
    try:
        return _look(cluster, ref)
    except ClusterError as exc:
        return ClusterWord(context=cluster.context, server=cluster.server, error=exc.message)


def ask(
    cluster: Cluster, ref: Carrier, base: bytes | None, head: bytes | None, *, seen: ClusterWord | None = None
) -> ClusterWord:
    """The cluster's word on `ref` and on the documents that base and head build for it. Never raises ClusterError.

    `seen`: what `look` gave.
    """
    word = seen or look(cluster, ref)
    if word.error or not word.can_patch or base is None or head is None or word.namespace_exists is False:
        return word
    # A Job's name may have 63 characters, and its pods' a few less.
    name = ref.name if ref.in_place else ref.name[: 54 - len(NEXT_RUN)].rstrip("-.") + NEXT_RUN
    # As kustomize wrote it: a name like "123" stands in quotes.
    texts = [text if ref.in_place else renamed(text, name) for text in (base, head)]
    for _ in range(TRIES):
        with ThreadPoolExecutor(2) as pool:
            trials = list(pool.map(lambda text: _try(cluster, ref, name, text), texts))
        if _same_object(*trials):
            break
    return replace(word, base=trials[0], head=trials[1])


def _same_object(base: Trial, head: Trial) -> bool:
    """True when both were tried on the object as it stood at one moment: else somebody's write in between looks like ours."""
    answers = [trial.forced or trial.plain for trial in (base, head)]
    versions = {
        part(answer.body, "metadata").get("resourceVersion") for answer in answers if answer is not None and answer.ok
    }
    return len(versions) <= 1


def built_documents(base_build: str | None, head_build: str | None, ref: Carrier) -> tuple[bytes | None, bytes | None]:
    """The workload's document in both builds, as kustomize wrote it; None where it is in neither."""
    found = [
        None if build is None else document_text(build, ref.api_version, ref.kind, ref.namespace, ref.name)
        for build in (base_build, head_build)
    ]
    texts = [None if text is None else text.encode() for text in found]
    return texts[0], texts[1]


def _look(cluster: Cluster, ref: Carrier) -> ClusterWord:
    with ThreadPoolExecutor(2) as pool:
        get = pool.submit(cluster.can_i, "get", ref.kind, namespace=ref.namespace, name=ref.name)
        patch = pool.submit(cluster.can_i, "patch", ref.kind, namespace=ref.namespace, name=ref.name)
        can_get, can_patch = get.result(), patch.result()
    live = cluster.get(ref.kind, ref.name, namespace=ref.namespace) if can_get else None
    return ClusterWord(
        context=cluster.context,
        server=cluster.server,
        # A namespaced Role can't read namespaces: what stands in one proves it.
        namespace_exists=True if live is not None else _namespace(cluster, ref.namespace),
        live=live,
        can_get=can_get,
        can_patch=can_patch,
    )


def renamed(document: bytes, name: str) -> bytes:
    """A document that kustomize built, under another name."""
    return _NAME.sub(lambda match: match[1] + name.encode(), document, count=1)


def _try(cluster: Cluster, ref: Carrier, name: str, document: bytes) -> Trial:
    try:
        plain = cluster.dry_run_apply(ref.kind, ref.namespace, name, document, force=False)
        forced = None
        if conflicts(plain):
            forced = cluster.dry_run_apply(ref.kind, ref.namespace, name, document, force=True)
    except ClusterError as exc:
        return Trial(error=exc.message, timed_out=exc.timed_out)
    return Trial(plain=plain, forced=forced)


def _namespace(cluster: Cluster, namespace: str) -> bool | None:
    try:
        return cluster.get("Namespace", namespace) is not None
    except ClusterError as exc:
        if exc.status == 403:
            return None
        raise
