"""What a branch asks of a merge on GitHub, as far as it can be read; and the ways in which our own identity could pass it by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.adapters.github.examine import bypasses
from gitops_mk.adapters.github.rules import branch_rules, from_protection, from_rulesets, stricter
from gitops_mk.errors import ForgeError
from gitops_mk.model.change import GATE_CHECK
from gitops_mk.model.finding import Finding
from gitops_mk.model.settings import ForgeSettings
from gitops_mk.model.standing import BranchRules, RequiredCheck
from gitops_mk.model.verdict import Reason
from tests.support.github.faults import Fault
from tests.support.github_world import TOKEN_RIGHTS, HubWorld, hub_world
from tests.support.world import BRANCH

CI = "ci/verify"


def checks(*names: str, app: int | None = None, strict: bool = False) -> dict[str, Any]:
    named = [{"context": name, **({"integration_id": app} if app is not None else {})} for name in names]
    asked = {"strict_required_status_checks_policy": strict, "required_status_checks": named}
    return {"type": "required_status_checks", "parameters": asked}


def reviews(count: int = 1, **over: bool) -> dict[str, Any]:
    asked = {
        "required_approving_review_count": count, "dismiss_stale_reviews_on_push": False,
        "require_code_owner_review": False, "require_last_push_approval": False,
        "required_review_thread_resolution": False, **over,
    }  # fmt: skip
    return {"type": "pull_request", "parameters": asked}


@pytest.fixture(scope="module")
def shared(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubWorld, Any]]:
    with pytest.MonkeyPatch.context() as patch, hub_world(tmp_path_factory.mktemp("r"), embedded, patch) as world:
        world.propose(world.forge())
        yield world, world.forge()


@pytest.fixture
def hub(shared: tuple[HubWorld, Any]) -> Iterator[tuple[HubWorld, Any]]:
    """One world for all, its rules taken away after each test."""
    yield shared
    world, _ = shared
    world.repo.protections.clear()
    world.repo.rulesets.clear()
    world.repo.queue = False
    world.hub.faults.clear()
    world.hub.collaborate(world.repo, world.bot, "write")


def read(forge: Any) -> BranchRules:
    found, unread = branch_rules(forge.api, forge.name, "main")
    assert unread == ""
    return found


# -- reading -------------------------------------------------------------------------------------------------------------


def test_a_branch_without_rules_asks_for_nothing(hub: tuple[HubWorld, Any]) -> None:
    assert read(hub[1]) == BranchRules()


@pytest.mark.parametrize(
    ("app", "expected"), [(7, "7"), (None, None), (-1, None)], ids=["of an App", "of any", "of any, as -1"]
)
@pytest.mark.parametrize("how", ["ruleset", "protection"])
def test_required_checks_and_whose_they_must_be(
    hub: tuple[HubWorld, Any], how: str, app: int | None, expected: str | None
) -> None:
    world, forge = hub
    if how == "ruleset":
        world.repo.ruleset("main", rules=[checks(CI, app=None if app == -1 else app, strict=True)])
    else:
        world.repo.protect("main", required_checks=[(CI, app)], strict=True)
    rules = read(forge)
    assert rules.required_checks == (RequiredCheck(name=CI, app=expected),)
    assert rules.up_to_date


@pytest.mark.parametrize("how", ["ruleset", "protection"])
def test_reviews(hub: tuple[HubWorld, Any], how: str) -> None:
    world, forge = hub
    if how == "ruleset":
        asked = {
            "dismiss_stale_reviews_on_push": True,
            "require_code_owner_review": True,
            "require_last_push_approval": True,
        }
        world.repo.ruleset("main", rules=[reviews(2, **asked)])
    else:
        world.repo.protect("main", approvals=2, dismiss_stale=True, code_owners=True, last_push=True)
    rules = read(forge)
    assert (rules.approvals, rules.code_owners, rules.stale_dismissed, rules.last_push_approval) == (
        2,
        True,
        True,
        True,
    )
    assert rules.required_checks == ()


def test_the_stricter_of_all_counts(hub: tuple[HubWorld, Any]) -> None:
    world, forge = hub
    world.repo.protect("main", required_checks=[(CI, 7)], strict=False, approvals=1, code_owners=True)
    world.repo.ruleset("one", rules=[checks("ci/lint", strict=True), reviews(2)])
    world.repo.ruleset("two", rules=[checks(CI), {"type": "required_signatures"}, {"type": "non_fast_forward"}])
    world.repo.ruleset("another branch", rules=[checks("never")], branches=["release"])
    world.repo.ruleset("not in force", rules=[checks("never")], enforcement="disabled")
    rules = read(forge)
    assert set(rules.required_checks) == {
        RequiredCheck(name=CI, app="7"), RequiredCheck(name=CI), RequiredCheck(name="ci/lint"),
    }  # fmt: skip
    assert (rules.approvals, rules.code_owners, rules.up_to_date, rules.signatures) == (2, True, True, True)


def test_a_merge_queue_is_told(hub: tuple[HubWorld, Any]) -> None:
    world, forge = hub
    world.repo.queue = True
    assert read(forge).merge_queue


RULES = st.builds(
    BranchRules,
    required_checks=st.lists(
        st.builds(RequiredCheck, name=st.sampled_from("ab"), app=st.sampled_from([None, "1"])), max_size=3
    ).map(lambda many: tuple(dict.fromkeys(many))),
    approvals=st.integers(0, 3), code_owners=st.booleans(), up_to_date=st.booleans(), merge_queue=st.booleans(),
    signatures=st.booleans(),
)  # fmt: skip


@given(RULES, RULES)
def test_two_together_are_never_weaker_than_one(one: BranchRules, other: BranchRules) -> None:
    both = stricter(one, other)
    for each in (one, other):
        assert set(each.required_checks) <= set(both.required_checks)
        assert each.approvals <= both.approvals
        for flag in ("code_owners", "up_to_date", "merge_queue", "signatures"):
            assert getattr(both, flag) or not getattr(each, flag)
        assert stricter(both, each) == both
    assert stricter(one, one) == one


WRONG: list[Mapping[str, Any]] = [
    {"required_status_checks": []},
    {"required_status_checks": {"checks": {}}},
    {"required_status_checks": {"checks": [{"context": CI, "app_id": "7"}]}},
    {"required_status_checks": {"checks": [{"context": None}]}},
    {"required_status_checks": {"contexts": [5]}},
    {"required_status_checks": {"strict": "yes"}},
    {"required_pull_request_reviews": {"required_approving_review_count": "2"}},
    {"required_pull_request_reviews": {"required_approving_review_count": True}},
    {"required_pull_request_reviews": {"require_code_owner_reviews": 1}},
    {"required_signatures": {"enabled": "yes"}},
]


@pytest.mark.parametrize("data", WRONG, ids=str)
def test_protection_of_another_shape_is_told_and_not_taken_for_none(data: Mapping[str, Any]) -> None:
    with pytest.raises(ForgeError):
        from_protection(data)


@pytest.mark.parametrize(
    "row",
    [
        5, {}, {"type": 5}, {"type": "pull_request"}, {"type": "pull_request", "parameters": {"required_approving_review_count": None}},
        {"type": "required_status_checks", "parameters": {"required_status_checks": [{"context": CI, "integration_id": "7"}]}},
        {"type": "required_status_checks", "parameters": {"required_status_checks": [5]}},
        {"type": "required_status_checks", "parameters": {"strict_required_status_checks_policy": "no"}},
    ],
    ids=str,
)  # fmt: skip
def test_a_rule_of_another_shape_is_told(row: Any) -> None:
    with pytest.raises(ForgeError):
        from_rulesets([row])


def test_what_a_token_may_not_read_closes_the_gate(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `administration: read`: the required checks are told with the branch, what it asks of reviews is not."""
    with hub_world(tmp_path, embedded, monkeypatch, as_app=False) as world:
        world.propose(world.forge())
        world.repo.ruleset("main", rules=[reviews(0)])
        assert world.forge().standing(world.forge().get_pr(1) or pytest.fail("none")).unread == ""
        world.repo.protect("main", approvals=2, enforce_admins=False)
        forge = world.forge()
        assert "can't be read" in forge.standing(forge.get_pr(1) or pytest.fail("none")).unread
        world.verify(forge)
        base = world.tip()
        applied = world.apply(forge)
        assert (applied.ok, applied.reason) == (False, Reason.RULES_UNREADABLE)
        assert world.tip() == base


