"""The whole loop around a real trainer: something slows it down, a pull request mends it, and both are measured."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gitops_mk.adapters.artifacts import FolderStore
from gitops_mk.adapters.license_files import KEYRING_VARIABLE, mint
from gitops_mk.adapters.telemetry.files import FileSource
from gitops_mk.config import Access
from gitops_mk.controller.apply import Applied
from gitops_mk.controller.loop import LoopResult, apply_and_report, run_once, target_of, verify_and_record
from gitops_mk.controller.proposing import propose_plan
from gitops_mk.controller.tools import Tools, Workplace
from gitops_mk.core.detect.observer import Observer
from gitops_mk.core.outcome import Outcome, judge_outcome
from gitops_mk.core.planner import Options
from gitops_mk.demo.embedded import make_embedded
from gitops_mk.demo.narrator import Narrator
from gitops_mk.demo.runner import Summary, Trainer, summarise
from gitops_mk.demo.sync import sync, sync_config_map
from gitops_mk.errors import IntegrityError
from gitops_mk.model.change import Person, PullRequest, Review
from gitops_mk.model.plan import Plan
from gitops_mk.model.times import format_time
from gitops_mk.model.workload import Delivery
from gitops_mk.wiring import open_workplace

REVIEWER = Person(name="Demo Reviewer", email="reviewer@gitops.invalid")
FAULTS = {
    "straggler": "one of the two data loaders reads from a slow disk",
    "drift": "a noisy neighbour takes more and more of the memory that activations need",
    "burst": "the storage hiccups now and then",
}
# Long enough to be sure, short enough to watch: see the detectors' limits in docs/signals.md.
OBSERVE_STEPS = {"straggler": 100, "drift": 220, "burst": 240}
AFTER_STEPS = {"straggler": 80, "drift": 120, "burst": 160}
SETTLE_STEPS = 10
PATIENCE = 4
TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Measured:
    """The same trainer before and after the merge."""

    fault: str
    before: Summary
    after: Summary
    pr: PullRequest
    merge_sha: str
    outcome: Outcome


@dataclass(frozen=True)
class Mounted:
    """What the trainer finds its knobs in: the file of its pod's annotations, or the folder that a ConfigMap is mounted as."""

    delivery: Delivery
    path: Path

    def sync(self, place: Workplace, tools: Tools) -> str:
        """What Argo CD and the kubelet would do with the base branch; gives its revision."""
        target = target_of(place, tools, lambda policy: policy.settings.workloads[0])
        if self.delivery == "configmap":
            return sync_config_map(place.forge, target.policy.settings, target.workload, self.path, tools)
        return sync(place.forge, target.workload, self.path, tools)

    def trainer(self, log: Path, fault: str) -> Trainer:
        """The trainer, to be started."""
        if self.delivery == "configmap":
            return Trainer(knobs_dir=self.path, log=log, fault=fault, seed=7)
        return Trainer(annotations=self.path, log=log, fault=fault, seed=7)


def mounted(out: Path, delivery: Delivery) -> Mounted:
    """Where it is, below the demo's folder."""
    if delivery == "configmap":
        return Mounted(delivery, out / "knobs")
    (out / "podinfo").mkdir(exist_ok=True)
    return Mounted(delivery, out / "podinfo" / "annotations")


def tell(fault: str, out: Path, tools: Tools, narrator: Narrator, *, delivery: Delivery = "annotation") -> Measured:
    """Tell the story of one fault. Raises MkError when the loop does not come to a merge: a demo must not pretend."""
    store = FolderStore(out)
    repo = make_embedded(out / "gitops", approvals=1, delivery=delivery)
    knobs, log = mounted(out, delivery), out / "trainer.log"
    with open_workplace(Access(repo=repo), tools, writes=False) as place:
        narrator.step(f"A training job runs, and {FAULTS[fault]}")
        revision = knobs.sync(place, tools)
        carries = "a mounted ConfigMap carries" if delivery == "configmap" else "the pod's annotations carry"
        narrator.say(f"Argo CD's stand-in syncs {revision[:12]}: {carries} the knobs")
        with knobs.trainer(log, fault) as trainer:
            with narrator.progress("training steps", OBSERVE_STEPS[fault]) as progress:
                trainer.wait_for_steps(OBSERVE_STEPS[fault], timeout=TIMEOUT_S, progress=progress)
            return _mend(fault, trainer, place, knobs=knobs, log=log, store=store, tools=tools, narrator=narrator)


