"""How a pull request stands on its forge, read live for the gate: what no git object tells."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gitops_mk.model.base import Frozen


class RequiredCheck(Frozen):
    """A check that a branch's rules ask for. `app`: the only one that may give it, as the forge numbers them; None: any."""

    name: str
    app: str | None = None


class HeadCheck(Frozen):
    """One check run (or commit status: `app` is None) on a commit. Of two with one name and app the higher `order` is newer.

    `conclusion` is `success` or whatever else the forge calls it; None while it runs.
    """

    name: str
    app: str | None
    commit: str
    conclusion: str | None
    order: int


class BranchRules(Frozen):
    """What the base branch asks of a merge, protection and rulesets together; the stricter of two counts."""

    required_checks: tuple[RequiredCheck, ...] = ()
    approvals: Annotated[int, Field(ge=0)] = 0
    code_owners: bool = False
    up_to_date: bool = False
    stale_dismissed: bool = False
    last_push_approval: bool = False
    signatures: bool = False
    merge_queue: bool = False


class Standing(Frozen):
    """What the forge says of a pull request besides its record.

    `mergeable` is None while the forge does not know. `owners_approved` is None where nobody asked. `unread` names what could
    not be read; then nothing is merged. `bypasses`, looked for where the configuration is strict: how we could pass the rules by.
    """

    same_repository: bool
    mergeable: bool | None
    auto_merge: bool = False
    rules: BranchRules = BranchRules()
    checks: tuple[HeadCheck, ...] = ()
    owners_approved: bool | None = None
    unread: str = ""
    bypasses: tuple[str, ...] = ()