# -- what the gate makes of them -----------------------------------------------------------------------------------------


@pytest.fixture
def ready(world: HubWorld) -> HubWorld:
    """Verified, with a code owner for everything."""
    world.commit({"CODEOWNERS": b"* @bob\n"})
    forge = world.forge()
    world.propose(forge)
    world.verify(forge)
    return world


def free(world: HubWorld, *rules: dict[str, Any]) -> None:
    """Rules that GitHub would not hold us to."""
    bypass = [{"actor_id": world.app.id, "actor_type": "Integration", "bypass_mode": "always"}]
    world.repo.ruleset("main", rules=list(rules), bypass=bypass)


def test_code_owners_have_their_say(ready: HubWorld) -> None:
    free(ready, reviews(1, require_code_owner_review=True))
    ready.hub.review(ready.pull(), ready.alice)
    applied = ready.apply(ready.forge())
    assert (applied.ok, applied.reason) == (False, Reason.REVIEW_REQUIRED)
    assert "code owners" in applied.message
    ready.hub.review(ready.pull(), ready.bob)
    assert ready.apply(ready.forge()).ok


@pytest.mark.parametrize(
    "answer", [{"data": None}, {"data": {"repository": None}}, {"errors": [{"message": "no"}]}, []]
)
def test_what_code_owners_said_is_not_guessed(ready: HubWorld, answer: Any) -> None:
    free(ready, reviews(1, require_code_owner_review=True))
    ready.hub.review(ready.pull(), ready.bob)
    ready.hub.faults.add("POST", "graphql", Fault.status(200, answer), times=9)
    base = ready.tip()
    with suppress(ForgeError):
        assert not ready.apply(ready.forge()).ok
    assert ready.tip() == base


