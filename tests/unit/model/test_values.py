"""The nouns: what they accept, what they refuse, and that a refusal says what was found."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gitops_mk.errors import ConfigError, InputError, IntegrityError, PeerError
from gitops_mk.model import permit as permits
from gitops_mk.model.canonical import JsonLimits, digest, dumps_canonical, dumps_pretty, loads_strict
from gitops_mk.model.change import VERIFY_CHECK, Check
from gitops_mk.model.chord import Chord, ChordCatalog, InvariantName
from gitops_mk.model.gate import GateDecision, KillReading, VerifyOutcome, first_active
from gitops_mk.model.knob import annotation_key, knobs_from_annotations
from gitops_mk.model.passport import InvariantRule, KnobLimit, Passport
from gitops_mk.model.plan import InvariantState, PlanItem, knob_patch, plan_item
from gitops_mk.model.report import report
from gitops_mk.model.settings import RepoSettings, safe_repo_path
from gitops_mk.model.signal import Classification, SignalName
from gitops_mk.model.telemetry import IngestCounts
from gitops_mk.model.times import format_time, from_epoch, parse_time
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.model.workload import WorkloadRef
from tests.support import make

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


class TestCanonical:
    @given(JSON)
    def test_round_trip_and_stable(self, value: Any) -> None:
        raw = dumps_canonical(value)
        assert loads_strict(raw, what="x") == value
        assert dumps_canonical(loads_strict(dumps_pretty(value), what="x")) == raw
        assert digest(value) == digest(json.loads(raw))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('{"a":1,"a":2}', "stands twice"),
            ("[NaN]", "NaN is not JSON"),
            ("[-Infinity]", "-Infinity is not JSON"),
            ("[1e400]", "out of range"),
            ("[123456789012345678901234567890]", "out of range"),
            ("[9007199254740992]", "out of range"),
            ('["\\ud800"]', "lone surrogate"),
            ("{", "no valid JSON at line 1 column 2"),
            ("[" * 100_000, "nested deeper"),
            ("[" * 80 + "]" * 80, "nested too deep"),
            ("", "no valid JSON"),
        ],
    )
    def test_refuses(self, text: str, said: str) -> None:
        with pytest.raises(InputError, match="doc") as caught:
            loads_strict(text, what="doc")
        assert said in caught.value.message

    def test_limits(self) -> None:
        with pytest.raises(InputError, match="5 bytes, expected at most 4"):
            loads_strict("[1,2]", what="x", limits=JsonLimits(max_bytes=4))
        with pytest.raises(InputError, match="expected an integer"):
            loads_strict("[1.0]", what="x", limits=JsonLimits(floats=False))
        with pytest.raises(InputError, match="not UTF-8 at byte 1"):
            loads_strict(b'"\xff"', what="x")
        assert loads_strict("[1.5]", what="x") == [1.5]
        assert WorkloadRef.parse_json(dumps_pretty(make.REF.plain()), what="w") == make.REF
        with pytest.raises(InputError, match="not UTF-8"):
            loads_strict("\ud800", what="x")

    def test_pretty_keeps_plain_lists_on_a_line(self) -> None:
        text = dumps_pretty({"b": [1, 2], "a": [{"c": []}], "d": {}})
        assert text == '{\n  "a": [\n    {\n      "c": []\n    }\n  ],\n  "b": [1, 2],\n  "d": {}\n}\n'
        with pytest.raises(ValueError, match="JSON compliant"):
            dumps_pretty(math.nan)


class TestKnobs:
    def test_from_annotations(self) -> None:
        found = knobs_from_annotations(
            {
                annotation_key("b"): "8",
                annotation_key("a"): "12",
                annotation_key("c"): "08",
                annotation_key("d"): "x",
                annotation_key("e"): "²",
                "other": "3",
            }
        )
        assert found == {"a": 12, "b": 8}
        assert list(found) == ["a", "b"]

    def test_change(self) -> None:
        moved = make.change("concurrency", 4, 8)
        assert (moved.delta, moved.reversed().delta) == (4, -4)

    @pytest.mark.parametrize("name", ["", "A", "1a", "a-b", "a" * 49, "a\n"])
    def test_bad_name(self, name: str) -> None:
        with pytest.raises(ValidationError):
            make.change(name, 1, 2)


class TestWorkload:
    @pytest.mark.parametrize(
        "name", ["", "A", "a b", "-a", "a.", "a..b", "../x", "$(id)", "a\nb", "a" * 201, "--option", 'a"b']
    )
    def test_bad_names_are_refused(self, name: str) -> None:
        with pytest.raises(ValidationError):
            WorkloadRef(namespace="ml", kind="Deployment", name=name)

    def test_names(self) -> None:
        lock = WorkloadRef(namespace="ml", kind="Job", name="x.lock")
        assert lock.branch == "modekeeper/ml/job-x.lock-"
        assert lock.slug == "job-x.lock"
        assert not lock.in_place
        assert make.REF.slug == "trainer"
        assert make.REF.in_place
        assert str(make.REF) == "Deployment ml/trainer"
        assert make.REF.api_version == "apps/v1"


class TestSignals:
    def test_words(self) -> None:
        assert make.observation(SignalName.DRIFT_STEP).words() == {"drift", "drift_step", "incident"}
        assert make.observation().words() == {"stable"}
        assert make.observation(SignalName.DRIFT_STEP).classification is Classification.SIGNAL_FOUND
        assert make.observation().classification is Classification.NO_ACTIONABLE_SIGNAL
        assert make.observation(insufficient=True).classification is Classification.INSUFFICIENT_EVIDENCE
        assert make.observation(SignalName.BURST).facets()["burst"]
        assert not make.observation().pr_worthy
        assert make.observation(insufficient=True).words() == frozenset()
        seen = make.observation(SignalName.DRIFT_STEP)
        drift = seen.signal(SignalName.DRIFT_STEP)
        assert drift is not None
        assert drift.found
        assert seen.model_copy(update={"signals": ()}).signal(SignalName.DRIFT_STEP) is None

    def test_counts(self) -> None:
        assert IngestCounts().dropped_pct == 0
        assert IngestCounts(lines=4, dropped_total=1).dropped_pct == 25


class TestPolicy:
    def test_catalog(self) -> None:
        loaded = make.catalog()
        assert loaded.get("SCALAR") is not None
        assert loaded.get("NOPE") is None
        assert len(loaded.sha256) == 64
        with pytest.raises(ValidationError, match="stands twice"):
            ChordCatalog(schema_version="chord_catalog.v1", chords=(loaded.chords[0], loaded.chords[0]))
        with pytest.raises(ValidationError, match="unknown signal 'noise'"):
            Chord(id="X", intent="x", risk_tier="safe", required_signals=("noise",), invariants=(), knobs_touched=())

    def test_passport(self) -> None:
        loaded = make.passport()
        assert loaded.knows("concurrency")
        assert not loaded.knows("nope")
        assert loaded.invariant(InvariantName.GLOBAL_BATCH).tolerance_pct == 0
        bare = make.passport(invariants=())
        assert bare.invariant(InvariantName.TAIL_LATENCY) == InvariantRule(name=InvariantName.TAIL_LATENCY)
        assert len(loaded.sha256) == 64

    @pytest.mark.parametrize(
        ("over", "said"),
        [
            ({"allowed_knobs": ["concurrency"], "knobs": {}}, "has no limits"),
            ({"knobs": {"mine": {"min": 1, "max": 2, "max_delta": 1}}}, "declare it with a description"),
            ({"knobs": {"concurrency": {"min": 3, "max": 2, "max_delta": 1}}}, "is above max"),
            ({"actuators": {"hot": ["concurrency"], "cold": ["concurrency"]}}, "both hot and cold"),
            ({"cooldown_s": "10"}, "valid integer"),
            ({"cooldown_s": 1.0}, "valid integer"),
            ({"surprise": 1}, "extra"),
        ],
    )
    def test_incoherent_passports(self, over: dict[str, Any], said: str) -> None:
        data = {
            "schema_version": "passport.v0",
            "id": "x",
            "allowed_chords": [],
            "allowed_knobs": [],
            "knobs": {},
            **over,
        }
        with pytest.raises(InputError, match=said):
            Passport.parse(data, what="p")

    def test_declared_knob(self) -> None:
        limit = KnobLimit(min=1, max=2, max_delta=1, description="ours")
        assert make.passport(knobs={"mine": limit}).knows("mine")


class TestSettings:
    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/a",
            "../a",
            "a/../b",
            "a//b",
            "-a",
            "~a",
            "a\\b",
            "a\nb",
            "./a",
            ".git/x",
            "a/.GIT/b",
            "..",
            "a\0b",
            "a*",
        ],
    )
    def test_unsafe_paths(self, path: str) -> None:
        with pytest.raises(ValueError, match="path|form|leaves"):
            safe_repo_path(path)

    def test_safe_paths(self) -> None:
        assert safe_repo_path("a/b/") == "a/b"
        assert safe_repo_path(".") == "."

    def workload(self, **over: Any) -> dict[str, Any]:
        return {"namespace": "ml", "name": "trainer", "overlay": "o", **over}

    def test_claims(self) -> None:
        def load(*workloads: dict[str, Any]) -> RepoSettings:
            return RepoSettings.parse({"version": "v1", "workloads": list(workloads)}, what="c", error=ConfigError)

        loaded = load(self.workload())
        assert loaded.workload(make.REF) is not None
        assert loaded.workload(make.REF.model_copy(update={"name": "x"})) is None
        assert loaded.passport_of(loaded.workloads[0]) == "pilot"
        assert loaded.passport_of(load(self.workload(passport="safe")).workloads[0]) == "safe"
        assert len(loaded.sha256) == 64
        with pytest.raises(ConfigError, match="two overlays claim Deployment ml/trainer: 'o' and 'p'"):
            load(self.workload(), self.workload(overlay="p"))
        with pytest.raises(ConfigError, match="share the file"):
            load(self.workload(), self.workload(namespace="other"))


class TestPlan:
    def test_digest_is_of_the_decision(self) -> None:
        one = make.plan()
        assert one.digest == one.compute_digest()
        assert (
            make.plan(created_at="2030-01-01T00:00:00Z", rationale="other", observation=make.observation()).digest
            == one.digest
        )
        assert make.plan(knobs={"dataloader_num_workers": 4, "concurrency": 8}).digest != one.digest
        assert make.plan(policy=make.digests(passport_id="safe")).digest != one.digest
        assert one.action().changes == one.changes
        assert json.loads(one.to_text())["digest"] == one.digest

    def test_action(self) -> None:
        with pytest.raises(ValidationError, match="twice"):
            make.action("X", make.change("a", 1, 2), make.change("a", 2, 3))
        assert make.action("NORMAL-HOLD", changes=()).is_hold
        assert not make.action("NORMAL-HOLD", changes=(), unsolved="no").is_hold

    @pytest.mark.parametrize(
        ("name", "before", "after", "tolerance", "kept"),
        [
            (InvariantName.GLOBAL_BATCH, 128, 128, 0.0, True),
            (InvariantName.GLOBAL_BATCH, 128, 129, 0.0, False),
            (InvariantName.GLOBAL_BATCH, 100, 110, 10.0, True),
            (InvariantName.GLOBAL_BATCH, 100, 111, 10.0, False),
            (InvariantName.TAIL_LATENCY, 4, 16, 0.0, True),
            (InvariantName.TAIL_LATENCY, 4, 3, 0.0, False),
        ],
    )
    def test_invariants(self, name: InvariantName, before: int, after: int, tolerance: float, kept: bool) -> None:
        assert InvariantState(name=name, before=before, after=after, tolerance_pct=tolerance).kept is kept

    def test_item_round_trip(self) -> None:
        item = plan_item(make.action(), "why")
        assert item.knobs() == {"dataloader_num_workers": 4}
        assert item.ref() == make.REF

    @pytest.mark.parametrize(
        ("over", "said"),
        [
            ({"apiVersion": "v1"}, "expected 'apps/v1'"),
            ({"patch": {}}, "expected metadata.annotations"),
            ({"patch": {"metadata": None}}, "expected metadata.annotations"),
            ({"patch": {**knob_patch({"a": 1}), "x": 1}}, "nothing else"),
            ({"patch": knob_patch({})}, "nothing else"),
            (
                {
                    "patch": {
                        "metadata": {"annotations": {"x/knob.a": "1"}},
                        "spec": {"template": {"metadata": {"annotations": {"x/knob.a": "1"}}}},
                    }
                },
                "match pattern",
            ),
            (
                {
                    "patch": {
                        "metadata": {"annotations": {"a": "1"}},
                        "spec": {"template": {"metadata": {"annotations": {"a": "1"}}}},
                    }
                },
                "is not a knob",
            ),
            ({"name": "$(x)"}, "name"),
        ],
    )
    def test_bad_items(self, over: dict[str, Any], said: str) -> None:
        good = plan_item(make.action(), "why").plain()
        with pytest.raises(InputError) as caught:
            PlanItem.parse({**good, **over}, what="item")
        assert said in caught.value.message

    @pytest.mark.parametrize("value", [8, "08", "-1", "1.0", "", "٣", None])
    def test_bad_values(self, value: Any) -> None:
        good = plan_item(make.action(), "why").plain()
        annotations = {annotation_key("a"): value}
        good["patch"] = {
            "metadata": {"annotations": annotations},
            "spec": {"template": {"metadata": {"annotations": annotations}}},
        }
        with pytest.raises(InputError, match="decimal integer in quotes"):
            PlanItem.parse(good, what="item")


class TestGateValues:
    def test_the_first_active_source(self) -> None:
        clear = KillReading(source="environment", configured=True, active=False, detail="clear")
        thrown = clear.model_copy(update={"source": "label", "active": True})
        assert first_active((clear, thrown)) == thrown
        assert first_active((clear,)) is None

    def test_newest_check(self) -> None:
        def check(commit: str, conclusion: Any) -> Check:
            return Check(
                name=VERIFY_CHECK,
                commit=commit,
                base=make.SHA_A,
                plan_digest=None,
                conclusion=conclusion,
                summary="s",
                at=format_time(make.NOW),
            )

        pr = make.pull_request(
            checks=(check(make.SHA_B, "success"), check(make.SHA_B, "failure"), check(make.SHA_C, "success"))
        )
        newest = pr.newest_check(VERIFY_CHECK, make.SHA_B)
        assert newest is not None
        assert newest.conclusion == "failure"
        assert pr.newest_check("other", make.SHA_B) is None

    def test_outcome(self) -> None:
        no = Verdict.block("s", Reason.SCOPE_VIOLATION, "why")
        outcome = VerifyOutcome(
            ok=False, base="a", head="b", tree=None, plan_digest=None, workload=None, steps=(Verdict.allow("r"), no)
        )
        assert (outcome.reason, outcome.message) == (Reason.SCOPE_VIOLATION, "why")
        good = outcome.model_copy(update={"steps": (Verdict.allow("r"),)})
        assert (good.reason, good.message) == (None, "")
        decision = GateDecision(verdicts=(Verdict.allow("r"), no), permit=None)
        assert decision.first == no
        assert decision.closed == (no,)
        assert not decision.allowed

    def test_seal_is_given_once(self) -> None:
        import gitops_mk.core.gate  # noqa: F401 - takes the seal

        with pytest.raises(IntegrityError, match="only come from the gate"):
            permits.claim_seal()
        with pytest.raises(IntegrityError, match="only come from the gate"):
            permits.Permit(permits.Seal(), 1, make.SHA_A, make.SHA_B, make.TREE, "d", "k", 0.0)

    def test_permit_is_good_once_for_a_minute(self) -> None:
        def permit() -> permits.Permit:
            return permits.Permit(permits._THE_SEAL, 1, make.SHA_A, make.SHA_B, make.TREE, "d", "k", 100.0)

        one = permit()
        one.spend(100.0)
        with pytest.raises(IntegrityError, match="used before"):
            one.spend(100.0)
        for late in (161.0, 99.0):
            with pytest.raises(IntegrityError, match="older than"):
                permit().spend(late)


def test_times() -> None:
    assert parse_time(format_time(make.NOW)) == make.NOW
    assert from_epoch(0) == "1970-01-01T00:00:00Z"


def test_report() -> None:
    body = report({"ok": True}, started=make.NOW, finished=make.NOW, out_dir="o")
    assert body["duration_s"] == 0
    assert body["schema_version"] == "v0"


def test_errors_carry_hints_and_codes() -> None:
    assert PeerError("m", hint="h", retryable=True).retryable
    assert InputError("m").exit_code == 2
    assert IntegrityError("m").exit_code == 1


def test_many_validation_errors_are_counted() -> None:
    with pytest.raises(InputError, match="and 4 more"):
        WorkloadRef.parse({"a": 1, "b": 2, "c": "x" * 100, "d": 4}, what="w")


@pytest.mark.parametrize("other", [SignalName.DRIFT])
def test_signal_words_are_their_values(other: SignalName) -> None:
    assert str(other) == "drift"
