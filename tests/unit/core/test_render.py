"""What a plan becomes: the component's files, the kubectl script, and the words a reviewer reads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitops_mk.adapters.resources import wording
from gitops_mk.core.enrolment import Reach
from gitops_mk.core.ledger import trailers
from gitops_mk.core.render import component
from gitops_mk.core.render.chart import chart
from gitops_mk.core.render.describe import commit_message, pr_body, pr_title
from gitops_mk.core.render.figures import brief, duration, share
from gitops_mk.core.render.kubectl import kubectl_script
from gitops_mk.core.render.paths import overlay_beside, plan_path
from gitops_mk.core.render.text import markdown, plain
from gitops_mk.core.weigh.weighing import weigh
from gitops_mk.errors import InputError
from gitops_mk.model.passport import Economics
from gitops_mk.model.plan import PatchTarget, PlanItem, knob_patch, plan_item
from gitops_mk.model.signal import Classification, Evidence, Signal, SignalName
from gitops_mk.model.telemetry import Environment, Window
from gitops_mk.model.verdict import Reason, Verdict
from gitops_mk.model.weighing import Lesson
from tests.support import make

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
OVERLAY = "overlays/demo/kustomization.yaml"
BASE = {OVERLAY: b"resources:\n  - ../../base\n"}


class TestComponent:
    def test_first_time(self) -> None:
        plan = make.plan(knobs={"dataloader_num_workers": 4, "concurrency": 8})
        files = component.render(plan, BASE)
        assert sorted(files) == [
            OVERLAY,
            "overlays/demo/modekeeper/kustomization.yaml",
            "overlays/demo/modekeeper/trainer.knobs.yaml",
            "overlays/demo/modekeeper/trainer.plan.json",
        ]
        assert files[OVERLAY].startswith(BASE[OVERLAY])
        assert b"modekeeper" in files[OVERLAY]
        knobs = files["overlays/demo/modekeeper/trainer.knobs.yaml"].decode().splitlines()
        assert sum('modekeeper/knob.dataloader_num_workers: "4"' in line for line in knobs) == 2
        assert "  namespace: ml" not in knobs

    def test_same_again_is_nothing(self) -> None:
        plan = make.plan()
        merged = {**BASE, **component.render(plan, BASE)}
        assert component.render(plan, merged) == {}

    def test_a_changed_value_is_one_line_in_two_places(self) -> None:
        merged = {**BASE, **component.render(make.plan(), BASE)}
        again = make.plan(changes=(make.change("dataloader_num_workers", 4, 8),), knobs={"dataloader_num_workers": 8})
        files = component.render(again, merged)
        assert sorted(files) == [
            "overlays/demo/modekeeper/trainer.knobs.yaml",
            "overlays/demo/modekeeper/trainer.plan.json",
        ]

    def test_second_workload_joins_the_component(self) -> None:
        other = make.REF.model_copy(update={"kind": "StatefulSet", "name": "server"})
        merged = {**BASE, **component.render(make.plan(workload=other), BASE)}
        files = component.render(make.plan(), merged)
        assert files["overlays/demo/modekeeper/kustomization.yaml"].endswith(
            b"  - path: statefulset-server.knobs.yaml\n  - path: trainer.knobs.yaml\n"
        )
        deeper = {**merged, "overlays/demo/modekeeper/sub/x.knobs.yaml": b""}
        assert component.pinned_slugs(deeper, "overlays/demo") == {"statefulset-server"}

    def test_namespace_where_it_stands(self) -> None:
        target = PatchTarget(api_version="apps/v1", kind="Deployment", name="trainer", namespace="ml")
        assert "  namespace: ml\n" in component.knobs_yaml(make.plan(target=target))

    def test_root_overlay(self) -> None:
        plan = make.plan(overlay=".")
        files = component.render(plan, {"Kustomization": b"resources: [a]\n"})
        assert "modekeeper/trainer.knobs.yaml" in files
        assert component.allowed_paths(".", "trainer", "Kustomization") == {
            "Kustomization", "modekeeper/kustomization.yaml", "modekeeper/trainer.knobs.yaml", "modekeeper/trainer.plan.json",
        }  # fmt: skip

    @pytest.mark.parametrize("name", ["kustomization.yaml", "trainer.knobs.yaml"])
    def test_a_folder_that_is_somebody_elses(self, name: str) -> None:
        theirs = {**BASE, f"overlays/demo/modekeeper/{name}": b"commonLabels: {a: b}\n"}
        with pytest.raises(InputError, match="would be overwritten"):
            component.render(make.plan(), theirs)

    def test_no_kustomization_or_two(self) -> None:
        with pytest.raises(InputError, match="no kustomization file"):
            component.render(make.plan(), {})
        with pytest.raises(InputError, match="2 kustomization files"):
            component.render(make.plan(), {**BASE, "overlays/demo/Kustomization": b""})


NASTY = st.text(st.sampled_from("ab'\"$()`;\\\n\r\t|&<>{}*?! \u202e\u2028#"), max_size=30)


class TestScript:
    def run(self, script: str, tmp_path: Path) -> list[list[str]]:
        """Run it with a kubectl that only writes down what it was called with."""
        fake = tmp_path / "kubectl"
        fake.write_text('#!/bin/sh\nfor a in "$@"; do printf "%s\\0" "$a"; done >> "$CALLS"\n')
        fake.chmod(0o755)
        path, calls = tmp_path / "plan.sh", tmp_path / "calls"
        calls.unlink(missing_ok=True)
        path.write_bytes(script.encode())
        env = {"PATH": "/usr/bin:/bin", "KUBECTL": str(fake), "CALLS": str(calls)}
        subprocess.run(["sh", str(path)], env=env, cwd=tmp_path, check=True, capture_output=True)
        if not calls.exists():
            return []
        return [call.split("\0")[:-1] for call in calls.read_bytes().decode().split("\0\n\0")]

    def test_empty(self, tmp_path: Path) -> None:
        script = kubectl_script(())
        assert "nothing to do" in script
        assert self.run(script, tmp_path) == []

    def test_one_patch_a_workload(self, tmp_path: Path) -> None:
        [call] = self.run(kubectl_script((plan_item(make.action(), "why"),)), tmp_path)
        assert call[:5] == ["--namespace=ml", "patch", "deployment/trainer", "--type=merge", "--dry-run=server"]
        assert json.loads(call[5].removeprefix("--patch=")) == knob_patch({"dataloader_num_workers": 4})

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(NASTY, NASTY, NASTY)
    def test_nothing_in_it_is_run(self, tmp_path: Path, name: str, namespace: str, reason: str) -> None:
        # Names that no API server takes can't come this far; the script must hold even if they did.
        item = PlanItem.model_construct(
            apiVersion="apps/v1",
            kind="Deployment",
            namespace=namespace,
            name=name,
            patch=knob_patch({"a": 1}),
            reason=reason,
        )
        [call] = self.run(kubectl_script((item,)), tmp_path)
        assert call[:3] == [f"--namespace={namespace}", "patch", f"deployment/{name}"]
        assert len(call) == 6
        assert sorted(p.name for p in tmp_path.iterdir()) == ["calls", "kubectl", "plan.sh"]


class TestText:
    def test_plain(self) -> None:
        assert plain("a\nb\u202ec\x00 ") == "a b c"
        assert plain("x" * 300) == "x" * 199 + "…"
        assert plain(" a  b\t\tc ") == "a b c"

    @given(st.text(max_size=200))
    def test_markdown_is_inert(self, text: str) -> None:
        safe = markdown(text)
        assert "\n" not in safe
        for sign in ("@", "://"):
            at = safe.find(sign)
            while at >= 0:
                assert safe[at + len(sign)] == "\u2060"
                at = safe.find(sign, at + 1)
        assert "<" not in safe.replace("\\<", "")
        assert "`" not in safe.replace("\\\\", "").replace("\\`", "")

    @pytest.mark.parametrize(
        ("value", "text"), [(0.0, "0"), (12.345, "12.3"), (3.0, "3"), (123.4, "123"), (1234.56, "1235"), (0.5, "0.5")]
    )
    def test_brief(self, value: float, text: str) -> None:
        assert brief(value) == text


def reviewed_plan(**over: Any) -> Any:
    evidence = Evidence(
        summary="worker-1 takes 6.2x the time of its peers <script>@team",
        metric="worker_latencies_ms",
        effect=5.2,
        noise=0.01,
        threshold=0.12,
        onset_step=40,
        culprits=("worker-1", "`rm -rf`"),
        series=(10.0, 12.0, 60.0, 61.5),
    )
    seen = make.observation(SignalName.STRAGGLER)
    signals = tuple(
        s.model_copy(update={"evidence": evidence}) if s.classification is Classification.SIGNAL_FOUND else s
        for s in seen.signals
    )
    seen = seen.model_copy(
        update={
            "signals": signals,
            "environment": Environment(notes=("the clock went [backwards](http://x)",)),
            "window": Window(
                first_step=0, last_step=399, steps=400, first_ts="2026-03-01T11:00:00Z", last_ts="2026-03-01T11:10:00Z"
            ),
        }
    )
    taught = Lesson(commit=make.SHA_A, plan_digest="3" * 64, chord="INPUT-STRAGGLER", promised=0.4, came=0.3)
    weighing = weigh(make.action(), make.KNOBS, seen, Economics(), lessons=(taught,))
    return make.plan(**{"observation": seen, "weighing": weighing, **over})


VERDICTS = (Verdict.allow("chord_known", "fine"), Verdict.block("delivery", Reason.PROPOSE_ONLY, "next | run"))


REACH = Reach(pods=2, gpus=16)


def drawn(**evidence: Any) -> Signal:
    return make.signal(SignalName.NEAR_HANG, **evidence)


class TestWords:
    def body(self, plan: Any, reach: Reach | None = REACH) -> str:
        return pr_body(plan, make.passport(), VERDICTS, wording(), tier="safe", reach=reach)

    def test_what_a_restart_takes_down(self) -> None:
        assert "**2 pods with 16 GPUs** of `trainer`" in self.body(reviewed_plan())
        assert "**1 pod** of `trainer`" in self.body(reviewed_plan(), Reach(pods=1, gpus=0))
        assert "**1 pod with 1 GPU** of `trainer`" in self.body(reviewed_plan(), Reach(pods=1, gpus=1))
        assert "restarts the pods of `trainer`" in self.body(reviewed_plan(), None)

    def test_what_is_weighed_otherwise(self) -> None:
        free = weigh(
            make.action(), make.KNOBS, make.observation(SignalName.STRAGGLER), Economics(), delivery="configmap"
        )
        told = self.body(reviewed_plan(weighing=free))
        assert "| cost | the trainer re-reads the ConfigMap: nothing restarts |" in told
        assert "break-even" not in told
        unweighed = weigh(make.action("RECOVER-RELOCK"), make.KNOBS, make.observation(), Economics())
        told = self.body(reviewed_plan(weighing=unweighed))
        assert "| gain | no time is saved: it gives back what an earlier change took |" in told
        assert "while it runs" not in told
        assert "worth it" not in self.body(reviewed_plan(weighing=None))

    def test_durations(self) -> None:
        assert [duration(s) for s in (30.0, 119.0, 120.0, 7200.0, 90_000.0, 200_000.0)] == [
            "30 s", "119 s", "2 min", "2 h", "25 h", "2.31 d",
        ]  # fmt: skip
        assert [share(s) for s in (0.0123, 0.5, -0.031)] == ["1.2 %", "50 %", "-3.1 %"]

    def test_golden(self) -> None:
        body = self.body(reviewed_plan())
        assert body == (GOLDEN / "pr_body.md").read_text()

    def test_nothing_from_telemetry_is_markup(self) -> None:
        body = self.body(reviewed_plan())
        assert "<script>" not in body
        assert "@team" not in body
        assert "](http" not in body

    def test_for_a_kind_that_runs_once(self) -> None:
        job = make.REF.model_copy(update={"kind": "Job"})
        assert "from its next run on" in self.body(reviewed_plan(workload=job))

    def test_rollback(self) -> None:
        plan = make.plan(rollback_of="2" * 64, observation=make.observation().model_copy(update={"signals": ()}))
        assert "**Undo**" in self.body(plan)
        assert pr_title(plan).startswith("Roll back: ml/trainer")
        assert chart(drawn(series=(1.0,)), Window()) is None

    def test_without_signals_the_rationale_speaks(self) -> None:
        bare = make.plan(observation=make.observation())
        assert "because" in self.body(bare)
        declared = make.plan(changes=(make.change("mine", 1, 2),), knobs={"mine": 2})
        assert "| none |" in self.body(declared)

    def test_a_rollback_says_what_it_takes_back(self) -> None:
        message = commit_message(make.plan(rollback_of="2" * 64), wording())
        assert trailers(message)["ModeKeeper-Rollback-Of"] == ["2" * 64]

    def test_too_long_is_refused_not_cut(self) -> None:
        many = tuple(Verdict.allow(f"rule{i}", "x" * 290) for i in range(250))
        with pytest.raises(InputError, match="a forge takes 60000"):
            pr_body(make.plan(), make.passport(), many, wording(), tier="safe")

    def test_commit_message_reads_back(self) -> None:
        plan = make.plan()
        message = commit_message(plan, wording())
        assert message.splitlines()[0] == "INPUT-STRAGGLER on ml/deployment-trainer"
        assert trailers(message) == {
            "ModeKeeper-Workload": ["ml/deployment-trainer"],
            "ModeKeeper-Chord": ["INPUT-STRAGGLER"],
            "ModeKeeper-Plan-Digest": [plan.digest],
            "ModeKeeper-Change": ["dataloader_num_workers 2 4"],
        }

    def test_flat_series_has_a_picture_too(self) -> None:
        flat = drawn(metric='m"x', series=(0.0, 0.0, 0.0))
        shown = chart(flat, Window(first_step=3, last_step=9, steps=7)) or ""
        assert 'title "mx"' in shown
        assert 'x-axis "step" 3 --> 9' in shown
        assert "x-axis" not in (chart(flat, Window(first_step=3, last_step=3, steps=1)) or "")
        assert "--> 1" in shown

    def test_onset_threshold_and_culprit(self) -> None:
        evidence: dict[str, Any] = {"series": (10.0, 10.0, 10.0, 30.0, 30.0), "series_steps": (0, 40), "onset_step": 31}
        shown = chart(drawn(**evidence, threshold=0.5, culprits=("worker-3",)), Window()) or ""
        assert 'title "step time, worker-3, onset 31 (red), threshold 15 (brown)"' in shown
        assert "line [8, 8, 8, 32, 32]" in shown
        assert "line [10, 10, 10, 30, 30]" in shown
        assert "line [15, 15, 15, 15, 15]" in shown
        far = chart(drawn(**evidence, threshold=50.0), Window()) or ""
        assert far.count("line [") == 2
        late = chart(drawn(**{**evidence, "onset_step": 41}), Window()) or ""
        assert "onset" not in late
        assert "line [8, 8, 8, 8, 8]" in late


def test_the_overlay_beside_a_record() -> None:
    for overlay in (".", "a", "a/b"):
        assert overlay_beside(plan_path(overlay, "x")) == overlay
    for path in ("x.plan.json", "a/x.plan.json", "a/modekeeper/x.knobs.yaml", "modekeeper"):
        assert overlay_beside(path) is None
