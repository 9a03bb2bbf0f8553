"""Holds: list what people said no to, and release one of them."""

from __future__ import annotations

from gitops_mk.controller.propose import settle
from gitops_mk.controller.state import identity_of, policy_of, state_on_base
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.errors import InputError
from gitops_mk.model.change import LABEL_RELEASED, Comment, Hold, Person
from gitops_mk.model.times import format_time


def all_holds(place: Workplace, tools: Tools) -> tuple[Hold, ...]:
    """The holds on every configured workload."""
    forge = place.forge
    files = forge.repo.files(forge.base_tip())
    policy = policy_of(files, tools.built_in)
    found: list[Hold] = []
    for workload in policy.settings.workloads:
        found += state_on_base(forge, files, policy, workload, tools.builder).holds
    return tuple(found)


def release_hold(place: Workplace, number: int, by: Person, tools: Tools) -> Hold:
    """Label the pull request as released, and say who did it. Raises InputError when it holds nothing."""
    policy = policy_of(place.forge.repo.files(place.forge.base_tip()), tools.built_in)
    settle(place.forge, identity_of(policy.settings))
    held = next((hold for hold in all_holds(place, tools) if hold.pr == number), None)
    pr = place.forge.get_pr(number)
    if held is None or pr is None:
        raise InputError(f"#{number} holds nothing", hint="`mk hold list` shows what is on hold")
    note = Comment(by=by, at=format_time(tools.clock.now()), text="Hold released.")
    place.forge.update_pr(
        pr, pr.model_copy(update={"labels": (*pr.labels, LABEL_RELEASED), "comments": (*pr.comments, note)})
    )
    return held
