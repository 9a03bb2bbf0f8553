"""What people ask of us in comments: `/modekeeper verify|rebase|hold 7d|release|explain`, a line of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

Verb = Literal["verify", "rebase", "hold", "release", "explain"]
VERBS: Final[tuple[Verb, ...]] = ("verify", "rebase", "hold", "release", "explain")
HELP: Final = "expected `/modekeeper verify`, `rebase`, `hold 7d`, `release` or `explain`"
_LINE = re.compile(r"^/modekeeper(?:[ \t]+(\S{1,20}))?(?:[ \t]+(\S{1,20}))?[ \t]*$", re.MULTILINE)
_SPAN = re.compile(r"^([1-9][0-9]{0,3})([hdw])\Z")
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
LONGEST: Final = timedelta(days=366)
# What is shown as code is talk of commands, and not one.
_CODE = re.compile(r"^(`{3,}|~{3,}).*?(^\1|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One request. `span` is how long a hold is to last."""

    verb: Verb
    span: timedelta | None = None


def parse_command(text: str) -> Command | str | None:
    """The command in a comment; a sentence that says what is wrong with it; None where there is none. The first one counts."""
    found = _LINE.search(_CODE.sub("", text.replace("\r\n", "\n")))
    if found is None:
        return None
    word, argument = found[1], found[2]
    verb = next((one for one in VERBS if one == word), None)
    if verb is None:
        return f"`{_safe(word)}` is no command; {HELP}" if word else HELP
    if verb != "hold":
        return Command(verb) if argument is None else f"`{verb}` takes nothing after it"
    span = _SPAN.match(argument) if argument is not None else None
    if span is None:
        return "`hold` takes how long, such as `hold 12h`, `hold 7d` or `hold 2w`"
    length = int(span[1]) * _UNITS[span[2]]
    if length > LONGEST:
        return f"`hold {argument}` is longer than a year"
    return Command(verb, length)


def _safe(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "?", word)
