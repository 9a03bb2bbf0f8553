"""Pauses and changes that a job announces in words: "Saving checkpoint at step 500", "Resuming from step 1200"."""

from __future__ import annotations

import re
from typing import Any, Final

_LONGEST: Final = 400
_HINT = re.compile(r"checkpoint|resum|continu|restor|evaluat|validat", re.IGNORECASE)
_STEP = r"(?:step|iteration|iter)\s*[:=#]?\s*(\d{1,12})\b"
_FORMS: Final = tuple(
    (kind, re.compile(pattern, re.IGNORECASE | re.ASCII))
    for kind, pattern in (
        ("resume", rf"\b(?:resum(?:e|es|ing|ed)|continu(?:ing|ed)|restor(?:ing|ed))\b[^|]{{0,120}}?{_STEP}"),
        ("resume", rf"\bloaded\b[^|]{{0,40}}?\bcheckpoint\b[^|]{{0,120}}?{_STEP}"),
        ("checkpoint", rf"\bsav(?:e|ing|ed)\b[^|]{{0,60}}?\bcheckpoint\b[^|]{{0,120}}?{_STEP}"),
        ("checkpoint", rf"\bcheckpoint\b[^|]{{0,60}}?{_STEP}[^|]{{0,40}}?\bsaved\b"),
        ("checkpoint", rf"\bcheckpoint\b[^|]{{0,40}}?\bsaved\b[^|]{{0,80}}?{_STEP}"),
        ("checkpoint", r"\bsav(?:ing|ed)\b[^|]{0,120}?\bcheckpoint[-_](\d{1,12})\b"),
        ("eval", rf"\b(?:evaluat(?:ing|ion|e)|validat(?:ing|ion|e))\b[^|]{{0,80}}?{_STEP}"),
    )
)


def announced(text: str) -> dict[str, Any] | None:
    """The event that a line of text announces, as a record: `event` and `step`. None for any other line."""
    text = text[:_LONGEST]
    if not _HINT.search(text):
        return None
    for kind, form in _FORMS:
        found = form.search(text)
        if found is not None:
            return {"event": kind, "step": int(found[1])}
    return None
