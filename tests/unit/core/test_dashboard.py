"""The page that shows everything: equal for an equal state, harmless whatever it shows, and its boxes are read back."""

from __future__ import annotations

import re

import pytest

from gitops_mk.core.render.dashboard import MARK, MAX_PAGE, Row, Tick, render_dashboard, ticked
from gitops_mk.model.change import AppliedChange, Hold, PrState
from tests.support import make

NASTY = "@team <img src=x> #1 [x](http://e) ```"
ROWS = (
    Row("ml/deployment-trainer", "pull request #1 open", "review_required", "0 approvals"),
    Row("ml/deployment-other", "seen", "too_many_open", NASTY),
    Row("ml/deployment-third", "left alone", "out_of_sync", "Git says 4"),
    Row("ml/deployment-calm", "stable", None, ""),
)
HOLDS = (
    Hold(workload="ml/deployment-other", knobs=("concurrency",), source="closed", pr=7, by=NASTY, at="2026-03-01T12:00:00Z"),
    Hold(workload="ml/deployment-third", knobs=("concurrency",), source="reverted", pr=None, by="a commit", at="2026-03-01T12:00:00Z"),
)  # fmt: skip
APPLIED = (
    AppliedChange(
        commit=make.SHA_A, at="2026-03-01T12:00:00Z", workload="ml/deployment-trainer", chord="BURST-ABSORB",
        plan_digest="1" * 64, changes={"concurrency": (8, 4)},
    ),
)  # fmt: skip
PRS = (
    make.pull_request(number=1, title=NASTY, held_until="2026-03-02T12:00:00Z", draft=True, workload="ml/deployment-trainer"),
    make.pull_request(number=2, title="second", workload="ml/deployment-x"),
    make.pull_request(number=3, state=PrState.CLOSED),
)  # fmt: skip


def page(**over: object) -> str:
    fields = {"rows": ROWS, "prs": PRS, "holds": HOLDS, "applied": APPLIED, "killed": None, **over}
    return render_dashboard(**fields)  # type: ignore[arg-type]


def test_it_shows_how_everything_stands() -> None:
    text = page()
    assert text.startswith(MARK)
    assert text == page()
    for said in (
        "### Open (2)",
        "### Held (2)",
        "### Drifted (1)",
        "### Applied (1)",
        "a draft",
        "on hold until 2026-03-02",
    ):
        assert said in text, said
    assert "or for their time (1)" in text
    assert "#3" not in text
    assert "kill switch" not in text
    assert "**The kill switch is on:** thrown" in page(killed="thrown")


def test_nothing_in_it_is_markup_of_others() -> None:
    text = page(killed=NASTY)
    for bad in (r"(?<!\\)<img", "@team", r"\]\(http"):
        assert not re.search(bad, text), bad


def test_an_empty_repository_has_a_page_too() -> None:
    assert page(rows=(), prs=(), holds=(), applied=()).count("- none") == 5


def test_long_lists_are_counted_and_a_long_page_is_cut_visibly() -> None:
    many = tuple(make.pull_request(number=n, title=f"t{n}") for n in range(1, 80))
    assert "- and 29 more" in page(prs=many)
    star = "*" * 160
    rows = tuple(Row(f"{star}{n}", "s", reason, star) for n in range(60) for reason in ("frozen", "degraded"))
    prs = tuple(make.pull_request(number=n, title=star[:120], workload=f"{star}1") for n in range(1, 60))
    holds = tuple(HOLDS[0].model_copy(update={"workload": star, "pr": n}) for n in range(1, 60))
    long = page(rows=rows, prs=prs, holds=holds)
    assert "characters left out" in long[-100:]
    assert len(long) < MAX_PAGE + 100


@pytest.mark.parametrize("mark", ["x", "X"])
def test_ticked_boxes_are_read_back_once(mark: str) -> None:
    text = (
        page().replace("- [ ] verify #1", f"- [{mark}] verify #1").replace("- [ ] release #7", f"- [{mark}] release #7")
    )
    assert ticked(text) == (Tick("verify", 1), Tick("release", 7))
    assert ticked(text.replace("\n", "\r\n") + text) == ticked(text)
    assert ticked(page()) == ()


def test_boxes_of_others_are_none() -> None:
    assert ticked("- [x] delete everything <!-- mk:delete=1 -->\n- [x] mine\n- [x] v <!-- mk:verify=0 -->") == ()
