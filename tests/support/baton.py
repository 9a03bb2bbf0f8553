"""Two workers switched between by a seed: only who holds the baton runs, and passes it on at each remote call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
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


def race(seed: int, workers: Mapping[str, Callable[[Callable[[], None]], None]]) -> list[BaseException]:
    """Run them all, each handed what to call where it may be switched away from; gives what they failed with."""
    baton = Baton(seed, tuple(workers))
    failed: list[BaseException] = []

    def run(name: str, work: Callable[[Callable[[], None]], None]) -> None:
        baton.wait(name)
        try:
            work(lambda: baton.switch(name))
        except BaseException as exc:  # noqa: BLE001 - told in the main thread
            failed.append(exc)
        finally:
            baton.leave(name)

    threads = [threading.Thread(target=run, args=item) for item in workers.items()]
    for thread in threads:
        thread.start()
    baton.start()
    for thread in threads:
        thread.join()
    return failed
