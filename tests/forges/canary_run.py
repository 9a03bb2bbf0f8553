"""One turn of a controller with everything logged at DEBUG, as a process of its own: see test_canaries."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import github.Requester

from gitops_mk.adapters.artifacts import FolderStore
from gitops_mk.adapters.clock import SystemClock
from gitops_mk.adapters.telemetry.files import FileSource
from gitops_mk.config import Access
from gitops_mk.controller.aftermath import finish_merge
from gitops_mk.controller.door import Door
from gitops_mk.controller.inbox import act_on_ticks, answer_words, show
from gitops_mk.controller.loop import run_once, target_of
from gitops_mk.core.planner import Options
from gitops_mk.core.render.dashboard import Row
from gitops_mk.errors import MkError
from gitops_mk.wiring import make_tools, open_workplace
from tests.support.world import LICENSED


class Hasty(SystemClock):
    """Doesn't wait."""

    def sleep(self, seconds: float) -> None:
        return


def main(told: dict[str, str]) -> None:
    """A turn; the private clone, as it is at its end, is copied to where it can be looked at."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    # PyGithub makes itself quiet when it is loaded; so that is first.
    for name in (github.Requester.__name__, *logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.DEBUG)
    tools = replace(make_tools(), clock=Hasty())
    out = Path(told["out"])
    try:
        with open_workplace(Access(url=told["remote"], out=out), tools, writes=True) as opened:
            place = replace(opened, license_status=lambda: LICENSED)
            finish_merge(place, tools)
            place.forge.refresh()
            try:
                target = target_of(place, tools, lambda policy: policy.settings.workloads[0])
                source = FileSource(told["telemetry"], follow=False, duration=None, format_=None)
                run_once(target, source, Options(), tools, FolderStore(out), apply=True)
                place.forge.refresh()
                answer_words(place, tools, Door())
                act_on_ticks(place, tools, Door())
                show(place, (Row("ml/deployment-trainer", "open", None, "waits"),), tools)
            finally:
                shutil.copytree(os.environ["TMPDIR"], told["saved"], symlinks=True, dirs_exist_ok=True)
    except MkError as exc:
        # As the command line tells it, and all that a debugger would see.
        sys.stderr.write(f"ERROR: {exc.message}\nhint: {exc.hint}\n")
        traceback.print_exc()
        raise SystemExit(exc.exit_code) from exc


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
