"""Runs a demo in a folder of its own, and says at the end what it made and where to look next."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path

from gitops_mk.controller.tools import Tools
from gitops_mk.demo.gates import show_gates
from gitops_mk.demo.narrator import Narrator
from gitops_mk.demo.story import tell
from gitops_mk.errors import InputError
from gitops_mk.model.workload import Delivery
from gitops_mk.wiring import make_tools

MARKER = ".modekeeper-demo"


def run_demo(topic: str, out: Path, *, pace: float, keep: bool, delivery: Delivery = "annotation") -> None:
    """Run one topic; `delivery`: how the knobs reach the trainer.

    Raises InputError for a folder that holds something else, MkError when the demo fails.
    """
    began = time.monotonic()
    _prepare(out, keep=keep)
    narrator = Narrator(pace=pace)
    tools = make_tools()
    if topic == "safety-gates":
        show_gates(out, tools, narrator)
    elif topic == "sales":
        _sales(out, tools, narrator, delivery)
    else:
        tell(topic, out, tools, narrator, delivery=delivery)
    _look_next(topic, out, narrator, time.monotonic() - began)


def _sales(out: Path, tools: Tools, narrator: Narrator, delivery: Delivery) -> None:
    narrator.think("Every step a training job waits is paid for. This is one that waits, and how it stops waiting.")
    measured = tell("straggler", out / "straggler", tools, narrator, delivery=delivery)
    saved = 1 - measured.after.median_step_ms / measured.before.median_step_ms
    narrator.think(f"{100 * saved:.0f} % less time a step, by one pull request that a person could read in a minute.")
    narrator.think("Now what it does not do: each of these tries to merge without the right to.")
    show_gates(out / "safety_gates", tools, narrator)


def _prepare(out: Path, *, keep: bool) -> None:
    try:
        filled = out.exists() and any(out.iterdir())
        if filled and not keep:
            if not (out / MARKER).is_file():
                raise InputError(
                    f"{out} holds something that no demo made", hint="choose an empty folder with --out, or use --keep"
                )
            shutil.rmtree(out)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).touch()
    except OSError as exc:
        raise InputError(f"{out} can't be written: {exc.strerror}", hint="choose another folder with --out") from exc


def _look_next(topic: str, out: Path, narrator: Narrator, seconds: float) -> None:
    narrator.step(f"Done in {seconds:.0f} s. Everything is in {out}")
    for path in sorted(p for p in out.rglob("*_latest.json") if "gitops.git" not in p.parts):
        narrator.say(str(path))
    for path in sorted(out.rglob("trainer.log")):
        narrator.say(f"{path} (the trainer's own log)")
    for repo in sorted(out.rglob("gitops.git")):
        where = shlex.quote(str(repo))
        narrator.say("")
        narrator.say("look next:")
        narrator.say(f"  {_mk()} pr show 1 --repo {where}")
        narrator.say(f"  {_mk()} pr diff 1 --repo {where}")
        narrator.say(f"  git -C {where} log --stat main")
        if topic != "safety-gates":
            narrator.say(f"  {_mk()} rollback --pr 1 --repo {where}")


def _mk() -> str:
    """How this very command is called from here."""
    return "mk" if shutil.which("mk") else shlex.quote(sys.argv[0])
