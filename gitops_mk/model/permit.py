"""The permit to merge one commit: only the gate can make it, and every merge demands it.

The seal that a permit's constructor asks for is handed out once, to the first caller; `core.gate` takes it when imported.
Python can't forbid a determined caller, so a test also holds that no other module asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gitops_mk.errors import IntegrityError

PERMIT_LIFE_S: Final = 60.0


class Seal:
    """Proof of being the gate."""

    __slots__ = ()


_seals: list[Seal] = [Seal()]
_THE_SEAL: Final = _seals[0]


def claim_seal() -> Seal:
    """The one seal. Raises IntegrityError for everyone but the first caller."""
    if not _seals:
        raise IntegrityError("the seal of the gate is taken: a permit can only come from the gate")
    return _seals.pop()


@dataclass(frozen=True)
class Permit:
    """Leave to merge exactly `head_sha` onto exactly `base_sha`, giving exactly `tree`; good once, for a minute.

    `issued_at` is seconds of the monotonic clock.
    """

    seal: Seal = field(repr=False)
    pr: int
    head_sha: str
    base_sha: str
    tree: str
    plan_digest: str
    license_kid: str
    issued_at: float
    _spent: list[bool] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not _THE_SEAL:
            raise IntegrityError("a permit can only come from the gate")

    def spend(self, now: float) -> None:
        """Use it up. Raises IntegrityError when it was used before or is older than its life."""
        if self._spent:
            raise IntegrityError("this permit was used before")
        self._spent.append(True)
        if not 0 <= now - self.issued_at <= PERMIT_LIFE_S:
            raise IntegrityError(f"this permit is older than {PERMIT_LIFE_S:.0f} s")
