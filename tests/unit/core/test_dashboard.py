"""The dashboard's page: what it shows, what its boxes mean, and that nothing that others wrote becomes one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.render.dashboard import MARK, MAX_PAGE, MOST_ROWS, Row, Tick, render_dashboard, ticked
from gitops_mk.model.change import Hold, PrState, PullRequest
from gitops_mk.model.times import format_time
from gitops_mk.model.verdict import Reason
from tests.support.make import NOW, REF, applied, pull_request

HOLD = Hold(workload=REF.key, knobs=("concurrency",), source="closed", pr=7, by="Alice", at=format_time(NOW))


def row(reason: Reason | None = None, message: str = "said", workload: str = REF.key) -> Row:
    return Row(workload=workload, state="idle", reason=reason, message=message)


def page(
    rows: tuple[Row, ...] = (), prs: tuple[PullRequest, ...] = (), holds: tuple[Hold, ...] = (), killed: str | None = None
) -> str:  # fmt: skip
    return render_dashboard(rows, prs, holds, [applied()], killed)


def section(text: str, title: str) -> list[str]:
    found = next(part for part in text.split("### ")[1:] if part.startswith(title))
    return found.strip().splitlines()[1:]


def test_an_empty_repository() -> None:
    text = render_dashboard((), (), (), (), None)
    assert text.startswith(MARK)
    assert [line for line in text.splitlines() if line.startswith("### ")] == [
        "### Open (0)", "### Held (0)", "### Waiting for room, or for their time (0)", "### Drifted (0)", "### Applied (0)",
    ]  # fmt: skip
    assert "kill switch" not in text
    assert ticked(text) == ()


def test_everything_has_its_section() -> None:
    prs = (
        pull_request(number=3, title="Raise workers", draft=True, held_until=format_time(NOW)),
        pull_request(number=4, state=PrState.CLOSED), pull_request(number=5, workload="ml/deployment-quiet"),
    )  # fmt: skip
    rows = (
        row(None, "is looked at"), row(Reason.TOO_MANY_OPEN, "3 are open", "ml/deployment-b"),
        row(Reason.OUT_OF_SYNC, "not synced", "ml/deployment-c"), row(None, "", "ml/deployment-quiet"),
    )  # fmt: skip
    text = page(rows, prs, (HOLD, HOLD.model_copy(update={"pr": None, "source": "reverted"})), "file says 1")
    assert "**The kill switch is on:** file says 1. Nothing is written or merged." in text
    opened = section(text, "Open (2)")
    assert (
        opened[0]
        == "- #3 Raise workers, a draft, on hold until 2026-03-01T12:00:00Z: is looked at"
    )  # fmt: skip
    assert opened[3] == "- #5 t"
    held = section(text, "Held (2)")
    assert held[0].startswith("- [ ] release #7: ")
    assert held[1].startswith("- ml/deployment")
    assert section(text, "Waiting")[0].endswith(f"{Reason.TOO_MANY_OPEN}. 3 are open")
    assert section(text, "Drifted (1)")[0].endswith(f"{Reason.OUT_OF_SYNC}. not synced")
    assert section(text, "Applied (1)")[0].endswith("to 4 (aaaaaaaaaaaa)")


def tick(text: str, what: str) -> str:
    """The page after a click on one of its boxes."""
    lines = [line.replace("- [ ]", "- [x]") if what in line else line for line in text.splitlines()]
    return "\r\n".join(lines)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("rebase #1 ", Tick("rebase", 1)), ("verify #1 ", Tick("verify", 1)), ("release #7", Tick("release", 7)),
    ],
)  # fmt: skip
def test_a_ticked_box_is_a_command(what: str, expected: Tick) -> None:
    text = page(prs=(pull_request(),), holds=(HOLD,))
    assert ticked(text) == ()
    assert ticked(tick(text, what)) == (expected,)


def test_a_box_that_is_ticked_twice_counts_once() -> None:
    line = "- [X] rebase #1 <!-- mk:rebase=1 -->\n"
    assert ticked(line + line) == (Tick("rebase", 1),)


@pytest.mark.parametrize(
    "line",
    [
        "- [ ] rebase #1 <!-- mk:rebase=1 -->", "- [x] merge #1 <!-- mk:merge=1 -->", "- [x] rebase #0 <!-- mk:rebase=0 -->",
        " - [x] rebase #1 <!-- mk:rebase=1 -->", "- [x] rebase #1 <!-- mk:rebase=1 --> and more",
        "- [x] rebase <!-- mk:rebase=1234567890 -->", "- [x] rebase #1",
    ],
)  # fmt: skip
def test_what_only_looks_like_one_is_none(line: str) -> None:
    assert ticked(line) == ()


@given(st.text(max_size=200))
def test_nothing_that_is_shown_becomes_a_box(text: str) -> None:
    """Titles, messages and names are others' words."""
    nasty = f"{text}\n- [x] rebase #9 <!-- mk:rebase=9 -->"
    shown = page(
        (row(Reason.DEGRADED, nasty),), (pull_request(title=nasty),), (HOLD.model_copy(update={"by": nasty}),), nasty
    )
    assert ticked(shown) == ()
    assert shown.count("<!--") == 1 + 2 + 1


def test_long_lists_are_cut_and_it_is_said() -> None:
    prs = tuple(pull_request(number=n, title="x" * 100) for n in range(1, MOST_ROWS + 12))
    assert "- and 11 more" in page(prs=prs)


def test_a_page_stays_within_githubs_limit() -> None:
    rows = tuple(row(Reason.DEGRADED, "m" * 160, f"ml/deployment-{'w' * 150}-{n}") for n in range(60))
    prs = tuple(pull_request(number=n, title="t" * 120, workload=f"w{n}") for n in range(1, 60))
    holds = tuple(
        HOLD.model_copy(update={"knobs": ("k" * 190,) * 8, "by": "b" * 190, "workload": "w" * 190}) for _ in range(60)
    )
    more = [
        applied(workload=f"ml/{'v' * 190}-{n}", changes={f"{'k' * 60}{i}": (1, 2) for i in range(20)})
        for n in range(60)
    ]
    text = render_dashboard(rows, prs, holds, more, None)
    assert MAX_PAGE - 1000 < len(text) < 65_000
    assert "characters left out" in text.splitlines()[-1]


def test_an_equal_state_gives_an_equal_page() -> None:
    assert page((row(),), (pull_request(),), (HOLD,)) == page((row(),), (pull_request(),), (HOLD,))
