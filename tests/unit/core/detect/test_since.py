"""Steps from before the last merge say nothing of what is now."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from gitops_mk.core.detect.observer import Observer
from gitops_mk.model.signal import SignalName

START = 1_767_225_600.0


def lines(slow_until: int, count: int) -> bytes:
    rows = []
    for i in range(count):
        slow = i < slow_until
        rows.append(
            {
                "ts": START + i,
                "step": i,
                "step_time_ms": 76.0 + i % 2 if slow else 20.0 + i % 2,
                "throughput": 1.0,
                "worker_latencies_ms": [12.0 + 0.1 * (i % 3), 70.0 + i % 2 if slow else 12.1],
            }
        )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def seen(since: float | None, *, count: int = 400) -> Observer:
    moment = None if since is None else datetime.fromtimestamp(since, UTC)
    observer = Observer("file", since=moment)
    observer.feed(lines(300, count))
    return observer


def test_a_mended_straggler_is_not_seen_again() -> None:
    assert SignalName.STRAGGLER in seen(None).finish().found
    after = seen(START + 299.0).finish()
    assert after.found == ()
    assert after.stable
    assert after.ingest.left_out == 300
    assert after.ingest.records == 100
    assert after.ingest.lines == after.ingest.records + after.ingest.left_out
    assert "300 steps from before the last merge were left out" in after.environment.notes


def test_nothing_new_is_insufficient_never_stable() -> None:
    after = seen(START + 10_000.0).finish()
    assert after.insufficient
    assert after.window.steps == 0


def test_steps_without_a_time_are_kept() -> None:
    observer = Observer("file", since=datetime.fromtimestamp(START, UTC))
    observer.feed(b"".join(b'{"step": %d, "step_time_ms": 5.0}\n' % i for i in range(50)))
    assert observer.finish().ingest.records == 50
