"""What `ports.KillSwitch` promises: any source is enough, none clears another, and what can't be read counts as active."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gitops_mk.adapters.killswitch import VARIABLE, GateKillSwitch, RecentKillSwitch, read_environment
from gitops_mk.controller.killing import throw
from gitops_mk.errors import ClusterError, ConflictError, ForgeError, GitError
from gitops_mk.model.change import LABEL_KILL_SWITCH, PullRequest
from gitops_mk.model.settings import CONFIG_PATH, KILL_SWITCH_PATH
from gitops_mk.ports import KillSwitch
from tests.support.make import pull_request
from tests.support.world import HookedForge, World, template


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.delenv(VARIABLE, raising=False)
    made = World(template(tmp_path))
    yield made
    made.close()


def active(switch: KillSwitch, pr: PullRequest | None = None) -> list[str]:
    return [reading.source for reading in switch.read(pr=pr) if reading.active]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, False), ("0", False), ("1", True), ("", True), ("false", True), ("00", True), (" 0", True), ("off", True)],
)
def test_the_variable_is_clear_when_unset_or_exactly_zero(
    value: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    reading = read_environment()
    assert (reading.active, reading.configured) == (expected, True)
    if value == "1":
        assert reading.detail == "MODEKEEPER_KILL_SWITCH=1"
    assert active(GateKillSwitch(None)) == (["environment"] if expected else [])


@pytest.mark.parametrize(("variable", "file", "label"), list(product((False, True), repeat=3)))
def test_any_source_is_enough(
    world: World, monkeypatch: pytest.MonkeyPatch, variable: bool, file: bool, label: bool
) -> None:
    forge = world.forge()
    pr = forge.create_pr(pull_request(labels=(LABEL_KILL_SWITCH,) if label else ("modekeeper",)))
    if variable:
        monkeypatch.setenv(VARIABLE, "1")
    if file:
        world.commit({KILL_SWITCH_PATH: b""})
    expected = [name for name, on in (("environment", variable), ("base branch", file), ("label", label)) if on]
    assert active(GateKillSwitch(forge), pr) == expected
    assert len(GateKillSwitch(forge).read(pr=pr)) == 5, "every source is told, clear ones too"


def test_every_read_is_fresh(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    forge, other = world.forge(), world.forge()
    pr = forge.create_pr(pull_request())
    switch = GateKillSwitch(forge)
    assert active(switch, pr) == []
    other.refresh()
    other.update_pr(pr, pr.model_copy(update={"labels": (LABEL_KILL_SWITCH,)}))
    assert active(switch, pr) == ["label"], "the live record counts, not the one that was handed in"
    world.commit({KILL_SWITCH_PATH: b"stop\n"})
    assert active(switch, pr) == ["base branch", "label"]
    monkeypatch.setenv(VARIABLE, "1")
    assert active(switch) == ["environment", "base branch"]


def test_a_folder_a_link_or_a_submodule_of_that_name_throws_it_too(world: World) -> None:
    world.commit({f"{KILL_SWITCH_PATH}/why": b"x"})
    assert active(GateKillSwitch(world.forge())) == ["base branch"]


def test_a_label_of_a_pull_request_that_is_gone_still_counts(world: World) -> None:
    pr = pull_request(number=7, labels=(LABEL_KILL_SWITCH,))
    assert active(GateKillSwitch(world.forge()), pr) == ["label"]


def raising(world: World, method: str, error: Exception) -> GateKillSwitch:
    def fail(name: str) -> None:
        if name == method:
            raise error

    forge: Any = HookedForge(world.forge(), before=fail)
    return GateKillSwitch(forge)


@pytest.mark.parametrize("error", [ForgeError("down"), GitError("down"), OSError(28, "down"), ValueError("down")])
def test_what_cannot_be_read_counts_as_active(world: World, error: Exception) -> None:
    pr = world.forge().create_pr(pull_request())
    assert active(raising(world, "refresh", error), pr) == ["base branch"]
    # What the base branch configures is not known then, either.
    assert active(raising(world, "base_tip", error), pr) == ["base branch", "ConfigMap"]
    assert active(raising(world, "get_pr", error), pr) == ["label"]
    assert "down" in next(r.detail for r in raising(world, "get_pr", error).read(pr=pr) if r.active)


def test_a_git_server_that_is_gone_counts_as_active(world: World, tmp_path: Path) -> None:
    forge = world.forge()
    world.path.rename(tmp_path / "moved.git")
    assert active(GateKillSwitch(forge)) == ["base branch"]


def test_a_base_branch_that_is_gone_counts_as_active(world: World) -> None:
    forge = world.forge()
    world.server.run("update-ref", "-d", "refs/heads/main")
    assert active(GateKillSwitch(forge)) == ["base branch", "ConfigMap"]


class OneConfigMap:
    """A cluster that has one ConfigMap, or an error."""

    def __init__(self, data: dict[str, str] | None, error: Exception | None = None) -> None:
        self.data = data
        self.error = error
        self.asked: list[tuple[str, str, str | None]] = []

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> dict[str, Any] | None:
        self.asked.append((kind, name, namespace))
        if self.error is not None:
            raise self.error
        return None if self.data is None else {"data": self.data}


CONFIGURED = b"cluster:\n  consult: auto\n  kill_switch: {namespace: modekeeper-system, name: modekeeper-kill-switch}\n"


def configured(world: World) -> None:
    text = world.file(CONFIG_PATH).replace(
        b"cluster:\n  # This trainer runs in no cluster.\n  consult: never\n", CONFIGURED
    )
    assert CONFIGURED in text
    world.commit({CONFIG_PATH: text})


@pytest.mark.parametrize(
    ("data", "thrown"),
    [
        ({"kill": "0"}, False),
        ({"kill": "1"}, True),
        ({"kill": ""}, True),
        ({"kill": "off"}, True),
        ({}, True),
        (None, True),
    ],
)
def test_the_config_map_is_clear_only_at_0(world: World, data: dict[str, str] | None, thrown: bool) -> None:
    configured(world)
    cluster: Any = OneConfigMap(data)
    assert active(GateKillSwitch(world.forge(), cluster)) == (["ConfigMap"] if thrown else [])
    assert cluster.asked == [("ConfigMap", "modekeeper-kill-switch", "modekeeper-system")]


@pytest.mark.parametrize("error", [ClusterError("403"), OSError(111, "refused")])
def test_a_config_map_that_cannot_be_read_counts_as_active(world: World, error: Exception) -> None:
    configured(world)
    unreadable: Any = OneConfigMap(None, error)
    assert active(GateKillSwitch(world.forge(), unreadable)) == ["ConfigMap"]
    assert active(GateKillSwitch(world.forge())) == ["ConfigMap"], "configured, and no cluster to ask"


def test_no_config_map_is_asked_for_where_none_is_configured(world: World) -> None:
    cluster: Any = OneConfigMap({"kill": "1"})
    assert active(GateKillSwitch(world.forge(), cluster)) == []
    assert cluster.asked == []


# -- throwing and clearing the repository's own ----------------------------------------------------------------------


def test_thrown_and_cleared_by_one_commit_each(world: World) -> None:
    place = world.place()
    files = world.server.files("main")
    first = throw(place, active=True, reason="benchmark\nweek", clock=world.clock)
    assert first == world.tip()
    assert world.file(KILL_SWITCH_PATH) == b"2026-03-01T12:00:00Z benchmark week\n"
    assert throw(place, active=True, reason="again", clock=world.clock) is None
    assert active(GateKillSwitch(place.forge)) == ["base branch"]
    second = throw(place, active=False, reason="", clock=world.clock)
    assert second == world.tip()
    assert throw(place, active=False, reason="", clock=world.clock) is None
    assert world.server.files("main") == files
    assert [c.author for c in world.server.log("main")[:2]] == [world.forge().identity] * 2


def test_clearing_takes_a_folder_out_too(world: World) -> None:
    world.commit({f"{KILL_SWITCH_PATH}/a": b"x", f"{KILL_SWITCH_PATH}/b/c": b"x"})
    place = world.place()
    assert throw(place, active=True, reason="", clock=world.clock) is None
    assert throw(place, active=False, reason="", clock=world.clock) is not None
    assert active(GateKillSwitch(place.forge)) == []


def test_thrown_while_others_push_to_the_base(world: World) -> None:
    count = 0

    def push(name: str) -> None:
        nonlocal count
        if name == "commit_base" and count < 3:
            count += 1
            world.commit({f"file{count}": b"x"})

    forge: Any = HookedForge(world.forge(), before=push)
    assert throw(world.place(forge), active=True, reason="r", clock=world.clock) == world.tip()
    assert {f"file{number}" for number in (1, 2, 3)} <= set(world.server.files("main"))


def test_it_gives_up_on_an_endless_race(world: World) -> None:
    count = iter(range(100))

    def push(name: str) -> None:
        if name == "commit_base":
            world.commit({"file": b"%d" % next(count)})

    forge: Any = HookedForge(world.forge(), before=push)
    with pytest.raises(ConflictError):
        throw(world.place(forge), active=True, reason="r", clock=world.clock)


def test_what_happens_within_seconds_is_one_reading_but_for_the_gate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge = world.forge()
    pr = forge.create_pr(pull_request())
    recent = RecentKillSwitch(GateKillSwitch(forge), world.clock)
    assert active(recent) == []
    monkeypatch.setenv(VARIABLE, "1")
    assert active(recent) == []
    assert active(recent, pr) == ["environment"], "the gate's own reading is a fresh one"
    world.clock.advance(5.1)
    assert active(recent) == ["environment"]
