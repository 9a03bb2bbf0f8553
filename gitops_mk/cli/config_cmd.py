"""`mk config`."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mk.cli import output
from gitops_mk.cli.files import read_file
from gitops_mk.cli.options import PATH, json_option


@click.group("config", epilog="Example: mk config validate --file .modekeeper/config.yaml")
def config() -> None:
    """The repository's configuration, .modekeeper/config.yaml."""


@config.command(epilog="Example: mk config schema > config.schema.json")
def schema() -> None:
    """Print the JSON Schema that editors complete and check the file with."""
    output.print_json(config_schema())


def config_schema() -> dict[str, object]:
    """The published JSON Schema (draft 2020-12) of the configuration."""
    from gitops_mk.model.settings import RepoSettings

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ModeKeeper GitOps configuration (.modekeeper/config.yaml)",
        **{k: v for k, v in RepoSettings.model_json_schema().items() if k != "title"},
    }


@config.command(epilog="Example: mk config validate --file .modekeeper/config.yaml")
@click.option("--file", "path", type=PATH, default=Path(".modekeeper/config.yaml"), show_default=True)
@json_option
def validate(path: Path, as_json: bool) -> None:
    """Check a configuration file; exit 0 when it is valid, 2 when not."""
    from gitops_mk.core.documents import parse_yaml
    from gitops_mk.core.telemetry import check_telemetry
    from gitops_mk.model.settings import RepoSettings

    loaded = parse_yaml(RepoSettings, read_file(path), what=str(path))
    check_telemetry(loaded, what=str(path))
    if as_json:
        output.print_json({"ok": True, "workloads": [w.ref.key for w in loaded.workloads], "sha256": loaded.sha256})
        return
    output.say(f"valid: {len(loaded.workloads)} workloads", ok=True)
    for workload in loaded.workloads:
        output.say(f"  {workload.ref} in {workload.overlay}, passport {loaded.passport_of(workload)}")
