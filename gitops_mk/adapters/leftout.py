"""What stands in a tree for a file that is too large to read."""

from __future__ import annotations


class LeftOut(bytes):
    """Takes the place of a file's bytes, so that the path is still there and nothing can mistake it for absent.

    A passport or a kill switch that is there and unreadable must not count as none. The content begins with NUL, which
    neither YAML nor JSON may hold, and tells one such file from another.
    """

    why: str

    def __new__(cls, path: str, oid: str, size: int, limit: int) -> LeftOut:
        """A stand-in for the blob `oid` of `size` bytes at `path`, where at most `limit` are read."""
        made = super().__new__(cls, b"\0" + oid.encode())
        made.why = f"{path} has {size} bytes, more than the {limit} that are read of one file in this tree"
        return made
