"""Which queries are asked, when several places say."""

from __future__ import annotations

import pytest

from gitops_mk.core.prometheus.presets import PRESETS, combined
from gitops_mk.core.prometheus.promql import filled, names_of
from gitops_mk.core.prometheus.roles import ROLES
from gitops_mk.errors import InputError
from gitops_mk.model.workload import WorkloadRef


def test_what_is_more_particular_goes_first() -> None:
    queries = combined(({"step_time_ms": "a"}, {"step_time_s": "b", "loss": "c"}), ("torchtitan", "dcgm"))
    assert queries["step_time_ms"] == "a"
    assert "step_time_s" not in queries
    assert queries["loss"] == "c"
    assert queries["gpu_mem_util_pct"] == PRESETS["torchtitan"]["gpu_mem_util_pct"]
    assert queries["gpu_sm_clock_mhz"] == PRESETS["dcgm"]["gpu_sm_clock_mhz"]
    own = combined(({"step": "s", "gpu_mem_used": "u", "gpu_mem_total": "t"},), ("ray",))
    assert {"gpu_mem_used", "gpu_mem_total", "gpu_util_pct", "step"} == set(own)


@pytest.mark.parametrize(
    ("own", "presets", "says"),
    [
        ({"speed": "a"}, (), "role 'speed', expected one of step, step_time_s"),
        ({"step": "a"}, ("nvidia",), "preset 'nvidia', expected one of dcgm, ray, torchtitan"),
        ({"step_time_s": "a", "step_time_ms": "b"}, (), "step_time_s and step_time_ms say the same"),
        ({"step": "a", "gpu_mem_used": "b"}, (), "gpu_mem_used give no percentage"),
        ({"step": "a", "gpu_mem_free": "b", "gpu_mem_util_pct": "b"}, (), "gpu_mem_free and gpu_mem_util_pct give no"),
        ({"loss": "a"}, (), r"nothing says how long a step takes \(loss\)"),
        ({}, (), r"nothing says how long a step takes \(no query\)"),
        ({}, ("dcgm",), "nothing says how long a step takes"),
    ],
)
def test_what_makes_no_sense(own: dict[str, str], presets: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        combined((own,), presets)


def test_every_query_of_a_preset_can_be_filled() -> None:
    names = names_of(WorkloadRef(namespace="ml", kind="Job", name="train"))
    for preset in PRESETS.values():
        for role, query in preset.items():
            assert role in ROLES
            assert "$" not in filled(query, names, what=role)
