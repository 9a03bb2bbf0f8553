"""Builds that are made once, however many ask for them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitops_mk.ports import ManifestBuilder

KEPT_BUILDS = 64


class CachingBuilder:
    """A builder that builds each tree once in a run: planning, verify and the gate look at the same ones.

    Who asks for a build that another thread has begun waits for that one. Safe to use from several threads.
    """

    def __init__(self, builder: ManifestBuilder) -> None:
        self._builder = builder
        self._built: dict[tuple[str, frozenset[tuple[str, bytes]]], Future[str]] = {}
        self._lock = threading.Lock()

    def build(self, files: Mapping[str, bytes], overlay: str) -> str:
        """The YAML that `overlay` builds; remembered by the content of the tree. What failed is tried anew by the next who asks."""
        key = (overlay, frozenset(files.items()))
        with self._lock:
            found = self._built.get(key)
            if found is None:
                # The oldest goes first: a controller that runs for months sees a tree with every commit.
                while len(self._built) >= KEPT_BUILDS:
                    del self._built[next(iter(self._built))]
                mine = self._built[key] = Future()
        if found is not None:
            return found.result()
        try:
            mine.set_result(self._builder.build(files, overlay))
        except BaseException as exc:
            with self._lock:
                if self._built.get(key) is mine:
                    del self._built[key]
            mine.set_exception(exc)
            raise
        return mine.result()

    def version(self) -> str:
        """What is used, for reports."""
        return self._builder.version()

    def warm(self) -> None:
        """Look for the program in the background."""
        self._builder.warm()
