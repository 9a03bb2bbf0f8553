"""What every peer of a test that can't be had here has in common."""

from __future__ import annotations


class Unavailable(Exception):
    """What a test wants can't be had here; the text says why."""
