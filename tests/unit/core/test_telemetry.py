"""What a configuration says of telemetry is held against what there is, before anything is read."""

from __future__ import annotations

import typing

import pytest

from gitops_mk.adapters.resources import built_in
from gitops_mk.core.parse.fields import PLANNED_EVENTS
from gitops_mk.core.policy import load_policy
from gitops_mk.core.prometheus.presets import PRESETS
from gitops_mk.errors import ConfigError
from gitops_mk.model.settings import CONFIG_PATH, PlannedEvent, PrometheusSettings, RepoSettings

CONFIG = """\
version: v1
workloads:
  - {{namespace: ml, name: trainer, overlay: o, telemetry: {telemetry}}}
"""


def load(telemetry: str) -> RepoSettings:
    text = CONFIG.format(telemetry=telemetry).encode()
    return load_policy({CONFIG_PATH: text}.get, built_in()).settings


def test_the_names_are_those_of_the_readers() -> None:
    what = typing.get_args(PlannedEvent.model_fields["what"].annotation)
    assert set(what) == PLANNED_EVENTS
    (kind, _) = typing.get_args(PrometheusSettings.model_fields["presets"].annotation)
    assert set(typing.get_args(kind)) == set(PRESETS)


@pytest.mark.parametrize(
    ("telemetry", "says"),
    [
        ("{fields: {speed: x}}", "field 'speed', expected one of ours"),
        ("{fields: {loss: x, step: x}}", "'x' can't stand for step"),
        ("{planned: [{step: 5, what: lunch}]}", "planned.0.what"),
        ("{planned: [{step: -1, what: eval}]}", "planned.0.step"),
        ("{prometheus: {url: 'https://me:pass@p'}}", "holds a user or a password"),
        ("{prometheus: {queries: {speed: x}}}", "role 'speed'"),
        ("{prometheus: {queries: {loss: x}}}", "nothing says how long a step takes"),
        ("{prometheus: {queries: {step: 'x{y=$name}'}}}", "the query of step: $name stands outside of quotes"),
        ("{prometheus: {presets: [nvidia]}}", "prometheus.presets.0"),
        ("{prometheus: {step: soon}}", "prometheus.step"),
        ("{prometheus: {token_file: /etc/passwd}}", "prometheus.token_file"),
        ("{prometheus: {ca_file: /etc/passwd}}", "prometheus.ca_file"),
    ],
)
def test_what_can_not_be_used_is_said_with_its_place(telemetry: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(telemetry)
    assert says in caught.value.message
    assert CONFIG_PATH in caught.value.message
    assert "pass@" not in caught.value.message


def test_what_can_be_used() -> None:
    said = load(
        "{source: prometheus, fields: {step_time_s: my/seconds}, planned: [{step: 500, what: schedule}], "
        "prometheus: {url: 'http://p:9090', presets: [torchtitan, dcgm], queries: {step: 'max(s{pod=~\"$pods\"})'}}}"
    )
    telemetry = said.workloads[0].telemetry
    assert telemetry.fields == {"step_time_s": "my/seconds"}
    assert telemetry.prometheus is not None
    assert telemetry.prometheus.duration == "1h"
    assert load("{prometheus: {url: 'http://p:9090'}}").workloads[0].telemetry.source == "file"
    assert load("{fields: {loss: nll}}").workloads[0].telemetry.prometheus is None
