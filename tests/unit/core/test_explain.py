"""Why, in plain words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.explain import explain_plan, explain_report
from gitops_mk.core.weigh.weighing import weigh
from gitops_mk.errors import InputError
from gitops_mk.model.passport import Economics
from gitops_mk.model.signal import SignalName
from tests.support import make


def body(**over: Any) -> dict[str, Any]:
    return {
        "signals": {"straggler": True, "drift_step": True, "burst": False, "stable": False},
        "classification": "signal_found",
        "evidence": {
            "straggler": {"summary": "worker-1 is slow", "actionable": True},
            "drift_step": {"summary": "slower."},
        },
        "window": {"steps": 400},
        "ingest": {"lines": 401, "dropped_total": 1},
        "source": "file",
        **over,
    }


def text(**over: Any) -> str:
    return "\n".join(explain_report(body(**over), what="it"))


def test_what_was_seen() -> None:
    said = text()
    assert "Looked at 400 steps from file (401 lines, 1 unusable)." in said
    assert "straggler: worker-1 is slow." in said
    assert "cordon its node" in said
    assert "drift_step: slower.\n  On this evidence alone no pull request is opened" in said


def test_nothing_or_too_little() -> None:
    assert "nothing wrong in it" in text(signals={"stable": True}, classification="no_actionable_signal")
    said = text(signals={}, classification="insufficient_evidence", window=None)
    assert "absence of evidence is not stability" in said
    assert "an unknown number of steps" in said


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"status": "planned", "chord": "SCALAR"}, "SCALAR was planned"),
        (
            {"status": "blocked", "chord": "SCALAR", "reason": "cooldown_active", "message": "wait."},
            "SCALAR was not: cooldown_active: wait. docs/reasons.md",
        ),
        ({"status": "deferred", "chord": "SCALAR"}, "SCALAR waits"),
        ({"status": "hold"}, "There was nothing to do."),
    ],
)
def test_what_was_decided(result: dict[str, Any], said: str) -> None:
    assert said in text(results=["odd", result])


def test_what_came_of_it() -> None:
    assert "dry run" in text(dry_run=True)
    assert "It was merged." in text(apply_ok=True)
    assert text(apply_blocked_reason="license_missing").endswith("It was not merged: license_missing.")
    blocked = text(apply_blocked_reason="license_missing", apply_blocked_message="no licence")
    assert blocked.endswith("license_missing (no licence).")
    assert "merged" not in text()


def test_a_signal_without_advice_and_a_plan() -> None:
    said = "\n".join(explain_plan(make.plan(observation=make.observation(SignalName.BURST))))
    assert "burst: burst seen." in said
    assert "For you" not in said
    assert "What was ruled out: drift_loss" in said
    assert "For you: if the worker" in "\n".join(
        explain_plan(make.plan(observation=make.observation(SignalName.STRAGGLER)))
    )


def test_what_a_plan_is_worth() -> None:
    seen = make.observation(SignalName.BURST)
    weighing = weigh(make.action("BURST-ABSORB"), make.KNOBS, seen, Economics())
    said = "\n".join(explain_plan(make.plan(observation=seen, weighing=weighing)))
    assert "Worth it: 25 % of the time should be saved" in said
    assert "Break-even after 84 min of training." in said
    free = weigh(make.action("BURST-ABSORB"), make.KNOBS, seen, Economics(), delivery="configmap")
    assert "Break-even" not in "\n".join(explain_plan(make.plan(observation=seen, weighing=free)))


def test_advice_by_the_cause_and_how_far_the_confirmation_is() -> None:
    located = text(evidence={"straggler": {"summary": "s", "cause": "compute"}, "drift_step": {"cause": ["odd"]}})
    assert "For you: it is not input that the steps wait for" in located
    assert "For you: if it was planned" in located
    assert "Seen in 2 looks in a row; 3 that agree are needed." in text(confirmation={"seen": 2, "needed": 3})


@pytest.mark.parametrize("odd", [None, [], {}, {"signals": []}, {"signals": {}}])
def test_what_is_no_report(odd: Any) -> None:
    with pytest.raises(InputError, match="is no report of observe or closed-loop"):
        explain_report(odd, what="x.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["window", "ingest", "evidence", "results", "dry_run", "apply_ok", "apply_blocked_reason", "source"]
        ),
        JSON,
    ),
    st.dictionaries(st.sampled_from([str(n) for n in SignalName]), st.booleans()),
)
def test_any_report_is_told_in_lines(rest: dict[str, Any], signals: dict[str, bool]) -> None:
    for line in explain_report({**rest, "signals": signals, "classification": "signal_found"}, what="it"):
        assert "\n" not in line
