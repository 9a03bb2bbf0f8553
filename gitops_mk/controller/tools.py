"""What the verbs of the controller work with, handed in once by `wiring`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gitops_mk.core.policy import BuiltIn
from gitops_mk.core.render.describe import Wording
from gitops_mk.model.license import LicenseStatus
from gitops_mk.ports import Board, Clock, Cluster, Forge, Inbox, IntentLog, KillSwitch, ManifestBuilder


@dataclass(frozen=True)
class Tools:
    """Peers and built-in texts. `provenance` tells reports where a decision was made; `cluster` is None where there is none."""

    clock: Clock
    builder: ManifestBuilder
    built_in: BuiltIn
    wording: Wording
    mk_version: str
    provenance: Callable[[], Mapping[str, object]]
    cluster: Cluster | None = None


@dataclass(frozen=True)
class Workplace:
    """A GitOps repository to write to: its forge, its kill switch, the licence there is to write with, and the record of the
    merge that was asked for last. `inbox` and `board` are where a forge has them.
    """

    forge: Forge
    kill_switch: KillSwitch
    license_status: Callable[[], LicenseStatus]
    intents: IntentLog
    inbox: Inbox | None = None
    board: Board | None = None
    remote: str = ""
