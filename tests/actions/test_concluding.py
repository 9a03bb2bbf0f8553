"""A verify in a job always comes to an end, and says what it came to: by its deadline, and when the job is cancelled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gitops_mk.adapters import actions
from gitops_mk.errors import GitError
from tests.actions.conftest import Hub, Ran, left, whole_env
from tests.support.githttp import git_server


def step(hub: Hub, *args: str, **env: str) -> subprocess.Popen[str]:
    """The step as a process of its own, as a runner starts it."""
    argv = [
        sys.executable,
        "-m",
        "gitops_mk",
        "verify",
        "--repo",
        str(hub.checkout),
        "--out",
        str(hub.folder / "report"),
    ]
    everything = {**whole_env(hub.folder), "PYTHONPATH": str(Path(__file__).parents[2]), **env}
    return subprocess.Popen(
        [*argv, *args],
        env=everything,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # The tests themselves may run where these are ignored, which is inherited.
        preexec_fn=lambda: (
            signal.signal(signal.SIGINT, signal.SIG_DFL),
            signal.signal(signal.SIGTERM, signal.SIG_DFL),
        ),
    )


def concluded(hub: Hub, process: subprocess.Popen[str]) -> Ran:
    """What it left; it must have said no for want of time."""
    out, err = process.communicate(timeout=120)
    ran = left(hub.folder, process.returncode, out, err)
    assert ran.code == 1, out + err
    assert ran.outputs["verify_ok"] == "false"
    assert ran.outputs["reason"] == ran.report["reason"] == "timed_out"
    assert ran.report["verify_ok"] is False
    assert ran.report["steps"] == []
    assert "**timed\\_out**" in ran.summary
    assert len(ran.commands) == 1
    assert "title=verify%3A timed_out::" in ran.commands[0]
    return ran


@pytest.mark.parametrize("fault", ["hang", None])
def test_the_deadline(hub: Hub, fault: str | None) -> None:
    """While git waits for a server that does not answer, and while we wait for a merge that never comes."""
    hub.pull_request()
    hub.server.set_refs({f"refs/pull/{hub.number}/merge": None})
    _ = hub.checkout
    with git_server(hub.folder) as server:
        server.fault = lambda method, path: fault
        process = step(
            hub,
            "--forge",
            server.remote("gitops.git"),
            "--deadline",
            "3s",
            "--wait",
            "1h",
            MODEKEEPER_GIT_ALLOW_HTTP="1",
        )
        ran = concluded(hub, process)
    assert ran.report["message"] == "not done within 3 s"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 3])
def test_a_job_that_is_cancelled(hub: Hub, number: signal.Signals, times: int) -> None:
    hub.pull_request()
    _ = hub.checkout
    with git_server(hub.folder) as server:
        asked = threading.Event()

        def fault(method: str, path: str) -> str:
            asked.set()
            return "hang"

        server.fault = fault
        process = step(hub, "--forge", server.remote("gitops.git"), MODEKEEPER_GIT_ALLOW_HTTP="1")
        assert asked.wait(60)
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.02)
        ran = concluded(hub, process)
    assert ran.report["message"] == f"stopped by {number.name} before it was done"


def test_nothing_runs_on(hub: Hub) -> None:
    """The git that waits for the server is ended with the step."""
    hub.pull_request()
    _ = hub.checkout
    with git_server(hub.folder) as server:
        server.fault = lambda method, path: "hang"
        address = server.remote("gitops.git")
        concluded(hub, step(hub, "--forge", address, "--deadline", "2s", MODEKEEPER_GIT_ALLOW_HTTP="1"))
        listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert address not in listed


def test_work_that_is_done_is_given_on_and_signals_are_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    done = actions.Concluded(lambda: 3, within_s=60)
    assert (done.value, done.error, done.cut_off) == (3, None, "")
    assert done.leave(lambda: None)
    assert signal.getsignal(signal.SIGTERM) != before
    # It comes too late to change anything, and too early to end the process.
    os.kill(os.getpid(), signal.SIGTERM)
    assert not done.cut_off
    done.restore()
    assert signal.getsignal(signal.SIGTERM) == before


def test_work_that_fails() -> None:
    def fail() -> None:
        raise GitError("no")

    done = actions.Concluded(fail, within_s=60)
    assert isinstance(done.error, GitError)
    assert not done.cut_off
    done.restore()


def test_work_that_ends_when_its_children_do_and_work_that_never_does() -> None:
    end = threading.Event()
    done = actions.Concluded(lambda: end.wait(60), within_s=0.01)
    assert done.cut_off == "not done within 0.01 s"
    assert done.leave(end.set)
    done.restore()
    never = threading.Event()
    done = actions.Concluded(lambda: never.wait(60), within_s=0.01)
    assert not done.leave(lambda: None, wait_s=0.1)
    done.restore()
    never.set()


def test_a_signal_ends_the_wait() -> None:
    before = signal.getsignal(signal.SIGTERM)
    never = threading.Event()
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.start()
    done = actions.Concluded(lambda: never.wait(60), within_s=60)
    assert done.cut_off == "stopped by SIGTERM before it was done"
    done.restore()
    assert signal.getsignal(signal.SIGTERM) == before
    never.set()
    timer.join()


def test_a_whole_report_or_none(hub: Hub) -> None:
    """Whatever the moment of the signal: once there are outputs, the report they name is whole."""
    hub.pull_request()
    _ = hub.checkout
    for delay in (0.1, 0.2, 0.3, 0.4):
        for name in ("outputs", "summary"):
            (hub.folder / name).unlink(missing_ok=True)
        process = step(hub)
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        if (hub.folder / "outputs").exists():
            ran = left(hub.folder, process.returncode, "", "")
            assert json.loads(Path(ran.outputs["report"]).read_text())["verify_ok"] is (
                ran.outputs["verify_ok"] == "true"
            )
