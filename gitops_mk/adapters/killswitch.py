"""The kill switch: the environment, a file on the base branch, a ConfigMap, a label on the pull request. Any one is enough."""

from __future__ import annotations

import os

from gitops_mk.core.documents import parse_yaml
from gitops_mk.core.objects import part
from gitops_mk.errors import InputError, MkError
from gitops_mk.model.change import LABEL_KILL_SWITCH, PullRequest
from gitops_mk.model.gate import KillReading
from gitops_mk.model.settings import CONFIG_PATH, KILL_SWITCH_PATH, RepoSettings
from gitops_mk.ports import Clock, Cluster, Forge, KillSwitch

KILL_KEY = "kill"
VARIABLE = "MODEKEEPER_KILL_SWITCH"
_UNREADABLE = (MkError, OSError, ValueError)


def read_environment() -> KillReading:
    """The variable: unset or exactly `0` is clear, anything else is active."""
    value = os.environ.get(VARIABLE)
    if value is None or value == "0":
        return KillReading(source="environment", configured=True, active=False, detail="clear")
    detail = f"{VARIABLE}=1" if value == "1" else f"{VARIABLE} is set and not 0"
    return KillReading(source="environment", configured=True, active=True, detail=detail)


class RecentKillSwitch:
    """The same, read once for what happens within a few seconds: a round over many workloads asks the forge once, not once each.

    The gate's own reading, which names a pull request, is always a fresh one.
    """

    def __init__(self, inner: KillSwitch, clock: Clock, *, max_age_s: float = 5.0) -> None:
        self._inner = inner
        self._clock = clock
        self._max_age_s = max_age_s
        self._last: tuple[float, tuple[KillReading, ...]] | None = None

    def read(self, *, pr: PullRequest | None = None) -> tuple[KillReading, ...]:
        """Every source, as it was a moment ago at the most."""
        if pr is not None:
            return self._inner.read(pr=pr)
        now = self._clock.monotonic()
        if self._last is None or not 0 <= now - self._last[0] <= self._max_age_s:
            self._last = (now, self._inner.read())
        return self._last[1]


class GateKillSwitch:
    """All sources, read afresh at each call; one that can't be read counts as active."""

    def __init__(self, forge: Forge | None, cluster: Cluster | None = None) -> None:
        self._forge = forge
        self._cluster = cluster

    def read(self, *, pr: PullRequest | None = None) -> tuple[KillReading, ...]:
        """Every source, in a fixed order."""
        readings = [read_environment()]
        if self._forge is not None:
            readings.append(self._file(self._forge))
            readings.append(self._stopped(self._forge))
            readings.append(self._config_map(self._forge))
            readings.append(self._label(self._forge, pr))
        return tuple(readings)

    def _file(self, forge: Forge) -> KillReading:
        try:
            forge.refresh()
            present = any(e.path == KILL_SWITCH_PATH or e.path.startswith(f"{KILL_SWITCH_PATH}/")
                          for e in forge.repo.tree(forge.base_tip()))  # fmt: skip
        except _UNREADABLE as exc:
            return KillReading(source="base branch", configured=True, active=True, detail=f"can't be read: {exc}")
        detail = f"{KILL_SWITCH_PATH} on the base branch" if present else "clear"
        return KillReading(source="base branch", configured=True, active=present, detail=detail)

    def _stopped(self, forge: Forge) -> KillReading:
        """The switch that the forge keeps, which is thrown when something else than what was verified was merged."""
        try:
            return forge.stopped()
        except _UNREADABLE as exc:
            return KillReading(source="forge", configured=True, active=True, detail=f"can't be read: {exc}")

    def _config_map(self, forge: Forge) -> KillReading:
        """The ConfigMap that the base branch names, as it stands in the cluster: any value but `0` under `kill` is active."""
        source = "ConfigMap"
        try:
            text = forge.repo.read(forge.base_tip(), CONFIG_PATH)
            where = parse_yaml(RepoSettings, text, what=CONFIG_PATH).cluster.kill_switch if text is not None else None
            if where is None:
                return KillReading(source=source, configured=False, active=False, detail="none is configured")
            named = f"ConfigMap {where.namespace}/{where.name}"
            if self._cluster is None:
                raise InputError(f"{named}: there is no kubeconfig")
            found = self._cluster.get("ConfigMap", where.name, namespace=where.namespace)
            value = part(found, "data").get(KILL_KEY)
        except _UNREADABLE as exc:
            return KillReading(source=source, configured=True, active=True, detail=f"can't be read: {exc}")
        if value == "0":
            return KillReading(source=source, configured=True, active=False, detail="clear")
        said = f"{named}: {KILL_KEY} is not 0" if value is not None else f"{named} has no {KILL_KEY}"
        return KillReading(source=source, configured=True, active=True, detail=said)

    def _label(self, forge: Forge, pr: PullRequest | None) -> KillReading:
        if pr is None:
            return KillReading(source="label", configured=False, active=False, detail="no pull request")
        try:
            live = forge.get_pr(pr.number)
        except _UNREADABLE as exc:
            return KillReading(source="label", configured=True, active=True, detail=f"can't be read: {exc}")
        labels = live.labels if live is not None else pr.labels
        active = LABEL_KILL_SWITCH in labels
        detail = f"label {LABEL_KILL_SWITCH} on #{pr.number}" if active else "clear"
        return KillReading(source="label", configured=True, active=active, detail=detail)
