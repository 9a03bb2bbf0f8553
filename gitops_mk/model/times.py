"""Times as they stand in files: RFC 3339 in UTC, whole seconds, `2026-01-31T12:00:00Z`."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(at: datetime) -> str:
    """The text of a moment; fractions of a second are cut."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """The moment a text of ours means. Raises ValueError for other shapes."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def from_epoch(seconds: int) -> str:
    """The text of a moment given in epoch seconds."""
    return format_time(datetime.fromtimestamp(seconds, tz=UTC))
