"""A small world around the controller: an embedded GitOps repository, a clock that stands, people, and a licence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from gitops_mk.adapters.forge_local import LocalForge
from gitops_mk.adapters.git import GitRepo
from gitops_mk.adapters.intents import IntentFile
from gitops_mk.adapters.killswitch import GateKillSwitch
from gitops_mk.adapters.kustomize import Kustomize
from gitops_mk.adapters.resources import built_in, wording
from gitops_mk.controller.apply import Applied, apply_pr
from gitops_mk.controller.builds import CachingBuilder
from gitops_mk.controller.propose import Proposal, Proposed, propose
from gitops_mk.controller.state import identity_of, policy_of, state_on_base
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.controller.verify import record_check, verify_pr
from gitops_mk.core.planner import Options, WorkloadState, compute_action, make_plan
from gitops_mk.demo.embedded import make_embedded
from gitops_mk.model.change import Person, PullRequest, Review
from gitops_mk.model.chord import Intent
from gitops_mk.model.gate import VerifyOutcome
from gitops_mk.model.license import LicenseStatus
from gitops_mk.model.plan import Plan
from gitops_mk.model.signal import SignalName
from gitops_mk.model.times import format_time
from gitops_mk.ports import Cluster, Forge, KillSwitch
from tests.support.make import ALICE, IDENTITY, StandingClock, observation

LICENSED = LicenseStatus(ok=True, org="tests", kid="test-key", entitlements=("apply",), expires_at=4_000_000_000)
UNLICENSED = LicenseStatus(ok=False, reason="license_missing", message="no licence")
OVERLAY = "overlays/demo"
PLAN_PATH = f"{OVERLAY}/modekeeper/trainer.plan.json"
KNOBS_PATH = f"{OVERLAY}/modekeeper/trainer.knobs.yaml"
COMPONENT_PATH = f"{OVERLAY}/modekeeper/kustomization.yaml"
BRANCH = "modekeeper/ml/deployment-trainer"
CONFIG = ".modekeeper/config.yaml"

Files = Mapping[str, bytes | None]


@cache
def builder() -> CachingBuilder:
    """The real kustomize; each tree is built once a test process."""
    return CachingBuilder(Kustomize())


@cache
def _texts() -> tuple[Any, Any]:
    return built_in(), wording()


@dataclass
class World:
    """One GitOps repository, as its server has it, and the ways to act on it."""

    path: Path
    clock: StandingClock = field(default_factory=StandingClock)
    remote: str = ""
    license: LicenseStatus = LICENSED
    opened: list[LocalForge] = field(default_factory=list)
    cluster: Cluster | None = None

    @property
    def server(self) -> GitRepo:
        """The server's own repository."""
        return GitRepo(self.path)

    @property
    def tools(self) -> Tools:
        policy, words = _texts()
        return Tools(self.clock, builder(), policy, words, "0.0.0", dict, cluster=self.cluster)

    def forge(self, identity: Person = IDENTITY) -> LocalForge:
        """A forge with a private clone of its own, as another process has it."""
        made = LocalForge(self.remote or str(self.path), base_branch="main", identity=identity, clock=self.clock)
        self.opened.append(made)
        return made

    def close(self) -> None:
        for forge in self.opened:
            forge.close()

    def place(self, forge: Forge | None = None, kill: KillSwitch | None = None) -> Workplace:
        forge = forge or self.forge()
        return Workplace(
            forge, kill or GateKillSwitch(forge), lambda: self.license, intents=IntentFile(self.path.parent / "intents")
        )

    # -- what others do on the server --------------------------------------------------------------------------------

    def refs(self) -> dict[str, str]:
        return self.server.refs("refs/")

    def tip(self, branch: str = "main") -> str:
        return self.refs()[f"refs/heads/{branch}"]

    def commit(self, files: Files, *, branch: str = "main", by: Person = ALICE, message: str = "Edit by hand\n") -> str:
        """A commit pushed by a person."""
        server, old = self.server, self.tip(branch)
        tree = server.write_tree(old, files)
        return self.put(branch, tree=tree, parents=[old], by=by, message=message)

    def put(self, branch: str, *, tree: str, parents: list[str], by: Person = IDENTITY, message: str = "m\n") -> str:
        """Any commit at all, put on a branch."""
        time = int(self.clock.now().timestamp())
        sha = self.server.write_commit(tree=tree, parents=parents, message=message, author=by, time=time)
        self.server.run("update-ref", f"refs/heads/{branch}", sha)
        return sha

    def file(self, path: str, branch: str = "main") -> bytes:
        found = self.server.read(self.tip(branch), path)
        assert found is not None, path
        return found

    # -- what the controller does ------------------------------------------------------------------------------------

    def state(self, forge: Forge) -> WorkloadState:
        forge.refresh()
        files = forge.repo.files(forge.base_tip())
        policy = policy_of(files, self.tools.built_in)
        return state_on_base(forge, files, policy, policy.settings.workloads[0], builder())

    def plan(self, forge: Forge, chord: Intent = Intent.INPUT_STRAGGLER, **over: Any) -> Plan:
        """The plan for a signal, from what stands on the base."""
        state = self.state(forge)
        signals = {Intent.INPUT_STRAGGLER: SignalName.STRAGGLER, Intent.BURST_ABSORB: SignalName.BURST}
        seen = observation(signals[chord])
        action = compute_action(state, chord, seen)
        plan = make_plan(state, action, seen, Options(), now=self.clock.now(), mk_version="0.0.0")
        return Plan.make(**{**{name: getattr(plan, name) for name in Plan.model_fields if name != "digest"}, **over})

    def propose(self, forge: Forge, plan: Plan | None = None, *, draft: bool = False, **over: Any) -> Proposal:
        """Propose on today's base."""
        plan = plan or self.plan(forge)
        base = forge.base_tip()
        files = forge.repo.files(base)
        policy = policy_of(files, self.tools.built_in)
        passport = policy.passport(policy.settings.workloads[0])
        wanted = Proposed(
            plan=plan, passport=passport, tier="safe", verdicts=(), draft=draft, settings=policy.settings, **over
        )
        return propose(
            forge, wanted, files, base,
            identity=identity_of(policy.settings), wording=self.tools.wording, clock=self.clock,
        )  # fmt: skip

    def verify(self, forge: Forge, number: int = 1, *, record: bool = True) -> VerifyOutcome:
        forge.refresh()
        pr = forge.get_pr(number)
        assert pr is not None
        outcome = verify_pr(forge, pr, builder=builder(), built_in=self.tools.built_in, clock=self.clock)
        if record:
            record_check(forge, pr, outcome, clock=self.clock)
        return outcome

    def approve(
        self, forge: Forge, number: int = 1, by: Person = ALICE, verdict: Any = "approved", **over: Any
    ) -> None:
        pr = forge.get_pr(number)
        assert pr is not None
        fields = {"by": by, "verdict": verdict, "commit": pr.head_sha, "at": format_time(self.clock.now())}
        forge.add_review(number, Review(**{**fields, **over}))

    def apply(self, forge: Forge, number: int = 1, *, kill: KillSwitch | None = None, **over: Any) -> Applied:
        """Ask the gate, and merge when it is open."""
        license_status = over.pop("license_status", self.license)
        asked = {"plan_digest": over.pop("plan_digest", None), "reported_ok": over.pop("reported_ok", None)}
        place = replace(self.place(forge, kill), license_status=lambda: license_status)
        return apply_pr(place, forge.get_pr(number), replace(self.tools, **over), **asked)

    def merged(self, forge: Forge, plan: Plan | None = None) -> PullRequest:
        """A change that has gone all the way."""
        proposal = self.propose(forge, plan)
        assert proposal.pr is not None
        self.verify(forge, proposal.pr.number)
        applied = self.apply(forge, proposal.pr.number)
        assert applied.ok, applied.message
        assert applied.pr is not None
        return applied.pr


def template(folder: Path, approvals: int = 0) -> Path:
    """An embedded repository to copy from."""
    return make_embedded(folder, approvals=approvals)


def copy_of(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


Hook = Callable[[str], None]
WRITES = ("push_branch", "create_pr", "update_pr", "add_review", "add_check", "add_comment", "merge", "commit_base")


class Killed(BaseException):
    """The process died here: nothing catches it on the way."""


class HookedForge:
    """A forge that calls `before` and `after` around each call, by its name; they may raise, or act in between."""

    def __init__(self, forge: Forge, *, before: Hook | None = None, after: Hook | None = None) -> None:
        self._forge = forge
        self._before = before or (lambda name: None)
        self._after = after or (lambda name: None)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._forge, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(name)
            result = found(*args, **kwargs)
            self._after(name)
            return result

        return call


def dying(forge: Forge, at: int, *, effect: bool) -> HookedForge:
    """A forge whose process dies at the `at`-th write: with it done (`effect`) or just before it."""
    count = 0

    def step(name: str) -> None:
        nonlocal count
        if name in WRITES:
            count += 1
            if count == at:
                raise Killed(name)

    return HookedForge(forge, after=step) if effect else HookedForge(forge, before=step)