def _mend(
    fault: str,
    trainer: Trainer,
    place: Workplace,
    *,
    knobs: Mounted,
    log: Path,
    store: FolderStore,
    tools: Tools,
    narrator: Narrator,
) -> Measured:
    out = Path(store.out_dir)
    narrator.step("ModeKeeper reads the log, names the cause and opens a pull request")
    narrator.think(
        "It plans one bounded move of the knobs that can mend this cause, and keeps the global batch as it is."
    )
    first = _turn(place, log, out / "1-unlicensed", tools)
    for again in range(2, PATIENCE + 1):
        if first.planned.plan is not None:
            break
        # A machine that is busy otherwise can hide a hiccup: then there is no evidence yet, and more has to be seen.
        narrator.say("not enough evidence to act on yet: it watches on")
        more = trainer.steps() + AFTER_STEPS[fault] // 2
        with narrator.progress("training steps", more) as progress:
            trainer.wait_for_steps(more, timeout=TIMEOUT_S, progress=progress)
        first = _turn(place, log, out / f"1-unlicensed-{again}", tools)
    for signal in first.observation.signals:
        if signal.found:
            narrator.say(f"{signal.name}: {signal.evidence.summary}")
    pr = first.applied.pr if first.applied else None
    if first.planned.plan is None or pr is None or first.applied is None:
        raise IntegrityError(f"the {fault} demo came to no pull request: {first.payload['apply_decision_summary']}")
    seen = trainer.steps()
    narrator.say(f"#{pr.number} {pr.title}")
    for change in first.planned.plan.changes:
        narrator.say(f"  {change.knob}: {change.before} -> {change.after}")
    narrator.quote(pr.body.split("### What merging does")[0])
    narrator.step("mk verify judges the pull request as CI would")
    verified = first.applied.verified
    for verdict in verified.steps if verified else ():
        narrator.say(f"{'ok' if verdict.allowed else 'NO'}  {verdict.rule}: {verdict.message}")
    narrator.step("Without a licence the gate stays closed")
    narrator.say(f"{first.applied.reason}: {first.applied.message} (exit {first.exit_code})")

    narrator.step("A licence, a reviewer's approval, and the gate opens")
    license_path, keyring = mint(out / "license", org="demo", days=1)
    narrator.say(f"minted a development licence for a day: {license_path}")
    with (
        _keyring(keyring),
        open_workplace(
            Access(repo=out / "gitops" / "gitops.git", license_path=license_path), tools, writes=False
        ) as licensed,
    ):
        _approve(licensed, pr, tools)
        narrator.say(f"{REVIEWER.name} approves {str(pr.head_sha)[:12]}")
        applied = _apply(licensed, first.planned.plan, FolderStore(out / "2-licensed"), tools)
    if not applied.ok or applied.pr is None or applied.merge_sha is None:
        raise IntegrityError(f"the {fault} demo was not merged: {applied.reason}: {applied.message}")
    narrator.say(f"merged as {applied.merge_sha[:12]}: that, and nothing else, is how a change is applied")

    narrator.step("Argo CD's stand-in syncs the merge; the same trainer goes on with the new knobs")
    knobs.sync(place, tools)
    turned = trainer.wait_for_change(timeout=TIMEOUT_S)
    until = turned + SETTLE_STEPS + AFTER_STEPS[fault]
    with narrator.progress("training steps since", until - turned) as progress:
        trainer.wait_for_steps(until, timeout=TIMEOUT_S, progress=lambda done: progress(done - turned))
    before = summarise(log, *before_window(fault, seen))
    after = summarise(log, turned + SETTLE_STEPS, until)
    show(before, after, narrator)
    outcome = prove(first.planned.plan, log, turned + SETTLE_STEPS)
    narrator.say(f"{outcome.verdict}: {outcome.lines[0]}")
    return Measured(fault, before, after, applied.pr, applied.merge_sha, outcome)


def prove(plan: Plan, log: Path, first_step: int) -> Outcome:
    """What was promised against what came since `first_step`, judged as the controller judges it after a rollout."""
    observer = Observer("file")
    with log.open("rb") as lines:
        for line in lines:
            if int(json.loads(line)["step"]) >= first_step:
                observer.feed(line)
    outcome = judge_outcome(plan, observer.finish(), last_call=True)
    if outcome is None:
        raise IntegrityError(f"{log}: nothing can be said of what came of the change")
    return outcome


def before_window(fault: str, seen: int) -> tuple[int, int]:
    """The steps to compare with: as many before the merge as after it, so that a drift counts by where it had come to."""
    length = min(AFTER_STEPS[fault], seen // 2) if fault != "drift" else AFTER_STEPS[fault] // 3
    return max(1, seen - length), seen


def show(before: Summary, after: Summary, narrator: Narrator) -> None:
    """The measurement as a table."""

    def row(name: str, old: float, new: float, unit: str) -> tuple[str, str, str, str]:
        return name, f"{old:.1f} {unit}", f"{new:.1f} {unit}", f"{100 * (new / old - 1):+.0f} %" if old else "n/a"

    narrator.table(
        ("measured", "before", "after", "change"),
        (
            row("median step", before.median_step_ms, after.median_step_ms, "ms"),
            row("95th percentile", before.p95_step_ms, after.p95_step_ms, "ms"),
            row("throughput", before.throughput, after.throughput, "samples/s"),
        ),
    )


def _turn(place: Workplace, log: Path, out: Path, tools: Tools) -> LoopResult:
    """One turn of the closed loop over the trainer's own log."""
    target = target_of(place, tools, lambda policy: policy.settings.workloads[0])
    return run_once(target, FileSource(str(log)), Options(), tools, FolderStore(out), apply=True)


def _apply(place: Workplace, plan: Plan, artifacts: FolderStore, tools: Tools) -> Applied:
    """What `mk propose`, `mk verify --pr` and `mk apply --pr` do, one after the other: now licensed, so no draft any more."""
    proposal = propose_plan(place, plan, tools)
    if proposal.pr is None:
        raise IntegrityError(f"the plan was not proposed again: {proposal.reason}: {proposal.message}")
    outcome, pr, report = verify_and_record(place, proposal.pr, plan, tools, artifacts)
    return apply_and_report(place, pr, plan, tools, artifacts, verify_report=report, reported_ok=outcome.ok)[0]


def _approve(place: Workplace, pr: PullRequest, tools: Tools) -> None:
    place.forge.add_review(
        pr.number,
        Review(by=REVIEWER, verdict="approved", commit=pr.head_sha or "", at=format_time(tools.clock.now())),
    )


@contextmanager
def _keyring(path: Path) -> Iterator[None]:
    """Trust the minted key inside the block alone."""
    before = os.environ.get(KEYRING_VARIABLE)
    os.environ[KEYRING_VARIABLE] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ[KEYRING_VARIABLE]
        else:
            os.environ[KEYRING_VARIABLE] = before
