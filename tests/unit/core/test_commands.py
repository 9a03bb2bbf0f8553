"""What counts as a command in a comment, and what only looks like one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.commands import HELP, VERBS, Command, parse_command


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "hold"])
def test_each_verb_stands_alone_on_its_line(verb: str) -> None:
    assert parse_command(f"Thanks!\r\n/modekeeper {verb}  \r\nbye") == Command(verb)  # type: ignore[arg-type]
    assert isinstance(parse_command(f"/modekeeper {verb} now"), str)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("366d", timedelta(days=366)),
    ],
)
def test_a_hold_has_a_length(text: str, span: timedelta) -> None:
    assert parse_command(f"/modekeeper hold {text}") == Command("hold", span)


@pytest.mark.parametrize("text", ["", " 7", " 0d", " -1d", " 7m", " 99999h", " 367d", " 53w", " forever"])
def test_a_hold_without_one_is_told(text: str) -> None:
    said = parse_command(f"/modekeeper hold{text}")
    assert isinstance(said, str)
    assert "hold" in said


@pytest.mark.parametrize(
    "text",
    [
        "", "no command", "try /modekeeper verify", "> /modekeeper verify", "```\n/modekeeper verify\n```", "`/modekeeper verify`",
        "~~~sh\n/modekeeper release\n~~~\n", "```\n/modekeeper verify", "/modekeepers verify", "    /modekeeper verify",
    ],
)  # fmt: skip
def test_talk_of_commands_is_none(text: str) -> None:
    assert parse_command(text) is None


def test_an_unknown_word_is_told_without_being_repeated_as_it_is() -> None:
    assert parse_command("/modekeeper") == HELP
    said = parse_command("/modekeeper @team`<b>")
    assert isinstance(said, str)
    assert "@" not in said
    assert "<" not in said


def test_the_first_one_counts() -> None:
    assert parse_command("/modekeeper verify\n/modekeeper rebase") == Command("verify")


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    assert isinstance(parse_command(text), Command | str | None)
