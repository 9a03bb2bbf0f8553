"""What was about to be merged, kept on disk over the merge, so that a crash in between leaves nothing unaccounted for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gitops_mk.model.base import Frozen
from gitops_mk.model.change import GitSha
from gitops_mk.model.plan import Sha256, Timestamp


class MergeIntent(Frozen):
    """A merge that the gate let through: what is to come of it, and nothing else may."""

    pr: Annotated[int, Field(ge=1)]
    workload: str
    branch: str
    head: GitSha
    base: GitSha
    tree: GitSha
    plan_digest: Sha256
    at: Timestamp
