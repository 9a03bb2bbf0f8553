"""Applying: every closed gate is told, and nothing that moves between the look and the merge gets anything merged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gitops_mk.adapters.intents import IntentFile
from gitops_mk.adapters.killswitch import VARIABLE, GateKillSwitch
from gitops_mk.controller.aftermath import finish_merge
from gitops_mk.controller.apply import gate_payload
from gitops_mk.controller.propose import close_pr
from gitops_mk.core.ledger import trailers
from gitops_mk.errors import ConfigError, ForgeError, IntegrityError, PeerError
from gitops_mk.model.change import LABEL_KILL_SWITCH, TRAILER_DIGEST, PrState, PullRequest
from gitops_mk.model.gate import KillReading
from gitops_mk.model.license import FailureCode, LicenseStatus
from gitops_mk.model.settings import KILL_SWITCH_PATH
from gitops_mk.model.verdict import Reason
from tests.support.make import ALICE, BOB, IDENTITY
from tests.support.world import BRANCH, CONFIG, LICENSED, UNLICENSED, HookedForge, World

GATES = [
    "kill_switch", "license", "verify_ok", "pull_request", "origin", "rules", "reviews", "delivery", "calendar",
]  # fmt: skip


def blocked(world: World, reason: Reason, **over: Any) -> Any:
    """The gate is closed for that reason, and no ref has moved."""
    before = world.refs()
    applied = world.apply(over.pop("forge", None) or world.forge(), **over)
    assert (applied.ok, applied.reason) == (False, reason), applied.message
    assert applied.merge_sha is None
    assert applied.message
    assert world.refs() == before
    return applied


def test_with_every_gate_open_it_is_merged(ready: World) -> None:
    forge = ready.forge()
    base, pr = ready.tip(), forge.get_pr(1)
    assert pr is not None
    applied = ready.apply(forge)
    assert applied.ok
    assert applied.merge_sha == ready.tip()
    info = ready.server.commit(ready.tip())
    assert info.parents == (base, pr.head_sha)
    assert trailers(info.message)[TRAILER_DIGEST] == [pr.plan_digest]
    assert applied.pr is not None
    assert applied.pr.state is PrState.MERGED
    assert f"refs/heads/{BRANCH}" not in ready.refs()
    assert [gate["rule"] for gate in gate_payload(applied.decision)] == GATES
    assert all(gate["allowed"] for gate in gate_payload(applied.decision))
    assert ready.state(forge).knobs["dataloader_num_workers"] == 4
    again = blocked(ready, Reason.VERIFY_STALE)
    assert Reason.PR_NOT_OPEN in {v.reason for v in again.decision.closed}


# -- each gate -----------------------------------------------------------------------------------------------------


LICENSES = {
    Reason.LICENSE_MISSING: UNLICENSED,
    Reason.LICENSE_EXPIRED: LicenseStatus(ok=False, reason="license_expired", message="expired", kid="k"),
    Reason.LICENSE_INVALID: LicenseStatus(
        ok=False, reason="license_invalid", failure_code=FailureCode.UNKNOWN_KID, message="kid"
    ),
    Reason.BINDING_MISMATCH: LicenseStatus(ok=False, reason="binding_mismatch", message="other", kid="k"),
    Reason.ENTITLEMENT_MISSING: LicenseStatus(ok=False, reason="entitlement_missing", message="no apply", kid="k"),
}


@pytest.mark.parametrize("reason", LICENSES)
def test_the_licence_gate(ready: World, reason: Reason) -> None:
    blocked(ready, reason, license_status=LICENSES[reason])


def test_a_licence_that_verified_with_no_key_opens_nothing(ready: World) -> None:
    blocked(ready, Reason.LICENSE_INVALID, license_status=LICENSED.model_copy(update={"kid": None}))


def edit(world: World, **over: Any) -> None:
    forge = world.forge()
    pr = forge.get_pr(1)
    assert pr is not None
    forge.update_pr(pr, pr.model_copy(update=over))


def strip_checks(world: World) -> None:
    edit(world, checks=())


def old_head(world: World) -> None:
    """Verified, then a push."""
    world.commit({"extra": b"x"}, branch=BRANCH, by=IDENTITY)


def forged_base(world: World) -> None:
    pr = world.forge().get_pr(1)
    assert pr is not None
    edit(world, checks=tuple(c.model_copy(update={"base": "a" * 40}) for c in pr.checks))


def forged_tree(world: World) -> None:
    pr = world.forge().get_pr(1)
    assert pr is not None
    edit(world, checks=tuple(c.model_copy(update={"tree": "a" * 40}) for c in pr.checks))


def failed_after(world: World) -> None:
    pr = world.forge().get_pr(1)
    assert pr is not None
    edit(world, checks=(*pr.checks, pr.checks[-1].model_copy(update={"conclusion": "failure"})))


def forged_success(world: World) -> None:
    """Somebody wrote `success` for a head that verify says no to."""
    pr = world.forge().get_pr(1)
    assert pr is not None
    sha = world.commit({"extra": b"x"}, branch=BRANCH, by=IDENTITY)
    tree = world.server.merge_tree(world.tip(), sha)
    edit(world, checks=(pr.checks[-1].model_copy(update={"commit": sha, "tree": tree}),))


CLOSED: dict[str, tuple[Callable[[World], object], Reason]] = {
    "no check": (strip_checks, Reason.VERIFY_MISSING),
    "check of an old head": (old_head, Reason.VERIFY_STALE),
    "check of another base": (lambda w: w.commit({"README.md": b"x"}), Reason.VERIFY_STALE),
    "forged base": (forged_base, Reason.VERIFY_STALE),
    "forged tree": (forged_tree, Reason.VERIFY_STALE),
    "newest check failed": (failed_after, Reason.VERIFY_FAILED),
    "forged success": (forged_success, Reason.VERIFY_FAILED),
    "record says another plan": (lambda w: edit(w, plan_digest="0" * 64), Reason.VERIFY_STALE),
    "draft": (lambda w: edit(w, draft=True), Reason.PR_DRAFT),
    "another author": (lambda w: edit(w, author=BOB), Reason.NOT_OURS),
    "another base branch": (lambda w: edit(w, base="release"), Reason.NOT_MERGEABLE),
    "closed": (
        lambda w: close_pr(w.forge(), _pr(w), by=BOB, why="no"), Reason.VERIFY_STALE,
    ),
    "label": (lambda w: edit(w, labels=(LABEL_KILL_SWITCH,)), Reason.KILL_SWITCH),
    "file": (lambda w: w.commit({KILL_SWITCH_PATH: b""}), Reason.KILL_SWITCH),
    "changes requested": (lambda w: w.approve(w.forge(), verdict="changes_requested"), Reason.CHANGES_REQUESTED),
}  # fmt: skip


def _pr(world: World) -> PullRequest:
    pr = world.forge().get_pr(1)
    assert pr is not None
    return pr


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_gate_is_told_and_merges_nothing(ready: World, name: str) -> None:
    act, reason = CLOSED[name]
    act(ready)
    applied = blocked(ready, reason)
    assert [gate["rule"] for gate in gate_payload(applied.decision)] == GATES


def test_a_branch_that_is_gone(ready: World) -> None:
    ready.server.run("update-ref", "-d", f"refs/heads/{BRANCH}")
    blocked(ready, Reason.VERIFY_MISSING)


def test_no_pull_request_at_all(world: World) -> None:
    applied = blocked(world, Reason.VERIFY_MISSING)
    assert {v.reason for v in applied.decision.closed} == {
        Reason.VERIFY_MISSING, Reason.PR_NOT_OPEN, Reason.NOT_OURS, Reason.NOT_MERGEABLE, Reason.REVIEW_REQUIRED,
        Reason.PROPOSE_ONLY,
    }  # fmt: skip


def test_a_report_beside_the_plan_that_says_no(ready: World) -> None:
    blocked(ready, Reason.VERIFY_FAILED, reported_ok=False)


def test_another_plan_than_the_pull_requests(ready: World) -> None:
    blocked(ready, Reason.VERIFY_STALE, plan_digest="0" * 64)


def test_every_closed_gate_is_recorded_and_the_first_gives_the_reason(
    ready: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    strip_checks(ready)
    edit(ready, draft=True)
    ready.approve(ready.forge(), verdict="changes_requested")
    monkeypatch.setenv(VARIABLE, "1")
    applied = blocked(ready, Reason.KILL_SWITCH, license_status=UNLICENSED)
    assert [v.reason for v in applied.decision.closed] == [
        Reason.KILL_SWITCH, Reason.LICENSE_MISSING, Reason.VERIFY_MISSING, Reason.PR_DRAFT, Reason.CHANGES_REQUESTED,
    ]  # fmt: skip
    assert applied.kill_active is not None
    monkeypatch.setenv(VARIABLE, "0")
    blocked(ready, Reason.LICENSE_MISSING, license_status=UNLICENSED)


def test_a_base_whose_configuration_cannot_be_read_decides_nothing(ready: World) -> None:
    ready.commit({CONFIG: b"version: [\n"})
    before = ready.refs()
    with pytest.raises(ConfigError):
        ready.apply(ready.forge())
    assert ready.refs() == before


# -- reviews -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reviewed(world: World) -> World:
    """One approval is needed."""
    world.commit({CONFIG: world.file(CONFIG).replace(b"required_approvals: 0", b"required_approvals: 1")})
    forge = world.forge()
    world.propose(forge)
    assert world.verify(forge).ok
    return world


def test_an_approval_of_this_head_opens_the_gate(reviewed: World) -> None:
    blocked(reviewed, Reason.REVIEW_REQUIRED)
    reviewed.approve(reviewed.forge())
    assert reviewed.apply(reviewed.forge()).ok


APPROVALS: dict[str, tuple[list[dict[str, Any]], Reason]] = {
    "of an old head": ([{"commit": "a" * 40}], Reason.REVIEW_REQUIRED),
    "by the author": ([{"by": IDENTITY}], Reason.REVIEW_REQUIRED),
    "by the author in capitals": (
        [{"by": IDENTITY.model_copy(update={"email": IDENTITY.email.upper()})}], Reason.REVIEW_REQUIRED,
    ),
    "taken back": ([{}, {"verdict": "changes_requested"}], Reason.CHANGES_REQUESTED),
    "beside another's no": ([{}, {"by": BOB, "verdict": "changes_requested"}], Reason.CHANGES_REQUESTED),
    "beside a no on an old head": (
        [{}, {"by": BOB, "verdict": "changes_requested", "commit": "a" * 40}], Reason.CHANGES_REQUESTED,
    ),
    "overtaken by one of an old head": ([{}, {"commit": "a" * 40}], Reason.REVIEW_REQUIRED),
}  # fmt: skip


@pytest.mark.parametrize("name", APPROVALS)
def test_approvals_that_do_not_count(reviewed: World, name: str) -> None:
    reviews, reason = APPROVALS[name]
    for over in reviews:
        reviewed.approve(reviewed.forge(), **over)
    blocked(reviewed, reason)


def test_a_no_that_was_taken_back_counts_as_yes(reviewed: World) -> None:
    reviewed.approve(reviewed.forge(), verdict="changes_requested")
    reviewed.approve(reviewed.forge())
    assert reviewed.apply(reviewed.forge()).ok


def test_the_pull_request_cannot_bring_the_number_of_approvals(reviewed: World) -> None:
    """Its own configuration is not the one that is asked."""
    text = reviewed.file(CONFIG).replace(b"required_approvals: 1", b"required_approvals: 0")
    reviewed.commit({CONFIG: text}, branch=BRANCH, by=IDENTITY)
    applied = blocked(reviewed, Reason.VERIFY_STALE)
    assert Reason.REVIEW_REQUIRED in {v.reason for v in applied.decision.closed}


# -- what moves meanwhile ----------------------------------------------------------------------------------------------


class FlippingSwitch:
    """A kill switch that is thrown at the n-th read."""

    def __init__(self, at: int, then: Callable[[], object] = lambda: None) -> None:
        self.reads = 0
        self._at = at
        self._then = then

    def read(self, *, pr: PullRequest | None = None) -> tuple[KillReading, ...]:
        self.reads += 1
        if self.reads == self._at:
            self._then()
        active = self.reads >= self._at
        return (KillReading(source="test", configured=True, active=active, detail="thrown" if active else "clear"),)


def test_a_kill_switch_thrown_while_the_gate_is_asked_counts(ready: World) -> None:
    for at in (1, 2):
        applied = blocked(ready, Reason.KILL_SWITCH, kill=FlippingSwitch(at))
        assert applied.kill_active is not None
    never = FlippingSwitch(99)
    assert ready.apply(ready.forge(), kill=never).ok
    assert never.reads == 2, "read at the start, and last of all before the merge"


MEANWHILE: dict[str, tuple[Callable[[World], object], set[Reason]]] = {
    "base moved": (lambda w: w.commit({"README.md": b"x"}), {Reason.VERIFY_STALE, Reason.BASE_MOVED}),
    "kill switch file": (lambda w: w.commit({KILL_SWITCH_PATH: b""}), {Reason.KILL_SWITCH, Reason.BASE_MOVED}),
    "kill switch label": (
        lambda w: edit(w, labels=(LABEL_KILL_SWITCH,)), {Reason.KILL_SWITCH, Reason.NOT_MERGEABLE},
    ),
    "head moved": (old_head, {Reason.VERIFY_STALE, Reason.HEAD_MOVED}),
    "branch deleted": (
        lambda w: w.server.run("update-ref", "-d", f"refs/heads/{BRANCH}"), {Reason.VERIFY_MISSING, Reason.HEAD_MOVED},
    ),
    "closed": (
        lambda w: edit(w, state=PrState.CLOSED, closed_by=BOB), {Reason.PR_NOT_OPEN},
    ),
    "made a draft": (lambda w: edit(w, draft=True), {Reason.PR_DRAFT, Reason.NOT_MERGEABLE}),
    "changes requested": (
        lambda w: w.approve(w.forge(), by=BOB, verdict="changes_requested"),
        {Reason.CHANGES_REQUESTED, Reason.NOT_MERGEABLE},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANWHILE)
def test_nothing_that_happens_meanwhile_gets_anything_merged(ready: World, name: str) -> None:
    """Before each fetch, which is when the gate sees the world, and before the push itself."""
    act, reasons = MEANWHILE[name]
    saved = ready.refs()
    seen: list[str] = []
    while "merge" not in seen:
        at = len(seen)
        calls: list[str] = []

        def happen(call: str, at: int = at, calls: list[str] = calls) -> None:
            if call in ("refresh", "merge"):
                calls.append(call)
                if len(calls) == at + 1:
                    seen.append(call)
                    act(ready)

        forge: Any = HookedForge(ready.forge(), before=happen)
        applied = ready.apply(forge, kill=GateKillSwitch(forge))
        assert not applied.ok, f"merged although {name} before {seen}"
        assert applied.reason in {Reason.VERIFY_STALE, Reason.VERIFY_MISSING, *reasons}, f"{applied.reason} at {seen}"
        assert [c for c in ready.server.log("main", limit=3) if len(c.parents) == 2] == []
        for ref in ready.refs().keys() | saved.keys():
            ready.server.set_refs({ref: saved.get(ref)})
    assert seen == ["refresh", "refresh", "refresh", "merge"]
    assert ready.apply(ready.forge()).ok, "left alone, it is merged"


def test_a_harmless_remark_meanwhile_does_not_stop_it(ready: World) -> None:
    def remark() -> None:
        ready.approve(ready.forge(), by=ALICE)

    assert ready.apply(ready.forge(), kill=FlippingLabel(ready, remark)).ok


class FlippingLabel(GateKillSwitch):
    """The real kill switch, with something happening just before its second read."""

    def __init__(self, world: World, act: Callable[[], None]) -> None:
        super().__init__(world.opened[-1])
        self._act: list[Callable[[], None]] = [lambda: None, act]

    def read(self, *, pr: PullRequest | None = None) -> tuple[KillReading, ...]:
        self._act.pop(0)()
        return super().read(pr=pr)


def test_a_gate_that_took_too_long_merges_nothing(ready: World) -> None:
    forge = ready.forge()
    before = ready.refs()

    def slow(call: str) -> None:
        if call == "merge":
            ready.clock.advance(61)

    hooked: Any = HookedForge(forge, before=slow)
    with pytest.raises(IntegrityError, match="older than 60 s"):
        ready.apply(hooked, kill=GateKillSwitch(forge))
    assert ready.refs() == before


def test_a_merge_that_is_not_confirmed_is_told_as_such(ready: World) -> None:
    def fail(call: str) -> None:
        if call == "merge":
            raise ForgeError("the line went dead", retryable=True)

    hooked: Any = HookedForge(ready.forge(), before=fail)
    with pytest.raises(ForgeError, match="asked for and not confirmed: the line went dead") as caught:
        ready.apply(hooked)
    assert caught.value.retryable


def test_a_merge_that_is_not_what_was_verified_is_called_out(ready: World) -> None:
    """A forge that merges something else: seen when the merge is looked at."""
    forge = ready.forge()

    class Wrong(HookedForge):
        def merge(self, permit: Any, *, message: str) -> str:
            forge.merge(permit, message=message)
            sha = ready.commit({"other": b"x"})
            edit(ready, merge_sha=sha)
            forge.refresh()
            return sha

    wrong: Any = Wrong(forge)
    with pytest.raises(IntegrityError, match="not what was verified.*#2 takes it back"):
        ready.apply(wrong, kill=FlippingSwitch(99))
    assert KILL_SWITCH_PATH in {entry.path for entry in ready.server.tree(ready.tip())}
    way_back = ready.forge().get_pr(2)
    assert way_back is not None
    assert (way_back.state, way_back.rollback_of) == (PrState.OPEN, 1)
    assert IntentFile(ready.path.parent / "intents").read() is None


def test_a_crash_after_the_merge_is_made_up_for_by_the_next_run(ready: World) -> None:
    """Killed between the merge and looking at it: the next one looks, and merges nothing twice."""
    forge = ready.forge()

    class Killed(HookedForge):
        def merge(self, permit: Any, *, message: str) -> str:
            forge.merge(permit, message=message)
            raise KeyboardInterrupt

    killed: Any = Killed(forge)
    with pytest.raises(KeyboardInterrupt):
        ready.apply(killed)
    intents = IntentFile(ready.path.parent / "intents")
    assert intents.read() is not None
    merged = ready.tip()
    assert finish_merge(ready.place(ready.forge()), ready.tools) == merged
    assert intents.read() is None
    assert finish_merge(ready.place(ready.forge()), ready.tools) is None
    assert ready.tip() == merged


def test_a_crash_before_the_merge_leaves_nothing_to_do(ready: World) -> None:
    def die(call: str) -> None:
        if call == "merge":
            raise KeyboardInterrupt

    hooked: Any = HookedForge(ready.forge(), before=die)
    with pytest.raises(KeyboardInterrupt):
        ready.apply(hooked)
    before = ready.refs()
    assert finish_merge(ready.place(ready.forge()), ready.tools) is None
    assert ready.refs() == before
    assert ready.apply(ready.forge()).ok


def test_without_a_record_of_the_intent_nothing_is_merged(ready: World) -> None:
    (ready.path.parent / "intents").write_bytes(b"a file where the folder should be")
    before = ready.refs()
    with pytest.raises(PeerError, match="can't be (read|written)"):
        ready.apply(ready.forge())
    assert ready.refs() == before


def test_two_at_once_merge_once(ready: World) -> None:
    one, two = ready.forge(), ready.forge()
    done: list[Any] = []

    def other(call: str) -> None:
        if call == "merge" and not done:
            done.append(ready.apply(two))

    hooked: Any = HookedForge(one, before=other)
    mine = ready.apply(hooked, kill=GateKillSwitch(one))
    assert [mine.ok, done[0].ok] == [False, True]
    assert mine.reason is Reason.BASE_MOVED
    assert len(ready.server.log("main")) == 2