def test_rules_that_get_stricter_between_two_looks_are_heeded(ready: HubWorld) -> None:
    """Verify and the gate's first look see none; the last one before the merge does."""
    base = ready.tip()
    for path in ("/rules/branches/", "/check-runs$", "/pulls/1$", "/reviews"):
        ready.hub.faults.add("*", path, Fault.before(lambda: free(ready, reviews(1))))
        applied = ready.apply(ready.forge())
        assert (applied.ok, applied.reason) == (False, Reason.REVIEW_REQUIRED), path
        assert ready.tip() == base
        ready.hub.faults.clear()
        ready.repo.rulesets.clear()


def test_rules_that_were_weakened_leave_what_the_configuration_asks_for(ready: HubWorld) -> None:
    """GitHub's rules add to ours and take nothing from them: the base's own word on approvals stands."""
    ready.configure(b"required_approvals: 0", b"required_approvals: 1")
    free(ready, reviews(1))
    forge = ready.forge()
    ready.propose(forge)
    ready.verify(forge)
    ready.hub.faults.add("GET", "/rules/branches/", Fault.before(ready.repo.rulesets.clear), nth=2)
    base = ready.tip()
    applied = ready.apply(ready.forge())
    assert (applied.ok, applied.reason) == (False, Reason.REVIEW_REQUIRED)
    assert ready.tip() == base


def test_a_branch_that_is_behind_is_told_where_that_matters(ready: HubWorld) -> None:
    ready.commit({"README": b"newer"})
    ready.verify(ready.forge())
    free(ready, checks(CI, strict=True))
    ready.hub.check_run(ready.repo, ready.tip(BRANCH), CI)
    forge = ready.forge()
    live = forge.live(1)
    assert live is not None
    ready.hub.faults.add(
        "GET",
        "/pulls/1$",
        Fault.status(200, {**forge.api.get("/repos/team/gitops/pulls/1"), "mergeable_state": "behind"}),
    )
    forge._fresh.clear()
    assert "is behind main" in forge.standing(live).unread


# -- passing them by -----------------------------------------------------------------------------------------------------


def bypassable(world: HubWorld, forge: Any, mode: str) -> None:
    """A ruleset that GitHub says our identity may bypass; the simulator itself says it of nobody."""
    made = world.repo.ruleset("guard", rules=[checks(CI)])
    path = f"/repos/team/gitops/rulesets/{made.id}"
    told = {**forge.api.get(path), "current_user_can_bypass": mode}
    world.hub.faults.add("GET", f"{path}$", Fault.status(200, told), times=99)


@pytest.mark.parametrize("mode", ["always", "pull_requests_only", "exempt", "never"])
def test_an_identity_on_the_bypass_list_is_told(hub: tuple[HubWorld, Any], mode: str) -> None:
    world, forge = hub
    bypassable(world, forge, mode)
    said = () if mode == "never" else ("ruleset 'guard' lets modekeeper[bot] bypass it",)
    assert forge.bypasses() == said
    world.hub.faults.clear()
    assert forge.bypasses() == ()


def test_a_ruleset_that_is_not_in_force_is_nothing_to_bypass(hub: tuple[HubWorld, Any]) -> None:
    world, forge = hub
    bypassable(world, forge, "always")
    world.repo.ruleset("guard", rules=[checks(CI)], enforcement="disabled")
    assert forge.bypasses() == ()


