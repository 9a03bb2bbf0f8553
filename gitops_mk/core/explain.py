"""Why there is a pull request, or why there is none, in plain words: from a report, or from a plan's own record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gitops_mk.core.envelope.rules.worth import sum_up
from gitops_mk.core.render.figures import duration
from gitops_mk.core.render.text import plain
from gitops_mk.errors import InputError
from gitops_mk.model.plan import Plan
from gitops_mk.model.signal import Signal, SignalName
from gitops_mk.model.weighing import Weighing

# What a person can do about what no knob mends, or where one is not sure to.
ADVICE: Mapping[str, str] = {
    "drift_loss": "look at the learning rate and at the data since the onset; the last checkpoint before it is the way back",
    "drift_step": 'if it was planned, let the job log {"event": "schedule", "step": N}: then it is not called a drift',
    "straggler": "if the worker is slow in computing and not in reading input, cordon its node: no knob mends that",
    "comm_congestion": "look at the network between the nodes: links, congestion counters, neighbours",
    "near_hang": "look at the logs of all ranks round these steps, and at Xid errors and storage",
}


# And where the telemetry locates the cause.
ADVICE_BY_CAUSE: Mapping[str, str] = {
    "input": "the steps wait for input: look at the storage, and at what else reads from it",
    "memory": "memory runs short: look at what else is on the device, and at fragmentation",
    "clock": "the clocks fell: look at temperatures and power limits of the nodes",
    "compute": "it is not input that the steps wait for: cordon the slow node, or look at what else runs there",
}


def explain_report(body: Any, *, what: str) -> tuple[str, ...]:
    """A report of `mk observe` or `mk closed-loop` in sentences. Raises InputError for anything else."""
    if not isinstance(body, dict) or not isinstance(body.get("signals"), dict) or "classification" not in body:
        raise InputError(
            f"{what} is no report of observe or closed-loop",
            hint="name observe_latest.json or closed_loop_latest.json, or the folder that holds one",
        )
    return (*_seen(body), *_decided(body))


def explain_plan(plan: Plan) -> tuple[str, ...]:
    """A plan's record in sentences: what was seen, and why these values."""
    seen = plan.observation
    moves = ", ".join(f"{c.knob} from {c.before} to {c.after}" for c in plan.changes)
    return (
        f"Looked at {seen.window.steps} steps from {seen.source}.",
        *_found(s for s in seen.signals if s.found),
        f"{plan.chord} moves {moves}: {plain(plan.rationale, most=300)}.",
        *_worth(plan.weighing),
        *(f"{i.name} stays {i.after} ({i.formula})." for i in plan.invariants if i.before == i.after),
        f"What was ruled out: {', '.join(str(s.name) for s in seen.signals if not s.found) or 'nothing'}.",
    )


def _worth(weighing: Weighing | None) -> Iterator[str]:
    if weighing is None:
        return
    yield f"Worth it: {sum_up(weighing)}."
    yield f"  Gain: {weighing.gain.reasoning}."
    yield f"  Cost: {weighing.cost.reasoning}."
    if weighing.gain.weighed and weighing.break_even_s:
        yield f"  Break-even after {duration(weighing.break_even_s)} of training."


def _found(signals: Iterable[Signal]) -> Iterator[str]:
    for signal in signals:
        yield f"{signal.name}: {plain(signal.evidence.summary, most=300)}."
        yield from _advice(signal.name, signal.evidence.cause)


def _advice(name: str, cause: Any) -> Iterator[str]:
    advice = ADVICE_BY_CAUSE.get(cause) if isinstance(cause, str) else None
    if advice is not None or name in ADVICE:
        yield f"  For you: {advice or ADVICE[name]}."


def _seen(body: Mapping[str, Any]) -> Iterator[str]:
    window, ingest = _map(body, "window"), _map(body, "ingest")
    yield (
        f"Looked at {_word(window.get('steps'))} steps from {_word(body.get('source'))} "
        f"({_word(ingest.get('lines'))} lines, {_word(ingest.get('dropped_total'))} unusable)."
    )
    if body["classification"] == "insufficient_evidence":
        yield "That is too little evidence to say anything, so nothing was proposed: absence of evidence is not stability."
    evidence = _map(body, "evidence")
    for name in (str(n) for n in SignalName if n is not SignalName.DRIFT):
        if body["signals"].get(name) is not True:
            continue
        told = _map(evidence, name)
        yield f"{name}: {_word(told.get('summary'))}."
        if told.get("actionable") is not True:
            yield "  On this evidence alone no pull request is opened: it is for people to read."
        yield from _advice(name, told.get("cause"))
    if body["signals"].get("stable") is True:
        yield "There was enough evidence, and nothing wrong in it."


def _decided(body: Mapping[str, Any]) -> Iterator[str]:
    waiting = _map(body, "confirmation")
    if waiting:
        yield f"Seen in {_word(waiting.get('seen'))} looks in a row; {_word(waiting.get('needed'))} that agree are needed."
    results = body.get("results")
    for result in results if isinstance(results, list) else ():
        if not isinstance(result, dict):
            continue
        chord, status = _word(result.get("chord")), result.get("status")
        why = f"{_word(result['reason'])}: " if result.get("reason") else ""
        if status == "planned":
            yield f"{chord} was planned: every rule of the passport and the catalog allows it."
        elif status == "blocked":
            yield f"{chord} was not: {why}{_word(result.get('message'))}. docs/reasons.md says what to do."
        elif status == "deferred":
            yield f"{chord} waits: one chord at a time."
        else:
            yield "There was nothing to do."
    if body.get("dry_run") is True:
        yield "It was a dry run: nothing was written anywhere."
    elif body.get("apply_ok") is True:
        yield "It was merged."
    elif body.get("apply_blocked_reason"):
        said = f" ({_word(body['apply_blocked_message'])})" if body.get("apply_blocked_message") else ""
        yield f"It was not merged: {_word(body['apply_blocked_reason'])}{said}."


def _map(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def _word(value: Any) -> str:
    return "an unknown number of" if value is None else plain(str(value), most=300).rstrip(".")
