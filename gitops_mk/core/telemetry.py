"""What a workload's configuration says of its telemetry, held against what there is."""

from __future__ import annotations

from gitops_mk.core.parse.fields import with_fields
from gitops_mk.core.prometheus.address import address
from gitops_mk.core.prometheus.presets import combined
from gitops_mk.core.prometheus.promql import filled, names_of
from gitops_mk.errors import ConfigError, InputError
from gitops_mk.model.settings import RepoSettings, WorkloadSettings


def check_telemetry(settings: RepoSettings, *, what: str) -> None:
    """Raises ConfigError for a field, a role, a query or an address of any workload that can't be used."""
    for workload in settings.workloads:
        try:
            _check(workload)
        except InputError as exc:
            raise ConfigError(f"{what}: telemetry of {workload.ref}: {exc.message}", hint=exc.hint) from exc


def _check(workload: WorkloadSettings) -> None:
    said = workload.telemetry
    with_fields(said.fields)
    asked = said.prometheus
    if asked is None:
        return
    if asked.url is not None:
        address(asked.url)
    # Options may bring what is missing, so that only what is given is looked at.
    if asked.queries or asked.presets:
        names = names_of(workload.ref)
        for role, query in combined((asked.queries,), asked.presets).items():
            filled(query, names, what=f"the query of {role}")
