"""Text from telemetry or a cluster, made harmless before it stands in Markdown or on a terminal."""

from __future__ import annotations

import re
import unicodedata

# Control characters, and format characters such as bidirectional overrides and zero-width ones.
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~$&])")


def plain(text: str, *, most: int = 200) -> str:
    """One line without hidden or control characters, cut visibly at `most` characters."""
    line = " ".join(_HIDDEN.sub(" ", unicodedata.normalize("NFC", text)).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def markdown(text: str, *, most: int = 200) -> str:
    """The same for Markdown: markup escaped, and mentions, references and links broken by a word joiner."""
    escaped = _MARKUP.sub(r"\\\1", plain(text, most=most))
    return re.sub(r"(@|\\#|://|www\.)", lambda m: m.group() + "\u2060", escaped)
