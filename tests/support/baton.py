"""Two workers switched between by a seed: only who holds the baton runs, and passes it on at each remote call."""

from __future__ import annotations

import threading
from random import Random


class Baton:
    """Passed to whom the seed says, itself included; every run of one seed is the same."""

    def __init__(self, seed: int, names: tuple[str, ...]) -> None:
        self._random = Random(seed)
        self._turn = {name: threading.Semaphore(0) for name in names}
        self._running = list(names)

    def start(self) -> None:
        self._next()

    def wait(self, name: str) -> None:
        assert self._turn[name].acquire(timeout=120)

    def switch(self, name: str) -> None:
        self._next()
        self.wait(name)

    def leave(self, name: str) -> None:
        self._running.remove(name)
        self._next()

    def _next(self) -> None:
        if self._running:
            self._turn[self._random.choice(self._running)].release()