def test_an_allowance_of_reviews_is_told(hub: tuple[HubWorld, Any]) -> None:
    world, forge = hub
    world.repo.protect("main", approvals=1, bypass_reviews=["modekeeper"])
    assert forge.bypasses() == ("modekeeper[bot] may merge without a review",)
    world.repo.protect("main", approvals=1, bypass_reviews=["alice"])
    assert forge.bypasses() == ()


@pytest.mark.parametrize("enforced", [True, False])
def test_an_administrator_is_told_where_protection_does_not_hold_for_those(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enforced: bool
) -> None:
    with hub_world(tmp_path, embedded, monkeypatch, as_app=False) as world:
        world.hub.collaborate(world.repo, world.bot, "admin")
        world.repo.protect("main", approvals=1, enforce_admins=enforced)
        found = world.forge().bypasses()
        assert (found == ()) is enforced
        if not enforced:
            assert "is an administrator" in found[0]


def test_strict_merges_nothing_where_the_rules_could_be_passed_by(ready: HubWorld) -> None:
    ready.forge_settings = ForgeSettings(kind="github", strict=True)
    forge = ready.forge()
    bypassable(ready, forge, "always")
    ready.hub.check_run(ready.repo, ready.tip(BRANCH), CI)
    base = ready.tip()
    applied = ready.apply(forge)
    assert (applied.ok, applied.reason, ready.tip()) == (False, Reason.MAY_BYPASS, base)
    ready.hub.faults.clear()
    assert ready.apply(ready.forge()).ok


# -- mk doctor -----------------------------------------------------------------------------------------------------------


def lines(forge: Any) -> dict[str, Finding]:
    found = list(forge.examine())
    assert len({one.name for one in found}) == len(found)
    return {one.name.removeprefix("github, "): one for one in found}


def test_doctor_has_nothing_to_say_against_a_branch_that_is_as_it_should_be(hub: tuple[HubWorld, Any]) -> None:
    world, forge = hub
    good = checks("verify", app=world.hub.actions.id, strict=True)
    good["parameters"]["required_status_checks"].append({"context": GATE_CHECK, "integration_id": world.app.id})
    world.repo.ruleset("main", rules=[good, reviews(1, dismiss_stale_reviews_on_push=True)])
    found = lines(forge)
    assert [name for name, one in found.items() if not one.ok] == []
    assert found["github"].detail.endswith("as the App modekeeper[bot]")
    assert {GATE_CHECK, "verify", "reviews", "stale reviews", "up to date", "bypass", "push"} <= set(found)


def test_doctor_names_what_is_missing(hub: tuple[HubWorld, Any]) -> None:
    world, forge = hub
    found = lines(forge)
    bad = {name for name, one in found.items() if not one.ok}
    assert bad == {GATE_CHECK, "verify", "reviews", "stale reviews", "up to date"}
    assert all(found[name].hint for name in bad)
    bypassable(world, forge, "always")
    world.repo.ruleset("main", rules=[checks(GATE_CHECK)])
    world.repo.queue = True
    found = lines(forge)
    assert "from any App" in found[GATE_CHECK].detail
    assert not found["bypass"].ok
    assert not found["merge queue"].ok


def test_doctor_names_what_may_not_be_done(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_world(tmp_path, embedded, monkeypatch, as_app=False, validate=False) as world:
        forge = world.forge()
        assert "push" in lines(forge)
        rights = {name: level for name, level in TOKEN_RIGHTS.items() if name not in ("checks", "administration")}
        world.repo.protect("main", approvals=1)
        token = world.hub.tokens[forge.api.credentials.token()]
        token.permissions = rights
        found = lines(forge)
        assert not found["checks"].ok
        assert found["checks"].needed
        assert not found["rules"].ok
        world.hub.collaborate(world.repo, world.bot, "read")
        assert not lines(forge)["push"].ok


def test_doctor_never_fails(hub: tuple[HubWorld, Any]) -> None:
    world, forge = hub
    for path in (".*", "/rules", "/rulesets", "/protection", "/labels", "gitops$"):
        world.hub.faults.add("GET", path, Fault.status(500), times=999)
        assert any(not one.ok for one in forge.examine()), path
        world.hub.faults.clear()


def test_a_base_branch_with_a_slash_is_looked_up_by_its_name(hub: tuple[HubWorld, Any]) -> None:
    world, forge = hub
    world.hub.move(world.repo, "release/1", world.tip())
    world.repo.protect("release/1", approvals=3, bypass_reviews=["modekeeper"])
    rules, _ = branch_rules(forge.api, forge.name, "release/1")
    assert rules.approvals == 3
    assert bypasses(forge.api, forge.name, "release/1", forge.identity) == (
        "modekeeper[bot] may merge without a review",
    )
    world.hub.move(world.repo, "release/1", None)
