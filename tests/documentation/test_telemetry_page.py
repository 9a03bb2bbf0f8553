"""The page on telemetry against the code: its examples of a configuration, and the names it must not leave out."""

from __future__ import annotations

import re
from pathlib import Path

from gitops_mk.core.documents import parse_yaml
from gitops_mk.core.prometheus.presets import PRESETS
from gitops_mk.core.prometheus.roles import ROLES
from gitops_mk.core.telemetry import check_telemetry
from gitops_mk.model.settings import RepoSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "telemetry.md"
HEAD = "version: v1\nworkloads:\n  - namespace: ml\n    name: trainer\n    overlay: o\n"


def test_its_configurations_are_valid() -> None:
    blocks = re.findall(r"^```yaml\n(telemetry:.+?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        text = HEAD + "".join(f"    {line}\n" for line in block.splitlines())
        check_telemetry(parse_yaml(RepoSettings, text.encode(), what=PAGE.name), what=PAGE.name)


def test_it_names_every_role_and_preset() -> None:
    told = set(re.findall(r"`([a-z_]+)`", PAGE.read_text().partition("## Prometheus")[2]))
    assert {*ROLES, *PRESETS} <= told
