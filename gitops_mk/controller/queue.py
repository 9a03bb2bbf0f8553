"""Which workload is due when: each at its interval, sooner when something changed, later and later while it fails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BACKOFF_S = 5.0
BACKOFF_MAX_S = 600.0


@dataclass
class _Entry:
    at: float
    failures: int = 0


class WorkQueue:
    """Keys with the time they are due, by a clock that never goes backwards. A key that fails keeps no other waiting."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._entries: dict[str, _Entry] = {}

    def keep(self, keys: Iterable[str], now: float) -> None:
        """Exactly these keys: new ones are due at once, others are forgotten."""
        wanted = set(keys)
        for key in self._entries.keys() - wanted:
            del self._entries[key]
        for key in wanted - self._entries.keys():
            self._entries[key] = _Entry(now)

    def nudge(self, key: str, now: float) -> None:
        """Something changed: due at once, unless it is being left alone for failing."""
        entry = self._entries.get(key)
        if entry is not None and not entry.failures:
            entry.at = min(entry.at, now)

    def due(self, now: float) -> tuple[str, ...]:
        """The keys that are due, longest first."""
        ready = [(entry.at, key) for key, entry in self._entries.items() if entry.at <= now]
        return tuple(key for _, key in sorted(ready))

    def done(self, key: str, now: float) -> None:
        """It went well: due again after the interval."""
        if key in self._entries:
            self._entries[key] = _Entry(now + self._interval_s)

    def failed(self, key: str, now: float) -> float:
        """It failed: due again after a pause that doubles each time. Gives the pause, in seconds."""
        entry = self._entries.get(key)
        if entry is None:
            return 0.0
        # Capped before the power: after a week of failures it would be out of a float's range.
        pause = min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** min(entry.failures, 32))
        entry.failures += 1
        entry.at = now + pause
        return pause

    def next_at(self) -> float | None:
        """When the next key is due; None without keys."""
        return min((entry.at for entry in self._entries.values()), default=None)
