"""What counts as a command in a comment, and what is said of one that does not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mk.core.commands import HELP, VERBS, Command, parse_command

COMMANDS: dict[str, Command] = {
    "/modekeeper verify": Command("verify"),
    "/modekeeper rebase": Command("rebase"),
    "/modekeeper release": Command("release"),
    "/modekeeper explain": Command("explain"),
    "/modekeeper hold 12h": Command("hold", timedelta(hours=12)),
    "/modekeeper hold 7d": Command("hold", timedelta(days=7)),
    "/modekeeper hold 2w": Command("hold", timedelta(weeks=2)),
    "/modekeeper hold 366d": Command("hold", timedelta(days=366)),
    "/modekeeper \t verify  ": Command("verify"),
    "Please:\r\n/modekeeper verify\r\nThanks": Command("verify"),
    "/modekeeper verify\n/modekeeper rebase": Command("verify"),
    "```\n/modekeeper rebase\n```\n/modekeeper verify": Command("verify"),
    "`/modekeeper rebase`\n/modekeeper verify": Command("verify"),
}
NONE = [
    "",
    "nothing of the kind",
    "try /modekeeper verify",
    " /modekeeper verify",
    "> /modekeeper verify",
    "`/modekeeper verify`",
    "/modekeeperverify",
    "/MODEKEEPER verify",
    "/modekeeper hold for 7d or so",
    "```\n/modekeeper verify\n```",
    "```\n/modekeeper verify",
    "~~~~\n/modekeeper verify\n~~~\nstill code\n~~~~",
    "````\n```\n/modekeeper verify\n```\n````",
    "/modekeeper\u00a0verify",
]
MALFORMED = {
    "/modekeeper": HELP,
    "/modekeeper merge": f"`merge` is no command; {HELP}",
    "/modekeeper Verify": f"`Verify` is no command; {HELP}",
    "/modekeeper <script>": f"`?script?` is no command; {HELP}",
    "/modekeeper `@all`": f"`??all?` is no command; {HELP}",
    "/modekeeper verify now": "`verify` takes nothing after it",
    "/modekeeper hold": "`hold` takes how long, such as `hold 12h`, `hold 7d` or `hold 2w`",
    "/modekeeper hold 0d": "`hold` takes how long, such as `hold 12h`, `hold 7d` or `hold 2w`",
    "/modekeeper hold -1d": "`hold` takes how long, such as `hold 12h`, `hold 7d` or `hold 2w`",
    "/modekeeper hold 7": "`hold` takes how long, such as `hold 12h`, `hold 7d` or `hold 2w`",
    "/modekeeper hold 7d7d": "`hold` takes how long, such as `hold 12h`, `hold 7d` or `hold 2w`",
    "/modekeeper hold 99999d": "`hold` takes how long, such as `hold 12h`, `hold 7d` or `hold 2w`",
    "/modekeeper hold \u0667d": "`hold` takes how long, such as `hold 12h`, `hold 7d` or `hold 2w`",
    "/modekeeper hold 367d": "`hold 367d` is longer than a year",
    "/modekeeper hold 9999w": "`hold 9999w` is longer than a year",
}


@pytest.mark.parametrize("text", COMMANDS)
def test_a_line_of_its_own_is_a_command(text: str) -> None:
    assert parse_command(text) == COMMANDS[text]


@pytest.mark.parametrize("text", NONE)
def test_talk_and_code_are_none(text: str) -> None:
    assert parse_command(text) is None


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_wrong_with_one_is_said(text: str) -> None:
    assert parse_command(text) == MALFORMED[text]


@given(st.text(max_size=60), st.text(max_size=20))
def test_no_text_breaks_it_and_nothing_of_it_is_said_unmasked(before: str, word: str) -> None:
    said = parse_command(f"{before}\n/modekeeper {word}")
    if isinstance(said, str):
        assert not set(said) & set("<>@#[]\n")
    elif said is not None:
        assert said.verb in VERBS
        assert (said.span is not None) is (said.verb == "hold")
